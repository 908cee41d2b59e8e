"""The runner's long half: copy what the agent prints, end it when told, reap, record, wake.

Imported when the agent already runs. Step 5 of the attempt protocol (DESIGN.md section 4) is
`_end`: exit.json is made durable only when no process of the attempt is left, and the orchestrator
is woken after that; the wake is a hint, the files are the truth. A short agent waits for these
imports, so `typing`, `contextlib` and `json` are not among them.
"""

import fcntl
import os
import select
import time

from gangline.core.text import harmless
from gangline.hosts.attempt_folder import MARK_VARIABLE, OUTPUT, Attempt
from gangline.hosts.processes import end_marked, wall_time
from gangline.hosts.runner_account import Account
from gangline.hosts.runner_end import (
    end_agent,
    exit_status,
    has_succeeded,
    keep_or_give_back_pane,
    last_words,
    no_children,
    record_end,
    signal_group,
    wake,
)
from gangline.hosts.runner_start import Signals, start_step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from gangline.hosts.runner_interactive import Interactive

_READ_BYTES = 65536
_SIGINT = 2
_PANE_PATIENCE_SECONDS = 1.0
_PANE_POLL_SECONDS = 0.002
_PIPE_BYTES = 65536  # where the system does not tell


class Watch:
    """One attempt from the agent's first instruction to exit.json."""

    def __init__(
        self,
        attempt: Attempt,
        spec: "dict[str, Any]",
        signals: Signals,
        environment: dict[bytes, bytes],
        interactive: "Interactive | None" = None,
        *,
        is_reaper: bool,
    ) -> None:
        self._attempt = attempt
        self._spec = spec
        self._signals = signals
        self._environment = environment
        self._mark = environment.get(MARK_VARIABLE.encode(), b"").decode()
        self._log_left: int = spec["logBytes"]
        self._log_cut = False
        self._pane: int | None = _open_pane()
        self._pane_patience_seconds = _PANE_PATIENCE_SECONDS
        self._account = Account(attempt, lambda: wake(spec))
        self._interactive = interactive
        self._log = self._open_log()
        self._interrupts_passed = 0
        self._session = 0
        self._is_reaper = is_reaper

    def run(self, pid: int, output: int, output_write: int, lock: int, problem: str | None) -> int:
        """Watch the steps to their end, record it, wake the orchestrator; the exit status."""
        record: dict[str, Any] = {}
        if pid == 0:
            record["refused"] = problem
        elif not self._spec.get("setup"):
            self._read_agent()
        while pid:
            self._session = pid
            record = self._watch_step(pid, output) if self._is_piped() else self._attend_person(pid)
            pid = 0
            setup = self._spec.pop("setup", None)
            if setup and self._signals.ending:
                record = {"refused": "the runner was told to end before it started the agent"}
            elif setup:
                self._drain(output)  # before the reader, which knows only what an agent prints
                pid, record = self._after_setup(setup, record, output_write)
        if self._interactive is not None:
            self._show(self._interactive.finish(self._write_log))
        if output_write >= 0:
            os.close(output_write)
            self._drain(output)
            self._show(self._account.finish(record.get("code")))
        self._end(record, lock)
        self._last_words(record)
        return 0 if has_succeeded(record) else 1

    def _after_setup(
        self, setup: "dict[str, Any]", record: "dict[str, Any]", output: int
    ) -> "tuple[int, dict[str, Any]]":
        """Go on to the agent if the worktree's setup command succeeded."""
        if record.get("code") != 0:
            return 0, {**record, "refused": "the workspace's setup command failed"}
        try:
            with open(setup["done"], "wb"):
                pass
        except OSError:
            pass  # then it runs once more next time, as after a crash just here
        on_terminal = self._interactive.start if self._interactive else None
        pid, problem = start_step(self._attempt, self._spec, self._environment, output, on_terminal)
        if pid:
            self._read_agent()
        return pid, {} if pid else {"refused": problem}

    def _is_piped(self) -> bool:
        return self._interactive is None or bool(self._spec.get("setup"))

    def _attend_person(self, pid: int) -> "dict[str, Any]":
        """Watch an agent on the terminal."""
        assert self._interactive is not None
        return self._interactive.watch(pid, self._mark, self._write_log, self._show)

    def _read_agent(self) -> None:
        if self._interactive is not None:
            return  # its hooks tell
        self._account.read_with(self._spec.get("reader"), self._spec["cwd"])

    # -- while it runs ---------------------------------------------------------------------

    def _watch_step(self, pid: int, output: int) -> "dict[str, Any]":
        poller = select.poll()
        poller.register(output, select.POLLIN)
        poller.register(self._signals.wake_read, select.POLLIN)
        while True:
            status = exit_status(pid)
            if status is not None:
                return status
            if self._signals.ending:
                return self._end_agent(pid, poller, output)
            self._pass_interrupts(pid)
            self._attend(poller, output, self._account.patience_ms())
            self._account.write_if_due()

    def _attend(self, poller: select.poll, output: int, patience_ms: int | None) -> None:
        """Wait until something happens, and copy what the agent printed."""
        for fd, _ in poller.poll(patience_ms):
            if fd == output:
                self._copy(os.read(output, _READ_BYTES))
            else:
                os.read(fd, _READ_BYTES)

    def _end_agent(self, pid: int, poller: select.poll, output: int) -> "dict[str, Any]":
        return end_agent(
            pid,
            self._mark,
            self._spec["graceSeconds"],
            lambda: exit_status(pid),
            lambda patience_ms: self._attend(poller, output, patience_ms),
        )

    def _pass_interrupts(self, pid: int) -> None:
        """Ctrl-C in the pane is meant for the agent."""
        while self._interrupts_passed < self._signals.interrupts:
            self._interrupts_passed += 1
            signal_group(pid, _SIGINT)

    def _copy(self, data: bytes) -> None:
        self._write_log(data)
        self._show(self._account.feed(data))

    def _open_log(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        try:
            return os.open(OUTPUT, flags, 0o600, dir_fd=self._attempt.fd)
        except OSError as error:  # the agent runs already
            self._log_cut = True
            self._show(f"[gangline] there is no output.log: {error.strerror}\r\n".encode())
            return -1

    def _write_log(self, data: bytes) -> None:
        if self._log_cut:
            return
        kept = data[: self._log_left]
        self._log_left -= len(kept)
        if len(kept) < len(data):
            self._log_cut = True
            kept += b"\n[gangline] cut here: the log has reached [batch] log_mb\n"
        try:
            while kept:
                kept = kept[os.write(self._log, kept) :]
        except OSError as error:  # the disk is full: the agent's work matters more than its log
            self._log_cut = True
            self._show(f"\r\n[gangline] output.log ends here: {error.strerror}\r\n".encode())

    def _show(self, data: bytes) -> None:
        """Write to the pane; a pane that is gone or hangs must not hold up the agent."""
        if self._pane is None:
            return
        poller = select.poll()
        poller.register(self._pane, select.POLLOUT)
        deadline = time.monotonic() + self._pane_patience_seconds
        try:
            while data:
                ready = poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
                try:
                    if ready:
                        data = data[os.write(self._pane, data[:4096]) :]
                        self._pane_patience_seconds = _PANE_PATIENCE_SECONDS
                except BlockingIOError:  # room for a byte, but not for the end of a line
                    time.sleep(_PANE_POLL_SECONDS)
                if time.monotonic() >= deadline:
                    self._pane_patience_seconds = 0.0
                    return
        except OSError:
            self._pane = None

    def _drain(self, output: int) -> None:
        """Copy what the agent left in the pipe; no more, for a leftover may write on for ever."""
        os.set_blocking(output, False)
        sized = hasattr(fcntl, "F_GETPIPE_SZ")
        left = fcntl.fcntl(output, fcntl.F_GETPIPE_SZ) if sized else _PIPE_BYTES
        try:
            while left > 0 and (data := os.read(output, min(left, _READ_BYTES))):
                left -= len(data)
                self._copy(data)
        except BlockingIOError:
            pass

    # -- when it has ended -----------------------------------------------------------------

    def _end(self, record: "dict[str, Any]", lock: int) -> None:
        if "refused" in record:
            record["refused"] = harmless(record["refused"])
        if self._signals.ending and "turn" not in record:  # else its work was done before
            record["runnerSignal"] = self._signals.ending
        if self._log_cut:
            record["logCut"] = True
        if self._session and not (self._is_reaper and no_children()):
            end_marked(
                self._mark,
                session=self._session,
                grace_seconds=self._spec["graceSeconds"],
                reap=no_children,
            )
        record["endedAt"] = wall_time()
        record_end(self._attempt, record, self._account.settle, self._show)
        os.close(lock)
        wake(self._spec)

    def _last_words(self, record: "dict[str, Any]") -> None:
        """Say in the pane how it ended, and keep the pane if the settings want it kept.

        In an idle pane it is always said, for the pane stays and its person sees the shell again;
        how long that pane stays is the person's own affair.
        """
        is_borrowed = self._spec.get("idlePane", False)
        keep = self._spec["keepCompleted" if has_succeeded(record) else "keepFailed"]
        if not is_borrowed and (not keep or self._signals.ending):
            return
        line = harmless(last_words(self._attempt.path, self._spec, record))
        self._show(f"\r\n{line}\r\n".encode())
        keep_or_give_back_pane(is_borrowed=is_borrowed)


def _open_pane() -> int:
    """The pane, opened anew so that writing never waits: a terminal that is stopped takes nothing.

    Written 4 KB at a time after a poll, a pipe does not wait either.
    """
    try:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        return os.open(os.ttyname(1), flags)
    except OSError:
        return 1
