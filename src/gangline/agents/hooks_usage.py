"""What an interactive agent has used, from the file in which it keeps its conversation.

Hooks tell no usage, and a TUI shows it to people only. The files are one JSON object a line, and a
session that is gone on with holds the attempts before as well, so what was before this attempt does
not count.

- Claude Code's transcript holds an answer once for each of its blocks, every time with the usage of
  the whole. What the session has cost so far it holds when a run of it has ended, undated.
- Codex's rollout holds the sum of the thread after each answer, and no cost.
"""

import json
import os
import time

from gangline.agents.readers.fields import amount, count, mapping, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STARTING = "starting"  # made just before the agent was executed (DESIGN.md section 4)
_INPUT = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


def usage_of_transcript(path: str, folder: str) -> "dict[str, Any]":
    """What this attempt used, by its names in progress.json; {} where nobody can know."""
    answers: dict[str, dict[str, Any]] = {}
    cost_before = cost = 0.0
    is_ours = False
    try:
        begun_at = _begun_at(folder)
        with open(path, "rb") as file:
            for line in file:
                entry = _entry(line)
                is_ours = words(entry.get("timestamp")) >= begun_at or (
                    is_ours and "timestamp" not in entry
                )
                message = mapping(entry.get("message"))
                if is_ours and message.get("usage"):
                    answers[words(message.get("id"))] = mapping(message["usage"])
                if entry.get("type") == "cost-state":
                    cost = amount(entry.get("totalCostUSD"))
                    cost_before = cost_before if is_ours else cost
    except OSError:
        return {}
    found: dict[str, Any] = {
        "inputTokens": sum(count(usage.get(name)) for usage in answers.values() for name in _INPUT),
        "outputTokens": sum(count(usage.get("output_tokens")) for usage in answers.values()),
    }
    if cost > cost_before:
        found["costUsd"] = round(cost - cost_before, 6)
    return found


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


def _entry(line: bytes) -> "dict[str, Any]":
    """One line, if it may tell of usage or of its time; {} for any other."""
    if not (b'"timestamp"' in line or b'"cost-state"' in line):
        return {}
    try:
        return mapping(json.loads(line))
    except (ValueError, RecursionError):
        return {}
