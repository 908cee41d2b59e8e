"""Silence of a living attempt: output first, then CPU and worktree, each seen to move or not.

The boot clock is the test's; the processes and files are real.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from gangline.core.evidence import Answer, Claim, Evidence, RunnerIdentity
from gangline.hosts import activity, processes
from gangline.hosts.activity import Activity
from gangline.hosts.attempts import AttemptFolders
from gangline.ports import Subject

QUIET = 600.0
INTENT = 10_000.0
# Ends with its stdin; works only when told to.
CHILD = "import sys\nfor line in sys.stdin:\n x = sum(range(int(line)))\n print(x, flush=True)\n"


class Stage:
    """An attempt's folder, a worktree, and a process with a child for its runner."""

    def __init__(self, room, monkeypatch) -> None:
        self.now, self.wall = INTENT, 1_800_000_000.0
        self.since = "2027-01-15T08:00:00.000Z"  # the same moment
        monkeypatch.setattr(processes, "boot_seconds", lambda: self.now)
        monkeypatch.setattr(time, "time", lambda: self.wall)
        self.folder = room / "area" / "attempts" / "b-1-a0"
        self.folder.mkdir(parents=True)
        self.worktree = room / "worktree"
        (self.worktree / "src").mkdir(parents=True)
        (self.worktree / ".git").write_text("gitdir: elsewhere\n")
        (self.folder / "spec.json").write_text(json.dumps({"cwd": str(self.worktree)}))
        self.log = self.folder / "output.log"
        self.print_at(self.wall)
        self.child = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.area = str(room / "area")
        self.begin()

    def begin(self) -> None:
        """Another process looks: it remembers nothing."""
        self.activity = Activity(AttemptFolders(self.area, "wake"))

    def print_at(self, wall: float) -> None:
        self.log.touch()
        os.utime(self.log, (wall, wall))

    def look(self, later: float = 0.0, *, living: bool = True) -> Evidence:
        self.now += later
        self.wall += later
        subject = Subject(
            attempt_id="b-1-a0",
            issue="1",
            number=0,
            mark="m",
            server=None,
            since=self.since,
            boot_seconds=INTENT,
            quiet_seconds=QUIET,
        )
        seen = Evidence(
            attempt=0,
            claim=Claim.RUNNER,
            lock=Answer.YES,
            runner=RunnerIdentity(os.getpid(), 0, "boot"),
        )
        return self.activity.add_to(seen, subject, living=living)

    def silent(self) -> None:
        """It has been silent for long, and was looked at more closely once."""
        assert self.look().quiet_seconds < QUIET
        assert self.look(QUIET).quiet_seconds is None

    def work(self, amount: int) -> None:
        self.child.stdin.write(f"{amount}\n")
        self.child.stdin.flush()
        self.child.stdout.readline()


@pytest.fixture
def stage(tmp_path, monkeypatch) -> Iterator[Stage]:
    made = Stage(tmp_path, monkeypatch)
    yield made
    made.child.stdin.close()
    made.child.wait()
    made.child.stdout.close()


def test_nothing_that_moves_for_so_long_is_silence(stage):
    stage.silent()
    assert stage.look(30).quiet_seconds >= QUIET + 30


def test_output_is_movement(stage):
    stage.silent()
    stage.log.write_text("still here\n")
    assert stage.look(30).quiet_seconds == 0


def test_cpu_anywhere_below_the_runner_is_movement(stage):
    stage.silent()
    before = os.times().children_user
    while _cpu(stage.child.pid) < 0.7:  # of 30 seconds: more than an idle interface uses
        stage.work(1_000_000)
    assert before == os.times().children_user  # it lives on
    assert stage.look(30).quiet_seconds == 0


def test_change_deep_in_the_worktree_is_movement(stage):
    stage.silent()
    later = stage.worktree / "src" / "new.py"
    later.touch()
    ahead = stage.log.stat().st_mtime + 5
    os.utime(later, (ahead, ahead))
    assert stage.look(30).quiet_seconds == 0


def test_two_looks_in_the_same_moment_say_nothing(stage):
    stage.silent()
    assert stage.look(0.5).quiet_seconds is None


def test_look_that_is_held_up_is_no_silence(stage, monkeypatch):
    """They work all the time, and the first look at them takes 100 seconds."""
    delays = [100, 0]

    def cpu_seconds(_pid):
        stage.now += delays.pop(0)
        return stage.now

    monkeypatch.setattr(activity, "_cpu_seconds_below", cpu_seconds)
    stage.silent()
    assert stage.look(1.5).quiet_seconds == 0
    assert not delays


@pytest.mark.parametrize("step", [0, 3600, -3600, 86_400, 20, -20])
@pytest.mark.parametrize("is_printed_before", [True, False])
def test_silence_is_known_to_another_process_though_the_wall_clock_was_set(
    stage, step, is_printed_before
):
    stage.look(100)
    stage.print_at(stage.wall)
    stage.wall += step
    if not is_printed_before:
        stage.print_at(stage.wall)
    stage.begin()
    silent = stage.look(30).quiet_seconds
    if step == 20 and not is_printed_before:
        assert silent == 10  # which of the two it was cannot be known: the shorter one is taken
    elif step == -20 and is_printed_before:
        assert silent == 10
    else:
        assert silent == 30


def test_output_from_a_time_that_is_yet_to_come_is_of_now(stage):
    stage.look(100)
    stage.print_at(stage.wall + 86_400)
    stage.begin()
    assert stage.look(30).quiet_seconds == 0


def test_no_attempt_is_silent_for_longer_than_it_lives(stage):
    stage.print_at(stage.wall - 7200)
    assert stage.look(30).quiet_seconds == 30


def test_worktree_that_is_gone_is_no_movement_and_no_error(stage):
    stage.silent()
    (stage.worktree / ".git").unlink()
    (stage.worktree / "src").rmdir()
    stage.worktree.rmdir()
    assert stage.look(30).quiet_seconds >= QUIET


def test_attempt_without_a_spec_is_unknown(stage):
    (stage.folder / "spec.json").unlink()
    assert stage.look().quiet_seconds < QUIET
    assert stage.look(QUIET).quiet_seconds is None
    assert stage.look(30).quiet_seconds is None


def test_progress_is_read_again_when_it_has_changed(stage):
    progress = stage.folder / "progress.json"
    assert stage.look().progress is None
    progress.write_text('{"session":"a","events":3}')
    assert stage.look().progress.session == "a"
    part = stage.folder / "progress.part"
    part.write_text('{"session":"b","unknown":1}')
    os.utime(part, ns=(1, 1))
    part.rename(progress)
    assert stage.look().progress.session == "b"
    progress.write_text("no json")
    os.utime(progress, ns=(2, 2))
    assert stage.look().progress is None


def test_last_words_are_read_though_their_file_bears_the_time_of_an_earlier_one(stage):
    progress = stage.folder / "progress.json"
    for session in ("a", "b"):
        progress.write_text(f'{{"session":"{session}"}}')
        os.utime(progress, ns=(5, 5))
        if session == "a":
            assert stage.look().progress.session == "a"
    assert stage.look().progress.session == "a"  # as good as the clock is
    assert stage.look(living=False).progress.session == "b"


def test_words_that_cannot_be_read_are_unknown_and_missing_ones_are_none(stage):
    assert stage.look().has_progress is Answer.NO
    (stage.folder / "progress.json").symlink_to("progress.json")
    assert stage.look().has_progress is Answer.UNKNOWN


def _cpu(pid: int) -> float:
    fields = processes.stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
