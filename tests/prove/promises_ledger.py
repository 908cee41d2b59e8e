"""The ledger of the promises: what the committed events say, folded without the product's fold.

A fold that is wrong must not be what judges itself, so this one is as plain as can be, and knows
only what the promises need.
"""

from collections.abc import Iterable
from math import inf
from typing import NamedTuple

import msgspec

from gangline.core.events import (
    AnyEvent,
    BatchRestored,
    BatchStarted,
    Blocked,
    Cancelled,
    ConditionChanged,
    Configured,
    Dispatched,
    Edited,
    Ended,
    Held,
    KillOrdered,
    KillReason,
    Outcome,
    Paused,
    Policy,
    Refused,
    Released,
    Reopened,
    Resumed,
    Retried,
    Sent,
    Skipped,
    Unblocked,
    Voided,
    Wish,
    Wished,
)
from gangline.core.model import TERMINAL, Status
from gangline.core.usage import Limits, Usage


class Entry(NamedTuple):
    """One issue as the committed events tell it.

    Attributes:
        newest: The number of its newest attempt, -1 before the first.
        is_open: Whether that attempt is neither void nor ended on record.
        killed: Whether a kill of it was recorded; `over_budget`: because its budget is used up.
        charges: Ends of this budget of attempts that count, none of an issue that is over.
        messages: What a person said and no attempt was given; `given`: its newest attempt was.
        waits: The agent has ended, and the attempt waits for an answer or for a limit's end.
        asked: The agent's own question is open.
    """

    status: Status
    needs: tuple[str, ...] = ()
    newest: int = -1
    is_open: bool = False
    killed: bool = False
    wish: Wish | None = None
    held: bool = False
    over_budget: bool = False
    charges: int = 0
    messages: int = 0
    given: int = 0
    waits: bool = False
    asked: bool = False


class Used(NamedTuple):
    """What was used up, or how much may be; in limits infinity is none."""

    tokens: float = 0
    cost_usd: float = 0.0
    seconds: float = 0.0


class Ledger(NamedTuple):
    """What the journal says, folded without any code of the product's."""

    entries: tuple[tuple[str, Entry], ...] = ()
    max_concurrent: int = 4
    retry_max: int = 1
    paused: bool = False
    used: Used = Used()
    budget: Used = Used(inf, inf, inf)

    def __getitem__(self, issue: str) -> Entry:  # type: ignore[override]
        for key, entry in self.entries:
            if key == issue:
                return entry
        raise KeyError(issue)

    def statuses(self) -> dict[str, Status]:
        return {key: entry.status for key, entry in self.entries}

    def places_taken(self) -> int:
        """By the dispatched issues; one that only waits takes none."""
        return sum(e.status is Status.DISPATCHED and not e.waits for _, e in self.entries)

    @property
    def is_over_budget(self) -> bool:
        return any(used >= most for used, most in zip(self.used, self.budget, strict=True))

    def put(self, issue: str, **changes: object) -> "Ledger":
        entries = ((k, e._replace(**changes) if k == issue else e) for k, e in self.entries)
        return self._replace(entries=tuple(entries))

    def after(self, event: AnyEvent) -> "Ledger":
        """The ledger with one event more."""
        match event:
            case BatchStarted():
                planned = ((str(i.id), _new(i.depends_on)) for i in event.issues)
                ledger = Ledger(tuple(planned))
                return ledger._ruled(event.policy)
            case BatchRestored():
                return _restored(event)
            case Configured():
                return self._ruled(event.policy)
            case Edited():
                return self._edited(event)
            case Paused() | Resumed():
                return self._replace(paused=isinstance(event, Paused))
            case Held() | Released():
                return self.put(event.issue, held=isinstance(event, Held))
            case Wished():
                return self.put(event.issue, wish=event.wish)
            case KillOrdered():
                over = event.why is KillReason.BUDGET
                return self.put(event.issue, killed=True, over_budget=over)
            case ConditionChanged():
                return self.put(event.issue, waits=event.waits, asked=event.asked)
            case Sent():
                entry = self[event.issue]
                waits, count = entry.waits and not entry.asked, 0 if event.typed else 1
                return self.put(
                    event.issue, messages=entry.messages + count, asked=False, waits=waits
                )
            case Dispatched():
                return self.put(
                    event.issue,
                    status=Status.DISPATCHED,
                    newest=event.attempt,
                    is_open=True,
                    killed=False,
                    over_budget=False,
                    messages=self[event.issue].messages - event.messages,
                    given=event.messages,
                    waits=False,
                    asked=False,
                )
            case Voided() | Ended():
                return self._closed(event)
        status = _STATUS_AFTER.get(type(event))
        if status is None:
            return self
        ledger = self.put(event.issue, status=status)
        if status in TERMINAL or isinstance(event, Retried | Reopened):
            ledger = ledger.put(event.issue, charges=0)
        return ledger

    def _ruled(self, policy: Policy) -> "Ledger":
        return self._replace(
            max_concurrent=policy.max_concurrent,
            retry_max=policy.retry_max,
            budget=limits_of(policy.batch_budget),
        )

    def _closed(self, event: Voided | Ended) -> "Ledger":
        """An attempt is over: what it is charged, and what it was told in vain."""
        entry, used = self[event.issue], self.used
        charges, messages = entry.charges, entry.messages
        if isinstance(event, Ended):
            charges += event.outcome in (Outcome.DIED, Outcome.FAILED)
            used = _sum(used, event.usage)
        new_budget = entry.wish is Wish.RETRY or messages
        if event.to in TERMINAL or new_budget:
            charges = 0
        if isinstance(event, Voided) or event.outcome in _NOT_TOLD:
            messages += entry.given
        return self.put(
            event.issue,
            status=event.to,
            is_open=False,
            killed=False,
            over_budget=False,
            wish=None,
            charges=charges,
            messages=messages,
            given=0,
            waits=False,
            asked=False,
        )._replace(used=used)

    def _edited(self, event: Edited) -> "Ledger":
        joined = tuple((str(i.id), _new(i.depends_on)) for i in event.issues)
        ledger = self._replace(entries=self.entries + joined)
        for issue, needs in event.depends_on.items():
            ledger = ledger.put(issue, needs=tuple(needs))
        for issue, status in event.statuses.items():
            ledger = ledger.put(issue, status=status)
            if status in TERMINAL:
                ledger = ledger.put(issue, charges=0)
        for issue, count in event.retries.items():
            ledger = ledger.put(issue, charges=max(ledger[issue].charges, count))
        for issue, wish in event.wishes.items():
            ledger = ledger.put(issue, wish=wish)
        for issue, detail in event.details.items():
            ledger = ledger.put(issue, held=detail.get("held", ledger[issue].held))
        return ledger._replace(paused=event.batch.get("paused", ledger.paused))


_STATUS_AFTER = {
    Unblocked: Status.PENDING,
    Blocked: Status.BLOCKED,
    Skipped: Status.SKIPPED,
    Cancelled: Status.CANCELLED,
    Refused: Status.FAILED,
    Retried: Status.BLOCKED,
    Reopened: Status.BLOCKED,
}


# Its agent was never executed, or had no session to be told in.
_NOT_TOLD = (Outcome.VOID, Outcome.REFUSED, Outcome.SESSION_LOST)


def limits_of(limits: Limits) -> Used:
    minutes = inf if limits.minutes is None else limits.minutes * 60
    tokens, cost = limits.tokens, limits.cost_usd
    return Used(inf if tokens is None else tokens, inf if cost is None else cost, minutes)


def _sum(used: Used, more: Usage | None) -> Used:
    if more is None:
        return used
    return Used(
        used.tokens + more.input_tokens + more.output_tokens,
        used.cost_usd + (more.cost_usd or 0.0),
        used.seconds + more.seconds,
    )


def _new(needs: Iterable[str]) -> Entry:
    needs = tuple(needs)
    return Entry(Status.BLOCKED if needs else Status.PENDING, needs)


def _restored(event: BatchRestored) -> Ledger:
    """A journal begun anew from a state file."""
    state = event.state
    used, entries = Used(), []
    for key, status in state["status"].items():
        detail = state["detail"].get(key, {})
        attempts = detail.get("attempts", [])
        newest = attempts[-1] if attempts else {}
        is_open = status == Status.DISPATCHED
        wish = detail.get("wish")
        kill = newest.get("kill") if is_open else None
        entry = Entry(
            Status(status),
            tuple(map(str, state["dag"].get(key, ()))),
            newest.get("number", -1),
            is_open,
            killed=kill is not None,
            wish=Wish(wish) if wish else None,
            over_budget=kill == KillReason.BUDGET,
            charges=0 if Status(status) in TERMINAL else detail.get("spent", 0),
            messages=len(detail.get("messages", ())),
            given=len(newest.get("messages", ())) if is_open else 0,
            waits=is_open and newest.get("waits", False),
            asked=is_open and newest.get("asked", False),
        )
        entries.append((key, entry))
        for usage in (attempt.get("usage") for attempt in attempts):
            used = _sum(used, usage and msgspec.convert(usage, Usage))
    policy = state.get("policy", {})
    return Ledger(
        tuple(entries),
        policy.get("maxConcurrent", 4),
        policy.get("retryMax", 1),
        state.get("paused", False),
        used,
        limits_of(msgspec.convert(policy.get("batchBudget", {}), Limits)),
    )
