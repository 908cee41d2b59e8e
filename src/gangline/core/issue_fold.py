"""What single events do to one issue: the part of the fold that needs nothing of its batch."""

from gangline.core.events import (
    IssueEvents,
    Outcome,
    PlannedIssue,
    Refused,
    Reopened,
    Retried,
    Sent,
    Skipped,
    Wish,
    Wished,
)
from gangline.core.issue import Attempt, IssueState
from gangline.core.model import TERMINAL, Status

# Its agent was not executed, or had no session to be told in.
_NEVER_TOLD = (Outcome.VOID, Outcome.REFUSED, Outcome.SESSION_LOST)


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
    """What the end of an attempt leaves on its issue: the wish is granted, the reason kept.

    What its agent was never told goes with the next prompt.
    """
    if to is Status.PENDING and (issue.wish is Wish.RETRY or issue.messages):
        issue.spent = issue.voids = 0
    issue.wish = issue.wish_reason = None
    issue.wish_boot_id, issue.wish_boot_seconds = "", 0.0
    issue.reason = None if to is Status.PENDING else reason
    attempt = issue.attempts[-1]
    if attempt.outcome in _NEVER_TOLD:
        issue.messages, attempt.messages = [*attempt.messages, *issue.messages], []


def fold_decision(issue: IssueState, event: IssueEvents) -> None:
    match event:
        case Skipped():
            issue.because = event.because
            issue.reason = f"dependency {event.because} did not complete" if event.because else None
        case Refused():
            issue.reason = event.reason
        case Wished():
            issue.wish, issue.wish_reason = event.wish, event.reason
            issue.wish_boot_id, issue.wish_boot_seconds = event.boot_id, event.boot_seconds
        case Sent():
            if not event.typed:
                issue.messages = [*issue.messages, event.text]
            if issue.status is Status.DISPATCHED:
                _answer(issue.attempts[-1])
        case Retried() | Reopened():
            issue.spent = issue.voids = 0
            issue.reason = issue.because = None


def _answer(attempt: Attempt) -> None:
    """What the agent asked has an answer, which is on its way."""
    if attempt.asked:
        attempt.asked = attempt.waits = False
        attempt.condition = attempt.question = None
