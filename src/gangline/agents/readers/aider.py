"""Aider: plain text for a person, in which a few lines mean something.

Phrases from its source at the pinned version and recorded outputs (tests/agents/recorded/aider).
It ends with exit code 0 whatever happened, so its error lines are all that tells a failure. It has
no sessions, and its figures are rounded by itself.
"""

from gangline.agents.readers import account
from gangline.agents.readers.causes import asks_for_login, kind_of
from gangline.agents.readers.reading import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {"k": 1_000, "M": 1_000_000}
# What it prints of an error that it does not try again.
_ERRORS = (
    "litellm.", "The API provider", "Insufficient credits", "Unable to commit:",
    "The LLM did not conform to the edit format", "Only 3 reflections allowed, stopping",
    "Empty response received from LLM", "Model ", "Exception while updating files",
)  # fmt: skip
_GOOD = ("Applied edit to ", "Commit ", "Tokens: ")


class AiderReader(Reader):
    """Shows all output unchanged, unfinished lines too, and understands some of it."""

    _says_its_end = False

    def __init__(
        self, *, cwd: str | None = None, clock: "Callable[[], float] | None" = None
    ) -> None:
        super().__init__(cwd=cwd, clock=clock)
        self._figures = ""  # its line of figures is broken where the terminal is narrow

    def feed(self, data: bytes) -> bytes:
        """Take raw output; it goes to the pane as it is."""
        super().feed(data)
        return data

    def finish(self, code: int | None) -> bytes:
        """The output has ended; one line more, of how."""
        super().finish(code)
        return self._summary().encode("utf-8", "replace")

    def _read(self, text: str) -> str:
        line = text.strip()
        if not line:
            self._figures = ""
            return ""
        self._last_text = account.one_line(line, 300)
        if line.startswith(_GOOD):
            self.progress.events += 1
            self._well()
        elif line.startswith("Retrying in "):
            self.progress.events += 1
            self.progress.retrying = account.one_line(f"{self.progress.failure or ''} {line}")
            self._forget_failure()
        elif line.startswith(_ERRORS):
            self._error(line)
        elif asks_for_login(line):
            self.progress.needs = account.one_line(f"log in: {line}")
        else:
            self.progress.last_words = account.cut(line, 2000)
        self._count(line)
        return ""

    def _error(self, line: str) -> None:
        if line.startswith("Model ") and "warning" in line.lower():
            return
        kind = kind_of(line)
        if kind != "error" or not line.startswith("Model "):
            self.progress.events += 1
            self._fail(line, kind)

    def _count(self, line: str) -> None:
        """`Tokens: 4.2k sent, 1.1k cache hit, 123 received. Cost: $0.01 message, $0.05 session.`"""
        if line.startswith("Tokens: "):
            self._figures = line
        elif self._figures:
            self._figures += " " + line
        if not self._figures:
            return
        before, _, after = self._figures.partition(" received.")
        if after or self._figures.endswith(" received."):
            if "Tokens: " in before:
                for part in before.removeprefix("Tokens: ").split(","):
                    self._add(part.split())
                self._figures = f"- received.{after}"
            cost = after.partition("message, $")[2].partition(" session")
            if cost[1]:
                self._figures = ""
                try:
                    self.progress.cost_usd = float(cost[0])
                except ValueError:
                    return

    def _add(self, parts: list[str]) -> None:
        number, what = parts[0], parts[-1]
        try:
            tokens = round(float(number.rstrip("kM")) * _UNITS.get(number[-1], 1))
        except (ValueError, OverflowError):
            return
        if what == "sent":
            self.progress.input_tokens += max(0, tokens)
        elif number and len(parts) == 1:
            self.progress.output_tokens += max(0, tokens)


READER = AiderReader
