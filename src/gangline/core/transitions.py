"""The one table of legal transitions: which event may follow which status.

Anything else is an IllegalEventError and never reaches the journal. Recovery replays the same
events through the same table as normal running does.
"""

from gangline.core.events import (
    Blocked,
    Cancelled,
    ConditionChanged,
    Dispatched,
    Ended,
    Held,
    IssueEvents,
    KillOrdered,
    Launched,
    Reaping,
    Refused,
    Released,
    Reopened,
    Retried,
    Sent,
    Skipped,
    Unblocked,
    Voided,
    Wished,
)
from gangline.core.model import Status


class IllegalEventError(Exception):
    """An event that cannot follow the issue's status: a defect, or a journal that was edited."""

    def __init__(self, current: Status, event: IssueEvents, why: str = "") -> None:
        name = type(event).__struct_config__.tag
        super().__init__(f"{name} cannot follow {current.value} (issue {event.issue}){why}")
        self.current = current
        self.event = event


def next_status(current: Status, event: IssueEvents) -> Status:
    """The status after the event.

    Raises:
        IllegalEventError: the table has no such row.
    """
    match current, event:
        case Status.BLOCKED, Unblocked():
            return Status.PENDING
        case Status.PENDING, Blocked():
            return Status.BLOCKED
        case ((Status.PENDING | Status.BLOCKED), Skipped()):
            return Status.SKIPPED
        case ((Status.PENDING | Status.BLOCKED), Cancelled()):
            return Status.CANCELLED
        case Status.PENDING, Refused():
            return Status.FAILED
        case Status.PENDING, Dispatched():
            return Status.DISPATCHED
        case Status.DISPATCHED, (
            Launched() | ConditionChanged() | Wished() | KillOrdered() | Reaping()
        ):
            return Status.DISPATCHED
        case Status.DISPATCHED, Voided() if event.to in _AFTER_VOID:
            return event.to
        case Status.DISPATCHED, Ended() if event.to in _AFTER_END:
            return event.to
        case ((Status.FAILED | Status.CANCELLED | Status.SKIPPED | Status.COMPLETED), Retried()):
            return Status.BLOCKED
        case Status.SKIPPED, Reopened():
            return Status.BLOCKED
        case (
            (Status.PENDING | Status.BLOCKED | Status.DISPATCHED),
            (Held() | Released() | Sent()),
        ):
            return current
    raise IllegalEventError(current, event)


_AFTER_END = frozenset(Status) - {Status.DISPATCHED, Status.BLOCKED}
_AFTER_VOID = _AFTER_END
