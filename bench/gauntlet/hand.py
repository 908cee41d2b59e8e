"""What a command of a play is started through; it can be struck at a call named by what it means.

strace counts calls by thread and by name, and no two plays are the same to the call, least of all
on a machine that has other work. Here the N-th call of a name on a path is found whichever thread
makes it, a commit also by the kinds of events in it: Python announces it, or the function of `os`
is wrapped. Then, before the call,

- `kill`: the process kills itself;
- `mark`: the call is made by the other system call that does the same and that the program never
  makes (writev for write, fdatasync for fsync, …), which strace has the system refuse.

    python -P hand.py PYTHON-OF-RUNNERS COMMAND…      with GAUNTLET_STRIKE="HOW NAME N KIND PATTERN"
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

STRIKE = "GAUNTLET_STRIKE"
ANY = "-"  # as KIND: whatever is committed
JOURNAL = "batch.journal.jsonl"
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_TYPES = re.compile(rb'"type":"([a-z-]+)"')
_EVENTS = {
    "open": "openat",
    "os.mkdir": "mkdir",
    "os.rename": "rename",
    "os.remove": "unlink",
    "os.link": "link",
    "fcntl.flock": "flock",
    "os.truncate": "ftruncate",
}
_WRAPPED = {"fsync": "fsync", "write": "write", "pwrite": "pwrite64", "mkfifo": "mknodat"}
KILLED = frozenset({*_EVENTS.values(), *_WRAPPED.values()})
# The other system call, by what strace calls the usual one.
MARKS = {
    "write": "writev",
    "pwrite64": "pwritev2",
    "fsync": "fdatasync",
    "rename": "renameat",
    "link": "linkat",
}
_MARKED = {**_WRAPPED, "rename": "rename", "replace": "rename", "link": "link"}


def kinds_of(data: bytes) -> list[str]:
    """The kinds of events in what is written to a journal."""
    return sorted({name.decode() for name in _TYPES.findall(data)}) or ["newline"]


def _other_call(function: str, arguments: tuple[Any, ...]) -> Any:
    """Make the call by the system call that strace listens for."""
    if function == "write":
        return os.writev(arguments[0], [arguments[1]])
    if function == "pwrite":
        return os.pwritev(arguments[0], [arguments[1]], arguments[2])
    if function == "fsync":
        return os.fdatasync(arguments[0])
    here = os.open(".", os.O_RDONLY)
    try:
        change = os.link if function == "link" else os.rename
        return change(*arguments, src_dir_fd=here, dst_dir_fd=here)
    finally:
        os.close(here)


class Strike:
    """Strike this process at the N-th call of this name, on this path, of this kind of commit."""

    def __init__(self, text: str) -> None:
        self._how, self._name, left, self._kind, pattern = text.split(" ", 4)
        self._left = int(left)
        self._pattern = re.compile(pattern)
        self._lock = threading.Lock()
        self._committing = ["before"]

    def install(self) -> None:
        """Watch from now on; audit hooks cannot be taken away again."""
        table = _WRAPPED
        if self._how == "mark":
            table = _MARKED
        else:
            sys.addaudithook(self._hear)
        for function, name in table.items():
            if name == self._name or function in ("write", "pwrite"):
                setattr(os, function, self._wrap(function, name, getattr(os, function)))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if _EVENTS.get(event) != self._name:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _CHANGING):
            return
        if self._is_aimed_at(arguments[0]):
            self._kill()

    def _wrap(self, function: str, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def considered(*arguments: Any, **options: Any) -> Any:
            if function in ("write", "pwrite") and JOURNAL in _path(arguments[0]):
                self._committing = kinds_of(bytes(arguments[1]))
            if name != self._name or not self._is_aimed_at(arguments[0]):
                return original(*arguments, **options)
            if self._how == "mark":
                return _other_call(function, arguments)
            return self._kill()

        return considered

    def _is_aimed_at(self, target: Any) -> bool:
        if self._kind not in (ANY, *self._committing):
            return False
        if self._pattern.search(_path(target)) is None:
            return False
        with self._lock:
            self._left -= 1
            return self._left == 0

    def _kill(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()  # until it has come, whichever thread it ends first


def _path(target: Any) -> str:
    if hasattr(target, "fileno"):
        target = target.fileno()
    return os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)


def main() -> None:
    """Be the command."""
    sys.executable = sys.argv.pop(1)
    strike = os.environ.pop(STRIKE, None)
    from gangline.cli.main import main as gangline

    if strike is not None:
        Strike(strike).install()
    gangline()


if __name__ == "__main__":
    main()
