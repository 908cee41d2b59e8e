"""What the rules make of an attempt that is over: its outcome and the issue's next status.

The specification's "Auto-Retry Policy": at most one automatic re-dispatch an issue, charged at the
intent; a second death is failed and reported, never retried by itself again. A person's wish
outranks what the attempt achieved; an acknowledged cancel outranks even a success read later.
"""

from typing import NamedTuple

from gangline.core.events import KillReason, Outcome, Policy, Wish
from gangline.core.evidence import Evidence, ExitRecord, Signal
from gangline.core.issue import Attempt, IssueState
from gangline.core.model import Status

VOIDS_MAX = 3
LAUNCH_TIMEOUT_SECONDS = 10.0
# Longer than twice the runner's own grace (agent, then what it left): it is to do its duty first.
KILL_GRACE_SECONDS = 15.0
REAP_GRACE_SECONDS = 2.0  # between TERM and KILL for what a dead attempt left
REAP_LOOK_SECONDS = 0.05
REAP_LOOK_SECONDS_MAX = 2.0  # what cannot be ended (a process in the kernel) is not asked for ever
MASS_DEATH_MIN = 3
RECHECK_SECONDS = 2.0
FOREIGN_LOOK_SECONDS = 5.0  # nothing wakes us when one ends

_GRANTED = {
    Wish.CANCEL: (Status.CANCELLED, "cancelled"),
    Wish.SKIP: (Status.SKIPPED, "skipped"),
    Wish.RETRY: (Status.PENDING, "to be retried"),
    Wish.COMPLETE: (Status.COMPLETED, "declared completed"),
    Wish.FAIL: (Status.FAILED, "declared failed"),
}


class Ruling(NamedTuple):
    """The decision over an attempt that is over."""

    outcome: Outcome
    to: Status
    reason: str | None


def launch_timeout_seconds(issue: IssueState) -> float:
    """How long a launch may take before it is fenced: doubled after each void."""
    return float(LAUNCH_TIMEOUT_SECONDS * 2**issue.voids)


def reap_look_seconds(waited_seconds: float) -> float:
    """When to look again at what is being reaped: soon at first, ever later where nothing helps."""
    return min(REAP_LOOK_SECONDS_MAX, max(REAP_LOOK_SECONDS, waited_seconds / 20))


def rule_on_void(issue: IssueState, stopping: bool, reason: str) -> Ruling:
    """An attempt that never ran: dispatch again, not charged; three in a row: failed."""
    if issue.wish is not None:
        return Ruling(Outcome.VOID, *_grant(issue, issue.wish))
    if stopping or issue.voids + 1 < VOIDS_MAX:
        return Ruling(Outcome.VOID, Status.PENDING, reason)
    return Ruling(
        Outcome.VOID, Status.FAILED, f"could not be started ({VOIDS_MAX} launches): {reason}"
    )


def rule_on_refusal(issue: IssueState, record: ExitRecord | None) -> Ruling:
    """The runner would not start the agent."""
    why = (record.refused if record else None) or "the runner refused to start the agent"
    if issue.wish is not None:
        return Ruling(Outcome.REFUSED, *_grant(issue, issue.wish))
    return Ruling(Outcome.REFUSED, Status.FAILED, why)


def rule_on_end(issue: IssueState, attempt: Attempt, seen: Evidence, policy: Policy) -> Ruling:
    """The agent ran to its end, or was ended by a kill of ours."""
    record = seen.exit or ExitRecord()
    if seen.signal is Signal.OK or seen.signal is Signal.FAILED:
        achieved = seen.signal is Signal.OK
        reason = None if achieved else "the agent's signal file says it failed"
    elif attempt.kill is KillReason.TIMEOUT:
        achieved, reason = False, f"ran longer than {policy.attempt_minutes} minutes"
    else:
        achieved = record.code == 0 and attempt.kill is not KillReason.STOP
        reason = None if achieved else _words(record)
    return _settle(issue, attempt, policy, achieved=achieved, reason=reason)


def rule_on_death(
    issue: IssueState, attempt: Attempt, seen: Evidence, policy: Policy, cause: str
) -> Ruling:
    """The attempt died; its survivors are gone."""
    if seen.signal is Signal.OK:
        return _settle(issue, attempt, policy, achieved=True, reason=None)
    if attempt.kill is not None:
        return rule_on_end(issue, attempt, seen, policy)
    if issue.wish is not None:
        return Ruling(Outcome.DIED, *_grant(issue, issue.wish))
    if issue.spent + 1 <= policy.retry_max:
        return Ruling(Outcome.DIED, Status.PENDING, cause)
    again = "died again" if issue.spent else "died"
    return Ruling(Outcome.DIED, Status.FAILED, f"{again}: {cause}; not retried by itself any more")


def rule_on_doubt(issue: IssueState, wish: Wish) -> Ruling:
    """Nobody could tell whether a foreign attempt lives; a person has decided."""
    return Ruling(Outcome.DIED, *_grant(issue, wish))


def _settle(
    issue: IssueState, attempt: Attempt, policy: Policy, *, achieved: bool, reason: str | None
) -> Ruling:
    outcome = Outcome.COMPLETED if achieved else Outcome.FAILED
    if not achieved and attempt.kill in (KillReason.STOP, KillReason.WISH):
        outcome = Outcome.KILLED
    if issue.wish is not None:
        return Ruling(outcome, *_grant(issue, issue.wish))
    if achieved:
        return Ruling(outcome, Status.COMPLETED, None)
    if attempt.kill is KillReason.STOP:
        return Ruling(Outcome.KILLED, Status.PENDING, "ended by stop --kill, not charged")
    if policy.retry_on_failure and issue.spent + 1 <= policy.retry_max:
        return Ruling(outcome, Status.PENDING, reason)
    return Ruling(outcome, Status.FAILED, reason)


def _grant(issue: IssueState, wish: Wish) -> tuple[Status, str]:
    status, words = _GRANTED[wish]
    return status, issue.wish_reason or f"{words} on request"


def _words(record: ExitRecord) -> str:
    if record.refused is not None:
        return record.refused
    if record.signal is not None:
        return f"ended by signal {record.signal}"
    return f"exit code {record.code}"
