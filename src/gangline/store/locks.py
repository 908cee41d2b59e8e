"""Flocks that outlive nothing: the kernel lets go of them when the holder dies.

Lock files are never deleted, and every descriptor is closed on exec, so no child inherits a lock.
"""

import fcntl
import os
import time

from gangline.durable import make_folders
from gangline.errors import MachineError

_JOURNAL_PATIENCE_SECONDS = 30.0
_RETRY_SECONDS = 0.002


class FileLock:
    """One exclusive flock; also tells who holds it, if another does."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd: int | None = None

    def try_acquire(self) -> bool:
        """Take it if it is free."""
        make_folders(os.path.dirname(self.path))
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def acquire(self) -> None:
        """Take it, waiting for a short while.

        Raises:
            MachineError: somebody keeps what is only ever held for milliseconds.
        """
        deadline = time.monotonic() + _JOURNAL_PATIENCE_SECONDS
        while not self.try_acquire():
            if time.monotonic() > deadline:
                raise MachineError(
                    "the journal is locked by a process that does not let go of it",
                    place=self.path,
                    causes=[f"the lock is held for more than {_JOURNAL_PATIENCE_SECONDS:.0f} s"],
                    hint=f"find the process that holds it: fuser {self.path}",
                )
            time.sleep(_RETRY_SECONDS)

    def write_holder(self, text: str) -> None:
        """Say who holds it, for whoever finds it taken."""
        if self._fd is None:
            return
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text.encode(), 0)

    def release(self) -> None:
        """Let go."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def lock_is_held(path: str) -> bool | None:
    """Whether somebody holds the lock; None if nobody can tell. Creates nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    else:
        return False
    finally:
        os.close(fd)


def read_holder(path: str) -> str:
    """What the holder wrote about itself; "" if nothing."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(4096).strip()
    except OSError:
        return ""
