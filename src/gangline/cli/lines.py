"""What happened, one plain line an event: for a pipe, a log, and the scroll above the live view."""

import errno
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from gangline.app.views import stop_words
from gangline.cli.standing import answer_command, budget_words, condition_words, stall_commands
from gangline.cli.table import clock, cut
from gangline.core.batch import Batch
from gangline.core.dispatching import budget_used_up
from gangline.core.events import (
    AnyEvent,
    BatchRestored,
    Blocked,
    Cancelled,
    Condition,
    ConditionChanged,
    Configured,
    Dispatched,
    Draining,
    Edited,
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
    Sent,
    Skipped,
    StopFinished,
    StopRequested,
    Unblocked,
    Voided,
    Wish,
    Wished,
)
from gangline.core.model import Status
from gangline.core.text import harmless, harmless_json, one_line
from gangline.hosts.processes import epoch_seconds

_KILLS = {
    KillReason.WISH: "on request",
    KillReason.STOP: "because of stop --kill",
    KillReason.TIMEOUT: "because its time is over ([batch] attempt_minutes)",
    KillReason.SIGNAL: "because its signal file says its work is over",
    KillReason.LIMIT: "because it would wait in vain; it goes on when the limit has ended",
    KillReason.BUDGET: "because its budget is used up ([budget])",
    KillReason.STALL: "because it stalled ([stall] action)",
}
_BY = {
    "file": "the state file was changed by hand",
    "filter": "the state was changed",
    "add": "issues were added",
    "source": "read from the source",
    "command": "set by a script",
}
_EDIT_CELLS = 200
_TITLE_CELLS = 50  # the whole line fits into 80
_MESSAGE_CELLS = 80
_OUTCOMES = {
    Outcome.COMPLETED: "completed",
    Outcome.FAILED: "failed",
    Outcome.DIED: "died",
    Outcome.LIMITED: "was parked",
}


class Lines:
    """An observer that prints."""

    refresh_seconds: float | None = None

    def __init__(self) -> None:
        self._needed: str | None = None

    def happened(self, batch: Batch, events: Sequence[AnyEvent], *, away: bool = False) -> None:
        """One line an event; what is only bookkeeping has none. And once, what it waits for."""
        lines = [text for event in events if (text := describe(batch, event))]
        if away and lines:
            self.say("While no orchestrator lived:")
        for text in lines:
            self.say(("  " if away else "") + text)
        needed, self._needed = self._needed, needs(batch)
        if self._needed and self._needed != needed:
            self.note(self._needed)

    def note(self, text: str) -> None:
        """Something a person should know."""
        self.say(f"note: {one_line(text)}")

    def refresh(self, batch: Batch) -> None:
        """Nothing is drawn."""

    def say(self, text: str) -> None:
        """One line, at once."""
        say(text)


def needs(batch: Batch) -> str | None:
    """What a person has to do before anything runs again; None while it goes on by itself."""
    waits = batch.by_status[Status.PENDING]
    ended = batch.orchestrator_pid is None
    if ended or batch.dispatched or batch.unblockable or batch.stop or not waits:
        return None
    if batch.paused:
        return f"nothing runs while the batch is paused: gangline resume {batch.area}"
    if batch.draining:
        return None
    if budget_used_up(batch):
        return _budget(batch)
    if batch.ready(1):
        return None
    held = [f"#{key}" for key in waits if batch.issues[key].held]
    if not held:
        return None
    names = ", ".join(held[:3]) + (f" and {len(held) - 3} more" if len(held) > 3 else "")
    word = "is" if len(held) == 1 else "are"
    return f"nothing runs while {names} {word} held: gangline release {batch.area} {held[0][1:]}"


def _budget(batch: Batch) -> str | None:
    used, limits = batch.usage, batch.policy.batch_budget
    names = {
        "inputTokens": used.input_tokens,
        "outputTokens": used.output_tokens,
        "costUsd": used.cost_usd,
        "seconds": used.seconds,
    }
    budget = {"costUsd": limits.cost_usd, "tokens": limits.tokens, "minutes": limits.minutes}
    return budget_words([names], budget)


def beginning(batch: Batch, *, new: bool) -> str:
    """What a run says first: which batch, and how it stands."""
    counts = ", ".join(f"{n} {status}" for status, n in batch.counts().items() if n)
    if new:
        return f"Beginning batch {batch.batch_id} of {batch.area}: {counts}"
    if batch.orchestrator_pid is not None:
        ended = f"its orchestrator (process {batch.orchestrator_pid}) died"
    elif batch.stopped_reason is not None:
        ended = f"its orchestrator stopped ({stop_words(batch.stopped_reason)})"
    else:  # it is of the shell, or the first run died before it was recorded
        ended = "no run of Gangline has led it yet"
    last = f"last recorded {batch.updated_at}"
    text = f"Resuming batch {batch.batch_id} of {batch.area}: {ended}, {last}; {counts}"
    if batch.paused:  # a drained batch is dispatched again by this very run
        text += f"\nThe batch is paused; dispatch again: gangline resume {batch.area}"
    return text


def come_back(area: str, alive: int) -> str:
    """After a run that ended before its batch: what runs on, and how to go on."""
    words = {0: "No agent is running.", 1: "1 agent runs on."}.get(alive, f"{alive} agents run on.")
    return f"{words} Come back with: gangline run {area}"


def describe(batch: Batch, event: AnyEvent) -> str | None:
    """An event in words; None for bookkeeping."""
    words = _of_batch(batch, event) or _of_issue(batch, event)
    return f"{clock(event.at)} {words}" if words else None


def _of_batch(batch: Batch, event: AnyEvent) -> str | None:
    match event:
        case OrchestratorStopped() if event.reason != "over":
            return f"the orchestrator stops ({stop_words(event.reason)})"
        case StopRequested():
            return "asked to stop" + (" and to end the agents" if event.kill else "")
        case StopFinished():
            left = (
                f" but {_named(batch.dispatched)}, in panes of your own" if batch.dispatched else ""
            )
            return f"every agent has been ended{left}"
        case Paused():
            return "paused: nothing new is dispatched"
        case Resumed():
            return "resumed"
        case Draining():
            return "draining: nothing new is dispatched; the run ends with what is running"
        case Edited():
            return f"{_BY[event.by]}: {edit_words(event)}"
        case BatchRestored() if event.adopted:
            return "the batch of the specification's shell goes on here"
        case Configured():
            return "the settings of the batch have changed"
        case OrchestratorStarted() | OrchestratorStopped() | _:
            return None


def edit_words(event: Edited) -> str:
    """What an edit changes, in one line; harmless."""
    parts = [f"#{issue.id} joins" for issue in event.issues]
    parts += [f"#{key} {status.value}" for key, status in event.statuses.items()]
    parts += [f"#{key}: {wish.value} asked for" for key, wish in event.wishes.items()]
    parts += [f"#{k} waits for {_named(edges)}" for k, edges in event.depends_on.items()]
    parts += [f"#{key} retryCount {count}" for key, count in event.retries.items()]
    parts += [f"#{key} in pane {pane}" for key, pane in event.panes.items()]
    parts += [f"#{key} {', '.join(entry)}" for key, entry in event.entries.items()]
    parts += [f"#{key} {', '.join(detail)}" for key, detail in event.details.items()]
    parts += [f"{key} {value}" for key, value in event.batch.items()]
    parts += [*event.extra, *(f"without {key}" for key in event.dropped)]
    return one_line("; ".join(parts), _EDIT_CELLS)


def _named(keys: Iterable[str]) -> str:
    return ", ".join(f"#{key}" for key in keys) or "nothing"


def _of_issue(batch: Batch, event: AnyEvent) -> str | None:
    issue = getattr(event, "issue", None)
    if issue is None or isinstance(event, Unblocked | Blocked):
        return None
    name = f"#{issue}"
    match event:
        case Dispatched():
            title = cut(one_line(batch.issues[issue].title, _TITLE_CELLS), _TITLE_CELLS)
            return f"{name} dispatched{_how(event)}" + (f": {title}" if title else "")
        case Launched():
            return f"{name} runs in pane {event.pane}"
        case Ended():
            return f"{name} {_ended(event)}"
        case Voided():
            return f"{name} did not start: {one_line(event.reason)}" + _next(event.to)
        case Refused():
            return f"{name} failed: {one_line(event.reason)}"
        case ConditionChanged():
            return f"{name} {_stands(batch, event)}"
        case Sent():
            way = "typed into its pane" if event.typed else "goes with its next prompt"
            return f"{name} is told ({way}): {one_line(event.text, _MESSAGE_CELLS)}"
        case Wished():
            return f"{name}{_wished(batch, event)}"
        case KillOrdered():
            return f"{name} is being ended {_KILLS[event.why]}"
        case Reaping():
            return f"{name} died and left processes; they are ended first"
        case _:
            return _of_person(name, event)  # type: ignore[arg-type] # it has an issue


def _how(event: Dispatched) -> str:
    """What a dispatch is: a first one or not, charged, in which session, with what to say."""
    notes = ["its one automatic retry"] if event.retry else []
    if event.resumed:
        notes.append("goes on with its session")
    elif event.afresh:
        notes.append(f"starts afresh: {one_line(event.afresh)}")
    if event.messages:
        notes.append(f"with {event.messages} message{'s' * (event.messages > 1)} of yours")
    again = ", again" if event.attempt else ""
    return again + (f" ({'; '.join(notes)})" if notes else "")


def _stands(batch: Batch, event: ConditionChanged) -> str:
    """A new condition, and what a person can do about it."""
    words = condition_words(
        event.condition.value, event.text, event.until, epoch_seconds(event.at), asked=event.asked
    )
    if event.asked:
        answer = answer_command(batch.area, event.issue)
        if event.waits:
            return f"has ended its turn, and waits for an answer: {answer}"
        return f"{words} (answer: {answer})"
    if event.condition is Condition.STALLED:
        return f"{words} ({' | '.join(stall_commands(batch.area, event.issue))})"
    return words


def _wished(batch: Batch, event: Wished) -> str:
    if event.boot_id:  # the agent's own words
        if event.wish is Wish.COMPLETE:
            return " says that it is done"
        return " says that it has failed" + (f": {one_line(event.reason)}" if event.reason else "")
    then = "its attempt is ended first"
    if batch.is_foreign(event.issue):
        then = "what runs in its pane is yours to end"
    return f": {event.wish.value} asked for; {then}"


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
    _put(text, sys.stdout)


def say_json(value: object) -> None:
    """A value as JSON, for scripts; untrusted text in it made harmless."""
    import json  # noqa: PLC0415 - 5 ms that most commands do not pay

    say(harmless_json(json.dumps(value, ensure_ascii=False, indent=2)))


def warn(text: str) -> None:
    """Lines on stderr, as harmless."""
    _put(text, sys.stderr)


def _put(text: str, stream: TextIO) -> None:
    try:
        print(harmless(text, keep="\n"), file=stream, flush=True)
    except OSError as error:
        if error.errno != errno.EIO:  # the terminal has gone: nobody is left to be told
            raise
