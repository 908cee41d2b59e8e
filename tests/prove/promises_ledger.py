"""The ledger of the promises: what the committed events say, folded without the product's fold.

A fold that is wrong must not be what judges itself, so this one is as plain as can be, and knows
only what the promises need.
"""

from collections.abc import Iterable
from typing import NamedTuple

from gangline.core.events import (
    AnyEvent,
    BatchRestored,
    BatchStarted,
    Blocked,
    Cancelled,
    Configured,
    Dispatched,
    Edited,
    Ended,
    Held,
    KillOrdered,
    Paused,
    Refused,
    Released,
    Reopened,
    Resumed,
    Retried,
    Skipped,
    Unblocked,
    Voided,
    Wish,
    Wished,
)
from gangline.core.model import Status


class Entry(NamedTuple):
    """One issue as the committed events tell it.

    Attributes:
        newest: The number of its newest attempt, -1 before the first.
        is_open: Whether that attempt is neither void nor ended on record.
        killed: Whether a kill of it was recorded.
    """

    status: Status
    needs: tuple[str, ...] = ()
    newest: int = -1
    is_open: bool = False
    killed: bool = False
    wish: Wish | None = None
    held: bool = False


class Ledger(NamedTuple):
    """What the journal says, folded without any code of the product's."""

    entries: tuple[tuple[str, Entry], ...] = ()
    max_concurrent: int = 4
    retry_max: int = 1
    paused: bool = False

    def __getitem__(self, issue: str) -> Entry:  # type: ignore[override]
        for key, entry in self.entries:
            if key == issue:
                return entry
        raise KeyError(issue)

    def statuses(self) -> dict[str, Status]:
        return {key: entry.status for key, entry in self.entries}

    def dispatched(self) -> int:
        return sum(entry.status is Status.DISPATCHED for _, entry in self.entries)

    def put(self, issue: str, **changes: object) -> "Ledger":
        entries = ((k, e._replace(**changes) if k == issue else e) for k, e in self.entries)
        return self._replace(entries=tuple(entries))

    def after(self, event: AnyEvent) -> "Ledger":
        """The ledger with one event more."""
        match event:
            case BatchStarted():
                planned = ((str(i.id), _new(i.depends_on)) for i in event.issues)
                ledger = Ledger(tuple(planned))
                return ledger._replace(
                    max_concurrent=event.policy.max_concurrent, retry_max=event.policy.retry_max
                )
            case BatchRestored():
                return _restored(event)
            case Configured():
                return self._replace(
                    max_concurrent=event.policy.max_concurrent, retry_max=event.policy.retry_max
                )
            case Edited():
                return self._edited(event)
            case Paused() | Resumed():
                return self._replace(paused=isinstance(event, Paused))
            case Held() | Released():
                return self.put(event.issue, held=isinstance(event, Held))
            case Wished():
                return self.put(event.issue, wish=event.wish)
            case KillOrdered():
                return self.put(event.issue, killed=True)
            case Dispatched():
                return self.put(
                    event.issue,
                    status=Status.DISPATCHED,
                    newest=event.attempt,
                    is_open=True,
                    killed=False,
                )
            case Voided() | Ended():
                return self.put(
                    event.issue, status=event.to, is_open=False, killed=False, wish=None
                )
        status = _STATUS_AFTER.get(type(event))
        return self if status is None else self.put(event.issue, status=status)

    def _edited(self, event: Edited) -> "Ledger":
        joined = tuple((str(i.id), _new(i.depends_on)) for i in event.issues)
        ledger = self._replace(entries=self.entries + joined)
        for issue, needs in event.depends_on.items():
            ledger = ledger.put(issue, needs=tuple(needs))
        for issue, status in event.statuses.items():
            ledger = ledger.put(issue, status=status)
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


def _new(needs: Iterable[str]) -> Entry:
    needs = tuple(needs)
    return Entry(Status.BLOCKED if needs else Status.PENDING, needs)


def _restored(event: BatchRestored) -> Ledger:
    """A journal begun anew from a state file."""
    state = event.state
    entries = []
    for key, status in state["status"].items():
        attempts = state["detail"].get(key, {}).get("attempts", [])
        newest = attempts[-1]["number"] if attempts else -1
        needs = tuple(map(str, state["dag"].get(key, ())))
        wish = state["detail"].get(key, {}).get("wish")
        is_open = status == Status.DISPATCHED
        entries.append(
            (key, Entry(Status(status), needs, newest, is_open, wish=Wish(wish) if wish else None))
        )
    policy = state.get("policy", {})
    return Ledger(
        tuple(entries),
        policy.get("maxConcurrent", 4),
        policy.get("retryMax", 1),
        state.get("paused", False),
    )
