"""The dialogs of an agent's own interface that none of its hooks tells of, seen on the screen.

Before it trusts a folder an agent runs no hook, and Codex has none for a permission. Such a dialog
stands still, and its words are known (presets.toml), so the runner looks at its own pane when that
has shown something and is quiet again. What it finds it notes as the attempt's `needs`, and takes
that back when the words have gone. It types nothing, and decides nothing.

Best effort: where tmux does not answer, or pipes the pane for somebody already, nothing is seen.
"""

import os
import time

from gangline.agents.hooks_file import DIALOGS, change
from gangline.hosts.attempt_folder import Attempt, parse_json
from gangline.hosts.runner_pane_log import tmux_says

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_QUIET_SECONDS = 1.0
_BUSY_SECONDS = 5.0  # a dialog may stand below something that always moves


class Dialogs:
    """Looks at the pane for the dialogs that its agent is known to have."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._known = _known(attempt)
        self._pane = os.environ.get("TMUX_PANE")
        self._quiet_at: float | None = None  # when to look, if nothing more is shown
        self._busy_at = 0.0  # when to look in any case
        self._noted: str | None = None

    def shown(self) -> None:
        """The pane has shown something."""
        if not self._known or not self._pane:
            return
        now = time.monotonic()
        if self._quiet_at is None:
            self._busy_at = now + _BUSY_SECONDS
        self._quiet_at = now + _QUIET_SECONDS

    def patience_ms(self, longest_ms: int) -> int:
        """How long may be waited before the next look."""
        if self._quiet_at is None:
            return longest_ms
        left = min(self._quiet_at, self._busy_at) - time.monotonic()
        return max(0, min(longest_ms, int(left * 1000) + 1))

    def look(self) -> None:
        """Look, if it is time to; what is found, or gone, is noted in progress.json."""
        if self._quiet_at is None or self.patience_ms(1):
            return
        self._quiet_at = None
        screen = tmux_says("capture-pane", "-p", "-t", self._pane or "")
        if screen is None:
            return
        found = find_dialog(screen.decode("utf-8", "replace"), self._known)
        if found == self._noted:
            return
        try:
            before = self._noted
            change(self._attempt.path, lambda told: note(told, found, before), wait=False)
            self._noted = found
        except OSError:
            self.shown()  # a hook writes just now, or the disk is full: the next look may do better


def note(told: "dict[str, Any]", found: str | None, before: str | None) -> None:
    """Change what is told by what was found; what a hook told of it is better, and left alone."""
    if told.get("needs") in (None, before):
        told["needs"] = found


def find_dialog(screen: str, known: dict[str, str]) -> str | None:
    """What the agent asks by the first dialog that is on the screen, wherever its lines break."""
    shown = " ".join(screen.split())
    return next((asks for words, asks in known.items() if words in shown), None)


def _known(attempt: Attempt) -> dict[str, str]:
    """The words on the screen, and what they ask."""
    try:
        known = parse_json(attempt.read(DIALOGS))
    except (OSError, ValueError, StopIteration):
        return {}
    return known if isinstance(known, dict) else {}
