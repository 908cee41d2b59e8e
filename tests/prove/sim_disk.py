"""A disk in memory that keeps only what was synced: what POSIX promises, and not one byte more.

Every file has contents as the page cache has them and as the disk has them; every folder has names
that way too. A process that is killed loses nothing; a power cut loses any part of what nobody
synced. Two laws of losing are tried in turn: *ordered*, as ext4 and APFS keep names (all changes of
names up to some moment), and *any*, which is all that POSIX promises (each change for itself).
Unsynced contents survive as a beginning of what was written, perhaps torn within a write, perhaps
with NULs where blocks were never filled.
"""

import errno
import os
import stat
from types import SimpleNamespace

BLOCK_BYTES = 512


class Node:
    """A file or a folder, and what of it is on the disk.

    Attributes:
        writes: Since the last sync: (offset, data), or (size, None) for a truncation.
        base: The contents at the last sync; None while nothing but appends came after them.
        changes: Of a folder: the changes of names that are not on the disk.
    """

    __slots__ = (
        *("number", "is_folder", "data", "base", "base_size", "writes"),
        *("entries", "durable", "changes", "links", "mtime_ns", "holders"),
    )

    def __init__(self, number, is_folder, mtime_ns):
        self.number = number
        self.is_folder = is_folder
        self.mtime_ns = mtime_ns
        self.links = 1
        self.holders = []  # open files that hold a flock on it
        if is_folder:
            self.entries, self.durable, self.changes = {}, {}, []
        else:
            self.data, self.base, self.base_size, self.writes = bytearray(), None, 0, []

    def stat(self):
        size = 0 if self.is_folder else len(self.data)
        kind = stat.S_IFDIR if self.is_folder else stat.S_IFREG
        return SimpleNamespace(
            st_dev=1,
            st_ino=self.number,
            st_size=size,
            st_mtime_ns=self.mtime_ns,
            st_mtime=self.mtime_ns / 1e9,
            st_nlink=self.links,
            st_mode=kind | 0o600,
        )


class Change:
    """One change of names, whole or not at all: halves of (folder, name, node or None)."""

    __slots__ = ("halves", "moment")

    def __init__(self, moment, halves):
        self.moment = moment
        self.halves = halves

    def apply(self):
        for folder, name, node in self.halves:
            if node is None:
                folder.durable.pop(name, None)
            else:
                folder.durable[name] = node


class Disk:
    """The tree, and its power cuts. Paths are absolute; nothing here knows of processes."""

    def __init__(self, rng):
        self._rng = rng
        self._numbers = 1
        self._moments = 0
        self.wall_ns = 0  # set by the world: the time that files get
        self.root = self._node(is_folder=True)
        self._folders = {"": self.root}
        self._dirty = {}  # nodes with something unsynced, in the order of their first change

    def _node(self, *, is_folder):
        self._numbers += 1
        return Node(self._numbers, is_folder, self.wall_ns)

    # -- names -----------------------------------------------------------------------------

    def folder(self, path):
        """The folder of this path; raises as the kernel would."""
        found = self._folders.get(path)
        if found is not None:
            return found
        parent, _, name = path.rpartition("/")
        node = self.folder(parent).entries.get(name)
        if node is None:
            raise _error(errno.ENOENT, path)
        if not node.is_folder:
            raise _error(errno.ENOTDIR, path)
        self._folders[path] = node
        return node

    def place(self, path, start=None):
        """(folder, name) of a path; `start` is the folder that a bare name is relative to."""
        if start is not None and not path.startswith("/"):
            return start, path
        parent, _, name = path.rpartition("/")
        return self.folder(parent), name

    def find(self, path, start=None):
        folder, name = self.place(path, start)
        node = folder.entries.get(name) if name else folder
        if node is None:
            raise _error(errno.ENOENT, path)
        return node

    def _change(self, *halves):
        self._moments += 1
        change = Change(self._moments, halves)
        for folder, name, node in halves:
            if node is None:
                folder.entries.pop(name, None)
            else:
                folder.entries[name] = node
            if not folder.changes or folder.changes[-1] is not change:
                folder.changes.append(change)
            self._dirty[folder] = None

    def make(self, folder, name, *, is_folder=False):
        node = self._node(is_folder=is_folder)
        self._change((folder, name, node))
        return node

    def link(self, node, folder, name):
        node.links += 1
        self._change((folder, name, node))

    def unlink(self, folder, name):
        folder.entries[name].links -= 1
        self._change((folder, name, None))

    def rename(self, folder, name, to_folder, to_name):
        node = folder.entries[name]
        before = to_folder.entries.get(to_name)
        if before is node:
            return  # POSIX: two names of one file stay as they are
        if before is not None:
            before.links -= 1
        self._change((folder, name, None), (to_folder, to_name, node))
        if node.is_folder:
            self._folders = {"": self.root}

    # -- contents --------------------------------------------------------------------------

    def write(self, node, offset, data):
        self._before(node, is_append=offset == len(node.data))
        if offset > len(node.data):
            node.data.extend(bytes(offset - len(node.data)))
        node.data[offset : offset + len(data)] = data
        node.writes.append((offset, bytes(data)))
        node.mtime_ns = self.wall_ns

    def truncate(self, node, size):
        if size == len(node.data):
            return
        self._before(node, is_append=False)
        if size < len(node.data):
            del node.data[size:]
        else:
            node.data.extend(bytes(size - len(node.data)))
        node.writes.append((size, None))
        node.mtime_ns = self.wall_ns

    def _before(self, node, *, is_append):
        if not is_append and node.base is None:
            node.base = bytes(node.data[: node.base_size])
        self._dirty[node] = None

    def sync(self, node):
        """fsync: the contents of a file, or the names in a folder, are on the disk."""
        if node not in self._dirty:
            return
        del self._dirty[node]
        if not node.is_folder:
            node.base, node.base_size, node.writes = None, len(node.data), []
            return
        changes, node.changes = node.changes, []
        for change in changes:
            for folder, _, _ in change.halves:
                if folder is not node:
                    self.sync(folder)
            change.apply()

    # -- the power cut ---------------------------------------------------------------------

    def cut_power(self):
        """Lose some of what is not synced; returns in words how."""
        rng = self._rng
        law = rng.choice(("nothing", "ordered", "ordered", "any", "any", "everything"))
        chance = rng.random()
        last = rng.randint(0, self._moments)
        lost = 0
        changes = {}
        for node in self._dirty:
            if node.is_folder:
                changes.update({change.moment: change for change in node.changes})
            else:
                lost += self._lose_contents(node, law)
        for moment in sorted(changes):
            kept = {
                "nothing": True,
                "everything": False,
                "ordered": moment <= last,
                "any": rng.random() < chance,
            }[law]
            lost += not kept
            if kept:
                changes[moment].apply()
        self._restart()
        return f"law of losing: {law}; {lost} changes were lost"

    def _lose_contents(self, node, law):
        """Keep a beginning of the writes; whether something is lost."""
        if law == "nothing":
            return 0
        rng, writes = self._rng, node.writes
        count = 0 if law == "everything" else rng.randint(0, len(writes))
        before = node.base if node.base is not None else bytes(node.data[: node.base_size])
        data = bytearray(before)
        for offset, written in writes[:count]:
            _apply(data, offset, written)
        if count < len(writes) and law != "everything":
            _apply(data, *self._tear(*writes[count]))
        node.data = data
        return 1

    def _tear(self, offset, written):
        """What a power cut may leave of one write."""
        if written is None or len(written) < 2:
            return offset, written
        cut = self._rng.randint(0, len(written) - 1)
        if self._rng.random() < 0.7:
            return offset, written[:cut]
        # The size is there, but blocks from some boundary on were never filled.
        boundary = max(offset, (offset + cut) // BLOCK_BYTES * BLOCK_BYTES)
        kept = written[: boundary - offset]
        return offset, kept + bytes(len(written) - len(kept))

    def _restart(self):
        """What is on the disk is all there is."""
        self._dirty = {}
        self._folders = {"": self.root}
        seen = set()
        todo = [self.root]
        while todo:
            node = todo.pop()
            node.holders = []
            if not node.is_folder:
                node.base, node.base_size, node.writes = None, len(node.data), []
                continue
            node.entries, node.changes = dict(node.durable), []
            for child in node.entries.values():
                child.links = child.links + 1 if child.number in seen else 1
                if child.number not in seen:
                    seen.add(child.number)
                    todo.append(child)

    def sync_all(self):
        """As sync(2), before a machine goes down in order."""
        for node in list(self._dirty):
            self.sync(node)


def _apply(data, offset, written):
    if written is None:
        del data[offset:]
        data.extend(bytes(offset - len(data)))
        return
    if offset > len(data):
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written


def _error(number, path):
    return OSError(number, os.strerror(number), path)
