"""What a disk may hold after a power cut, worked out from the system calls of a whole play.

The calls of every process are laid into one order and played upon a model: names in folders, bytes
in files, and which of them were synced. At each moment the model tells the states that may be found
after the power went there. Two laws of names are tried:

- *ordered* (ext4, and APFS as it behaves): changes of names reach the disk in their order, and any
  fsync takes all earlier ones along; so some prefix of the unsynced ones is there.
- *any* (all that POSIX promises): a change of names is there for sure only after an fsync of its
  folder; of the others any may be there. A rename is whole or not at all in both.

Contents that were not synced are there whole, not at all, in half, or as NULs (blocks that were
reserved and never filled).
"""

import itertools
import random
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gauntlet.calls import LINKS, RENAMES, SYNCS, Call

LAWS = ORDERED, ANY = ("ordered", "any")
FATES = ("whole", "absent", "half", "NULs")
ROOT = ".workspace"
# What nothing is decided by is left as it was written, which keeps the states few.
_INDIFFERENT = re.compile(r"(output\.log|orchestrator\.log|/wake|\.locks/[^/]+|/lock)$")


class Step(NamedTuple):
    """One call that changed the disk, or the start of an agent (`run`, with its attempt)."""

    at: float
    what: str
    paths: tuple[str, ...]
    data: bytes = b""
    size: int = -1
    truncate: bool = False


class Inode:
    """A file or a folder: what is on the disk for sure, and what was written since."""

    def __init__(self, *, is_folder: bool) -> None:
        self.is_folder = is_folder
        self.names: dict[str, Inode] = {}
        self.synced = b""
        self.now = b""

    def contents(self, fate: str) -> bytes:
        """The file after the power cut."""
        if self.now == self.synced or fate == "whole":
            return self.now
        if fate == "absent":
            return self.synced
        kept = self.synced if self.now.startswith(self.synced) else b""
        if fate == "half":
            return self.now[: len(kept) + (len(self.now) - len(kept)) // 2]
        return kept + bytes(len(self.now) - len(kept))


class Change(NamedTuple):
    """One change of names: in each folder a name comes to mean an inode, or nothing."""

    halves: tuple[tuple[Inode, str, Inode | None], ...]


State = dict[str, bytes | None]  # path below the project -> contents; None is a folder


class Doubt(NamedTuple):
    """A file that was not synced: its names, and what it may hold; first as it was written."""

    paths: tuple[str, ...]
    contents: tuple[bytes, ...]


class Disk:
    """The model: play steps upon it, and ask what may be found after a power cut now."""

    def __init__(self) -> None:
        self.root = Inode(is_folder=True)  # all names as the processes see them
        self.pending: list[Change] = []
        self._held: dict[str, set[int]] = {law: set() for law in LAWS}  # pending that is durable

    # -- playing ---------------------------------------------------------------------------

    def play(self, step: Step) -> None:
        """Take one step."""
        path = step.paths[0]
        if step.what == "create":
            self._create(path, truncate=step.truncate)
        elif step.what == "mkdir":
            self._change((path, Inode(is_folder=True)))
        elif step.what == "write":
            inode = self._file(path)
            at = len(inode.now) if step.size < 0 else step.size
            inode.now = (
                inode.now[:at].ljust(at, b"\0") + step.data + inode.now[at + len(step.data) :]
            )
        elif step.what == "truncate":
            inode = self._file(path)
            inode.now = inode.now[: step.size].ljust(step.size, b"\0")
        elif step.what == "sync":
            self._sync(path)
        elif step.what == "rename":
            self._change((path, None), (step.paths[1], self._moved(path)))
        elif step.what == "link":
            self._change((step.paths[1], self._file(path)))
        elif step.what == "unlink":
            self._change((path, None))

    def find(self, path: str) -> Inode | None:
        """What this path means to the processes."""
        inode: Inode | None = self.root
        for name in path.split("/"):
            inode = inode.names.get(name) if inode else None
        return inode

    def _file(self, path: str) -> Inode:
        return self.find(path) or self._create(path)

    def _moved(self, path: str) -> Inode:
        """What is renamed; a signal file was written by an agent, whom nobody watched."""
        return self.find(path) or self._create(path, b"no\n")

    def _create(self, path: str, data: bytes = b"", *, truncate: bool = False) -> Inode:
        inode = self.find(path)
        if inode is None:
            inode = Inode(is_folder=False)
            self._change((path, inode))
            inode.now = data
        elif truncate:
            inode.now = b""
        return inode

    def _change(self, *halves: tuple[str, Inode | None]) -> None:
        found = []
        for path, inode in halves:
            folder, _, name = path.rpartition("/")
            parent = self.find(folder) if folder else self.root
            assert parent is not None, f"{path}: its folder was never made"
            if inode is None:
                parent.names.pop(name, None)
            else:
                parent.names[name] = inode
            found.append((parent, name, inode))
        self.pending.append(Change(tuple(found)))

    def _sync(self, path: str) -> None:
        inode = self.root if path == "" else self.find(path)
        if inode is None:
            return
        inode.synced = inode.now
        self._held[ORDERED].update(range(len(self.pending)))
        if inode.is_folder:
            self._held[ANY].update(
                place
                for place, change in enumerate(self.pending)
                if any(folder is inode for folder, _, _ in change.halves)
            )

    # -- the power cut ---------------------------------------------------------------------

    def count(self, law: str) -> int:
        """How many states there may be now, by this law: names times contents."""
        left = len(self.pending) - len(self._held[law])
        names = left + 1 if law == ORDERED else 2**left
        return int(names * len(FATES) ** len(self._unsynced()))

    def states(self, law: str, dice: random.Random, per_moment: int) -> Iterator[State]:
        """States that may be found now; a sample where there are more than `per_moment`."""
        files = self._unsynced()
        choices = list(self._choices(law, dice, per_moment))
        for chosen in choices:
            fates = [dict.fromkeys(files, fate) for fate in FATES]
            fates.append({inode: dice.choice(FATES) for inode in files})
            for fate in fates if files else fates[:1]:
                yield self._state(chosen, fate)

    def ways(self) -> Iterator[tuple[State, list[Doubt]]]:
        """Every way for names by the law `ordered`, with the contents of files left in doubt."""
        held = frozenset(self._held[ORDERED])
        left = [place for place in range(len(self.pending)) if place not in held]
        unsynced = self._unsynced()
        for cut in range(len(left) + 1):
            places: dict[int, list[str]] = {}
            state = self._state(held | frozenset(left[:cut]), {}, places)
            doubts = [
                Doubt(tuple(paths), tuple(dict.fromkeys(map(inode.contents, FATES))))
                for inode in unsynced
                if (paths := places.get(id(inode)))
            ]
            yield state, [doubt for doubt in doubts if len(doubt.contents) > 1]

    def _choices(self, law: str, dice: random.Random, most: int) -> Iterator[frozenset[int]]:
        held = frozenset(self._held[law])
        left = [place for place in range(len(self.pending)) if place not in held]
        if law == ORDERED:
            cuts = range(len(left) + 1)
            for cut in cuts if len(cuts) <= most else dice.sample(cuts, most):
                yield held | frozenset(left[:cut])
        elif 2 ** len(left) <= most:
            for kept in itertools.product((False, True), repeat=len(left)):
                yield held | {place for place, is_kept in zip(left, kept, strict=True) if is_kept}
        else:
            yield held
            yield held | frozenset(left)
            for _ in range(most - 2):
                # The newest are what a power cut is most likely to take.
                newest = set(dice.sample(left[-6:], dice.randint(0, min(6, len(left)))))
                older = {place for place in left[:-6] if dice.random() < 0.5}
                yield held | newest | older

    def _unsynced(self) -> list[Inode]:
        found: dict[int, Inode] = {}
        todo = [("", self.root)]
        while todo:
            path, inode = todo.pop()
            if inode.is_folder:
                todo += [(f"{path}/{name}", child) for name, child in inode.names.items()]
            elif inode.now != inode.synced and not _INDIFFERENT.search(path):
                found[id(inode)] = inode
        return list(found.values())

    def _state(
        self,
        chosen: frozenset[int],
        fates: dict[Inode, str],
        places: dict[int, list[str]] | None = None,
    ) -> State:
        names: dict[int, dict[str, Inode]] = {}
        for place in sorted(chosen):
            for folder, name, inode in self.pending[place].halves:
                entries = names.setdefault(id(folder), {})
                if inode is None:
                    entries.pop(name, None)
                else:
                    entries[name] = inode
        state: State = {}
        todo = [("", self.root)]
        while todo:
            path, folder = todo.pop()
            for name, inode in names.get(id(folder), {}).items():
                below = f"{path}/{name}".lstrip("/")
                if places is not None:
                    places.setdefault(id(inode), []).append(below)
                state[below] = (
                    None if inode.is_folder else inode.contents(fates.get(inode, "whole"))
                )
                if inode.is_folder:
                    todo.append((below, inode))
        return state


# -- from calls to steps -----------------------------------------------------------------------


def steps_of(traces: Iterable[tuple[str, list[Call]]], folder: str) -> list[Step]:
    """The calls of a whole play as steps in one order; paths are below the project's folder.

    Args:
        traces: Role and calls of every process.
        folder: The project's.
    """
    steps = [
        step for role, calls in traces for call in calls for step in _steps(role, call, folder)
    ]
    return sorted(steps, key=lambda step: step.at)


def _steps(role: str, call: Call, folder: str) -> Iterator[Step]:
    if (
        role.startswith("runner")
        and call.name == "execve"
        and call.ordinal == 1
        and _is_agent(call)
    ):
        yield Step(call.began, "run", (role,))
    if call.result.startswith(("-1", "?")):
        return
    paths = tuple(path[len(folder) + 1 :] for path in call.paths if _is_ours(path, folder))
    if len(paths) != len(call.paths) or not paths:
        return
    name, at = call.name, call.ended
    if name in ("openat", "open") and "O_CREAT" in call.args:
        yield Step(at, "create", paths, truncate="O_TRUNC" in call.args)
    elif name == "write":
        yield Step(at, "write", paths, data=call.strings[0])
    elif name == "pwrite64":
        offset = int(call.args.rsplit(", ", 1)[1].rstrip(") "))
        yield Step(at, "write", paths, data=call.strings[0], size=offset)
    elif name in ("ftruncate", "truncate"):
        yield Step(at, "truncate", paths, size=int(call.args.rsplit(", ", 1)[1].rstrip(") ")))
    elif name in SYNCS:
        yield Step(call.began, "sync", paths)
    elif name in RENAMES:
        yield Step(at, "rename", paths)
    elif name in LINKS:
        yield Step(at, "link", paths)
    elif name in ("mkdir", "mkdirat"):
        yield Step(at, "mkdir", paths)
    elif name in ("unlink", "unlinkat", "rmdir"):
        yield Step(at, "unlink", paths)


def _is_ours(path: str, folder: str) -> bool:
    start = f"{folder}/{ROOT}"
    ours = path in (folder, start) or path.startswith(f"{start}/")
    return ours and not path.endswith("/wake") and "(deleted)" not in path  # a pipe holds nothing


def _is_agent(call: Call) -> bool:
    return bool(call.strings) and call.strings[0].endswith(b"/sh")
