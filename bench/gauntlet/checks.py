"""Whether one play kept the promises: its ledger, its journal, and what it left behind.

The promises themselves are in tests/prove/promises.py; here their history is put together. The
ledger is the agents' own; the kernel says in it whether an issue's processes were alone. What was
in the journal after any command has to be in it, unchanged, at the end: that is every committed
transition and some more.
"""

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator

import msgspec
from gauntlet.scenario import Command, Line, Play, Theatre
from promises import (
    AgentGone,
    AgentStarted,
    BrokenPromiseError,
    Committed,
    Promises,
    Read,
    Rested,
    Witness,
)

from gangline.core.batch import Batch
from gangline.core.codec import check_line, decode_event, replay
from gangline.core.events import AnyEvent, Edited, Ended, Outcome, Voided, Wished
from gangline.core.model import Status
from gangline.errors import GanglineError

# How often each agent is executed if none is hurt from outside; the second act's on top.
_RUNS = {"1": 1, "2": 1, "3": 2, "4": 2, "6": 1, "7": 1, "8": 1}
_RUNS_SECOND = {"2": 1, "5": 1, "6": 1}
_STATUSES = {
    **dict.fromkeys(("1", "3", "8"), Status.COMPLETED),
    **dict.fromkeys(("2", "4", "6"), Status.FAILED),
    "5": Status.SKIPPED,
    "7": Status.CANCELLED,
}
_STATUSES_SECOND = dict.fromkeys(("2", "4", "5", "6"), Status.COMPLETED)


def fold(journal: bytes) -> tuple[Batch, list[AnyEvent]]:
    """The batch that a journal tells of, and its events; every line is checked."""
    batch, events = Batch(), []
    for line in journal.split(b"\n")[:-1]:
        check_line(line)
        event = decode_event(line)
        batch = replay(batch, event)
        events.append(event)
    return batch, events


def judge(play: Play, *, hurt: bool) -> list[str]:
    """What was promised and not kept.

    Args:
        play: Performed to its end.
        hurt: A fault struck an attempt, not only commands: more may have died than the play has.
    """
    theatre = play.theatre
    wrong = [*theatre.trouble, *_beside_others(theatre)]
    archived = sorted(theatre.archive().glob("*"))
    if len(archived) != 1 or theatre.area().exists():
        return [*wrong, f"there should be one batch, archived: {archived}"]
    journal = theatre.journal()
    for number, seen in enumerate(theatre.snapshots):
        if seen and not journal.startswith(seen + b"\n"):
            wrong.append(f"the journal has lost what was in it after command {number}")
    try:
        batch, events = fold(journal)
    except (GanglineError, ValueError, msgspec.DecodeError) as error:
        return [*wrong, f"the journal does not fold: {error}"]
    wrong += _broken(theatre, events)
    wrong += _outcomes(play, batch, events)
    if not hurt:
        cancelled = not play.struck("cancel") or any(isinstance(event, Wished) for event in events)
        wrong += _exactly(play, batch, cancelled=cancelled)
    return wrong


def _beside_others(theatre: Theatre) -> list[str]:
    """The kernel's word: the lock of an issue is free only when every process of it is gone."""
    return [
        f"attempt {line.attempt} of #{line.issue} ran beside an earlier one"
        for line in theatre.ledger()
        if not line.alone
    ]


def _broken(theatre: Theatre, events: list[AnyEvent]) -> list[str]:
    """The first promise that the whole history breaks; nothing if it keeps them all."""
    promises = Promises()
    try:
        for witness in history(events, theatre.ledger()):
            promises.observe(witness)
        state = json.loads(next(theatre.archive().glob("*/batch.state.json")).read_text())
        promises.observe(Read({key: Status(status) for key, status in state["status"].items()}))
        promises.observe(Rested())
    except (BrokenPromiseError, StopIteration) as error:
        return [str(error) or "there is no state file in the archive"]
    return []


def history(events: list[AnyEvent], ledger: list[Line]) -> Iterator[Witness]:
    """Journal and ledger as one history.

    A start is told when the journal has come to its time, an agent's end with the event that
    records it: that nothing of it was left then is what the lock in the ledger proves.
    """
    waiting = {(line.issue, line.attempt): line for line in ledger if line.what == "start"}
    doubled = [line for line in ledger if line.what == "start" and waiting[line[1:3]] is not line]
    for event in events:
        at = dt.datetime.fromisoformat(event.at).timestamp()
        own = (event.issue, event.attempt) if isinstance(event, Ended | Voided) else None
        ended = isinstance(event, Ended)
        due = [key for key, line in waiting.items() if line.at < at or (ended and key == own)]
        for key in sorted(due, key=lambda key: waiting[key].at):
            del waiting[key]
            yield AgentStarted(*key)
        if ended and own is not None:
            yield AgentGone(*own)
        yield Committed((event,))
    for line in (*waiting.values(), *doubled):
        yield AgentStarted(line.issue, line.attempt)


def _outcomes(play: Play, batch: Batch, events: list[AnyEvent]) -> list[str]:
    """What the agents did has to be in the record."""
    wrong = [] if batch.is_over else ["the archived batch is not over"]
    outcomes = {
        (key, attempt.number): attempt.outcome
        for key, issue in batch.issues.items()
        for attempt in issue.attempts
    }
    for line in play.theatre.ledger():
        outcome = outcomes.get((line.issue, line.attempt))
        if outcome in (None, Outcome.VOID, Outcome.REFUSED):
            wrong.append(f"#{line.issue} attempt {line.attempt} ran and is recorded as {outcome}")
        if line.what == "cancelled" and batch.issues["7"].status is not Status.CANCELLED:
            wrong.append("an acknowledged cancel was lost")
    if play.edited and not any(isinstance(event, Edited) for event in events):
        wrong.append("an edit of the state file was lost")
    for key, issue in batch.issues.items():
        if issue.status is Status.COMPLETED and not (key == "4" and play.edited):
            ended = {line.issue for line in play.theatre.ledger() if line.what == "end"}
            if key not in ended:
                wrong.append(f"#{key} is completed and its agent never came to its end")
    return wrong


def _exactly(play: Play, batch: Batch, *, cancelled: bool) -> list[str]:
    """No agent was hurt from outside: each ran exactly as often as the play has it."""
    ran = Counter(line.issue for line in play.theatre.ledger() if line.what == "start")
    wanted = Counter(_RUNS)
    statuses = dict(_STATUSES)
    if play.played_second_act:
        wanted.update(_RUNS_SECOND)
        statuses |= _STATUSES_SECOND
    if not cancelled:  # the command was struck before it came to its commit
        statuses["7"] = Status.FAILED
    found = {key: issue.status for key, issue in batch.issues.items()}
    wanted = Counter({key: n for key, n in wanted.items() if int(key) in play.issues})
    statuses = {key: status for key, status in statuses.items() if int(key) in play.issues}
    wrong = [] if ran == wanted else [f"the agents ran {dict(ran)}, and not {dict(wanted)}"]
    if found != statuses:
        wrong.append(f"the issues ended {found}, and not {statuses}")
    return wrong


def judge_codes(commands: list[Command], struck: set[str], allowed: tuple[int, ...]) -> list[str]:
    """What commands said and how they ended.

    Args:
        commands: All that were typed.
        struck: Roles of those that a fault was aimed at.
        allowed: Exit codes of a command that was struck, besides the usual ones.
    """
    wrong = []
    for command in commands:
        usual = (0, 2) if command.argv[0] == "retry" else (0, 1)
        codes = (*usual, *allowed) if command.role in struck else usual
        if command.code not in codes:
            wrong.append(f"{' '.join(command.argv)} ended with {command.code}: {command.said}")
        if "Traceback" in command.said:
            wrong.append(f"{' '.join(command.argv)} fell over: {command.said}")
    return list(dict.fromkeys(wrong))  # a command that is typed again says the same
