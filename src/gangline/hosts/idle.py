"""Idle panes: agents go into the shells that the user has open beside the orchestrator.

A pane is idle while an interactive shell of ours waits in its foreground with nothing running below
it. What must stay true: a pane that is not certainly idle is not offered; it is taken by
test-and-set of a pane option, so at most one attempt goes into it; what is typed is one line that
bash, zsh, fish, dash and busybox ash read alike; and the orchestrator's own pane is never touched.
Whether the attempt then starts is not known here: its claim tells (DESIGN.md section 4).

What a shell shows of itself cannot tell a prompt from `read` in a start-up file: a line typed there
is swallowed, its attempt never claimed, and the fence gives it up.
"""

import os
import re
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from gangline.errors import ConfigError, MachineError
from gangline.hosts import processes, shells
from gangline.hosts.attempt_folder import MARK_VARIABLE, PANE_OPTION
from gangline.hosts.tmux import Tmux, pane_target
from gangline.hosts.tmux_control import (
    TmuxError,
    TmuxGoneError,
    TmuxRefusedError,
    TmuxUnknownError,
)
from gangline.hosts.tmux_server import ServerId

LAPSE_SECONDS = 90  # longer than a launch that is still waited for (10 s, doubled after each void)
LOOKS_APART_SECONDS = 0.03
# What a terminal takes as one line before a shell reads it: 4,096 on Linux, 1,024 on macOS.
LINE_BYTES_MAX = 4000 if sys.platform.startswith("linux") else 1000

_LAUNCHER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "launch.py")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]")
_MARK = re.compile(r"[A-Za-z0-9._-]+\Z")
_TAKEN = re.compile(r"(?P<mark>[A-Za-z0-9._-]+)@(?P<seconds>[0-9]{1,15})\Z")


class PaneLook(StrEnum):
    """What is seen of one pane, for attempts that Gangline did not start.

    IDLE: nothing runs in it. ABSENT is proven. UNKNOWN: it cannot be seen now.
    """

    ABSENT = "absent"
    IDLE = "idle"
    BUSY = "busy"
    UNKNOWN = "unknown"


class PaneTimes(NamedTuple):
    """Attributes: server_started: when the pane's tmux server was, in seconds of the epoch."""

    server_started: float


class _Pane(NamedTuple):
    pane: str
    session: str
    pid: int
    dead: bool
    deaf: bool  # its input is turned off: nothing can be typed
    taken: str  # PANE_OPTION; empty where it is not set
    command: str
    server: ServerId

    @classmethod
    def of(cls, cells: Sequence[str]) -> "_Pane":
        pane, session, pid, dead, deaf, taken, command, server_pid, started = cells
        server = ServerId(int(server_pid), int(started))
        return cls(pane, session, int(pid or 0), dead == "1", deaf == "1", taken, command, server)


_FORMATS = (
    *("#{pane_id}", "#{session_id}", "#{pane_pid}", "#{pane_dead}", "#{pane_input_off}"),
    *(f"#{{{PANE_OPTION}}}", "#{pane_current_command}", "#{pid}", "#{start_time}"),
)


class IdlePanes:
    """The idle panes of the session that holds one's own pane.

    Args:
        tmux: The server that the own pane is of; pane ids mean nothing on another.
        own_pane: Such as `$TMUX_PANE`; None outside of tmux.
    """

    def __init__(self, tmux: Tmux, own_pane: str | None) -> None:
        self._tmux = tmux
        self._own_pane = own_pane

    def find(self) -> list[str]:
        """The panes of the own session that are free and were seen idle twice, own pane excluded.

        They are in the order of the session's windows and panes.

        Raises:
            TmuxError: it cannot be known now.
        """
        if self._own_pane is None:
            return []
        first = self._free_panes()
        if not first:
            return []
        time.sleep(LOOKS_APART_SECONDS)
        again = set(self._free_panes())
        return [pane for pane in first if pane in again]

    def _free_panes(self) -> list[str]:
        try:
            panes = self._panes()
        except TmuxGoneError:
            return []
        sessions = {each.session for each in panes if each.pane == self._own_pane}
        candidates = {
            each.pane: each
            for each in panes
            if each.session in sessions and each.pane != self._own_pane and not each.deaf
        }
        now = processes.boot_seconds()  # after the options were read: none is of the future by us
        return [
            pane
            for pane, each in candidates.items()
            if (not each.taken or _has_lapsed(each.taken, now)) and self._runs_nothing(each)
        ]

    def take(self, pane: str, mark: str) -> bool:
        """Take a pane for the attempt of this mark; False: it is another's, or not there.

        A pane whose launcher died, or whose line was swallowed, is taken over once that has lapsed
        and it is idle. The old line may still run there after all: then the attempt protocol has
        its runner find the claim void, or the new one wait for the shell like any typed line.

        Raises:
            TmuxError: nobody knows whether it was taken.
        """
        _checked(mark)
        found = _named(pane, self._panes())
        if found is None:
            return False
        now = processes.boot_seconds()
        if found.taken:
            if not (_has_lapsed(found.taken, now) and self._runs_nothing(found)):
                return False
            self._unset_if_still(found)
        take = ["set-option", "-p", "-o", "-t", pane_target(pane)]  # -o: refused where it is set
        try:
            self._tmux.command(*take, PANE_OPTION, f"{mark}@{int(now)}")
        except TmuxRefusedError as error:
            if error.message.startswith(("already set", "can't find pane")):
                return False
            raise
        return True

    def release(self, pane: str, mark: str) -> None:
        """Give a pane back if it is still taken for this mark; one that is gone is no error.

        Raises:
            TmuxError: nobody knows whether it was given back; it lapses then.
        """
        _checked(mark)
        try:
            found = _named(pane, self._panes())
            if found is not None and _holder(found.taken) == mark:
                self._unset_if_still(found)
        except TmuxGoneError:
            return
        except TmuxRefusedError as error:
            if not error.message.startswith("can't find pane"):
                raise

    def _unset_if_still(self, seen: _Pane) -> None:
        """Unset the option unless it was changed since; its value is one of ours."""
        # One command, so nobody comes between the test and the act: tmux expands the option's name.
        condition = f"#{{==:#{{{PANE_OPTION}}},{seen.taken}}}"
        name = f"#{{?{condition},{PANE_OPTION},@gangline_nothing}}"
        self._tmux.command("set-option", "-p", "-q", "-u", "-t", pane_target(seen.pane), name)

    def type_launch(self, pane: str, mark: str, folder: str) -> None:
        """Type the line that runs the attempt in this folder; what was half typed is discarded.

        Never by Ctrl-C, which would break a start-up file that is still running. An editor like vi
        takes back with Ctrl-U only what is before the cursor, or was typed last; whatever its mode,
        one of two S empties the line and leaves it in the mode in which text is typed.

        Raises:
            ConfigError: see `launch_line`.
            TmuxError: nobody knows whether it was typed.
        """
        self._tmux.send_line(pane, launch_line(mark, folder), discard=True)

    def waits(self, pane: str) -> bool:
        """Whether the pane's shell waits at its prompt at this instant: one look.

        Raises:
            TmuxError: it cannot be known now.
        """
        found = _named(pane, self._panes())
        return found is not None and self._runs_nothing(found)

    def look(self, pane: str) -> tuple[PaneLook, PaneTimes | None]:
        """What runs in a pane, and the times of its server if one answered; never raises."""
        try:
            pane_target(pane)  # what is no id can be absent from no list of ids
            look, times = self._look_once(pane)
            if look is PaneLook.IDLE:  # a shell between two commands looks idle for an instant
                time.sleep(LOOKS_APART_SECONDS)
                look, times = self._look_once(pane)
        except TmuxGoneError:
            return PaneLook.ABSENT, None
        except (TmuxError, MachineError, ValueError):
            return PaneLook.UNKNOWN, None
        return look, times

    def _look_once(self, pane: str) -> tuple[PaneLook, PaneTimes | None]:
        panes = self._panes()
        times = PaneTimes(float(panes[0].server.start_time)) if panes else None
        found = _named(pane, panes)
        if found is None:
            return PaneLook.ABSENT, times
        idle = found.dead or self._runs_nothing(found)
        return PaneLook.IDLE if idle else PaneLook.BUSY, times

    def pane_holds(self, pane: str, server: ServerId, mark: str) -> bool | None:
        """Whether the pane of this life of the server is taken for the mark; None: unknown now."""
        try:
            found = _named(pane, self._panes())
        except TmuxGoneError:
            return False
        except (TmuxError, MachineError):
            return None
        return found is not None and found.server == server and _holder(found.taken) == mark

    def _panes(self) -> list[_Pane]:
        try:
            return [_Pane.of(cells) for cells in self._tmux.pane_table(_FORMATS)]
        except ValueError as error:
            raise TmuxUnknownError(f"tmux did not say which panes it has: {error}") from error

    def _runs_nothing(self, pane: _Pane) -> bool:
        if pane.dead or pane.pid <= 0:
            return False
        if not processes.HAS_PROC:
            return shells.waits_by_psutil(pane.pid, pane.command)
        try:
            return shells.waits_by_proc(pane.pid)
        except OSError as error:
            if error.errno in processes.ASKER_EXHAUSTED:
                raise TmuxUnknownError(f"a pane cannot be looked into: {error}") from error
            return False  # it has ended, or is not ours to look into


def launch_line(mark: str, folder: str) -> str:
    """The line that starts a runner, in any shell; a leading space keeps it out of the history.

    Raises:
        ConfigError: a path holds what cannot be typed, or is too long.
    """
    words = [f"{MARK_VARIABLE}={_checked(mark)}", _typed(sys.executable), "-I", "-S"]
    line = " ".join([" env", *words, _typed(_LAUNCHER), _typed(folder)])
    length = len(line.encode())
    if length > LINE_BYTES_MAX:
        raise _not_typeable(f"the line to type would have {length:,} bytes; {LINE_BYTES_MAX:,} fit")
    return line


def _typed(path: str) -> str:
    """A path as every shell reads it: quotes differ between shells, a backslash does not."""
    if not path.isprintable():  # surrogates too: bytes that are no UTF-8
        raise _not_typeable(f"the path {path!r} holds a character that cannot be typed")
    return "".join(
        [each if not each.isascii() or _PLAIN.match(each) else f"\\{each}" for each in path]
    )


def _not_typeable(message: str) -> ConfigError:
    return ConfigError(
        message,
        place="gangline.toml: batch.panes",
        hint='have Gangline make its own panes: panes = "managed"; or rename the folder',
    )


def _checked(mark: str) -> str:
    """The mark; it goes into a tmux format and a shell line as it is."""
    if not _MARK.match(mark):
        raise ValueError(f"{mark!r} is no attempt's mark")
    return mark


def _named(pane: str, panes: Sequence[_Pane]) -> _Pane | None:
    return next((each for each in panes if each.pane == pane), None)


def _holder(taken: str) -> str | None:
    """The mark of the attempt that a pane with this option is taken for."""
    found = _TAKEN.match(taken)
    return found["mark"] if found else None


def _has_lapsed(taken: str, now_seconds: float) -> bool:
    """Whether it was taken too long ago to be waited for, or in another boot of the machine.

    What Gangline did not write stays somebody else's for ever.
    """
    found = _TAKEN.match(taken)
    if found is None:
        return False
    return not 0 <= now_seconds - int(found["seconds"]) <= LAPSE_SECONDS
