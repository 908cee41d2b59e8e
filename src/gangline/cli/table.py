"""Plain tables that a terminal, a pipe and a narrow window can all show.

Widths are counted in terminal cells, so that Chinese, Japanese and Korean titles line up. On a
terminal no row is wider than it: long texts are cut first, then whole columns that say least go, so
that what is left can be read at 40 columns as well.
"""

import os
import sys

from gangline.core.text import one_line
from gangline.hosts.processes import epoch_seconds

TYPE_CHECKING = False  # importing `collections.abc` costs `status` 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "  "
_FLEXIBLE_MIN = 24  # cells a column keeps while another can go instead
_OPTIONAL_MIN = 10  # the same of one that can go itself: below this it says more by going


def prepare_output() -> None:
    """Let a terminal or pipe that cannot show a character show `?` instead of ending the run."""
    for stream in (sys.stdout, sys.stderr):
        if stream.encoding.lower() not in ("utf-8", "utf8"):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr] # they are text files


def cells(text: str) -> int:
    """How many terminal cells a harmless text takes."""
    if text.isascii():
        return len(text)
    import unicodedata  # noqa: PLC0415 - 2 ms that most tables do not need

    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    unseen = sum(unicodedata.category(c) in ("Mn", "Me", "Cf") for c in text)
    return len(text) + wide - unseen


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells, with an ellipsis where it was cut."""
    if cells(text) <= width:
        return text
    text = text[:width]  # no character but an unseen one takes less than a cell
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + "…" if width > 0 else ""


def _pad(text: str, width: int) -> str:
    """The text in exactly `width` cells."""
    used = cells(text)
    if used > width:
        text = cut(text, width)
        used = cells(text)
    return text + " " * (width - used)


def terminal_width() -> int:
    """Columns of the terminal; 0 where output goes to no terminal: nothing is cut then."""
    try:
        return max(20, os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError):
        return 0


def folded(text: str, width: int, indent: int) -> list[str]:
    """A line, folded at words where it is wider than a terminal of this width (0: never)."""
    if not width or len(text) <= width:
        return [text]
    import textwrap  # noqa: PLC0415 - only for a terminal, and where a line is long

    hanging = " " * indent
    return textwrap.wrap(
        text, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False
    )


def table(
    heads: "Sequence[str]",
    rows: "Sequence[Sequence[str]]",
    *,
    flexible: "Sequence[int]",
    optional: "Sequence[int]" = (),
    width: int = 0,
) -> str:
    """Lines of a table; every cell is made harmless. Columns without any text are left out.

    Args:
        heads: Column titles.
        rows: Cells as they are; untrusted text is fine.
        flexible: The columns that give way when the terminal is narrow.
        optional: The columns that go when that is not enough, the first of them first.
        width: Of the terminal; 0 for no limit.
    """
    clean = [[one_line(cell) if cell else "" for cell in row] for row in rows]
    used = [c for c in range(len(heads)) if any(row[c] for row in clean)]
    used = used or list(range(len(heads)))
    sizes = {c: max(cells(heads[c]), *(cells(row[c]) for row in clean), 0) for c in used}
    if width:
        _fit(sizes, flexible, optional, width)
    lines = []
    for row in [heads, *clean]:
        line = _GAP.join([_pad(row[c], size) for c, size in sizes.items()]).rstrip()
        lines.append(cut(line, width) if width else line)
    return "\n".join(lines)


def _fit(
    sizes: dict[int, int], flexible: "Sequence[int]", optional: "Sequence[int]", width: int
) -> None:
    """Shrink and drop columns until the row has at most `width` cells, where that can be."""
    going = [column for column in optional if column in sizes]
    while True:
        giving = sorted((c for c in flexible if c in sizes), key=lambda column: sizes[column])
        fixed = sum(size for column, size in sizes.items() if column not in giving)
        least = {
            column: min(sizes[column], _OPTIONAL_MIN if column in optional else _FLEXIBLE_MIN)
            for column in giving
        }
        extra = width - len(_GAP) * (len(sizes) - 1) - fixed - sum(least.values())
        if extra >= 0 or not going:
            break
        del sizes[going.pop(0)]
    for column in reversed(giving):  # there is still too much: the widest first
        less = max(0, min(-extra, least[column] - _OPTIONAL_MIN))
        least[column] -= less
        extra += less
    for place, column in enumerate(giving):  # short ones get what they need; the rest is shared
        share = max(0, min(sizes[column] - least[column], extra // (len(giving) - place)))
        sizes[column] = least[column] + share
        extra -= share


def duration(seconds: float) -> str:
    """Whole seconds as `7s`, `3m07s`, `2h05m`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def seconds_between(start: str, end: str) -> float:
    """Seconds between two times as the journal writes them.

    0 where one is none: a state file that another program wrote may hold anything there.
    """
    began, ended = epoch_seconds(start), epoch_seconds(end)
    return ended - began if began and ended else 0.0


def clock(at: str) -> str:
    """A time as the journal writes it (UTC), as a clock on the wall here shows it: `14:03:59`."""
    from datetime import datetime  # noqa: PLC0415 - `status` of a quiet batch needs none

    return datetime.fromisoformat(at).astimezone().strftime("%H:%M:%S")
