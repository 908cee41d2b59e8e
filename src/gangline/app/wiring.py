"""The one place that picks adapters: which store, host, workspaces and clock an area gets."""

import os

from gangline.agents.registry import COMMAND_AGENT, find_agent
from gangline.app.config import load_config
from gangline.app.dispatch import Dispatcher, NoPreparation, Preparer, Workspaces
from gangline.app.planning import Request, policy_of
from gangline.app.settings import Config
from gangline.core.events import Edited
from gangline.errors import ConfigError, InputError, UsageError
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.idle import launch_line
from gangline.hosts.local import LocalHost
from gangline.hosts.tmux import Tmux
from gangline.hosts.tmux_control import TmuxError
from gangline.hosts.tmux_server import choose_socket, own_server_pid
from gangline.hosts.wakes import Wakes, hint
from gangline.store.area import AreaPaths
from gangline.store.batches import Store
from gangline.workspaces.repository import (
    Place,
    create_workspace,
    locate,
    workspace_folder,
)
from gangline.workspaces.worktrees import GitWorktrees, SharedFolder


class Project:
    """A repository or folder with its gangline.toml, found from the current folder."""

    def __init__(self, folder: str | None = None) -> None:
        self.place: Place = locate(folder or ".")
        self.top = self.place.top
        self.config: Config = load_config(self.top)
        self.workspace = workspace_folder(self.place)

    def create_workspace(self) -> None:
        """Make `.workspace/`, private, and keep it out of git."""
        create_workspace(self.place)

    def paths(self, area: str) -> AreaPaths:
        """Where the area keeps what."""
        return AreaPaths(self.workspace, area)

    def store(self, area: str) -> Store:
        """The area's journal and state."""
        return Store(self.paths(area), self.check_edit, policy_of(self.config, Request()))

    def check_edit(self, edit: Edited) -> None:
        """Refuse an edit that names an agent which is none."""
        agents = [
            edit.batch.get("agent"),
            *(detail.get("agent") for detail in edit.details.values()),
            *(issue.agent for issue in edit.issues),
        ]
        for name in agents:
            if name not in (None, COMMAND_AGENT):
                find_agent(name, self.config.agents, "agent", error=InputError)

    def workspaces(self, area: str) -> Workspaces:
        """Worktrees in a git repository, unless the settings say shared."""
        kind = self.config.workspace.kind
        if kind == "shared" or (kind is None and self.place.git_dir is None):
            return SharedFolder(self.place)
        if self.place.git_dir is None:
            raise InputError(
                "worktrees need a git repository, and this folder is in none",
                place="gangline.toml: workspace.kind",
                hint='git init, or set kind = "shared" in [workspace]',
            )
        settings = self.config.workspace
        return GitWorktrees(self.place, area, settings.base, settings.branch)

    def tmux(self) -> Tmux:
        """The chosen tmux server.

        Raises:
            ConfigError: the setting can be no socket.
        """
        setting = self.config.tmux.socket
        socket = choose_socket(setting, os.environ)
        if setting and socket.kind == "path" and not os.path.isdir(os.path.dirname(setting)):
            raise ConfigError(
                f"the tmux socket {setting!r} is in no folder that is there",
                place="gangline.toml: tmux.socket",
                hint="make the folder, or name a socket as for `tmux -L`",
            )
        return Tmux(socket)

    def owner(self, area: str) -> str:
        """What marks a tmux session as this repository's and area's."""
        return f"{self.top}#{area}"


def require_own_pane(project: Project, area: str, *, detached: bool = False) -> None:
    """Refuse `panes = "idle"` where there are none: outside of tmux, or on another server.

    With `detached` the orchestrator is to run in a session of its own, where there are none either.

    Raises:
        UsageError: names which.
        ConfigError: the attempts' path cannot be typed.
    """
    launch_line("mark", project.paths(area).attempts)
    if detached:
        raise UsageError(
            "a detached orchestrator has a tmux session of its own, with no pane of yours in it",
            place="--detach",
            hint=f'in a pane of your session: gangline run {area}; or set panes = "managed"',
        )
    pane = os.environ.get("TMUX_PANE")
    pid = own_server_pid(os.environ)
    tmux = project.tmux()
    try:
        server = tmux.server() if pane and pid else None
        there = server is not None and server.pid == pid and pane in {e.pane for e in tmux.panes()}
    except TmuxError:
        there = False
    if not there:
        raise UsageError(
            f"pane {pane} of this orchestrator is not on the tmux server that was chosen"
            if pane and pid
            else "idle panes are those of the orchestrator's own tmux session, and it runs in none",
            place="gangline.toml: batch.panes",
            hint='run it in a tmux pane; or have Gangline make the panes: panes = "managed"',
        )


class Machinery:
    """Everything a living orchestrator of one area needs; to be closed at its end.

    Args:
        shell_pane: For one cycle of the specification's shell: the pane that it runs in. It waits
            for its workspaces, and its attempts go into idle panes whatever the settings say.
    """

    def __init__(
        self, project: Project, area: str, store: Store, *, shell_pane: str | None = None
    ) -> None:
        paths = project.paths(area)
        self.wakes = Wakes(paths.wake)
        self.folders = AttemptFolders(paths.folder, paths.wake)
        self.host = LocalHost(
            self.folders,
            project.tmux(),
            f"gangline-{area}",
            project.owner(area),
            self.wakes,
            own_pane=shell_pane or os.environ.get("TMUX_PANE"),
            takes_idle_panes=shell_pane is not None or project.config.batch.panes == "idle",
        )
        workspaces = project.workspaces(area)
        preparer: Preparer | NoPreparation = (
            NoPreparation(workspaces)
            if isinstance(workspaces, SharedFolder) or shell_pane is not None
            else Preparer(workspaces, lambda: hint(paths.wake))
        )
        self.dispatcher = Dispatcher(
            project.config, preparer, workspaces, store.read_issues, paths.attempts
        )
