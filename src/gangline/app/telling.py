"""What an agent says from inside its attempt, and what a person says to an agent.

An agent knows its attempt by variables that Gangline gave it, so its words count wherever it has
gone since: the folder of its area is taken from them, not from where it stands. A message to an
agent in a terminal of its own is typed there; any other waits in the journal for its next prompt.
"""

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from gangline.agents.hooks_file import close_question, has_question, open_question
from gangline.app import running
from gangline.app.commands import agent_asks, find_issue, send
from gangline.app.truth import load_store
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.core.events import AnyEvent
from gangline.core.issue import IssueState
from gangline.core.model import Status
from gangline.errors import GanglineError, InputError, MachineError, UsageError
from gangline.hosts.attempt_folder import SPEC
from gangline.hosts.pasting import paste
from gangline.hosts.tmux_control import TmuxError
from gangline.store.batches import Store

_SPEC_BYTES_MAX = 1_000_000
_INSIDE = ("GANGLINE_AREA", "GANGLINE_ISSUE", "GANGLINE_ATTEMPT", "GANGLINE_ATTEMPT_DIR")


class Speaker(NamedTuple):
    """The attempt that speaks, as its environment names it.

    Attributes:
        top: The top of the repository, or the shared folder, that its area belongs to.
        folder: The attempt's own.
    """

    area: str
    issue: str
    attempt_id: str
    top: str
    folder: str


class Told(NamedTuple):
    """What became of a message: the batch after it, and the pane it was typed into, if it was."""

    batch: Batch
    issue: IssueState
    pane: str | None
    alive: bool


def speaker(environ: Mapping[str, str]) -> Speaker:
    """Who speaks.

    Raises:
        UsageError: this is said outside of an attempt.
    """
    area, issue, attempt_id, folder = (environ.get(name, "") for name in _INSIDE)
    missing = [name for name in _INSIDE if not environ.get(name)]
    if missing:
        raise UsageError(
            f"only an agent says this, from inside its attempt: {missing[0]} is not set",
            hint="a person decides with gangline skip, cancel, retry or send AREA ISSUE",
        )
    *above, attempts, name = os.path.realpath(folder).split(os.sep)
    if attempts != "attempts" or name != attempt_id or above[-2:] != ["orchestrate", area]:
        raise UsageError(
            f"GANGLINE_ATTEMPT_DIR is not the folder of attempt {attempt_id[:200]}: {folder[:500]}",
            hint="leave the GANGLINE_ variables as they were given",
        )
    top = os.sep.join(above[:-3]) or os.sep
    if not os.path.isdir(top):
        raise InputError("the repository of this attempt is not there any more", place=top)
    return Speaker(area, issue, attempt_id, top, os.path.realpath(folder))


def say_of_itself(
    by: Speaker, decide: Callable[[Batch], list[AnyEvent]]
) -> tuple[Batch, list[AnyEvent], bool]:
    """Record what an agent says; see running.change."""
    os.chdir(by.top)
    return running.change(by.area, decide)


def ask(by: Speaker, question: str) -> None:
    """Ask a person; the attempt is not ended with its turn while the question is open.

    Raises:
        UsageError: the attempt is over, or the question can be none.
    """
    was_open = has_question(by.folder)
    open_question(by.folder)  # first: a turn that ends in this instant must not end the attempt
    try:
        say_of_itself(by, lambda batch: agent_asks(batch, by.issue, by.attempt_id, question))
    except GanglineError:
        if not was_open:
            close_question(by.folder)
        raise


def tell(area: str, key: str, text: str) -> Told:
    """Give a message to an issue's agent: typed where it can be, else recorded for its next turn.

    Raises:
        UsageError: it cannot be given; nothing is recorded.
        MachineError: it could not be typed, or not be seen to arrive; nothing is recorded.
    """
    store = load_store(area)
    send(store.batch, key, text)  # what is refused is refused before anything is typed
    issue = find_issue(store.batch, key)
    pane = _type(store, issue, text) if _is_interactive(store, issue) else None
    number = issue.attempts[-1].number if issue.attempts else None

    def decide(batch: Batch) -> list[AnyEvent]:
        now = find_issue(batch, key).attempt
        if pane is not None and (now is None or now.number != number or now.outcome is not None):
            return []  # it read it, and has ended since
        return send(batch, key, text, typed=pane is not None)

    batch, _, alive = running.change(area, decide)
    if number is not None:
        attempt_id = batch.attempt_id(issue.key, number)
        close_question(os.path.join(store.paths.attempts, attempt_id))
    return Told(batch, find_issue(batch, key), pane, alive)


def _is_interactive(store: Store, issue: IssueState) -> bool:
    """Whether the issue's open attempt has its agent's own terminal program in its pane."""
    if issue.status is not Status.DISPATCHED or issue.attempts[-1].waits:
        return False
    attempt_id = store.batch.attempt_id(issue.key, issue.attempts[-1].number)
    try:
        with open(os.path.join(store.paths.attempts, attempt_id, SPEC), "rb") as file:
            spec = msgspec.json.decode(file.read(_SPEC_BYTES_MAX))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False  # it is not started yet, or nobody knows: it waits for the next prompt
    return isinstance(spec, dict) and spec.get("interactive") is True


def _type(store: Store, issue: IssueState, text: str) -> str:
    """Type the message into the attempt's pane; which that is.

    Raises:
        MachineError: see `tell`.
    """
    area, attempt = store.batch.area, issue.attempts[-1]
    look = f"gangline attach {area} {issue.key}"
    if attempt.pane is None or attempt.server is None:
        raise MachineError(
            f"the pane of #{issue.key} is not known yet", hint="say it again in a moment"
        )
    folder = os.path.join(store.paths.attempts, store.batch.attempt_id(issue.key, attempt.number))
    try:
        problem = paste(
            Project().tmux(),
            pane=attempt.pane,
            server=attempt.server,
            mark=attempt.mark,
            is_borrowed=attempt.plan is not None,
            text=text,
            folder=folder,
        )
    except (TmuxError, OSError) as error:
        raise MachineError(
            f"it could not be typed into pane {attempt.pane}; nothing is recorded",
            causes=[str(error)],
            hint=look,
        ) from error
    if problem is not None:
        raise _not_typed(problem, attempt.pane, look)
    close_question(folder)
    return attempt.pane


def _not_typed(problem: str, pane: str, look: str) -> GanglineError:
    return MachineError(f"{problem} (pane {pane}); nothing is recorded", hint=f"look: {look}")
