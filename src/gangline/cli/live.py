"""The live view of `run` on a terminal: progress, what runs now, and its last words.

It only looks. The lines of what happened scroll by above it, so that a copy of the terminal tells
the same story as a log.
"""

import os
from collections.abc import Sequence
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gangline.cli.lines import Lines
from gangline.cli.table import duration, seconds_between
from gangline.core.batch import Batch
from gangline.core.events import AnyEvent
from gangline.core.model import TERMINAL, Status
from gangline.core.text import harmless, one_line
from gangline.hosts.processes import wall_time

_TAIL_BYTES = 2048
_SHOWN_MAX = 20


class LiveView(Lines):
    """Lines above, a table of the running issues below."""

    refresh_seconds: float | None = 0.5

    def __init__(self, attempts_folder: str) -> None:
        self._attempts = attempts_folder
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.update(Text(""))
        self._live.stop()

    def say(self, text: str) -> None:
        """A line above the table."""
        self._console.print(Text(harmless(text)), soft_wrap=True)

    def happened(self, batch: Batch, events: Sequence[AnyEvent], *, away: bool = False) -> None:
        """Lines, and the table at once."""
        super().happened(batch, events, away=away)
        self.refresh(batch)

    def refresh(self, batch: Batch) -> None:
        """Draw."""
        self._live.update(Group(self._progress(batch), self._running(batch)), refresh=True)

    def _progress(self, batch: Batch) -> Table:
        done = sum(len(batch.by_status[status]) for status in TERMINAL)
        total = max(1, len(batch.issues))
        failed = len(batch.by_status[Status.FAILED])
        words = f"{done}/{len(batch.issues)}" + (f", {failed} failed" if failed else "")
        marks = [name for name in ("paused", "draining") if getattr(batch, name)]
        row = Table.grid(padding=(0, 1), expand=True)
        row.add_column(no_wrap=True)
        row.add_column(ratio=1)
        row.add_column(no_wrap=True)
        row.add_row(
            Text(batch.area, style="bold"),
            ProgressBar(total=total, completed=done),
            Text(" ".join([words, *marks])),
        )
        return row

    def _running(self, batch: Batch) -> Table:
        now = wall_time()
        view = Table(box=None, expand=True, padding=(0, 1), pad_edge=False, header_style="dim")
        for head in ("issue", "pane", "try", "time"):
            view.add_column(head, no_wrap=True)
        view.add_column("title", no_wrap=True, overflow="ellipsis", ratio=2)
        view.add_column("last line", no_wrap=True, overflow="ellipsis", ratio=3)
        running = list(batch.dispatched)
        for key in running[:_SHOWN_MAX]:
            issue = batch.issues[key]
            attempt = issue.attempts[-1]
            view.add_row(
                f"#{key}",
                attempt.pane or "",
                str(len(issue.attempts)),
                duration(seconds_between(attempt.started_at, now)),
                Text(one_line(issue.title, 80)),
                Text(self._last_line(batch.attempt_id(key, attempt.number)), style="dim"),
            )
        if len(running) > _SHOWN_MAX:
            view.add_row("", "", "", "", f"and {len(running) - _SHOWN_MAX} more", "")
        return view

    def _last_line(self, attempt_id: str) -> str:
        try:
            with open(os.path.join(self._attempts, attempt_id, "output.log"), "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").split("\n")
        except OSError:
            return ""
        return next((one_line(line, 160) for line in reversed(lines) if line.strip()), "")
