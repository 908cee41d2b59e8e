"""An interactive agent: its own TUI on the pane's terminal, its end told by its hooks.

Nothing of such an agent passes through the runner. Its output is on the terminal, and comes to the
log through a pipe of tmux (hosts/runner_pane_log.py). That a turn has ended, that it waits for a
person or has failed, its hooks write into progress.json (agents/hooks.py) and then poke the runner.

A TUI does not end by itself when its work is done, so the end of a turn ends the attempt: after a
grace, in which a new prompt cancels it, the agent is ended politely and its exit code recorded as
0, or as 1 if its turn has failed. What must stay true: a turn that was cancelled, and one that
ended with a question open, ends nothing; an agent that ends by itself is recorded as it ended.

Imported before the agent starts, but only for an interactive attempt.
"""

import _signal  # type: ignore[import-not-found] # see hosts/runner_start.py
import os
import select
import time

from gangline.agents.hooks_file import POKE
from gangline.hosts.attempt_folder import PROGRESS, Attempt, parse_json
from gangline.hosts.runner_dialogs import Dialogs
from gangline.hosts.runner_end import as_record, end_agent, signal_group, wake
from gangline.hosts.runner_pane_log import PaneLog
from gangline.hosts.runner_session import LOOK_MS as _SESSION_LOOK_MS
from gangline.hosts.runner_session import SessionFinder
from gangline.hosts.runner_start import Signals
from gangline.hosts.runner_terminal import RESET, Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_READ_BYTES = 65536
_LOOK_MS = 2000  # between two looks at progress.json, should a poke be lost
_TURN_GRACE_SECONDS = 5.0
_CONVERSATION_BYTES_MAX = 4_000_000
_HINTED = ("session", "limited", "limitedUntil", "needs", "failure", "failureKind")
# By these a terminal stops a job; nobody here could say `fg`.
_BY_TERMINAL = (_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU)
_IS_STOPPED = b"\r\n[gangline] the agent is stopped; Enter lets it go on\r\n"


class Interactive:
    """One agent on the pane's terminal, from its start to its end.

    Raises:
        OSError: the runner has no terminal.
    """

    def __init__(self, attempt: Attempt, spec: "dict[str, Any]", signals: Signals) -> None:
        self._attempt = attempt
        self._spec = spec
        self._signals = signals
        self._terminal = Terminal()
        self._log = PaneLog(attempt)
        self._dialogs = Dialogs(attempt)
        self._poke = _open_poke(attempt)
        self._turn = Turn(attempt, spec.get("turnGraceSeconds", _TURN_GRACE_SECONDS))
        self._poller = select.poll()
        self._interrupts_passed = 0
        self._is_stopped = False

    def start(self, program: str, argv: list[str], environment: dict[bytes, bytes]) -> int:
        """Start the agent; its pid and group.

        Raises:
            ValueError: it cannot be executed.
        """
        self._log.start()
        return self._terminal.spawn(program, argv, environment)

    def watch(
        self,
        pid: int,
        mark: str,
        log: "Callable[[bytes], None]",
        show: "Callable[[bytes], None]",
    ) -> "dict[str, Any]":
        """Watch the agent to its end; how it ended, as exit.json says it.

        Args:
            pid: The agent, and its group.
            mark: The attempt's mark.
            log: Takes what the pane shows.
            show: Tells the person something.
        """
        for fd in (self._signals.wake_read, self._poke, self._log.fd):
            if fd >= 0:
                self._poller.register(fd, select.POLLIN)

        def status() -> "dict[str, Any] | None":
            return self._status(pid, show)

        def attend(patience_ms: int) -> None:
            self._attend(pid, patience_ms, log)

        session = SessionFinder(self._attempt, mark, pid)
        while True:
            ended = status()
            if ended is not None:
                return ended
            session.look()
            self._dialogs.look()
            if self._turn.look():
                wake(self._spec)
            is_over = self._turn.is_over()
            if self._signals.ending or is_over:
                signal_group(pid, _signal.SIGCONT)
                ended = end_agent(pid, mark, self._spec["graceSeconds"], status, attend)
                return {"code": self._turn.code, "turn": True} if is_over else ended
            self._pass_interrupts(pid)
            patience_ms = self._dialogs.patience_ms(self._turn.patience_ms())
            attend(min(patience_ms, _SESSION_LOOK_MS) if session.is_looking else patience_ms)

    def finish(self, log: "Callable[[bytes], None]") -> bytes:
        """The agent has ended: take the terminal back; what the pane needs to be itself again."""
        self._terminal.take()
        self._log.stop(log)
        try:
            os.unlink(POKE, dir_fd=self._attempt.fd)
        except OSError:
            pass  # whoever deleted it
        return RESET

    def _attend(self, pid: int, patience_ms: int, log: "Callable[[bytes], None]") -> None:
        """Wait until something happens, and take what has come."""
        for fd, _ in self._poller.poll(patience_ms):
            try:
                data = os.read(fd, _READ_BYTES)
            except BlockingIOError:
                continue
            except OSError:  # the pane is gone
                data = b""
            if fd == self._log.fd:
                log(data)
                self._dialogs.shown()
            if fd == self._terminal.fd and self._is_stopped:
                self._continue(pid)
                signal_group(pid, _signal.SIGCONT)
            elif not data:
                self._poller.unregister(fd)

    def _pass_interrupts(self, pid: int) -> None:
        """Ctrl-C goes to the agent by itself; this is one that a person sent to the runner."""
        while self._interrupts_passed < self._signals.interrupts:
            self._interrupts_passed += 1
            signal_group(pid, _signal.SIGINT)

    # -- stopped and continued -------------------------------------------------------------

    def _status(self, pid: int, show: "Callable[[bytes], None]") -> "dict[str, Any] | None":
        """How the agent ended, or None while it lives; reaps others, sees to one that stopped."""
        ended: dict[str, Any] | None = None
        while True:
            try:
                found, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return ended
            if found == 0:
                return ended
            if found != pid:
                continue
            if os.WIFSTOPPED(status):
                self._stopped(pid, os.WSTOPSIG(status), show)
            elif os.WIFCONTINUED(status):
                self._continue(pid)
            else:
                ended = as_record(status)

    def _stopped(self, pid: int, number: int, show: "Callable[[bytes], None]") -> None:
        """An agent that the terminal stopped goes on; one that was stopped otherwise is shown.

        Some TUIs answer Ctrl-Z by STOP, and a person may have sent one on purpose.
        """
        if number in _BY_TERMINAL:
            self._continue(pid)
            self._terminal.give(pid)
            signal_group(pid, _signal.SIGCONT)
        elif not self._is_stopped:
            self._is_stopped = True
            self._terminal.lend_to_person()
            self._poller.register(self._terminal.fd, select.POLLIN)
            show(_IS_STOPPED)

    def _continue(self, pid: int) -> None:
        if self._is_stopped:
            self._is_stopped = False
            self._poller.unregister(self._terminal.fd)
            self._terminal.give(pid)


class Turn:
    """What progress.json tells of the agent's turn.

    Attributes:
        code: The exit code that the end of the turn stands for.
    """

    def __init__(self, attempt: Attempt, grace_seconds: float) -> None:
        self._attempt = attempt
        self._grace_seconds = grace_seconds
        self._seen: tuple[int, int] | None = None
        self._told: dict[str, Any] = {}
        self._deadline: float | None = None
        self.code = 0

    def look(self) -> bool:
        """Read progress.json if it has changed; whether the orchestrator should hear of it."""
        try:
            found = os.stat(PROGRESS, dir_fd=self._attempt.fd)
            seen = (found.st_ino, found.st_mtime_ns)
            if seen == self._seen:
                return False
            told = parse_json(self._attempt.read(PROGRESS))
        except (OSError, ValueError, StopIteration):
            return False  # no hook has told anything yet, or nobody can know
        self._seen = seen
        if not isinstance(told, dict):
            return False
        before, self._told = self._told, told
        has_failed = told.get("failure") is not None or told.get("limited") is True
        self.code = 1 if has_failed else 0
        if told.get("turnEnded") is not True:
            self._deadline = None
        elif before.get("turnEnded") is not True or before.get("turns") != told.get("turns"):
            self._deadline = time.monotonic() + self._grace_seconds
        return any(told.get(name) != before.get(name) for name in _HINTED)

    def is_over(self) -> bool:
        """Whether the turn has ended, and nobody began another in the grace."""
        if self._deadline is None or time.monotonic() < self._deadline:
            return False
        if _has_begun_again(self._told.get("again")):
            self._deadline = None  # until the end of that one is told
        return self._deadline is not None

    def patience_ms(self) -> int:
        """How long may be waited before the next look."""
        if self._deadline is None:
            return _LOOK_MS
        left_ms = int((self._deadline - time.monotonic()) * 1000) + 1
        return max(0, min(_LOOK_MS, left_ms))


def _has_begun_again(again: "Any") -> bool:
    """Whether a text has come into a file since a turn ended, by which its agent begins one."""
    try:
        path, begin, text = again["path"].encode(), again["from"], again["text"].encode()
        with open(path, "rb") as file:
            file.seek(begin)
            return text in file.read(_CONVERSATION_BYTES_MAX)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False  # its hooks say nothing of the kind


def _open_poke(attempt: Attempt) -> int:
    """The pipe by which a hook says that it has told something; opened for both, so never ended."""
    try:
        os.mkfifo(POKE, 0o600, dir_fd=attempt.fd)
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(POKE, flags, dir_fd=attempt.fd)
    except OSError:
        return -1  # it is looked at every now and then in any case
