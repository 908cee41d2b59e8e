"""Records what each agent prints in each situation, for the tests of the readers.

    .venv/bin/python tests/agents/record.py [AGENT [SCENARIO ...]]

Each scenario runs the real program headless in a fresh worktree with a fresh HOME against the stub.
`recorded/AGENT/SCENARIO.jsonl` (`.txt` where it is no JSON) is its stdout as it came, and
`recorded/AGENT/runs.json` says how it was started, how it ended and what it committed. Paths of
this machine are replaced: `/repo` is the worktree, `/main` the repository it belongs to,
`/home/user` the HOME.
"""

import json
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import homes
import install
from recording_stage import Stage

RESET = 4_070_908_800  # 2099-01-01, 00:00 UTC: a usage limit's end that has not passed
AGAIN = "You were interrupted. Look at the worktree first, then go on."
SIGNALS = {"killed": signal.SIGKILL, "terminated": signal.SIGTERM,
           "interrupted": signal.SIGINT, "hung-up": signal.SIGHUP}  # fmt: skip

Argv = list[str]


def in_an_hour() -> int:
    """The full minute in an hour's time: the texts of limits leave out today's date."""
    return (int(time.time()) // 60 + 60) * 60


def ask(scenario: str) -> str:
    """A prompt with the line that tells the stub what to do."""
    return f"Write a greeting into a file and commit it.\n\nSTUB: {scenario}\n"


def session_of(scenario: str) -> str:
    """The same session id whenever this scenario is recorded."""
    return str(uuid.UUID(int=uuid.uuid5(uuid.NAMESPACE_OID, scenario).int, version=4))


# -- Claude Code ---------------------------------------------------------------------------


def _claude(session: str, *, resume: bool = False, bypass: bool = True) -> Argv:
    skip = ["--dangerously-skip-permissions"] if bypass else []
    which = "--resume" if resume else "--session-id"
    return ["claude", "-p", *skip, which, session, "--output-format", "stream-json", "--verbose"]


def claude(stage: Stage, only: str) -> None:
    session = session_of(only)
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
        "beside": "ok beside=yes",
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


CLAUDE = ("ok", "beside", "nothing", "denied", "error-401", "error-429", "error-500", "error-529",
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
        "beside": "ok beside=yes",
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


CODEX = ("ok", "beside", "nothing", "error-401", "error-429", "error-500", "retried-500", "cut",
         "cut-in-work", "cut-for-ever", "limit", "limit-in-work", "limit-today", "ask",
         "ask-unheard", "sandbox", "sandbox-with-roots", "killed", "terminated", "interrupted",
         "hung-up", "resumed", "unknown-id")  # fmt: skip

# -- OpenCode ------------------------------------------------------------------------------

_OPENCODE = ["opencode", "run", "--auto", "--format", "json"]
_UNKNOWN_SESSION = "ses_dddbe0dcfffeO7cekzWadylUVd"


def opencode(stage: Stage, only: str) -> None:
    simple = {**_COMMON, "limit": f"limit reset={RESET}", "ask": "ask"}
    if only in simple:
        # It tries again for ever, and says nothing of it.
        endless = only in {"error-429", "error-500", "limit"}
        act = stage.terminated_after(requests=3) if endless else None
        stage.run(only, [*_OPENCODE, "{prompt}"], ask(simple[only]), meanwhile=act)
        return
    act = None
    if only in SIGNALS or only == "resumed":
        number = SIGNALS.get(only, signal.SIGKILL)
        # It prints a tool when the tool has ended.
        act = stage.signalled_in_tool(number, '"text"')
    match only:
        case "unknown-id":
            stage.run(only, [*_OPENCODE, "--session", _UNKNOWN_SESSION, "{prompt}"], AGAIN)
        case "resumed":
            said = stage.run(None, [*_OPENCODE, "{prompt}"], ask("slow"), meanwhile=act)
            stage.stub.release("greeting")
            session = json.loads(said.splitlines()[0])["sessionID"]
            stage.run(only, [*_OPENCODE, "--session", session, "{prompt}"], AGAIN)
        case _:
            stage.run(only, [*_OPENCODE, "{prompt}"], ask("slow"), meanwhile=act)


# -- Qwen Code -----------------------------------------------------------------------------

_QWEN = ["qwen", "--auth-type", "openai", "--yolo", "-o", "stream-json"]


def qwen(stage: Stage, only: str) -> None:
    session = session_of(only)
    start = [*_QWEN, "--session-id", session]
    simple = {**_COMMON, "limit": f"limit reset={RESET}", "ask": "ask"}
    if only in simple:
        # It tries again for a long time, and says nothing of it.
        endless = only in {"error-429", "limit"}
        act = stage.terminated_after(requests=5) if endless else None
        stage.run(only, start, ask(simple[only]), meanwhile=act)
        return
    match only:
        case "denied":
            stage.run(only, [word for word in start if word != "--yolo"], ask("ok"))
        case "unknown-id":
            stage.run(only, [*_QWEN, "-r", session], AGAIN)
        case "id-in-use":
            stage.run(None, start, ask("ok"))
            stage.run(only, start, ask("ok"))
        case "resumed":
            act = stage.signalled_in_tool(signal.SIGKILL, '"tool_use"')
            stage.run(None, start, ask("slow"), meanwhile=act)
            stage.stub.release("greeting")
            stage.run(only, [*_QWEN, "-r", session], AGAIN)
        case _:
            act = stage.signalled_in_tool(SIGNALS[only], '"tool_use"')
            stage.run(only, start, ask("slow"), meanwhile=act)


# -- Aider ---------------------------------------------------------------------------------

_AIDER = ["aider", "--message", "{prompt}", "--yes-always", "--no-gitignore", "--no-check-update",
          "--no-show-release-notes", "--analytics-disable"]  # fmt: skip


def aider(stage: Stage, only: str) -> None:
    scenario = {**_COMMON, "limit": f"limit reset={RESET}"}[only]
    stage.run(only, _AIDER, ask(scenario))


_COMMON = {
    "ok": "ok",
    "nothing": "nothing",
    "error-401": "error code=401",
    "error-429": "error code=429",
    "error-500": "error code=500",
    "retried-500": "error code=500 times=1",
    "cut": "cut",
}
_MORE = ("limit", "ask", "killed", "terminated", "hung-up", "resumed", "unknown-id")

RECORDERS: dict[str, tuple[Callable[[Stage, str], None], Sequence[str]]] = {
    "claude": (claude, CLAUDE),
    "codex": (codex, CODEX),
    "opencode": (opencode, (*_COMMON, *_MORE)),
    "qwen": (qwen, (*_COMMON, *_MORE, "interrupted", "denied", "id-in-use")),
    "aider": (aider, (*_COMMON, "limit")),
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
