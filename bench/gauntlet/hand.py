"""What a command of a play is started through; it can kill itself before a call named by its path.

strace counts calls by thread and by name, so a call of a second thread, or one behind a number of
other opens that differs from play to play, cannot be aimed at that way. Here the N-th call of a
name on a path is found whichever thread makes it: Python announces it, or the function of `os` is
wrapped, and the process kills itself instead of making it.

    python -P hand.py PYTHON-OF-RUNNERS COMMAND…      with GAUNTLET_STRIKE="NAME N PATTERN"
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

STRIKE = "GAUNTLET_STRIKE"
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EVENTS = {
    "open": "openat",
    "os.mkdir": "mkdir",
    "os.rename": "rename",
    "os.remove": "unlink",
    "os.link": "link",
    "fcntl.flock": "flock",
    "os.truncate": "ftruncate",
}
_WRAPPED = {"fsync": "fsync", "write": "write", "pwrite": "pwrite64", "mkfifo": "mknodat"}
NAMES = frozenset({*_EVENTS.values(), *_WRAPPED.values()})


class Strike:
    """Kill this process before the N-th call of this name on a path that the pattern matches."""

    def __init__(self, text: str) -> None:
        self._name, left, pattern = text.split(" ", 2)
        self._left = int(left)
        self._pattern = re.compile(pattern)
        self._lock = threading.Lock()

    def install(self) -> None:
        """Watch from now on; audit hooks cannot be taken away again."""
        sys.addaudithook(self._hear)
        for function, name in _WRAPPED.items():
            if name == self._name:
                setattr(os, function, self._wrap(getattr(os, function)))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if _EVENTS.get(event) != self._name:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _CHANGING):
            return
        self._consider(arguments[0])

    def _wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def considered(target: Any, *arguments: Any, **options: Any) -> Any:
            self._consider(target)
            return function(target, *arguments, **options)

        return considered

    def _consider(self, target: Any) -> None:
        path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else str(target)
        if self._pattern.search(path) is None:
            return
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
                signal.pause()  # until it has come, whichever thread it ends first


def main() -> None:
    """Be the command."""
    sys.executable = sys.argv.pop(1)
    strike = os.environ.pop(STRIKE, None)
    from gangline.cli.main import main as gangline

    if strike is not None:
        Strike(strike).install()
    gangline()


if __name__ == "__main__":
    main()
