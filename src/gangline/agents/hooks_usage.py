"""What an interactive agent has used, from the file in which it keeps its conversation.

Hooks tell no usage, and a TUI shows it to people only. The files are one JSON object a line, and a
session that is gone on with holds the attempts before as well, so what was before this attempt does
not count. Neither tells a cost.

- Claude Code's transcript holds an answer once for each of its blocks, every time with the usage of
  the whole.
- Codex's rollout holds the sum of the thread after each answer.
"""

import json
import os
import time

from gangline.agents.readers.fields import count, mapping, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STARTING = "starting"  # made just before the agent was executed (DESIGN.md section 4)
_INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def usage_of_transcript(path: str, folder: str) -> "dict[str, Any]":
    """The tokens of this attempt, by their names in progress.json; {} where nobody can know."""
    try:
        begun_at = _begun_at(folder)
        with open(path, "rb") as file:
            answers = dict(_answer(line) for line in file if b'"usage"' in line)
    except (OSError, ValueError):
        return {}
    counted = [usage for at, usage in answers.values() if at >= begun_at]
    return {
        "inputTokens": sum(count(usage.get(name)) for usage in counted for name in _INPUT),
        "outputTokens": sum(count(usage.get("output_tokens")) for usage in counted),
    }


def usage_of_rollout(path: str, folder: str) -> "dict[str, Any]":
    """The tokens of this attempt, by their names in progress.json; {} where nobody can know."""
    before: dict[str, Any] = {}
    total: dict[str, Any] = {}
    try:
        begun_at = _begun_at(folder)
        with open(path, "rb") as file:
            for line in file:
                if b'"token_count"' not in line:
                    continue
                entry = mapping(json.loads(line))
                info = mapping(mapping(entry.get("payload")).get("info"))
                total = mapping(info.get("total_token_usage")) or total
                if words(entry.get("timestamp")) < begun_at:
                    before = total
    except (OSError, ValueError, RecursionError):
        return {}
    return {
        name: max(0, count(total.get(field)) - count(before.get(field)))
        for name, field in (("inputTokens", "input_tokens"), ("outputTokens", "output_tokens"))
    }


def _begun_at(folder: str) -> str:
    """When the attempt's agent was started: UTC, ISO 8601, as the agents write their times.

    Raises:
        OSError: it is not known.
    """
    begun = os.stat(os.path.join(folder, _STARTING)).st_mtime
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(begun))


def _answer(line: bytes) -> "tuple[str, tuple[str, dict[str, Any]]]":
    """An answer's id, its time and its usage; the last line of an answer says it last."""
    try:
        entry = mapping(json.loads(line))
    except (ValueError, RecursionError):
        return "", ("", {})
    message = mapping(entry.get("message"))
    return words(message.get("id")), (words(entry.get("timestamp")), mapping(message.get("usage")))
