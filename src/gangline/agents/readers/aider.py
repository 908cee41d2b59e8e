"""Aider: plain text for a person, in which a few lines mean something.

Phrases from its source at the pinned version and from recorded outputs
(tests/agents/recorded/aider). It ends with exit code 0 whatever happened, so its error lines are
all that tells a failure; it breaks them at 80 columns. It has no sessions, and rounds its figures.
"""

import re

from gangline.agents.readers import account
from gangline.agents.readers.causes import asks_for_login, kind_of
from gangline.agents.readers.reading import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}
_ERRORS = (
    "litellm.", "The API provider", "Insufficient credits", "Unable to commit:",
    "The LLM did not conform to the edit format", "Empty response received from LLM",
    "Exception while updating files",
)  # fmt: skip
_GOOD = re.compile(r"Aider v\d|Applied edit to |Commit [0-9a-f]{7,40} |Tokens: [\d.]+[kM]? sent")
_HEADER = (
    "Analytics ", "Aider v", "Model:", "Main model:", "Weak model:", "Editor model:", "Git repo:",
    "Repo-map:", "Warning:", "Added ", "─",
)  # fmt: skip
_SENT = re.compile(r"Tokens: ([\d.]{1,12})([kM]?) sent\b")
_RECEIVED = re.compile(r"([\d.]{1,12})([kM]?) received\.")
_COST = re.compile(r"message, \$([\d.]{1,20}) session\.")
_ANSWER_CHARACTERS = 2000
_PARAGRAPH_CHARACTERS = 500


class AiderReader(Reader):
    """Shows all output unchanged, unfinished lines too, and understands some of it."""

    _says_its_end = False

    def __init__(
        self, *, cwd: str | None = None, clock: "Callable[[], float] | None" = None
    ) -> None:
        super().__init__(cwd=cwd, clock=clock)
        self._answer = ""
        self._error = ""  # an error, and what follows it up to an empty line
        self._figures = ""  # the same of the line of figures

    def feed(self, data: bytes) -> bytes:
        """Take raw output; it goes to the pane as it is."""
        super().feed(data)
        return data

    def finish(self, code: int | None) -> bytes:
        """The output has ended; one line more, of how."""
        start = "\n" if self._line else ""  # below a line that was not ended
        super().finish(code)
        return (start + self._summary()).encode("utf-8", "replace")

    def _read(self, text: str) -> str:
        line = text.strip()
        if not line:
            self._end_paragraph()
            return ""
        self._last_text = account.one_line(line, 300)
        if _GOOD.match(line):
            self._end_paragraph()
            self._good(line)
        elif line.startswith("Retrying in "):
            self._end_paragraph()
            self.progress.events += 1
            self.progress.retrying = account.one_line(f"{self.progress.failure or ''} {line}")
            self._forget_failure()
        elif line.startswith(_ERRORS) or self._error:
            self._error = account.cut(f"{self._error} {line}".strip(), _PARAGRAPH_CHARACTERS)
        elif self._figures:
            self._figures = account.cut(f"{self._figures} {line}", _PARAGRAPH_CHARACTERS)
        elif asks_for_login(line):
            self.progress.needs = account.one_line(f"log in: {line}")
        elif not line.startswith(_HEADER):
            self._answer = account.cut(f"{self._answer}\n{line}".strip(), _ANSWER_CHARACTERS)
        return ""

    def _last_lines(self) -> str:
        self._end_paragraph()
        if self.progress.last_words is None and self._answer:
            self.progress.last_words = self._answer
        return ""

    def _good(self, line: str) -> None:
        self.progress.events += 1
        self._well()
        if line.startswith("Tokens: "):  # they stand below the answer
            self._figures = line
            self.progress.last_words = self._answer or self.progress.last_words
        self._answer = ""

    def _end_paragraph(self) -> None:
        """What was broken into lines is whole now."""
        if self._error:
            error, self._error = self._error, ""
            self.progress.events += 1
            self._fail(error, kind_of(error))
        figures, self._figures = self._figures, ""
        if figures:
            self.progress.input_tokens += _number(_SENT.search(figures))
            self.progress.output_tokens += _number(_RECEIVED.search(figures))
            cost = _COST.search(figures)
            if cost and cost[1].count(".") <= 1 and cost[1] != ".":
                self.progress.cost_usd = float(cost[1])


def _number(match: "re.Match[str] | None") -> int:
    if match is None or match[1].count(".") > 1 or match[1] == ".":
        return 0
    return round(float(match[1]) * _UNITS[match[2]])


READER = AiderReader
