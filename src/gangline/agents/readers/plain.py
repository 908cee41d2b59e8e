"""Any program: what it prints is shown as it is, and its last line is its last word."""

from gangline.agents.readers import account
from gangline.agents.readers.reading import Reader


class PlainReader(Reader):
    """Shows all output unchanged, unfinished lines too, and remembers the last line.

    `events` counts lines.
    """

    _says_its_end = False

    def feed(self, data: bytes) -> bytes:
        """Take raw output; it goes to the pane as it is."""
        super().feed(data)
        return data

    def finish(self, code: int | None) -> bytes:
        """The output has ended; the runner says itself how a plain program ended."""
        super().finish(code)
        return b""

    def _text(self, text: str) -> str:
        line = account.one_line(text, 2000)
        if line:
            self._last_text = account.one_line(line, 300)
            self.progress.last_words = line
            self.progress.events += 1
        return ""

    def _event(self, event: "dict[str, object]") -> str | None:
        """A line that happens to be JSON is a line."""
        return None


READER = PlainReader
