"""Agents with their own terminal interface: told by their hooks when a turn is over."""

import os
import signal

import pytest
from agent_project import AgentProject
from test_real_recovery import (
    RESUMABLE,
    agent_process,
    asked,
    attempts,
    begin,
    end,
    tools,
    wait,
)


def interactive(project: AgentProject, agent: str) -> None:
    project.use(agent)
    project.settings(f'[agents.{agent}]\nmode = "interactive"\n')
    project.commit()


@pytest.mark.parametrize("agent", RESUMABLE)
def test_turn_that_ends_completes_the_issue(project: AgentProject, agent: str):
    interactive(project, agent)
    stubs = ("ok file=one.txt text=One.", "ok file=two.txt text=Two.")
    end(project, begin(project, *stubs, agent=agent))
    for number, word in ((1, "one"), (2, "two")):
        assert project.committed(number, f"{word}.txt") == f"{word.capitalize()}."
        (only,) = attempts(project, number)
        assert (only["outcome"], only["exitCode"]) == ("completed", 0)
    assert "Write the file" in project.log(1), "the pane's text is in the log"


@pytest.mark.parametrize("agent", RESUMABLE)
def test_interface_killed_in_a_tool_call_goes_on_in_its_session(project: AgentProject, agent: str):
    interactive(project, agent)
    orchestrator = begin(project, "slow file=one.txt text=One.", agent=agent)
    left = wait(project, lambda: tools(project, "one"), "its tool runs")
    first = len(project.stub.work("one"))
    os.kill(agent_process(project), signal.SIGKILL)
    wait(project, lambda: len(project.stub.work("one")) > first, "it asks the model again")
    assert not left & set(project.processes()), "the old tool outlived its attempt"
    assert "Write the file and commit it." in list(asked(project, "one"))[first]
    project.stub.release("one")
    end(project, orchestrator)
    outcomes = [(one["outcome"], one["retry"]) for one in attempts(project)]
    assert outcomes == [("died", 0), ("completed", 1)]
