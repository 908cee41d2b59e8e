"""A state file of the specification's own shell, taken over (DESIGN.md section 3 and 4).

The shell wrote plain JSON and no journal. Everything that it could mean is read leniently (ids as
numbers or strings, `retryCount` absent, entries of `dispatched` left over on finished issues), and
whatever contradicts itself is refused with the place. Keys that are not ours are kept. What runs in
a pane named there is a *foreign* attempt: Gangline did not start it, so only its pane can tell.
"""

import re
from typing import Any
from zlib import crc32

import msgspec

from gangline.core.batch import Batch
from gangline.core.codec import KNOWN_KEYS, check_nesting
from gangline.core.events import Policy
from gangline.core.graph import check_edges
from gangline.core.issue import Attempt, IssueState
from gangline.core.model import (
    ID_LENGTH_MAX,
    TERMINAL,
    IssueId,
    Status,
    check_area,
    check_ids,
    check_issue_id,
    read_statuses,
)
from gangline.errors import InputError

_OF_ENTRY = {"pane", "retryCount", "dispatchedAt"}
_PANE = re.compile(r"%[0-9]+\Z")
_COUNT_MAX = 1_000_000


class _Bare(msgspec.Struct, kw_only=True, rename="camel"):
    """batch.state.json as the specification shows it."""

    issues: list[IssueId | float]
    dag: dict[str, list[IssueId | float] | None] | None = None
    status: dict[str, str] | None = None
    dispatched: dict[str, dict[str, Any] | None] | None = None
    area: str | None = None
    batch_id: str | int | None = None
    agent: str | None = None
    orchestrator_pane: str | None = None
    created_at: str | int | None = None
    updated_at: str | int | None = None


def is_bare(data: bytes) -> bool:
    """Whether a state file was not written by Gangline: it lacks the format version."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and "format" not in found


def adopted(data: bytes, area: str, policy: Policy) -> Batch:
    """The batch that a bare state file means.

    Args:
        data: The file's bytes.
        area: The area of its folder.
        policy: The rules that it runs under from now on.

    Raises:
        InputError: it contradicts itself, names a cycle, or its names cannot become paths.
    """
    try:
        bare = msgspec.json.decode(data, type=_Bare)
        raw: dict[str, Any] = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(str(error)) from error
    check_nesting(raw)
    if bare.area not in (None, area):
        raise InputError(f"it is the state of area {bare.area!r}")
    ids = [_whole(issue_id) for issue_id in bare.issues]
    keys = check_ids(ids)
    batch = Batch()
    batch.area, batch.policy = area, policy
    batch.batch_id = _batch_id(bare, data, area)
    batch.agent = bare.agent or None
    batch.orchestrator_pane = bare.orchestrator_pane or None
    batch.created_at, batch.updated_at = _text(bare.created_at), _text(bare.updated_at)
    dag = {key: [str(_whole(d)) for d in edges or []] for key, edges in (bare.dag or {}).items()}
    entries = bare.dispatched or {}
    statuses = read_statuses(bare.status or {})
    for name, found in (("dag", dag), ("status", statuses), ("dispatched", entries)):
        for key in found:
            if key not in keys:
                raise InputError(f"{name} has issue {key!r}, which is not in issues")
    check_edges({str(i): dag.get(str(i), []) for i in ids}, area)
    for issue_id in ids:
        issue = IssueState(id=issue_id, depends_on=tuple(dict.fromkeys(dag.get(str(issue_id), []))))
        issue.status = statuses.get(issue.key, Status.PENDING)
        _take_entry(issue, entries.get(issue.key))
        batch.issues[issue.key] = issue
    batch.extra = {k: v for k, v in raw.items() if k not in KNOWN_KEYS}
    batch.reindex()
    return batch


def _take_entry(issue: IssueState, entry: dict[str, Any] | None) -> None:
    """The issue's entry in `dispatched`: its foreign attempt, unless the issue is finished.

    The specification's recovery goes through the entries, whatever the status says: an entry of an
    issue that is not finished is a dispatch that may have happened.
    """
    if entry is None and issue.status is not Status.DISPATCHED:
        return
    entry = entry or {}
    place = f"dispatched.{issue.key}"
    count = _count(entry.get("retryCount"), f"{place}.retryCount")
    pane = entry.get("pane")
    if pane is not None and not isinstance(pane, str):
        raise InputError(f"{place}.pane is {pane!r}; a tmux pane is written %3")
    is_known = pane is not None and _PANE.match(pane) is not None
    issue.spent = count
    if issue.status in TERMINAL:
        issue.entry = entry
        return
    taken = _OF_ENTRY if is_known else _OF_ENTRY - {"pane"}  # what is no pane id is only kept
    issue.entry = {name: value for name, value in entry.items() if name not in taken}
    issue.status = Status.DISPATCHED
    issue.attempts.append(
        Attempt(
            number=0,
            mark="",
            started_at=_text(entry.get("dispatchedAt")),
            retry=count,
            pane=pane if is_known else None,
            foreign=True,
        )
    )


def _whole(issue_id: IssueId | float) -> IssueId:
    """An id as an integer where an old jq wrote it with a fraction of zero."""
    if isinstance(issue_id, float):
        if not issue_id.is_integer():
            raise InputError(f"issues has {issue_id!r}, which is no id")
        return int(issue_id)
    return issue_id


def _count(value: object, place: str) -> int:
    if isinstance(value, str) and value.isdecimal() and len(value) <= len(str(_COUNT_MAX)):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or value == "":
        return 0
    if type(value) is not int or not 0 <= value <= _COUNT_MAX:
        raise InputError(f"{place} is {value!r}, which is no count")
    return value


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _batch_id(bare: _Bare, data: bytes, area: str) -> str:
    """The file's own, or one that is the same for the same file."""
    if bare.batch_id in (None, ""):
        return f"adopted-{crc32(data):08x}"
    found = str(bare.batch_id)
    try:
        check_issue_id(found, "batchId")
        check_area(found)
    except InputError as error:
        raise InputError(
            f"batchId {found[:ID_LENGTH_MAX]!r} cannot be the name of a folder",
            causes=[error.message],
            hint=f"take another: gangline shell state-update {area} 'del(.batchId)'",
        ) from error
    return found
