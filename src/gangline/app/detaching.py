"""The orchestrator in a tmux window of its own, and the way to an issue's window.

What can be refused is refused before, in the foreground, where it is seen: the window runs only the
loop, and `run` returns when that has recorded its start.
"""

import os
import sys
import time
from typing import NamedTuple

from gangline.app.commands import find_issue
from gangline.app.running import Session
from gangline.app.truth import load_store
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.errors import MachineError, UsageError
from gangline.hosts.idle import IdlePanes
from gangline.hosts.tmux import WINDOW_NAME_LENGTH_MAX, Tmux
from gangline.hosts.tmux_control import TmuxError
from gangline.hosts.tmux_server import own_server_pid

# What a new window gets from tmux itself, or must not carry over.
_NOT_PASSED = ("TMUX", "TMUX_PANE", "TERM", "PWD", "OLDPWD", "SHLVL", "_")
_PASSED_FIRST = ("PATH", "HOME")
_ENVIRONMENT_BYTES_MAX = 12_000  # tmux refuses a command of more than about 16 KB
_START_SECONDS_MAX = 30.0
_LOOK_SECONDS = 0.02


class Detached(NamedTuple):
    """The pane of the new orchestrator, and variables that were too long to be passed on to it."""

    pane: str
    dropped: list[str]


def detach(session: Session) -> Detached:
    """Go on with `gangline run` in a window of the area's session, and see it start.

    Args:
        session: Of a batch that is not over; its lock is let go of here.

    Raises:
        MachineError: tmux does not answer, or the orchestrator did not start.
    """
    project, area = session.project, session.store.batch.area
    tmux = project.tmux()
    argv = [sys.executable, "-P", "-m", "gangline", "run", area]
    environment, dropped = _environment()
    title = _title(area)
    begun_at = _journal_size(session)
    try:
        name = tmux.ensure_session(f"gangline-{area}", project.owner(area))
        for old in tmux.panes():
            if old.session == name and old.window_name == title and old.dead:
                tmux.kill_pane(old.pane)
        # Through a connection: as arguments of a process the environment could be read by anybody.
        tmux.connect(name)
        session.lock.release()
        pane = tmux.new_window(name, title, argv, environment, project.top).pane
        tmux.set_remain(pane, on=True)
    except TmuxError as error:
        raise MachineError(
            "tmux does not answer",
            causes=[str(error)],
            hint=f"the batch is begun; once tmux answers: gangline run {area} --detach",
        ) from error
    deadline = time.monotonic() + _START_SECONDS_MAX
    while _journal_size(session) == begun_at:
        if time.monotonic() > deadline or not _lives(tmux, pane):
            raise MachineError(
                f"the orchestrator did not start in pane {pane}",
                hint=f"see what it says: gangline attach {area}",
            )
        time.sleep(_LOOK_SECONDS)
    tmux.close()
    return Detached(pane, dropped)


def _title(area: str) -> str:
    return f"gangline run {area}"[:WINDOW_NAME_LENGTH_MAX]


def _journal_size(session: Session) -> int:
    """Bytes of the journal; -1 when it has been archived already."""
    try:
        return os.path.getsize(session.store.paths.journal)
    except FileNotFoundError:
        return -1


def _lives(tmux: Tmux, pane: str) -> bool:
    """Whether the pane's program runs, as far as can be seen."""
    try:
        return any(each.pane == pane and not each.dead for each in tmux.panes())
    except TmuxError:
        return True


def _environment() -> tuple[dict[str, str], list[str]]:
    """What the window's program is to have in its environment, and the names that have no room."""
    passed: dict[str, str] = {}
    dropped = []
    left = _ENVIRONMENT_BYTES_MAX
    names = [name for name in os.environ if name not in _NOT_PASSED]
    names.sort(key=lambda name: (name not in _PASSED_FIRST, len(os.environ[name])))
    for name in names:
        left -= len(os.fsencode(name)) + len(os.fsencode(os.environ[name])) + 8
        if left >= 0:
            passed[name] = os.environ[name]
        else:
            dropped.append(name)
    return passed, dropped


def attach_command(area: str, issue: str | None) -> tuple[list[str], dict[str, str]]:
    """The tmux command, and its environment, that shows an issue's window or the area's session.

    Inside the same tmux server the client is switched; inside another one the session is shown
    within the pane; elsewhere the terminal is attached.

    Raises:
        UsageError: there is no such session or window.
    """
    store = load_store(area)
    project = Project()
    tmux = project.tmux()
    try:
        target = _window_of(tmux, store.batch, issue) if issue is not None else None
        session = (
            next(pane.session for pane in tmux.panes() if pane.pane == target)
            if target is not None
            else tmux.find_session(f"gangline-{area}", project.owner(area))
        )
        if session is not None and target is None:
            target = _best_window(tmux, store.batch, session)
        here = _is_inside(tmux)
    except TmuxError as error:
        raise MachineError("tmux does not answer", causes=[str(error)]) from error
    if session is None:
        raise UsageError(
            f"area {area} has no tmux session now",
            hint=f"gangline status {area}"
            if store.batch.is_over
            else f"gangline run {area}, or gangline run {area} --detach",
        )
    environment = dict(os.environ)
    if not here:
        environment.pop("TMUX", None)  # tmux refuses to attach within another server's pane
    verb = "switch-client" if here else "attach-session"
    argv = ["tmux", *tmux.socket.args(), verb, "-t", f"={session}"]
    if target:  # a person's own pane may be one of many in its window
        argv += [";", "select-window", "-t", target, ";", "select-pane", "-t", target]
    return argv, environment


def _window_of(tmux: Tmux, batch: Batch, text: str) -> str:
    """The pane of the issue's newest attempt, if it is there."""
    issue = find_issue(batch, text)
    attempt = issue.attempt
    server = tmux.server() if attempt and attempt.pane else None
    if attempt and attempt.pane and server:
        of_attempt = IdlePanes(tmux, None).pane_holds if attempt.plan else tmux.pane_is
        if of_attempt(attempt.pane, server, attempt.mark):
            return attempt.pane
    again = f"gangline status {batch.area}"
    raise UsageError(
        f"#{issue.key} has no window now; it is {issue.status.value}",
        hint=f"what it printed: gangline logs {batch.area} {issue.key}" if attempt else again,
    )


def _best_window(tmux: Tmux, batch: Batch, session: str) -> str | None:
    """What to look at where no issue is named: the orchestrator, else what runs, else any pane."""
    there = {pane.pane: pane for pane in tmux.panes() if pane.session == session}
    title = _title(batch.area)
    detached = [pane.pane for pane in there.values() if pane.window_name == title]
    panes = [batch.issues[key].attempts[-1].pane for key in batch.dispatched]
    wanted = [*reversed(detached), *(pane for pane in panes if pane)]
    return next((pane for pane in wanted if pane in there), None)


def _is_inside(tmux: Tmux) -> bool:
    """Whether this runs in a pane of that very server."""
    pid = own_server_pid(os.environ)
    server = tmux.server() if pid else None
    return server is not None and server.pid == pid
