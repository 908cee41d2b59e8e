"""What a person can ask of a batch, as events.

Each command is decided on the newest state, under the journal lock, and is recorded at once: with a
living orchestrator it takes effect now, without one at the next start, and it is never lost. What
concerns a living attempt is recorded as a wish and granted when the attempt has ended.
"""

from collections.abc import Callable
from difflib import get_close_matches

from gangline.core.batch import Batch
from gangline.core.decision import Now
from gangline.core.events import (
    AnyEvent,
    Cancelled,
    Condition,
    ConditionChanged,
    Draining,
    Held,
    Paused,
    Released,
    Reopened,
    Resumed,
    Retried,
    Sent,
    Skipped,
    StopRequested,
    Wish,
    Wished,
)
from gangline.core.issue import IssueState
from gangline.core.model import TERMINAL, Status
from gangline.errors import UsageError

TEXT_BYTES_MAX = 64 * 1024  # of a message, a question, a reason: it goes into the journal
MESSAGES_MAX = 20  # that wait for one next turn


def find_issue(batch: Batch, text: str) -> IssueState:
    """The issue a person names, with or without '#'.

    Raises:
        UsageError: there is none; with did-you-mean.
    """
    key = text.removeprefix("#")
    if key in batch.issues:
        return batch.issues[key]
    near = get_close_matches(key[:100], batch.issues, n=1)
    raise UsageError(
        f"there is no issue {key[:100]!r} in area {batch.area}",
        hint=f"did you mean {near[0]!r}?" if near else f"gangline status {batch.area} lists them",
    )


def cancel(batch: Batch, key: str) -> list[AnyEvent]:
    """Never to be done; a living attempt is ended first."""
    issue = find_issue(batch, key)
    _refuse_terminal(issue, "be cancelled")
    if issue.status is Status.DISPATCHED:
        return [Wished(issue=issue.key, wish=Wish.CANCEL)]
    return [Cancelled(issue=issue.key)]


def skip(batch: Batch, key: str) -> list[AnyEvent]:
    """Passed over, as if its dependents did not need it."""
    issue = find_issue(batch, key)
    _refuse_terminal(issue, "be skipped")
    if issue.status is Status.DISPATCHED:
        return [Wished(issue=issue.key, wish=Wish.SKIP)]
    return [Skipped(issue=issue.key)]


def retry(batch: Batch, key: str) -> list[AnyEvent]:
    """A new budget of attempts; what was skipped because of it waits for it again."""
    issue = find_issue(batch, key)
    if issue.status is Status.DISPATCHED:
        return [Wished(issue=issue.key, wish=Wish.RETRY)]
    if issue.status not in TERMINAL:
        raise UsageError(
            f"#{issue.key} is {issue.status.value}: it is going to run anyway",
            hint=f"gangline status {batch.area}",
        )
    if issue.status is Status.COMPLETED:
        raise UsageError(
            f"#{issue.key} is completed; completed work is not done again",
            hint="to do it again, put it into a new batch: gangline run AREA --only "
            f"{issue.key} --new",
        )
    return [Retried(issue=issue.key), *_reopened(batch, issue.key)]


def _reopened(batch: Batch, key: str) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    todo = [key]
    seen = {key}
    while todo:
        cause = todo.pop(0)
        for other in batch.dependents[cause]:
            issue = batch.issues[other]
            if other not in seen and issue.status is Status.SKIPPED and issue.because == cause:
                seen.add(other)
                events.append(Reopened(issue=other, because=cause))
                todo.append(other)
    return events


def hold(batch: Batch, key: str) -> list[AnyEvent]:
    """Not to be dispatched until released; a living attempt goes on."""
    issue = find_issue(batch, key)
    _refuse_terminal(issue, "be held")
    return [] if issue.held else [Held(issue=issue.key)]


def release(batch: Batch, key: str) -> list[AnyEvent]:
    """May be dispatched again."""
    issue = find_issue(batch, key)
    if not issue.held:
        return []
    _refuse_terminal(issue, "be released")
    return [Released(issue=issue.key)]


def pause(batch: Batch) -> list[AnyEvent]:
    """No new dispatch; what runs goes on."""
    return [] if batch.paused else [Paused()]


def resume(batch: Batch) -> list[AnyEvent]:
    """Dispatch again."""
    return [Resumed()] if batch.paused or batch.draining else []


def drain(batch: Batch) -> list[AnyEvent]:
    """No new dispatch; the orchestrator ends when what runs has ended."""
    return [] if batch.draining else [Draining()]


def stop(batch: Batch, *, kill: bool) -> list[AnyEvent]:
    """The orchestrator ends; with `kill` the agents are ended first."""
    return [] if batch.stop == "kill" else [StopRequested(kill=kill)]


def send(batch: Batch, key: str, text: str, *, typed: bool = False) -> list[AnyEvent]:
    """What a person says to an issue's agent: given with its next prompt, unless it was typed."""
    issue = find_issue(batch, key)
    area, key = batch.area, issue.key
    _check_text(text, "the message")
    again = f'gangline retry {area} {key} && gangline send {area} {key} "…"'
    if issue.status is Status.COMPLETED:
        raise UsageError(
            f"#{key} is completed; nobody is left to be told",
            hint=f"what is still to be done is a new issue: gangline add {area} --from SRC",
        )
    if issue.status in TERMINAL:
        raise UsageError(f"#{key} is {issue.status.value}; nobody is left to be told", hint=again)
    attempt = issue.attempt if issue.status is Status.DISPATCHED else None
    if attempt is not None and attempt.foreign:
        raise UsageError(
            f"the agent of #{key} was not started by Gangline: it runs in a pane of your own",
            hint=f"type it there: gangline attach {area} {key}",
        )
    if issue.wish is not None and issue.wish is not Wish.RETRY:
        raise UsageError(
            f"#{key} is about to end: {issue.wish.value} was asked for, so no turn comes after this"
            " one",
            hint=again,
        )
    if not typed and len(issue.messages) >= MESSAGES_MAX:
        raise UsageError(
            f"{MESSAGES_MAX} messages wait for the next turn of #{key} already",
            hint=f"gangline status {area}",
        )
    return [Sent(issue=key, text=text, typed=typed)]


def _check_text(text: str, what: str) -> None:
    """Refuse what could not be recorded or given on.

    Raises:
        UsageError: names what is wrong with it.
    """
    if not text.strip():
        raise UsageError(f"{what} is empty")
    if "\0" in text:
        raise UsageError(f"{what} holds a NUL character, which no prompt can")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise UsageError(f"{what} is not UTF-8 text") from error
    if size > TEXT_BYTES_MAX:
        raise UsageError(
            f"{what} has {size:,} bytes; the limit is {TEXT_BYTES_MAX:,}",
            hint="put it into a file of the worktree, and name that",
        )


# -- what an agent says of itself --------------------------------------------------------------


def agent_done(batch: Batch, key: str, attempt_id: str, now: Now) -> list[AnyEvent]:
    """The agent says that its work is over; it has some time to end by itself."""
    issue = _own_issue(batch, key, attempt_id)
    if issue.messages:
        raise UsageError(
            f"a person has said something about #{issue.key} that you have not been told yet",
            hint="end this turn without `gangline done`: it comes with your next one",
        )
    return _own_wish(issue, Wish.COMPLETE, None, now)


def agent_failed(batch: Batch, key: str, attempt_id: str, reason: str, now: Now) -> list[AnyEvent]:
    """The agent says that it cannot do its work, and why."""
    _check_text(reason, "the reason")
    return _own_wish(_own_issue(batch, key, attempt_id), Wish.FAIL, reason.strip(), now)


def agent_asks(batch: Batch, key: str, attempt_id: str, question: str) -> list[AnyEvent]:
    """The agent asks a person; nothing is stopped by it."""
    issue = _own_issue(batch, key, attempt_id)
    _check_text(question, "the question")
    attempt = issue.attempts[-1]
    if attempt.asked and attempt.question == question.strip():
        return []
    return [
        ConditionChanged(
            issue=issue.key,
            attempt=attempt.number,
            condition=Condition.NEEDS_INPUT,
            text=question.strip(),
            asked=True,
        )
    ]


def _own_issue(batch: Batch, key: str, attempt_id: str) -> IssueState:
    """The issue whose open attempt says this.

    Raises:
        UsageError: the attempt is over, or of another batch.
    """
    issue = batch.issues.get(key)
    attempt = issue.attempt if issue else None
    if issue is None or attempt is None or batch.attempt_id(key, attempt.number) != attempt_id:
        raise UsageError(
            f"attempt {attempt_id[:200]} is not the one that #{key[:100]} is at now",
            hint="another attempt does this work; end without changing anything more",
        )
    if issue.status is not Status.DISPATCHED:
        raise UsageError(
            f"attempt {attempt_id} is over: #{key} is {issue.status.value}",
            hint="end without changing anything more",
        )
    return issue


def _own_wish(issue: IssueState, wish: Wish, reason: str | None, now: Now) -> list[AnyEvent]:
    """What the agent says last counts; it is waited for from the moment of its first word.

    Raises:
        UsageError: a person has decided already.
    """
    said_before = bool(issue.wish_boot_id)
    if issue.wish is not None and not said_before:
        raise UsageError(
            f"a person has asked for this already: {issue.wish.value} #{issue.key}",
            hint="end now",
        )
    if said_before and (issue.wish, issue.wish_reason) == (wish, reason):
        return []
    return [
        Wished(
            issue=issue.key,
            wish=wish,
            reason=reason,
            boot_id=issue.wish_boot_id or now.boot_id,
            boot_seconds=issue.wish_boot_seconds if said_before else now.boot_seconds,
        )
    ]


ISSUE_COMMANDS: dict[str, Callable[[Batch, str], list[AnyEvent]]] = {
    "cancel": cancel,
    "skip": skip,
    "retry": retry,
    "hold": hold,
    "release": release,
}
BATCH_COMMANDS: dict[str, Callable[[Batch], list[AnyEvent]]] = {
    "pause": pause,
    "resume": resume,
    "drain": drain,
}


def _refuse_terminal(issue: IssueState, what: str) -> None:
    if issue.status in TERMINAL:
        raise UsageError(f"#{issue.key} is {issue.status.value} and cannot {what}")
