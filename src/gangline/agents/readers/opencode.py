"""OpenCode: `opencode run --format json --print-logs --log-level ERROR`, one event a line.

Fields as in recorded outputs (tests/agents/recorded/opencode). A tool call is told when it has
ended, so none is ever in flight here; tokens and cost come with each step. A cost of 0 is what it
says of every model whose price it does not know, so it counts as not said.

It tries its service again for ever, and no event tells of it: only its log does, on stderr, which
is why the log is asked for. A line of it is `timestamp=… level=… message="…" key=value …`.
"""

from gangline.agents.readers import account
from gangline.agents.readers.causes import is_usage_limit, kind_of, kind_of_status
from gangline.agents.readers.fields import (
    amount,
    count,
    first_words,
    mapping,
    words,
)
from gangline.agents.readers.reading import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NAMED_BY = ("command", "filePath", "path", "pattern", "query", "url", "description", "name")
_EDITS = frozenset({"apply_patch", "edit", "multiedit", "patch", "write"})
_QUIET = _EDITS | {"read", "todowrite"}
# Two that are run for the first time at the same time do that to each other.
_REFUSED = "its database refused a query; was another one started at the same time?"
_ENDS = {
    "content-filter": "the model refused",
    "error": "the step ended with an error",
    "length": "it ran into the limit of its output",
}


class OpenCodeReader(Reader):
    """Reads `opencode run --format json`."""

    def _event(self, event: "dict[str, Any]") -> str | None:
        kind = event["type"]
        part = mapping(event.get("part"))
        new = self._seen_session(first_words(event.get("sessionID"), part.get("sessionID")))
        shown = account.noted("·", f"session {self.progress.session}") if new else ""
        if kind == "text":
            self._goes_on()
            return shown + self._said(words(part.get("text")))
        if kind == "tool_use":
            return shown + self._tool(part)
        if kind == "step_start":
            self._is_over = False
            return shown
        if kind == "step_finish":
            return shown + self._step(part)
        if kind == "error":
            return shown + self._error(mapping(event.get("error")))
        return shown if kind == "reasoning" else None

    def _text(self, text: str) -> str:
        if text.strip() == "Failed query:":
            self._cause = ("error", _REFUSED)
        if not (text.startswith("timestamp=") and " level=" in text[:60]):
            return super()._text(text)
        if 'message="stream error"' not in text:
            return super()._text(text) if "level=ERROR" in text[:60] else ""
        if " small=true" in text:  # the title of the session, which nobody waits for
            return ""
        self.progress.events += 1
        self._seen_session(text.partition(" session.id=")[2].partition(" ")[0])
        why = text.partition(' error.error="')[2].removesuffix('"').replace('\\"', '"')
        why = account.one_line(why.partition(" (cause:")[0], 300) or "its service did not answer"
        if is_usage_limit(why):
            self._limit(why)
        return self._retries(why)

    def _tool(self, part: "dict[str, Any]") -> str:
        self._goes_on()
        state = mapping(part.get("state"))
        given = mapping(state.get("input"))
        name = words(part.get("tool")) or "a tool"
        what = account.shortened_path(first_words(*map(given.get, _NAMED_BY)), self._cwd)
        tool = f"{name}: {what}" if what else name
        status = words(state.get("status"))
        if status in {"pending", "running"}:
            self._begin_call(words(part.get("callID")), tool)
            return ""
        self._end_call(words(part.get("callID")))
        shown = account.edited(what) if name in _EDITS and what else account.called(tool)
        if status == "error":
            why = words(state.get("error"))
            if kind_of(why) == "permission":
                self._denied.append(account.one_line(tool, 100))
            return shown + account.answered(why, failed=True)
        code = count(mapping(state.get("metadata")).get("exit"))
        if name in _QUIET and not code:
            return shown
        return shown + account.answered(words(state.get("output")), code=code or None)

    def _step(self, part: "dict[str, Any]") -> str:
        """The end of an answer of the model, with what it used."""
        tokens = mapping(part.get("tokens"))
        cache = mapping(tokens.get("cache"))
        progress = self.progress
        progress.input_tokens += (
            count(tokens.get("input")) + count(cache.get("read")) + count(cache.get("write"))
        )
        progress.output_tokens += count(tokens.get("output")) + count(tokens.get("reasoning"))
        cost = amount(part.get("cost"))
        if cost:
            progress.cost_usd = (progress.cost_usd or 0.0) + cost
        reason = words(part.get("reason"))
        if reason in _ENDS:
            self._fail(_ENDS[reason], "error")
        else:
            self._well()
        self._is_over = reason != "tool-calls"
        return ""

    def _error(self, error: "dict[str, Any]") -> str:
        data = mapping(error.get("data"))
        why = first_words(data.get("message"), error.get("message"), error.get("name"))
        kind = kind_of(why)
        if kind == "error":
            status = count(data.get("statusCode"))
            kind = kind_of_status(status) if status else kind_of(words(error.get("name")))
        self._fail(why or "an error without a message", kind)
        return account.noted("✗", why)


READER = OpenCodeReader
