"""The runner as a reader of what its agent prints: log, pane and progress.json (docs/adr/0014)."""

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest
from attempt_stage import PYTHON, Lines, comes_true

from gangline.agents import readers
from gangline.hosts import runner_account
from gangline.hosts.attempt_folder import Attempt
from gangline.hosts.runner_account import Account, ProgressFile

RECORDED = Path(__file__).parents[1] / "agents" / "recorded"
CLAUDE, CODEX = "claude-stream-json", "codex-json"
WAIT_FOR_THE_GATE = 'read line <"$2"\n'
MEMORY_KB_MAX = 15 * 1024


def recorded(name):
    return (RECORDED / f"{name}.jsonl").read_bytes()


def progress(stage, launch):
    return json.loads(stage.path(launch, "progress.json").read_bytes())


def printing(stage, data, rest="exit 0\n", **changes):
    (stage.work / "data").write_bytes(data)
    return stage.launch(f"cat data\n{rest}", **{"reader": CLAUDE} | changes)


# -- what becomes of the output --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "reader"), [("claude/ok", CLAUDE), ("codex/ok", CODEX), ("claude/retried-529", CLAUDE)]
)
def test_log_is_whole_and_pane_and_progress_are_what_the_reader_says(stage, name, reader):
    data = recorded(name)
    launch = printing(stage, data, reader=reader)
    assert stage.run(launch)["code"] == 0
    alone = readers.reader(reader, cwd=str(stage.work))
    shown = alone.feed(data) + alone.finish(0)
    assert stage.log(launch) == data
    assert shown
    assert stage.pane() == shown
    assert progress(stage, launch) == alone.progress.as_dict()
    assert progress(stage, launch)["session"]


def test_denied_permission_is_told_though_the_exit_code_is_0(stage):
    launch = printing(stage, recorded("claude/denied"))
    assert stage.run(launch)["code"] == 0
    assert progress(stage, launch)["failureKind"] == "permission"


def test_without_a_reader_the_pane_shows_the_output_and_nothing_is_told(stage):
    data = recorded("codex/ok")
    launch = printing(stage, data, reader=None)
    stage.run(launch)
    assert stage.pane() == data
    assert not stage.has(launch, "progress.json")


def test_unknown_reader_costs_the_account_and_not_the_attempt(stage):
    data = recorded("codex/ok")
    launch = printing(stage, data, "exit 4\n", reader="no-such-format")
    assert stage.run(launch)["code"] == 4
    assert data in stage.pane()
    assert stage.log(launch) == data


def test_escapes_of_an_agent_reach_the_pane_from_no_reader(stage):
    said = "\x1b[2Jgone\x1b]0;title\x07"
    event = {"type": "item.completed", "item": {"type": "agent_message", "text": said}}
    launch = printing(stage, json.dumps(event).encode() + b"\n", reader=CODEX)
    stage.run(launch)
    assert b"gone" in stage.pane()
    assert b"\x1b[2J" not in stage.pane()
    assert b"\x07" not in stage.pane()


def test_setup_is_shown_as_it_is_and_the_reader_sees_the_agent_only(stage):
    setup = recorded("claude/ok")
    (stage.work / "setup").write_bytes(setup)
    program = stage.program("cat setup\n")
    launch = printing(
        stage,
        recorded("codex/ok"),
        reader=CODEX,
        setup=(program,),
        setup_program=program,
        setup_done=str(stage.folder / "done"),
    )
    assert stage.run(launch)["code"] == 0
    assert stage.pane().startswith(setup)
    assert stage.log(launch) == setup + recorded("codex/ok")
    alone = readers.reader(CODEX, cwd=str(stage.work))
    alone.feed(recorded("codex/ok"))
    alone.finish(0)
    assert progress(stage, launch) == alone.progress.as_dict()


class Raising:
    """A reader that fails where it is told to."""

    def __init__(self, where):
        self.where = where
        self.progress = readers.Progress()

    def feed(self, data):
        if self.where == "feed":
            raise RuntimeError
        return b"told\n"

    def finish(self, code):
        raise RuntimeError


@pytest.mark.parametrize("where", ["feed", "finish"])
def test_reader_that_raises_is_put_away_for_good(stage, monkeypatch, where):
    monkeypatch.setattr(readers, "reader", lambda name, *, cwd: Raising(where))
    account = Account(Attempt(str(stage.area)), lambda: None)
    account.read_with(CODEX, "/")
    shown = [account.feed(b"one\n"), account.feed(b"two\n"), account.finish(0)]
    if where == "feed":
        assert shown[0].endswith(b"one\n")
        assert shown[1:] == [b"two\n", b""]
    else:
        assert shown == [b"told\n", b"told\n", b""]


# -- while it runs ---------------------------------------------------------------------------------


def test_session_is_on_record_and_the_orchestrator_is_woken_while_the_agent_runs(stage):
    first, _, rest = recorded("codex/ok").partition(b"\n")
    (stage.work / "rest").write_bytes(rest)
    launch = printing(stage, first + b"\n", f"{WAIT_FOR_THE_GATE}cat rest\n", reader=CODEX)
    stage.prepare(launch)
    runner = stage.start(launch)
    assert stage.hint() == "1"
    assert progress(stage, launch)["session"] == json.loads(first)["thread_id"]
    assert stage.lock_is_held(launch)
    stage.open_gate()
    stage.finish(runner)
    assert progress(stage, launch)["inputTokens"] > 0


def test_usage_limit_is_told_while_the_agent_runs(stage):
    launch = printing(stage, recorded("codex/limit"), WAIT_FOR_THE_GATE, reader=CODEX)
    stage.prepare(launch)
    runner = stage.start(launch)
    assert stage.hint() == "1"
    assert comes_true(lambda: progress(stage, launch).get("limited"))
    assert progress(stage, launch)["limitText"]
    stage.open_gate()
    stage.finish(runner)
    assert progress(stage, launch)["failureKind"] == "limit"


def test_usage_is_written_though_the_agent_prints_nothing_more(stage):
    """What is not written at once is written when it is due, by the clock of the poll."""
    events = [
        {"type": "thread.started", "thread_id": "T"},
        {"type": "item.completed", "item": {"type": "agent_message", "text": "halfway"}},
    ]
    lines = [json.dumps(event).encode() + b"\n" for event in events]
    (stage.work / "second").write_bytes(lines[1])
    launch = printing(
        stage,
        lines[0],
        f"{WAIT_FOR_THE_GATE}cat second\n{WAIT_FOR_THE_GATE}",
        reader=CODEX,
    )
    stage.prepare(launch)
    runner = stage.start(launch)
    assert stage.hint() == "1"
    stage.open_gate()
    assert comes_true(lambda: progress(stage, launch).get("lastWords") == "halfway")
    assert stage.lock_is_held(launch)
    stage.open_gate()
    stage.finish(runner)


# -- how it is written -----------------------------------------------------------------------------


class Calls:
    """The calls that make a file durable, in their order, with what the file held by then."""

    def __init__(self, monkeypatch, folder):
        self.made = []
        for name in ("fsync", "rename"):
            monkeypatch.setattr(os, name, self._noting(name, getattr(os, name)))

    def _noting(self, name, call):
        def noted(*arguments, **options):
            self.made.append(name)
            return call(*arguments, **options)

        return noted

    def take(self):
        made, self.made = self.made, []
        return made


@pytest.fixture
def file(stage):
    return ProgressFile(Attempt(str(stage.area)))


@pytest.fixture
def calls(stage, monkeypatch):
    return Calls(monkeypatch, stage.area)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands; the test moves it."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(runner_account, "time", made)
    return made


DURABLE, PLAIN, NOTHING = ["fsync", "rename", "fsync"], ["rename"], []


def test_session_is_durable_at_once_and_again_when_it_changes(file, calls, clock):
    assert file.note({"session": "one"})
    assert calls.take() == DURABLE
    assert not file.note({"session": "one", "inputTokens": 5})
    assert calls.take() == NOTHING
    assert file.note({"session": "two", "inputTokens": 5})
    assert calls.take() == DURABLE


@pytest.mark.parametrize(
    ("before", "after", "hinted"),
    [
        ({}, {"limited": True}, True),
        ({"limited": True}, {"limited": True, "limitedUntil": 5.0}, True),
        ({"needs": "asks"}, {}, True),
        ({}, {"failure": "no"}, True),
        ({}, {"tool": "Bash"}, False),
        ({"tool": "Bash"}, {}, False),
        ({}, {"retrying": "again"}, False),
    ],
)
def test_conditions_are_written_at_once(file, calls, clock, before, after, hinted):
    file.note({"inputTokens": 1} | before)
    calls.take()
    assert file.note({"inputTokens": 1} | after) is hinted
    assert calls.take() == PLAIN


def test_usage_and_words_are_written_once_a_second(stage, file, calls, clock):
    file.note({"tool": "Bash"})
    calls.take()
    for tokens in range(1, 50):
        assert not file.note({"tool": f"Bash {tokens}", "inputTokens": tokens})
        file.write_if_due()
    assert calls.take() == NOTHING
    assert 0 < file.patience_ms() <= 1001
    clock.now += 1.0
    assert file.patience_ms() <= 1
    file.write_if_due()
    assert calls.take() == PLAIN
    assert json.loads((stage.area / "progress.json").read_bytes())["inputTokens"] == 49
    assert file.patience_ms() is None


def test_what_could_not_be_written_is_written_later_and_as_durably(stage, file, calls, clock):
    blocked = stage.area / "progress.json.part"
    blocked.mkdir()
    assert file.note({"session": "one"})
    assert calls.take() == NOTHING
    blocked.rmdir()
    file.write_if_due()
    assert calls.take() == NOTHING  # it is not due, and the disk is not asked all the time
    clock.now += 1.0
    file.write_if_due()
    assert calls.take() == DURABLE


def test_text_that_is_no_unicode_is_written_as_something_that_is(stage, file):
    file.note({"lastWords": "a\ud83d", "needs": "b"})
    assert json.loads((stage.area / "progress.json").read_bytes())["lastWords"] == "a?"


def test_disk_that_refuses_the_last_progress_alone_holds_back_the_end(file, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(5, "refused")

    with monkeypatch.context() as refused:
        refused.setattr(runner_account.os, "rename", refuse)
        file.note({"failure": "limit"}, durably=True)
        with pytest.raises(OSError, match="refused"):
            file.settle()
    file.settle()
    assert json.loads((Path(file._attempt.path) / "progress.json").read_bytes()) == {
        "failure": "limit"
    }


# Takes the right to write files from the runner, its parent, and from itself not.
FILL_THE_DISK = """
import os, resource
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (10, hard))
os.write(1, open("data", "rb").read())
"""


def test_full_disk_holds_back_the_end_until_its_progress_is_on_record(stage):
    """The last progress can turn an exit code 0 into a failure, so it is there before the code."""
    (stage.work / "data").write_bytes(recorded("claude/denied"))
    launch = stage.launch(FILL_THE_DISK, interpreter=PYTHON, reader=CLAUDE)
    stage.prepare(launch)
    runner = stage.start(launch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.set_blocking(runner.stdout.fileno(), False)
    shown = Lines(runner.stdout.fileno())
    while "trying again" not in shown.next():
        pass
    assert not stage.has(launch, "progress.json")
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(runner.pid, resource.RLIMIT_FSIZE, (hard, hard))
    stage.finish(runner)
    assert stage.record(launch)["code"] == 0
    assert progress(stage, launch)["failureKind"] == "permission"


# -- what it costs ---------------------------------------------------------------------------------


def test_runner_with_a_reader_stays_below_15_mb_after_10_mb_of_output(stage):
    data = recorded("claude/ok") + recorded("claude/limit")
    long_line = json.dumps(
        {"type": "assistant", "message": {"content": [{"type": "text", "text": "é" * 100_000}]}}
    )
    (stage.work / "long").write_text(long_line + "\n")
    rounds = 10_000_000 // (len(data) + len(long_line)) + 1
    source = (
        f"i=0\nwhile [ $i -lt {rounds} ]; do cat data long; i=$((i+1)); done\n"
        f'echo on >"$1"\n{WAIT_FOR_THE_GATE}'
    )
    (stage.work / "data").write_bytes(data)
    launch = stage.launch(source, reader=CLAUDE)
    stage.prepare(launch)
    runner = stage.start(launch)
    assert stage.report() == "on"
    status = Path(f"/proc/{runner.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    stage.open_gate()
    stage.finish(runner)
    assert len(stage.log(launch)) > 10_000_000
    assert progress(stage, launch)["session"]
    assert int(peak.split()[1]) <= MEMORY_KB_MAX, peak
