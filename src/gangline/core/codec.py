"""Bytes of the journal and of the state file (DESIGN.md section 3), and back.

A journal line is `{"seq":N,"at":"…","type":"…",…,"crc":"xxxxxxxx"}`; the CRC-32 covers everything
before its own key. The state file is the fold, with the specification's keys first; its last key is
a digest of all before it, so an edited file is known from a lagging one without comparing.
"""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from gangline.core.batch import Batch
from gangline.core.digest import BadLineError, check_line, line_seq, with_crc, with_digest
from gangline.core.events import AnyEvent, BatchRestored, BatchStarted, Policy, Wish
from gangline.core.issue import Attempt, IssueState
from gangline.core.model import IssueId, Status
from gangline.errors import InputError

__all__ = [
    "KNOWN_KEYS",
    "NESTING_MAX",
    "BadLineError",
    "StateEncoder",
    "StateFile",
    "check_line",
    "check_nesting",
    "decode_event",
    "decode_state",
    "details_of",
    "encode_event",
    "format_of",
    "line_seq",
    "replay",
]

NESTING_MAX = 100  # levels of lists and objects in what others write into a state file

_encoder = msgspec.json.Encoder()
_event_decoder = msgspec.json.Decoder(AnyEvent)


def encode_event(event: AnyEvent) -> bytes:
    """One journal line, newline included, of an event that has its number and time."""
    body = _encoder.encode(msgspec.structs.replace(event, seq=0, at=""))
    line = b'{"seq":%d,"at":"%s",%s' % (event.seq, event.at.encode("ascii"), body[1:-1])
    return with_crc(line)


def decode_event(line: bytes) -> AnyEvent:
    """The event of a checked line.

    Raises:
        BadLineError: no event this version knows.
    """
    try:
        event: AnyEvent = _event_decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadLineError(f"it holds no event this version knows: {error}") from error
    return event


def check_nesting(value: object) -> None:
    """Refuse what is nested so deep that the journal could be written with it and not read again.

    Raises:
        InputError: it has more than NESTING_MAX levels.
    """
    level = [value]
    for _ in range(NESTING_MAX + 1):
        inner: list[object] = []
        for outer in level:
            if isinstance(outer, dict):
                inner.extend(outer.values())
            elif isinstance(outer, list):
                inner.extend(outer)
        if not inner:
            return
        level = inner
    raise InputError(f"it is nested more than {NESTING_MAX} levels deep")


def format_of(line: bytes) -> int | None:
    """The format version that the first line of a journal carries, even of an unknown format."""
    try:
        first = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    found = first.get("format") if isinstance(first, dict) else None
    return found if isinstance(found, int) else None


class DispatchedEntry(msgspec.Struct, kw_only=True, rename="camel"):
    """The specification's entry of a dispatched issue, with our attempt number."""

    pane: str | None = None
    retry_count: int = 0
    attempt: int | None = None
    dispatched_at: str | None = None


class Detail(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """What the state file keeps of an issue beyond the specification's keys."""

    title: str = ""
    agent: str | None = None
    spent: int = 0
    voids: int = 0
    held: bool = False
    wish: Wish | None = None
    wish_reason: str | None = None
    reason: str | None = None
    because: str | None = None
    entry: dict[str, Any] = msgspec.field(default_factory=dict)
    messages: list[str] = msgspec.field(default_factory=list)
    wish_boot_id: str = ""
    wish_boot_seconds: float = 0.0
    attempts: list[Attempt] = msgspec.field(default_factory=list)


class StateFile(msgspec.Struct, kw_only=True, rename="camel"):
    """batch.state.json, decoded."""

    format: Literal[1]
    area: str
    batch_id: str
    seq: int
    agent: str | None
    orchestrator_pane: str | None
    orchestrator_pid: int | None = None
    created_at: str
    updated_at: str
    source: str | None = None
    base_commit: str | None = None
    stopped_reason: str | None = None
    paused: bool = False
    draining: bool = False
    stop: Literal["leave", "kill", "finish"] | None = None
    policy: Policy
    issues: list[IssueId]
    dag: dict[str, tuple[IssueId, ...]]
    status: dict[str, Status]
    dispatched: dict[str, DispatchedEntry]
    detail: dict[str, Detail]
    digest: str = ""


_state_decoder = msgspec.json.Decoder(StateFile)
_raw_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
KNOWN_KEYS = frozenset(field.encode_name for field in msgspec.structs.fields(StateFile))
_OF_ISSUES = frozenset({"format", "issues", "dag", "status", "dispatched", "detail", "digest"})
_BATCH_FIELDS = tuple(
    field.name for field in msgspec.structs.fields(StateFile) if field.name not in _OF_ISSUES
)
_DETAIL_FIELDS = tuple(field.name for field in msgspec.structs.fields(Detail))


class StateEncoder:
    """Encodes a batch again and again; only what changed is encoded anew.

    Args:
        batch: What to encode.
        details: From `details_of` the file that the batch was decoded from: then even the first
            encoding is of what changed.
    """

    def __init__(self, batch: Batch, details: Mapping[str, bytes] | None = None) -> None:
        self._batch = batch
        self._detail = dict(details or {})  # by key: `"key":{…}` as it stands in the file
        if details:
            batch.changed.clear()
        self._static: tuple[object, bytes] = (None, b"")

    def encode(self) -> bytes:
        """The whole state file, one line an issue in `detail`, newline at the end."""
        batch = self._batch
        if self._static[0] is not batch.issues:
            batch.changed.update(batch.issues.keys() - self._detail.keys())
            # In the order of the source, so that the same batch is always the same bytes.
            self._detail = {key: self._detail.get(key, b"") for key in batch.issues}
        for key in batch.changed:
            self._detail[key] = b"%s:%s" % (_encoder.encode(key), _detail_of(batch.issues[key]))
        batch.changed.clear()
        body = b"{%s,\n%s,\n%s,\n%s,\n%s%s" % (
            _encoder.encode(_head_of(batch))[1:-1],
            self._graph(),
            b'"status":' + _encoder.encode({k: i.status for k, i in batch.issues.items()}),
            b'"dispatched":' + _encoder.encode(_dispatched_of(batch)),
            b'"detail":{\n%s}' % b",\n".join(self._detail.values()),
            b"".join(b",\n" + _member(key, value) for key, value in batch.extra.items()),
        )
        return with_digest(body)

    def _graph(self) -> bytes:
        """The part that changes only when issues join the batch."""
        issues = self._batch.issues
        if self._static[0] is not issues:
            # An id is written as its source wrote it, here as in `issues`.
            dag = {key: [issues[d].id for d in one.depends_on] for key, one in issues.items()}
            ids = [issue.id for issue in issues.values()]
            text = _member("issues", ids) + b",\n" + _member("dag", dag)
            self._static = (issues, text)
        return self._static[1]


def _member(key: str, value: object) -> bytes:
    return b"%s:%s" % (_encoder.encode(key), _encoder.encode(value))


def _head_of(batch: Batch) -> dict[str, object]:
    return {
        "format": 1,
        "area": batch.area,
        "batchId": batch.batch_id,
        "seq": batch.seq,
        "agent": batch.agent,
        "orchestratorPane": batch.orchestrator_pane,
        "orchestratorPid": batch.orchestrator_pid,
        "createdAt": batch.created_at,
        "updatedAt": batch.updated_at,
        "source": batch.source,
        "baseCommit": batch.base_commit,
        "stoppedReason": batch.stopped_reason,
        "paused": batch.paused,
        "draining": batch.draining,
        "stop": batch.stop,
        "policy": batch.policy,
    }


def _detail_of(issue: IssueState) -> bytes:
    return _encoder.encode(Detail(**{name: getattr(issue, name) for name in _DETAIL_FIELDS}))


def _dispatched_of(batch: Batch) -> dict[str, object]:
    entries: dict[str, object] = {}
    for key in batch.dispatched:
        attempt = batch.issues[key].attempts[-1]
        known = DispatchedEntry(
            pane=attempt.pane,
            retry_count=attempt.retry,
            attempt=attempt.number,
            dispatched_at=attempt.started_at or None,
        )
        extra = batch.issues[key].entry  # may hold names of ours, left by another's dispatch
        ours = msgspec.to_builtins(known) if extra else {}
        entries[key] = ours | extra | ours if extra else known
    return entries


def decode_state(data: bytes) -> Batch:
    """The batch that a state file of ours holds; unknown top-level keys are kept.

    Raises:
        msgspec.DecodeError: no JSON, or not the shape of a state file; names the path.
    """
    try:
        batch = _batch_of(_state_decoder.decode(data))
        raw = _raw_decoder.decode(data)
        batch.extra = {k: msgspec.json.decode(raw[k]) for k in raw if k not in KNOWN_KEYS}
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(f"it is not UTF-8: {error}") from error
    return batch


def details_of(data: bytes) -> dict[str, bytes]:
    """The encoded details of a state file whose digest matches, for StateEncoder."""
    found = _raw_decoder.decode(_raw_decoder.decode(data)["detail"])
    return {key: b"%s:%s" % (_encoder.encode(key), bytes(raw)) for key, raw in found.items()}


def _batch_of(state: StateFile) -> Batch:
    batch = Batch()
    for name in _BATCH_FIELDS:
        setattr(batch, name, getattr(state, name))
    for issue_id in state.issues:
        key = str(issue_id)
        detail = state.detail.get(key) or Detail()
        batch.issues[key] = IssueState(
            id=issue_id,
            depends_on=tuple(map(str, state.dag.get(key, ()))),
            status=state.status.get(key, Status.PENDING),
            **{name: getattr(detail, name) for name in _DETAIL_FIELDS},
        )
    try:
        batch.reindex()
    except (KeyError, ValueError) as error:
        message = f"its graph cannot be used: {error} - at `$.dag`"
        raise msgspec.ValidationError(message) from error
    dispatched = batch.by_status[Status.DISPATCHED]
    for key in state.dispatched:  # oldest dispatch first, as in the file
        if key in dispatched:
            dispatched[key] = dispatched.pop(key)
    return batch


def replay(batch: Batch, event: AnyEvent) -> Batch:
    """Fold one event of a journal; a restored batch replaces what was there.

    Returns:
        The batch to go on with: `batch` itself unless the event brought a whole one.
    """
    if isinstance(event, BatchRestored):
        batch = decode_state(_encoder.encode(event.state))
        batch.seq, batch.updated_at = event.seq, event.at or batch.updated_at
        return batch
    if isinstance(event, BatchStarted) and batch.batch_id:
        raise BadLineError("a second batch starts in the same journal")
    batch.fold(event)
    return batch
