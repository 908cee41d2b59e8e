"""`os`, `open`, `fcntl` and `time` for processes that are not real: the product runs on them.

Each call is one step of the process that makes it, and goes through `world.step`, where time
passes, others act, and the process may be killed, the power cut, or the disk refuse. A process that
is dead can do nothing any more: what its `finally` blocks try has no effect, as after a kill -9.
"""

import errno
import importlib
import os
import pkgutil
import posixpath
import time
from contextlib import nullcontext
from types import SimpleNamespace

from gangline import durable, store
from gangline.app import launching, orchestrate
from gangline.hosts import activity, attempt_folder, attempts, local, runner, runner_account

_OF_STORE = [
    importlib.import_module(f"gangline.store.{found.name}")
    for found in pkgutil.iter_modules(store.__path__)
    if found.name != "filesystem"  # asks the kernel which file systems there are
]
_MODULES = (*_OF_STORE, durable, attempts, attempt_folder, runner, orchestrate, launching)
# Only where agents tell of themselves: a look for what they tell is a step like any other.
_OF_SERVICE = (activity, runner_account)
_MISSING = object()


class Gone(BaseException):
    """The process that makes this call is dead: killed, or its machine is off."""


class OpenFile:
    """One open file description."""

    __slots__ = ("flags", "is_exclusive", "node", "offset", "path")

    def __init__(self, node, flags, path):
        self.node = node
        self.flags = flags
        self.path = path
        self.offset = 0
        self.is_exclusive = False  # the kind of its flock


class SimOs:
    """The names of `os` that the product uses on files. `world.actor` makes the calls."""

    for _name in (
        *("O_RDONLY", "O_WRONLY", "O_RDWR", "O_CREAT", "O_EXCL", "O_TRUNC", "O_APPEND"),
        *("O_CLOEXEC", "O_DIRECTORY", "O_NONBLOCK", "F_OK", "X_OK", "stat_result"),
    ):
        locals()[_name] = getattr(os, _name)
    fsencode = staticmethod(os.fsencode)
    fsdecode = staticmethod(os.fsdecode)
    strerror = staticmethod(os.strerror)
    sysconf = staticmethod(os.sysconf)

    def __init__(self, world):
        self._world = world
        self._disk = world.disk
        self._next = 3
        self.path = SimpleNamespace(
            join=posixpath.join,
            dirname=posixpath.dirname,
            basename=posixpath.basename,
            isdir=self._is_folder,
            exists=self._exists,
            lexists=self._exists,
        )

    # -- open files --------------------------------------------------------------------------

    def _start(self, dir_fd):
        return None if dir_fd is None else self._file(dir_fd).node

    def _file(self, fd):
        found = self._world.actor.files.get(fd)
        if found is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return found

    def open(self, path, flags, mode=0o777, *, dir_fd=None):
        writes = flags & (os.O_CREAT | os.O_TRUNC)
        self._world.step("open-for-write" if writes else "open", path)
        folder, name = self._disk.place(path, self._start(dir_fd))
        node = folder.entries.get(name)
        if node is None:
            if not flags & os.O_CREAT:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            node = self._disk.make(folder, name)
        elif flags & os.O_EXCL:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        if node.is_folder and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if flags & os.O_DIRECTORY and not node.is_folder:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if flags & os.O_TRUNC:
            self._disk.truncate(node, 0)
        self._next += 1
        self._world.actor.files[self._next] = OpenFile(node, flags, path)
        return self._next

    def close(self, fd):
        self._world.step("close", "")
        unlock(self._file(fd))
        del self._world.actor.files[fd]

    def read(self, fd, count):
        found = self._file(fd)
        if found.node.is_folder:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), found.path)
        data = bytes(found.node.data[found.offset : found.offset + count])
        found.offset += len(data)
        return data

    def pread(self, fd, count, offset):
        return bytes(self._file(fd).node.data[offset : offset + count])

    def write(self, fd, data):
        found = self._file(fd)
        offset = len(found.node.data) if found.flags & os.O_APPEND else found.offset
        short = self._world.step("write", found.path, len(data))
        if short is not None:  # killed in the middle, or the disk had room for a part only
            self._disk.write(found.node, offset, data[:short])
            self._world.after_short_write()
            data = data[:short]
        else:
            self._disk.write(found.node, offset, data)
        found.offset = offset + len(data)
        return len(data)

    def pwrite(self, fd, data, offset):
        found = self._file(fd)
        self._world.step("pwrite", found.path)
        # Linux appends where the file was opened so, whatever the offset (pwrite(2), BUGS).
        place = len(found.node.data) if found.flags & os.O_APPEND else offset
        self._disk.write(found.node, place, data)
        return len(data)

    def ftruncate(self, fd, size):
        found = self._file(fd)
        self._world.step("ftruncate", found.path)
        self._disk.truncate(found.node, size)

    def fsync(self, fd):
        found = self._file(fd)
        self._world.step("fsync", found.path)
        self._disk.sync(found.node)

    def fstat(self, fd):
        return self._file(fd).node.stat()

    # -- names -------------------------------------------------------------------------------

    def stat(self, path, *, dir_fd=None):
        self._world.step("stat", path)
        return self._disk.find(path, self._start(dir_fd)).stat()

    def access(self, path, mode, *, dir_fd=None, follow_symlinks=True):
        try:
            self._disk.find(path, self._start(dir_fd))
        except OSError:
            return False
        return True

    def _exists(self, path):
        try:
            self._disk.find(path)
        except OSError:
            return False
        return True

    def _is_folder(self, path):
        try:
            return self._disk.find(path).is_folder
        except OSError:
            return False

    def link(self, source, target, *, src_dir_fd=None, dst_dir_fd=None, follow_symlinks=True):
        self._world.step("link", target)
        node = self._disk.find(source, self._start(src_dir_fd))
        folder, name = self._disk.place(target, self._start(dst_dir_fd))
        if name in folder.entries:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        self._disk.link(node, folder, name)

    def unlink(self, path, *, dir_fd=None):
        self._world.step("unlink", path)
        folder, name = self._disk.place(path, self._start(dir_fd))
        if name not in folder.entries:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self._disk.unlink(folder, name)

    def rename(self, source, target, *, src_dir_fd=None, dst_dir_fd=None):
        self._world.step("rename", target)
        folder, name = self._disk.place(source, self._start(src_dir_fd))
        if name not in folder.entries:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        to_folder, to_name = self._disk.place(target, self._start(dst_dir_fd))
        self._disk.rename(folder, name, to_folder, to_name)

    replace = rename

    def mkdir(self, path, mode=0o777):
        self._world.step("mkdir", path)
        folder, name = self._disk.place(path)
        if name in folder.entries:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        self._disk.make(folder, name, is_folder=True)

    def listdir(self, path):
        self._world.step("listdir", path)
        return list(self._disk.folder(path).entries)

    def scandir(self, path):
        return nullcontext([])  # agents here leave nothing in their worktrees

    def getpid(self):
        return self._world.actor.pid


class _Reader:
    """What `open(path, "rb")` gives."""

    def __init__(self, system, fd):
        self._system = system
        self._fd = fd

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._system.close(self._fd)

    def fileno(self):
        return self._fd

    def read(self, count=1 << 40):
        return self._system.read(self._fd, count)

    def seek(self, offset):
        self._system._file(self._fd).offset = offset


def unlock(file):
    if file in file.node.holders:
        file.node.holders.remove(file)


class SimFlock:
    """flock(2): a lock belongs to the open file, and goes with its last descriptor."""

    LOCK_SH, LOCK_EX, LOCK_NB = 1, 2, 4

    def __init__(self, world):
        self._world = world

    def flock(self, fd, operation):
        self._world.step("flock", "")
        file = self._world.actor.files[fd]
        others = [other for other in file.node.holders if other is not file]
        exclusive = bool(operation & self.LOCK_EX)
        if any(exclusive or other.is_exclusive for other in others):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        file.is_exclusive = exclusive
        if file not in file.node.holders:
            file.node.holders.append(file)


class Installed:
    """Puts a world's system into the product's modules while the `with` block lasts."""

    def __init__(self, world, processes, *, with_service=False):
        system, flock, clock = SimOs(world), SimFlock(world), SimTime(world)

        def open_file(path, *_, **__):
            fd = path if isinstance(path, int) else system.open(path, os.O_RDONLY)
            return _Reader(system, fd)

        everything = {"os": system, "open": open_file, "fcntl": flock, "time": clock}
        self.system = system
        self._names = [
            (module, name, value)
            for module in (*_MODULES, *(_OF_SERVICE if with_service else ()))
            for name, value in everything.items()
            if name == "open" or name in vars(module)
        ]
        self._names += [(local, "processes", processes), (launching, "secrets", SimSecrets(world))]
        self._names += [(activity, "processes", processes)] if with_service else []
        self._before = []

    def __enter__(self):
        for module, name, value in self._names:
            self._before.append((module, name, vars(module).get(name, _MISSING)))
            setattr(module, name, value)
        return self

    def __exit__(self, *exception):
        while self._before:
            module, name, value = self._before.pop()
            if value is _MISSING:
                delattr(module, name)
            else:
                setattr(module, name, value)


class SimSecrets:
    """Random bits that a seed repeats."""

    def __init__(self, world):
        self._world = world

    def token_hex(self, count):
        return self._world.new_token()


class SimTime:
    """Virtual time."""

    gmtime = staticmethod(time.gmtime)
    strftime = staticmethod(time.strftime)

    def __init__(self, world):
        self._world = world

    def monotonic(self):
        return self._world.now

    def time(self):
        return self._world.wall_seconds()

    def sleep(self, seconds):
        self._world.sleep(seconds)
