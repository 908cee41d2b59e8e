"""Archived batches: what was run in an area before, and how it ended.

A batch that is over lies in `.workspace/orchestrate/.archive/{area}/{name}/` (DESIGN.md section 3),
`name` being its batch id, or `{batchId}-{time}` where that was taken. Its journal is its truth.
Nothing here takes a lock, mends or writes: what is damaged is told as far as it can be read.
"""

import os
import time
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import msgspec

from gangline.app.orchestrate import exit_code
from gangline.app.reading import read_journal
from gangline.app.views import status_view
from gangline.core.batch import Batch
from gangline.core.codec import StateEncoder
from gangline.core.model import check_area
from gangline.errors import EXIT_OK, StateError, UsageError
from gangline.hosts.attempt_folder import parse_json
from gangline.store.area import AreaPaths

_ARCHIVE = ".archive"


class ArchivedBatch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One archived batch; its JSON form is stable, keys are only ever added.

    Attributes:
        area: Whose it was.
        name: Of its folder; what `gangline history AREA NAME` takes.
        batch_id: None where the journal does not tell it any more.
        folder: Absolute.
        created_at: UTC, ISO 8601; of a damaged one as far as it can be read.
        ended_at: When its last event was recorded; None if damaged.
        counts: Issues by status; None if damaged.
        outcome: "completed": every issue is; "incomplete": some are failed, skipped or cancelled;
            "open": it was put here before it was over; "damaged".
        error: What is wrong with a damaged one, else None.
    """

    area: str
    name: str
    batch_id: str | None
    folder: str
    created_at: str | None
    ended_at: str | None
    counts: dict[str, int] | None
    outcome: str
    error: str | None


class Archived(NamedTuple):
    """An archived batch with what its journal told."""

    summary: ArchivedBatch
    batch: Batch
    problem: StateError | None
    paths: AreaPaths


def archived_batches(workspace: str, area: str | None) -> list[Archived]:
    """The archived batches of one area, or of all; the newest last.

    Raises:
        UsageError: that area has none; with did-you-mean.
        InputError: the area's name is none.
    """
    known = _folders(os.path.join(workspace, "orchestrate", _ARCHIVE))
    if area is not None:
        check_area(area)
        if area not in known:
            raise _no_archive(area, known)
    wanted = known if area is None else [area]
    found = [_read(workspace, each, name) for each in wanted for name in _names_of(workspace, each)]
    return sorted(found, key=lambda one: (_began(one), one.summary.area, one.summary.name))


def archived_batch(workspace: str, area: str, name: str) -> Archived:
    """One archived batch, by the name of its folder.

    Raises:
        UsageError: there is no such area or batch; with did-you-mean.
    """
    check_area(area)
    known = _folders(os.path.join(workspace, "orchestrate", _ARCHIVE))
    if area not in known:
        raise _no_archive(area, known)
    names = _names_of(workspace, area)
    if name not in names:
        near = get_close_matches(name[:100], names, n=1)
        raise UsageError(
            f"area {area} has no archived batch {name[:100]!r}",
            hint=f"did you mean {near[0]}?" if near else f"gangline history {area} lists them",
        )
    return _read(workspace, area, name)


def archived_view(archived: Archived) -> dict[str, Any]:
    """The view of `status --json` of an archived batch; its logs are those in the archive."""
    state = parse_json(StateEncoder(archived.batch).encode())
    return status_view(state, archived.paths, alive=False)


def _no_archive(area: str, known: Sequence[str]) -> UsageError:
    near = get_close_matches(area, known, n=1) or list(known[:1])
    return UsageError(
        f"area {area} has no archived batch",
        causes=["a batch is archived by the first `gangline run` after its end"],
        hint=f"did you mean {near[0]}?" if near else f"gangline status {area}",
    )


def _names_of(workspace: str, area: str) -> list[str]:
    return _folders(os.path.join(workspace, "orchestrate", _ARCHIVE, area))


def _folders(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(n for n in names if os.path.isdir(os.path.join(folder, n)))


def _read(workspace: str, area: str, name: str) -> Archived:
    paths = AreaPaths(workspace, os.path.join(_ARCHIVE, area, name))
    batch, wrong = read_journal(paths.journal)
    problem = wrong and StateError(
        f"archived batch {name} of area {area} is damaged: {wrong.message}",
        place=wrong.place,
        hint=f"restore {paths.folder} from a copy; how it ended may still be in {paths.state}",
    )
    summary = ArchivedBatch(
        area=area,
        name=name,
        batch_id=batch.batch_id or None,
        folder=paths.folder,
        created_at=batch.created_at or None,
        ended_at=None if wrong else batch.updated_at,
        counts=None if wrong else batch.counts(),
        outcome="damaged" if wrong else _outcome(batch),
        error=wrong.message if wrong else None,
    )
    return Archived(summary, batch, problem, paths)


def _outcome(batch: Batch) -> str:
    if not batch.is_over:
        return "open"
    return "completed" if exit_code(batch) == EXIT_OK else "incomplete"


def _began(archived: Archived) -> str:
    """What to sort by; a batch that cannot be read stands where its folder was last written."""
    if archived.summary.created_at:
        return archived.summary.created_at
    written = os.stat(archived.summary.folder).st_mtime
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(written))
