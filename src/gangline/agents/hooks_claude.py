"""What the hooks of Claude Code tell, as progress.json has it.

Events and fields as Claude Code 2.1.330 was seen to give them (tests/contract/recorded_hooks), and
as its documentation names them. To know of it: `StopFailure` comes instead of `Stop` when the
service failed; no event tells that a person interrupted a turn, or denied a permission; and a
`Stop` with background tasks is no end, for Claude Code goes on by itself when one of them is ready.
"""

import os
import time

from gangline.agents.hooks_usage import usage_of_transcript
from gangline.agents.readers.account import cut, one_line
from gangline.agents.readers.fields import first_words, listing, mapping, words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SESSION_CHARACTERS = 200
_LAST_WORDS_CHARACTERS = 2000
_WORDS_CHARACTERS = 300
_ASKS = ("permission_prompt", "agent_needs_input", "elicitation_dialog", "elicitation_url_dialog")
_NAMED_BY = ("command", "file_path", "notebook_path", "path", "pattern", "query", "url", "prompt")
_NOT_LET_END = '"content":"Stop hook feedback:'
_QUESTION_TOOL = "AskUserQuestion"
_FAILURE = ("failure", "failureKind", "limited", "limitedUntil", "limitText")


def note(
    known: "dict[str, Any]", event: "dict[str, Any]", folder: str, *, has_question: bool
) -> None:
    """Change what is known by what one event tells.

    Args:
        known: As progress.json has it; changed in place.
        event: As Claude Code gave it.
        folder: The attempt's.
        has_question: Whether a question that it asked by `gangline ask` is open.
    """
    session = words(event.get("session_id"))[:_SESSION_CHARACTERS]
    if session:
        known["session"] = session
    match event.get("hook_event_name"):
        case "UserPromptSubmit":
            _goes_on(known)
            for name in (*_FAILURE, "turnEnded", "tool", "toolId"):
                known[name] = None
        case "PreToolUse":
            _tool_begins(known, event)
        case "PostToolUse" | "PostToolUseFailure":
            _goes_on(known)
            if known.get("toolId") == words(event.get("tool_use_id")):
                known["tool"] = known["toolId"] = None
        case "PermissionRequest":
            known["needs"] = _with_answer(f"asks for permission: {tool_words(event)}")
        case "Notification":
            _notified(known, event)
        case "Stop":
            _turn_ends(known, event, folder)
            is_open = has_question or event.get("background_tasks") or event.get("session_crons")
            known["turnEnded"] = None if is_open else True
            known["again"] = _sign_of_going_on(words(event.get("transcript_path")))
            known["background"] = len(listing(event.get("background_tasks"))) or None
        case "StopFailure":
            _turn_ends(known, event, folder)
            _fails(known, event)
            known["turnEnded"] = True
        case "SessionEnd":
            _goes_on(known)
            # At the end of a turn its last answer may not be in the transcript yet.
            known |= usage_of_transcript(words(event.get("transcript_path")), folder)


def tool_words(event: "dict[str, Any]") -> str:
    """A tool call in words: the tool, and what it is about."""
    given = mapping(event.get("tool_input"))
    name = first_words(event.get("tool_name"), "a tool")
    about = first_words(*(given.get(field) for field in _NAMED_BY))
    return one_line(f"{name}: {about}" if about else name)


def _tool_begins(known: "dict[str, Any]", event: "dict[str, Any]") -> None:
    _goes_on(known)
    known["turnEnded"] = None
    known["tool"], known["toolId"] = tool_words(event), words(event.get("tool_use_id"))
    if event.get("tool_name") == _QUESTION_TOOL:
        asked = listing(mapping(event.get("tool_input")).get("questions"))
        text = "; ".join(words(mapping(question).get("question")) for question in asked)
        known["needs"] = _with_answer(f"asks: {one_line(text, _WORDS_CHARACTERS)}")


def _notified(known: "dict[str, Any]", event: "dict[str, Any]") -> None:
    """It shows a dialog, or has waited a minute for a prompt."""
    message = one_line(words(event.get("message")), _WORDS_CHARACTERS)
    kind = event.get("notification_type")
    said_better = str(known.get("needs")).startswith("asks")  # it names what is asked for
    if kind in _ASKS and not said_better:
        about = f": {known['tool']}" if known.get("tool") else ""
        known["needs"] = _with_answer(f"{message or 'it asks something'}{about}")
    elif kind == "idle_prompt" and known.get("turnEnded") is None and known.get("needs") is None:
        tasks = known.get("background")
        why = f"its turn has ended, but {tasks} background tasks of it run on" if tasks else message
        known["needs"] = _with_answer(why or "it waits for a prompt")


def _goes_on(known: "dict[str, Any]") -> None:
    known["needs"] = None


def _turn_ends(known: "dict[str, Any]", event: "dict[str, Any]", folder: str) -> None:
    _goes_on(known)
    known["tool"] = known["toolId"] = None
    known["turns"] = int(known.get("turns") or 0) + 1
    said = words(event.get("last_assistant_message")).strip()
    if said:
        known["lastWords"] = cut(said, _LAST_WORDS_CHARACTERS)
    known |= usage_of_transcript(words(event.get("transcript_path")), folder)


def _sign_of_going_on(transcript: str) -> "dict[str, Any] | None":
    """How the runner can see that a hook of the person's own did not let the turn end."""
    try:
        size = os.stat(transcript).st_size
    except OSError:
        return None
    return {"path": transcript, "from": size, "text": _NOT_LET_END}


def _fails(known: "dict[str, Any]", event: "dict[str, Any]") -> None:
    """The service failed, or the account's limit was hit: told apart as in the agent's output."""
    from gangline.agents.readers.causes import is_usage_limit, kind_of  # noqa: PLC0415 - seldom
    from gangline.agents.readers.reset import parse_reset  # noqa: PLC0415 - seldom

    error = words(event.get("error"))
    text = first_words(
        event.get("last_assistant_message"), event.get("error_details"), error, "it failed"
    )
    text = one_line(text, _WORDS_CHARACTERS)
    known["failure"], known["failureKind"] = text, kind_of(f"{text} {error}")
    if is_usage_limit(text):
        now = time.time()
        offset = time.localtime(now).tm_gmtoff
        known |= {"failureKind": "limit", "limited": True, "limitText": text}
        known["limitedUntil"] = parse_reset(text, now, offset)


def _with_answer(text: str) -> str:
    """The text, and how a person can answer: what an attempt's environment names."""
    area, issue = os.environ.get("GANGLINE_AREA"), os.environ.get("GANGLINE_ISSUE")
    return f"{text} (to answer: gangline attach {area} {issue})" if area and issue else text
