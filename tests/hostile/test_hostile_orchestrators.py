"""Orchestrators that meet: at one instant, or after one of them slept through what another did.

Proven elsewhere: a second orchestrator is refused and names the first (tests/crash,
tests/acceptance); a child inherits no lock (tests/unit/store); runner against runner and against
the fence (tests/contract/test_runner.py).
"""

import os
import signal
from contextlib import suppress

import pytest
from hostile_stage import HostileCrew
from races import race_once

from gangline.app.wiring import Project as Area
from gangline.core.events import Held
from gangline.errors import MachineError, StateError
from gangline.store import locks

ROUNDS = 20  # bench/gauntlet/hostile.py runs 200
COMMIT = "gangline.store.batches:Store._commit"
PREPARE = "gangline.hosts.local:LocalHost.prepare"
LAUNCH = "gangline.hosts.local:LocalHost.launch"
PROBE = "gangline.hosts.local:LocalHost.probe"
# Where a sleeper falls asleep: the call just before which it stops, and which of these calls.
INSTANTS = {
    "before the batch is begun": (COMMIT, 1),
    "before its first word": (COMMIT, 2),
    "before the intent is committed": (COMMIT, 3),
    "after the intent": (PREPARE, 1),
    "before the launch": (LAUNCH, 1),
    "before it looks": (PROBE, 2),
}
# The one that takes over need not wait ten seconds for a launch that is lost: its clock is ahead.
HASTY = {"boot_ahead": 3600, "set": {"gangline.store.locks:_JOURNAL_PATIENCE_SECONDS": 1.0}}


def test_orchestrators_at_the_same_instant_start_everything_once(crew: HostileCrew) -> None:
    for number in range(ROUNDS):
        race_once(crew, number)


@pytest.mark.parametrize("instant", INSTANTS)
def test_one_that_was_stopped_is_not_replaced_and_goes_on_where_it_was(
    crew: HostileCrew, instant: str
) -> None:
    crew.plan_issues(1, 2)
    sleeper = crew.orchestrate(stop=INSTANTS[instant])
    crew.stopped(sleeper)
    said = crew.run("run", "work", "--from", "plan.json", check=3).stderr
    assert f"process {sleeper.pid}" in said
    sleeper.send_signal(signal.SIGCONT)
    crew.wait_for_starts(2)
    crew.let(1, 2)
    assert crew.wait_for_end(sleeper) == 0, sleeper.text()
    assert crew.executions() == [(1, 0), (2, 0)]
    crew.judge()


def test_what_ended_while_it_was_stopped_is_recorded_when_it_goes_on(crew: HostileCrew) -> None:
    crew.plan_issues(1, 2)
    sleeper = crew.orchestrate()
    crew.wait_for_starts(2)
    crew.pane(2)
    sleeper.send_signal(signal.SIGSTOP)
    crew.stopped(sleeper)
    crew.let(1)
    os.kill(crew.runner_pid(2), signal.SIGKILL)
    crew.wait_for_ends(1)
    sleeper.send_signal(signal.SIGCONT)
    crew.wait_for(lambda: len(crew.starts(2)) == 2, "#2 runs again")
    crew.let(2)
    assert crew.wait_for_end(sleeper) == 0, sleeper.text()
    assert crew.executions() == [(1, 0), (2, 0), (2, 1)]
    crew.judge()


@pytest.mark.parametrize("instant", INSTANTS)
def test_sleeper_whose_locks_were_removed_does_nothing_by_what_it_remembers(
    crew: HostileCrew, instant: str
) -> None:
    crew.plan_issues(1)
    sleeper = crew.orchestrate(stop=INSTANTS[instant])
    crew.stopped(sleeper)
    crew.lock_file().unlink()
    crew.lock_file("journal").unlink()
    other = crew.orchestrate(**HASTY)
    crew.wait_for_starts(1)
    before = crew.executions()
    sleeper.send_signal(signal.SIGCONT)
    crew.wait_for(lambda: sleeper.poll() is not None, "the sleeper has stepped down")
    assert sleeper.returncode in (3, 4), sleeper.text()
    assert "Traceback" not in sleeper.text()
    crew.let(1)
    assert crew.wait_for_end(other) == 0, other.text()
    assert crew.executions() == before
    crew.judge()


@pytest.mark.parametrize("instant", ["after the intent", "before the launch"])
def test_sleeper_starts_nothing_of_a_batch_that_was_finished_and_archived_meanwhile(
    crew: HostileCrew, instant: str
) -> None:
    crew.plan_issues(1)
    sleeper = crew.orchestrate(stop=INSTANTS[instant])
    crew.stopped(sleeper)
    crew.lock_file().unlink()
    other = crew.orchestrate(**HASTY)
    crew.wait_for_starts(1)
    crew.let(1)
    assert crew.wait_for_end(other) == 0, other.text()
    crew.judge()
    crew.run("run", "work", check=0)  # archives
    (crew.room / "let-1").unlink()
    third = crew.orchestrate()
    crew.wait_for_starts(2)
    crew.pane(1)
    sleeper.send_signal(signal.SIGCONT)
    crew.wait_for(lambda: sleeper.poll() is not None, "the sleeper has stepped down")
    assert sleeper.returncode == 4, sleeper.text()
    crew.let(1)
    assert crew.wait_for_end(third) == 0, third.text()
    assert len(crew.starts()) == 2  # one in each batch
    assert not [line for line in crew.processes().values() if "agent.sh" in line]


# -- a writer that sleeps in the middle of its transaction ----------------------------------------


@pytest.fixture
def held_journal(crew: HostileCrew, monkeypatch: pytest.MonkeyPatch):
    """A living orchestrator, and a store to write its journal by; patience is short."""
    crew.plan_issues(1)
    orchestrator = crew.orchestrate(set={"gangline.store.locks:_JOURNAL_PATIENCE_SECONDS": 0.3})
    crew.wait_for_starts(1)
    crew.pane(1)
    store = Area(str(crew.folder)).store("work")
    store.load()
    monkeypatch.setattr(locks, "_JOURNAL_PATIENCE_SECONDS", 0.3)
    return crew, orchestrator, store


def test_command_that_sleeps_with_the_journal_is_named_and_loses_nobody_s_work(
    held_journal,
) -> None:
    crew, orchestrator, store = held_journal
    with store.transaction("2026-01-01T00:00:00.000Z") as moment:
        crew.let(1)
        assert crew.wait_for_end(orchestrator) == MachineError.exit_code, orchestrator.text()
        assert "the journal is locked by a process that does not let go" in orchestrator.text()
        assert f"fuser {crew.lock_file('journal')}" in orchestrator.text()
        moment.record(Held(issue="1"))
    crew.wait_for_ends(1)
    assert crew.wait_for_end(crew.resume()) == 0
    assert crew.executions() == [(1, 0)]
    crew.judge()


def test_writer_whose_journal_lock_was_removed_does_not_write_over_another_s_events(
    held_journal,
) -> None:
    crew, orchestrator, store = held_journal

    def write_while_another_writes() -> None:
        with store.transaction("2026-01-01T00:00:00.000Z") as moment:
            moment.record(Held(issue="1"))
            crew.lock_file("journal").unlink()
            crew.run("pause", "work", check=0)  # takes a lock of its own, and is committed

    with pytest.raises(StateError, match="by another process at the same time"):
        write_while_another_writes()
    crew.let(1)
    assert crew.wait_for_end(orchestrator) == 0, orchestrator.text()
    crew.judge()


# -- locks that somebody else has got --------------------------------------------------------------


def holders(crew: HostileCrew) -> dict[str, set[int]]:
    """By lock file below the workspace: the processes that have it open."""
    found: dict[str, set[int]] = {}
    for pid in crew.processes():
        with suppress(OSError):  # it has ended
            for entry in os.scandir(f"/proc/{pid}/fd"):
                path = os.readlink(entry.path)
                if "/.locks/" in path or path.endswith("/lock"):
                    found.setdefault(path, set()).add(pid)
    return found


def test_nobody_but_their_holders_has_the_locks_open(crew: HostileCrew) -> None:
    crew.plan_issues(1, 2)
    orchestrator = crew.orchestrate()
    crew.wait_for_starts(2)
    attempts = crew.area() / "attempts"
    locks_of = {
        str(attempts / crew.attempt_of(number)["id"] / "lock"): {crew.runner_pid(number)}
        for number in (1, 2)
    }
    crew.pane(2)
    crew.wait_for(
        lambda: holders(crew) == {str(crew.lock_file()): {orchestrator.pid}, **locks_of},
        "the orchestrator alone has its lock, and each runner its own",
    )
    assert len(crew.processes()) > 6  # server, client, agents and what they left, all looked at
    crew.kill_orchestrator(orchestrator)
    assert holders(crew) == locks_of


def test_orchestrator_lock_that_a_stranger_inherited_is_waited_out(crew: HostileCrew) -> None:
    """A lock in other hands is respected, whoever they are, and is free when they let go."""
    crew.plan_issues(1, seconds="0")
    path = crew.lock_file()
    path.parent.mkdir(parents=True)
    script = f"exec 9>'{path}' && flock 9 && echo $$ && exec sleep 1000"
    stranger = crew.start_shell(script)
    crew.wait_for(stranger.text, "the stranger has it")
    refused = crew.run("run", "work", "--from", "plan.json", check=3)
    assert "another orchestrator has area work" in refused.stderr
    assert crew.starts() == []
    os.kill(stranger.pid, signal.SIGKILL)
    stranger.wait()
    crew.run("run", "work", "--from", "plan.json", check=0)
    crew.judge()
