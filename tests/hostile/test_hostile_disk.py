"""A disk that is full or read-only, and files that are removed under a living orchestrator.

Proven elsewhere: every single write that fails with ENOSPC or EIO (the gauntlet); a full disk under
the runner alone (tests/contract/test_runner.py); the attempts' folder, or all of it under a dead
orchestrator, deleted (tests/crash/test_hostile_world.py); a journal removed between two
transactions (tests/unit/store); what may be left of a worktree (tests/contract/test_worktrees.py).
"""

import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile_stage import Disk, HostileCrew
from project import Started


class DiskCrew(HostileCrew):
    """A crew whose batches are on a small disk of their own, two agents at work.

    Attributes:
        disk: The file system that `.workspace/orchestrate` is on.
    """

    disk: Disk

    def area(self, area: str = "work") -> Path:
        return self.disk.path(area)

    def enter(self) -> Started:
        self.disk = Disk(self.folder / ".workspace" / "orchestrate", "1m")
        (self.folder / ".workspace").chmod(0o700)
        self.before = self.disk.before
        self.plan([self.issue(1), self.issue(2), self.issue(3, after=[1])])
        orchestrator = self.orchestrate()
        self.wait_for_starts(2)
        self.pane(1)
        self.pane(2)
        return orchestrator

    def finish(self) -> None:
        """Resume, and see that all has been done once."""
        self.let(1, 2, 3)
        resumed = self.resume()
        assert self.wait_for_end(resumed) == 0, resumed.text()
        assert self.executions() == [(1, 0), (2, 0), (3, 0)]
        self.judge()


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[tuple[DiskCrew, Started]]:
    made = DiskCrew(tmp_path)
    try:
        yield made, made.enter()
    finally:
        made.close()
        if hasattr(made, "disk"):
            made.disk.close()


def says_in_its_log(crew: HostileCrew, number: int, words: str) -> None:
    pane = crew.attempt_of(number)["pane"]

    def said() -> bool:
        return words in crew.tmux("capture-pane", "-p", "-J", "-S", "-", "-t", pane).stdout

    crew.wait_for(said, f"the pane of #{number} says: {words}")


def test_full_disk_loses_nothing_and_what_waited_for_it_goes_on(
    on_disk: tuple[DiskCrew, Started],
) -> None:
    crew, orchestrator = on_disk
    crew.disk.fill()
    refused = crew.run("hold", "work", "3", check=4).stderr
    assert "No space left on device" in refused
    assert "hint: make room" in refused
    crew.let(1)
    says_in_its_log(crew, 1, "exit.json: No space left on device; trying again")
    crew.run("status", "work", check=0)
    os.kill(crew.runner_pid(2), signal.SIGTERM)  # it ends its agent, and cannot say so either
    assert orchestrator.poll() is None
    assert crew.recorded_statuses()["1"] == "dispatched"
    crew.disk.make_room()
    crew.run("release", "work", "3")  # the hold may have fitted into the journal's last block
    crew.wait_for_starts(3)
    crew.let(2)
    crew.wait_for(lambda: len(crew.starts()) == 4, "#2 and #3 run")
    crew.let(3)
    assert crew.wait_for_end(orchestrator) == 0, orchestrator.text()
    assert crew.executions() == [(1, 0), (2, 0), (2, 1), (3, 0)]
    crew.judge()


def test_orchestrator_that_cannot_record_ends_before_it_acts(
    on_disk: tuple[DiskCrew, Started],
) -> None:
    crew, orchestrator = on_disk
    crew.disk.fill()
    os.kill(crew.runner_pid(1), signal.SIGKILL)
    assert crew.wait_for_end(orchestrator) == 4, orchestrator.text()
    assert "could not be written: No space left on device" in orchestrator.text()
    again = crew.run("run", "work", check=4).stderr
    assert "No space left on device" in again
    assert "Traceback" not in again + orchestrator.text()
    assert len(crew.starts()) == 2
    crew.disk.make_room()
    resumed = crew.resume()
    crew.wait_for(lambda: len(crew.starts(1)) == 2, "#1 runs again")
    crew.let(1, 2, 3)
    assert crew.wait_for_end(resumed) == 0, resumed.text()
    assert crew.executions() == [(1, 0), (1, 1), (2, 0), (3, 0)]
    crew.judge()


def test_disk_that_became_read_only_ends_the_orchestrator_and_not_the_agents(
    on_disk: tuple[DiskCrew, Started],
) -> None:
    crew, orchestrator = on_disk
    crew.disk.forbid_writing()
    crew.let(1)
    assert crew.wait_for_end(orchestrator) == 4, orchestrator.text()
    for command in (["hold", "work", "3"], ["cancel", "work", "2"], ["run", "work"]):
        refused = crew.run(*command, check=4).stderr
        assert "Read-only file system" in refused
        assert "Traceback" not in refused + orchestrator.text()
    view = crew.status()  # what is only read can be read
    assert [issue["status"] for issue in view["issues"]] == ["dispatched", "dispatched", "blocked"]
    assert crew.lives(crew.agent_pid(2))
    crew.disk.allow_writing()
    crew.finish()


def test_worktree_that_does_not_fit_on_the_disk_fails_no_issue(tmp_path: Path) -> None:
    crew = HostileCrew(tmp_path, worktrees=True)
    (crew.folder / "big").write_bytes(os.urandom(700_000))
    crew.commit()
    disk = Disk(crew.folder / ".workspace" / "worktrees", "1200k")
    crew.before = disk.before
    try:
        (crew.folder / ".workspace").chmod(0o700)
        crew.plan([crew.issue(1, seconds="0"), crew.issue(2, seconds="0")])
        orchestrator = crew.orchestrate()
        assert crew.wait_for_end(orchestrator) == 4, orchestrator.text()
        assert "the workspace of #2 cannot be made: git could not make" in orchestrator.text()
        assert re.search(r"\.\d MiB are left on the disk of .*, at least", orchestrator.text())
        assert "hint: make room" in orchestrator.text()
        assert crew.recorded_statuses()["2"] == "pending"
        stop = "error: the workspace of #2 cannot be made: git could not make"
        assert f"the orchestrator stopped: {stop}" in crew.run("status", "work", check=0).stdout
        disk.grow("3m")
        resumed = crew.resume()
        crew.wait_for(lambda: f"its orchestrator stopped ({stop}" in resumed.text(), "it says why")
        assert crew.wait_for_end(resumed) == 0, resumed.text()
        assert crew.executions() == [(1, 0), (2, 0)]
        crew.judge()
    finally:
        crew.close()
        disk.close()


# -- what is removed ------------------------------------------------------------------------------


@pytest.fixture
def at_work(crew: HostileCrew) -> Started:
    """An orchestrator with two agents at work, and a third issue that waits for both."""
    crew.plan([crew.issue(1), crew.issue(2), crew.issue(3, after=[1, 2])])
    orchestrator = crew.orchestrate()
    crew.wait_for_starts(2)
    crew.pane(1)
    crew.pane(2)
    return orchestrator


def test_area_removed_under_a_living_orchestrator_ends_it_and_begins_nothing_beside_agents(
    crew: HostileCrew, at_work: Started
) -> None:
    at_work.send_signal(signal.SIGSTOP)  # else it would notice at once
    crew.stopped(at_work)
    crew.wait_for(lambda: _remove(crew.area()), "the area is gone")
    refused = crew.run("run", "work", "--from", "plan.json", check=3).stderr
    assert f"process {at_work.pid}" in refused  # its lock is elsewhere
    at_work.send_signal(signal.SIGCONT)
    assert crew.wait_for_end(at_work) == 4, at_work.text()
    assert "the journal was removed" in at_work.text()
    assert "Traceback" not in at_work.text()
    refused = crew.run("run", "work", "--from", "plan.json", check=4).stderr
    assert "agents of a batch of area work that was deleted still run" in refused
    assert len(crew.starts()) == 2


def test_journal_removed_under_a_living_orchestrator_is_rebuilt_with_its_agents(
    crew: HostileCrew, at_work: Started
) -> None:
    (crew.area() / "batch.journal.jsonl").unlink()
    crew.let(1)
    assert crew.wait_for_end(at_work) == 4, at_work.text()
    assert "the journal was removed" in at_work.text()
    resumed = crew.resume()
    crew.let(2, 3)
    assert crew.wait_for_end(resumed) == 0, resumed.text()
    assert crew.executions() == [(1, 0), (2, 0), (3, 0)]
    crew.judge()


@pytest.mark.parametrize("what", ["batch.state.json", "wake", "batch.issues.json"])
def test_file_removed_under_a_living_orchestrator_costs_nothing(
    crew: HostileCrew, at_work: Started, what: str
) -> None:
    (crew.area() / what).unlink()
    crew.let(1, 2, 3)
    assert crew.wait_for_end(at_work) == 0, at_work.text()
    assert crew.executions() == [(1, 0), (2, 0), (3, 0)]
    crew.judge()


def test_lock_file_removed_makes_the_next_orchestrator_the_only_one(
    crew: HostileCrew, at_work: Started
) -> None:
    crew.lock_file().unlink()
    other = crew.resume()
    crew.wait_for(lambda: at_work.poll() is not None or crew.run("pause", "work"), "it looks")
    crew.run("resume", "work", check=0)
    assert crew.wait_for_end(at_work) == 3, at_work.text()
    assert f"another orchestrator took area work over: process {other.pid}" in at_work.text()
    crew.let(1, 2, 3)
    assert crew.wait_for_end(other) == 0, other.text()
    assert crew.executions() == [(1, 0), (2, 0), (3, 0)]
    crew.judge()


def test_worktrees_removed_under_their_agents_are_made_anew_for_the_next(tmp_path: Path) -> None:
    crew = HostileCrew(tmp_path, worktrees=True)
    try:
        orchestrator = crew.begin([crew.issue(1), crew.issue(2, after=[1])], 2)
        crew.wait_for_starts(1)
        crew.pane(1)
        worktrees = crew.folder / ".workspace" / "worktrees"
        assert (worktrees / "work" / "issue-1" / ".git").exists()
        crew.wait_for(lambda: _remove(worktrees), "the worktrees are gone")
        os.kill(crew.agent_pid(1), signal.SIGKILL)
        crew.wait_for_starts(2)
        assert (worktrees / "work" / "issue-1" / ".git").exists()
        crew.let(1, 2)
        assert crew.wait_for_end(orchestrator) == 0, orchestrator.text()
        assert crew.executions() == [(1, 0), (1, 1), (2, 0)]
        crew.judge()
    finally:
        crew.close()


def _remove(folder: Path) -> bool:
    """Living agents may write into it meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()
