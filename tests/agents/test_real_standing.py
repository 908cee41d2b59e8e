"""Conditions and budgets of real agents: a stall, a limited account, what is used up."""

import time

import pytest
from agent_project import AgentProject
from homes import CLAUDE_SUBSCRIPTION
from test_real_asking import is_asked
from test_real_recovery import HOURS, RESUMABLE, attempts, begin, clock_of, end, kill, wait


def settings(project: AgentProject, text: str) -> None:
    project.settings(text)
    project.commit()


@pytest.mark.parametrize("agent", RESUMABLE)
def test_stream_that_stands_still_is_a_stall_and_is_left_alone(project: AgentProject, agent: str):
    project.use(agent)
    settings(project, "[batch]\nstall_minutes = 0.05\npoll_seconds = 1\n")
    orchestrator = begin(project, "held file=one.txt text=One.", agent=agent)
    offer = "gangline retry work 1"
    wait(project, lambda: offer in orchestrator.text(), "it is stalled, and a person is told")
    assert is_asked(project, '"condition":"stalled"')
    project.stub.release("one")
    end(project, orchestrator)
    assert [one["outcome"] for one in attempts(project)] == ["completed"]


def test_agent_over_its_budget_is_ended_and_failed(project: AgentProject):
    """Claude Code says what it uses while it works; its tool waits for ever."""
    project.use("claude")
    settings(project, "[budget]\ntokens = 100\n[retry]\non_failure = true\n")
    orchestrator = begin(project, "slow file=one.txt text=One.", agent="claude")
    end(project, orchestrator, code=1)
    (only,) = attempts(project)
    assert (only["outcome"], only["reason"]) == ("failed", "its budget is used up")
    assert project.subjects(1) == []


def test_nothing_of_a_limited_account_is_dispatched_before_the_reset(project: AgentProject):
    project.use("claude")
    project.environment |= CLAUDE_SUBSCRIPTION
    settings(project, "[batch]\nmax_concurrent = 1\npoll_seconds = 1\n")
    clock, offset = clock_of(project)
    reset = int(time.time()) + HOURS
    stubs = (f"limit reset={reset} file=one.txt text=One.", "ok file=two.txt text=Two.")
    orchestrator = begin(project, *stubs, agent="claude", env=clock)
    wait(project, lambda: is_asked(project, '"waits":true'), "the first is parked")
    kill(orchestrator)
    again = project.start("run", "work", env=clock)
    wait(project, lambda: "Resuming" in again.text(), "another orchestrator has looked")
    assert attempts(project, 2) == []
    project.stub.release("one")
    offset.write_text(str(HOURS + 120))
    end(project, again)
    assert [one["outcome"] for one in attempts(project, 1)] == ["limited", "completed"]
    assert [one["outcome"] for one in attempts(project, 2)] == ["completed"]
