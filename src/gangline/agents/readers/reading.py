"""What all readers share: the lines of a stream, what is known so far, and how it is settled.

Output comes in pieces that end anywhere. A reader sees whole lines only, so what it knows never
depends on where the pieces ended; the simulation of this is in tests/unit/agents.
"""

import time

from gangline.agents.readers import account
from gangline.agents.readers.causes import asks_for_login, is_usage_limit, kind_of
from gangline.agents.readers.fields import words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LINE_BYTES_MAX = 1_000_000
_LAST_WORDS_CHARACTERS = 2000
_SESSION_CHARACTERS = 200
_WORDS_CHARACTERS = 300
_CALLS_MAX = 64
# Codes with which agents end when they got HUP or TERM: the attempt died, which is no failure of
# the agent's (DESIGN.md section 4).
_ENDED_BY_SIGNAL = (129, 143)


class Progress:
    """What is known of an agent's run so far; the reader changes it in place.

    Attributes:
        session: The agent's own session or thread id, as soon as it is seen.
        input_tokens: Tokens read so far in this run, those read from and written to a cache
            included. What an agent says only at its end is not in it before.
        output_tokens: Tokens written so far in this run, those of its thinking included.
        cost_usd: What the run has cost so far, only where the agent says it.
        tool: A tool call in flight, in words; None between calls. After the end: the call that
            was never answered.
        retrying: The agent itself is retrying its service, in words; None after the next good
            event.
        limited: The service's usage limit was hit, and nothing went well since.
        limited_until: When it ends, in epoch seconds, where the agent says it.
        limit_text: What the agent said of it.
        needs: It waits for a person: for what, in words.
        failure: Why it did not succeed, also where the exit code is 0; the first cause.
        failure_kind: `permission`, `auth`, `limit`, `api`, `no-session`, `session-in-use` or
            `error`.
        last_words: The agent's last message, at most 2,000 characters.
        events: How many events were understood; 0 at the end means that the output was not in
            the format that was expected.
    """

    __slots__ = (
        "cost_usd", "events", "failure", "failure_kind", "input_tokens", "last_words",
        "limit_text", "limited", "limited_until", "needs", "output_tokens", "retrying", "session",
        "tool",
    )  # fmt: skip

    def __init__(self) -> None:
        self.session: str | None = None
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_usd: float | None = None
        self.tool: str | None = None
        self.retrying: str | None = None
        self.limited = False
        self.limited_until: float | None = None
        self.limit_text: str | None = None
        self.needs: str | None = None
        self.failure: str | None = None
        self.failure_kind: str | None = None
        self.last_words: str | None = None
        self.events = 0

    def as_dict(self) -> "dict[str, Any]":
        """What is set, by its name in camelCase, as JSON values; `events` always."""
        known: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if name == "events" or (value is not None and value is not False and value != 0):
                first, *rest = name.split("_")
                known[first + "".join(part.capitalize() for part in rest)] = value
        if self.cost_usd is not None:
            known["costUsd"] = self.cost_usd
        return known


class Reader:
    """Reads one agent's output; a format overrides `_event`, and `_text` where it must.

    Attributes:
        progress: What is known so far, changed in place.
    """

    # Whether the format says when a run is over; an exit without it, code 0 or not, is a failure.
    _says_its_end = True

    def __init__(
        self, *, cwd: str | None = None, clock: "Callable[[], float] | None" = None
    ) -> None:
        self.progress = Progress()
        self._cwd = cwd
        self._clock = clock or time.time
        self._line = bytearray()
        self._too_long = False
        self._calls: dict[str, str] = {}
        self._is_over = False  # the agent said that its run is over
        self._denied: list[str] = []
        self._last_text = ""
        self._cause: tuple[str, str] | None = None  # what a line that is no event says of a failure

    # -- the stream ------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Take raw output; the text for the pane, UTF-8, in whole lines."""
        shown = []
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._gather(data[start:end])
            shown.append(self._take_line())
            start = end + 1
        self._gather(data[start:])
        return "".join(shown).encode("utf-8", "replace")

    def finish(self, code: int | None) -> bytes:
        """The output has ended: settle what it means; the last lines for the pane.

        Args:
            code: The exit code; None if a signal ended the agent.
        """
        shown = self._take_line() if self._line or self._too_long else ""
        try:
            shown += self._last_lines()
        except Exception:  # noqa: BLE001 - nothing an agent prints may end the runner
            shown += ""
        self._settle(code)
        return (shown + self._summary()).encode("utf-8", "replace")

    def _gather(self, data: bytes) -> None:
        if self._too_long or len(self._line) + len(data) > LINE_BYTES_MAX:
            self._too_long = True
            self._line.clear()
        else:
            self._line += data

    def _take_line(self) -> str:
        if self._too_long:
            self._too_long = False
            self._calls.clear()  # it may have been the answer to any of them
            self.progress.tool = None
            return account.noted("·", "a line of more than 1 MB is only in the log")
        text = self._line.decode("utf-8", "replace").removesuffix("\r")
        self._line.clear()
        try:
            return self._read(text)
        except Exception:  # noqa: BLE001 - nothing an agent prints may end the runner
            return ""

    def _read(self, text: str) -> str:
        """Take a line: an event, or a text; its lines of the account."""
        event = parse_object(text)
        if event is None or not isinstance(event.get("type"), str):
            return self._text(text)
        shown = self._event(event)
        if shown is None:
            return ""
        self.progress.events += 1
        return shown

    # -- what a format says of itself ------------------------------------------------------

    def _event(self, event: "dict[str, Any]") -> str | None:
        """Take one event; its lines of the account, None if it was not understood."""
        raise NotImplementedError

    def _text(self, text: str) -> str:
        """Take a line that is no event, most often of stderr; its lines of the account."""
        line = account.one_line(account.without_colours(text), _WORDS_CHARACTERS)
        if line:
            self._last_text = line
            kind = kind_of(line)
            if kind != "error" and self._cause is None:
                self._cause = (kind, line)
            if asks_for_login(line):
                self.progress.needs = account.one_line(f"log in: {line}")
        return account.other(text)

    def _last_lines(self) -> str:
        """What is still to be told when the output has ended."""
        return ""

    # -- what becomes known ----------------------------------------------------------------

    def _seen_session(self, session: object) -> bool:
        """Note the session's id; whether it is new."""
        found = words(session)[:_SESSION_CHARACTERS]
        if not found or found == self.progress.session:
            return False
        self.progress.session = found
        return True

    def _goes_on(self) -> None:
        """It does something: it neither waits for a person nor tries again."""
        self.progress.retrying = self.progress.needs = None

    def _well(self) -> None:
        """The service answered: what had failed or was limited before is over."""
        self._goes_on()
        self._forget_failure()
        self._clear_limit()

    def _clear_limit(self) -> None:
        progress = self.progress
        progress.limited, progress.limited_until, progress.limit_text = False, None, None

    def _said(self, text: str, indent: str = "") -> str:
        text = words(text).strip()
        if not text:
            return ""
        self.progress.last_words = account.cut(text, _LAST_WORDS_CHARACTERS)
        return account.said(text, indent)

    def _begin_call(self, key: str, tool: str) -> None:
        if len(self._calls) < _CALLS_MAX:
            self._calls[key] = account.one_line(tool)
        self._name_call()

    def _end_call(self, key: str) -> None:
        self._calls.pop(key, None)
        self._name_call()

    def _end_calls(self) -> None:
        self._calls.clear()
        self._name_call()

    def _name_call(self) -> None:
        """The call that is in flight the longest, for it is the one that may hang."""
        tool = next(iter(self._calls.values()), None)
        more = len(self._calls) - 1
        self.progress.tool = f"{tool} (and {more} more)" if tool and more > 0 else tool

    def _retries(self, text: str) -> str:
        self.progress.retrying = account.one_line(text)
        return account.noted("↻", text)

    def _limit(self, text: str, until: float | None = None) -> None:
        """The usage limit was hit; a time that is known already is better than the text's."""
        progress = self.progress
        progress.limited = True
        progress.limit_text = account.one_line(text, _WORDS_CHARACTERS) or progress.limit_text
        if until is not None:
            progress.limited_until = until
        elif progress.limited_until is None:
            from gangline.agents.readers.reset import parse_reset  # noqa: PLC0415 - seldom needed

            now = self._clock()
            offset = time.localtime(now).tm_gmtoff
            progress.limited_until = parse_reset(text, now, offset)

    def _fail(self, text: str, kind: str | None = None) -> None:
        """Note why it did not succeed, unless a first cause is known."""
        if is_usage_limit(text):
            self._limit(text)
            kind = "limit"
        if self.progress.failure is None:
            self.progress.failure = account.one_line(text, _WORDS_CHARACTERS)
            self.progress.failure_kind = kind or kind_of(text)

    def _forget_failure(self) -> None:
        """What failed before has turned out well."""
        self.progress.failure = self.progress.failure_kind = None

    # -- the end ---------------------------------------------------------------------------

    def _settle(self, code: int | None) -> None:
        progress = self.progress
        ended_itself = code is not None and code not in _ENDED_BY_SIGNAL
        if self._denied and ended_itself:
            self._fail(_denial_words(self._denied), "permission")
        succeeded = self._is_over and progress.failure is None
        if progress.limited and ended_itself and not succeeded:
            progress.failure, progress.failure_kind = progress.limit_text, "limit"
        if progress.failure is None and ended_itself and code != 0:
            kind, why = self._cause or ("", progress.retrying or self._last_text)
            self._fail(f"exit code {code}: {why}" if why else f"exit code {code}", kind or None)
        must_say = self._says_its_end and progress.events > 0
        if progress.failure is None and code == 0 and must_say and not self._is_over:
            self._fail("it stopped before it had ended its turn", "error")
        progress.retrying = None

    def _summary(self) -> str:
        progress = self.progress
        figures = [
            f"{account.tokens(progress.input_tokens)} in",
            f"{account.tokens(progress.output_tokens)} out",
        ]
        if not progress.input_tokens and not progress.output_tokens:
            figures.clear()
        if progress.cost_usd:
            figures.append(account.money(progress.cost_usd))
        used = ", ".join(figures)
        if progress.failure is None:
            state = "done" if self._is_over else "cut off" if self._says_its_end else "ended"
            return account.noted("■", f"{state}: {used}" if used else state)
        return account.noted("■", f"failed: {progress.failure}") + (
            account.noted(" ", used) if used else ""
        )


def parse_object(text: str) -> "dict[str, Any] | None":
    """The JSON object that the text is, or None if it is none."""
    if not text.startswith("{"):
        return None
    import json  # noqa: PLC0415 - a plain program does without, and may be a short one

    try:
        found: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found


def _denial_words(denied: "list[str]") -> str:
    tools = list(dict.fromkeys(denied))
    return f"permission was denied: {'; '.join(tools)}"
