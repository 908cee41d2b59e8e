"""Finds the session of an interactive agent that does not tell it before its first turn has ended.

Codex is one: until then a crash would lose the conversation. It holds the file of its conversation
open, so the runner looks at what the attempt's own processes have open until it has seen it; a
folder or a time would not do, for others may work in the same place. Linux only: elsewhere the
session is known when the first turn has ended.
"""

import os
import time

from gangline.agents.hooks_file import HOOKS, PROGRESS, change
from gangline.hosts.attempt_folder import Attempt, parse_json
from gangline.hosts.processes import HAS_PROC, marked_processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

LOOK_MS = 1000


class SessionFinder:
    """Looks every second until the session is on record.

    Attributes:
        is_looking: Whether it is not.
    """

    def __init__(self, attempt: Attempt, mark: str, pid: int) -> None:
        self._attempt = attempt
        self._mark = mark
        self._pid = pid
        self._not_before = 0.0
        self.is_looking = HAS_PROC and _is_to_be_found(attempt)

    def look(self) -> None:
        """Look, if it is time to; what is found is durable in progress.json."""
        if not self.is_looking or time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + LOOK_MS / 1000
        try:
            self.is_looking = not self._find()
        except OSError:
            pass  # a hook writes just now, or the disk is full: the next look may do better

    def _find(self) -> bool:
        if _is_told(self._attempt):
            return True  # its first turn has ended
        from gangline.agents.hooks_codex import thread_of  # noqa: PLC0415 - for such agents only

        for path in open_files(marked_processes(self._mark, session=self._pid)):
            thread = thread_of(path)
            if thread is None:
                continue

            def note(known: "dict[str, Any]", thread: str = thread) -> None:
                known.setdefault("session", thread)

            change(self._attempt.path, note, wait=False)
            return True
        return False


def open_files(pids: "Iterable[int]") -> "Iterator[str]":
    """The paths of the files that these processes have open now, as far as they can be seen."""
    for pid in pids:
        try:
            names = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it has ended, or is another user's
        for name in names:
            try:
                path = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if path.startswith("/"):
                yield path


def _is_told(attempt: Attempt) -> bool:
    try:
        return bool(parse_json(attempt.read(PROGRESS)).get("session"))
    except (OSError, ValueError, StopIteration, AttributeError):
        return False


def _is_to_be_found(attempt: Attempt) -> bool:
    try:
        told = parse_json(attempt.read(HOOKS))
    except (OSError, ValueError, StopIteration):
        return False
    return isinstance(told, dict) and told.get("kind") == "codex" and not told.get("session")
