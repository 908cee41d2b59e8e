"""What the demo sets up, and takes down again whatever happens.

Everything is in one temporary folder: the repository, the agent, the agents' log and the socket of
a tmux server of its own. What must stay true: when `strike` has returned, nothing that was started
lives. Processes are found by what marks them, not by what was remembered, so that an interruption
at any point leaves none: each attempt has its mark in the journal before it starts
(DESIGN.md section 4), and all others (orchestrator, tmux, git) inherit the mark of the demo.
"""

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence

from gangline.demo.agent import (
    LOG_VARIABLE,
    PACE_VARIABLE,
    SOLUTIONS_VARIABLE,
    TEMPLATE_SUFFIX,
)
from gangline.errors import MachineError
from gangline.hosts.attempt_folder import EXIT, MARK_VARIABLE
from gangline.hosts.processes import end_marked
from gangline.hosts.tmux_server import SOCKET_PATH_BYTES_MAX
from gangline.store.area import AreaPaths
from gangline.store.batches import Store
from gangline.workspaces.repository import WORKSPACE_FOLDER

AREA = "demo"
FOLDER_PREFIX = "gangline demo "  # with a space: paths with spaces are to work
_PACKAGE = os.path.dirname(os.path.abspath(__file__))
_STEP_SECONDS = "0.5"
_COMMAND_SECONDS_MAX = 60
_DROPPED = frozenset({"TMUX", "TMUX_PANE", "PYTHONSAFEPATH"})  # the program is run by -m
_GIT_SETTINGS = {
    "user.name": "Gangline demo",
    "user.email": "demo@example.invalid",
    "commit.gpgsign": "false",
    "core.autocrlf": "false",
    "core.hooksPath": os.devnull,
    "gc.auto": "0",  # it would go on in the background
    "maintenance.auto": "false",
}


class Stage:
    """The temporary folder and what runs in it.

    Attributes:
        place: The folder.
        repository: The git repository in it.
        log: The agents' own log, outside the repository.
    """

    def __init__(self) -> None:
        self.place = os.path.realpath(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        self.repository = os.path.join(self.place, "repository")
        self.log = os.path.join(self.place, "agents.log")
        self._socket_folder = self.place
        self._mark = f"{AREA}.{secrets.token_hex(8)}"
        self.environment = _environment(os.environ, self._mark)

    def build(self) -> None:
        """Write the program, its issues, the agent and the settings; commit them on `main`.

        Raises:
            MachineError: git cannot.
        """
        agent = os.path.join(self.place, "agent")
        os.mkdir(agent)
        shutil.copy(os.path.join(_PACKAGE, "agent.py"), agent)
        shutil.copytree(os.path.join(_PACKAGE, "solutions"), os.path.join(agent, "solutions"))
        _copy_program(self.repository)
        self._choose_socket_folder()
        with open(os.path.join(self.repository, "gangline.toml"), "x", encoding="utf-8") as file:
            file.write(self._settings(agent))
        self.git("init", "--quiet", "--initial-branch", "main")
        for name, value in _GIT_SETTINGS.items():
            self.git("config", name, value)
        self.git("add", "--all")
        self.git("commit", "--quiet", "-m", "A program that does not work yet")

    def _choose_socket_folder(self) -> None:
        """A socket's path is limited; where the folder's is too long, a short one is made."""
        if len(os.fsencode(self.socket)) > SOCKET_PATH_BYTES_MAX:
            self._socket_folder = tempfile.mkdtemp(prefix="gangline-", dir="/tmp")

    @property
    def socket(self) -> str:
        """The path of the private tmux server's socket."""
        return os.path.join(self._socket_folder, "tmux")

    def _settings(self, agent: str) -> str:
        """gangline.toml: a JSON string is a TOML string."""

        def text(value: str) -> str:
            return json.dumps(value, ensure_ascii=False)

        env = {
            LOG_VARIABLE: self.log,
            SOLUTIONS_VARIABLE: os.path.join(agent, "solutions"),
            PACE_VARIABLE: _STEP_SECONDS,
        }
        lines = [
            '[batch]\nfrom = "issues"\nagent = "scripted"\n',
            f"[tmux]\nsocket = {text(self.socket)}\n",
            "[agents.scripted]",
            f"start = [{text(sys.executable)}, {text(os.path.join(agent, 'agent.py'))}]",
            'prompt = "stdin"\n',
            "[agents.scripted.env]",
            *(f"{name} = {text(value)}" for name, value in env.items()),
        ]
        return "\n".join(lines) + "\n"

    def gangline(self, *arguments: str) -> list[str]:
        """The command line of this very Gangline; nothing of the current folder is imported."""
        return [sys.executable, "-P", "-m", "gangline", *arguments]

    def answer(self, *arguments: str) -> str:
        """What a gangline command prints.

        Raises:
            MachineError: it failed.
        """
        done = self.command(self.gangline(*arguments))
        if done.returncode:
            raise MachineError(
                f"gangline {arguments[0]} failed",
                causes=done.stderr.splitlines(),
                hint="look at what is there: gangline demo --keep",
            )
        return done.stdout

    def git(self, *arguments: str) -> str:
        """What a git command in the repository prints.

        Raises:
            MachineError: it failed.
        """
        done = self.command(["git", *arguments])
        if done.returncode:
            raise MachineError(
                f"git {arguments[0]} failed",
                causes=done.stderr.splitlines(),
                hint="the demo needs git 2.28 or later: git --version",
            )
        return done.stdout

    def command(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in the repository to its end.

        Raises:
            MachineError: there is no such program, or it did not end in time.
        """
        try:
            return subprocess.run(
                argv,
                cwd=self.repository,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=_COMMAND_SECONDS_MAX,
                check=False,
            )
        except FileNotFoundError as error:
            raise MachineError(
                f"{argv[0]} is not on PATH",
                hint=f"install it: apt install {argv[0]}, dnf install {argv[0]} or brew install"
                f" {argv[0]}",
            ) from error
        except subprocess.TimeoutExpired as error:
            raise MachineError(
                f"`{shlex.join(argv)}` did not end within {_COMMAND_SECONDS_MAX} s",
                hint="the machine may be overloaded; try again: gangline demo",
            ) from error

    def strike(self, *, keep: bool) -> None:
        """End all that was started, see it gone, and remove the folder unless `keep`."""
        try:
            end_marked(self._mark)
            for mark in self._attempt_marks():
                end_marked(mark, grace_seconds=0)
        finally:
            if self._socket_folder != self.place:
                shutil.rmtree(self._socket_folder)
            if not keep:
                shutil.rmtree(self.place)

    def recorded_ends(self) -> set[str]:
        """The issues whose runner has recorded how the attempt ended (DESIGN.md section 3)."""
        found = set()
        for name in os.listdir(self._paths.attempts):
            if os.path.exists(os.path.join(self._paths.attempts, name, EXIT)):
                found.add(name.rpartition("-a")[0].rpartition("-")[2])
        return found

    def _attempt_marks(self) -> list[str]:
        """The marks of every attempt that was ever intended."""
        store = Store(self._paths)
        if not store.load():
            return []
        issues = store.batch.issues.values()
        return [attempt.mark for issue in issues for attempt in issue.attempts]

    @property
    def _paths(self) -> AreaPaths:
        return AreaPaths(os.path.join(self.repository, WORKSPACE_FOLDER), AREA)


def _environment(base: Mapping[str, str], mark: str) -> dict[str, str]:
    """The user's, without what points at another repository, pane or attempt, or changes git."""
    kept = {
        name: value
        for name, value in base.items()
        if not name.startswith(("GIT_", "GANGLINE_")) and name not in _DROPPED
    }
    return kept | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        MARK_VARIABLE: mark,
    }


def _copy_program(repository: str) -> None:
    """The program as it is at first; its modules are kept as text, for they are no part of ours."""
    source = os.path.join(_PACKAGE, "program")
    for folder, _, names in os.walk(source):
        target = os.path.join(repository, os.path.relpath(folder, source))
        os.makedirs(target, exist_ok=True)
        for name in names:
            path = os.path.join(target, name.removesuffix(TEMPLATE_SUFFIX))
            shutil.copyfile(os.path.join(folder, name), path)
