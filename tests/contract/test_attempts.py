"""The attempt folder from the orchestrator's side, with real files and locks (DESIGN.md section 4).

Every row of the verdict table is built on disk and read back.
"""

import fcntl
import json
import os

import pytest
from attempt_stage import changed, write_file

from gangline.core.evidence import Answer, Claim, ExitRecord, RunnerIdentity, Signal, Verdict
from gangline.hosts.attempt_folder import STARTING, Attempt
from gangline.hosts.attempts import AttemptFolders, probe_lock
from gangline.hosts.processes import start_ticks
from gangline.hosts.runner_start import note_session

RUNNER = '{"by":"runner","pid":12,"startTicks":34,"bootId":"boot"}'
VOID = '{"by":"void"}'


@pytest.fixture
def launch(stage):
    """An attempt that is prepared and not started."""
    launch = stage.launch()
    stage.prepare(launch)
    return launch


@pytest.fixture
def on_disk(stage, launch):
    """Writes what a runner or a fence would have left; a lock is held until the test is over."""
    held = []

    def build(claim=None, lock=None, starting=False, ended=None, signal=None):
        if claim:
            write_file(stage.path(launch, "claim"), claim)
        if lock:
            write_file(stage.path(launch, "lock"), "")
        if lock == "held":
            held.append(os.open(stage.path(launch, "lock"), os.O_RDWR | os.O_CLOEXEC))
            fcntl.flock(held[-1], fcntl.LOCK_EX)
        if starting:
            write_file(stage.path(launch, "starting"), "")
        if ended is not None:
            write_file(stage.path(launch, "exit.json"), ended)
        if signal is not None:
            write_file(stage.area / "issue-1.exit", signal)
        return stage.evidence(launch)

    yield build
    for fd in held:
        os.close(fd)


# -- the verdict table, row by row -----------------------------------------------------------------

TABLE = [
    ({}, Verdict.NOT_STARTED),
    ({"lock": "free"}, Verdict.NOT_STARTED),
    ({"lock": "held"}, Verdict.NOT_STARTED),
    ({"claim": VOID}, Verdict.NEVER_RAN),
    ({"claim": VOID, "lock": "held"}, Verdict.NEVER_RAN),
    ({"claim": RUNNER, "lock": "held"}, Verdict.RUNNING),
    ({"claim": RUNNER, "lock": "held", "starting": True}, Verdict.RUNNING),
    ({"claim": RUNNER, "lock": "held", "starting": True, "signal": "ok"}, Verdict.RUNNING),
    ({"claim": RUNNER, "lock": "held", "starting": True, "ended": '{"code":0}'}, Verdict.RUNNING),
    ({"claim": RUNNER, "lock": "free"}, Verdict.NEVER_RAN),
    ({"claim": RUNNER, "lock": "free", "ended": '{"refused":"no"}'}, Verdict.REFUSED),
    ({"claim": RUNNER, "lock": "free", "starting": True}, Verdict.DIED),
    ({"claim": RUNNER, "lock": "free", "starting": True, "signal": "ok"}, Verdict.DIED),
    (
        {"claim": RUNNER, "lock": "free", "starting": True, "ended": '{"code":0}'},
        Verdict.FINISHED,
    ),
    ({"lock": "free", "starting": True}, Verdict.DIED),
    ({"lock": "held", "starting": True}, Verdict.RUNNING),
    ({"starting": True}, Verdict.UNKNOWN),
    ({"claim": RUNNER}, Verdict.UNKNOWN),
    ({"claim": RUNNER, "starting": True, "ended": '{"code":0}'}, Verdict.UNKNOWN),
    ({"claim": "garbage", "lock": "free"}, Verdict.UNKNOWN),
    ({"claim": '{"by":"somebody"}', "lock": "free"}, Verdict.UNKNOWN),
    ({"claim": RUNNER, "lock": "free", "starting": True, "ended": "garbage"}, Verdict.UNKNOWN),
    ({"claim": RUNNER, "lock": "free", "starting": True, "ended": ""}, Verdict.UNKNOWN),
]
DEATHS = ['{"signal":9}', '{"code":129}', '{"code":143}', '{"code":0,"runnerSignal":1}']
DEATHS += ['{"code":3,"runnerSignal":15}']


@pytest.mark.parametrize(("left", "expected"), TABLE, ids=[str(row[0]) for row in TABLE])
def test_what_is_on_disk_is_read_as_the_table_says(stage, launch, on_disk, left, expected):
    on_disk(**left)
    assert stage.verdict(launch) is expected


@pytest.mark.parametrize("ended", DEATHS)
def test_end_by_a_signal_or_a_hang_up_is_a_death_unless_we_ordered_it(
    stage, launch, on_disk, ended
):
    on_disk(claim=RUNNER, lock="free", starting=True, ended=ended)
    assert stage.verdict(launch) is Verdict.DIED
    assert stage.verdict(launch, kill_ordered=True) is Verdict.FINISHED


def test_every_field_of_the_exit_record_is_read(on_disk):
    ended = (
        '{"code":1,"signal":2,"runnerSignal":3,"refused":"r","endedAt":"t","logCut":true,"new":0}'
    )
    seen = on_disk(claim=RUNNER, lock="free", starting=True, ended=ended)
    fields = {name: getattr(seen.exit, name) for name in ExitRecord.__struct_fields__}
    assert fields == {
        "code": 1,
        "signal": 2,
        "runner_signal": 3,
        "refused": "r",
        "ended_at": "t",
        "log_cut": True,
    }


def test_runner_is_known_from_its_claim(on_disk):
    assert on_disk(claim=RUNNER, lock="held").runner == RunnerIdentity(12, 34, "boot")


def test_seen_claim_is_remembered_until_it_is_forgotten(stage, launch, on_disk):
    on_disk(claim=RUNNER, lock="free", starting=True)
    stage.path(launch, "claim").unlink()
    assert stage.evidence(launch).claim is Claim.RUNNER
    stage.folders.forget(launch.attempt_id)
    assert stage.evidence(launch).claim is Claim.NONE


def test_missing_claim_is_not_remembered(stage, launch, on_disk):
    assert stage.evidence(launch).claim is Claim.NONE
    assert on_disk(claim=VOID).claim is Claim.VOID


# -- probing ---------------------------------------------------------------------------------------


def test_probe_creates_nothing(stage, launch):
    before = sorted(os.listdir(stage.path(launch)))
    seen = stage.evidence(launch)
    assert sorted(os.listdir(stage.path(launch))) == before
    assert "lock" not in before
    assert seen.lock is Answer.UNKNOWN


def test_probe_of_a_folder_that_is_not_there_creates_nothing(stage):
    launch = stage.launch(number=7)
    seen = stage.evidence(launch)
    assert (seen.claim, seen.lock, seen.starting) == (Claim.NONE, Answer.UNKNOWN, Answer.NO)
    assert os.listdir(stage.area) == ["wake"]


def test_lock_that_cannot_be_opened_is_unknown(stage, launch):
    assert probe_lock(str(stage.path(launch, "lock"))) is Answer.UNKNOWN
    stage.path(launch, "lock").symlink_to("lock")
    assert probe_lock(str(stage.path(launch, "lock"))) is Answer.UNKNOWN


def test_probe_lets_go_of_the_lock(stage, launch, on_disk):
    on_disk(lock="free")
    assert probe_lock(str(stage.path(launch, "lock"))) is Answer.NO
    assert not stage.lock_is_held(launch)
    fd = os.open(stage.path(launch, "lock"), os.O_RDWR | os.O_CLOEXEC)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(fd)


@pytest.mark.parametrize("name", ["claim", "exit.json", "starting"])
def test_file_that_cannot_be_read_is_unknown(stage, launch, on_disk, name):
    on_disk(lock="free", **({} if name == "claim" else {"claim": RUNNER}))
    stage.path(launch, name).symlink_to(name)  # too many levels of symbolic links, also for root
    seen = stage.evidence(launch)
    found = {"claim": seen.claim, "exit.json": seen.has_exit, "starting": seen.starting}[name]
    assert found in (Claim.UNKNOWN, Answer.UNKNOWN)


# -- the signal file -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ok", Signal.OK),
        (" ok\n", Signal.OK),
        ("OK", Signal.FAILED),
        ("failed", Signal.FAILED),
        ("", Signal.FAILED),
        ("okay", Signal.FAILED),
    ],
)
def test_signal_is_ok_or_anything_else(on_disk, text, expected):
    assert on_disk(signal=text).signal is expected


def test_no_signal_file_is_no_signal(on_disk):
    assert on_disk().signal is Signal.NONE


@pytest.mark.parametrize("stepped_seconds", [-3600.0, -0.001, 0.0, 3600.0])
def test_signal_is_believed_though_the_clock_was_stepped_since_the_dispatch(
    stage, launch, on_disk, stepped_seconds
):
    on_disk(signal="ok")
    dispatched = 981173106.25  # seconds since 1970 of the time below
    path = stage.area / "issue-1.exit"
    os.utime(path, ns=(0, int((dispatched + stepped_seconds) * 1e9)))
    seen = stage.evidence(launch)
    assert seen.signal is Signal.OK


def test_signal_that_cannot_be_read_is_unknown(stage, launch):
    (stage.area / "issue-1.exit").symlink_to("issue-1.exit")  # a loop
    assert stage.evidence(launch).signal is Signal.UNKNOWN


def test_folder_in_the_signal_file_s_place_is_not_ok(stage, launch):
    (stage.area / "issue-1.exit").mkdir()
    assert stage.evidence(launch).signal is Signal.FAILED


def test_signal_is_put_away_into_the_folder_of_the_last_attempt(stage, launch, on_disk):
    on_disk(signal="ok")
    stage.folders.put_away_signal("1", launch.attempt_id)
    assert not (stage.area / "issue-1.exit").exists()
    assert stage.path(launch, "signal").read_text() == "ok"
    assert stage.evidence(launch).signal is Signal.NONE


@pytest.mark.parametrize("last", [None, "b1-1-a0"], ids=["no attempt yet", "its folder is gone"])
def test_signal_without_an_attempt_to_belong_to_is_put_beside_its_place(stage, last):
    signal = write_file(stage.area / "issue-1.exit", "ok")
    stage.folders.put_away_signal("1", last)
    assert not signal.exists()
    assert (stage.area / "issue-1.exit.stale").read_text() == "ok"


def test_no_signal_to_put_away_is_no_error(stage, launch):
    stage.folders.put_away_signal("1", launch.attempt_id)
    stage.folders.put_away_signal("1", None)
    assert not stage.path(launch, "signal").exists()
    assert not (stage.area / "issue-1.exit.stale").exists()


# -- preparing and fencing -------------------------------------------------------------------------


def test_preparing_is_exclusive_and_changes_nothing_of_the_first(stage, launch):
    before = stage.path(launch, "spec.json").read_bytes()
    with pytest.raises(FileExistsError):
        stage.folders.prepare(changed(launch, title="other", prompt="other"))
    assert stage.path(launch, "spec.json").read_bytes() == before
    assert stage.path(launch, "prompt.md").read_text() == launch.prompt


def test_prepared_files_are_the_owner_s_alone(stage, launch):
    for name in ("spec.json", "prompt.md", "environment"):
        assert stage.path(launch, name).stat().st_mode & 0o777 == 0o600
    assert stage.path(launch).stat().st_mode & 0o777 == 0o700


def test_prepared_spec_holds_no_secret(stage):
    launch = stage.launch()
    launch = changed(launch, environment=launch.environment | {"KEY": "very secret"})
    stage.folders.prepare(launch)
    assert "very secret" not in stage.path(launch, "spec.json").read_text()
    assert b"KEY=very secret" in stage.path(launch, "environment").read_bytes()


def test_numbers_are_the_highest_folder_of_each_issue(stage):
    assert stage.folders.numbers() == {}
    names = [
        "b1-1-a0",
        "b1-1-a10",
        "b1-1-a9",
        "b1-x-a5-a2",
        "b1-2-a0",
        "notes",
        "b1-3-a",
        "b1-4-a²",
    ]
    for name in names:
        (stage.area / "attempts" / name).mkdir(parents=True)
    assert stage.folders.numbers() == {"b1-1": 10, "b1-x-a5": 2, "b1-2": 0}


def test_void_is_complete_and_can_be_said_again(stage, launch):
    stage.folders.void(launch.attempt_id)
    first = stage.path(launch, "claim").stat()
    stage.folders.void(launch.attempt_id)
    again = stage.path(launch, "claim").stat()
    assert json.loads(stage.path(launch, "claim").read_text()) == {"by": "void"}
    assert first.st_ino == again.st_ino
    assert [name for name in os.listdir(stage.path(launch)) if name.startswith("claim.")] == []


def test_void_after_a_runner_s_claim_changes_nothing(stage, launch, on_disk):
    on_disk(claim=RUNNER, lock="held")
    stage.folders.void(launch.attempt_id)
    assert stage.path(launch, "claim").read_text() == RUNNER


def test_attempt_whose_folder_was_never_made_can_be_voided(stage):
    launch = stage.launch(number=3)
    stage.folders.void(launch.attempt_id)
    assert stage.verdict(launch) is Verdict.NEVER_RAN
    assert stage.folders.numbers() == {"b1-1": 3}


def test_void_never_writes_into_a_claim_left_by_a_dead_process_of_the_same_number(stage, launch):
    # Killed between link and unlink: both names are one file.
    own = stage.path(launch, f"claim.void.{os.getpid()}")
    write_file(own, VOID)
    os.link(own, stage.path(launch, "claim"))
    claim = os.open(stage.path(launch, "claim"), os.O_RDONLY)
    before = os.fstat(claim).st_mtime_ns
    stage.folders.void(launch.attempt_id)
    assert os.fstat(claim).st_mtime_ns == before
    os.close(claim)
    assert stage.evidence(launch).claim is Claim.VOID
    assert not own.exists()


def test_area_that_cannot_be_listed_is_an_error_and_not_empty(tmp_path):
    (tmp_path / "attempts").write_text("")
    with pytest.raises(NotADirectoryError):
        AttemptFolders(str(tmp_path), "wake").numbers()


def test_environment_that_no_runner_read_goes_when_the_attempt_is_over(stage):
    launch = stage.launch()
    stage.prepare(launch)
    assert stage.path(launch, "environment").exists()
    stage.folders.forget(launch.attempt_id)
    assert not stage.path(launch, "environment").exists()
    assert stage.path(launch, "spec.json").exists()


def test_session_is_noted_whole_though_the_disk_takes_it_in_pieces(stage, launch, monkeypatch):
    attempt = Attempt(stage.path(launch))
    attempt.touch(STARTING)
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:5]))
    note_session(attempt, os.getpid())
    assert stage.folders.session(stage.subject(launch)) == (os.getpid(), start_ticks(os.getpid()))
