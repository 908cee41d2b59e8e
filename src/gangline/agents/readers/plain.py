"""Any program: what it prints is shown as it is, and its last line is its last word.

A job may print a gigabyte, and a short one must not wait, so only the end of it is kept and nothing
is looked at before the end.
"""

from gangline.agents.readers import account
from gangline.agents.readers.reading import Reader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT_BYTES = 8192


class PlainReader(Reader):
    """Shows all output unchanged, unfinished lines too; `events` counts lines."""

    _says_its_end = False

    def __init__(
        self, *, cwd: str | None = None, clock: "Callable[[], float] | None" = None
    ) -> None:
        super().__init__(cwd=cwd, clock=clock)
        self._end = b""

    def feed(self, data: bytes) -> bytes:
        """Take raw output; it goes to the pane as it is."""
        self._end = (self._end + data[-_KEPT_BYTES:])[-_KEPT_BYTES:]
        self.progress.events += data.count(b"\n")
        return data

    def finish(self, code: int | None) -> bytes:
        """The output has ended; the runner says itself how a plain program ended."""
        if self._end and not self._end.endswith(b"\n"):
            self.progress.events += 1
        for line in reversed(self._end.decode("utf-8", "replace").split("\n")):
            text = account.one_line(line, 2000)
            if text:
                self._last_text = account.one_line(text, 300)
                self.progress.last_words = text
                break
        self._settle(code)
        return b""

    def _event(self, event: "dict[str, object]") -> str | None:
        """There are none."""
        return None


READER = PlainReader
