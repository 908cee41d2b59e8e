"""Writing so that it outlasts a power cut: the file, its folder and every new parent folder synced.

After a failed fsync the page may be marked clean though it is not on the disk, so an error here is
never tried again (EVIDENCE.md section 2): it ends the program, and the next start reads the truth.
"""

import errno
import os

from gangline.errors import StateError


class disk_errors:  # noqa: N801 - used as `with disk_errors(...)`; `contextlib` costs `status` 5 ms
    """Make what the disk refuses a person's to mend.

    Args:
        what: What could not be done; may hold ids.
        cause: What did not happen because of it.

    Raises:
        StateError: the disk refused.
    """

    def __init__(self, what: str, cause: str) -> None:
        self._what = what
        self._cause = cause

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise StateError(
                f"{self._what}: {error.strerror}",
                place=error.filename,
                causes=[self._cause],
                hint="make room or mend the disk, then run the same command again",
            ) from error


def write_durably(path: str, data: bytes) -> None:
    """Write a file of ours (0600) and sync its contents; sync its folder to keep its name."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; a signal or a short write in between is gone on from."""
    while data:
        data = data[os.write(fd, data) :]


def replace_durably(path: str, data: bytes) -> None:
    """Put a whole new file in the place of `path`, at one instant, durably."""
    part = f"{path}.{os.getpid()}.part"
    write_durably(part, data)
    os.replace(part, path)
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some file systems cannot sync a folder and say so; then there is nothing to be done.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


def sync_folders(path: str, count: int) -> None:
    """Make the names in a folder durable, and its own name, and so on upwards, `count` folders.

    For the beginning of something: that a folder is there does not tell that its name is durable,
    for whoever made it may have been killed before its sync.
    """
    for _ in range(count):
        sync_folder(path)
        path = os.path.dirname(path)


def make_folders(path: str, mode: int = 0o700) -> None:
    """Make a folder and its missing parents, each durable in the one above it."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(path)
    if parent and parent != path:
        make_folders(parent, mode)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    sync_folder(parent or ".")
