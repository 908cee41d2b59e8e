"""Codex: `codex exec --json`, one event a line.

Field names after the type declarations that OpenAI publishes with its SDK, and recorded outputs
(tests/agents/recorded/codex). What is to be known of it: an `error` event may only announce that
it connects again, the last one before `turn.failed` is the cause, and a sandbox that refuses a
commit is seen in the commands' output only, with exit code 0. A patch that the sandbox and the
approval settings refuse is no event either: a line of its log tells it, on stderr.
"""

from gangline.agents.readers import account
from gangline.agents.readers.fields import (
    count,
    first_words,
    listing,
    mapping,
    text_of,
    words,
)
from gangline.agents.readers.reading import Reader, parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ROUTER, _REFUSED = "codex_core::tools::router:", "rejected by user approval settings"
_EDIT_SIGNS = {"add": "", "delete": " (deleted)", "update": ""}


class CodexReader(Reader):
    """Reads `codex exec --json`."""

    def _event(self, event: "dict[str, Any]") -> str | None:
        kind = event["type"]
        item = mapping(event.get("item"))
        if kind == "item.started":
            return self._started(item)
        if kind == "item.completed":
            return self._completed(item)
        if kind == "item.updated":
            self._goes_on()
            return ""
        if kind == "thread.started":
            new = self._seen_session(event.get("thread_id"))
            return account.noted("·", f"session {self.progress.session}") if new else ""
        if kind == "turn.started":
            self._is_over = False
            return ""
        if kind == "turn.completed":
            return self._turn_completed(mapping(event.get("usage")))
        if kind == "turn.failed":
            self._end_calls()
            self._fail(_message(mapping(event.get("error"))) or "the turn failed")
            return ""
        if kind == "error":
            return self._error(_message(event))
        return None

    def _text(self, text: str) -> str:
        refused = text.partition(" error=")[2]
        if _REFUSED in refused and _ROUTER in text:
            self._denied.append(account.one_line(refused.partition("; ")[0], 100))
        return super()._text(text)

    def _error(self, message: str) -> str:
        """An error of the stream: either it connects again, or `turn.failed` follows."""
        if message.startswith("Reconnecting"):
            return self._retries(message)
        self._fail(message or "an error without a message")
        return account.noted("✗", message)

    def _turn_completed(self, usage: "dict[str, Any]") -> str:
        """Take the thread's tokens so far, which is what the event holds; cached ones are in."""
        self._is_over = True
        self._end_calls()
        self._well()
        progress = self.progress
        progress.input_tokens = max(progress.input_tokens, count(usage.get("input_tokens")))
        progress.output_tokens = max(progress.output_tokens, count(usage.get("output_tokens")))
        return ""

    # -- items -----------------------------------------------------------------------------

    def _started(self, item: "dict[str, Any]") -> str | None:
        tool = _tool(item)
        if tool is None:
            return ""
        self._well()
        self._begin_call(words(item.get("id")), tool)
        return account.called(tool)

    def _completed(self, item: "dict[str, Any]") -> str | None:
        kind = item.get("type")
        key = words(item.get("id"))
        was_shown = key in self._calls
        self._end_call(key)
        if kind == "error":  # one that does not end the turn
            return account.noted("·", _message(item))
        self._well()
        if kind == "agent_message":
            return self._said(words(item.get("text")))
        if kind == "file_change":
            return self._file_change(item)
        tool = _tool(item)
        if tool is None:
            return ""
        shown = "" if was_shown else account.called(tool)
        if item.get("status") == "declined":
            self._denied.append(tool)
            return shown + account.noted("✗", "denied")
        return shown + _answer(item)

    def _file_change(self, item: "dict[str, Any]") -> str:
        shown = ""
        for change in map(mapping, listing(item.get("changes"))[:20]):
            path = account.shortened_path(words(change.get("path")), self._cwd)
            shown += account.edited(path + _EDIT_SIGNS.get(words(change.get("kind")), ""))
        failed = item.get("status") == "failed"
        return shown + (account.answered("", failed=True) if failed else "")


def _tool(item: "dict[str, Any]") -> str | None:
    """The call that an item is, in words; None if it is none."""
    kind = words(item.get("type"))
    if kind == "command_execution":
        return f"Bash: {account.shell_words(words(item.get('command')))}"
    if kind == "mcp_tool_call":
        return f"{words(item.get('server'))}: {words(item.get('tool'))}"
    if kind == "web_search":
        return f"search: {words(item.get('query'))}"
    if kind in {"collab_tool_call", "collab_agent_tool_call"}:
        return first_words(item.get("tool"), "agent")
    return None


def _answer(item: "dict[str, Any]") -> str:
    failed = item.get("status") == "failed"
    text = first_words(
        item.get("aggregated_output"),
        mapping(item.get("error")).get("message"),
        text_of(mapping(item.get("result")).get("content")),
    )
    return account.answered(text, failed=failed, code=count(item.get("exit_code")) or None)


def _message(event: "dict[str, Any]") -> str:
    """The message of an error; the service's own JSON, where it is one, opened."""
    text = words(event.get("message")).strip()
    inner = mapping(parse_object(text))
    error = mapping(inner.get("error"))
    return first_words(error.get("message"), inner.get("detail"), inner.get("message"), text)


READER = CodexReader
