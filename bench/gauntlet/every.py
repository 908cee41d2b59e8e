"""Every state that the disk may hold after a power cut, by the law that ext4 and APFS keep.

There are too many to lay out each: what was not synced may be whole, absent, half or NULs, each
file by itself. But a start is the same for all states that differ only in what it never looks at.
So of each way for names one state is started from, what it read is noted, and the others are those
in which something that was read is otherwise; of these again what they read, until nothing is left.
That is every state, without those that a start could not tell apart.
"""

import functools
import hashlib
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gauntlet.disk import ORDERED, Doubt, State, Step
from gauntlet.power import MEMORY, Facts, Moment, Shelf, Told, another_boot, check, played


class _Ears:
    """Which files this process opens or asks the size of: an audit hook stays for ever."""

    def __init__(self) -> None:
        self._heard: dict[str, None] | None = None
        sys.addaudithook(self._hear)
        for name in ("stat", "lstat"):
            setattr(os, name, self._wrap(getattr(os, name)))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self._heard is not None:
            self._note(arguments[0])

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def listening(path: Any, *arguments: Any, **options: Any) -> Any:
            if self._heard is not None:
                self._note(path)
            return original(path, *arguments, **options)

        return listening

    def _note(self, path: Any) -> None:
        if self._heard is not None and isinstance(path, str | bytes | os.PathLike):
            self._heard.setdefault(os.fsdecode(path))

    @contextmanager
    def listen(self) -> Iterator[dict[str, None]]:
        """What is opened meanwhile: paths as they were given, in their order."""
        self._heard = heard = {}
        try:
            yield heard
        finally:
            self._heard = None


@functools.cache
def _the_ears() -> _Ears:
    return _Ears()


def start_from_every(
    steps: Sequence[Step],
    lies: Callable[[Step], bool] | None = None,
    until: str | None = None,
    share: Callable[[int], bool] = lambda _: True,
) -> Told:
    """Start from each state of a recording.

    Args:
        steps, lies: As of `power.played`.
        until: It ends at the first thing wrong that has these words in it.
        share: Which ways for names are looked at, by their number.
    """
    known: set[bytes] = set()
    possible, started, wrong = 0, 0, []
    with tempfile.TemporaryDirectory(prefix="gauntlet-disk-", dir=MEMORY) as room, another_boot():
        shelf = Shelf(Path(room))
        for facts, state, doubts in _ways(steps, lies):
            possible += math.prod(len(doubt.contents) for doubt in doubts)
            key = _digest(facts, state, doubts)
            if key in known:
                continue
            known.add(key)
            if not share(len(known)):
                continue
            for problems in _start_each(shelf, facts, state, doubts):
                started += 1
                wrong += problems
                if until is not None and any(until in problem for problem in problems):
                    return Told(possible, started, wrong)
    return Told(possible, started, wrong)


def _ways(
    steps: Sequence[Step], lies: Callable[[Step], bool] | None
) -> Iterator[tuple[Facts, State, list[Doubt]]]:
    for facts, disk in played(steps, lies):
        for state, doubts in disk.ways():
            yield facts, state, doubts


def _start_each(
    shelf: Shelf, facts: Facts, state: State, doubts: Sequence[Doubt]
) -> Iterator[list[str]]:
    """Start from each state of one way for names that differs in what a start reads."""
    todo: list[dict[Doubt, bytes]] = [{}]
    while todo:
        settled = todo.pop()
        held = {path: data for doubt, data in settled.items() for path in doubt.paths}
        shelf.lay_out({**state, **held})
        with _the_ears().listen() as heard:
            yield check(Moment(facts, state, ORDERED), shelf.folder)
        shelf.forget_changes()
        read = _in_order(heard, doubts, f"{shelf.folder}/")
        fresh = [doubt for doubt in read if doubt not in settled]
        for place, doubt in enumerate(fresh):
            before = {each: each.contents[0] for each in fresh[:place]}
            todo += [{**settled, **before, doubt: data} for data in doubt.contents[1:]]


def _in_order(heard: Iterable[str], doubts: Sequence[Doubt], folder: str) -> list[Doubt]:
    """The files in doubt that were looked at, in the order of the first look."""
    by_path = {path: doubt for doubt in doubts for path in doubt.paths}
    found: dict[Doubt, None] = {}
    for path in heard:
        if path.startswith("/"):
            doubt = by_path.get(path.removeprefix(folder))
            found |= {doubt: None} if doubt else {}
        else:  # by a folder's descriptor, or in a folder that nobody knows: any of that name
            name = os.path.basename(path)
            found |= {d: None for p, d in by_path.items() if os.path.basename(p) == name}
    return list(found)


def _digest(facts: Facts, state: State, doubts: Sequence[Doubt]) -> bytes:
    told = facts._replace(at=0.0, ran=frozenset(), ended=frozenset())
    found = hashlib.blake2b(repr((sorted(facts.ran), sorted(facts.ended), told)).encode())
    for path in sorted(state):
        found.update(path.encode() + b"\0" + (state[path] or b"\1") + b"\2")
    for doubt in doubts:
        found.update(repr(doubt).encode())
    return found.digest()
