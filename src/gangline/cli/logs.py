"""`gangline logs`: what an agent printed, harmless on a terminal, whole and raw in a pipe.

It is copied a piece at a time: a log may be larger than the memory.
"""

import os
import sys
import time

from gangline.app.commands import find_issue
from gangline.app.truth import load_store
from gangline.core.evidence import Answer
from gangline.core.text import PaneFilter
from gangline.errors import UsageError
from gangline.hosts.attempts import probe_lock

_CHUNK_BYTES = 65536
_FOLLOW_SECONDS = 0.2
_PLAIN = b"\x1b[0m"  # a colour that the agent left on ends with its log


def print_log(area: str, issue_text: str, *, follow: bool, number: int | None) -> int:
    """Print the log of an attempt, by default the newest.

    Raises:
        UsageError: there is no such issue, attempt or log.
    """
    store = load_store(area)
    issue = find_issue(store.batch, issue_text)
    numbers = [attempt.number for attempt in issue.attempts]
    if not numbers:
        raise UsageError(
            f"#{issue.key} has no attempt yet; it is {issue.status.value}",
            hint=f"gangline status {area}",
        )
    if number is not None and number not in numbers:
        known = ", ".join(map(str, numbers))
        raise UsageError(f"#{issue.key} has no attempt {number}", hint=f"it has {known}")
    chosen = numbers[-1] if number is None else number
    attempt = next(a for a in issue.attempts if a.number == chosen)
    folder = os.path.join(store.paths.attempts, store.batch.attempt_id(issue.key, chosen))
    follow = follow and attempt.outcome is None
    if not follow and not os.path.exists(os.path.join(folder, "output.log")):
        raise UsageError(
            f"attempt {chosen} of #{issue.key} has printed nothing",
            causes=[attempt.reason] if attempt.reason else [],
            hint=f"gangline status {area}"
            if attempt.outcome
            else f"to wait for it: gangline logs -f {area} {issue.key}",
        )
    _copy(folder, follow=follow)
    return 0


def _copy(folder: str, *, follow: bool) -> None:
    """Copy the log; with `follow` until the attempt has ended and all of it is copied."""
    path = os.path.join(folder, "output.log")
    out = sys.stdout.buffer
    pane = PaneFilter() if sys.stdout.isatty() else None
    at = 0
    try:
        while True:
            lives = follow and not _has_ended(folder)
            try:
                with open(path, "rb") as file:
                    file.seek(at)
                    while data := file.read(_CHUNK_BYTES):
                        at += len(data)
                        out.write(pane.feed(data) if pane else data)
            except FileNotFoundError:
                pass
            out.flush()
            if not lives:
                return
            time.sleep(_FOLLOW_SECONDS)
    finally:
        if pane and at:
            out.write(_PLAIN)
            out.flush()


def _has_ended(folder: str) -> bool:
    """Whether nothing more can come: its runner has let go of its lock, or never took it."""
    lock = probe_lock(os.path.join(folder, "lock"))
    if lock is Answer.UNKNOWN:  # not started yet, fenced before it started, or archived
        return not os.path.exists(os.path.dirname(folder)) or _is_void(folder)
    return lock is Answer.NO and os.path.exists(os.path.join(folder, "claim"))


def _is_void(folder: str) -> bool:
    try:
        with open(os.path.join(folder, "claim"), "rb") as file:
            return b'"void"' in file.read(4096)
    except OSError:
        return False
