"""A journal begun from a state file: ours, whose journal was lost, or the specification's shell's.

The file is never written over before the journal has all of it, and what the shell wrote stays
beside it under a name of its own.
"""

import os
from contextlib import suppress
from typing import NamedTuple

import msgspec

from gangline.core.adopt import adopted, is_bare
from gangline.core.batch import Batch
from gangline.core.codec import decode_state
from gangline.core.edit import state_of
from gangline.core.events import FORMAT_VERSION, BatchRestored, Policy
from gangline.core.issue import IssueState
from gangline.core.model import Dependency, IssueSpec, Status, check_area, check_issue_id
from gangline.durable import replace_durably
from gangline.errors import InputError, StateError
from gangline.store.area import AreaPaths
from gangline.store.edits import edited_at
from gangline.store.journal import journal_bytes
from gangline.store.locks import FileLock


class Restorable(NamedTuple):
    """A batch that a state file alone tells of; `bare`: the specification's shell wrote it."""

    batch: Batch
    bare: bool

    @property
    def report(self) -> str:
        """What a person is told."""
        if self.bare:
            return "the state file of the specification's shell is adopted"
        return "the journal was lost; it is begun anew from the state file"

    def event(self, state_path: str) -> BatchRestored:
        """The first event of the new journal; the batch is numbered by it."""
        state = state_of(self.batch)
        del state["digest"]
        event = BatchRestored(
            seq=1,
            at=self.batch.updated_at or edited_at(os.stat(state_path)),
            format=FORMAT_VERSION,
            area=self.batch.area,
            batch_id=self.batch.batch_id,
            state=state,
            adopted=self.bare,
        )
        self.batch.seq, self.batch.updated_at = 1, event.at
        return event

    def texts(self) -> list[IssueSpec]:
        """All that a bare file knows of its issues: ids and dependencies, no title and no text."""
        return [_bare_issue(issue) for issue in self.batch.issues.values()]


def read_restorable(data: bytes, paths: AreaPaths, policy: Policy) -> Restorable:
    """The batch of a state file that has no journal.

    Args:
        data: The file's bytes.
        paths: Of its area.
        policy: The rules of one that the specification's shell wrote.

    Raises:
        StateError: it cannot be used: why, and what mends it.
    """
    bare = is_bare(data)
    try:
        batch = adopted(data, paths.area, policy) if bare else decode_state(data)
        if not bare:
            _check_restorable(batch, paths.area)
    except (msgspec.DecodeError, InputError) as error:
        known = error if isinstance(error, InputError) else InputError(str(error))
        raise StateError(
            "the state file cannot be used, and there is no journal to rebuild it from",
            place=paths.state,
            causes=[known.message, *known.causes],
            hint=known.hint or "mend the file or move it away; it is never written over",
        ) from error
    return Restorable(batch, bare)


def keep_original(path: str) -> None:
    """Keep the file of the specification's shell as it was, once."""
    with suppress(FileExistsError):
        os.link(path, f"{path}.adopted")


def bare_text(paths: AreaPaths) -> bytes | None:
    """The state file, if the specification's shell wrote it and it is not adopted yet."""
    if journal_bytes(paths.journal):
        return None
    try:
        with open(paths.state, "rb") as file:
            state = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return state if state and is_bare(state) else None


def replace_bare(paths: AreaPaths, state: object) -> None:
    """Write a changed bare state, which could be adopted; the first text is kept.

    Raises:
        StateError: it could not be adopted; nothing was changed.
    """
    data = msgspec.json.encode(state)
    lock = FileLock(paths.journal_lock)
    lock.acquire()
    try:
        read_restorable(data, paths, Policy())
        keep_original(paths.state)
        replace_durably(paths.state, data)
    finally:
        lock.release()


def _bare_issue(issue: IssueState) -> IssueSpec:
    edges = tuple(Dependency(id=other, place="batch.state.json") for other in issue.depends_on)
    return IssueSpec(id=issue.id, title="", place="batch.state.json", depends_on=edges)


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
