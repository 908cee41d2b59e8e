"""What the rules make of an attempt that is over: its outcome and the issue's next status.

The specification's "Auto-Retry Policy": at most one automatic re-dispatch an issue, charged at the
intent; a second death is failed and reported, never retried by itself again. A person's wish
outranks what the attempt achieved; an acknowledged cancel outranks even a success read later.
"""

from typing import NamedTuple
from zlib import crc32

from gangline.core.events import KillReason, Outcome, Policy, Wish
from gangline.core.evidence import Evidence, ExitRecord, Progress, Signal
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
LIMIT_WAIT_SECONDS = 900.0  # where the service did not say when its limit ends
LIMIT_WAIT_SECONDS_MAX = 7200.0
LIMIT_SECONDS_MAX = 8 * 86_400.0  # weekly limits there are; later ends are misread
LIMIT_JITTER_SECONDS = 30.0
DONE_GRACE_SECONDS = 60.0  # for an agent that said it is done, to end by itself
_GOES_ON = "it goes on with what a person said"
RECHECK_SECONDS = 2.0
FOREIGN_LOOK_SECONDS = 5.0  # nothing wakes us when one ends

_GRANTED = {
    Wish.CANCEL: (Status.CANCELLED, "cancelled"),
    Wish.SKIP: (Status.SKIPPED, "skipped"),
    Wish.RETRY: (Status.PENDING, "to be retried"),
    Wish.COMPLETE: (Status.COMPLETED, "declared completed"),
    Wish.FAIL: (Status.FAILED, "declared failed"),
}


_WORDS_OF_KILL = {
    KillReason.TIMEOUT: "ran longer than {policy.attempt_minutes} minutes",
    KillReason.STALL: "stalled: nothing of it moved for {policy.stall_minutes} minutes",
    KillReason.BUDGET: "its budget is used up",
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
    elif attempt.kill in _WORDS_OF_KILL:
        achieved, reason = False, _WORDS_OF_KILL[attempt.kill].format(policy=policy)
    else:
        told = seen.progress.failure if seen.progress else None
        achieved = record.code == 0 and attempt.kill is not KillReason.STOP and told is None
        reason = None if achieved else _words(record, told)
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
    if issue.messages:
        return Ruling(Outcome.DIED, Status.PENDING, f"{cause}; {_GOES_ON}")
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
    if issue.messages and attempt.kill is not KillReason.BUDGET:
        return Ruling(outcome, Status.PENDING, _GOES_ON)
    if achieved:
        return Ruling(outcome, Status.COMPLETED, None)
    if attempt.kill is KillReason.STOP:
        return Ruling(Outcome.KILLED, Status.PENDING, "ended by stop --kill, not charged")
    again = policy.retry_on_failure and attempt.kill is not KillReason.BUDGET
    again = again or (attempt.kill is KillReason.STALL and policy.stall_action == "retry")
    if again and issue.spent + 1 <= policy.retry_max:
        return Ruling(outcome, Status.PENDING, reason)
    return Ruling(outcome, Status.FAILED, reason)


def _grant(issue: IssueState, wish: Wish) -> tuple[Status, str]:
    status, words = _GRANTED[wish]
    return status, issue.wish_reason or f"{words} on request"


def _words(record: ExitRecord, told: str | None) -> str:
    if record.refused is not None:
        return record.refused
    how = (
        f"ended by signal {record.signal}"
        if record.signal is not None
        else f"exit code {record.code}"
    )
    return f"{told} ({how})" if told else how


def limit_end(told: Progress, issue: IssueState, now_epoch: float, recorded: float | None) -> float:
    """When a usage limit ends, in seconds of the epoch: as its service said, if that can be true.

    Where it said nothing, a quarter of an hour, doubled with each attempt in a row that met it. An
    end that is over already is believed once: the clocks here and there may differ. What is on
    record of this attempt is not reckoned anew.
    """
    until, met = told.limited_until, 0
    for attempt in reversed(issue.attempts[:-1]):
        if attempt.outcome is not Outcome.LIMITED:
            break
        met += 1
    can_be = until is not None and until <= now_epoch + LIMIT_SECONDS_MAX
    if until is not None and can_be and (until > now_epoch or not met):
        return until
    if recorded is not None:
        return recorded
    return now_epoch + float(min(LIMIT_WAIT_SECONDS * 2**met, LIMIT_WAIT_SECONDS_MAX))


def limit_jitter_seconds(attempt: Attempt) -> float:
    """How long after the end of a limit an attempt goes on: not all in the same second."""
    return crc32(attempt.mark.encode()) % 1000 / 1000 * LIMIT_JITTER_SECONDS
