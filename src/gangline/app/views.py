"""What `status`, `list` and the summaries show, as plain data made from the state file alone.

`status` is asked often, by people and by scripts, so the common case reads one JSON file and
imports nothing that is slow: the state file, when its digest matches and the journal's last line
has its number. Otherwise the journal is folded first, which gives the same text.
"""

import os

from gangline.core.digest import check_line, digest_matches, line_seq
from gangline.hosts.runner import parse_json
from gangline.store.area import AreaPaths

TYPE_CHECKING = False  # importing `typing` costs 3 ms
if TYPE_CHECKING:
    from typing import Any

_FORMAT = 1
_HEAD_BYTES = 512  # area and batch id, which are short, come before the number
# About a thousand lines, checked in a millisecond; only a start checks what is older.
_TAIL_BYTES = 256 * 1024
_OVER = ("completed", "failed", "skipped", "cancelled")
_STOPS = {
    "signal 1": "its terminal has gone",
    "signal 2": "Ctrl-C",
    "signal 15": "asked to by a TERM signal",
    "stop": "gangline stop",
    "drained": "drained",
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
        check_line(line)
        if line_seq(line) != seq:
            raise ValueError("a line is missing")
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
        },
        "paused": state["paused"],
        "draining": state["draining"],
        "stopping": state["stop"] is not None,
        "agent": state["agent"],
        "createdAt": state["createdAt"],
        "updatedAt": state["updatedAt"],
        "counts": counts,
        "issues": issues,
    }


def _issue_view(state: "dict[str, Any]", issue_id: int | str, paths: AreaPaths) -> "dict[str, Any]":
    key = str(issue_id)
    detail = state["detail"].get(key, {})
    status = state["status"][key]
    attempts = detail.get("attempts", [])
    return {
        "id": issue_id,
        "title": detail.get("title", ""),
        "status": status,
        "condition": attempts[-1].get("condition", "working") if status == "dispatched" else None,
        "question": attempts[-1].get("question") if status == "dispatched" else None,
        "held": detail.get("held", False),
        "wish": detail.get("wish"),
        "reason": detail.get("reason"),
        "because": detail.get("because"),
        "retryCount": attempts[-1].get("retry", 0) if attempts else 0,
        "dependsOn": state["dag"].get(key, []),
        "attempts": [_attempt_view(state, key, attempt, paths) for attempt in attempts],
    }


def _attempt_view(
    state: "dict[str, Any]", key: str, attempt: "dict[str, Any]", paths: AreaPaths
) -> "dict[str, Any]":
    attempt_id = f"{state['batchId']}-{key}-a{attempt['number']}"
    return {
        "id": attempt_id,
        "outcome": attempt.get("outcome"),
        "pane": attempt.get("pane"),
        "ownPane": attempt.get("plan") is not None or attempt.get("foreign", False),
        "startedAt": attempt["startedAt"],
        "endedAt": attempt.get("endedAt"),
        "exitCode": attempt.get("exitCode"),
        "branch": attempt.get("branch"),
        "log": os.path.join(paths.attempts, attempt_id, "output.log"),
        "reason": attempt.get("reason"),
        "agent": attempt.get("agent"),
        "retry": attempt.get("retry", 0),
    }
