"""Records what each agent prints in each situation, for the tests of the readers.

    .venv/bin/python tests/agents/record.py [AGENT [SCENARIO ...]]

Each scenario runs the real program headless in a fresh worktree with a fresh HOME against the stub.
`recorded/AGENT/SCENARIO.jsonl` is its stdout as it came, and `recorded/AGENT/runs.json` says how it
was started, how it ended and what it committed. Paths of this machine are replaced: `/repo` is the
worktree, `/main` the repository it belongs to, `/home/user` the HOME.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import homes
import install
import network
from stub_server import Stub

RECORDED = Path(__file__).parent / "recorded"
SAFETY_SECONDS = 120.0  # reached only when something is wrong
RESET = 4_070_908_800  # 2099-01-01, 00:00 UTC: a usage limit's end that has not passed
AGAIN = "You were interrupted. Look at the worktree first, then go on."
_GIT_SETTINGS = "[user]\n    name = Test\n    email = test@example.invalid\n"

SIGNALS = {"killed": signal.SIGKILL, "terminated": signal.SIGTERM,
           "interrupted": signal.SIGINT, "hung-up": signal.SIGHUP}  # fmt: skip

Argv = list[str]


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

    def _commits(self) -> int:
        return int(self.git("rev-list", "--count", "HEAD"))

    # -- keeping ---------------------------------------------------------------------------

    def _keep(self, name: str, argv: Sequence[str], prompt: str, code: int, before: int) -> None:
        folder = RECORDED / self.agent
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.jsonl").write_text(self.without_paths(self.said()))
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
        return text.replace(self.stub.url, "http://127.0.0.1:1")


def kill(process: "subprocess.Popen[bytes]") -> None:
    """End the agent and what is in its process group: codex is a child of a script."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def in_an_hour() -> int:
    """The full minute in an hour's time: the texts of limits leave out today's date."""
    return (int(time.time()) // 60 + 60) * 60


def ask(scenario: str) -> str:
    """A prompt with the line that tells the stub what to do."""
    return f"Write a greeting into a file and commit it.\n\nSTUB: {scenario}\n"


# -- Claude Code ---------------------------------------------------------------------------


def _claude(session: str, *, resume: bool = False, bypass: bool = True) -> Argv:
    skip = ["--dangerously-skip-permissions"] if bypass else []
    which = "--resume" if resume else "--session-id"
    return ["claude", "-p", *skip, which, session, "--output-format", "stream-json", "--verbose"]


def claude(stage: Stage, only: str) -> None:
    session = str(uuid.UUID(int=uuid.uuid5(uuid.NAMESPACE_OID, only).int, version=4))
    start, resume = _claude(session), _claude(session, resume=True)
    simple = {
        "ok": "ok",
        "nothing": "nothing",
        "error-401": "error code=401",
        "error-429": "error code=429",
        "error-500": "error code=500",
        "error-529": "error code=529",
        "retried-529": "error code=529 times=2",
        "cut": "cut",
        "cut-in-work": "cut at=1",
        "ask": "ask",
    }
    if only in simple:
        stage.run(only, start, ask(simple[only]))
        return
    match only:
        case "denied":
            stage.run(only, _claude(session, bypass=False), ask("ok"))
        case "limit" | "limit-in-work" | "limit-today" | "limit-with-api-key":
            at = 1 if only == "limit-in-work" else 0
            reset = in_an_hour() if only == "limit-today" else RESET
            env = {} if only == "limit-with-api-key" else homes.CLAUDE_SUBSCRIPTION
            stage.run(only, start, ask(f"limit reset={reset} at={at}"), env=env)
        case "killed" | "terminated" | "interrupted" | "hung-up":
            act = stage.signalled_in_tool(SIGNALS[only], '"tool_use"')
            stage.run(only, start, ask("slow"), meanwhile=act)
        case "resumed":
            act = stage.signalled_in_tool(signal.SIGKILL, '"tool_use"')
            stage.run(None, start, ask("slow"), meanwhile=act)
            stage.stub.release("greeting")
            stage.run(only, resume, AGAIN)
        case "id-in-use":
            stage.run(None, start, ask("ok"))
            stage.run(only, start, ask("ok"))
        case "unknown-id":
            stage.run(only, resume, AGAIN)


CLAUDE = ("ok", "nothing", "denied", "error-401", "error-429", "error-500", "error-529",
          "retried-529", "cut", "cut-in-work", "ask", "limit", "limit-in-work",
          "limit-today", "limit-with-api-key", "killed", "terminated", "interrupted", "hung-up",
          "resumed", "id-in-use", "unknown-id")  # fmt: skip


# -- Codex ---------------------------------------------------------------------------------

_CODEX = ["codex", "exec", "--json"]
_BYPASS = "--dangerously-bypass-approvals-and-sandbox"


def codex(stage: Stage, only: str) -> None:
    start = [*_CODEX, _BYPASS, "-"]
    simple = {
        "ok": "ok",
        "nothing": "nothing",
        "error-401": "error code=401",
        "error-429": "error code=429",
        "error-500": "error code=500",
        "retried-500": "error code=500 times=1",
        "cut": "cut",
        "cut-in-work": "cut at=1",
        "cut-for-ever": "cut times=1000",
        "limit": f"limit reset={RESET}",
        "limit-in-work": f"limit reset={RESET} at=1",
        "limit-today": f"limit reset={in_an_hour()}",
        "ask-unheard": "ask",
    }
    if only in simple:
        stage.run(only, start, ask(simple[only]))
        return
    match only:
        case "ask":
            # A login shell, which Codex takes by itself, may forget where gangline is.
            stage.run(only, [*_CODEX, "-c", "allow_login_shell=false", _BYPASS, "-"], ask("ask"))
        case "sandbox":
            stage.run(only, [*_CODEX, "--sandbox", "workspace-write", "-"], ask("ok"))
        case "sandbox-with-roots":
            common = stage.main / ".git"
            roots = [
                common / "worktrees" / "work",
                *(common / n for n in ("objects", "refs", "logs")),
            ]
            option = f"sandbox_workspace_write.writable_roots={json.dumps([str(r) for r in roots])}"
            stage.run(only, [*_CODEX, "--sandbox", "workspace-write", "-c", option, "-"], ask("ok"))
        case "killed" | "terminated" | "interrupted" | "hung-up":
            act = stage.signalled_in_tool(SIGNALS[only], '"item.started"')
            stage.run(only, start, ask("slow"), meanwhile=act)
        case "resumed":
            act = stage.signalled_in_tool(signal.SIGKILL, '"item.started"')
            said = stage.run(None, start, ask("slow"), meanwhile=act)
            stage.stub.release("greeting")
            thread = json.loads(said.splitlines()[0])["thread_id"]
            stage.run(only, [*_CODEX, _BYPASS, "resume", thread, "-"], AGAIN)
        case "unknown-id":
            unknown = "01990000-0000-7000-8000-000000000000"
            stage.run(only, [*_CODEX, _BYPASS, "resume", unknown, "-"], AGAIN)


CODEX = ("ok", "nothing", "error-401", "error-429", "error-500", "retried-500", "cut",
         "cut-in-work", "cut-for-ever", "limit", "limit-in-work", "limit-today", "ask",
         "ask-unheard", "sandbox", "sandbox-with-roots", "killed", "terminated", "interrupted",
         "hung-up", "resumed", "unknown-id")  # fmt: skip

RECORDERS: dict[str, tuple[Callable[[Stage, str], None], Sequence[str]]] = {
    "claude": (claude, CLAUDE),
    "codex": (codex, CODEX),
}


def main() -> None:
    agent, *wanted = sys.argv[1:] or [""]
    for name, (record, scenarios) in RECORDERS.items():
        if agent not in ("", name) or not install.is_installed(name):
            continue
        for scenario in wanted or scenarios:
            with tempfile.TemporaryDirectory(prefix="record-", ignore_cleanup_errors=True) as room:
                stage = Stage(name, Path(room).resolve())
                try:
                    with stage.stub:
                        record(stage, scenario)
                finally:
                    stage.close()


if __name__ == "__main__":
    main()
