"""What the agents' own interfaces ask a person, and how a batch goes on when that is answered."""

import json
import time

import homes
import pytest
from agent_project import AgentProject
from homes import CLAUDE_SUBSCRIPTION
from test_real_asking import is_asked
from test_real_interactive import interactive
from test_real_recovery import (
    HOURS,
    RESUMABLE,
    asked,
    attempts,
    begin,
    clock_of,
    end,
    kill,
    wait,
)

# Without a mode of its own Claude Code takes the one whose check needs Anthropic's own service.
_ASKS = ["claude", "--permission-mode", "default", "--session-id", "{session}", "{prompt}"]


def pane_of(project: AgentProject, number: int = 1) -> str:
    (found,) = [one for one in project.status()["issues"] if one["id"] == number]
    return found["attempts"][-1]["pane"]


def screen(project: AgentProject, number: int = 1) -> str:
    return project.tmux("capture-pane", "-p", "-t", pane_of(project, number)).stdout


def question(project: AgentProject) -> str:
    """What the issue waits for, as a view says it; "" while it waits for nothing."""
    (issue,) = project.status()["issues"]
    return issue["question"] or "" if issue["condition"] == "needs-input" else ""


def press(project: AgentProject, *keys: str) -> None:
    project.tmux("send-keys", "-t", pane_of(project), *keys)


def test_permission_is_asked_of_a_person_who_answers_in_the_pane(project: AgentProject):
    project.use("claude")
    table = f'mode = "interactive"\ninteractive = {json.dumps(_ASKS)}\n'
    project.settings(f"[agents.claude]\n{table}")
    project.commit()
    orchestrator = begin(project, "ok file=one.txt text=One.", agent="claude")
    for tool, offer in (("Write: ", "want to create one.txt?"), ("Bash: git add", "to proceed?")):
        words = f"asks for permission: {tool}"
        wait(project, lambda words=words: is_asked(project, words), f"it {words}")
        assert question(project).startswith(words)
        assert "gangline attach work 1" in project.run("status", "work", check=0).stdout
        wait(project, lambda offer=offer: offer in screen(project), "its dialog is on the screen")
        press(project, "Enter")  # what it offers first: Yes
    end(project, orchestrator)
    (only,) = attempts(project)
    assert (only["outcome"], only["exitCode"]) == ("completed", 0)
    assert project.committed(1, "one.txt") == "One."
    assert "needs-input: asks for permission: Write: " in orchestrator.text()


@pytest.mark.parametrize("agent", RESUMABLE)
def test_trust_is_asked_of_a_person_who_answers_in_the_pane(project: AgentProject, agent: str):
    """No hook of theirs runs before that: it is seen on the screen."""
    interactive(project, agent)
    homes.distrust(agent, project.home)
    orchestrator = begin(project, "ok file=one.txt text=One.", agent=agent)
    words = "asks whether you trust its folder"
    wait(project, lambda: is_asked(project, words), f"it {words}")
    assert question(project) == f"{words} (to answer: gangline attach work 1)"
    press(project, *({"claude": ["Down", "Enter"], "codex": ["Enter"]}[agent]))
    end(project, orchestrator)
    (only,) = attempts(project)
    assert (only["outcome"], only["exitCode"]) == ("completed", 0)
    assert project.committed(1, "one.txt") == "One."
    assert "#1 working" in orchestrator.text()


def test_permissions_of_codex_are_seen_on_its_screen(project: AgentProject):
    project.use("codex")
    argv = ["codex", "--no-daemon", "-s", "read-only", "-a", "on-request", "{prompt}"]
    project.settings(f'[agents.codex]\nmode = "interactive"\ninteractive = {json.dumps(argv)}\n')
    project.commit()
    orchestrator = begin(project, "ok file=one.txt text=One.", agent="codex")
    words = "asks for permission to edit files"
    wait(project, lambda: is_asked(project, words), f"it {words}")
    assert question(project) == f"{words} (to answer: gangline attach work 1)"
    press(project, "Enter")
    wait(project, lambda: "#1 working" in orchestrator.text(), "it goes on")
    end(project, orchestrator)
    (folder,) = (project.folder / ".workspace" / "worktrees" / "work").iterdir()
    assert (folder / "one.txt").read_text() == "One.\n", "what a person allowed was done"


def test_interface_without_a_key_fails_and_says_so(project: AgentProject):
    interactive(project, "claude")
    project.environment["ANTHROPIC_API_KEY"] = ""
    end(project, begin(project, "ok file=one.txt text=One.", agent="claude"), code=1)
    (only,) = attempts(project)
    assert (only["outcome"], only["exitCode"]) == ("failed", 1)
    assert only["reason"] == "Not logged in · Please run /login (exit code 1)"


def test_limit_of_an_interface_is_parked_and_goes_on_after_its_reset(project: AgentProject):
    interactive(project, "claude")
    project.environment |= CLAUDE_SUBSCRIPTION
    clock, offset = clock_of(project)
    reset = int(time.time()) + HOURS
    stub = f"limit reset={reset} file=one.txt text=One."
    orchestrator = begin(project, stub, agent="claude", env=clock)
    wait(project, lambda: is_asked(project, '"waits":true'), "it is parked")
    (issue,) = project.status()["issues"]
    assert issue["condition"] == "limited"
    assert "limit" in (issue["question"] or "")
    turns = len(project.stub.work("one"))
    kill(orchestrator)
    project.stub.release("one")
    offset.write_text(str(HOURS + 120))
    end(project, project.start("run", "work", env=clock))
    outcomes = [(one["outcome"], one["retry"]) for one in attempts(project)]
    assert outcomes == [("limited", 0), ("completed", 0)]
    assert "Write the file and commit it." in list(asked(project, "one"))[turns]
    assert project.committed(1, "one.txt") == "One."
