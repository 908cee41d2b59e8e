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
from gangline.core.events import AnyEvent, BatchRestored, BatchStarted, Policy
from gangline.core.model import IssueSpec
from gangline.core.transitions import IllegalEventError
from gangline.durable import make_folders, sync_folder, write_all
from gangline.errors import StateError
from gangline.store.area import AreaPaths
from gangline.store.edits import Check, edited_at, judge, keep_beside, refused
from gangline.store.journal import Journal, Lines, events_from, journal_bytes
from gangline.store.locks import FileLock
from gangline.store.restoring import keep_original, read_restorable
from gangline.store.texts import keep_joined, read_texts, write_texts

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


class Store:
    """The journal and state file of one area. `batch` is their fold.

    Args:
        paths: Where they are.
        check: Refuses edits for reasons that only the settings know.
        policy: The rules of a batch that is adopted from the specification's shell.
    """

    def __init__(
        self, paths: AreaPaths, check: Check | None = None, policy: Policy | None = None
    ) -> None:
        self.paths = paths
        self._policy = policy or Policy()
        self._check = check
        self.batch = Batch()
        self.reports: list[str] = []  # what a person should be told about loading
        self._journal = Journal(paths.journal)
        self._lock = FileLock(paths.journal_lock)
        self._encoder = StateEncoder(self.batch)
        self._written: tuple[int, int, int] | None = None  # of the state file as we left it

    # -- loading ---------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the area has a batch."""
        return self._journal.exists() or self._read_state() is not None

    def load(self, *, repair: bool = False) -> bool:
        """Read the batch; False if there is none.

        Args:
            repair: Mend what a crash left (only for one that will write): cut a torn tail, begin
                the journal anew from the state file, take an edit of it, put the true one back.

        Raises:
            StateError: damage, a state that is not ours, or an edit that cannot be taken.
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
            return self._load_without_journal(state or None, repair=repair)
        checkpoint = self._checkpoint(state, found)
        on_file = 0
        if checkpoint is not None:
            self._set_batch(checkpoint, details_of(state or b""))
            on_file = checkpoint.seq  # folding on moves it
        self._fold_lines(found.lines[on_file:])
        if not repair and checkpoint is None:
            self._written = None  # an edit may be in it, which the next transaction takes
        if repair:
            self._journal.repair(found)
            refusal = self._take_text(state) if checkpoint is None and state else None
            if on_file != self.batch.seq:
                self.write_state()
            if refusal is not None:
                raise refusal
        return bool(found.lines)

    def _take_text(self, state: bytes) -> StateError | None:
        """Record what an edited state file changes; what cannot be taken is kept beside it."""
        found = judge(state, self.batch, self.paths.journal, self._check)
        if found.edit is not None:
            at = edited_at(os.stat(self.paths.state))
            moment = Transaction(self.batch, [], max(at, self.batch.updated_at))
            moment.record(found.edit)
            self._commit(moment.events)
            self.reports.append("the state file was changed by hand: the change is taken")
        if found.refusal is None:
            return None
        kept = keep_beside(self.paths.state)
        if found.alarming:
            return refused(found.refusal, self.paths.state, kept, self.paths.area)
        self.reports.append(
            f"the state file is not of this journal ({found.refusal.message}); it is kept as {kept}"
        )
        return None

    def last_events(self) -> list[AnyEvent]:
        """The newest events, oldest first; for people, nothing is decided by it."""
        path = self.paths.journal
        return events_from(path, max(0, journal_bytes(path) - _LAST_BYTES))

    def _read_state(self) -> bytes | None:
        try:
            with open(self.paths.state, "rb") as file:
                self._written = _stamp(os.fstat(file.fileno()))
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _checkpoint(self, state: bytes | None, found: Lines) -> Batch | None:
        """The batch of a state file that is byte for byte ours and of this journal."""
        if not state or not found.lines or not digest_matches(state):
            return None
        try:
            batch = decode_state(state)
            first, newest = map(decode_event, (found.lines[0], *found.lines[: batch.seq][-1:]))
        except (msgspec.DecodeError, ValueError):
            return None
        same = isinstance(first, BatchStarted | BatchRestored) and first.batch_id == batch.batch_id
        # A power cut may bring back the file of a journal that was lost: the moment tells it.
        same = same and (newest.seq, newest.at) == (batch.seq, batch.updated_at)
        return batch if same else None

    def _load_without_journal(self, state: bytes | None, *, repair: bool) -> bool:
        if state is None:
            return False
        found = read_restorable(state, self.paths, self._policy)
        self._set_batch(found.batch)
        self.reports.append(found.report)
        if repair:
            if found.bare:
                keep_original(self.paths.state)
                if not os.path.exists(self.paths.issues):
                    self.write_issues(found.texts())
            self._journal.create()
            self._commit([found.event(self.paths.state)])
        return True

    def _fold_lines(self, lines: Sequence[bytes]) -> list[AnyEvent]:
        events = []
        for line in lines:
            try:
                event = decode_event(line)
                self._set_batch(replay(self.batch, event))
            except (
                BadLineError,
                IllegalEventError,
                KeyError,
                ValueError,
                msgspec.DecodeError,
            ) as error:
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
            write_texts(self.paths.issues, issues)
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
            self._look_for_edit(moment)
            yield moment
            if moment.events:
                self._commit(moment.events)
        finally:
            self._lock.release()

    def _commit(self, events: Sequence[AnyEvent]) -> None:
        keep_joined(self.paths.issues, self.paths.area, events)
        self._journal.append(events)
        self.write_state()

    def _look_for_edit(self, moment: Transaction) -> None:
        """Take a change of the state file first of all; one that cannot be taken is undone."""
        if not self._is_changed():
            return
        data = self._read_state()
        if not data or data == self._encoder.encode():
            return
        found = judge(data, self.batch, self.paths.journal, self._check)
        if found.edit is not None:
            moment.record(found.edit)
            return
        if found.refusal is not None:
            kept = keep_beside(self.paths.state)
            error = refused(found.refusal, self.paths.state, kept, self.paths.area)
            self.reports.append("; ".join([error.message, *error.causes]))
        self.write_state()

    def _is_changed(self) -> bool:
        """Whether somebody else wrote the state file since it was last read or written here."""
        try:
            return _stamp(os.stat(self.paths.state)) != self._written
        except FileNotFoundError:
            return False

    def _keep_an_edit(self) -> None:
        """Put a file aside that was changed in the instant between the look and the replacement."""
        if self._written is None or not self._is_changed():
            return
        state = self._read_state()
        if state and not digest_matches(state):
            kept = keep_beside(self.paths.state)
            self.reports.append(
                f"the state file was changed while it was being written: the change is not taken; "
                f"it is kept as {kept}"
            )

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
        """The issues as they were read from the source, by key; see `read_texts`."""
        return read_texts(self.paths.issues, self.paths.area)

    def write_issues(self, issues: Sequence[IssueSpec]) -> None:
        """Replace the issues' texts, durably."""
        write_texts(self.paths.issues, issues)

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

    def check_same_batch(self) -> None:
        """Raises StateError if the area's folder is not this batch's any more."""
        self._journal.check_same_file()

    def close(self) -> None:
        """Close the files."""
        self._journal.close()


def _stamp(found: os.stat_result) -> tuple[int, int, int]:
    """What tells a file that was written or replaced since."""
    return found.st_ino, found.st_mtime_ns, found.st_size
