"""A `gangline run` as a child process, its lines shown as they come.

The demo decides by what the child prints and by files, never by a fixed time; the deadline is only
for a machine on which nothing goes on. The child leads a session of its own, so that a Ctrl-C at
the terminal reaches the demo alone, which then takes everything down in order.
"""

import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from gangline.errors import MachineError

PATIENCE_SECONDS = 60.0
_LOOK_SECONDS = 0.02
_READ_BYTES = 65536


def wait_for(reached: Callable[[], bool], what: str) -> None:
    """Look every 20 ms until it is so.

    Raises:
        MachineError: not within PATIENCE_SECONDS; names `what`.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not reached():
        _check_deadline(deadline, what)
        time.sleep(_LOOK_SECONDS)


def _check_deadline(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise MachineError(
            f"{what} was waited for in vain, {PATIENCE_SECONDS:.0f} s",
            hint="look at what is there: gangline demo --keep",
        )


class Follower:
    """The child; a context manager that never leaves it running.

    Args:
        argv: What to run.
        cwd: Where.
        environment: All of its environment.
        show: Gets each line, without its line end.
    """

    def __init__(
        self,
        argv: Sequence[str],
        cwd: str,
        environment: Mapping[str, str],
        show: Callable[[str], None],
    ) -> None:
        self.lines: list[str] = []
        self._show = show
        self._rest = b""
        self._process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()

    def until(self, reached: Callable[[Sequence[str]], bool], what: str) -> bool:
        """Show lines until `reached(lines so far)`; False if the child ended before.

        Args:
            reached: Looked at again after each line and every 20 ms.
            what: What is waited for, for the error.

        Raises:
            MachineError: neither within PATIENCE_SECONDS.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            ended = self._process.poll() is not None
            self._take(0.0 if ended else _LOOK_SECONDS)
            if reached(self.lines):
                return True
            if ended:
                return False
            _check_deadline(deadline, what)

    def finish(self) -> int:
        """Show lines until the child ends; its exit code."""
        self.until(lambda _: False, "the end of the batch")
        return self._process.wait()

    def kill(self) -> None:
        """SIGKILL for this one process; show what it had still said."""
        self._process.kill()
        self._process.wait()
        self._take(0.0)

    def _take(self, wait_seconds: float) -> None:
        """Show the lines that are there, or that come in time."""
        while select.select([self._output], [], [], wait_seconds)[0]:
            data = os.read(self._output.fileno(), _READ_BYTES)
            if not data:
                time.sleep(wait_seconds)  # its output has ended and the child is about to
                return
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in whole:
                self.lines.append(line.decode("utf-8", "replace"))
                self._show(self.lines[-1])
            wait_seconds = 0.0
