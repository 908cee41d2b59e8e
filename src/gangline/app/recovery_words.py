"""What was seen, what decides and what is going to be done, as sentences.

Words only: core.reconcile has decided, on a fold that is thrown away, before anything here is
asked. Each rule is named with the place of the specification or of the design that states it.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec

from gangline.core.batch import Batch
from gangline.core.events import (
    AnyEvent,
    Blocked,
    ConditionChanged,
    Dispatched,
    Ended,
    KillOrdered,
    KillReason,
    Outcome,
    Skipped,
    Unblocked,
    Voided,
    Wish,
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
)
from gangline.core.issue import IssueState
from gangline.core.model import TERMINAL, Status
from gangline.core.policy import launch_timeout_seconds
from gangline.core.reconcile import Effect, Look, Now, Reap, Terminate, Void, retry_charge


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
HELD = Rule("a held issue is not dispatched", "DESIGN.md 2: held")
PAUSED = Rule("a paused batch dispatches nothing new", "DESIGN.md 8: gangline pause")
PASSED_OVER = Rule(
    "under the skip policy what depends on an issue that did not complete is skipped",
    "gangline.toml: [batch] on_failed_dependency",
)
MISPLACED = Rule(
    "dependents start only after every dependency is terminal", "DESIGN.md 5: promise 3"
)

_KILLS = {
    KillReason.WISH: "on request",
    KillReason.STOP: "by the stop --kill that was interrupted",
    KillReason.TIMEOUT: "because its time is over",
    KillReason.SIGNAL: "because its signal file says its work is over",
}
_ANSWERS = {Answer.YES: "yes", Answer.NO: "none", Answer.UNKNOWN: "cannot be read"}
_LOCKS = {
    Answer.YES: "held: its runner lives",
    Answer.NO: "free: its runner does not live",
    Answer.UNKNOWN: "not there, or cannot be probed",
}
_SERVERS = {
    Answer.YES: "gone",
    Answer.NO: "lives",
    Answer.UNKNOWN: "not known: a process has its number, and may be another",
}
_SURVIVORS = {
    Answer.YES: "some live",
    Answer.NO: "none live",
    Answer.UNKNOWN: "not known",
}
_PANES = {
    Foreign.ABSENT: "gone",
    Foreign.IDLE: "back at its shell",
    Foreign.BUSY: "runs something",
    Foreign.DOUBTFUL: "there, but nobody can tell whether it is still this attempt's",
    Foreign.UNKNOWN: "cannot be looked at",
}


class Before(NamedTuple):
    """How an issue was recorded when it was looked at; the fold moves on from there."""

    key: str
    status: Status
    attempts: int
    wish: Wish | None
    kill: KillReason | None
    verdict: Verdict | None
    seen: Evidence | None


Step = AnyEvent | Effect
_Kind = TypeVar("_Kind")


def evidence_words(issue: IssueState, seen: Evidence, now: Now) -> list[str]:
    """The evidence of an open attempt, a sentence each, in the order in which it is read."""
    attempt = issue.attempts[-1]
    signal = "cannot be read" if seen.signal is Signal.UNKNOWN else seen.signal.value
    words = [f"signal file issue-{issue.key}.exit: {signal}"]
    if seen.foreign is not None:
        words.insert(0, f"pane {attempt.pane}: {_PANES[seen.foreign]}")
        return [*words, *_asked_for(issue)]
    words.insert(0, f"claim: {_claim(seen)}")
    if seen.claim is not Claim.VOID:
        words.insert(1, f"lock: {_LOCKS[seen.lock]}")
    if seen.lock is not Answer.YES:
        words.insert(-1, f"starting: {_ANSWERS[seen.starting]}")
        words.append(f"exit.json: {_exit(seen)}")
    same = attempt.boot_id == now.boot_id
    if seen.claim is Claim.NONE and same:
        waited = max(0.0, now.boot_seconds - attempt.boot_seconds)
        timeout = launch_timeout_seconds(issue)
        words.append(f"intent: {waited:.0f} s ago; a launch may take {timeout:.0f} s")
    by_exit = seen.exit is not None and seen.exit.runner_signal is None
    if attempt.server and seen.lock is not Answer.YES and not by_exit:
        words.append(f"tmux server {attempt.server}: {_SERVERS[seen.server_gone]}")
    if seen.lock is not Answer.YES and seen.starting is Answer.YES and seen.exit is None and same:
        words.append(f"processes of the attempt: {_SURVIVORS[seen.survivors]}")
    words.append("machine: same boot" if same else "machine: restarted since")
    return [*words, *_asked_for(issue)]


def _claim(seen: Evidence) -> str:
    match seen.claim:
        case Claim.RUNNER:
            return "its runner" + (f", process {seen.runner.pid}" if seen.runner else "")
        case Claim.VOID:
            return "void: it was given up before it ran"
        case Claim.NONE:
            return "none"
    return "cannot be read"


def _exit(seen: Evidence) -> str:
    if seen.exit is None:
        return "none" if seen.has_exit is Answer.NO else "cannot be read"
    return exit_words(seen.exit)


def exit_words(record: ExitRecord) -> str:
    """How an agent ended, as its runner wrote it down."""
    if record.refused is not None:
        return f"not started: {record.refused}"
    ended = f"signal {record.signal}" if record.signal is not None else f"exit code {record.code}"
    told = record.runner_signal
    return ended + (f", its runner was told to end (signal {told})" if told is not None else "")


def _asked_for(issue: IssueState) -> list[str]:
    attempt = issue.attempts[-1]
    words = [f"a kill of it is recorded, {_KILLS[attempt.kill]}"] if attempt.kill else []
    return words + ([f"{issue.wish.value} was asked for"] if issue.wish else [])


def waiting_words(batch: Batch, issue: IssueState) -> list[str]:
    """What is recorded of an issue that has no open attempt."""
    words = [f"#{key}: {batch.issues[key].status.value}" for key in issue.depends_on]
    last = issue.attempt
    if last is not None and last.outcome is not None:
        why = f": {last.reason}" if last.reason else ""
        words.append(f"last attempt: {last.outcome.value}{why}")
    elif issue.status in TERMINAL and issue.reason:
        words.append(issue.reason)
    return [*words, *(["held by a person"] if issue.held else [])]


def rule_of(before: Before, steps: Sequence[Step], after: Batch) -> Rule:
    """The rule that decides over the issue."""
    if before.verdict is None or before.seen is None:
        return _rule_of_waiting(before, steps, after)
    kills = {step.why for step in steps if isinstance(step, KillOrdered)} | {before.kill}
    decided = _first(steps, Ended) or _first(steps, Voided)
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
    if KillReason.TIMEOUT in kills:
        return TIMED_OUT
    if isinstance(decided, Ended) and decided.outcome is Outcome.DIED:
        return RETRIED if decided.to is Status.PENDING else NOT_AGAIN
    if isinstance(decided, Ended) and decided.to is Status.PENDING:
        return AFTER_FAILURE
    if before.seen.foreign is not None:
        return FOREIGN
    found = before.verdict
    return Rule(_OF_VERDICT[found], _OF_SOURCE.get(found, f"DESIGN.md 4: {found.value}"))


def _rule_of_waiting(before: Before, steps: Sequence[Step], after: Batch) -> Rule:
    issue = after.issues[before.key]
    if _first(steps, Skipped):
        return PASSED_OVER
    if _first(steps, Blocked):
        return MISPLACED
    if issue.held and before.status not in TERMINAL:
        return HELD
    if after.paused and issue.status is Status.PENDING:
        return PAUSED
    return Rule(_BY_STATUS[before.status], _STATUS.format(before.status.value))


def _first(steps: Sequence[Step], kind: type[_Kind]) -> _Kind | None:
    return next((step for step in steps if isinstance(step, kind)), None)


def action_words(
    before: Before, steps: Sequence[Step], after: Batch, rank: int | None, freed: Sequence[str]
) -> str:
    """What the next run does with the issue.

    Args:
        before: How it was recorded.
        steps: What is decided over it, in order.
        after: The fold after all that is decided.
        rank: Its place (from 1) among those that wait for a free one; None if it does not.
        freed: The issues that are unblocked because of it.
    """
    parts = [words for step in steps if (words := _step(before, step))]
    parts += _rest(before, parts, after, rank)
    if freed:
        names = ", ".join(f"#{key}" for key in freed)
        parts.append(f"{names} {'is' if len(freed) == 1 else 'are'} unblocked")
    return ", then ".join(parts)


def _step(before: Before, step: Step) -> str:
    match step:
        case KillOrdered():
            return f"its agent is ended {_KILLS[step.why]}"
        case Terminate() if before.kill is not None:
            return f"its agent is ended {_KILLS[before.kill]}"
        case Reap():
            return "what it left running is ended and seen gone"
        case Void():
            return "it is given up, unless its runner comes to its claim before"
        case Look():
            return _look(before, step)
        case Ended() | Voided():
            return _over(step)
        case Dispatched():
            if not before.attempts:
                return "dispatched"
            return f"re-dispatched, {charge_words(step.retry)}"
        case ConditionChanged() if step.text:
            return f"a person is asked: {step.text}"
        case Unblocked():
            return "unblocked"
        case Blocked():
            return "blocked again"
        case Skipped():
            return f"skipped: #{step.because} did not complete"
    return ""


def charge_words(retry: int) -> str:
    """Whether a dispatch is charged."""
    return "charged as its one retry" if retry else "not charged"


def _look(before: Before, step: Look) -> str:
    if step.confirm:
        return f"looked at again in {step.seconds:.0f} s and, if it is still dead"
    match before.verdict:
        case Verdict.NOT_STARTED:
            return (
                f"waited for, {step.seconds:.0f} s at most: it runs, or is given up and dispatched "
                "again, not charged"
            )
        case Verdict.DIED:
            return "nothing is decided until it is known whether processes of it live"
        case Verdict.UNKNOWN:
            what = (before.seen and unreadable(before.seen)) or "whether it lives"
            return f"nothing is decided over it until this can be seen: {what}"
    return ""


def _over(event: Ended | Voided) -> str:
    why = f": {event.reason}" if event.reason else ""
    if event.to is Status.FAILED:
        return f"marked failed{why}"
    if event.to is not Status.PENDING:
        return f"{event.to.value} is recorded{why}"
    outcome = event.outcome.value if isinstance(event, Ended) else "never ran"
    return f"{outcome} is recorded{why}"


def _rest(before: Before, parts: Sequence[str], after: Batch, rank: int | None) -> list[str]:
    """How the issue stands when everything is decided that can be now."""
    issue = after.issues[before.key]
    if issue.status is Status.BLOCKED:
        needs = [f"#{k}" for k in issue.depends_on if after.issues[k].status not in TERMINAL]
        held = [f"held until gangline release {after.area} {issue.key}"] if issue.held else []
        return [f"waits for {', '.join(needs)}", *held]
    if issue.status is Status.DISPATCHED and not parts:
        return ["nothing: it runs"]
    if issue.status is not Status.PENDING:
        return []
    if issue.held:
        return [f"not dispatched: it is held until gangline release {after.area} {issue.key}"]
    if after.paused:
        return [f"not dispatched while the batch is paused: gangline resume {after.area}"]
    if after.stop is not None:
        return ["dispatched when the stop --kill is finished"]
    again = f"dispatched again, {charge_words(retry_charge(issue))}," if issue.attempts else ""
    return [f"{again or 'dispatched'} when a place is free (rank {rank})"]
