"""What may run next: what waits for nothing any more, and which places are free."""

from gangline.core.batch import Batch
from gangline.core.decision import Decision, Now, Start
from gangline.core.events import AnyEvent, Blocked, Condition, Skipped, StopFinished, Unblocked
from gangline.core.issue import Attempt, IssueState
from gangline.core.model import Status
from gangline.core.usage import used_up


def waiting_events(batch: Batch) -> list[AnyEvent]:
    """Unblock what waits for nothing; skip or block what must not run. Idempotent."""
    events: list[AnyEvent] = []
    skip = batch.policy.on_failed_dependency == "skip"
    for key in batch.unblockable:
        failed = _failed_dependency(batch, key) if skip else None
        if failed:
            events.append(Skipped(issue=key, because=failed))
        else:
            events.append(Unblocked(issue=key))
    events.extend(Blocked(issue=key) for key in batch.misplaced)
    if batch.is_killing and all(batch.is_foreign(key) for key in batch.dispatched):
        events.append(StopFinished())
    return events


def _failed_dependency(batch: Batch, key: str) -> str | None:
    for other in batch.issues[key].depends_on:
        issue = batch.issues[other]
        # What a person passed over is as if nobody needed it; `because` names a failed dependency.
        passed_over = issue.status is Status.SKIPPED and issue.because is None
        if issue.status is not Status.COMPLETED and not passed_over:
            return other
    return None


def decide_dispatch(batch: Batch, decision: Decision, now: Now) -> None:
    """Fill the free places, what the most work waits for first.

    What only waits, for a limit's end or an answer, holds no place; what shares the limit's account
    is held back.
    """
    if batch.paused or batch.draining or batch.stop is not None or budget_used_up(batch):
        return
    attempts = _open_attempts(batch)
    free = batch.policy.max_concurrent - sum(not attempt.waits for attempt in attempts)
    if free > 0:
        accounts = _limited_accounts(attempts, now)
        decision.effects.extend(Start(key) for key in batch.ready(free, accounts))


def _open_attempts(batch: Batch) -> list[Attempt]:
    return [batch.issues[key].attempts[-1] for key in batch.by_status[Status.DISPATCHED]]


def _limited_accounts(attempts: list[Attempt], now: Now) -> set[str | None]:
    limited = [each for each in attempts if each.condition is Condition.LIMITED]
    return {each.account for each in limited if now.epoch_seconds < (each.until or 0.0)}


def held_back(batch: Batch, issue: IssueState, now: Now) -> str | None:
    """Why an issue that a person has a place for is not dispatched, in words; None if it may be."""
    if batch.paused:
        return "paused"
    if issue.held:
        return "held"
    used = budget_used_up(batch)
    if used:
        return f"held back: the batch's budget is used up ({used})"
    account = batch.account_of(issue)
    if account is not None and account in _limited_accounts(_open_attempts(batch), now):
        return f"held back until the usage limit of {account} ends"
    return None


def runs_anything(batch: Batch) -> bool:
    """Whether an attempt is open that does not only wait."""
    return any(not batch.issues[key].attempts[-1].waits for key in batch.dispatched)


def budget_used_up(batch: Batch) -> str | None:
    """What of the batch's own budget is used up, in words; None while nothing is."""
    return used_up(batch.usage, batch.policy.batch_budget)


def retry_charge(issue: IssueState) -> int:
    """What the next dispatch of the issue is charged: 1 for an automatic re-dispatch."""
    return min(issue.spent, 1)
