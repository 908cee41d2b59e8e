"""Numbers that come back, boots that are others, clocks that jump: none of them names anybody.

Proven elsewhere: a pid with another start time is never signalled, a session number neither
(tests/contract); a signal file is believed whatever its time (tests/contract/test_attempts.py);
evidence of another boot (tests/unit/core); a clock that stepped back is a note of `doctor`.
"""

import os
import signal
from pathlib import Path

import pytest
from hostile_stage import HostileCrew, end_machine, in_another_boot, run_inside

from gangline.hosts.local import _RUNNER_CODE


@pytest.mark.parametrize(
    "scenario",
    ["numbers_of_the_dead", "number_of_a_runner_that_is_being_ended", "few_numbers"],
)
def test_process_number_that_is_given_again_means_nobody(tmp_path: Path, scenario: str) -> None:
    run_inside(scenario, tmp_path)


# -- boots ---------------------------------------------------------------------------------------


def test_restart_of_the_machine_is_named_and_charged_once(crew: HostileCrew) -> None:
    crew.plan_issues(1, 2)
    orchestrator = crew.orchestrate()
    crew.wait_for_starts(2)
    crew.pane(2)
    end_machine(crew, orchestrator)
    for boot, executions in ((1, 4), (2, 4)):
        crew.before = in_another_boot(crew.room, boot)
        orchestrator = crew.resume()
        if boot == 1:
            crew.wait_for_starts(executions)
            crew.pane(1)
            crew.pane(2)
            crew.let(2)
            crew.wait_for(lambda: crew.recorded_statuses()["2"] == "completed", "#2 is completed")
            end_machine(crew, orchestrator)
    assert crew.wait_for_end(orchestrator) == 1, orchestrator.text()
    assert "the machine was restarted" in orchestrator.text()
    assert crew.recorded_statuses() == {"1": "failed", "2": "completed"}  # a second death
    crew.before = []
    assert crew.executions() == [(1, 0), (1, 1), (2, 0), (2, 1)]
    crew.judge()


def test_launch_that_a_restart_lost_is_given_up_at_once_and_not_charged(crew: HostileCrew) -> None:
    crew.plan_issues(1)
    sleeper = crew.orchestrate(stop=["gangline.hosts.local:LocalHost.launch", 1])
    crew.stopped(sleeper)
    end_machine(crew, sleeper)
    crew.before = in_another_boot(crew.room)
    orchestrator = crew.resume()
    crew.wait_for_starts(1)
    crew.let(1)
    assert crew.wait_for_end(orchestrator) == 0, orchestrator.text()
    assert "the machine was restarted before it ran" in orchestrator.text()
    assert [(line.attempt, line.retry) for line in crew.starts()] == [(1, 0)]
    crew.judge()


def test_boot_id_that_changed_under_living_agents_starts_nothing_beside_them(
    crew: HostileCrew,
) -> None:
    """No kernel does so; a container that was moved, or a faked /proc, may."""
    crew.plan_issues(1, 2)
    orchestrator = crew.orchestrate()
    crew.wait_for_starts(2)
    crew.pane(2)
    crew.kill_orchestrator(orchestrator)
    crew.before = in_another_boot(crew.room)
    resumed = crew.orchestrate(boot_rate=20)
    crew.run("cancel", "work", "2", check=0)
    crew.wait_for(lambda: crew.recorded_statuses()["2"] == "cancelled", "#2 is ended by its mark")
    crew.let(1)
    assert crew.wait_for_end(resumed) == 1, resumed.text()
    assert crew.executions() == [(1, 0), (2, 0)]
    crew.judge()


# -- clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [(3600, 0), (-3600, 3600)], ids=["forward-back", "back-forward"])
def test_wall_clock_that_steps_by_an_hour_decides_nothing(crew: HostileCrew, steps) -> None:
    offset = crew.room / "offset"
    offset.write_text("0")
    crew.plan([crew.issue(1), crew.issue(2, after=[1]), crew.issue(3, after=[2])])
    orchestrator = crew.orchestrate(wall=str(offset))
    for number, step in enumerate((*steps, 0), start=1):
        crew.wait_for_starts(number)
        crew.pane(number)
        offset.write_text(str(step))
        if number == 2:  # a new orchestrator finds the times as they are
            crew.kill_orchestrator(orchestrator)
            orchestrator = crew.orchestrate(wall=str(offset))
        crew.let(number)
    assert crew.wait_for_end(orchestrator) == 0, orchestrator.text()
    assert crew.executions() == [(1, 0), (2, 0), (3, 0)]
    crew.judge()
    for command in ("status", "history", "doctor"):
        assert "Traceback" not in crew.run(command, "work").stderr


def test_hand_s_edit_is_taken_while_the_clock_is_an_hour_back(crew: HostileCrew) -> None:
    offset = crew.room / "offset"
    offset.write_text("-3600")
    crew.plan([crew.issue(1), crew.issue(2, after=[1])])
    orchestrator = crew.orchestrate(wall=str(offset))
    crew.wait_for_starts(1)
    crew.pane(1)
    state = crew.area() / "batch.state.json"
    state.write_text(state.read_text().replace('"2":"blocked"', '"2":"completed"'))
    hour_ago = state.stat().st_mtime - 3600
    os.utime(state, (hour_ago, hour_ago))
    crew.let(1)
    assert crew.wait_for_end(orchestrator) == 0, orchestrator.text()
    assert crew.executions() == [(1, 0)]
    crew.judge()


def test_hour_of_suspension_in_a_launch_has_one_agent_of_two_attempts(crew: HostileCrew) -> None:
    """The boot clock jumps by it: the launch's time is over when the machine wakes up."""
    crew.plan_issues(1)
    gate = crew.room / "gate"
    slow = f"import os,time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
    orchestrator = crew.orchestrate(set={"gangline.hosts.local:_RUNNER_CODE": slow + _RUNNER_CODE})
    attempts = crew.area() / "attempts"
    crew.wait_for(lambda: list(attempts.glob("*-1-a0/spec.json")), "it is dispatched")
    crew.wait_for(lambda: crew.pane(1), "its pane is there, and its runner is slow")
    crew.kill_orchestrator(orchestrator)
    crew.run("pause", "work", check=0)
    # It is stopped before it closes the pane: else the runner might not live to come too late.
    retire = "gangline.hosts.local:LocalHost.retire"
    orchestrator = crew.orchestrate(boot_ahead=3600, stop=[retire, 1])
    crew.stopped(orchestrator)
    assert list(attempts.glob("*-1-a0/claim")), "the attempt is given up"
    gate.touch()
    crew.wait_for(lambda: list(attempts.glob("*-1-a0/lock")), "and its runner comes too late")
    orchestrator.send_signal(signal.SIGCONT)
    crew.run("resume", "work", check=0)
    crew.wait_for_starts(1)
    crew.let(1)
    assert crew.wait_for_end(orchestrator) == 0, orchestrator.text()
    assert [(line.attempt, line.retry) for line in crew.starts()] == [(1, 0)]
    crew.judge()
