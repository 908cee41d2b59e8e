"""One area's batch: load it, change it in transactions, keep the state file equal to the fold.

Either file alone rebuilds the other. The journal lost: the state file, which was replaced before
any effect of its events, begins a new one. The state file lost, lagging or broken: the journal is
folded. A state file whose digest matches is a checkpoint, so a start folds only what came after it.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from gangline.core.batch import Batch
from gangline.core.codec import (
    BadLineError,
    StateEncoder,
    decode_event,
    decode_state,
    details_of,
    replay,
)
from gangline.core.digest import digest_matches
from gangline.core.events import (
    FORMAT_VERSION,
    AnyEvent,
    BatchRestored,
    BatchStarted,
    IllegalEventError,
)
from gangline.core.model import IssueSpec, Status, check_area, check_issue_id
from gangline.durable import make_folders, replace_durably, sync_folder, write_all
from gangline.errors import InputError, StateError
from gangline.store.area import AreaPaths
from gangline.store.journal import Journal, Lines, events_from, journal_bytes
from gangline.store.locks import FileLock

_LAST_BYTES = 65536


class Transaction:
    """A moment in which nobody else writes: `batch` is up to date; what is recorded is committed
    together when the moment ends.

    `fresh` holds the events that others appended since the last look; `events` what was recorded.
    """

    def __init__(self, batch: Batch, fresh: list[AnyEvent], at: str) -> None:
        self.batch = batch
        self.fresh = fresh
        self.events: list[AnyEvent] = []
        self._at = at

    def record(self, event: AnyEvent) -> None:
        """Number the event, fold it, and have it committed with the others.

        Raises:
            IllegalEventError: it cannot follow; the batch is unchanged.
        """
        stamped = msgspec.structs.replace(event, seq=self.batch.seq + 1, at=self._at)
        self.batch.fold(stamped)
        self.events.append(stamped)


def _check_restorable(batch: Batch, area: str) -> None:
    """Refuse a state file whose names cannot become paths, or that does not hold together.

    Raises:
        InputError: naming what is wrong.
    """
    check_area(batch.area)
    if batch.area != area:
        raise InputError(f"it is the state of area {batch.area!r}")
    check_issue_id(batch.batch_id, "$.batchId")
    for key, issue in batch.issues.items():
        check_issue_id(key, "$.issues")
        is_open = issue.attempt is not None and issue.attempt.outcome is None
        if is_open != (issue.status is Status.DISPATCHED):
            raise InputError(f"issue {key!r} is {issue.status} and its last attempt says otherwise")


class Store:
    """The journal and state file of one area. `batch` is their fold."""

    def __init__(self, paths: AreaPaths) -> None:
        self.paths = paths
        self.batch = Batch()
        self.reports: list[str] = []  # what a person should be told about loading
        self._journal = Journal(paths.journal)
        self._lock = FileLock(paths.journal_lock)
        self._encoder = StateEncoder(self.batch)
        self._written: tuple[int, int, int] | None = None  # of the state file as we left it

    # -- loading ---------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the area has a batch."""
        return self._journal.exists() or bool(self._read_state())

    def load(self, *, repair: bool = False) -> bool:
        """Read the batch; False if there is none.

        Args:
            repair: Mend what a crash left (only for one that will write): cut a torn tail, begin
                the journal anew from the state file, put the true state file back.

        Raises:
            StateError: damage, or a state that is not ours.
        """
        if not repair:
            return self._load(repair=False)
        self._lock.acquire()
        try:
            return self._load(repair=True)
        finally:
            self._lock.release()

    def _load(self, *, repair: bool) -> bool:
        self._journal.close()
        self._set_batch(Batch())
        state = self._read_state()
        if not self._journal.exists():
            return self._load_without_journal(state, repair=repair)
        found = self._journal.read()
        self._report_torn(found)
        if not found.lines:  # the write of its first line was cut short
            if repair:
                self._journal.repair(found)
            return self._load_without_journal(state, repair=repair)
        checkpoint = self._checkpoint(state, found)
        on_file = 0
        if checkpoint is not None:
            self._set_batch(checkpoint, details_of(state or b""))
            on_file = checkpoint.seq  # folding on moves it
        self._fold_lines(found.lines[on_file:])
        if repair:
            self._journal.repair(found)
            if checkpoint is None:
                self._put_aside(state)
            if on_file != len(found.lines):
                self.write_state()
        return bool(found.lines)

    def last_events(self) -> list[AnyEvent]:
        """The newest events, oldest first; for people, nothing is decided by it."""
        path = self.paths.journal
        return events_from(path, max(0, journal_bytes(path) - _LAST_BYTES))

    def _read_state(self) -> bytes | None:
        try:
            with open(self.paths.state, "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _checkpoint(self, state: bytes | None, found: Lines) -> Batch | None:
        """The batch of a state file that is byte for byte ours and of this journal."""
        if not state or not found.lines or not digest_matches(state):
            return None
        try:
            batch = decode_state(state)
            first = decode_event(found.lines[0])
        except (msgspec.DecodeError, BadLineError):
            return None
        same = isinstance(first, BatchStarted | BatchRestored) and first.batch_id == batch.batch_id
        return batch if same and batch.seq <= len(found.lines) else None

    def _load_without_journal(self, state: bytes | None, *, repair: bool) -> bool:
        if not state:
            return False
        try:
            batch = decode_state(state)
            raw = msgspec.json.decode(state)
            _check_restorable(batch, self.paths.area)
        except (msgspec.DecodeError, InputError) as error:
            raise StateError(
                "the state file cannot be used, and there is no journal to rebuild it from",
                place=self.paths.state,
                causes=[str(error)],
                hint="mend the file or move it away; it is never written over",
            ) from error
        self._set_batch(batch)
        self.reports.append("the journal was lost; it is begun anew from the state file")
        if repair:
            raw.pop("digest", None)
            self._journal.create()
            event = BatchRestored(
                seq=1,
                at=batch.updated_at,
                format=FORMAT_VERSION,
                area=batch.area,
                batch_id=batch.batch_id,
                state=raw,
            )
            batch.seq = 1
            self._commit([event])
        return True

    def _fold_lines(self, lines: Sequence[bytes]) -> list[AnyEvent]:
        events = []
        for line in lines:
            try:
                event = decode_event(line)
                self._set_batch(replay(self.batch, event))
            except (BadLineError, IllegalEventError, KeyError, ValueError) as error:
                raise StateError(
                    f"the journal holds an event that cannot follow what is before it: {error}",
                    place=f"{self.paths.journal}: line {self.batch.seq + 1}",
                    hint="gangline was changed or the file was edited; restore it from a copy",
                ) from error
            events.append(event)
        return events

    def _set_batch(self, batch: Batch, details: dict[str, bytes] | None = None) -> None:
        if batch is not self.batch:
            self.batch = batch
            self._encoder = StateEncoder(batch, details)

    def _report_torn(self, found: Lines) -> None:
        if found.torn and not found.heal:
            self.reports.append(
                f"the last journal line was cut short by a crash and is dropped "
                f"({len(found.torn)} bytes after line {len(found.lines)}; it was never committed)"
            )

    def _put_aside(self, state: bytes | None) -> None:
        """Keep a state file that is not ours to the byte beside the true one."""
        if not state:
            return
        number = 1
        while os.path.exists(path := f"{self.paths.state}.rejected-{number}"):
            number += 1
        os.link(self.paths.state, path)
        kept = f"is kept as {os.path.basename(path)}, the true state is put back"
        if digest_matches(state):
            self.reports.append(
                f"the state file is not of this journal (it is of another batch, or tells of "
                f"events that the journal has lost); it {kept}"
            )
        else:
            self.reports.append(
                f"the state file had been changed by hand; this version does not take edits: the "
                f"changed text {kept}"
            )

    # -- writing ---------------------------------------------------------------------------

    def create(self, event: BatchStarted, issues: Sequence[IssueSpec], at: str) -> None:
        """Begin a batch: its issues durable first, then its first event.

        Raises:
            StateError: there is a batch already.
        """
        make_folders(self.paths.folder)
        self._lock.acquire()
        try:
            if self.exists():
                raise StateError("the area has a batch already", place=self.paths.folder)
            replace_durably(self.paths.issues, msgspec.json.encode(list(issues)))
            self._journal.create()
            self._set_batch(Batch())
            moment = Transaction(self.batch, [], at)
            moment.record(event)
            self._commit(moment.events)
        finally:
            self._lock.release()

    @contextmanager
    def transaction(self, at: str) -> Iterator[Transaction]:
        """Hold the journal lock; others' events are folded first; commit at the end.

        If the body raises, nothing is written; what it recorded is then only in memory, and the
        store has to be loaded anew (a program that fails ends, and starts from the truth).

        Args:
            at: UTC, ISO 8601: the time of what is recorded.

        Raises:
            StateError: the journal was removed, replaced or damaged, or the disk refuses.
        """
        self._lock.acquire()
        try:
            self._journal.check_same_file()
            found = self._journal.read()
            self._report_torn(found)
            self._journal.repair(found)
            moment = Transaction(self.batch, self._fold_lines(found.lines), at)
            yield moment
            if moment.events:
                self._commit(moment.events)
        finally:
            self._lock.release()

    def _commit(self, events: Sequence[AnyEvent]) -> None:
        self._journal.append(events)
        self.write_state()

    def _keep_an_edit(self) -> None:
        """Put a file aside that somebody changed by hand since it was written."""
        try:
            if self._written is None or _stamp(os.stat(self.paths.state)) == self._written:
                return
        except FileNotFoundError:
            return
        state = self._read_state()
        if state and not digest_matches(state):
            self._put_aside(state)

    def write_state(self) -> None:
        """Replace the state file by the fold.

        It is not synced: the journal is the truth, and a file that a power cut left behind or
        empty is rebuilt from it. Readers see the old or the new one, whole.
        """
        data = self._encoder.encode()
        part = f"{self.paths.state}.part"
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                write_all(fd, data)
                stamp = _stamp(os.fstat(fd))
            finally:
                os.close(fd)
            self._keep_an_edit()
            os.replace(part, self.paths.state)
            self._written = stamp
        except OSError as error:
            raise StateError(
                f"the state file could not be written: {error.strerror}",
                place=self.paths.state,
                causes=["the journal has everything; the next start puts the file right"],
                hint="make room or mend the disk, then run the same command again",
            ) from error

    def read_issues(self) -> dict[str, IssueSpec]:
        """The issues as they were read from the source, by key.

        Raises:
            StateError: the file is gone or broken.
        """
        try:
            with open(self.paths.issues, "rb") as file:
                found = msgspec.json.decode(file.read(), type=list[IssueSpec])
        except (OSError, msgspec.DecodeError) as error:
            raise StateError(
                "the issues' texts cannot be read",
                place=self.paths.issues,
                causes=[str(error)],
                hint=f"read them anew from the source: gangline run {self.paths.area} --from SRC",
            ) from error
        return {issue.key: issue for issue in found}

    def write_issues(self, issues: Sequence[IssueSpec]) -> None:
        """Replace the issues' texts, durably."""
        replace_durably(self.paths.issues, msgspec.json.encode(list(issues)))

    def archive(self) -> str:
        """Move the area's folder into the archive, durably; its new path. The batch is over.

        Raises:
            StateError: somebody changed the batch since it was read: it may not be over any more.
        """
        self._lock.acquire()
        try:
            self._journal.check_same_file()
            if self._journal.read().lines:
                raise StateError(
                    f"the batch of area {self.batch.area} was changed while it was being archived",
                    place=self.paths.journal,
                    hint=f"run again: gangline run {self.batch.area}",
                )
            make_folders(self.paths.archive)
            target = os.path.join(self.paths.archive, self.batch.batch_id)
            if os.path.exists(target):
                target += time.strftime("-%Y%m%dT%H%M%S", time.gmtime())
            os.rename(self.paths.folder, target)
            sync_folder(self.paths.archive)
            sync_folder(self.paths.root)
        finally:
            self._lock.release()
            self.close()
        return target

    def close(self) -> None:
        """Close the files."""
        self._journal.close()


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    """What tells a file that was written or replaced since."""
    return found.st_ino, found.st_mtime_ns, found.st_size
