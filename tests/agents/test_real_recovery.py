"""Real agents through what goes wrong: kills, limits, denials. Each goes on where it was.

The witness is what the stub model received: a session that goes on sends its history.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_project import AGENT_SAFETY_SECONDS, ASKED, AgentProject, issue
from homes import CLAUDE_SUBSCRIPTION
from project import Started

RESUMABLE = ("claude", "codex")
HOURS = 7200
_PLANTED = Path(__file__).parent.parent / "hostile" / "planted"


def begin(project: AgentProject, *stubs: str, agent: str, env: Any = None) -> Started:
    plan = project.plan([issue(number, stub) for number, stub in enumerate(stubs, start=1)])
    return project.start("run", "work", "--from", plan, "--agent", agent, env=env)


def end(project: AgentProject, started: Started, code: int = 0) -> None:
    wait(project, lambda: started.poll() is not None, "gangline ends")
    assert started.returncode == code, started.text()


def wait(project: AgentProject, condition: Any, what: str) -> Any:
    return project.wait_for(condition, what, seconds=AGENT_SAFETY_SECONDS)


def kill(started: Started) -> None:
    os.kill(started.pid, signal.SIGKILL)
    started.wait()


def attempts(project: AgentProject, number: int = 1) -> list[dict[str, Any]]:
    (found,) = [one for one in project.status()["issues"] if one["id"] == number]
    return found["attempts"]


def tools(project: AgentProject, key: str) -> set[int]:
    """The processes of a tool call that waits to be let go."""
    gate = f"gates/{key}"
    return {pid for pid, words in project.processes().items() if gate in words}


def agent_process(project: AgentProject, number: int = 1, attempt: int = 0) -> int:
    (folder,) = project.area().glob(f"attempts/*-{number}-a{attempt}")
    return json.loads((folder / "starting").read_text())["pid"]


def clock_of(project: AgentProject) -> tuple[dict[str, str], Path]:
    """Variables that set gangline's clock forward by the seconds in a file; the file."""
    offset = project.room / "offset"
    offset.write_text("0")
    faults = json.dumps({"wall": str(offset)})
    return {"PYTHONPATH": str(_PLANTED), "GANGLINE_HOSTILE": faults}, offset


def asked(project: AgentProject, key: str) -> Iterator[str]:
    """What each request of this conversation held, as text."""
    for item in project.stub.work(key):
        yield json.dumps(item.body)


@pytest.mark.parametrize("agent", RESUMABLE)
def test_agent_works_on_through_a_kill_of_the_orchestrator(project: AgentProject, agent: str):
    project.use(agent)
    orchestrator = begin(project, "slow file=one.txt text=One.", agent=agent)
    wait(project, lambda: tools(project, "one"), "its tool runs")
    kill(orchestrator)
    before = tools(project, "one")
    resumed = project.start("run", "work")
    wait(project, lambda: "Resuming" in resumed.text(), "another orchestrator has it")
    assert before <= tools(project, "one"), "it works on; its shell may have come to start more"
    project.stub.release("one")
    end(project, resumed)
    assert [one["outcome"] for one in attempts(project)] == ["completed"]
    assert len(project.subjects(1)) == 1


@pytest.mark.parametrize("agent", RESUMABLE)
def test_agent_killed_in_a_tool_call_goes_on_in_its_session(project: AgentProject, agent: str):
    project.use(agent)
    orchestrator = begin(project, "slow file=one.txt text=One.", agent=agent)
    left = wait(project, lambda: tools(project, "one"), "its tool runs")
    first = len(project.stub.work("one"))
    os.kill(agent_process(project), signal.SIGKILL)
    wait(project, lambda: len(project.stub.work("one")) > first, "it asks the model again")
    assert not left & set(project.processes()), "the old tool outlived its attempt"
    history = list(asked(project, "one"))[first]
    assert "Write the file and commit it." in history, "the session's history was sent"
    assert "You were cut off" in history
    project.stub.release("one")
    end(project, orchestrator)
    outcomes = [(one["outcome"], one["retry"]) for one in attempts(project)]
    assert outcomes == [("died", 0), ("completed", 1)]
    assert len(project.subjects(1)) == 1


@pytest.mark.parametrize("agent", RESUMABLE)
def test_limit_is_parked_through_a_crash_and_goes_on_after_its_reset(
    project: AgentProject, agent: str
):
    project.use(agent)
    if agent == "claude":
        project.environment |= CLAUDE_SUBSCRIPTION
    clock, offset = clock_of(project)
    reset = int(time.time()) + HOURS
    stub = f"limit reset={reset} file=one.txt text=One."
    orchestrator = begin(project, stub, agent=agent, env=clock)

    journal = project.area() / "batch.journal.jsonl"

    def is_parked() -> bool:
        return journal.exists() and '"condition":"limited"' in journal.read_text()

    wait(project, is_parked, "it is parked")
    kill(orchestrator)
    assert project.status()["issues"][0]["condition"] == "limited"
    project.stub.release("one")
    offset.write_text(str(HOURS + 120))
    end(project, project.start("run", "work", env=clock))
    outcomes = [(one["outcome"], one["retry"]) for one in attempts(project)]
    assert outcomes == [("limited", 0), ("completed", 0)]
    assert project.committed(1, "one.txt") == "One."


def test_denied_permission_is_a_failure_though_the_exit_code_is_0(project: AgentProject):
    project.use("claude")
    start = ["claude", "-p", "--session-id", "{session}", "--output-format", "stream-json"]
    project.settings(f"[agents.claude]\nstart = {json.dumps([*start, '--verbose'])}\n")
    project.commit()
    end(project, begin(project, "ok file=one.txt text=One.", agent="claude"), code=1)
    (only,) = attempts(project)
    assert (only["outcome"], only["exitCode"]) == ("failed", 0)
    assert "permission was denied" in only["reason"]


@pytest.mark.parametrize("agent", RESUMABLE)
def test_what_a_service_refuses_is_told_and_used_up_is_added_up(project: AgentProject, agent: str):
    project.use(agent)
    stubs = ("error code=401 file=one.txt", "ok file=two.txt text=Two.")
    end(project, begin(project, *stubs, agent=agent), code=1)
    (refused,) = attempts(project, 1)
    assert refused["outcome"] == "failed"
    assert any(word in refused["reason"].lower() for word in ("401", "api key"))
    events = (project.area() / "batch.journal.jsonl").read_text().splitlines()
    used = [json.loads(line).get("usage", {}) for line in events if '"issue":"2"' in line]
    assert used[-1]["inputTokens"] > 0
    assert used[-1]["outputTokens"] > 0


def test_secrets_are_in_no_log_no_state_and_no_process_list(project: AgentProject):
    project.use("claude")
    secret = project.environment["ANTHROPIC_API_KEY"]
    orchestrator = begin(project, "slow file=one.txt text=One.", agent="claude")
    wait(project, lambda: tools(project, "one"), "its tool runs")
    assert secret not in "\n".join(project.processes().values())
    project.stub.release("one")
    end(project, orchestrator)
    for path in (project.folder / ".workspace").rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path.name
    assert secret not in orchestrator.text()


def test_six_issues_by_three_agents_through_a_kill_of_the_orchestrator(project: AgentProject):
    others = [name for name in ("qwen", "opencode") if name in ASKED]
    names = [*RESUMABLE, *others[:1]]
    project.use(*names)
    issues = []
    for number in range(1, 7):
        kind = (number - 1) % 3
        scenario = "slow" if number <= 3 else "ok"
        more: dict[str, Any] = {"depends_on": [number - 3]} if number > 3 else {}
        if kind < len(names):
            more["agent"] = names[kind]
        else:  # asked for two agents only: the third is a plain command
            more["run"] = ["sh", "-c", f"echo T. >f{number}.txt; git add -A; git commit -qm third"]
        issues.append(issue(number, f"{scenario} file=f{number}.txt text=T.", **more))
    plan = project.plan(issues)
    orchestrator = project.start("run", "work", "--from", plan)
    for key in ("f1", "f2", *(["f3"] if others else [])):
        wait(project, lambda key=key: tools(project, key), f"the tool of {key} runs")
    kill(orchestrator)
    for key in ("f1", "f2", "f3"):
        project.stub.release(key)
    end(project, project.start("run", "work"))
    assert set(project.statuses().values()) == {"completed"}
    assert [len(one["attempts"]) for one in project.status()["issues"]] == [1] * 6
    for number in range(1, 7):
        assert project.committed(number, f"f{number}.txt") == "T."
