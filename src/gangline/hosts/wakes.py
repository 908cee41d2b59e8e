"""What wakes the orchestrator: a runner's hint, the death of a process, a control event, a signal.

All of them are hints: the files are the truth, and a slow timer re-reads them, so a lost hint costs
time and nothing else. The hints come through a named pipe in the area's folder: a line with an
issue's key from its runner, an empty line from a command that appended to the journal.
"""

import contextlib
import os
import selectors
import signal
import stat
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from gangline.hosts.processes import start_ticks
from gangline.ports import Wake

_PIPE_BYTES = 65536
_POLL_SECONDS = 1.0  # where there is no pidfd


class Watcher(Protocol):
    """Who is told which processes and descriptors are worth waking for."""

    def watch(self, issue: str, pid: int) -> None:
        """See Wakes."""

    def unwatch(self, issue: str) -> None:
        """See Wakes."""

    def watch_descriptor(
        self, fd: int | None, previous: int | None, drain: Callable[[], object]
    ) -> None:
        """See Wakes."""


class Unwatched:
    """The Watcher of one that only looks and never sleeps."""

    def watch(self, issue: str, pid: int) -> None:
        """Nothing is watched."""

    def unwatch(self, issue: str) -> None:
        """Nothing was watched."""

    def watch_descriptor(
        self, fd: int | None, previous: int | None, drain: Callable[[], object]
    ) -> None:
        """Nothing is watched."""


class Wakes:
    """One selector over everything that may wake the loop."""

    def __init__(self, pipe_path: str) -> None:
        self._path = pipe_path
        self._selector = selectors.DefaultSelector()
        self._watched: dict[str, tuple[int, int]] = {}  # issue -> (pidfd or -1, pid)
        self._missed: dict[str, int] = {}  # issue -> a pid that had ended when it was to be watched
        self._due: set[str] = set()
        self._signal: int | None = None
        self._pipe = self._open_pipe()
        self._selector.register(self._pipe, selectors.EVENT_READ, "pipe")
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._selector.register(self._wake_read, selectors.EVENT_READ, "signal")

    def _open_pipe(self) -> int:
        """The pipe, opened for both so that it never reads as ended."""
        if os.path.lexists(self._path) and not _is_pipe(self._path):
            _put_aside(self._path)
        if not os.path.lexists(self._path):
            os.mkfifo(self._path, 0o600)
        return os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def catch_signals(self) -> None:
        """INT, TERM and HUP become a reason to wake instead of an end."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number

    def watch(self, issue: str, pid: int) -> None:
        """Wake with this issue when the process ends (at once if it has)."""
        if pid in (self._watched.get(issue, (0, 0))[1], self._missed.get(issue)):
            return
        self.unwatch(issue)
        fd = -1
        if hasattr(os, "pidfd_open"):
            try:
                fd = os.pidfd_open(pid)
            except ProcessLookupError:
                self._missed[issue] = pid  # said once: a second time would be news of nothing
                self._due.add(issue)
                return
            except OSError:
                return  # no descriptor left: the timer will see it
            self._selector.register(fd, selectors.EVENT_READ, issue)
        self._watched[issue] = (fd, pid)

    def unwatch(self, issue: str) -> None:
        """Stop watching the issue's process."""
        self._missed.pop(issue, None)
        self._due.discard(issue)
        fd, _ = self._watched.pop(issue, (-1, 0))
        if fd >= 0:
            self._selector.unregister(fd)
            os.close(fd)

    def watch_descriptor(
        self, fd: int | None, previous: int | None, drain: Callable[[], object]
    ) -> None:
        """Have `drain` called when this descriptor is readable, instead of `previous`.

        For the tmux connection: what it tells unasked must be read, or it would wake for ever.
        Both may be the same number and yet two connections: it is registered anew in any case.
        """
        if previous is not None:
            # A closed descriptor is out of the selector already.
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._selector.unregister(previous)
        if fd is not None:
            self._selector.register(fd, selectors.EVENT_READ, drain)

    def wait(self, timeout_seconds: float) -> Wake:
        """Sleep until something happens or the time is over."""
        polled = [issue for issue, (fd, _) in self._watched.items() if fd < 0]
        if polled:
            timeout_seconds = min(timeout_seconds, _POLL_SECONDS)
        issues, self._due = self._due, set()
        if issues:
            timeout_seconds = 0.0
        journal = False
        for key, _ in self._selector.select(max(0.0, timeout_seconds)):
            if key.fd == self._pipe:
                hints = self._read_hints().decode("ascii", "replace").split("\n")
                issues.update(hint for hint in hints if hint)
                journal = journal or "" in hints[:-1]
            elif key.fd == self._wake_read:
                os.read(self._wake_read, 4096)
            elif callable(key.data):
                key.data()
            else:
                issues.add(key.data)
                self.unwatch(key.data)
        for issue in polled:
            if start_ticks(self._watched[issue][1]) is None:
                issues.add(issue)
                self.unwatch(issue)
        return Wake(issues, journal, self._signal)

    def _read_hints(self) -> bytes:
        """What is in the pipe; nothing where another orchestrator of the area was quicker.

        For an instant there are two, when somebody has deleted the lock file; each hint then goes
        to one of them, and the other sees its news at its next pass.
        """
        try:
            return os.read(self._pipe, _PIPE_BYTES)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Let go of everything."""
        for issue in list(self._watched):
            self.unwatch(issue)
        signal.set_wakeup_fd(-1)
        self._selector.close()
        for fd in (self._pipe, self._wake_read, self._wake_write):
            os.close(fd)


def _is_pipe(path: str) -> bool:
    return stat.S_ISFIFO(os.lstat(path).st_mode)


def _put_aside(path: str) -> None:
    """Keep what somebody put in the pipe's place: it is not ours to delete."""
    number = 1
    while os.path.lexists(kept := f"{path}.rejected-{number}"):
        number += 1
    os.rename(path, kept)


def hint(pipe_path: str) -> None:
    """Tell a living orchestrator, if there is one, that the journal has something new."""
    try:
        fd = os.open(pipe_path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    with contextlib.suppress(OSError):
        os.write(fd, b"\n")
    os.close(fd)
