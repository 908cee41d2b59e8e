"""One run of a real agent outside Gangline: a worktree, a HOME, a stub, and what it printed.

`record.py` uses it to see what an agent does by itself, before Gangline is in between.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import homes
import install
import network
from stub_server import Stub

RECORDED = Path(__file__).parent / "recorded"
SAFETY_SECONDS = 600.0  # reached only when something is wrong
_GIT_SETTINGS = "[user]\n    name = Test\n    email = test@example.invalid\n"


class Stage:
    """One scenario: a worktree, a HOME, a stub."""

    def __init__(self, agent: str, room: Path) -> None:
        self.agent = agent
        self.room = room
        self.work, self.main, self.home = room / "work", room / "main", room / "home"
        temporary = room / "tmp"  # not above HOME: Codex distrusts a HOME in the temporary folder
        for folder in (self.main, self.home, temporary):
            folder.mkdir()
        (self.home / ".gitconfig").write_text(_GIT_SETTINGS)
        path = os.pathsep.join(
            map(str, (room / "programs", install.programs_folder(), os.environ["PATH"]))
        )
        self.environment = {"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8",
                            "TERM": "xterm-256color", "TZ": "UTC",
                            "TMPDIR": str(temporary)}  # fmt: skip
        programs = room / "programs"
        programs.mkdir()
        (programs / "gangline").write_text("#!/bin/sh\necho asked\n")  # for the scenario `ask`
        (programs / "gangline").chmod(0o755)
        self.git("init", "--quiet", "--initial-branch", "main", folder=self.main)
        (self.main / "README.md").write_text("# A program\n")
        self.git("add", ".", folder=self.main)
        self.git("commit", "--quiet", "--message", "Begin", folder=self.main)
        self.git("worktree", "add", "--quiet", "-b", "work", str(self.work), folder=self.main)
        self.network = network.loopback_only()
        self.stub = Stub(room / "stub", self.network.listen() if self.network else None)
        self.environment |= homes.prepare(agent, self.home, self.stub.url, self.main)
        if os.geteuid() == 0 and agent == "claude":
            self.environment["IS_SANDBOX"] = "1"
        self.runs: dict[str, Any] = {}

    def close(self) -> None:
        if self.network:
            self.network.close()

    def git(self, *argv: str, folder: Path | None = None) -> str:
        return subprocess.run(
            ["git", *argv],
            cwd=folder or self.work,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    # -- running ---------------------------------------------------------------------------

    def run(
        self,
        name: str | None,
        argv: Sequence[str],
        prompt: str,
        *,
        env: dict[str, str] | None = None,
        meanwhile: Callable[["subprocess.Popen[bytes]"], None] | None = None,
    ) -> str:
        """Run the agent to its end and record it under this name (None: not at all); its stdout.

        Args:
            argv: `{prompt}` is replaced; without it the prompt comes on stdin.
            meanwhile: What is done while it runs.
        """
        command = [word.replace("{prompt}", prompt) for word in argv]
        wrapped = self.network.wrap(command) if self.network else command
        before = self._commits()
        (self.room / "stdin").write_text("" if "{prompt}" in argv else prompt)
        # Files, not pipes: a tool that outlives the agent would hold a pipe open.
        with (
            (self.room / "stdin").open("rb") as stdin,
            (self.room / "stdout").open("wb") as stdout,
            (self.room / "stderr").open("wb") as stderr,
        ):
            process = subprocess.Popen(
                wrapped,
                cwd=self.work,
                env={**self.environment, **(env or {})},
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            if meanwhile is not None:
                meanwhile(process)
            code = process.wait(SAFETY_SECONDS)
        finally:
            kill(process)
        if name is not None:
            self._keep(name, argv, prompt, code, before)
        return self.said()

    def said(self, stream: str = "stdout") -> str:
        """What the agent that was last started has said so far."""
        return (self.room / stream).read_text(errors="replace")

    def signalled_in_tool(
        self, number: signal.Signals, shown: str
    ) -> Callable[["subprocess.Popen[bytes]"], None]:
        """Send the agent a signal while its tool waits (scenario `slow`), and `shown` is printed.

        The tool itself may run on.
        """

        def act(process: "subprocess.Popen[bytes]") -> None:
            deadline = time.monotonic() + SAFETY_SECONDS
            while self.stub.model.waiting_tool("greeting") is None or shown not in self.said():
                assert process.poll() is None, "it ended before it came to its tool"
                assert time.monotonic() < deadline, f"it is not in its tool: {self.said()}"
                time.sleep(0.02)
            kill(process) if number == signal.SIGKILL else os.kill(process.pid, number)

        return act

    def terminated_after(self, requests: int) -> Callable[["subprocess.Popen[bytes]"], None]:
        """End an agent that would try again for ever, once it has tried so often."""

        def act(process: "subprocess.Popen[bytes]") -> None:
            deadline = time.monotonic() + SAFETY_SECONDS
            while len(self.stub.work("greeting")) < requests:
                assert process.poll() is None, f"it ended by itself: {self.said()}"
                assert time.monotonic() < deadline, f"it does not try again: {self.said()}"
                time.sleep(0.02)
            os.kill(process.pid, signal.SIGTERM)

        return act

    def _commits(self) -> int:
        return int(self.git("rev-list", "--count", "HEAD"))

    # -- keeping ---------------------------------------------------------------------------

    def _keep(self, name: str, argv: Sequence[str], prompt: str, code: int, before: int) -> None:
        folder = RECORDED / self.agent
        folder.mkdir(parents=True, exist_ok=True)
        kind = "txt" if self.agent == "aider" else "jsonl"
        (folder / f"{name}.{kind}").write_text(self.without_paths(self.said()))
        run = {
            "argv": [self.without_paths(word) for word in argv],
            "prompt": prompt,
            "exit": code,
            "commits": self._commits() - before,
            "stderr": self.without_paths(self.said("stderr")),
        }
        path = folder / "runs.json"
        runs = json.loads(path.read_text()) if path.exists() else {}
        runs[name] = run
        path.write_text(json.dumps(runs, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
        print(f"{self.agent} {name}: exit {code}, {run['commits']} commits", flush=True)

    def without_paths(self, text: str) -> str:
        """The text with fixed names in place of this machine's."""
        places = {str(self.work): "/repo", str(self.main): "/main", str(self.home): "/home/user",
                  str(self.room): "/room", str(install.cache_folder()): "/agents"}  # fmt: skip
        for path, name in places.items():
            for written in (path, path.replace("/", "-").replace("_", "-")):
                text = text.replace(written, name if written == path else name.replace("/", "-"))
        return text.replace(self.stub.url.removeprefix("http://"), "127.0.0.1:1")


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End the agent and what is in its process group: codex is a child of a script."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
