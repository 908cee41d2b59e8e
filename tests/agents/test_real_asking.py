"""What real agents say of themselves: questions, which are answered, that it is done, or failed."""

import pytest
from agent_project import AgentProject
from test_real_interactive import interactive
from test_real_recovery import RESUMABLE, asked, attempts, begin, end, wait


def is_asked(project: AgentProject, words: str) -> bool:
    journal = project.area() / "batch.journal.jsonl"
    return journal.exists() and words in journal.read_text()


@pytest.mark.parametrize("agent", RESUMABLE)
def test_answer_is_the_next_turn_of_the_session(project: AgentProject, agent: str):
    project.use(agent)
    orchestrator = begin(project, "ask file=one.txt text=One.", agent=agent)
    wait(project, lambda: is_asked(project, '"waits":true'), "it has asked, and ended its turn")
    turns = len(project.stub.work("one"))
    project.run("send", "work", "1", "Use capital letters.", check=0)
    end(project, orchestrator)
    first, second = attempts(project)
    assert (first["retry"], second["retry"], second["outcome"]) == (0, 0, "completed")
    history = list(asked(project, "one"))[turns]
    assert "Write the file and commit it." in history
    assert "Use capital letters." in history
    assert project.committed(1, "one.txt") == "One."


@pytest.mark.parametrize("agent", RESUMABLE)
def test_answer_is_typed_into_an_interface(project: AgentProject, agent: str):
    interactive(project, agent)
    orchestrator = begin(project, "ask file=one.txt text=One.", agent=agent)
    wait(project, lambda: is_asked(project, '"asked":true'), "it has asked")
    project.run("send", "work", "1", "Use capital letters.", check=0)
    end(project, orchestrator)
    (only,) = attempts(project)
    assert only["outcome"] == "completed"
    assert any("Use capital letters." in request for request in asked(project, "one"))


@pytest.mark.parametrize("agent", RESUMABLE)
@pytest.mark.parametrize("mode", ["headless", "interactive"])
def test_what_an_agent_says_of_its_end_decides(project: AgentProject, agent: str, mode: str):
    project.use(agent)
    project.settings(f'[agents.{agent}]\nmode = "{mode}"\n')
    project.commit()
    stubs = ("done file=one.txt text=One.", "fail file=two.txt")
    end(project, begin(project, *stubs, agent=agent), code=1)
    assert project.statuses() == {"1": "completed", "2": "failed"}
    assert project.committed(1, "one.txt") == "One."
    (failed,) = attempts(project, 2)
    assert "The plan is wrong." in failed["reason"]
    assert [one["retry"] for one in attempts(project, 1)] == [0]
