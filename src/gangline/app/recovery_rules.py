"""Which rule decides over an issue, and where it is stated: for people, after the decision.

core.reconcile has decided, on a fold that is thrown away, before anything here is asked. Each rule
is named with the place of the specification or of the design that states it.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec

from gangline.core.batch import Batch
from gangline.core.dispatching import budget_used_up
from gangline.core.events import (
    AnyEvent,
    Blocked,
    Condition,
    Dispatched,
    Ended,
    KillOrdered,
    KillReason,
    Outcome,
    Skipped,
    Voided,
    Wish,
)
from gangline.core.evidence import Evidence, Signal, Verdict
from gangline.core.model import TERMINAL, Status
from gangline.core.reconcile import Effect, Look


class Rule(msgspec.Struct, frozen=True):
    """What decides: the rule in words, and where it is stated."""

    text: str
    source: str


_STATUS = "orchestrator-recovery.md, Per-Status Recovery: {}"
_RETRY = "orchestrator-recovery.md, Auto-Retry Policy"
_BY_STATUS = {
    Status.PENDING: "no action: it is dispatched when there is a place",
    Status.BLOCKED: "no action: it waits until its dependencies have ended",
    Status.DISPATCHED: "check its completion; it is re-dispatched only if it is dead",
    Status.COMPLETED: "what depends on it is unblocked again (idempotent)",
    Status.FAILED: "what depends on it is unblocked: a failed issue still unblocks its dependents",
    Status.SKIPPED: "what depends on it is unblocked: it is terminal",
    Status.CANCELLED: "what depends on it is unblocked: it is terminal",
}
_OF_VERDICT = {
    Verdict.NOT_STARTED: "without a claim, wait until the launch timeout, then give the attempt up",
    Verdict.NEVER_RAN: "an attempt that never ran is dispatched again uncharged; three in a row: "
    "failed",
    Verdict.REFUSED: "what the runner refused to start is failed, with its reason",
    Verdict.RUNNING: _BY_STATUS[Status.DISPATCHED],
    Verdict.FINISHED: "the exit code and the signal file decide completed or failed",
    Verdict.DIED: "what a dead attempt left is ended and seen gone before it is dispatched again",
    Verdict.UNKNOWN: "unknown never kills, fails or re-dispatches anything",
}
_OF_SOURCE = {
    Verdict.RUNNING: _STATUS.format(Status.DISPATCHED),
    Verdict.UNKNOWN: "DESIGN.md 2: evidence",
}
RETRIED = Rule("at most one automatic re-dispatch an issue, charged before the launch", _RETRY)
NOT_AGAIN = Rule("no automatic re-dispatch is left: failed, reported, never tried again", _RETRY)
DOUBTED = Rule(
    "many deaths in one look are looked at again before they are believed",
    "DESIGN.md 5: a probe that fails changes nothing",
)
WISHED = Rule(
    "what was asked for while the attempt lived is granted when it has ended",
    "DESIGN.md 4: leaving dispatched",
)
STOPPED = Rule(
    "an interrupted stop --kill is finished by the next start; its issues return to pending, "
    "uncharged",
    "DESIGN.md 4: leaving dispatched",
)
TIMED_OUT = Rule(
    "an attempt may run so long, then it is ended and failed",
    "gangline.toml: [batch] attempt_minutes",
)
SIGNALLED = Rule("the signal file decides", "DESIGN.md 4: reading evidence")
AFTER_FAILURE = Rule(
    "an agent that ends with a failure is dispatched once more",
    "gangline.toml: [retry] on_failure",
)
FOREIGN = Rule(
    "only its pane tells how an attempt stands that Gangline did not start",
    "DESIGN.md 4: foreign attempts",
)
LIMITED = Rule(
    "an attempt that met its service's usage limit is parked until that ends, uncharged",
    "DESIGN.md 2: condition",
)
HELD_BACK = Rule(
    "what shares an account with one that met its usage limit waits for its end as well",
    "DESIGN.md 2: condition",
)
SESSION_LOST = Rule(
    "where the session to go on with is not there any more, it starts afresh, uncharged",
    "ARCHITECTURE.md: sessions",
)
TOLD = Rule(
    "what a person said is the next turn of an agent that has ended, uncharged",
    "DESIGN.md 8: gangline send",
)
OVER_BUDGET = Rule("over its budget an issue is ended and failed", "gangline.toml: [budget]")
BATCH_OVER_BUDGET = Rule(
    "over the batch's budget nothing new is dispatched", "gangline.toml: [budget] batch_…"
)
STALLED = Rule(
    "what has stalled is only reported, unless the settings say more",
    "gangline.toml: [stall] action",
)
HELD = Rule("a held issue is not dispatched", "DESIGN.md 2: held")
PAUSED = Rule("a paused batch dispatches nothing new", "DESIGN.md 8: gangline pause")
PASSED_OVER = Rule(
    "under the skip policy what depends on an issue that did not complete is skipped",
    "gangline.toml: [batch] on_failed_dependency",
)
MISPLACED = Rule(
    "dependents start only after every dependency is terminal", "DESIGN.md 5: promise 3"
)


class Before(NamedTuple):
    """How an issue was recorded when it was looked at; the fold moves on from there."""

    key: str
    status: Status
    attempts: int
    wish: Wish | None
    kill: KillReason | None
    verdict: Verdict | None
    seen: Evidence | None


_OF_KILL = {
    KillReason.TIMEOUT: TIMED_OUT,
    KillReason.LIMIT: LIMITED,
    KillReason.BUDGET: OVER_BUDGET,
    KillReason.STALL: STALLED,
}
_OF_OUTCOME = {Outcome.LIMITED: LIMITED, Outcome.SESSION_LOST: SESSION_LOST}
Step = AnyEvent | Effect
_Kind = TypeVar("_Kind")


def rule_of(before: Before, steps: Sequence[Step], after: Batch, limit: str | None) -> Rule:
    """The rule that decides over the issue; see recovery_words.action_words."""
    if before.verdict is None or before.seen is None:
        return _rule_of_waiting(before, steps, after, limit)
    kills = {step.why for step in steps if isinstance(step, KillOrdered)} | {before.kill}
    decided = first(steps, Ended) or first(steps, Voided)
    if any(isinstance(step, Look) and step.confirm for step in steps):
        return DOUBTED
    if before.wish is not None and (decided or KillReason.WISH in kills):
        return WISHED
    if KillReason.SIGNAL in kills or (
        before.seen.signal in (Signal.OK, Signal.FAILED)
        and before.verdict in (Verdict.DIED, Verdict.FINISHED)
    ):
        return SIGNALLED
    if KillReason.STOP in kills or (after.is_killing and isinstance(decided, Voided)):
        return STOPPED
    for why, rule in _OF_KILL.items():
        if why in kills:
            return rule
    if is_parked(before, after):
        return LIMITED
    if isinstance(decided, Ended) and decided.outcome in _OF_OUTCOME:
        return _OF_OUTCOME[decided.outcome]
    told = isinstance(decided, Ended) and decided.to is Status.PENDING
    if told and any(isinstance(step, Dispatched) and step.messages for step in steps):
        return TOLD
    if isinstance(decided, Ended) and decided.outcome is Outcome.DIED:
        return RETRIED if decided.to is Status.PENDING else NOT_AGAIN
    if isinstance(decided, Ended) and decided.to is Status.PENDING:
        return AFTER_FAILURE
    if before.seen.foreign is not None:
        return FOREIGN
    if after.issues[before.key].attempts[-1].condition is Condition.STALLED:
        return STALLED
    found = before.verdict
    return Rule(_OF_VERDICT[found], _OF_SOURCE.get(found, f"DESIGN.md 4: {found.value}"))


def is_parked(before: Before, after: Batch) -> bool:
    """Whether its open attempt waits for the end of a usage limit; its agent is ended for it."""
    issue = after.issues[before.key]
    is_open = issue.status is Status.DISPATCHED and len(issue.attempts) == before.attempts
    return is_open and issue.attempts[-1].condition is Condition.LIMITED


def _rule_of_waiting(
    before: Before, steps: Sequence[Step], after: Batch, limit: str | None
) -> Rule:
    issue = after.issues[before.key]
    if first(steps, Skipped):
        return PASSED_OVER
    if first(steps, Blocked):
        return MISPLACED
    if issue.held and before.status not in TERMINAL:
        return HELD
    if after.paused and issue.status is Status.PENDING:
        return PAUSED
    if issue.status is Status.PENDING and budget_used_up(after):
        return BATCH_OVER_BUDGET
    if issue.status is Status.PENDING and limit is not None:
        return HELD_BACK
    return Rule(_BY_STATUS[before.status], _STATUS.format(before.status.value))


def first(steps: Sequence[Step], kind: type[_Kind]) -> _Kind | None:
    return next((step for step in steps if isinstance(step, kind)), None)
