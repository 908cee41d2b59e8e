"""With eight agents running, each way in which one can be killed gives what DESIGN.md 4 says."""

import os
import signal

import pytest
from crew import Crew
from project import Started

WIDTH = 8


@pytest.fixture
def running(crew: Crew) -> Started:
    """Eight agents at work."""
    orchestrator = crew.begin([crew.issue(n) for n in range(1, WIDTH + 1)], width=WIDTH)
    crew.wait_for_starts(WIDTH)
    for number in range(1, WIDTH + 1):
        crew.pane(number)
    return orchestrator


def finish(crew: Crew, orchestrator: Started, expected: int = 0) -> None:
    crew.let(*range(1, WIDTH + 1))
    assert crew.wait_for_end(orchestrator) == expected, orchestrator.text()


def wait_for_attempts(crew: Crew, number: int, count: int) -> None:
    crew.wait_for(lambda: len(crew.starts(number)) >= count, f"#{number} runs again")


def retry_counts(crew: Crew) -> dict[int, int]:
    return {issue["id"]: issue["retryCount"] for issue in crew.status()["issues"]}


def outcomes(crew: Crew, number: int) -> list[str]:
    return [attempt["outcome"] for attempt in crew.issue_view(number)["attempts"]]


def kill_runner(crew: Crew, number: int) -> None:
    os.kill(crew.runner_pid(number), signal.SIGKILL)


def kill_agent(crew: Crew, number: int) -> None:
    os.kill(crew.agent_pid(number), signal.SIGKILL)


def kill_pane(crew: Crew, number: int) -> None:
    assert crew.tmux("kill-pane", "-t", crew.pane(number)).returncode == 0


WAYS = pytest.mark.parametrize(
    "kill", [kill_runner, kill_agent, kill_pane], ids=["runner", "agent", "pane"]
)


@WAYS
def test_a_death_is_charged_once_and_dispatched_again_without_survivors(
    crew: Crew, running: Started, kill
) -> None:
    kill(crew, 3)
    wait_for_attempts(crew, 3, 2)
    second = crew.starts(3)[1]
    assert second.before == 0, "processes of the dead attempt still lived"
    assert second.retry == 1
    finish(crew, running)
    assert retry_counts(crew) == {n: int(n == 3) for n in range(1, WIDTH + 1)}
    assert outcomes(crew, 3) == ["died", "completed"]
    assert len(crew.starts()) == WIDTH + 1


@WAYS
def test_a_second_death_is_failed_and_reported(crew: Crew, running: Started, kill) -> None:
    for count in (1, 2):
        wait_for_attempts(crew, 3, count)
        crew.pane(3)
        kill(crew, 3)
    crew.wait_for(lambda: crew.statuses()["3"] == "failed", "the second death is failed")
    finish(crew, running, expected=1)
    assert outcomes(crew, 3) == ["died", "died"]
    assert len(crew.starts(3)) == 2
    assert "not retried by itself any more" in running.text()
    assert "gangline retry work 3" in running.text()


def test_the_tmux_server_killed_is_named_and_everything_is_dispatched_once_more(
    crew: Crew, running: Started
) -> None:
    assert crew.tmux("kill-server").returncode == 0
    for number in range(1, WIDTH + 1):
        wait_for_attempts(crew, number, 2)
    assert {line.before for line in crew.starts()} == {0}
    finish(crew, running)
    assert retry_counts(crew) == dict.fromkeys(range(1, WIDTH + 1), 1)
    assert len(crew.starts()) == 2 * WIDTH
    assert all(outcomes(crew, n) == ["died", "completed"] for n in range(1, WIDTH + 1))


def test_runner_and_orchestrator_killed_together_leave_no_survivor_beside_the_next(
    crew: Crew, running: Started
) -> None:
    crew.kill_orchestrator(running)
    victims = [1, 5]
    for number in victims:
        kill_runner(crew, number)
    resumed = crew.resume()
    for number in victims:
        wait_for_attempts(crew, number, 2)
        assert crew.starts(number)[1].before == 0
    finish(crew, resumed)
    assert retry_counts(crew) == {n: int(n in victims) for n in range(1, WIDTH + 1)}


def test_all_runners_killed_at_once_are_looked_at_again_before_they_are_believed_dead(
    crew: Crew, running: Started
) -> None:
    runners = [crew.runner_pid(number) for number in range(1, WIDTH + 1)]
    for pid in runners:
        os.kill(pid, signal.SIGSTOP)  # so that they die in one look
    for pid in runners:
        os.kill(pid, signal.SIGKILL)
    for number in range(1, WIDTH + 1):
        wait_for_attempts(crew, number, 2)
    assert {line.before for line in crew.starts()} == {0}
    finish(crew, running)
    assert retry_counts(crew) == dict.fromkeys(range(1, WIDTH + 1), 1)


def test_an_agent_that_fails_is_failed_without_a_retry(crew: Crew, running: Started) -> None:
    crew.let(4, code=7)
    crew.wait_for(lambda: crew.statuses()["4"] == "failed", "#4 is failed")
    finish(crew, running, expected=1)
    assert outcomes(crew, 4) == ["failed"]
    assert crew.attempt_of(4)["exitCode"] == 7
    assert len(crew.starts(4)) == 1
