"""Real journals and state files in a temporary folder, and short words to look at them."""

import os
from collections.abc import Mapping

from gangline.core.batch import Batch
from gangline.core.codec import StateEncoder
from gangline.core.events import (
    AnyEvent,
    BatchStarted,
    Dispatched,
    Ended,
    Held,
    Outcome,
    PlannedIssue,
    Policy,
    Unblocked,
)
from gangline.core.model import IssueSpec, Status
from gangline.store.area import AreaPaths
from gangline.store.batches import Store

AT = "2026-01-01T00:00:00.000Z"
DAG: Mapping[str, tuple[str, ...]] = {"1": (), "2": ("1",)}


def paths_in(folder: object, area: str = "client") -> AreaPaths:
    return AreaPaths(os.path.join(str(folder), ".workspace"), area)


def begin(folder: object, area: str = "client", batch_id: str = "b1") -> Store:
    """A new batch of two issues, one after the other."""
    store = Store(paths_in(folder, area))
    issues = [IssueSpec(id=key, title=f"Title {key}", place="plan.toml") for key in DAG]
    event = BatchStarted(
        format=1,
        area=area,
        batch_id=batch_id,
        agent="demo",
        issues=tuple(PlannedIssue(id=key, depends_on=needs) for key, needs in DAG.items()),
        policy=Policy(),
    )
    store.create(event, issues, AT)
    return store


def dispatched(issue: str, attempt: int = 0) -> Dispatched:
    return Dispatched(
        issue=issue, attempt=attempt, mark=f"m-{issue}", retry=0, boot_id="b", boot_seconds=1.0
    )


def completed(issue: str, attempt: int = 0) -> Ended:
    return Ended(issue=issue, attempt=attempt, outcome=Outcome.COMPLETED, to=Status.COMPLETED)


def record(store: Store, *events: AnyEvent) -> None:
    """One transaction with these events."""
    with store.transaction(AT) as moment:
        for event in events:
            moment.record(event)


def short_story(folder: object) -> Store:
    """A small batch with a few commits, the last of them of two events."""
    store = begin(folder)
    record(store, dispatched("1"))
    record(store, Held(issue="2"))
    record(store, completed("1"), Unblocked(issue="2"))
    return store


def load(paths: AreaPaths, *, repair: bool = True) -> Store:
    """A store read anew from the disk, as a new process does."""
    store = Store(paths)
    assert store.load(repair=repair)
    return store


def contents(batch: Batch) -> bytes:
    """Everything the batch says."""
    kept = set(batch.changed)
    batch.changed = set(batch.issues)
    try:
        return StateEncoder(batch).encode()
    finally:
        batch.changed = kept


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def write(path: str, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
