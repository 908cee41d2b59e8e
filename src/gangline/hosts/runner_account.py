"""What the runner makes of an agent's output beside the log: the account, and progress.json.

The log is written before anything here sees the output (docs/adr/0014), and nothing here may end
the attempt: a reader that raises is put away and the output shown as it is; a file that cannot be
written is written later. What must stay true: once the orchestrator may have heard of a session,
its id is durable; and the last progress.json is complete before exit.json is there, because it can
turn an exit code 0 into a failure.

Imported when the agent already runs. The reader, and `json` with it, is imported only where a
reader is asked for.
"""

import os
import time

from gangline.core.text import PaneFilter
from gangline.hosts.attempt_folder import PROGRESS, Attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from gangline.agents.readers import Reader

_WRITE_SECONDS = 1.0  # between two writes that tell of nothing but usage and words
_HINTED = ("session", "limited", "limitedUntil", "needs", "failure", "failureKind")
_SWITCHED = ("tool", "retrying")  # whether there is one is told at once, which one later


class Account:
    """Takes an agent's output, gives what the pane shows of it, and keeps progress.json.

    Args:
        attempt: The attempt's folder.
        hint: Tells the orchestrator to look at this attempt.
    """

    def __init__(self, attempt: Attempt, hint: "Callable[[], None]") -> None:
        self._hint = hint
        self._filter = PaneFilter()
        self._reader: Reader | None = None
        self._file = ProgressFile(attempt)

    def read_with(self, name: str | None, cwd: str) -> None:
        """From now on the output is an agent's in this format; None: it is shown as it is."""
        if name is None:
            return
        try:
            from gangline.agents.readers import reader  # noqa: PLC0415 - the agent runs by now

            self._reader = reader(name, cwd=cwd)
        except Exception:  # noqa: BLE001 - no reader: the agent runs on, and is seen as it is
            self._reader = None

    def feed(self, data: bytes) -> bytes:
        """What the pane shows for this output; what it tells is noted."""
        if self._reader is None:
            return self._filter.feed(data)
        try:
            shown = self._reader.feed(data)
            known = self._reader.progress.as_dict()
        except Exception:  # noqa: BLE001 - see the module's docstring
            self._reader = None
            return self._filter.feed(b"\n[gangline] shown as it is from here\n" + data)
        if self._file.note(known):
            self._hint()
        return self._filter.feed(shown)

    def finish(self, code: int | None) -> bytes:
        """The agent has ended, with this exit code or by a signal (None): the last of the pane."""
        if self._reader is None:
            return b""
        try:
            shown = self._reader.finish(code)
            known = self._reader.progress.as_dict()
        except Exception:  # noqa: BLE001 - see the module's docstring
            self._reader = None
            return b""
        self._file.note(known, durably=True)
        return self._filter.feed(shown)

    def settle(self) -> None:
        """See ProgressFile."""
        self._file.settle()

    def patience_ms(self) -> int | None:
        """How long may be waited for more output; None: for ever."""
        return self._file.patience_ms()

    def write_if_due(self) -> None:
        """Write what has waited long enough."""
        self._file.write_if_due()


class ProgressFile:
    """progress.json: replaced as a whole, at once for what matters, else once a second."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._known: dict[str, Any] = {}
        self._is_written = True
        self._must_be_durable = False
        self._not_before = 0.0

    def note(self, known: "dict[str, Any]", *, durably: bool = False) -> bool:
        """Take what is known now; whether the orchestrator should hear of it.

        A session's id is durable when this returns, if the disk takes it at all.
        """
        before, self._known = self._known, known
        if known == before and not durably:
            return False
        hinted = any(known.get(name) != before.get(name) for name in _HINTED)
        switched = any((name in known) != (name in before) for name in _SWITCHED)
        self._is_written = False
        self._must_be_durable |= durably or known.get("session") != before.get("session")
        self.write_if_due(at_once=hinted or switched or durably)
        return hinted

    def patience_ms(self) -> int | None:
        """How long until something is to be written; None: nothing is."""
        if self._is_written:
            return None
        return max(0, int((self._not_before - time.monotonic()) * 1000) + 1)

    def settle(self) -> None:
        """Write what is not written.

        Raises:
            OSError: the disk does not take it now.
        """
        if self._is_written:
            return
        try:
            self._write()
        except ValueError:
            return  # it can never be written
        self._is_written = True
        self._must_be_durable = False

    def write_if_due(self, *, at_once: bool = False) -> None:
        """Write what is not written, unless the last write was just now and this can wait."""
        now = time.monotonic()
        if self._is_written or (now < self._not_before and not at_once):
            return
        self._not_before = now + _WRITE_SECONDS
        try:
            self._write()
        except (OSError, ValueError):
            return  # the disk is full, say: it is tried again when it is due
        self._is_written = True
        self._must_be_durable = False

    def _write(self) -> None:
        import json  # noqa: PLC0415 - the reader has imported it

        text = json.dumps(self._known, ensure_ascii=False, allow_nan=False)
        data = text.encode("utf-8", "replace")
        part, folder = PROGRESS + ".part", self._attempt.fd
        if self._must_be_durable:
            self._attempt.write_durably(part, data)
        else:
            self._attempt.write(part, data)
        os.rename(part, PROGRESS, src_dir_fd=folder, dst_dir_fd=folder)
        if self._must_be_durable:
            self._attempt.sync()
