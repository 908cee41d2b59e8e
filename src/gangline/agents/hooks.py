"""What an interactive agent is started with so that it tells of itself: its hooks, as settings.

A TUI prints nothing that a program could read, so the agent itself is asked to run a small command
of ours when something happens (hooks_command.py), which notes it in the attempt's progress.json.

- Claude Code takes hooks from a file named by `--settings`, beside the person's own settings. It
  runs a hook through a shell; the line holds nothing but our own words, quoted.
- Codex takes one program, `notify`, as an argv, and tells it only of the end of a turn.

Nothing here does I/O. `disableAllHooks` in a person's settings silences Claude's; such an agent is
ended by `gangline done` or by hand.
"""

import json
import os
import shlex
import sys

from gangline.agents.hooks_file import HOOKS

SETTINGS = "claude-settings.json"
PACKAGE_FOLDER = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# `-I -S`: nothing of the agent's surroundings gets in, and it starts in a few milliseconds.
_CODE = (
    "import sys;sys.path.insert(0,sys.argv[1]);"
    "from gangline.agents.hooks_command import main;sys.exit(main(sys.argv[2:]))"
)
_CLAUDE_EVENTS = (
    "SessionStart", "UserPromptSubmit", "PreToolUse", "PermissionRequest", "PostToolUse",
    "PostToolUseFailure", "Notification", "Stop", "StopFailure", "SessionEnd",
)  # fmt: skip
_HOOK_SECONDS_MAX = 20


def prepare(
    kind: str | None, attempt_dir: str, session: str | None = None
) -> tuple[list[str], dict[str, bytes]]:
    """What an interactive agent needs in order to tell of itself.

    Args:
        kind: "claude", "codex", or None for an agent without hooks.
        attempt_dir: The attempt's folder, absolute.
        session: The agent's own session that it is to go on with, if there is one. Codex tells of
            threads of its own as well; without this the first that worked on the prompt is ours.

    Returns:
        Arguments to put right behind the agent's program, before its own; and files to write into
        the attempt's folder before it is launched, by name.

    Raises:
        KeyError: no agent of this kind is known to have hooks.
    """
    if kind is None:
        return [], {}
    argv = [sys.executable, "-I", "-S", "-c", _CODE, PACKAGE_FOLDER, attempt_dir, kind]
    if kind == "codex":
        told = json.dumps({"kind": kind, "session": session}).encode()
        return ["-c", f"notify={_toml([*argv, session or ''])}"], {HOOKS: told}
    if kind != "claude":
        raise KeyError(kind)
    hook = {"type": "command", "command": shlex.join(argv), "timeout": _HOOK_SECONDS_MAX}
    settings = {"hooks": {event: [{"hooks": [hook]}] for event in _CLAUDE_EVENTS}}
    path = os.path.join(attempt_dir, SETTINGS)
    return ["--settings", path], {SETTINGS: json.dumps(settings).encode()}


def _toml(argv: list[str]) -> str:
    """The argv as a TOML array; JSON's strings are TOML's, but for a raw DEL."""
    return json.dumps(argv, ensure_ascii=False).replace("\x7f", "\\u007f")
