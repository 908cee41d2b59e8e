"""The heart: what to record next and what to do next, from what was recorded and what is true.

`reconcile(batch, evidence, now)` is pure, total and level-triggered: start-up, polling and crash
recovery are this one function, called again and again. It has no memory, so a crash between any two
steps loses nothing; calling it again finishes the job (DESIGN.md section 1).

Effects are orders to the host. None of them is ever needed for the truth of a record: what they did
comes back as evidence.
"""

from collections.abc import Mapping

from gangline.core.batch import Batch
from gangline.core.case import Case
from gangline.core.decision import Decision, Effect, Look, Now, Reap, Start, Terminate, Void
from gangline.core.dispatching import decide_dispatch, retry_charge, waiting_events
from gangline.core.events import Condition, KillOrdered, KillReason, Reaping, Voided
from gangline.core.evidence import Answer, Claim, Evidence, Foreign, Signal, Verdict, unreadable
from gangline.core.model import Status
from gangline.core.policy import (
    FOREIGN_LOOK_SECONDS,
    KILL_GRACE_SECONDS,
    MASS_DEATH_MIN,
    REAP_GRACE_SECONDS,
    RECHECK_SECONDS,
    launch_timeout_seconds,
    reap_look_seconds,
    rule_on_death,
    rule_on_doubt,
    rule_on_end,
    rule_on_refusal,
    rule_on_void,
)
from gangline.core.standing import (
    change_of_standing,
    deadlines_seconds,
    decide_answer,
    decide_uncharged,
    patience_seconds,
    reason_of_standing,
    stays_as_it_is,
)

__all__ = [
    "Decision",
    "Effect",
    "Look",
    "Now",
    "Reap",
    "Start",
    "Terminate",
    "Void",
    "reconcile",
    "retry_charge",
    "waiting_events",
]


def reconcile(batch: Batch, evidence: Mapping[str, Evidence], now: Now) -> Decision:
    """Decide.

    Args:
        batch: The fold of the journal; not changed.
        evidence: By issue key; an issue that was not looked at is left alone.
        now: The boot and its clock; deadlines are reckoned in it alone.

    Returns:
        Events that are legal in this order, and effects to carry out once they are durable. When
        events are returned there may be more to decide after folding them: call again.
    """
    decision = Decision([], [])
    doubted = _mass_death(batch, evidence, now)
    for key, seen in evidence.items():
        issue = batch.issues.get(key)
        attempt = issue.attempt if issue else None
        if issue is None or attempt is None or issue.status is not Status.DISPATCHED:
            continue
        if attempt.number != seen.attempt:
            continue
        if key in doubted:
            decision.effects.append(Look(key, RECHECK_SECONDS, confirm=True))
            continue
        _decide_attempt(Case(batch, issue, attempt, seen, now), decision)
    decision.events.extend(waiting_events(batch))
    if not decision.events:
        decide_dispatch(batch, decision, now)
    return decision


def _decide_attempt(case: Case, decision: Decision) -> None:
    match case.verdict():
        case Verdict.NOT_STARTED:
            _decide_not_started(case, decision)
        case Verdict.NEVER_RAN:
            ruling = rule_on_void(case.issue, case.batch.is_killing, _void_reason(case))
            decision.events.append(
                Voided(
                    issue=case.issue.key,
                    attempt=case.attempt.number,
                    reason=ruling.reason or "",
                    to=ruling.to,
                    counted=not case.batch.is_killing and case.issue.wish is None,
                )
            )
        case Verdict.REFUSED:
            decision.events.append(case.ended(rule_on_refusal(case.issue, case.seen.exit)))
        case Verdict.RUNNING:
            _decide_running(case, decision)
        case Verdict.FINISHED:
            _decide_finished(case, decision)
        case Verdict.DIED:
            _decide_died(case, decision)
        case Verdict.UNKNOWN:
            _decide_unknown(case, decision)


def _decide_finished(case: Case, decision: Decision) -> None:
    if decide_uncharged(case, decision):
        return
    ruling = rule_on_end(case.issue, case.attempt, case.seen, case.batch.policy)
    if decide_answer(case, ruling, decision):
        return
    if ruling.to is not Status.PENDING or case.seen.foreign in (None, Foreign.ABSENT, Foreign.IDLE):
        decision.events.append(case.ended(ruling))
    elif case.seen.foreign is Foreign.BUSY:  # its signal file counts, but beside it nothing starts
        _decide_running(case, decision)
    else:
        _decide_unknown(case, decision)


def _decide_unknown(case: Case, decision: Decision) -> None:
    """Nothing is decided over what cannot be seen; if it stays so, a person is asked."""
    issue, seen = case.issue, case.seen
    doubtful = seen.foreign is Foreign.DOUBTFUL
    if doubtful and issue.wish is not None:
        decision.events.append(case.ended(rule_on_doubt(issue, issue.wish)))
        return
    question = None
    if doubtful:
        question = (
            f"nobody can tell whether its agent lives: find out, end it, then "
            f"gangline retry {case.batch.area} {issue.key} (or skip, cancel)"
        )
    elif seen.doubted:
        question = f"nothing is decided while this cannot be read: {unreadable(seen)}"
    if question not in (None, case.attempt.question) and not stays_as_it_is(case):
        decision.events.append(case.stands(Condition.NEEDS_INPUT, question))
    decision.effects.append(Look(issue.key, RECHECK_SECONDS, confirm=False))


def _void_reason(case: Case) -> str:
    if case.other_boot():
        return "the machine was restarted before it ran"
    if case.seen.server_gone is Answer.YES:
        return "its tmux server was gone before it ran"
    if case.batch.is_killing:
        return "given up before it ran, by stop --kill"
    if case.seen.claim is Claim.RUNNER:
        return "its runner ended before it started the agent"
    return "its runner never came to its claim"


def _decide_not_started(case: Case, decision: Decision) -> None:
    """Wait for the claim until the launch timeout, then fence; at once where waiting is vain."""
    issue, attempt = case.issue, case.attempt
    remaining = launch_timeout_seconds(issue) - case.seconds_since_intent()
    in_vain = case.other_boot() or case.seen.server_gone is Answer.YES
    unwanted = issue.wish is not None or case.batch.is_killing
    if in_vain or unwanted or remaining <= 0:
        decision.effects.append(Void(issue.key, attempt.number))
    else:
        decision.effects.append(Look(issue.key, remaining, confirm=False))


def _decide_running(case: Case, decision: Decision) -> None:
    issue, attempt, now = case.issue, case.attempt, case.now
    change = change_of_standing(case)
    if change is not None:
        decision.events.append(change)
        return
    if attempt.foreign:  # it runs in a pane of the person's own, who alone may end it
        decision.effects.append(Look(issue.key, FOREIGN_LOOK_SECONDS, confirm=False))
        return
    if attempt.kill is None:
        why = _reason_to_kill(case)
        ends = deadlines_seconds(case)
        if why is not None:
            decision.events.append(
                KillOrdered(
                    issue=issue.key,
                    attempt=attempt.number,
                    why=why,
                    boot_id=now.boot_id,
                    boot_seconds=now.boot_seconds,
                )
            )
        elif ends:
            decision.effects.append(Look(issue.key, min(ends), confirm=False))
        return
    left = KILL_GRACE_SECONDS - (now.boot_seconds - attempt.kill_boot_seconds)
    hard = left <= 0 or attempt.kill_boot_id != now.boot_id
    decision.effects.append(Terminate(issue.key, attempt.number, hard=hard))
    decision.effects.append(Look(issue.key, 1.0 if hard else left, confirm=False))


def _reason_to_kill(case: Case) -> KillReason | None:
    if case.issue.wish is not None and patience_seconds(case) <= 0:
        return KillReason.WISH
    if case.seen.signal in (Signal.OK, Signal.FAILED):
        return KillReason.SIGNAL
    if case.batch.is_killing:
        return KillReason.STOP
    minutes = case.batch.policy.attempt_minutes
    if minutes is not None and case.seconds_since_intent() >= minutes * 60:
        return KillReason.TIMEOUT
    return None if case.issue.wish is not None else reason_of_standing(case)


def _decide_died(case: Case, decision: Decision) -> None:
    """Survivors are reaped and seen gone first; then the rules decide."""
    issue, attempt, seen = case.issue, case.attempt, case.seen
    # exit.json is written when nothing is left; another boot leaves no process.
    if seen.has_exit is Answer.YES or case.other_boot() or seen.survivors is Answer.NO:
        ruling = rule_on_death(issue, attempt, seen, case.batch.policy, case.cause())
        if not (decide_uncharged(case, decision) or decide_answer(case, ruling, decision)):
            decision.events.append(case.ended(ruling))
    elif seen.survivors is Answer.UNKNOWN:
        decision.effects.append(Look(issue.key, RECHECK_SECONDS, confirm=seen.confirmed))
    elif attempt.reaping_since is None:
        since = case.now.boot_seconds
        decision.events.append(Reaping(issue=issue.key, attempt=attempt.number, boot_seconds=since))
    else:
        waited = case.now.boot_seconds - attempt.reaping_since
        hard = waited >= REAP_GRACE_SECONDS
        decision.effects.append(Reap(issue.key, attempt.number, hard=hard))
        again = reap_look_seconds(waited)
        decision.effects.append(Look(issue.key, again, confirm=seen.confirmed))


def _mass_death(batch: Batch, evidence: Mapping[str, Evidence], now: Now) -> set[str]:
    """Deaths not yet to be believed: many at once, most of those alive, no proven cause.

    Users of other tools lost 18 living sessions to one failed probe (EVIDENCE.md section 6).
    """
    suspects: set[str] = set()
    for key, seen in evidence.items():
        issue = batch.issues.get(key)
        if issue is None or issue.attempt is None or issue.status is not Status.DISPATCHED:
            continue
        case = Case(batch, issue, issue.attempt, seen, now)
        if case.verdict() is not Verdict.DIED:
            continue
        proven = case.other_boot() or seen.server_gone is Answer.YES or issue.attempt.foreign
        believed = seen.confirmed or issue.attempt.reaping_since is not None
        if not proven and not believed:
            suspects.add(key)
    alive = len(batch.by_status[Status.DISPATCHED])
    return suspects if len(suspects) >= MASS_DEATH_MIN and 2 * len(suspects) > alive else set()
