"""A stage for attempts: real folders, real runners, and programs that say what happens to them.

Programs report through a named pipe and are held by another, so a test waits for what happened and
never for a time; the deadline is reached only by a failure. Everything started bears a mark of its
own and is ended by it.
"""

import fcntl
import json
import os
import select
import shlex
import stat
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import msgspec

from gangline.core.evidence import verdict
from gangline.hosts import processes
from gangline.hosts.attempt_folder import MARK_VARIABLE
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.local import _PACKAGE_FOLDER, _RUNNER_CODE
from gangline.ports import Launch, Subject

DEADLINE_SECONDS = 30.0


def python_script_start():
    """The first lines of a Python script, also where the interpreter's path holds a space.

    A `#!` line cannot name such a path; so sh reads these lines as a command, Python as a string.
    """
    return f"#!/bin/sh\n'''exec' {shlex.quote(sys.executable)} -IS \"$0\" \"$@\"\n' '''\n"


PYTHON = python_script_start()
SHELL = "#!/bin/sh\n"


class Stage:
    """One area in a folder of its own, and what was started in it."""

    def __init__(self, folder):
        self.folder = folder
        self.area = folder / "area"
        self.work = folder / "work"
        self.area.mkdir()
        self.work.mkdir()
        self.wake = self.area / "wake"
        self.reports = folder / "reports"
        self.gate = folder / "gate"
        self.panes = folder / "panes"
        for pipe in (self.wake, self.reports, self.gate):
            os.mkfifo(pipe)
        # Opened for both: a program never waits to open them, and they never read as ended.
        both = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        self._wake = Lines(os.open(self.wake, both))
        self._reports = Lines(os.open(self.reports, both))
        self._gate = os.open(self.gate, both)
        self.folders = AttemptFolders(str(self.area), str(self.wake))
        self._marks = []
        self._runners = []

    def program(self, source, interpreter=SHELL):
        """An executable script; it gets the reports pipe as $1 and the gate as $2."""
        path = self.folder / f"program-{uuid.uuid4().hex}"
        path.write_text(interpreter + source)
        path.chmod(0o755)
        return str(path)

    def launch(self, source="exit 0\n", *, interpreter=SHELL, number=0, **changes):
        """A launch of a script with these contents."""
        program = changes.pop("program", None) or self.program(source, interpreter)
        mark = f"gangline-test-{uuid.uuid4().hex}"
        self._marks.append(mark)
        issue = changes.pop("issue", "1")
        settings = {
            "attempt_id": f"b1-{issue}-a{number}",
            "issue": issue,
            "title": "A title",
            "mark": mark,
            "cwd": str(self.work),
            "argv": (program, str(self.reports), str(self.gate)),
            "program": program,
            "prompt": "do it",
            "stdin": "none",
            "agent": "test",
            "environment": {MARK_VARIABLE: mark, "PATH": os.environ["PATH"]},
            "log_bytes": 100_000_000,
        }
        return Launch(**settings | changes)

    def prepare(self, launch, *, grace_seconds=5.0, **spec_changes):
        """Make the attempt's folder; the spec's own settings may be changed."""
        self.folders.prepare(launch)
        path = self.path(launch, "spec.json")
        spec = json.loads(path.read_text()) | {"graceSeconds": grace_seconds} | spec_changes
        path.write_text(json.dumps(spec))

    def path(self, launch, name=""):
        return Path(self.folders.path(launch.attempt_id)) / name

    def runner_argv(self, launch):
        """As hosts/local.py starts it."""
        code, path = _RUNNER_CODE, self.folders.path(launch.attempt_id)
        return [sys.executable, "-I", "-S", "-c", code, path, _PACKAGE_FOLDER, launch.mark]

    def start(self, launch, **options):
        """Start a runner whose pane is a file."""
        with self.panes.open("ab") as pane:
            settings = {
                "stdin": subprocess.DEVNULL,
                "stdout": pane,
                "stderr": pane,
                "start_new_session": True,
                "env": {MARK_VARIABLE: launch.mark, "INHERITED": "yes", "LC_ALL": "C"},
            }
            runner = subprocess.Popen(self.runner_argv(launch), **settings | options)
        self._runners.append(runner)
        return runner

    def run(self, launch, **spec_changes):
        """Prepare, run to the end, and give the record."""
        self.prepare(launch, **spec_changes)
        self.finish(self.start(launch))
        return self.record(launch)

    def finish(self, runner):
        """Wait for a runner's end; its exit status."""
        wait_until_gone(runner.pid)
        return runner.wait()

    def record(self, launch):
        return json.loads(self.path(launch, "exit.json").read_bytes())

    def pane(self):
        """What the runners have shown, all of it."""
        return self.panes.read_bytes()

    def log(self, launch):
        return self.path(launch, "output.log").read_bytes()

    def has(self, launch, name):
        return self.path(launch, name).exists()

    def report(self):
        """The next line that a program reports."""
        return self._reports.next()

    def no_report(self):
        """Whether nothing was reported that was not asked for."""
        return self._reports.empty()

    def hint(self):
        """The next line on the orchestrator's wake pipe."""
        return self._wake.next()

    def open_gate(self):
        """Let one program that reads the gate go on."""
        os.write(self._gate, b"go\n")

    def subject(self, launch, **changes):
        settings = {
            "attempt_id": launch.attempt_id,
            "issue": launch.issue,
            "number": int(launch.attempt_id.rpartition("-a")[2]),
            "mark": launch.mark,
            "server": None,
        }
        return Subject(**settings | changes)

    def evidence(self, launch, **changes):
        return self.folders.read(self.subject(launch, **changes))

    def verdict(self, launch, *, kill_ordered=False):
        return verdict(self.evidence(launch), kill_ordered=kill_ordered)

    def lock_is_held(self, launch):
        fd = os.open(self.path(launch, "lock"), os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(fd)

    def close(self):
        for mark in self._marks:
            processes.end_marked(mark, grace_seconds=0)
        for runner in self._runners:
            runner.kill()
            runner.wait()
            for pipe in (runner.stdin, runner.stdout, runner.stderr):
                if pipe:
                    pipe.close()
        for fd in (self._wake.fd, self._reports.fd, self._gate):
            os.close(fd)


class Lines:
    """Lines from a descriptor that does not block."""

    def __init__(self, fd):
        self.fd = fd
        self._rest = b""

    def next(self):
        while b"\n" not in self._rest:
            assert readable(self.fd), "no line came in time"
            self._rest += os.read(self.fd, 65_536)
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def empty(self):
        return not self._rest and not readable(self.fd, 0)


def readable(fd, seconds=DEADLINE_SECONDS):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def wait_until_gone(pid):
    """Wait for the end of a process; a zombie has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert readable(fd), f"process {pid} did not end in time"
    finally:
        os.close(fd)


def is_gone(pid):
    return processes.start_ticks(pid) is None


def comes_true(claim):
    """Ask again until it holds, for what tells nobody; False after the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not claim():
        if time.monotonic() > deadline:
            return False
        os.sched_yield()
    return True


def opened_the_lock(runner, path):
    """Whether the process holds the file open: the runner has come to the lock."""
    folder = f"/proc/{runner.pid}/fd"
    try:
        return any(os.readlink(f"{folder}/{fd}") == str(path) for fd in os.listdir(folder))
    except OSError:
        return False


def when_lock_is_free(path, look):
    """A thread that looks at the first instant at which the lock can be had; its findings."""
    found = []
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def wait():
        fcntl.flock(fd, fcntl.LOCK_SH)
        found.append(look())
        os.close(fd)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread, found


def write_file(path, text, mode=stat.S_IRUSR | stat.S_IWUSR):
    path.write_text(text)
    path.chmod(mode)
    return path


def changed(launch, **changes):
    return msgspec.structs.replace(launch, **changes)
