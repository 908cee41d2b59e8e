"""A service that refuses or breaks off: verdict, reason, charge and dependents of a whole batch."""

import pytest
from agent_project import AgentProject, issue
from test_real_recovery import attempts, begin, end
from test_real_standing import settings

REASONS = {
    ("claude", 401): "Invalid API key",
    ("claude", 500): "API Error: 500",
    ("claude", 529): "Overloaded",
    ("codex", 401): "401",
    ("codex", 500): "high demand",
    ("codex", 529): "overloaded",
}


def chain(project: AgentProject, stub: str, agent: str) -> None:
    """Run an issue and one that depends on it; the first fails."""
    plan = project.plan([issue(1, stub), issue(2, "ok file=two.txt text=Two.", depends_on=[1])])
    project.run_to_end("run", "work", "--from", plan, "--agent", agent, check=1)


@pytest.mark.parametrize(("agent", "code"), REASONS)
def test_refused_for_ever_is_charged_once_and_its_dependents_skipped(
    project: AgentProject, agent: str, code: int
):
    project.use(agent)
    settings(project, '[batch]\non_failed_dependency = "skip"\n[retry]\non_failure = true\n')
    chain(project, f"error code={code} file=one.txt", agent)
    assert project.statuses() == {"1": "failed", "2": "skipped"}
    first, second = attempts(project)
    assert (first["retry"], second["retry"]) == (0, 1)
    for one in (first, second):
        assert (one["outcome"], one["exitCode"]) == ("failed", 1)
        assert REASONS[agent, code] in one["reason"]
    assert attempts(project, 2) == []
    assert project.subjects(1) == []


@pytest.mark.parametrize("agent", ["opencode", "qwen", "aider"])
def test_a_key_that_is_refused_fails_and_lets_others_run(project: AgentProject, agent: str):
    """Qwen and Aider end with 0 all the same."""
    project.use(agent)
    chain(project, "error code=401 file=one.txt", agent)
    assert project.statuses() == {"1": "failed", "2": "completed"}
    (only,) = attempts(project)
    assert only["exitCode"] == (1 if agent == "opencode" else 0)
    assert any(word in only["reason"].lower() for word in ("401", "api key"))
    assert project.committed(2, "two.txt") == "Two."


@pytest.mark.parametrize(
    ("agent", "stub"),
    [
        ("claude", "cut"),
        ("claude", "cut at=1"),
        ("claude", "cut times=1000"),  # it asks without a stream in the end
        ("codex", "cut"),
        ("codex", "cut at=1"),
        ("opencode", "cut"),
        ("aider", "cut"),
    ],
)
def test_an_answer_that_breaks_off_is_asked_for_again(project: AgentProject, agent: str, stub: str):
    project.use(agent)
    end(project, begin(project, f"{stub} file=one.txt text=One.", agent=agent))
    (only,) = attempts(project)
    assert (only["outcome"], only["retry"]) == ("completed", 0)
    assert project.committed(1, "one.txt") == "One."
    assert len(project.subjects(1)) == 1


@pytest.mark.parametrize(
    ("agent", "stub", "code", "words"),
    [
        ("codex", "cut times=1000", 1, "stream disconnected"),
        ("qwen", "cut", 0, "API Error"),  # it does not ask again
    ],
)
def test_an_answer_that_stays_broken_fails_with_that_reason(
    project: AgentProject, agent: str, stub: str, code: int, words: str
):
    project.use(agent)
    end(project, begin(project, f"{stub} file=one.txt", agent=agent), code=1)
    (only,) = attempts(project)
    assert (only["outcome"], only["exitCode"]) == ("failed", code)
    assert words in only["reason"]
    assert project.subjects(1) == []
