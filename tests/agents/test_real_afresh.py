"""An agent without sessions that was killed at work: it starts afresh, warned, and that is told."""

import os
import signal

from agent_project import AgentProject
from test_real_recovery import agent_process, asked, attempts, begin, end, wait


def test_aider_killed_at_work_starts_afresh_with_a_warning(project: AgentProject):
    project.use("aider")
    orchestrator = begin(project, "held file=one.txt text=One.", agent="aider")
    wait(project, lambda: project.stub.work("one"), "it has asked the model")
    os.kill(agent_process(project), signal.SIGKILL)
    wait(project, lambda: len(project.stub.work("one")) > 1, "it asks the model again")
    first, second = list(asked(project, "one"))[:2]
    for request in (first, second):
        assert "Write the file and commit it." in request
    assert "An earlier attempt at this issue has ended" not in first
    assert "An earlier attempt at this issue has ended" in second
    project.stub.release("one")
    end(project, orchestrator)
    outcomes = [(one["outcome"], one["retry"]) for one in attempts(project)]
    assert outcomes == [("died", 0), ("completed", 1)]
    assert "afresh" in orchestrator.text()
    assert project.committed(1, "one.txt") == "One."
