"""`gangline demo` as a newcomer runs it: it proves what it claims, and is gone without a trace."""

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from gangline.demo import play as demo
from gangline.demo.ledger import Ledger, Line
from gangline.errors import MachineError

SAFETY_SECONDS = 180.0  # reached only by a test that fails
COMMAND = [sys.executable, "-m", "gangline", "demo"]
ONCE = [Line(word, issue, int(issue)) for issue in demo.ISSUES for word in ("start", "end")]


@pytest.fixture
def room(tmp_path):
    """A folder for temporary files; whatever still lives below it is ended, by its id."""
    folder = tmp_path / "room"
    folder.mkdir()
    yield folder
    for pid in processes(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def environment(room, **more):
    """A user whose tmux, repository and git settings would spoil the demo if they were heeded."""
    home = room.parent / "home"
    home.mkdir(exist_ok=True)
    (home / ".gitconfig").write_text(
        '[commit]\n gpgSign = true\n[init]\n defaultBranch = "trunk"\n[core]\n hooksPath = hooks\n'
        "[merge]\n ff = only\n[user]\n useConfigOnly = true\n"
    )
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "TMPDIR": str(room),
        "TMUX": "/nonexistent/socket,1,0",
        "TMUX_PANE": "%0",
        "GIT_DIR": "/nonexistent/repository",
        "GANGLINE_MARK": "of another attempt",
        **more,
    }


def processes(room):
    """The living processes whose environment or command line names the room."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if int(entry.name) == os.getpid():
            continue
        with suppress(OSError):
            words = (entry / "cmdline").read_bytes()
            if os.fsencode(room) in words + b"\0" + (entry / "environ").read_bytes():
                found[int(entry.name)] = os.fsdecode(words.replace(b"\0", b" "))
    return found


def sockets(room):
    return [path for path in room.rglob("*") if path.is_socket()]


class Terminal:
    """The demo on a pseudo terminal, leading a process group as a shell's foreground job does."""

    def __init__(self, env, *arguments):
        self.text = ""
        self._fd, terminal = pty.openpty()
        self._process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=env,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
        )
        os.close(terminal)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.wait()
        os.close(self._fd)

    def read(self, until=None):
        """Read to where `until` was printed, or to the end."""
        deadline = time.monotonic() + SAFETY_SECONDS
        while until is None or until not in self.text:
            left = deadline - time.monotonic()
            assert left > 0, self.text
            if not select.select([self._fd], [], [], left)[0]:
                continue
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # EIO: nobody has the terminal any more
                data = b""
            if not data:
                assert until is None, self.text
                break
            self.text += data.decode()
        return self.text

    def signal(self, number):
        os.killpg(self._process.pid, number)

    def wait(self):
        return self._process.wait(SAFETY_SECONDS)


def test_through_a_pipe_the_demo_proves_its_claims_and_leaves_nothing(room):
    done = subprocess.run(
        COMMAND,
        env=environment(room),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SAFETY_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for fact in (
        "14 of its 16 tests fail",
        "8 issues are to mend it",
        "Beginning batch",
        "no orchestrator lives, ",
        "Resuming batch",
        "While no orchestrator lived:",
        "ok: 8 issues, 8 starts, 8 ends: nothing ran twice, nothing was lost",
        "ok: 16 tests passed; at the beginning 14 failed",
        "8 completed",
        "nothing is left behind",
    ):
        assert fact in done.stdout
    assert re.search(r"kill -9 \d+: no orchestrator lives, [1-3] agents? at work", done.stdout)
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80 + len(str(room))
    assert processes(room) == {}
    assert list(room.iterdir()) == []


def test_on_a_terminal_keep_leaves_the_repository_and_nothing_that_runs(room):
    deep = room / ("deep" * 20)  # no socket's path can be as long
    deep.mkdir()
    with Terminal(environment(room, TMPDIR=str(deep)), "--keep") as terminal:
        text = terminal.read()
        assert terminal.wait() == 0, text
    assert "\x1b[1m" in text
    assert "nothing ran twice, nothing was lost" in text
    assert "CHECK FAILED" not in text
    (place,) = deep.iterdir()
    assert " " in place.name
    assert f"Kept: cd '{place}/repository' && gangline status demo" in text
    assert processes(room) == {}
    assert sockets(room) == []

    settings = tomllib.loads((place / "repository" / "gangline.toml").read_text())
    assert not Path(settings["tmux"]["socket"]).parent.exists()
    user = environment(room)
    del user["GIT_DIR"]
    status = subprocess.run(
        [sys.executable, "-m", "gangline", "status", "demo"],
        cwd=place / "repository",
        env=user,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "8 completed" in status.stdout
    log = subprocess.run(
        ["git", "log", "--format=%an %s", "main"],
        cwd=place / "repository",
        env=user,
        capture_output=True,
        text=True,
        check=True,
    )
    merged = re.findall(r"^Gangline demo Merge gangline/demo/issue-(.)$", log.stdout, re.MULTILINE)
    assert set(merged) == set("1234567")
    assert "Gangline demo Wire up the command" in log.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["tests fail", "#3 runs in pane", "no orchestrator lives"])
def test_an_interruption_leaves_nothing(room, moment, number):
    with Terminal(environment(room)) as terminal:
        terminal.read(until=moment)
        terminal.signal(number)
        text = terminal.read()
        assert terminal.wait() == 130, text
    assert "Traceback" not in text
    assert "Took" not in text
    assert processes(room) == {}
    assert list(room.iterdir()) == []


def test_a_second_interruption_does_not_stop_the_taking_down(room):
    with Terminal(environment(room)) as terminal:
        terminal.read(until="#3 runs in pane")
        terminal.signal(signal.SIGINT)
        terminal.signal(signal.SIGTERM)
        terminal.signal(signal.SIGINT)
        assert terminal.wait() == 130
    assert processes(room) == {}
    assert list(room.iterdir()) == []


@pytest.mark.parametrize("missing", ["tmux", "git"])
def test_without_a_program_it_says_which_and_leaves_nothing(room, tmp_path, missing):
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in {"tmux", "git"} - {missing}:
        (programs / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        COMMAND,
        env=environment(room, PATH=str(programs)),
        capture_output=True,
        text=True,
        timeout=SAFETY_SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert f"machine error: {missing} is not" in done.stderr
    assert "hint: install" in done.stderr
    assert list(room.iterdir()) == []


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        ([*ONCE, Line("start", "3", 99)], "#3 was started 2 times"),
        ([line for line in ONCE if line.issue != "5"], "#5 was started 0 times"),
        ([line for line in ONCE if line != ("end", "5", 5)], "#5 was started once and ended 0"),
        ([*ONCE, Line("end", "5", 5)], "#5 was started once and ended 2 times"),
        ([*ONCE, Line("start", "9", 9)], "#9 ran and is no issue"),
        (
            [Line("end", "2", 99) if line == ("end", "2", 2) else line for line in ONCE],
            "#2 was ended by another process than",
        ),
    ],
)
def test_the_log_tells_what_ran_twice_or_was_lost(lines, fault):
    (found,) = Ledger(lines).faults(demo.ISSUES)
    assert fault in found


def test_the_log_of_a_right_run_has_no_fault():
    assert Ledger(ONCE).faults(demo.ISSUES) == []


def test_a_claim_that_does_not_hold_is_said_and_counted(capsys):
    checks = demo.Checks()
    demo._check_agents(checks, Ledger([*ONCE, Line("start", "3", 99)]), {"3": 3})
    assert checks.failed == 1
    demo._check_agents(checks, Ledger(ONCE), {"3": 99})
    assert checks.failed == 2
    demo._check_record(checks, ["12:00:00 #1 completed"], {"1"}, 0)
    assert checks.failed == 4
    said = capsys.readouterr().out
    assert said.count("CHECK FAILED") == 4
    assert "#3 was started 2 times" in said


def test_a_demo_whose_claims_do_not_hold_exits_with_1(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(demo, "_story", lambda stage: 1)
    assert demo.play(keep=False) == 1
    assert list(tmp_path.iterdir()) == []


def test_failures_and_errors_of_the_programs_tests_are_both_counted():
    printed = "..E\nRan 16 tests in 0.004s\n\nFAILED (failures=5, errors=9)\n"
    assert (demo.Tests(printed).total, demo.Tests(printed).failed) == (16, 14)
    assert demo.Tests("Ran 1 test in 0.1s\n\nOK\n").failed == 0


def test_tests_that_cannot_be_run_are_no_success():
    with pytest.raises(MachineError, match="cannot be run"):
        demo.Tests("No module named unittest")
