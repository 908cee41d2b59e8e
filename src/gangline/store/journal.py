"""The journal: the truth, one event a line, append + fsync = commit.

A crash leaves at most a torn last line: a prefix of what was being written, never acknowledged. It
is cut off and reported. Anything else that does not match its checksum or its sequence number is
damage: it stops everything with the line, the byte and the way to repair it, because going on would
be a guess about what happened.
"""

import errno
import os
from collections.abc import Sequence
from typing import NamedTuple

from gangline.core.codec import (
    BadLineError,
    check_line,
    decode_event,
    encode_event,
    format_of,
    line_seq,
)
from gangline.core.digest import is_line
from gangline.core.events import FORMAT_VERSION, AnyEvent
from gangline.durable import sync_folders, write_all
from gangline.errors import StateError

_DISK_BLOCK_BYTES = 512
_FOLDERS_DEEP = 4  # {top}/.workspace/orchestrate/{area}: all that Gangline may have made, and top


class Lines(NamedTuple):
    """Checked lines of a journal from an offset on.

    Attributes:
        lines: Without newlines; `lines[0]` has sequence number `first_seq`.
        torn: What follows the last whole line: a write that a crash cut short.
        heal: The last line is whole but for its newline.
        end: The offset after the last whole line.
    """

    first_seq: int
    lines: list[bytes]
    torn: bytes
    heal: bool
    end: int


def check_lines(data: bytes, *, offset: int, first_seq: int, path: str) -> Lines:
    """Check what was read from `offset` on.

    Raises:
        StateError: damage, or a journal of a newer version.
    """
    lines = data.split(b"\n")
    torn = lines.pop()
    if offset == 0 and lines:
        _check_format(lines[0], path)
    at = offset
    for index, line in enumerate(lines):
        if not is_line(line, first_seq + index):
            rest = b"\n".join([*lines[index:], torn])
            if _was_never_filled(rest, at) and not _any_whole(lines[index + 1 :]):
                return Lines(first_seq, lines[:index], rest, heal=False, end=at)
            raise _damage(path, first_seq + index, at, _fault(line))
        at += len(line) + 1
    for whole in (torn, torn[:-1]):
        if is_line(whole, first_seq + len(lines)):
            return Lines(first_seq, [*lines, whole], torn[len(whole) :], heal=True, end=at)
    return Lines(first_seq, lines, torn, heal=False, end=at)


def _fault(line: bytes) -> str:
    """What is wrong with a line that is not the next one."""
    try:
        check_line(line)
        return f"it has number {line_seq(line)}"
    except ValueError as error:
        return str(error)


def _is_whole(line: bytes) -> bool:
    try:
        check_line(line)
    except BadLineError:
        return False
    return True


def _any_whole(lines: list[bytes]) -> bool:
    return any(_is_whole(line) for line in lines)


def _was_never_filled(rest: bytes, offset: int) -> bool:
    """Whether blocks of what was being written never reached the disk (a power cut).

    Then NULs run to the end of a disk block or of the file. One NUL alone is damage, perhaps of a
    committed line.
    """
    line = rest.partition(b"\n")[0]
    start = line.find(b"\0")
    if start < 0:
        return False
    end = start
    while end < len(rest) and rest[end] == 0:
        end += 1
    return end - start > 1 and (end == len(rest) or (offset + end) % _DISK_BLOCK_BYTES == 0)


def _check_format(line: bytes, path: str) -> None:
    found = format_of(line)
    if found is not None and found > FORMAT_VERSION:
        raise StateError(
            f"the journal has format version {found}; this Gangline knows {FORMAT_VERSION}",
            place=path,
            hint="update Gangline, or finish the batch with the version that began it",
        )


def _damage(path: str, seq: int, byte: int, why: str) -> StateError:
    return StateError(
        f"the journal is damaged at line {seq}, byte {byte}: {why}",
        place=path,
        causes=["a crash can only cut the last line short, so this was something else"],
        hint=(
            "the state file can rebuild the journal; keep the damaged one beside it and run "
            f"again: mv {_quote(path)} {_quote(path + '.damaged')}"
        ),
    )


def _quote(path: str) -> str:
    return "'" + path.replace("'", "'\\''") + "'"


class Journal:
    """One open journal file. Append only under the journal lock."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd: int | None = None
        self._unwritable: OSError | None = None  # why it can only be read
        self._end = 0  # offset after the last whole line known
        self._seq = 0  # its sequence number
        self._unterminated = False  # its newline is missing

    @property
    def seq(self) -> int:
        """The sequence number of the last line read or written."""
        return self._seq

    def exists(self) -> bool:
        """Whether there is a journal with something in it."""
        try:
            return os.stat(self.path).st_size > 0
        except (FileNotFoundError, NotADirectoryError):
            return False

    def read(self) -> Lines:
        """The checked lines after the last known one; takes note of them.

        Raises:
            StateError: damage, or the file is another one than before.
        """
        fd = self._open()
        size = os.fstat(fd).st_size
        if size < self._end:
            raise self._replaced()
        data = _pread_all(fd, self._end, size) if size > self._end else b""
        if self._unterminated:
            if data[:1] != b"\n":
                return Lines(self._seq + 1, [], data, heal=True, end=self._end)
            # Another has put it there.
            data, self._end, self._unterminated = data[1:], self._end + 1, False
        found = check_lines(data, offset=self._end, first_seq=self._seq + 1, path=self.path)
        self._end, self._seq = found.end, self._seq + len(found.lines)
        if found.heal:
            self._end += len(found.lines[-1])
            self._unterminated = True
        return found

    def repair(self, found: Lines) -> None:
        """Make durable what was read, without a torn tail (only under the lock).

        Whoever wrote it may have been killed before its own sync, and from now on it is acted upon.
        """
        if found.torn or found.heal:
            fd = self._open_to_write()
            os.ftruncate(fd, self._end)
            if found.heal:
                os.pwrite(fd, b"\n", self._end)
                self._end += 1
                self._unterminated = False
            os.fsync(fd)
        elif found.lines:
            os.fsync(self._open())

    def create(self) -> None:
        """Make the empty file; refuses one that has something in it."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.close()
        self._fd = os.open(self.path, flags, 0o600)
        if os.fstat(self._fd).st_size:
            raise self._replaced()
        self._end = self._seq = 0
        sync_folders(os.path.dirname(self.path), _FOLDERS_DEEP)

    def append(self, events: Sequence[AnyEvent]) -> None:
        """Commit events numbered on from `seq`: one write, one fsync.

        Raises:
            StateError: the disk refused; the file is as it was before, as far as the disk allows.
                Or somebody wrote beside us: the lock's file was deleted while it was held.
        """
        data = b"".join(map(encode_event, events))
        fd = self._open_to_write()
        if os.fstat(fd).st_size != self._end:
            raise StateError(
                "the journal was written by another process at the same time",
                place=self.path,
                causes=["its lock's file was deleted; nothing was recorded or started here"],
                hint="run the same command again",
            )
        try:
            write_all(fd, data)
            os.fsync(fd)
        except OSError as error:
            self._cut_back(fd)
            raise StateError(
                f"the journal could not be written: {error.strerror}",
                place=self.path,
                causes=["nothing was started or ended for what is not recorded"],
                hint="make room or mend the disk, then run the same command again",
            ) from error
        self._end += len(data)
        self._seq += len(events)

    def _cut_back(self, fd: int) -> None:
        """Leave no half line behind; if even that fails, the next start cuts it."""
        try:
            os.ftruncate(fd, self._end)
        except OSError:
            return

    def check_same_file(self) -> None:
        """Raises StateError if the path no longer names the file that is open."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            raise self._replaced() from None
        here = os.fstat(self._open())
        if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
            raise self._replaced()

    def _open(self) -> int:
        """The file; on a disk, or as a user, that may not write it can still be looked at."""
        if self._fd is None:
            try:
                self._fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            except OSError as error:
                if error.errno not in (errno.EROFS, errno.EACCES):
                    raise
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                self._unwritable = error
        return self._fd

    def _open_to_write(self) -> int:
        fd = self._open()
        if self._unwritable is not None:
            raise self._unwritable
        return fd

    def close(self) -> None:
        """Close the file; what is read next is read from its beginning."""
        self._end = self._seq = 0
        self._unterminated = False
        self._unwritable = None
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _replaced(self) -> StateError:
        return StateError(
            "the journal was removed, replaced or shortened while it was in use",
            place=self.path,
            causes=["running agents go on; what they do is in their attempt folders"],
            hint="put the journal back, or run again to rebuild it from the state file",
        )


def _pread_all(fd: int, start: int, end: int) -> bytes:
    parts = []
    while start < end:
        part = os.pread(fd, end - start, start)
        if not part:
            break
        parts.append(part)
        start += len(part)
    return b"".join(parts)


def journal_bytes(path: str) -> int:
    """How long the journal is now; 0 without one."""
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0


def events_from(path: str, byte: int) -> list[AnyEvent]:
    """The events after the first so many bytes; a line that lies across them is left out.

    They are taken for checked: for a journal that was just loaded.
    """
    if not journal_bytes(path):
        return []
    with open(path, "rb") as file:
        file.seek(max(0, byte - 1))
        lines = file.read().split(b"\n")[:-1]
    return [decode_event(line) for line in (lines[1:] if byte else lines)]
