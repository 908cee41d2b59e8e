"""What an agent's hook runs: note what has happened in the attempt's progress.json.

    python -I -S -c … PACKAGE_FOLDER ATTEMPT_DIR claude           the event is JSON on stdin
    python -I -S -c … PACKAGE_FOLDER ATTEMPT_DIR codex SESSION …  the event is the last argument

It prints nothing, for an agent may take that for an answer: no hook of ours ever decides anything.
If it fails it says so in a line on stderr and ends with 1, which agents show and go on after.

Stdlib only, and quick: an agent waits for it before and after each tool call.
"""

import json
import sys

from gangline.agents import hooks_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def main(argv: list[str]) -> int:
    """Note one event; the exit status."""
    try:
        folder, kind, *rest = argv
        text = rest[-1] if kind == "codex" else sys.stdin.buffer.read().decode("utf-8", "replace")
        event = json.loads(text)
        if isinstance(event, dict):
            _note(folder, kind, event, rest)
    except Exception as error:  # noqa: BLE001 - the agent shows it, and is not disturbed further
        print(f"gangline could not note what happened: {error!r}", file=sys.stderr)
        return 1
    return 0


def _note(folder: str, kind: str, event: "dict[str, Any]", rest: list[str]) -> None:
    if kind == "codex":
        from gangline.agents.hooks_codex import note  # noqa: PLC0415 - one agent is enough

        hooks_file.change(folder, lambda known: note(known, event, folder, rest[0]))
        return
    from gangline.agents.hooks_claude import note as note_claude  # noqa: PLC0415 - as above

    if event.get("hook_event_name") == "UserPromptSubmit":
        hooks_file.close_question(folder)  # whatever a person says answers it
    is_open = hooks_file.has_question(folder)
    hooks_file.change(folder, lambda known: note_claude(known, event, folder, has_question=is_open))
