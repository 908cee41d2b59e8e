"""GitHub Copilot CLI (doc): `--output-format json`, one event a line.

Written after the event types that GitHub publishes with its SDK and descriptions of others, not
after recorded outputs. Every event but the last holds its fields in `data`. It names its cost in
premium requests, which is not money, so no cost is known.
"""

from gangline.agents.readers import account
from gangline.agents.readers.causes import kind_of, kind_of_status
from gangline.agents.readers.fields import count, first_words, mapping, words
from gangline.agents.readers.reading import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAMED_BY = ("command", "path", "file_path", "pattern", "query", "url", "description", "prompt")
_EDITS = frozenset({"create", "edit", "str_replace_editor", "apply_patch"})
_QUIET = _EDITS | {"report_intent", "view"}
_ERROR_KINDS = {
    "authentication": "auth",
    "authorization": "auth",
    "quota": "limit",
    "query": "api",
    "rate_limit": "api",
}
_SILENT = frozenset({
    "assistant.idle", "assistant.message_delta", "assistant.reasoning", "assistant.turn_end",
    "assistant.turn_start", "session.usage_checkpoint", "tool.execution_partial_result",
    "tool.execution_progress", "user.message",
})  # fmt: skip


class CopilotReader(Reader):
    """Reads Copilot CLI."""

    def _event(self, event: "dict[str, Any]") -> str | None:
        kind = event["type"]
        data = mapping(event.get("data"))
        if kind == "assistant.message":
            return self._message(data)
        if kind == "tool.execution_start":
            return self._tool_start(data)
        if kind == "tool.execution_complete":
            return self._tool_complete(data)
        if kind in {"session.start", "session.resume"}:
            new = self._seen_session(data.get("sessionId"))
            return account.noted("·", f"session {self.progress.session}") if new else ""
        if kind == "assistant.usage":
            self.progress.input_tokens += count(data.get("inputTokens"))
            return ""
        if kind == "session.shutdown":
            return self._shutdown(data)
        if kind == "session.error":
            return self._error(data)
        if kind == "model.call_failure":
            status, why = count(data.get("statusCode")), words(data.get("errorMessage"))
            return self._retries(f"{status or ''} {why or 'the model did not answer'}".strip())
        if kind in {"user_input.requested", "permission.requested"}:
            return self._needs(kind, data)
        if kind in {"user_input.completed", "permission.completed"}:
            return self._answered(mapping(data.get("result")))
        if kind == "session.task_complete":
            return self._said(words(data.get("summary")))
        return self._result(event) if kind == "result" else "" if kind in _SILENT else None

    def _message(self, data: "dict[str, Any]") -> str:
        self._well()
        self.progress.output_tokens += count(data.get("outputTokens"))
        return self._said(words(data.get("content")), "  " if data.get("parentToolCallId") else "")

    def _tool_start(self, data: "dict[str, Any]") -> str:
        self._goes_on()
        name = words(data.get("toolName")) or "a tool"
        given = mapping(data.get("arguments"))
        what = account.shortened_path(first_words(*map(given.get, _NAMED_BY)), self._cwd)
        tool = f"{name}: {what}" if what else name
        self._begin_call(words(data.get("toolCallId")), tool)
        if name == "report_intent":
            return ""
        return account.edited(what) if name in _EDITS and what else account.called(tool)

    def _tool_complete(self, data: "dict[str, Any]") -> str:
        self._goes_on()
        key = words(data.get("toolCallId"))
        tool = self._calls.get(key, "a tool")
        self._end_call(key)
        error = mapping(data.get("error"))
        if data.get("success") is False:
            if words(error.get("code")) in {"denied", "rejected"}:
                self._denied.append(tool)
            return account.answered(words(error.get("message")), failed=True)
        if tool.partition(":")[0] in _QUIET:
            return ""
        result = mapping(data.get("result"))
        return account.answered(first_words(result.get("content"), result.get("detailedContent")))

    def _needs(self, kind: str, data: "dict[str, Any]") -> str:
        if data.get("resolvedByHook") is True:
            return ""
        if kind == "user_input.requested":
            what = f"an answer: {words(data.get('question'))}"
        else:
            request = mapping(data.get("permissionRequest"))
            asked = first_words(
                request.get("fullCommandText"), request.get("intention"), request.get("kind")
            )
            what = f"permission: {asked}"
        self.progress.needs = account.one_line(what)
        return account.noted("?", what)

    def _answered(self, result: "dict[str, Any]") -> str:
        self._goes_on()
        if words(result.get("kind")).startswith("denied"):
            self._denied.append(self.progress.tool or "a tool")
            return account.noted("✗", "denied")
        return ""

    def _error(self, data: "dict[str, Any]") -> str:
        why = first_words(data.get("message"), data.get("errorCode"), data.get("errorType"))
        kind = _ERROR_KINDS.get(words(data.get("errorType"))) or kind_of(why)
        if kind == "error":
            kind = kind_of_status(count(data.get("statusCode")))
        if kind == "limit":
            self._limit(why)
        self._fail(why or "an error without a message", kind)
        return account.noted("✗", why)

    def _shutdown(self, data: "dict[str, Any]") -> str:
        """Take the final figures by model; its input tokens hold the cached ones."""
        usages = [
            mapping(mapping(model).get("usage"))
            for model in mapping(data.get("modelMetrics")).values()
        ]
        read = sum(count(usage.get("inputTokens")) for usage in usages)
        written = sum(count(usage.get("outputTokens")) for usage in usages)
        if read or written:
            self.progress.input_tokens, self.progress.output_tokens = read, written
        if data.get("shutdownType") == "error":
            self._fail(first_words(data.get("errorReason"), "it shut down with an error"))
        return ""

    def _result(self, event: "dict[str, Any]") -> str:
        fields = mapping(event.get("data")) or event
        self._seen_session(fields.get("sessionId"))
        self._is_over = True
        self._end_calls()
        code = count(fields.get("exitCode"))
        if code and self.progress.failure is None:
            self._fail(f"its result is exit code {code}", None)
        return ""


READER = CopilotReader
