"""Claude Code: `--output-format stream-json --verbose`, one event a line.

Field names after the type declarations that Anthropic publishes with its Agent SDK, and recorded
outputs (tests/agents/recorded/claude). What is to be known of it: exit code 0 does not mean success
(denied permissions end with it), the tokens of an `assistant` event are not final, and an answer
comes as several events with the same message id, a block of content each.
"""

from gangline.agents.readers import account
from gangline.agents.readers.causes import is_usage_limit, kind_of, kind_of_status
from gangline.agents.readers.fields import (
    amount,
    count,
    first_words,
    is_amount,
    listing,
    mapping,
    text_of,
    words,
)
from gangline.agents.readers.reading import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NAMED_BY = (
    "command", "file_path", "notebook_path", "path", "absolute_path", "pattern", "query", "url",
    "skill", "subject", "description", "prompt",
)  # fmt: skip
_EDITS = frozenset({
    "Edit", "MultiEdit", "NotebookEdit", "Write", "edit", "replace", "write_file",
})  # fmt: skip
_QUIET = _EDITS | {"Read", "TodoWrite", "read_file", "read_many_files", "todo_write"}
# The error of an `assistant` event and of `system/api_retry`.
_ERROR_KINDS = {
    "account_on_hold": "auth",
    "authentication_failed": "auth",
    "cloud_credential_error": "auth",
    "oauth_org_not_allowed": "auth",
    "verification_required": "auth",
    "billing_error": "api",
    "invalid_request": "api",
    "model_not_found": "api",
    "overloaded": "api",
    "rate_limit": "api",
    "server_error": "api",
    "unknown": "api",
}
_ENDS = {
    "error_max_turns": "it reached its limit of turns",
    "error_max_budget_usd": "it reached its budget",
    "error_during_execution": "an error while it ran",
    "error_max_structured_output_retries": "it did not give the output that was asked for",
}
_STARTUP_KINDS = {"session_held_by_background": "session-in-use"}
_MILLISECONDS_FROM = 10**11


class ClaudeReader(Reader):
    """Reads Claude Code; Qwen's format is made after it."""

    def __init__(
        self, *, cwd: str | None = None, clock: "Callable[[], float] | None" = None
    ) -> None:
        super().__init__(cwd=cwd, clock=clock)
        self._is_introduced = False
        self._message = ""  # the id of the answer that the counted tokens belong to
        self._message_tokens = (0, 0)
        self._quiet: set[str] = set()

    def _event(self, event: "dict[str, Any]") -> str | None:
        kind = event["type"]
        if kind == "system":
            return self._system(event)
        if kind == "assistant":
            return self._assistant(event)
        if kind == "user":
            return self._user(event)
        if kind == "result":
            return self._result(event)
        if kind == "rate_limit_event":
            return self._rate_limit(mapping(event.get("rate_limit_info")))
        if kind == "auth_status":
            return self._auth_status(event)
        return "" if kind in {"stream_event", "tool_progress", "keep_alive"} else None

    def _system(self, event: "dict[str, Any]") -> str | None:
        subtype = words(event.get("subtype"))
        if subtype == "init":
            self._seen_session(event.get("session_id"))
            self._cwd = first_words(event.get("cwd")) or self._cwd
            if self._is_introduced:
                return ""
            self._is_introduced = True
            parts = (words(event.get("model")), f"session {self.progress.session}")
            return account.noted("·", ", ".join(part for part in parts if part))
        if subtype == "api_retry":
            status = count(event.get("error_status"))
            error = words(event.get("error")).replace("_", " ")
            error = error if status or error not in {"", "unknown"} else "no answer"
            limit = count(event.get("max_retries"))
            return self._retries(
                f"{status or ''} {error}, attempt {count(event.get('attempt'))}".strip()
                + (f" of {limit}" if limit else "")
            )
        if subtype == "permission_denied":
            self._denied.append(words(event.get("tool_name")) or "a tool")
            return account.noted("✗", f"denied: {words(event.get('message'))}")
        return "" if subtype in {"status", "thinking_tokens", "compact_boundary"} else None

    def _auth_status(self, event: "dict[str, Any]") -> str:
        if event.get("isAuthenticating") is not True:
            self.progress.needs = None
            return ""
        said = " ".join(words(line) for line in listing(event.get("output")))
        self.progress.needs = account.one_line(f"log in: {said}" if said else "log in")
        return account.noted("?", self.progress.needs)

    def _rate_limit(self, info: "dict[str, Any]") -> str:
        """A limit that is reached while paid usage goes on above it stops nothing."""
        status = words(info.get("status"))
        if status != "rejected" or info.get("isUsingOverage") is True:
            if status in {"allowed", "allowed_warning"}:
                self._clear_limit()
            return ""
        at = amount(info.get("resetsAt"))
        at = at / 1000 if at > _MILLISECONDS_FROM else at
        kind = words(info.get("rateLimitType")).replace("_", " ")
        self._limit(f"usage limit reached{f' ({kind})' if kind else ''}", at or None)
        return account.noted("↻", "the usage limit is reached")

    # -- the conversation ------------------------------------------------------------------

    def _assistant(self, event: "dict[str, Any]") -> str:
        message = mapping(event.get("message"))
        indent = "  " if event.get("parent_tool_use_id") else ""
        self._seen_session(event.get("session_id"))
        text = text_of(message.get("content")).strip()
        error = words(event.get("error"))
        if error or self._is_error(message, text):
            shown = self._said(text, indent)
            if not indent:
                self._fail(text or error, _ERROR_KINDS.get(error))
            return shown
        if not indent:
            self._well()
        self._count(message)
        shown = self._said(text, indent)
        for block in map(mapping, listing(message.get("content"))):
            if block.get("type") == "tool_use":
                shown += self._call(block, indent)
        return shown

    def _is_error(self, message: "dict[str, Any]", text: str) -> bool:
        """Whether the program itself put this into the model's mouth, as older versions did."""
        return message.get("model") == "<synthetic>" and (
            text.startswith("API Error") or is_usage_limit(text)
        )

    def _count(self, message: "dict[str, Any]") -> None:
        """Add what an answer used, once an answer."""
        usage = mapping(message.get("usage"))
        now = (self._input_of(usage), count(usage.get("output_tokens")))
        key = words(message.get("id"))
        if not key or key != self._message:
            self._message, self._message_tokens = key, (0, 0)
        self.progress.input_tokens += max(0, now[0] - self._message_tokens[0])
        self.progress.output_tokens += max(0, now[1] - self._message_tokens[1])
        self._message_tokens = (
            max(now[0], self._message_tokens[0]), max(now[1], self._message_tokens[1]),
        )  # fmt: skip

    def _call(self, block: "dict[str, Any]", indent: str) -> str:
        name = words(block.get("name")) or "a tool"
        given = mapping(block.get("input"))
        what = account.shortened_path(first_words(*map(given.get, _NAMED_BY)), self._cwd)
        key = words(block.get("id"))
        self._begin_call(key, f"{name}: {what}" if what else name)
        if name in _QUIET:
            self._quiet.add(key)
        if name in _EDITS and what:
            return account.edited(what, indent)
        return account.called(f"{name}: {what}" if what else name, indent)

    def _user(self, event: "dict[str, Any]") -> str:
        """The answers to tool calls; what a person or the prompt said is known already."""
        message = mapping(event.get("message"))
        indent = "  " if event.get("parent_tool_use_id") else ""
        shown = ""
        for block in map(mapping, listing(message.get("content"))):
            if block.get("type") != "tool_result":
                continue
            key = words(block.get("tool_use_id"))
            failed = block.get("is_error") is True
            self._goes_on()
            self._end_call(key)
            if failed or key not in self._quiet:
                text = text_of(block.get("content"))
                shown += account.answered(text, failed=failed, indent=indent)
            self._quiet.discard(key)
        return shown

    def _input_of(self, usage: "dict[str, Any]") -> int:
        """All input tokens of a usage; the cached ones stand beside the others here."""
        return sum(
            count(usage.get(name))
            for name in (
                "input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens",
                "inputTokens", "cacheCreationInputTokens", "cacheReadInputTokens",
            )
        )  # fmt: skip

    # -- the end ---------------------------------------------------------------------------

    def _result(self, event: "dict[str, Any]") -> str:
        """The end of a turn; of several, the last one counts."""
        self._seen_session(event.get("session_id"))
        self._end_calls()
        self._is_over = True
        self._total(event)
        self._denied = [
            account.one_line(_denial(mapping(one)), 100)
            for one in listing(event.get("permission_denials"))[:20]
        ]
        subtype = words(event.get("subtype"))
        text = words(event.get("result")).strip()
        errors = "; ".join(words(one) for one in listing(event.get("errors")) if words(one))
        if event.get("is_error") is True or subtype.startswith("error"):
            self._failed(event, first_words(text, errors, _reason(event)), subtype)
            return ""
        if event.get("stop_reason") == "refusal":
            self._fail("the model refused", "error")
            return ""
        if text and text != self.progress.last_words and not self._is_failed_text(text):
            self.progress.last_words = account.cut(text, 2000)
        if self._is_failed_text(text):
            self._fail(text)
        else:
            self._well()
        return ""

    def _is_failed_text(self, text: str) -> bool:
        """Whether the result, said to be a success, is an error."""
        return False

    def _failed(self, event: "dict[str, Any]", why: str, subtype: str) -> None:
        if words(event.get("terminal_reason")).startswith("aborted"):
            self._fail("it was interrupted", "error")
        status = count(event.get("api_error_status"))
        kind = _STARTUP_KINDS.get(words(event.get("startup_failure_reason")))
        if kind is None:
            kind = kind_of(why)
            if kind == "error" and status:
                kind = kind_of_status(status)
        self._fail(why or _ENDS.get(subtype) or subtype or "it ended with an error", kind)

    def _total(self, event: "dict[str, Any]") -> None:
        """Take the final figures: by model they hold every call, `usage` only the main loop's."""
        models = [mapping(model) for model in mapping(event.get("modelUsage")).values()]
        usage = mapping(event.get("usage"))
        read = sum(map(self._input_of, models)) or self._input_of(usage)
        written = sum(count(model.get("outputTokens")) for model in models)
        written = written or count(usage.get("output_tokens"))
        if read or written:
            self.progress.input_tokens, self.progress.output_tokens = read, written
        if is_amount(event.get("total_cost_usd")):
            self.progress.cost_usd = amount(event.get("total_cost_usd"))


def _denial(denial: "dict[str, Any]") -> str:
    name = words(denial.get("tool_name")) or "a tool"
    what = first_words(*map(mapping(denial.get("tool_input")).get, _NAMED_BY))
    return f"{name}: {what}" if what else name


def _reason(event: "dict[str, Any]") -> str:
    return first_words(event.get("error"), mapping(event.get("error")).get("message"))


READER = ClaudeReader
