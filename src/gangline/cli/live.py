"""The live view of `run` on a terminal: progress, what runs now, and its last words.

It only looks. The lines of what happened scroll by above it, so that a copy of the terminal tells
the same story as a log, and at the end nothing of the view is left. It draws at most twice a second
and only what has changed, so a batch that waits costs nothing.

It writes the few escapes itself: rich takes 100 ms to load and 8 ms to draw twenty issues, and does
not know that a terminal made narrower has wrapped what was drawn, so it leaves remnants
(measured with rich 14). The cursor is never hidden, so a `kill -9` leaves a usable terminal.
"""

import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any, Self

from gangline.app.views import read_progress
from gangline.cli.lines import Lines
from gangline.cli.standing import condition_words
from gangline.cli.table import cells, cut, duration, seconds_between, table
from gangline.core.batch import Batch
from gangline.core.events import AnyEvent
from gangline.core.issue import Attempt
from gangline.core.model import TERMINAL, Status
from gangline.core.text import harmless, one_line
from gangline.hosts.processes import wall_time

_DRAW_SECONDS_MIN = 0.5
_TICK_SECONDS = 1.0  # while something runs: its time goes on
_TAIL_BYTES = 2048
_ROWS_MAX = 20
_BAR_CELLS = 40
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_ERASE_BELOW = "\r\x1b[J"
# What agents colour and draw with (ECMA-48 CSI, OSC): not shown, not even as marks.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-B])")


def can_draw() -> bool:
    """Whether stdout is a terminal that can move its cursor, and this runs in its foreground."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return False
    try:
        return os.tcgetpgrp(sys.stdout.fileno()) == os.getpgrp()
    except OSError:
        return False


class LiveView(Lines):
    """Lines above, a table of the running issues below; a context manager around the run.

    Args:
        attempts_folder: Where the attempts' logs are.
    """

    refresh_seconds: float | None = None

    def __init__(self, attempts_folder: str) -> None:
        super().__init__()
        self._attempts = attempts_folder
        self._colours = not os.environ.get("NO_COLOR")
        self._lines: list[str] = []  # to be shown with the next drawing
        self._drawn: list[str] = []
        self._columns = 0
        self._due = 0.0  # monotonic seconds
        self._tails: dict[str, tuple[int, str]] = {}
        self._modes: list[Any] | None = None  # of the terminal, as it was found

    def __enter__(self) -> Self:
        # A wake-up is all that is wanted: the loop draws whenever it has been woken.
        signal.signal(signal.SIGWINCH, self._resized)
        signal.signal(signal.SIGCONT, self._continued)
        self._silence()
        return self

    def __exit__(self, *error: object) -> None:
        self._write("")
        self._drawn = []
        if self._modes is not None:
            _set_modes(self._modes)
        signal.signal(signal.SIGWINCH, signal.SIG_DFL)
        signal.signal(signal.SIGCONT, signal.SIG_DFL)

    def say(self, text: str) -> None:
        """A line above the table, with the next drawing."""
        self._lines.append(harmless(text))

    def happened(self, batch: Batch, events: Sequence[AnyEvent], *, away: bool = False) -> None:
        """Lines, and the table."""
        super().happened(batch, events, away=away)
        self.refresh(batch)

    def refresh(self, batch: Batch) -> None:
        """Draw, unless that was done less than half a second ago; the loop asks again then."""
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _DRAW_SECONDS_MIN
            self._draw(batch)
        if self._lines:
            self.refresh_seconds = _DRAW_SECONDS_MIN
        else:
            self.refresh_seconds = _TICK_SECONDS if batch.dispatched else None

    # -- the terminal ----------------------------------------------------------------------

    def _silence(self) -> None:
        """What is typed is not echoed into the table; Ctrl-C and Ctrl-Z work as ever."""
        import termios  # noqa: PLC0415 - not needed where nothing is drawn

        try:
            modes = termios.tcgetattr(sys.stdout.fileno())
        except termios.error:
            return
        self._modes = modes
        silent = list(modes)
        silent[3] &= ~termios.ECHO
        _set_modes(silent)

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self._due = 0.0

    def _continued(self, number: int, frame: FrameType | None) -> None:
        """After Ctrl-Z and `fg`: the shell has written below the table, so a new one is begun."""
        self._drawn = []
        self._due = 0.0
        self._silence_again()

    def _silence_again(self) -> None:
        modes = self._modes
        if modes is not None and can_draw():
            self._silence()
            self._modes = modes

    def _draw(self, batch: Batch) -> None:
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            return  # the terminal has gone; a signal says so too
        columns, height = size.columns or 80, size.lines or 24  # some terminals do not tell
        view = self._view(batch, max(20, columns), height)
        if self._lines or view != self._drawn or columns != self._columns:
            self._write("".join(f"{line}\n" for line in view), columns)
            self._drawn = view

    def _write(self, view: str, columns: int | None = None) -> None:
        """Put what happened since, and the view, in the place of the last view; in one piece."""
        columns = columns or self._columns or 80
        # A terminal that became narrower has wrapped what was wider. What it pushed into its
        # history meanwhile stays there.
        rows = sum(max(1, -(-_cells(line) // columns)) for line in self._drawn)
        lines = "".join(f"{line}\n" for line in self._lines)
        self._lines = []
        self._columns = columns
        up = f"\x1b[{rows}A" if rows else ""
        try:
            sys.stdout.write((up + _ERASE_BELOW if rows else "") + lines + view)
            sys.stdout.flush()
        except OSError:
            self._modes = None  # the terminal has gone; the run goes on to its orderly end

    # -- what is shown ---------------------------------------------------------------------

    def _view(self, batch: Batch, width: int, height: int) -> list[str]:
        """The lines of the view: fewer than the terminal has, none wider than it."""
        return [self._progress(batch, width), *self._running(batch, width, height)]

    def _progress(self, batch: Batch, width: int) -> str:
        done = sum(len(batch.by_status[status]) for status in TERMINAL)
        total = len(batch.issues)
        words = [f"{done}/{total} done"]
        for status, name in ((Status.DISPATCHED, "running"), (Status.FAILED, "failed")):
            if count := len(batch.by_status[status]):
                words.append(f"{count} {name}")
        words += [name for name in ("paused", "draining") if getattr(batch, name)]
        text = ", ".join(words)
        length = min(_BAR_CELLS, width - len(batch.area) - len(text) - 2)
        if length < 5:
            return cut(f"{batch.area} {text}", width)
        full = length * done // max(1, total)
        bar = self._style(_BOLD, "━" * full) + self._style(_DIM, "─" * (length - full))
        return f"{self._style(_BOLD, batch.area)} {bar} {text}"

    def _running(self, batch: Batch, width: int, height: int) -> list[str]:
        """The table of what runs, longest first, cut to leave room for some of the story above."""
        keys = list(batch.dispatched)
        if not keys:
            return []
        room = max(1, min(_ROWS_MAX, height - max(4, height // 3)))
        now = wall_time()
        rows = [self._row(batch, key, now, title_cells=width * 2 // 5) for key in keys[:room]]
        shown = {batch.attempt_id(k, batch.issues[k].attempts[-1].number) for k in keys[:room]}
        self._tails = {name: tail for name, tail in self._tails.items() if name in shown}
        heads = ("issue", "pane", "try", "time", "title", "last line")
        text = table(heads, rows, flexible=(4, 5), optional=(4, 1, 2, 5), width=width)
        head, *lines = text.split("\n")
        more = len(keys) - room
        return [self._style(_DIM, head), *lines, *([f"and {more} more"] if more > 0 else [])]

    def _row(self, batch: Batch, key: str, now: str, *, title_cells: int) -> list[str]:
        issue = batch.issues[key]
        attempt = issue.attempts[-1]
        return [
            f"#{key}",
            attempt.pane or "",
            str(len(issue.attempts)),
            duration(seconds_between(attempt.started_at, now)),
            cut(one_line(issue.title, 200), title_cells),
            self._says(batch.attempt_id(key, attempt.number), attempt),
        ]

    def _says(self, attempt_id: str, attempt: Attempt) -> str:
        """What a person should know of it, else what it does, else its last words."""
        if attempt.condition is not None:
            now = time.time()
            words = (attempt.condition.value, attempt.question, attempt.until)
            return condition_words(*words, now, asked=attempt.asked)
        told = read_progress(os.path.join(self._attempts, attempt_id))
        for text in (told.get("retrying"), told.get("tool"), told.get("lastWords")):
            if isinstance(text, str) and text.strip():
                return one_line(text, 200)
        return self._last_line(attempt_id)

    def _last_line(self, attempt_id: str) -> str:
        """The last line that says anything of what the agent printed; read only if it has grown."""
        size, line = self._tails.get(attempt_id, (-1, ""))
        try:
            with open(os.path.join(self._attempts, attempt_id, "output.log"), "rb") as file:
                length = os.fstat(file.fileno()).st_size
                if length != size:
                    data = os.pread(file.fileno(), _TAIL_BYTES, max(0, length - _TAIL_BYTES))
                    size, line = length, _last_words(data)
        except OSError:
            size, line = -1, ""
        self._tails[attempt_id] = (size, line)
        return line

    def _style(self, code: str, text: str) -> str:
        return f"{code}{text}{_PLAIN}" if self._colours and text else text


def _last_words(data: bytes) -> str:
    text = _ESCAPES.sub("", data.decode("utf-8", "replace")).replace("\r", "\n")
    return next((one_line(line, 200) for line in reversed(text.split("\n")) if line.strip()), "")


def _cells(line: str) -> int:
    """How many cells a drawn line takes, styles not counted."""
    return cells(_ESCAPES.sub("", line))


def _set_modes(modes: list[Any]) -> None:
    import termios  # noqa: PLC0415 - not needed where nothing is drawn

    with contextlib.suppress(termios.error):  # the terminal has gone
        termios.tcsetattr(sys.stdout.fileno(), termios.TCSADRAIN, modes)
