"""What the tmux server holds of this repository: sessions without a batch, panes out of use.

Only what bears our own marks is told of, and only where it is this repository's: other gangline
users share the server.
"""

import os

import msgspec

from gangline.app.doctor_findings import Finding, Level, shell_line
from gangline.app.wiring import Project
from gangline.core.text import harmless
from gangline.errors import GanglineError
from gangline.hosts.attempt_folder import PANE_OPTION
from gangline.hosts.tmux import Tmux
from gangline.hosts.tmux_control import Socket, TmuxError, TmuxGoneError


class MarkedPane(msgspec.Struct, frozen=True):
    """A pane that an attempt was given: `mark` is that attempt's, `folder` where the pane is."""

    pane: str
    mark: str
    folder: str


class TmuxSight(msgspec.Struct, frozen=True):
    """What was seen on the server.

    Attributes:
        socket: The server that was asked; None where the settings can name none.
        finding: How the asking went.
        sessions: By the name of a session of this repository, its area.
        panes: Every pane with an attempt's mark, whoever's.
    """

    socket: Socket | None
    finding: Finding
    sessions: dict[str, str] = {}
    panes: list[MarkedPane] = []


class _MarkReader(Tmux):
    """Reads what bears our options; changes nothing."""

    def owned_sessions(self, top: str) -> dict[str, str]:
        """By name, the areas of the sessions that belong to this repository."""
        rows = self._table(["list-sessions"], ["#{session_name}", "#{@gangline_owner}"])
        start = f"{top}#"
        return {name: owner.removeprefix(start) for name, owner in rows if owner.startswith(start)}

    def marked_panes(self) -> list[MarkedPane]:
        """The panes whose option says which attempt has them: `MARK@BOOTSECONDS`."""
        rows = self.pane_table(["#{pane_id}", f"#{{{PANE_OPTION}}}", "#{pane_current_path}"])
        found = {
            pane: MarkedPane(pane, value.rpartition("@")[0] or value, folder)
            for pane, value, folder in rows
            if value
        }
        return list(found.values())  # a window in two sessions is listed twice


def look_at_tmux(project: Project) -> TmuxSight:
    """Ask the chosen server, if one answers."""
    try:
        tmux = _MarkReader(project.tmux().socket)
    except GanglineError as error:
        message = f"{error.place}: {error.message}; {error.hint}"
        return TmuxSight(None, _finding(Level.WRONG, message))
    name = harmless(" ".join(["tmux", *tmux.socket.args()]))
    try:
        server = tmux.server()
        if server is None:
            message = f"{name}: no server runs; the first run starts one"
            return TmuxSight(tmux.socket, _finding(Level.OK, message))
        sessions, panes = tmux.owned_sessions(project.top), tmux.marked_panes()
    except TmuxGoneError:
        return TmuxSight(tmux.socket, _finding(Level.OK, f"{name}: the server has just ended"))
    except TmuxError as error:
        message = f"{name}: the server does not answer as it should: {error}"
        return TmuxSight(tmux.socket, _finding(Level.WRONG, message))
    except GanglineError:  # there is no tmux, which is told among the programs
        return TmuxSight(None, _finding(Level.NOTE, f"{name}: it was not asked"))
    message = f"{name}: server {server.pid} answers"
    return TmuxSight(tmux.socket, _finding(Level.OK, message), sessions, panes)


def _finding(level: Level, message: str) -> Finding:
    return Finding(check="tmux", level=level, message=message)


def orphaned_sessions(sight: TmuxSight, areas: set[str], only: str | None) -> list[Finding]:
    """Sessions of this repository whose area has no batch.

    Args:
        sight: What was seen.
        areas: The areas that have a batch, looked up later.
        only: The one area that is asked about, if one is.
    """
    found = []
    for name, area in sorted(sight.sessions.items()):
        if area not in areas and only in (None, area):
            command = _tmux(sight, "kill-session", "-t", f"={name}")
            message = f"tmux session {name} is of area {area}, which has no batch"
            found.append(_orphan("session", area, message, command))
    return found


def orphaned_panes(
    sight: TmuxSight, top: str, batches: dict[str, str], open_marks: set[str], only: str | None
) -> list[Finding]:
    """Panes that are kept for an attempt of this repository which is not open.

    Args:
        sight: What was seen.
        top: The repository; a mark of no known batch is its own if the pane is in there.
        batches: By batch id, the area, of every batch that is known here, archived ones too.
        open_marks: The marks of the open attempts, looked up later.
        only: The one area that is asked about, if one is.
    """
    found = []
    for pane in sight.panes:
        area = next((a for b, a in batches.items() if pane.mark.startswith(f"{b}-")), None)
        here = pane.folder == top or pane.folder.startswith(os.path.join(top, ""))
        if pane.mark in open_marks or (area is None and not here) or only not in (None, area):
            continue
        attempt = pane.mark.rpartition(".")[0] or pane.mark
        command = _tmux(sight, "set-option", "-p", "-u", "-t", pane.pane, PANE_OPTION)
        message = f"tmux pane {pane.pane} is kept for attempt {attempt}, which is not open"
        found.append(_orphan("pane", area, message, command))
    return found


def _orphan(check: str, area: str | None, message: str, command: str) -> Finding:
    return Finding(check=check, area=area, level=Level.NOTE, message=message, command=command)


def _tmux(sight: TmuxSight, *argv: str) -> str:
    assert sight.socket is not None  # without one nothing was seen
    return shell_line("tmux", *sight.socket.args(), *argv)
