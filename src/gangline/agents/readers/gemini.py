"""Gemini CLI (doc): `-o json`, one indented object at the end, or `-o stream-json`, events.

Written after its documentation and its published types, not after recorded outputs. The object
stands in lines of its own, from `{` to `}`; errors are printed in the same form on stderr.
"""

from gangline.agents.readers import account
from gangline.agents.readers.causes import kind_of
from gangline.agents.readers.fields import count, first_words, mapping, words
from gangline.agents.readers.reading import LINE_BYTES_MAX, Reader, parse_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_NAMED_BY = (
    "command", "file_path", "absolute_path", "path", "dir_path", "pattern", "query", "prompt",
    "description",
)  # fmt: skip
_EDITS = frozenset({"edit", "replace", "write_file"})
_AUTH_CODES = frozenset({41, 145})  # FatalAuthenticationError; the HTTP status 401, cut to a byte
_SPEECH_CHARACTERS_MAX = 20_000


class GeminiReader(Reader):
    """Reads both JSON formats of Gemini CLI."""

    def __init__(
        self, *, cwd: str | None = None, clock: "Callable[[], float] | None" = None
    ) -> None:
        super().__init__(cwd=cwd, clock=clock)
        self._document: list[str] | None = None
        self._document_size = 0
        self._speech = ""  # what it says comes in pieces

    def _read(self, text: str) -> str:
        if self._document is None and text == "{":
            self._document, self._document_size = [], 0
        if self._document is None:
            found = parse_object(text)
            if found is not None and not isinstance(found.get("type"), str):
                return self._object(found)
            return super()._read(text)
        self._document_size += len(text)
        if self._document_size <= LINE_BYTES_MAX:
            self._document.append(text)
        if text != "}":
            return ""
        lines, self._document = self._document, None
        found = parse_object("\n".join(lines))
        return account.other(" ".join(lines)) if found is None else self._object(found)

    def _text(self, text: str) -> str:
        if "Retrying" in text and text.startswith("Attempt "):
            return self._retries(text)
        return super()._text(text)

    def _last_lines(self) -> str:
        lines, self._document = self._document, None
        torn = "".join(account.other(line) for line in (lines or [])[:20])
        return self._flush() + torn

    # -- the object ------------------------------------------------------------------------

    def _object(self, found: "dict[str, Any]") -> str:
        """The one object of `-o json`."""
        error = mapping(found.get("error"))
        if not error and "response" not in found:
            return ""
        self.progress.events += 1
        self._seen_session(found.get("session_id"))
        for model in mapping(mapping(found.get("stats")).get("models")).values():
            tokens = mapping(mapping(model).get("tokens"))
            self.progress.input_tokens += count(tokens.get("prompt"))
            self.progress.output_tokens += count(tokens.get("candidates"))
            self.progress.output_tokens += count(tokens.get("thoughts"))
        if error:
            self._failed(error)
            return ""
        self._is_over = True
        self._well()
        return self._said(words(found.get("response")))

    def _failed(self, error: "dict[str, Any]") -> None:
        why = first_words(error.get("message"), error.get("type"))
        kind = kind_of(f"{why} {words(error.get('type'))}")
        if kind == "error" and count(error.get("code")) in _AUTH_CODES | {401, 403}:
            kind = "auth"
        self._fail(why or "an error without a message", kind)

    # -- the events ------------------------------------------------------------------------

    def _event(self, event: "dict[str, Any]") -> str | None:
        kind = event["type"]
        if kind == "message":
            return self._message(event)
        shown = self._flush()
        if kind == "init":
            self._seen_session(event.get("session_id"))
            model = words(event.get("model"))
            return shown + account.noted("·", f"{model}, session {self.progress.session}")
        if kind == "tool_use":
            return shown + self._tool_use(event)
        if kind == "tool_result":
            return shown + self._tool_result(event)
        if kind == "error":
            why = words(event.get("message"))
            if event.get("severity") != "warning":
                self._fail(why or "an error without a message")
            return shown + account.noted("✗", why)
        if kind == "result":
            return shown + self._result(event)
        return shown or None

    def _message(self, event: "dict[str, Any]") -> str:
        if event.get("role") != "assistant":
            return ""
        self._well()
        self._speech = (self._speech + words(event.get("content")))[:_SPEECH_CHARACTERS_MAX]
        return "" if event.get("delta") is True else self._flush()

    def _flush(self) -> str:
        speech, self._speech = self._speech, ""
        return self._said(speech)

    def _tool_use(self, event: "dict[str, Any]") -> str:
        self._goes_on()
        name = words(event.get("tool_name")) or "a tool"
        given = mapping(event.get("parameters"))
        what = account.shortened_path(first_words(*map(given.get, _NAMED_BY)), self._cwd)
        tool = f"{name}: {what}" if what else name
        self._begin_call(words(event.get("tool_id")), tool)
        return account.edited(what) if name in _EDITS and what else account.called(tool)

    def _tool_result(self, event: "dict[str, Any]") -> str:
        self._goes_on()
        self._end_call(words(event.get("tool_id")))
        text = first_words(event.get("output"), mapping(event.get("error")).get("message"))
        return account.answered(text, failed=event.get("status") == "error")

    def _result(self, event: "dict[str, Any]") -> str:
        stats = mapping(event.get("stats"))
        self.progress.input_tokens = count(stats.get("input_tokens"))
        self.progress.output_tokens = count(stats.get("output_tokens"))
        self._end_calls()
        self._is_over = True
        if event.get("status") == "error":
            self._failed(mapping(event.get("error")))
        return ""

    def _settle(self, code: int | None) -> None:
        if code in _AUTH_CODES and self.progress.failure is None:
            self._fail(f"exit code {code}: {self._last_text or 'not logged in'}", "auth")
        super()._settle(code)


READER = GeminiReader
