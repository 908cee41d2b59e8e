"""Plain tables that a terminal, a pipe and a narrow window can all show.

Widths are counted in terminal cells, so that Chinese, Japanese and Korean titles line up.
"""

import os
import sys
from collections.abc import Sequence

from gangline.core.text import one_line

_GAP = "  "


def cells(text: str) -> int:
    """How many terminal cells a harmless text takes."""
    if text.isascii():
        return len(text)
    import unicodedata  # noqa: PLC0415 - 2 ms that most tables do not need

    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    marks = sum(unicodedata.combining(c) != 0 for c in text)
    return len(text) + wide - marks


def cut(text: str, width: int) -> str:
    """The text in at most `width` cells, with an ellipsis where it was cut."""
    if cells(text) <= width:
        return text
    while text and cells(text) > width - 1:
        text = text[:-1]
    return text + "…"


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


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, flexible: int, width: int = 0
) -> str:
    """Lines of a table; every cell is made harmless.

    Args:
        heads: Column titles.
        rows: Cells as they are; untrusted text is fine.
        flexible: The column that gives way when the terminal is narrow.
        width: Of the terminal; 0 for no limit.
    """
    clean = [[one_line(cell) if cell else "" for cell in row] for row in rows]
    used = [c for c in range(len(heads)) if any(row[c] for row in clean) or c == flexible]
    grid = [[heads[c] for c in used], *([row[c] for c in used] for row in clean)]
    sizes = [max(cells(row[c]) for row in grid) for c in range(len(used))]
    if width:
        over = sum(sizes) + len(_GAP) * (len(sizes) - 1) - width
        place = used.index(flexible)
        sizes[place] = max(min(8, sizes[place]), sizes[place] - max(0, over))
    lines = []
    for row in grid:
        line = _GAP.join([_pad(row[c], sizes[c]) for c in range(len(sizes))]).rstrip()
        lines.append(cut(line, width) if width else line)
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Whole seconds as `7s`, `3m07s`, `2h05m`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def seconds_between(start: str, end: str) -> float:
    """Seconds between two times as the journal writes them."""
    from datetime import datetime  # noqa: PLC0415 - `status` of a quiet batch needs no times

    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()
