"""The fold of a journal, put away and taken up again: as little of it as anything is decided by.

What is left out, and why that loses nothing:
- Sequence numbers, wall times, marks, reasons and titles: nothing is decided by them.
- The clock: an intent, a kill, a reaping lies at this instant or is long past, as a pass likes; a
  limit ends later, or has ended. Seconds that were used up.
- Closed attempts but for the number of the newest, and the budgets of a terminal issue: whatever
  reads them again is preceded by an event that sets them anew.

It is taken up by way of the product's own state file, and an event by way of its line in the
journal, so every step of the model starts as an orchestrator does that was just started.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import msgspec
from model_look import OLD_SERVER
from promises import Entry, Ledger
from promises_ledger import Used, limits_of

from gangline.core.batch import Batch
from gangline.core.codec import StateEncoder, decode_event, decode_state, encode_event, replay
from gangline.core.events import AnyEvent, Condition, KillReason, Outcome, Policy, Wish
from gangline.core.issue import Attempt, IssueState
from gangline.core.model import TERMINAL, Status
from gangline.core.usage import Usage

BATCH = "b"
BOOT, OLD_BOOT = "boot-2", "boot-1"
NOW_SECONDS, LONG_AGO_SECONDS = 1000.0, -1e9
NOON = 1_800_000_000.0  # the wall clock: a limit ends after it, or, for a late pass, before
ACCOUNT = "account"  # that all agents share


class FrozenAttempt(NamedTuple):
    """The newest attempt of an issue, as far as anything is decided by it."""

    number: int
    is_open: bool = False
    retry: int = 0
    same_boot: bool = True
    server: str | None = None
    launched: bool = False
    condition: Condition | None = None
    question: str | None = None
    kill: KillReason | None = None
    kill_same_boot: bool = True
    reaping: bool = False
    is_limited: bool = False  # until this instant, or a late pass
    asked: bool = False
    waits: bool = False
    given: int = 0


class FrozenIssue(NamedTuple):
    status: Status
    needs: tuple[str, ...]
    spent: int = 0
    voids: int = 0
    held: bool = False
    wish: Wish | None = None
    because: str | None = None
    attempt: FrozenAttempt | None = None
    messages: int = 0
    tokens: int = 0


class Frozen(NamedTuple):
    """A batch put away: the fold of the journal."""

    issues: tuple[FrozenIssue, ...]
    policy: Policy
    paused: bool = False
    draining: bool = False
    stop: str | None = None

    @property
    def has_service(self) -> bool:
        """Whether its agents tell of themselves, and meet their service's limits."""
        return bool(self.policy.accounts)

    @property
    def is_over(self) -> bool:
        return all(issue.status in TERMINAL for issue in self.issues)

    def open_number(self, place: int) -> int:
        """The number of the open attempt, -1 if there is none."""
        attempt = self.issues[place].attempt
        return attempt.number if attempt is not None and attempt.is_open else -1

    def closed_number(self, place: int) -> int:
        """The newest number of which it is on record that the attempt is over, -1 if none."""
        attempt = self.issues[place].attempt
        return -1 if attempt is None else attempt.number - attempt.is_open


class Commit(NamedTuple):
    """The journal is appended to; `folds` are those after each line, the last the whole."""

    lines: tuple[bytes, ...]
    folds: tuple[Frozen, ...]

    @property
    def events(self) -> tuple[AnyEvent, ...]:
        return tuple(
            msgspec.structs.replace(decode_event(line), seq=0, at="") for line in self.lines
        )


def commit_of(frozen: Frozen, events: Sequence[AnyEvent]) -> Commit:
    """The commit of these events: folded from the state file before them and from their lines."""
    batch = decode_state(StateEncoder(thaw(frozen)).encode())
    lines, folds = [], []
    for number, event in enumerate(events):
        stamped = msgspec.structs.replace(event, seq=number + 1, at="2026-01-01T00:00:00.000Z")
        lines.append(encode_event(stamped)[:-1])
        batch = replay(batch, decode_event(lines[-1]))
        folds.append(check_encoding(freeze(batch)))
    return Commit(tuple(lines), tuple(folds))


def freeze(batch: Batch) -> Frozen:
    """The batch as far as anything is decided by it."""
    issues = tuple(_frozen_issue(issue) for issue in batch.issues.values())
    return Frozen(issues, batch.policy, batch.paused, batch.draining, batch.stop)


def _frozen_issue(issue: IssueState) -> FrozenIssue:
    attempt, is_over = issue.attempt, issue.status in TERMINAL
    frozen = None
    if attempt is not None and attempt.outcome is not None:
        frozen = FrozenAttempt(attempt.number)
    elif attempt is not None:
        frozen = FrozenAttempt(
            attempt.number,
            is_open=True,
            retry=attempt.retry,
            same_boot=attempt.boot_id == BOOT,
            server=attempt.server,
            launched=attempt.pane is not None,
            condition=attempt.condition,
            question=attempt.question,
            kill=attempt.kill,
            kill_same_boot=attempt.kill is None or attempt.kill_boot_id == BOOT,
            reaping=attempt.reaping_since is not None,
            is_limited=attempt.until is not None,
            asked=attempt.asked,
            waits=attempt.waits,
            given=len(attempt.messages),
        )
    return FrozenIssue(
        issue.status,
        issue.depends_on,
        0 if is_over else issue.spent,
        0 if is_over else issue.voids,
        issue.held,
        issue.wish,
        issue.because,
        frozen,
        len(issue.messages),
        issue.usage.input_tokens,
    )


def thaw(frozen: Frozen, *, late: bool = False) -> Batch:
    """The batch again. `late`: whatever is waited for has been waited for long enough."""
    batch = Batch()
    batch.area, batch.batch_id, batch.agent = "area", BATCH, "demo"
    batch.policy, batch.paused = frozen.policy, frozen.paused
    batch.draining, batch.stop = frozen.draining, frozen.stop
    since = LONG_AGO_SECONDS if late else NOW_SECONDS
    for place, issue in enumerate(frozen.issues):
        key = str(place + 1)
        batch.issues[key] = IssueState(
            id=place + 1,
            depends_on=issue.needs,
            status=issue.status,
            spent=issue.spent,
            voids=issue.voids,
            held=issue.held,
            wish=issue.wish,
            because=issue.because,
            messages=["said"] * issue.messages,
            attempts=_thawed_attempts(key, issue, since, late=late),
        )
    batch.reindex()
    return batch


def _thawed_attempts(key: str, issue: FrozenIssue, since: float, *, late: bool) -> list[Attempt]:
    """The newest, and one before it that has used up what all before it have."""
    if issue.attempt is None:
        return []
    attempts = [_thawed_attempt(key, issue.attempt, since, late=late)]
    if issue.tokens and issue.attempt.is_open:
        before = FrozenAttempt(issue.attempt.number - 1)
        attempts.insert(0, _thawed_attempt(key, before, since, late=late))
    if issue.tokens:
        attempts[0].usage = Usage(input_tokens=issue.tokens)
    return attempts


def _thawed_attempt(key: str, frozen: FrozenAttempt, since: float, *, late: bool) -> Attempt:
    until = NOON - 100.0 if late else NOON + 100.0
    return Attempt(
        number=frozen.number,
        mark=f"{BATCH}-{key}-a{frozen.number}.mark",
        started_at="",
        boot_id=BOOT if frozen.same_boot else OLD_BOOT,
        boot_seconds=since,
        retry=frozen.retry,
        server=frozen.server,
        pane="%1" if frozen.launched else None,
        condition=frozen.condition,
        question=frozen.question,
        kill=frozen.kill,
        kill_boot_id=BOOT if frozen.kill_same_boot else OLD_BOOT,
        kill_boot_seconds=since,
        reaping_since=since if frozen.reaping else None,
        until=until if frozen.is_limited else None,
        asked=frozen.asked,
        waits=frozen.waits,
        messages=["said"] * frozen.given,
        account=ACCOUNT,
        outcome=None if frozen.is_open else Outcome.VOID,
    )


@lru_cache(None)
def ledger_of(frozen: Frozen) -> Ledger:
    """The same as the promises' plain ledger would have it."""
    entries = []
    for place, issue in enumerate(frozen.issues):
        newest = issue.attempt.number if issue.attempt else -1
        is_open = bool(issue.attempt and issue.attempt.is_open)
        killed = bool(is_open and issue.attempt.kill)
        found = issue.attempt if is_open and issue.attempt else FrozenAttempt(newest)
        entry = Entry(
            issue.status,
            issue.needs,
            newest,
            is_open,
            killed,
            issue.wish,
            issue.held,
            over_budget=found.kill is KillReason.BUDGET,
            charges=issue.spent,
            messages=issue.messages,
            given=found.given,
            waits=found.waits,
            asked=found.asked,
        )
        entries.append((str(place + 1), entry))
    policy = frozen.policy
    return Ledger(
        tuple(entries),
        policy.max_concurrent,
        policy.retry_max,
        frozen.paused,
        Used(sum(issue.tokens for issue in frozen.issues)),
        limits_of(policy.batch_budget),
    )


@lru_cache(None)
def check_encoding(frozen: Frozen) -> Frozen:
    """Whoever starts from the state file of this fold starts from this fold."""
    batch = thaw(frozen)
    data = StateEncoder(batch).encode()
    decoded = decode_state(data)
    assert freeze(decoded) == frozen, "the state file does not hold the batch"
    assert StateEncoder(decoded).encode() == data
    return frozen


def server_lost(frozen: Frozen) -> Frozen:
    """The same fold, read in a world whose tmux server is another."""
    return _with_attempts(frozen, lambda a: a._replace(server=a.server and OLD_SERVER))


def rebooted(frozen: Frozen) -> Frozen:
    """The same fold, read in another boot."""
    gone = server_lost(frozen)
    return _with_attempts(
        gone, lambda a: a._replace(same_boot=False, kill_same_boot=a.kill is None)
    )


def _with_attempts(frozen: Frozen, change) -> Frozen:
    issues = tuple(
        i._replace(attempt=change(i.attempt)) if i.attempt and i.attempt.is_open else i
        for i in frozen.issues
    )
    return frozen._replace(issues=issues)
