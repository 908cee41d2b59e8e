"""`gangline logs`: what an agent printed, harmless on a terminal, whole and raw in a pipe."""

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


def print_log(area: str, issue_text: str, *, follow: bool, number: int | None) -> int:
    """Print the log of an attempt, by default the newest.

    Raises:
        UsageError: there is no such issue, attempt or log.
    """
    store = load_store(area)
    issue = find_issue(store.batch, issue_text)
    numbers = [attempt.number for attempt in issue.attempts]
    if not numbers:
        raise UsageError(f"#{issue.key} has no attempt yet; it is {issue.status.value}")
    if number is not None and number not in numbers:
        raise UsageError(f"#{issue.key} has no attempt {number}", hint=f"it has {numbers}")
    chosen = numbers[-1] if number is None else number
    folder = os.path.join(store.paths.attempts, store.batch.attempt_id(issue.key, chosen))
    path = os.path.join(folder, "output.log")
    if not os.path.exists(path) and not follow:
        raise UsageError(f"attempt {chosen} of #{issue.key} has printed nothing", place=path)
    _copy(path, os.path.join(folder, "lock"), follow=follow)
    return 0


def _copy(path: str, lock: str, *, follow: bool) -> None:
    out = sys.stdout.buffer
    pane = PaneFilter() if sys.stdout.isatty() else None
    at = 0
    while True:
        alive = follow and probe_lock(lock) is not Answer.NO
        try:
            with open(path, "rb") as file:
                file.seek(at)
                while data := file.read(_CHUNK_BYTES):
                    at += len(data)
                    out.write(pane.feed(data) if pane else data)
        except FileNotFoundError:
            pass
        out.flush()
        if not alive:
            return
        time.sleep(_FOLLOW_SECONDS)
