"""The heart: what to record next and what to do next, from what was recorded and what is true.

`reconcile(batch, evidence, now)` is pure, total and level-triggered: start-up, polling and crash
recovery are this one function, called again and again. It has no memory, so a crash between any two
steps loses nothing; calling it again finishes the job (DESIGN.md section 1).

Effects are orders to the host. None of them is ever needed for the truth of a record: what they did
comes back as evidence.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from gangline.core.batch import Batch
from gangline.core.events import (
    AnyEvent,
    Blocked,
    Condition,
    ConditionChanged,
    Ended,
    KillOrdered,
    KillReason,
    Reaping,
    Skipped,
    StopFinished,
    Unblocked,
    Voided,
)
from gangline.core.evidence import (
    Answer,
    Claim,
    Evidence,
    ExitRecord,
    Foreign,
    Signal,
    Verdict,
    unreadable,
    verdict,
)
from gangline.core.issue import Attempt, IssueState
from gangline.core.model import Status
from gangline.core.policy import (
    FOREIGN_LOOK_SECONDS,
    KILL_GRACE_SECONDS,
    MASS_DEATH_MIN,
    REAP_GRACE_SECONDS,
    RECHECK_SECONDS,
    Ruling,
    launch_timeout_seconds,
    reap_look_seconds,
    rule_on_death,
    rule_on_doubt,
    rule_on_end,
    rule_on_refusal,
    rule_on_void,
)


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """The moment of a decision: the boot it belongs to and that boot's clock, in seconds."""

    boot_id: str
    boot_seconds: float


class Start(NamedTuple):
    """Prepare the issue's workspace, then record the intent and launch."""

    issue: str


class Void(NamedTuple):
    """Fence the attempt: link its claim as void."""

    issue: str
    attempt: int


class Terminate(NamedTuple):
    """End a living attempt: politely through its runner, or hard (runner and all it started)."""

    issue: str
    attempt: int
    hard: bool


class Reap(NamedTuple):
    """Signal whatever still bears the mark of a dead attempt: TERM, or KILL when hard."""

    issue: str
    attempt: int
    hard: bool


class Look(NamedTuple):
    """Look at the attempt again after so many seconds; `confirm` when its death was doubted."""

    issue: str
    seconds: float
    confirm: bool


Effect = Start | Void | Terminate | Reap | Look


class Decision(NamedTuple):
    """What to record, then what to do."""

    events: list[AnyEvent]
    effects: list[Effect]


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
        _decide_attempt(_Case(batch, issue, attempt, seen, now), decision)
    decision.events.extend(waiting_events(batch))
    if not decision.events:
        _decide_dispatch(batch, decision)
    return decision


class _Case(NamedTuple):
    batch: Batch
    issue: IssueState
    attempt: Attempt
    seen: Evidence
    now: Now

    def verdict(self) -> Verdict:
        return verdict(self.seen, kill_ordered=self.attempt.kill is not None)

    def other_boot(self) -> bool:
        return not self.attempt.foreign and self.attempt.boot_id != self.now.boot_id

    def seconds_since_intent(self) -> float:
        return self.now.boot_seconds - self.attempt.boot_seconds

    def cause(self) -> str:
        """Why an attempt died, as far as it is proven."""
        record = self.seen.exit or ExitRecord()
        if self.seen.foreign is Foreign.ABSENT:
            pane = self.attempt.pane
            return f"its pane {pane} is gone" if pane else "there is no tmux server it could be in"
        if self.seen.foreign is Foreign.IDLE:
            return f"its pane {self.attempt.pane} is back at its shell, and it left no word"
        if self.other_boot():
            return "the machine was restarted"
        if self.seen.server_gone is Answer.YES:
            return "its tmux server is gone"
        if record.runner_signal is not None:
            return f"its pane was closed or told to end (signal {record.runner_signal})"
        if record.signal is not None:
            return f"the agent was killed by signal {record.signal}"
        if record.code is not None:
            return f"the agent was told to end (exit code {record.code})"
        return "its runner was killed"

    def stands(self, condition: Condition, text: str | None) -> ConditionChanged:
        return ConditionChanged(
            issue=self.issue.key, attempt=self.attempt.number, condition=condition, text=text
        )

    def ended(self, ruling: Ruling) -> Ended:
        record = self.seen.exit or ExitRecord()
        return Ended(
            issue=self.issue.key,
            attempt=self.attempt.number,
            outcome=ruling.outcome,
            to=ruling.to,
            reason=ruling.reason,
            exit_code=record.code,
            exit_signal=record.signal,
            ended_at=record.ended_at,
        )


def _decide_attempt(case: _Case, decision: Decision) -> None:
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


def _decide_finished(case: _Case, decision: Decision) -> None:
    ruling = rule_on_end(case.issue, case.attempt, case.seen, case.batch.policy)
    if ruling.to is not Status.PENDING or case.seen.foreign in (None, Foreign.ABSENT, Foreign.IDLE):
        decision.events.append(case.ended(ruling))
    elif case.seen.foreign is Foreign.BUSY:  # its signal file counts, but beside it nothing starts
        _decide_running(case, decision)
    else:
        _decide_unknown(case, decision)


def _decide_unknown(case: _Case, decision: Decision) -> None:
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
    if question is not None and case.attempt.question != question:
        decision.events.append(case.stands(Condition.NEEDS_INPUT, question))
    decision.effects.append(Look(issue.key, RECHECK_SECONDS, confirm=False))


def _void_reason(case: _Case) -> str:
    if case.other_boot():
        return "the machine was restarted before it ran"
    if case.seen.server_gone is Answer.YES:
        return "its tmux server was gone before it ran"
    if case.batch.is_killing:
        return "given up before it ran, by stop --kill"
    if case.seen.claim is Claim.RUNNER:
        return "its runner ended before it started the agent"
    return "its runner never came to its claim"


def _decide_not_started(case: _Case, decision: Decision) -> None:
    """Wait for the claim until the launch timeout, then fence; at once where waiting is vain."""
    issue, attempt = case.issue, case.attempt
    remaining = launch_timeout_seconds(issue) - case.seconds_since_intent()
    in_vain = case.other_boot() or case.seen.server_gone is Answer.YES
    unwanted = issue.wish is not None or case.batch.is_killing
    if in_vain or unwanted or remaining <= 0:
        decision.effects.append(Void(issue.key, attempt.number))
    else:
        decision.effects.append(Look(issue.key, remaining, confirm=False))


def _decide_running(case: _Case, decision: Decision) -> None:
    issue, attempt, now = case.issue, case.attempt, case.now
    if attempt.condition is Condition.NEEDS_INPUT:  # it can be seen again
        decision.events.append(case.stands(Condition.WORKING, None))
    if attempt.foreign:  # it runs in a pane of the person's own, who alone may end it
        decision.effects.append(Look(issue.key, FOREIGN_LOOK_SECONDS, confirm=False))
        return
    if attempt.kill is None:
        why = _reason_to_kill(case)
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
        elif case.batch.policy.attempt_minutes is not None:
            left = case.batch.policy.attempt_minutes * 60 - case.seconds_since_intent()
            decision.effects.append(Look(issue.key, left, confirm=False))
        return
    left = KILL_GRACE_SECONDS - (now.boot_seconds - attempt.kill_boot_seconds)
    hard = left <= 0 or attempt.kill_boot_id != now.boot_id
    decision.effects.append(Terminate(issue.key, attempt.number, hard=hard))
    decision.effects.append(Look(issue.key, 1.0 if hard else left, confirm=False))


def _reason_to_kill(case: _Case) -> KillReason | None:
    if case.issue.wish is not None:
        return KillReason.WISH
    if case.seen.signal in (Signal.OK, Signal.FAILED):
        return KillReason.SIGNAL
    if case.batch.is_killing:
        return KillReason.STOP
    minutes = case.batch.policy.attempt_minutes
    if minutes is not None and case.seconds_since_intent() >= minutes * 60:
        return KillReason.TIMEOUT
    return None


def _decide_died(case: _Case, decision: Decision) -> None:
    """Survivors are reaped and seen gone first; then the rules decide."""
    issue, attempt, seen = case.issue, case.attempt, case.seen
    # exit.json is written when nothing is left; another boot leaves no process.
    if seen.has_exit is Answer.YES or case.other_boot() or seen.survivors is Answer.NO:
        ruling = rule_on_death(issue, attempt, seen, case.batch.policy, case.cause())
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
        case = _Case(batch, issue, issue.attempt, seen, now)
        proven = case.other_boot() or seen.server_gone is Answer.YES or issue.attempt.foreign
        believed = seen.confirmed or issue.attempt.reaping_since is not None
        if case.verdict() is Verdict.DIED and not proven and not believed:
            suspects.add(key)
    alive = len(batch.by_status[Status.DISPATCHED])
    return suspects if len(suspects) >= MASS_DEATH_MIN and 2 * len(suspects) > alive else set()


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


def _decide_dispatch(batch: Batch, decision: Decision) -> None:
    """Fill the free places, what the most work waits for first."""
    if batch.paused or batch.draining or batch.stop is not None:
        return
    free = batch.policy.max_concurrent - len(batch.by_status[Status.DISPATCHED])
    if free > 0:
        decision.effects.extend(Start(key) for key in batch.ready(free))


def retry_charge(issue: IssueState) -> int:
    """What the next dispatch of the issue is charged: 1 for an automatic re-dispatch."""
    return min(issue.spent, 1)
