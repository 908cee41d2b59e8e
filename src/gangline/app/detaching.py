"""The orchestrator in a tmux window of its own, and the way to an issue's window."""

import os
import sys

from gangline.app.commands import find_issue
from gangline.app.planning import Request
from gangline.app.running import open_session
from gangline.app.truth import load_store
from gangline.app.wiring import Project
from gangline.errors import MachineError, UsageError
from gangline.hosts.tmux import Tmux
from gangline.hosts.tmux_control import TmuxError

# What a new window gets from tmux itself, or must not carry over.
_NOT_PASSED = ("TMUX", "TMUX_PANE", "TERM", "PWD", "OLDPWD", "SHLVL", "_")
_ENVIRONMENT_BYTES_MAX = 12_000


def detach_run(area: str, request: Request, *, new: bool) -> str:
    """Start `gangline run` in a window of the area's session; what to tell the person.

    All that can be refused is refused here, where it is seen: the batch is begun or found first,
    and only the loop runs in the window.

    Raises:
        GanglineError: see `open_session`; or tmux does not answer.
    """
    session = open_session(area, request, new=new)
    session.lock.release()
    project = session.project
    tmux = project.tmux()
    argv = [sys.executable, "-m", "gangline", "run", area]
    environment = {k: v for k, v in os.environ.items() if k not in _NOT_PASSED}
    if sum(len(k) + len(v) + 8 for k, v in environment.items()) > _ENVIRONMENT_BYTES_MAX:
        environment = {k: v for k, v in environment.items() if len(v) < 500}
    try:
        name = tmux.ensure_session(f"gangline-{area}", project.owner(area))
        tmux.connect(name)
        pane = tmux.new_window(name, f"gangline run {area}", argv, environment, project.top)
        tmux.set_remain(pane.pane, on=True)
    except TmuxError as error:
        raise MachineError("tmux does not answer", causes=[str(error)]) from error
    finally:
        tmux.close()
    return (
        f"The orchestrator of {area} runs in pane {pane.pane}. "
        f"Look: gangline status {area}, gangline attach {area}. End it: gangline stop {area}"
    )


def attach_command(area: str, issue: str | None) -> list[str]:
    """The tmux command that shows the area's session, at the issue's window if one is named.

    Raises:
        UsageError: there is no such session or window.
    """
    store = load_store(area)
    project = Project()
    tmux = project.tmux()
    target = None
    if issue is not None:
        state = find_issue(store.batch, issue)
        target = state.attempts[-1].pane if state.attempts else None
        if target is None or not _is_there(tmux, target, state.attempts[-1].mark):
            raise UsageError(
                f"#{state.key} has no window now; it is {state.status.value}",
                hint=f"what it printed: gangline logs {area} {state.key}",
            )
    try:
        session = tmux.find_session(f"gangline-{area}", project.owner(area))
    except TmuxError as error:
        raise MachineError("tmux does not answer", causes=[str(error)]) from error
    if session is None:
        raise UsageError(f"area {area} has no tmux session now", hint=f"gangline run {area}")
    verb = "switch-client" if os.environ.get("TMUX") else "attach-session"
    argv = ["tmux", *tmux.socket.args(), verb, "-t", f"={session}"]
    return [*argv, ";", "select-window", "-t", target] if target else argv


def _is_there(tmux: Tmux, pane: str, mark: str) -> bool:
    try:
        server = tmux.server()
        return bool(server and tmux.pane_is(pane, server, mark))
    except TmuxError:
        return False
