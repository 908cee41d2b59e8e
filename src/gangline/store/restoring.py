"""A journal begun from a state file: ours, whose journal was lost, or the specification's shell's.

The file is never written over before the journal has all of it, and what the shell wrote stays
beside it under a name of its own.
"""

import os
import re
from contextlib import suppress
from typing import NamedTuple

import msgspec

from gangline.core.adopt import adopted, is_bare
from gangline.core.batch import Batch
from gangline.core.codec import decode_state
from gangline.core.edit import state_of
from gangline.core.events import FORMAT_VERSION, BatchRestored, Policy
from gangline.core.graph import check_edges
from gangline.core.issue import IssueState
from gangline.core.model import (
    Dependency,
    IssueId,
    IssueSpec,
    Status,
    check_area,
    check_ids,
    check_issue_id,
)
from gangline.durable import replace_durably
from gangline.errors import InputError, StateError
from gangline.store.area import AreaPaths
from gangline.store.edits import edited_at, keep_beside
from gangline.store.journal import journal_bytes
from gangline.store.locks import FileLock

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z\Z", re.ASCII)  # as ours


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
            at=_time_of(self.batch, state_path),
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
        if bare:
            batch = adopted(data, paths.area, policy)
        else:
            _check_graph(data, paths.area)
            batch = decode_state(data)
            _check_restorable(batch, paths.area)
    except (msgspec.DecodeError, InputError, RecursionError) as error:
        known = error if isinstance(error, InputError) else InputError(str(error))
        raise StateError(
            "the state file cannot be used, and there is no journal to rebuild it from",
            place=paths.state,
            causes=[known.message, *known.causes],
            hint=known.hint or "mend the file or move it away; it is never written over",
        ) from error
    return Restorable(batch, bare)


def _time_of(batch: Batch, path: str) -> str:
    """When the state was written: what it says itself if that is a time, else its file's."""
    said = batch.updated_at
    return said if _TIME.match(said) else edited_at(os.stat(path))


def keep_original(path: str) -> None:
    """Keep the file of the specification's shell as it was, once."""
    with suppress(FileExistsError):
        os.link(path, f"{path}.adopted")


def text_without_journal(paths: AreaPaths) -> bytes | None:
    """The state file, if no journal tells what it changes: one that the specification's shell
    wrote and nobody adopted yet, or ours if no journal can be begun from it as it is.
    """
    if journal_bytes(paths.journal):
        return None
    try:
        with open(paths.state, "rb") as file:
            state = file.read()
        if is_bare(state):
            return state
        msgspec.json.decode(state)
        read_restorable(state, paths, Policy())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    except StateError:
        return state
    return None


def replace_text(paths: AreaPaths, before: bytes, state: object) -> bool:
    """Write a changed state that has no journal, which could begin one; the first text is kept.

    Args:
        paths: Of the area.
        before: What `state` was made from.
        state: The changed one.

    Returns:
        False if another has changed it meanwhile: nothing was written.

    Raises:
        StateError: no journal could be begun from it; nothing was changed.
    """
    data = msgspec.json.encode(state)
    lock = FileLock(paths.journal_lock)
    lock.acquire()
    try:
        if text_without_journal(paths) != before:
            return False
        read_restorable(data, paths, Policy())
        if is_bare(before):
            keep_original(paths.state)
        else:
            keep_beside(paths.state)
        replace_durably(paths.state, data)
    finally:
        lock.release()
    return True


def _bare_issue(issue: IssueState) -> IssueSpec:
    edges = tuple(Dependency(id=other, place="batch.state.json") for other in issue.depends_on)
    return IssueSpec(id=issue.id, title="", place="batch.state.json", depends_on=edges)


class _Graph(msgspec.Struct):
    """What decides over cycles in a state file of ours."""

    issues: list[IssueId]
    dag: dict[str, list[IssueId]]


def _check_graph(data: bytes, area: str) -> None:
    """Refuse ids and dependencies that cannot be; the decoder of states has no words for them.

    Raises:
        InputError: naming the cycle or the id, with what mends it.
        msgspec.DecodeError: it is no state file.
    """
    graph = msgspec.json.decode(data, type=_Graph)
    check_ids(graph.issues)
    needs = {key: list(map(str, others)) for key, others in graph.dag.items()}
    check_edges({str(key): needs.get(str(key), []) for key in graph.issues}, area)


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
