"""What single events do to one issue: the part of the fold that needs nothing of its batch."""

from gangline.core.events import (
    IssueEvents,
    PlannedIssue,
    Refused,
    Reopened,
    Retried,
    Skipped,
    Wish,
    Wished,
)
from gangline.core.issue import IssueState
from gangline.core.model import TERMINAL, Status


def set_by_hand(issue: IssueState, status: Status) -> None:
    if issue.status in TERMINAL and status not in TERMINAL:  # a new budget, as by `retry`
        issue.spent = issue.voids = 0
        issue.reason = issue.because = None
    elif status in TERMINAL:
        issue.reason, issue.because = f"set to {status} by hand", None
    issue.status = status


def new_issue(planned: PlannedIssue) -> IssueState:
    return IssueState(
        id=planned.id,
        title=planned.title,
        depends_on=planned.depends_on,
        agent=planned.agent,
        status=Status.BLOCKED if planned.depends_on else Status.PENDING,
    )


def settle(issue: IssueState, to: Status, reason: str | None) -> None:
    """What the end of an attempt leaves on its issue: the wish is granted, the reason kept."""
    if issue.wish is Wish.RETRY and to is Status.PENDING:
        issue.spent = issue.voids = 0
    issue.wish = issue.wish_reason = None
    issue.reason = None if to is Status.PENDING else reason


def fold_decision(issue: IssueState, event: IssueEvents) -> None:
    match event:
        case Skipped():
            issue.because = event.because
            issue.reason = f"dependency {event.because} did not complete" if event.because else None
        case Refused():
            issue.reason = event.reason
        case Wished():
            issue.wish, issue.wish_reason = event.wish, event.reason
        case Retried() | Reopened():
            issue.spent = issue.voids = 0
            issue.reason = issue.because = None
