"""Agents whose service refuses them for ever: no stall while they say so, and an end all the same.

How long they try is theirs; how long Gangline lets them is `attempt_minutes`, `[budget] minutes`
or, where they try in silence, `[stall] action`.
"""

import re

import pytest
from agent_project import AgentProject
from test_real_dialogs import screen
from test_real_recovery import RESUMABLE, attempts, begin, end, kill, wait
from test_real_standing import settings

STALLED = '"condition":"stalled"'
LIMITS = {
    "time": ("[batch]\nattempt_minutes = 0.001\n", "ran longer than 0.001 minutes"),
    "budget": ("[budget]\nminutes = 0.001\n", "its budget is used up"),
    "stall": (
        '[batch]\nstall_minutes = 0.02\npoll_seconds = 1\n[stall]\naction = "fail"\n',
        "stalled: nothing of it moved for 0.02 minutes",
    ),
}


def for_ever(project: AgentProject, agent: str) -> None:
    """Set the agent up to try again as often as it can be told to."""
    project.use(agent)
    if agent == "claude":
        project.environment["CLAUDE_CODE_MAX_RETRIES"] = "100"
    if agent == "codex":
        path = project.home / ".codex" / "config.toml"
        path.write_text(re.sub(r"(stream_max_retries) = \d+", r"\1 = 100", path.read_text()))


def tries(project: AgentProject, count: int) -> None:
    """Wait until the agent has asked its service so often; it pauses longer from time to time."""
    wait(project, lambda: len(project.stub.work("one")) >= count, f"it has tried {count} times")


def told(project: AgentProject) -> str:
    (path,) = project.area().glob("attempts/*-1-a0/progress.json")
    return path.read_text()


@pytest.mark.parametrize(("agent", "enough"), [("claude", 5), ("codex", 14)])
@pytest.mark.parametrize(("code", "words"), [("529", "overloaded"), ("0", "")])
def test_retries_are_no_stall_and_end_well(
    project: AgentProject, agent: str, enough: int, code: str, words: str
):
    for_ever(project, agent)
    settings(project, "[batch]\nstall_minutes = 0.02\npoll_seconds = 1\n")
    orchestrator = begin(project, f"error code={code} file=one.txt text=One.", agent=agent)
    tries(project, 3)
    wait(project, lambda: '"retrying"' in told(project), "it says that it tries again")
    journal = project.area() / "batch.journal.jsonl"
    before = len(journal.read_text())
    tries(project, enough)  # by then it has been silent for longer than a stall takes
    assert STALLED not in journal.read_text()[before:]
    assert words in told(project)
    assert "↻ " in screen(project), "the pane says it too"
    project.stub.release("one")
    end(project, orchestrator)
    assert [(one["outcome"], one["retry"]) for one in attempts(project)] == [("completed", 0)]
    assert project.committed(1, "one.txt") == "One."


@pytest.mark.parametrize(
    ("agent", "ended"),
    [
        ("claude", "time"),
        ("claude", "budget"),
        ("codex", "time"),
        ("codex", "budget"),
        ("opencode", "time"),
        ("opencode", "budget"),
        ("qwen", "stall"),
    ],
)
def test_endless_retries_are_ended_as_the_settings_say(
    project: AgentProject, agent: str, ended: str
):
    """They try in vain, unlimited, before another run limits them: no clock decides."""
    for_ever(project, agent)
    table, reason = LIMITS[ended]
    code = 529 if agent in RESUMABLE else 429  # where each tries again
    orchestrator = begin(project, f"error code={code} file=one.txt text=One.", agent=agent)
    tries(project, 3)
    kill(orchestrator)
    settings(project, f"[retry]\non_failure = false\n{table}")
    again = project.start("run", "work")
    end(project, again, code=1)
    (only,) = attempts(project)
    assert (only["outcome"], only["reason"]) == ("failed", reason)
    assert f"#1 failed: {reason}" in again.text()
