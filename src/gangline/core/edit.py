"""An edit of the state file: what it changes, whether it may, and whether it still applies.

The state file is the specification's interface: people and scripts change it with jq or an editor.
An edit is the difference between the text and the fold *at the text's own sequence number*, so a
file that merely lags behind is no edit; it is applied to the newest fold, and refused whole if what
it changes has changed since, or if the result would not hold together (DESIGN.md section 3). What a
status set by hand means for an issue whose attempt lives is a wish: the attempt has to end first.
"""

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from gangline.core.batch import Batch
from gangline.core.codec import KNOWN_KEYS, StateEncoder, check_nesting
from gangline.core.events import Edited, PlannedIssue, Wish
from gangline.core.graph import check_edges
from gangline.core.issue import IssueState
from gangline.core.model import (
    TITLE_LENGTH_MAX,
    IssueId,
    Status,
    check_ids,
    read_statuses,
)
from gangline.errors import InputError

_OF_BATCH = {"agent", "orchestratorPane", "paused"}
_OF_DETAIL = {"title", "agent", "held"}
_OF_ENTRY = {"pane", "retryCount", "attempt", "dispatchedAt"}
# Written anew each time, so whatever a script put there means nothing.
_OURS_TO_WRITE = {"seq", "updatedAt", "digest"}
_PANE = re.compile(r"%[0-9]+\Z")
_WISHES = {
    Status.PENDING: Wish.RETRY,
    Status.BLOCKED: Wish.RETRY,
    Status.COMPLETED: Wish.COMPLETE,
    Status.FAILED: Wish.FAIL,
    Status.SKIPPED: Wish.SKIP,
    Status.CANCELLED: Wish.CANCEL,
}


class _Text(msgspec.Struct, kw_only=True, rename="camel"):
    """The parts of a state file that may be edited, with their shapes."""

    issues: list[IssueId]
    dag: dict[str, list[IssueId]]
    status: dict[str, str]
    dispatched: dict[str, dict[str, Any]]
    detail: dict[str, dict[str, Any]]
    agent: str | None = None
    orchestrator_pane: str | None = None
    paused: bool = False


def state_of(batch: Batch) -> dict[str, Any]:
    """The state file's contents for a batch, as plain data; the batch is left as it is."""
    changed = set(batch.changed)
    state: dict[str, Any] = msgspec.json.decode(StateEncoder(batch).encode())
    batch.changed.clear()
    batch.changed.update(changed)
    return state


def difference(base: Batch, state: Any, *, by: str) -> Edited | None:
    """What a changed state file changes; None if nothing.

    Args:
        base: The fold at the text's own sequence number.
        state: The text, decoded.
        by: For the record; see Edited.

    Raises:
        InputError: it changes what is not to be edited, or has a shape that no state file has.
    """
    if not isinstance(state, dict):
        raise InputError("it is no JSON object")
    check_nesting(state)
    before = state_of(base)
    _refuse_ours(before, state)
    try:
        text = msgspec.convert(state, _Text)
    except msgspec.ValidationError as error:
        raise InputError(str(error)) from error
    joined = _joined(base, text)
    statuses, wishes = _statuses(base, text)
    edit = Edited(
        by=by,
        issues=joined,
        depends_on=_edges(base, text),
        statuses=statuses,
        wishes=wishes,
        details=_details(base, before["detail"], text),
        batch=_of_batch(before, text),
        extra={
            key: value
            for key, value in state.items()
            if _is_free(key) and not (key in base.extra and _is_same(base.extra[key], value))
        },
        dropped=tuple(key for key in base.extra if key not in state),
        **_entries(base, before["dispatched"], text),
    )
    return None if edit == Edited(by=by) else edit


def check_edit(newest: Batch, edit: Edited, base: Batch | None = None) -> None:
    """Refuse an edit whose ground has moved, or whose result would not hold together.

    Args:
        newest: What it is to be applied to.
        edit: From `difference`.
        base: What it was made from; None if that is `newest`.

    Raises:
        InputError: names the conflict, the cycle or the dangling id.
    """
    if base is not None:
        _check_conflicts(newest, edit, base)
    standing = {key: issue.depends_on for key, issue in newest.issues.items()}
    joined = {str(issue.id): issue.depends_on for issue in edit.issues}
    check_edges(standing | joined | edit.depends_on, newest.area, standing)


def with_statuses(edit: Edited, changed: Iterable[tuple[IssueState, Status]]) -> Edited:
    """The edit with these statuses set as well: a wish where an attempt lives."""
    statuses, wishes = dict(edit.statuses), dict(edit.wishes)
    for issue, status in changed:
        if issue.status is Status.DISPATCHED:
            wishes[issue.key] = _WISHES[status]
        else:
            statuses[issue.key] = status
    return msgspec.structs.replace(edit, statuses=statuses, wishes=wishes)


def _is_free(key: str) -> bool:
    return key not in KNOWN_KEYS


def _is_same(before: object, after: object) -> bool:
    """Whether two JSON values are the same, however a program wrote their numbers.

    jq reads every number as a double: what it only rounded was not meant to be changed. `true` and
    1, which Python takes for equal, are not the same.
    """
    match before, after:
        case dict(), dict():
            return before.keys() == after.keys() and all(
                _is_same(value, after[key]) for key, value in before.items()
            )
        case list(), list():
            return len(before) == len(after) and all(map(_is_same, before, after))
        case (bool(), _) | (_, bool()):
            return before is after
        case ((int() | float()), (int() | float())):
            try:
                return float(before) == float(after)
            except OverflowError:
                return before == after
    return before == after


def _of_batch(before: dict[str, Any], text: _Text) -> dict[str, Any]:
    """`agent`, `orchestratorPane` and `paused`, as far as they changed; left out is taken back."""
    now = {
        "agent": text.agent,
        "orchestratorPane": text.orchestrator_pane,
        "paused": text.paused,
    }
    found = {key: value for key, value in now.items() if value != before[key]}
    _check_pane(found.get("orchestratorPane"), "orchestratorPane")
    return found


def _refuse_ours(before: dict[str, Any], state: dict[str, Any]) -> None:
    editable = {"issues", "dag", "status", "dispatched", "detail"} | _OF_BATCH | _OURS_TO_WRITE
    for key, value in before.items():
        if _is_free(key) or key in editable:
            continue
        if key not in state:
            raise InputError(f"{key} is missing")
        if state[key] != value:
            hints = {"policy": "the rules of a batch come from gangline.toml and the flags of run"}
            raise InputError(f"{key} was changed, which is Gangline's own", hint=hints.get(key))


def _joined(base: Batch, text: _Text) -> tuple[PlannedIssue, ...]:
    keys = check_ids(text.issues)
    for key in base.issues:
        if key not in keys:
            raise InputError(
                f"issue {key!r} was taken out of issues; an issue never leaves its batch",
                hint=f"gangline cancel {base.area} {key}",
            )
    joined = []
    for issue_id in text.issues:
        key = str(issue_id)
        if key not in base.issues:
            detail = text.detail.get(key, {})
            for name, value in detail.items():
                _check_detail(key, name, value)
            title, agent = detail.get("title", ""), detail.get("agent")
            edges = _keys(text.dag.get(key, []))
            joined.append(PlannedIssue(id=issue_id, title=title, depends_on=edges, agent=agent))
    return tuple(joined)


def _keys(ids: Iterable[IssueId]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(str, ids)))


def _edges(base: Batch, text: _Text) -> dict[str, tuple[str, ...]]:
    known = set(map(str, text.issues))
    for key in text.dag:
        if key not in known:
            raise InputError(f"dag has issue {key!r}, which is not in issues")
    found = {key: _keys(text.dag.get(key, [])) for key in base.issues}
    return {key: edges for key, edges in found.items() if edges != base.issues[key].depends_on}


def _statuses(base: Batch, text: _Text) -> tuple[dict[str, Status], dict[str, Wish]]:
    known = set(map(str, text.issues))
    statuses: dict[str, Status] = {}
    wishes: dict[str, Wish] = {}
    for key, status in read_statuses(text.status).items():
        if key not in known:
            raise InputError(f"status has issue {key!r}, which is not in issues")
        before = base.issues[key].status if key in base.issues else None
        if status is before:
            continue
        if status is Status.DISPATCHED:
            raise InputError(
                f"issue {key!r} was set to dispatched; only a dispatch does that",
                hint=f"set it to pending; gangline run {base.area} dispatches it",
            )
        if before is Status.DISPATCHED:
            wishes[key] = _WISHES[status]
        elif before is not None or status is not Status.PENDING:  # a new issue is pending anyway
            statuses[key] = status
    for key in base.issues:
        if key not in text.status:
            raise InputError(f"the status of issue {key!r} is missing")
    return statuses, wishes


def _entries(base: Batch, before: dict[str, Any], text: _Text) -> dict[str, Any]:
    """The changes of `dispatched`: retries, panes and the keys that are not ours."""
    retries: dict[str, int] = {}
    panes: dict[str, str | None] = {}
    entries: dict[str, dict[str, Any]] = {}
    for key in text.dispatched:
        if key not in before:
            raise InputError(f"dispatched has issue {key!r}, which is not dispatched")
    for key, old in before.items():
        if key not in text.dispatched:
            if text.status[key] == Status.DISPATCHED:
                raise InputError(f"issue {key!r} is dispatched and has no entry in dispatched")
            continue
        new, attempt = text.dispatched[key], base.issues[key].attempts[-1]
        for name in ("attempt", "dispatchedAt"):
            if new.get(name) != old[name]:
                raise InputError(f"dispatched.{key}.{name} was changed, which is Gangline's own")
        if new.get("pane") != old["pane"]:
            if not attempt.foreign:
                raise InputError(f"dispatched.{key}.pane was changed; it is where the attempt is")
            _check_pane(new.get("pane"), f"dispatched.{key}.pane")
            panes[key] = new.get("pane")
        count = new.get("retryCount")
        if count != old["retryCount"]:
            retries[key] = _raised(base, key, old["retryCount"], count)
        free, was = _free_of(new), _free_of(base.issues[key].entry)
        if not _is_same(was, free):
            entries[key] = free
    return {"retries": retries, "panes": panes, "entries": entries}


def _free_of(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in _OF_ENTRY}


def _raised(base: Batch, key: str, before: int, count: object) -> int:
    """`retryCount` counts what was spent: raised it forbids a retry, lowered it never is."""
    if type(count) is not int or count < before:
        raise InputError(
            f"retryCount of issue {key!r} was changed from {before} to {count!r}; it is a count "
            "that never falls",
            hint=f"a new budget: gangline retry {base.area} {key}",
        )
    return count


def _details(base: Batch, before: dict[str, Any], text: _Text) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for key, issue in base.issues.items():
        old, new = before[key], text.detail.get(key)
        if new is None:
            raise InputError(f"detail of issue {key!r} is missing")
        for name in old.keys() | new.keys():
            if _is_same(old.get(name), new.get(name)):
                continue
            value = new.get(name, getattr(IssueState(id=issue.id), name, None))
            _check_detail(key, name, value)
            if value != getattr(issue, name):
                found.setdefault(key, {})[name] = value
    joined = set(map(str, text.issues)) - base.issues.keys()
    for key, new in text.detail.items():
        if key in joined and new.get("held"):
            found[key] = {"held": True}
        elif key not in base.issues and key not in joined:
            raise InputError(f"detail has issue {key!r}, which is not in issues")
    return found


def _check_detail(key: str, name: str, value: object) -> None:
    """Refuse what cannot be edited of an issue's detail, and values that it cannot have."""
    match name, value:
        case "title", str() if len(value) <= TITLE_LENGTH_MAX:
            return
        case ("agent", None | str()) | ("held", bool()):
            return
    if name not in _OF_DETAIL:
        raise InputError(f"detail.{key}.{name} was changed, which is Gangline's own")
    raise InputError(f"detail.{key}.{name} cannot be {str(value)[:100]!r}")


def _check_pane(value: object, place: str) -> None:
    if value is not None and not (isinstance(value, str) and _PANE.match(value)):
        raise InputError(f"{place} is {value!r}; a tmux pane is written %3")


def _check_conflicts(newest: Batch, edit: Edited, base: Batch) -> None:
    """What is edited must still be what it was when the text was written."""
    for new in edit.issues:
        if str(new.id) in newest.issues:
            raise InputError(f"issue {str(new.id)!r} has joined the batch meanwhile")
    now, then = state_of(newest), state_of(base)
    for key in edit.statuses.keys() | edit.wishes.keys():
        if key in base.issues and newest.issues[key].status is not base.issues[key].status:
            was, found = base.issues[key].status, newest.issues[key].status
            raise InputError(f"issue {key!r} was {was} when it was edited and is {found} by now")
    for key in edit.retries.keys() | edit.panes.keys() | edit.entries.keys():
        if now["dispatched"].get(key) != then["dispatched"][key]:
            raise InputError(f"the dispatch of issue {key!r} has changed since it was edited")
    for key in edit.depends_on:
        if newest.issues[key].depends_on != base.issues[key].depends_on:
            raise InputError(f"the dependencies of issue {key!r} have changed since")
    for key, detail in edit.details.items():
        for name in detail if key in base.issues else ():
            if getattr(newest.issues[key], name) != getattr(base.issues[key], name):
                raise InputError(f"detail.{key}.{name} has changed since it was edited")
    for key in (*edit.batch, *edit.extra, *edit.dropped):
        if not _is_same(now.get(key, ...), then.get(key, ...)):
            raise InputError(f"{key} has changed since it was edited")
