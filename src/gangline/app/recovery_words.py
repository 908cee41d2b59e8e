"""What was seen and what is going to be done, as sentences.

Words only: core.reconcile has decided, on a fold that is thrown away, before anything here is
asked.
"""

from collections.abc import Sequence

from gangline.app.recovery_rules import Before, Step, is_parked
from gangline.app.views import until_words
from gangline.core.batch import Batch
from gangline.core.dispatching import budget_used_up
from gangline.core.events import (
    Blocked,
    Condition,
    ConditionChanged,
    Dispatched,
    Ended,
    KillOrdered,
    KillReason,
    Skipped,
    Unblocked,
    Voided,
)
from gangline.core.evidence import (
    Answer,
    Claim,
    Evidence,
    ExitRecord,
    Foreign,
    Progress,
    Signal,
    Verdict,
    unreadable,
)
from gangline.core.issue import IssueState
from gangline.core.model import TERMINAL, Status
from gangline.core.policy import launch_timeout_seconds
from gangline.core.reconcile import Look, Now, Reap, Terminate, Void, retry_charge

_KILLS = {
    KillReason.WISH: "on request",
    KillReason.STOP: "by the stop --kill that was interrupted",
    KillReason.TIMEOUT: "because its time is over",
    KillReason.SIGNAL: "because its signal file says its work is over",
    KillReason.LIMIT: "because it waits for the end of a usage limit in vain",
    KillReason.BUDGET: "because its budget is used up",
    KillReason.STALL: "because it stalled",
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


def notes_of(batch: Batch, *, takes_idle_panes: bool) -> list[str]:
    """What holds for the whole batch and bears on the next run."""
    notes = []
    if batch.is_killing:
        notes.append("a stop --kill was interrupted: the next run ends the agents first")
    if batch.paused:
        notes.append(f"the batch is paused; dispatch again: gangline resume {batch.area}")
    used_up = budget_used_up(batch)
    if used_up and not batch.is_over:
        note = f"the budget of the batch is used up ({used_up}), so nothing new is dispatched; "
        notes.append(note + "raise [budget] batch_… in gangline.toml")
    if takes_idle_panes and not batch.is_over:
        notes.append("issues are dispatched into idle panes: no more at once than there are then")
    return notes


def evidence_words(issue: IssueState, seen: Evidence, now: Now) -> list[str]:
    """The evidence of an open attempt, a sentence each, in the order in which it is read."""
    attempt = issue.attempts[-1]
    signal = "cannot be read" if seen.signal is Signal.UNKNOWN else seen.signal.value
    words = [f"signal file issue-{issue.key}.exit: {signal}"]
    if seen.foreign is not None:
        words.insert(0, f"pane {attempt.pane}: {_PANES[seen.foreign]}")
        return [*words, *_asked_for(issue, now)]
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
    return [*words, *_told(seen.progress or Progress(), now), *_asked_for(issue, now)]


def _told(told: Progress, now: Now) -> list[str]:
    """What its output tells, as far as it decides anything."""
    words = [f"its session: {told.session}"] if told.session else []
    if told.limited:
        when = until_words(told.limited_until, now.epoch_seconds)
        words.append(f"it met a usage limit {when}".rstrip())
    for what, text in (
        ("its tool in flight", told.tool),
        ("it tries again", told.retrying),
        ("it waits for a person", told.needs),
        ("it says that it failed", told.failure),
    ):
        words += [f"{what}: {text}"] if text else []
    return words


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


def _asked_for(issue: IssueState, now: Now) -> list[str]:
    attempt = issue.attempts[-1]
    words = []
    if attempt.condition is not None:
        when = until_words(attempt.until, now.epoch_seconds)
        why = f": {attempt.question}" if attempt.question else ""
        words.append(f"recorded as {attempt.condition.value} {when}".rstrip() + why)
    words += [f"a kill of it is recorded, {_KILLS[attempt.kill]}"] if attempt.kill else []
    count = len(issue.messages)
    words += [f"{count} message{'s' * (count > 1)} to it not delivered"] if count else []
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


def action_words(
    before: Before,
    steps: Sequence[Step],
    after: Batch,
    rank: int | None,
    freed: Sequence[str],
    limit: str | None,
) -> str:
    """What the next run does with the issue.

    Args:
        before: How it was recorded.
        steps: What is decided over it, in order.
        after: The fold after all that is decided.
        rank: Its place (from 1) among those that wait for a free one; None if it does not.
        freed: The issues that are unblocked because of it.
        limit: "until …" of the usage limit for whose end it waits; None if it waits for none.
    """
    parts = [words for step in steps if (words := _step(before, step))]
    parts += _rest(before, parts, after, rank, limit)
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
            return f"re-dispatched, {charge_words(step.retry)}{_session(step)}"
        case ConditionChanged() if step.condition is Condition.NEEDS_INPUT:
            return f"a person is asked: {step.text}"
        case ConditionChanged() if step.condition is Condition.STALLED:
            return f"found stalled: {step.text}"
        case Unblocked():
            return "unblocked"
        case Blocked():
            return "blocked again"
        case Skipped():
            return f"skipped: #{step.because} did not complete"
    return ""


def limits_of(batch: Batch, now: Now) -> dict[str | None, str]:
    """The accounts that are held back by a usage limit, and until when, in words."""
    ends: dict[str | None, float] = {}
    for key in batch.dispatched:
        attempt = batch.issues[key].attempts[-1]
        until = attempt.until or 0.0
        if attempt.condition is Condition.LIMITED and until > now.epoch_seconds:
            ends[attempt.account] = max(until, ends.get(attempt.account, 0.0))
    return {account: until_words(until, now.epoch_seconds) for account, until in ends.items()}


def charge_words(retry: int) -> str:
    """Whether a dispatch is charged."""
    return "charged as its one retry" if retry else "not charged"


def _session(step: Dispatched) -> str:
    words = (
        ", with its session" if step.resumed else f", afresh: {step.afresh}" if step.afresh else ""
    )
    told = f", with {step.messages} message{'s' * (step.messages > 1)}" if step.messages else ""
    return words + told


def _look(before: Before, step: Look) -> str:
    if step.confirm:
        return f"looked at again in {step.seconds:.0f} s and, if it is still dead"
    match before.verdict:
        case Verdict.NOT_STARTED:
            return (
                f"waited for, {step.seconds:.0f} s at most: it runs, or is given up and dispatched "
                "again, not charged"
            )
        case Verdict.DIED if not (before.seen and before.seen.has_exit is Answer.YES):
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


def _rest(
    before: Before, parts: Sequence[str], after: Batch, rank: int | None, limit: str | None
) -> list[str]:
    """How the issue stands when everything is decided that can be now."""
    issue = after.issues[before.key]
    if issue.status is Status.BLOCKED:
        needs = [f"#{k}" for k in issue.depends_on if after.issues[k].status not in TERMINAL]
        held = [f"held until gangline release {after.area} {issue.key}"] if issue.held else []
        return [f"waits for {', '.join(needs)}", *held]
    if limit is not None and is_parked(before, after):
        return [f"parked {limit}".rstrip() + ": uncharged, it goes on after that"]
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
    if budget_used_up(after):
        return ["not dispatched: the budget of the batch is used up"]
    if limit is not None:
        return [f"not dispatched {limit}".rstrip() + ": its account has met its usage limit"]
    again = f"dispatched again, {charge_words(retry_charge(issue))}," if issue.attempts else ""
    return [f"{again or 'dispatched'} when a place is free (rank {rank})"]
