"""A batch of issues by each real agent: a real commit in a real worktree."""

import pytest
from agent_project import AgentProject, issue
from install import AGENTS

from gangline.agents.registry import presets

KNOWN = [agent for agent in AGENTS if agent in presets()]


@pytest.mark.parametrize("agent", KNOWN)
def test_two_dependent_issues_are_committed_by_the_agent_itself(project: AgentProject, agent: str):
    project.use(agent)
    plan = project.plan(
        [
            issue(1, "ok file=one.txt text=First."),
            issue(2, "ok file=two.txt text=Second.", depends_on=[1]),
        ]
    )

    project.run_to_end("run", "work", "--from", plan, "--agent", agent)

    assert project.statuses() == {"1": "completed", "2": "completed"}
    assert project.committed(1, "one.txt") == "First."
    assert project.committed(2, "two.txt") == "Second."
    assert len(project.subjects(1)) == 1
    assert len(project.subjects(2)) == 1
    order = [item.key for item in project.stub.received if item.is_work]
    assert set(order) == {"one", "two"}
    assert order == sorted(order), "the second began before the first had ended"
