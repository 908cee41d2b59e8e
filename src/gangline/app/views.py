"""What `status`, `list` and the summaries show, as plain data made from the state file alone.

`status` is asked often, by people and by scripts, so the common case reads one JSON file and
imports nothing that is slow: the state file, when its digest matches and the journal's last line
has its number. Otherwise the journal is folded first, which gives the same text.
"""

import os
import time

from gangline.core.digest import digest_matches, is_line, line_seq
from gangline.hosts.attempt_folder import PROGRESS, parse_json
from gangline.store.area import AreaPaths

TYPE_CHECKING = False  # importing `typing` costs 3 ms
if TYPE_CHECKING:
    from typing import Any

_FORMAT = 1
_HEAD_BYTES = 512  # area and batch id, which are short, come before the number
# About a thousand lines, checked in a millisecond; only a start checks what is older.
_TAIL_BYTES = 256 * 1024
_OVER = ("completed", "failed", "skipped", "cancelled")
_PROGRESS_BYTES = 64 * 1024
_FIGURE_MAX = 1e15  # what an agent says beyond that is no count of anything
_DAY_SECONDS = 86_400
_NOTHING = {"inputTokens": 0, "outputTokens": 0, "costUsd": None, "seconds": 0}
_BUDGET = ("costUsd", "tokens", "minutes")
_STOPS = {
    "signal 1": "its terminal has gone",
    "signal 2": "Ctrl-C",
    "signal 15": "asked to by a TERM signal",
    "stop": "gangline stop",
    "drained": "drained",
    "budget": "the budget of the batch is used up",
}


def stop_words(reason: str) -> str:
    """Why an orchestrator stopped, for people."""
    return _STOPS.get(reason, reason)


def fast_state(paths: AreaPaths) -> "dict[str, Any] | None":
    """The state file's contents, if they are the truth; None if the journal must be asked."""
    data = fast_bytes(paths)
    return None if data is None else parse_json(data)


def fast_bytes(paths: AreaPaths) -> bytes | None:
    """The state file, if it is the truth to the byte; None if the journal must be asked."""
    try:
        with open(paths.state, "rb") as file:
            data = file.read()
        last = _last_seq(paths.journal)
    except (OSError, ValueError):
        return None
    if not digest_matches(data):
        return None
    head = b'{"format":%d,' % _FORMAT
    return data if data.startswith(head) and b'"seq":%d,' % last in data[:_HEAD_BYTES] else None


def _last_seq(path: str) -> int:
    """The number of the journal's last line.

    Raises:
        ValueError: one of the newest lines is damaged, or cut short.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        start = max(0, size - _TAIL_BYTES)
        lines = os.pread(fd, _TAIL_BYTES, start).split(b"\n")
    finally:
        os.close(fd)
    if lines.pop():
        raise ValueError("the last line is cut short")
    if start:
        del lines[0]  # a part of one
    first = line_seq(lines[0]) if start and lines else 1
    for seq, line in enumerate(lines, first):
        if not is_line(line, seq):
            raise ValueError("a line is damaged or missing")
    return first + len(lines) - 1


def status_view(
    state: "dict[str, Any]", paths: AreaPaths, *, alive: bool | None
) -> "dict[str, Any]":
    """The stable shape of `status --json` (DESIGN.md section 8, contract; keys only ever added)."""
    issues = [_issue_view(state, issue_id, paths) for issue_id in state["issues"]]
    counts = dict.fromkeys(("pending", "blocked", "dispatched", *_OVER), 0)
    for issue in issues:
        counts[issue["status"]] += 1
    return {
        "area": state["area"],
        "batchId": state["batchId"],
        "revision": state["seq"],
        "orchestrator": {
            "alive": alive,
            "pid": state["orchestratorPid"] if alive else None,
            "pane": state["orchestratorPane"] if alive else None,
            "stopped": None if alive else state.get("stoppedReason"),
        },
        "paused": state["paused"],
        "draining": state["draining"],
        "stopping": state["stop"] is not None,
        "agent": state["agent"],
        "createdAt": state["createdAt"],
        "updatedAt": state["updatedAt"],
        "counts": counts,
        "usage": _sum_of([issue["usage"] for issue in issues if issue["attempts"]]),
        "budget": _budget(state["policy"]),
        "issues": issues,
    }


def _issue_view(state: "dict[str, Any]", issue_id: int | str, paths: AreaPaths) -> "dict[str, Any]":
    key = str(issue_id)
    detail = state["detail"].get(key, {})
    status = state["status"][key]
    recorded = detail.get("attempts", [])
    attempts = [_attempt_view(state, key, attempt, paths) for attempt in recorded]
    last = recorded[-1] if recorded and status == "dispatched" else {}
    return {
        "id": issue_id,
        "title": detail.get("title", ""),
        "status": status,
        "condition": last.get("condition", "working") if last else None,
        "question": last.get("question"),
        "until": last.get("until"),
        "asked": last.get("asked", False),
        "held": detail.get("held", False),
        "wish": detail.get("wish"),
        "reason": detail.get("reason"),
        "because": detail.get("because"),
        "retryCount": recorded[-1].get("retry", 0) if recorded else 0,
        "dependsOn": state["dag"].get(key, []),
        "usage": _sum_of([attempt["usage"] for attempt in attempts if attempt["usage"]]),
        "messages": len(detail.get("messages", ())),
        "attempts": attempts,
    }


def _attempt_view(
    state: "dict[str, Any]", key: str, attempt: "dict[str, Any]", paths: AreaPaths
) -> "dict[str, Any]":
    attempt_id = f"{state['batchId']}-{key}-a{attempt['number']}"
    folder = os.path.join(paths.attempts, attempt_id)
    told: dict[str, Any] = {}
    usage = attempt.get("usage")
    if usage is not None:
        usage = {name: usage.get(name, nothing) for name, nothing in _NOTHING.items()}
    elif attempt.get("outcome") is None and not attempt.get("foreign"):
        told = read_progress(folder)
        usage = _usage_of(told)
    return {
        "id": attempt_id,
        "outcome": attempt.get("outcome"),
        "pane": attempt.get("pane"),
        "ownPane": attempt.get("plan") is not None or attempt.get("foreign", False),
        "startedAt": attempt["startedAt"],
        "endedAt": attempt.get("endedAt"),
        "exitCode": attempt.get("exitCode"),
        "branch": attempt.get("branch"),
        "log": os.path.join(folder, "output.log"),
        "reason": attempt.get("reason"),
        "agent": attempt.get("agent"),
        "retry": attempt.get("retry", 0),
        "session": attempt.get("session") or _text(told.get("session")),
        "resumed": attempt.get("resumed", False),
        "tool": _text(told.get("tool")),
        "usage": usage,
    }


# -- what an agent says of itself --------------------------------------------------------------


def read_progress(folder: str) -> "dict[str, Any]":
    """What the output of an open attempt tells (core/evidence.py: Progress), as its runner wrote.

    Empty where there is nothing that can be read: it is for people to look at, and costs a status
    no error. Its values are untrusted, and may be of any type.
    """
    try:
        # A pipe that an agent put in its place must not hold up a status.
        fd = os.open(os.path.join(folder, PROGRESS), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = parse_json(os.read(fd, _PROGRESS_BYTES))
        finally:
            os.close(fd)
    except (OSError, ValueError, StopIteration, RecursionError, SystemError):
        return {}  # the last is how the scanner says no where `json` was not imported
    return found if isinstance(found, dict) else {}


def _usage_of(told: "dict[str, Any]") -> "dict[str, Any]":
    """What a living attempt has used up. Its seconds are counted when it is over: until then the
    same state is the same text.
    """
    cost = told.get("costUsd")
    return {
        "inputTokens": _figure(told.get("inputTokens")),
        "outputTokens": _figure(told.get("outputTokens")),
        "costUsd": None if cost is None else _figure(cost),
        "seconds": 0,
    }


def _sum_of(usages: "list[dict[str, Any]]") -> "dict[str, Any]":
    """What was used up together; `costUsd` is null where no agent named a price."""
    if len(usages) < 2:
        return usages[0] if usages else _NOTHING
    costs = [usage["costUsd"] for usage in usages if usage["costUsd"] is not None]
    return {
        "inputTokens": sum([usage["inputTokens"] for usage in usages]),
        "outputTokens": sum([usage["outputTokens"] for usage in usages]),
        "costUsd": round(sum(costs), 6) if costs else None,
        "seconds": round(sum([usage["seconds"] for usage in usages]), 3),
    }


def _figure(value: object) -> "Any":
    """A number of something; 0 for whatever else stands there."""
    return value if type(value) in (int, float) and 0 <= value <= _FIGURE_MAX else 0  # type: ignore[operator]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _budget(policy: "dict[str, Any]") -> "dict[str, Any] | None":
    """The limits of the batch together, null where there is none; None without any."""
    limits = policy.get("batchBudget") or {}
    return {name: limits.get(name) for name in _BUDGET} if limits else None


# -- times -------------------------------------------------------------------------------------


def until_words(until: float | None, now: float) -> str:
    """`until 11:25 (in 42m)`, on the clock here; "" where nobody said.

    Args:
        until: Seconds of the epoch.
        now: The same.
    """
    if until is None:
        return ""
    try:
        clock = time.localtime(until)
    except (OverflowError, ValueError, OSError):  # an edited state file may hold anything
        return ""
    far = abs(until - now) >= _DAY_SECONDS or clock.tm_yday != time.localtime(now).tm_yday
    at = time.strftime("%a %d %b %H:%M" if far else "%H:%M", clock)
    return f"until {at} (in {wait_words(until - now)})" if until > now else f"until {at}"


def wait_words(seconds: float) -> str:
    """`42m`, `3h05m`, `2d04h`; the last minute is `1m`, for a limit never ends to the second."""
    minutes = max(1, -(-int(seconds) // 60))
    if minutes < 60:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02d}m"
    return f"{hours // 24}d{hours % 24:02d}h"
