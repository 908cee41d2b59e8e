"""What a person can ask of a batch, as events.

Each command is decided on the newest state, under the journal lock, and is recorded at once: with a
living orchestrator it takes effect now, without one at the next start, and it is never lost. What
concerns a living attempt is recorded as a wish and granted when the attempt has ended.
"""

from collections.abc import Callable
from difflib import get_close_matches

from gangline.core.batch import Batch
from gangline.core.events import (
    AnyEvent,
    Cancelled,
    Draining,
    Held,
    Paused,
    Released,
    Reopened,
    Resumed,
    Retried,
    Skipped,
    StopRequested,
    Wish,
    Wished,
)
from gangline.core.issue import IssueState
from gangline.core.model import TERMINAL, Status
from gangline.errors import UsageError


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
