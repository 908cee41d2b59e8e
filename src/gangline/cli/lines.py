"""What happened, one plain line an event: for a pipe, a log, and the scroll above the live view."""

import sys
from collections.abc import Sequence

from gangline.core.batch import Batch
from gangline.core.events import (
    AnyEvent,
    Blocked,
    Cancelled,
    Configured,
    Dispatched,
    Draining,
    Ended,
    Held,
    IssueEvents,
    KillOrdered,
    KillReason,
    Launched,
    OrchestratorStarted,
    OrchestratorStopped,
    Outcome,
    Paused,
    Reaping,
    Refused,
    Released,
    Reopened,
    Resumed,
    Retried,
    Skipped,
    StopFinished,
    StopRequested,
    Unblocked,
    Voided,
    Wished,
)
from gangline.core.model import Status
from gangline.core.text import harmless, one_line

_KILLS = {
    KillReason.WISH: "on request",
    KillReason.STOP: "because of stop --kill",
    KillReason.TIMEOUT: "because its time is over ([batch] attempt_minutes)",
    KillReason.SIGNAL: "because its signal file says its work is over",
}
_OUTCOMES = {Outcome.COMPLETED: "completed", Outcome.FAILED: "failed", Outcome.DIED: "died"}


class Lines:
    """An observer that prints."""

    refresh_seconds: float | None = None

    def happened(self, batch: Batch, events: Sequence[AnyEvent], *, away: bool = False) -> None:
        """One line an event; what is only bookkeeping has none."""
        lines = [text for event in events if (text := describe(batch, event))]
        if away and lines:
            self.say("While no orchestrator lived:")
        for text in lines:
            self.say(("  " if away else "") + text)

    def note(self, text: str) -> None:
        """Something a person should know."""
        self.say(f"note: {one_line(text)}")

    def refresh(self, batch: Batch) -> None:
        """Nothing is drawn."""

    def say(self, text: str) -> None:
        """One line, at once."""
        say(text)


def describe(batch: Batch, event: AnyEvent) -> str | None:
    """An event in words; None for bookkeeping."""
    clock = event.at[11:19]
    words = _of_batch(event) or _of_issue(batch, event)
    return f"{clock} {words}" if words else None


def _of_batch(event: AnyEvent) -> str | None:
    match event:
        case OrchestratorStopped() if event.reason != "over":
            return f"the orchestrator stops ({event.reason})"
        case StopRequested():
            return "asked to stop" + (" and to end the agents" if event.kill else "")
        case StopFinished():
            return "every agent has been ended"
        case Paused():
            return "paused: nothing new is dispatched"
        case Resumed():
            return "resumed"
        case Draining():
            return "draining: nothing new is dispatched; the run ends with what is running"
        case Configured():
            return "the settings of the batch have changed"
        case OrchestratorStarted() | OrchestratorStopped() | _:
            return None


def _of_issue(batch: Batch, event: AnyEvent) -> str | None:
    issue = getattr(event, "issue", None)
    if issue is None or isinstance(event, Unblocked | Blocked):
        return None
    name = f"#{issue}"
    match event:
        case Dispatched():
            again = ", again" if event.attempt else ""
            charge = " (its one automatic retry)" if event.retry else ""
            title = one_line(batch.issues[issue].title, 60)
            return f"{name} dispatched{again}{charge}: {title}"
        case Launched():
            return f"{name} runs in pane {event.pane}"
        case Ended():
            return f"{name} {_ended(event)}"
        case Voided():
            return f"{name} did not start: {one_line(event.reason)}" + _next(event.to)
        case Refused():
            return f"{name} failed: {one_line(event.reason)}"
        case Wished():
            return f"{name}: {event.wish.value} asked for; its attempt is ended first"
        case KillOrdered():
            return f"{name} is being ended {_KILLS[event.why]}"
        case Reaping():
            return f"{name} died and left processes; they are ended first"
        case _:
            return _of_person(name, event)  # type: ignore[arg-type] # it has an issue


def _of_person(name: str, event: IssueEvents) -> str | None:
    match event:
        case Skipped():
            because = f": #{event.because} did not complete" if event.because else ""
            return f"{name} skipped{because}"
        case Cancelled():
            return f"{name} cancelled"
        case Held():
            return f"{name} held"
        case Released():
            return f"{name} released"
        case Retried():
            return f"{name} is to be tried again"
        case Reopened():
            return f"{name} waits for #{event.because} again"
        case _:
            return None


def _ended(event: Ended) -> str:
    word = _OUTCOMES.get(event.outcome, "ended")
    reason = f": {one_line(event.reason)}" if event.reason else ""
    return word + reason + (_next(event.to) if word != event.to.value else "")


def _next(to: Status) -> str:
    return "; it is dispatched again" if to is Status.PENDING else f"; now {to.value}"


def say(text: str) -> None:
    """Lines on stdout; whatever is in them, the terminal only shows it."""
    print(harmless(text, keep="\n"), flush=True)


def warn(text: str) -> None:
    """Lines on stderr, as harmless."""
    print(harmless(text, keep="\n"), file=sys.stderr, flush=True)
