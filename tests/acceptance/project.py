"""A throw-away repository that is used as a person uses it: through the real command line.

What must stay true: a test sees nothing of the machine's user (own HOME, own git settings, own tmux
server) and leaves nothing behind. Whatever is started below a `Project` has its private HOME in its
environment, so that whatever is left can be found and ended by its id.
"""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SAFETY_SECONDS = 60.0  # reached only by a test that fails
LOOK_SECONDS = 0.01
# What a terminal obeys or shows backwards: C0 but newline, DEL, C1, bidirectional controls.
_ACTING = re.compile(
    "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]"
)
_GIT_SETTINGS = """\
[user]
    name = Test
    email = test@example.invalid
[init]
    defaultBranch = main
[commit]
    gpgSign = false
[maintenance]
    auto = false
[gc]
    auto = 0
"""


def assert_harmless(text: str) -> None:
    """Nothing in the text makes a terminal do anything but show it."""
    found = _ACTING.search(text)
    assert found is None, f"{found and found[0]!r} in {text!r}"


class Started(subprocess.Popen[bytes]):
    """A process that runs on: `text()` is what it has said so far, stdout and stderr together."""

    def __init__(self, argv: Sequence[str], output: Path, **options: Any) -> None:
        self.output = output
        with output.open("wb") as file:
            super().__init__(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")


class Project:
    """A folder with a gangline.toml, a private tmux socket, and a git repository unless refused.

    Args:
        room: An empty folder of the test's own (`tmp_path`).
        name: The name of the project's folder in it.
        git: Whether it is a git repository with one commit.
    """

    def __init__(self, room: Path, *, name: str = "project", git: bool = True) -> None:
        self.room = room
        self.folder = room / name
        # A socket's path may have about 100 bytes, and pytest's folders are longer than that.
        self._short = Path(tempfile.mkdtemp(prefix="gl-"))
        self.socket = self._short / "tmux"
        self.home = self._short / "home"
        self.programs = room / "programs"  # what is put here is found first on PATH
        for folder in (self.folder, self.home, self.programs):
            folder.mkdir(parents=True)
        (self.home / ".gitconfig").write_text(_GIT_SETTINGS)
        self.environment = {
            "HOME": str(self.home),
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self._started: list[Started] = []
        self.settings()
        if git:
            self.git("init", "--quiet")
            self.write(".gitignore", "/plan.json\n")
            self.commit()

    # -- files -----------------------------------------------------------------------------

    def write(self, path: str, text: str | bytes) -> Path:
        """Write a file of the project, with its folders."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode() if isinstance(text, str) else text)
        return target

    def settings(self, text: str = "") -> None:
        """gangline.toml: the private tmux socket, and `text` (tables) after it."""
        self.write("gangline.toml", f"[tmux]\nsocket = {json.dumps(str(self.socket))}\n{text}")

    def plan(self, issues: Sequence[Mapping[str, Any]], name: str = "plan.json") -> str:
        """Write a plan file (ignored by git under its default name); what to give to --from."""
        self.write(name, json.dumps({"issues": list(issues)}))
        return name

    def program(self, name: str, script: str) -> None:
        """A shell script that is found first on PATH under this name."""
        path = self.programs / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def only_programs(self, *names: str) -> dict[str, str]:
        """An environment whose PATH has these programs (and those of `program`) alone."""
        farm = Path(tempfile.mkdtemp(prefix="farm-", dir=self.room))
        for name in names:
            found = shutil.which(name)
            assert found, f"{name} is needed by this test"
            (farm / name).symlink_to(found)
        return {"PATH": f"{self.programs}{os.pathsep}{farm}"}

    def area(self, area: str = "work") -> Path:
        """The folder of an area."""
        return self.folder / ".workspace" / "orchestrate" / area

    def snapshot(self) -> dict[str, tuple[int, bytes]]:
        """Every path of the project, git's own included, with its mode and content.

        The lock files do not count: a command that is refused may have looked at them.
        """
        found = {}
        for folder, folders, files in os.walk(self.folder):
            for name in (*folders, *files):
                path = Path(folder, name)
                mode = path.lstat().st_mode
                if stat.S_ISREG(mode) and path.parent.name != ".locks":
                    content = path.read_bytes()
                else:
                    content = os.fsencode(path.readlink()) if stat.S_ISLNK(mode) else b""
                found[str(path.relative_to(self.folder))] = (mode, content)
        return found

    # -- programs --------------------------------------------------------------------------

    def _environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return {**self.environment, **(env or {})}

    def git(self, *argv: str) -> str:
        """The output of a git command in the project; it has to succeed."""
        done = subprocess.run(
            ["git", *argv],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, message: str = "Change") -> str:
        """Commit everything that is there; the commit's id."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def tmux(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        """A command to the project's tmux server; starts none unless the command does."""
        return subprocess.run(
            ["tmux", "-u", "-S", str(self.socket), *argv],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def command(self, *argv: str) -> list[str]:
        """The argv of a gangline command."""
        return [sys.executable, "-m", "gangline", *argv]

    def run(
        self,
        *argv: str,
        check: int | None = None,
        env: Mapping[str, str] | None = None,
        input: str | None = None,  # noqa: A002 - as subprocess calls it
        cwd: Path | None = None,
    ) -> "subprocess.CompletedProcess[str]":
        """Run gangline to its end in the project; with `check` its exit code has to be that."""
        done = subprocess.run(
            self.command(*argv),
            cwd=cwd or self.folder,
            env=self._environment(env),
            input=input or "",
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=SAFETY_SECONDS,
            check=False,
        )
        if check is not None:
            assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def run_in_terminal(
        self, *argv: str, columns: int = 80, env: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run gangline in a terminal of its own; its exit code and what it showed, both streams."""
        ours, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        shown = b""
        try:
            process = subprocess.Popen(
                self.command(*argv),
                cwd=self.folder,
                env=self._environment(env),
                stdin=terminal,
                stdout=terminal,
                stderr=terminal,
                start_new_session=True,
            )
            os.close(terminal)
            with suppress(OSError):  # Linux says so when the other side has been closed
                while data := os.read(ours, 65536):
                    shown += data
        finally:
            os.close(ours)
        return process.wait(SAFETY_SECONDS), shown.decode().replace("\r\n", "\n")

    def run_shell(
        self, script: str, env: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run a shell line in the project, for what only a shell does; `$0` is Python."""
        return subprocess.run(
            ["sh", "-c", script, sys.executable],
            cwd=self.folder,
            env=self._environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SAFETY_SECONDS,
            check=False,
        )

    def refusal(
        self,
        *argv: str,
        code: int = 2,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> str:
        """Run gangline, which has to refuse and to leave no trace; what it says of it on stderr."""
        files, processes, server = self.snapshot(), set(self.processes()), self.socket.exists()
        done = self.run(*argv, check=code, env=env, cwd=cwd)
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        assert_harmless(done.stderr)
        assert self.snapshot() == files
        assert set(self.processes()) <= processes
        assert self.socket.exists() == server
        return done.stderr

    def refusals(self, *arguments: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
        """What `plan work` and `run work` say when both refuse these arguments."""
        for command in ("plan", "run"):
            yield self.refusal(command, "work", *arguments, env=env)

    def start(self, *argv: str, env: Mapping[str, str] | None = None) -> Started:
        """Start gangline in a session of its own and go on; it is ended with the project."""
        output = self.room / f"started-{len(self._started)}.txt"
        started = Started(self.command(*argv), output, cwd=self.folder, env=self._environment(env))
        self._started.append(started)
        return started

    def status(self, area: str = "work") -> dict[str, Any]:
        """`gangline status AREA --json`."""
        view: dict[str, Any] = json.loads(self.run("status", area, "--json", check=0).stdout)
        return view

    def statuses(self, area: str = "work") -> dict[str, str]:
        """The status of each issue, by the text form of its id."""
        return {str(issue["id"]): issue["status"] for issue in self.status(area)["issues"]}

    def wait_for(
        self, condition: Callable[[], Any], what: str, seconds: float = SAFETY_SECONDS
    ) -> Any:
        """What the condition gives as soon as it is true; fails after a time no success needs."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                said = "\n".join(started.text() for started in self._started)
                raise AssertionError(f"it did not come about in {seconds} s: {what}\n{said}")
            time.sleep(LOOK_SECONDS)
        return found

    # -- what was left ---------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """The living processes that were started below this project, and their command lines."""
        mark = b"HOME=" + os.fsencode(self.home)
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it ended, or is another user's
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
                    found[int(entry.name)] = os.fsdecode(b" ".join(words))
        return found

    def close(self) -> None:
        """End everything that was started below this project; wait until it is gone."""
        for started in self._started:
            with suppress(ProcessLookupError):
                if started.poll() is None:
                    os.killpg(started.pid, signal.SIGKILL)
            started.wait()
        if self.socket.exists():
            self.tmux("kill-server")
        deadline = time.monotonic() + SAFETY_SECONDS
        while left := self.processes():
            assert time.monotonic() < deadline, f"these do not end: {left}"
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(LOOK_SECONDS)
        shutil.rmtree(self._short)
