"""How a dispatched issue stands beside its status: its condition, and what a usage limit means.

A condition tells a person what to do, or that nothing is to be done; it never ends an attempt by
itself. The one exception is asked for in gangline.toml: `[stall] action`.
"""

from gangline.core.case import Case
from gangline.core.decision import Decision, Look
from gangline.core.events import Condition, ConditionChanged, KillReason, Outcome
from gangline.core.evidence import Answer, Signal, Verdict
from gangline.core.model import Status
from gangline.core.policy import DONE_GRACE_SECONDS, Ruling, limit_end, limit_jitter_seconds
from gangline.core.usage import NO_LIMITS, used_up

_LIMIT_LOOK_SECONDS_MAX = 600.0  # the wall clock may be set meanwhile
_LIMIT = "its service's usage limit was hit"


def change_of_standing(case: Case) -> ConditionChanged | None:
    """The event that says how the attempt stands now; None if that is on record."""
    if case.seen.has_progress is Answer.UNKNOWN:
        return None
    attempt, found = case.attempt, _standing(case)
    recorded = (attempt.condition or Condition.WORKING, attempt.question, attempt.until)
    return None if recorded == (found.condition, found.text, found.until) else found


def _standing(case: Case) -> ConditionChanged:
    told, attempt, policy = case.progress(), case.attempt, case.batch.policy
    if told.limited:
        until = limit_end(told, case.issue, case.now.epoch_seconds, attempt.until)
        return case.stands(Condition.LIMITED, told.limit_text or _LIMIT, until)
    if attempt.asked:
        return case.stands(Condition.NEEDS_INPUT, attempt.question)
    if told.needs:
        return case.stands(Condition.NEEDS_INPUT, told.needs)
    quiet, minutes = case.seen.quiet_seconds, policy.stall_minutes
    if minutes is not None and told.tool is None and told.retrying is None:
        is_stalled = attempt.condition is Condition.STALLED
        if is_stalled if quiet is None else quiet >= minutes * 60:
            text = f"no output, no CPU and no change in its worktree for {minutes:g} minutes"
            return case.stands(Condition.STALLED, text)
    return case.stands(Condition.WORKING, None)


def patience_seconds(case: Case) -> float:
    """How long an agent that said it is done still has to end by itself; 0 for a person's wish."""
    if case.issue.wish_boot_id != case.now.boot_id:
        return 0.0
    return DONE_GRACE_SECONDS - (case.now.boot_seconds - case.issue.wish_boot_seconds)


def reason_of_standing(case: Case) -> KillReason | None:
    """Why an attempt that nobody asked to end is ended: a limit, its budget, or a stall."""
    attempt, policy = case.attempt, case.batch.policy
    if attempt.condition is Condition.LIMITED and case.now.epoch_seconds < (attempt.until or 0.0):
        return KillReason.LIMIT
    if policy.budget != NO_LIMITS and used_up(case.issue.usage + case.usage(), policy.budget):
        return KillReason.BUDGET
    if attempt.condition is Condition.STALLED and policy.stall_action != "report":
        return KillReason.STALL
    return None


def deadlines_seconds(case: Case) -> list[float]:
    """After how long a living attempt is to be looked at again, whatever is heard of it."""
    ends = []
    policy = case.batch.policy
    if policy.attempt_minutes is not None:
        ends.append(policy.attempt_minutes * 60 - case.seconds_since_intent())
    if policy.budget.minutes is not None:
        spent = case.issue.usage.seconds + case.usage().seconds
        ends.append(policy.budget.minutes * 60 - spent)
    if case.issue.wish is not None:
        ends.append(patience_seconds(case))
    return ends


def decide_uncharged(case: Case, decision: Decision) -> bool:
    """Decide over an attempt that is over for no fault of its own; whether it was one.

    One that met its service's usage limit is parked until that ends, and one whose session was not
    there any more starts afresh. What a person or the agent itself said comes before either. One
    that is parked on record stays so, whatever a power cut took of what it told.
    """
    told, attempt = case.progress(), case.attempt
    if case.issue.wish is not None or case.seen.signal is not Signal.NONE:
        return False
    if told.failure_kind == "no-session" and attempt.resumed and attempt.kill is None:
        why = "the session it was to go on with is not there any more; it starts afresh"
        decision.events.append(case.ended(Ruling(Outcome.SESSION_LOST, Status.PENDING, why)))
        return True
    met = told.failure_kind == "limit" or attempt.kill is KillReason.LIMIT
    met |= case.verdict() is Verdict.DIED and told.limited
    if not (met or (attempt.waits and attempt.condition is Condition.LIMITED)):
        return False
    if not case.batch.is_killing and not attempt.waits:
        until = limit_end(told, case.issue, case.now.epoch_seconds, attempt.until)
        text = told.limit_text or _LIMIT
        decision.events.append(case.stands(Condition.LIMITED, text, until, waits=True))
        return True
    left = (attempt.until or 0.0) + limit_jitter_seconds(attempt) - case.now.epoch_seconds
    if left > 0 and not case.batch.is_killing:
        seconds = min(left, _LIMIT_LOOK_SECONDS_MAX)
        decision.effects.append(Look(case.issue.key, seconds, confirm=False))
    else:
        why = told.limit_text or _LIMIT
        decision.events.append(case.ended(Ruling(Outcome.LIMITED, Status.PENDING, why)))
    return True


def stays_as_it_is(case: Case) -> bool:
    """Whether it waits anyway, for an answer or a limit's end: then a doubt can wait as well."""
    attempt = case.attempt
    is_limited = attempt.condition is Condition.LIMITED
    return attempt.asked or (is_limited and case.now.epoch_seconds < (attempt.until or 0.0))


def decide_answer(case: Case, ruling: Ruling, decision: Decision) -> bool:
    """Keep an attempt open whose agent has ended its turn well and left a question; whether it is.

    The answer is its next turn. A failure needs none, and what the agent said of itself decides.
    """
    attempt, issue = case.attempt, case.issue
    if not attempt.asked or issue.wish is not None or ruling.to is not Status.COMPLETED:
        return False
    if case.batch.is_killing:
        why = "ended by stop --kill while it waited for an answer"
        decision.events.append(case.ended(Ruling(Outcome.KILLED, Status.PENDING, why)))
    elif not attempt.waits:
        event = case.stands(Condition.NEEDS_INPUT, attempt.question, waits=True)
        decision.events.append(event)
    return True
