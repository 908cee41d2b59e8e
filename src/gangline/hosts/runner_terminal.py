"""The pane's own terminal: an agent's TUI on it, and the terminal given back as it was.

The runner does here what a job-control shell does. The agent gets a process group of its own and
the foreground, so that Ctrl-C, Ctrl-Z and what is typed reach it alone; the runner, in the
background, ignores the stops. The agent is not made the leader of a session, for then the terminal
would not be its own; so it is known by its group as well as by its mark (hosts/processes.py).

Imported before an interactive agent is started, and by no other attempt.
"""

import _signal  # type: ignore[import-not-found] # see hosts/runner_start.py
import os
import termios

from gangline.hosts.runner_start import DEFAULTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

_REASON_BYTES = 4096
# What a TUI that was killed leaves behind: the alternate screen, a hidden cursor, colours, reports
# of the mouse, of the focus and of pastes, and another coding of keys. (1047, and not 1049, which
# also puts the cursor where it was: over the last words of a TUI that had cleared up itself.)
RESET = (
    b"\x1b[?1047l\x1b[?25h\x1b[0m\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l"
    b"\x1b[?2004l\x1b[>4;0m\r\n"
)


class Terminal:
    """The runner's controlling terminal and how it was before the agent.

    Raises:
        OSError: standard input is not this process's controlling terminal.
    """

    def __init__(self) -> None:
        # Opened anew: an agent makes its descriptors non-blocking, which a shell would inherit.
        self.fd = os.open(os.ttyname(0), os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        os.tcgetpgrp(self.fd)  # only the controlling one answers
        self._group = os.getpgrp()
        self._modes = _modes(self.fd)
        self._agents_modes: Any = None

    def spawn(self, program: str, argv: list[str], environment: dict[bytes, bytes]) -> int:
        """Start a program in the foreground, with this terminal as its three descriptors; its pid.

        posix_spawn cannot give the foreground, and a program that reads before it has it would be
        stopped. When this returns the program is running, so no signal to it is lost.

        Raises:
            ValueError: it cannot be executed, for this reason.
        """
        name = os.environb.get(b"TERM", b"screen")
        environment = environment | {b"TERM": name}
        failed_read, failed_write = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            self._become(program, argv, environment, failed_write)
        os.close(failed_write)
        with open(failed_read, "rb") as file:
            reason = file.read(_REASON_BYTES)
        if reason:
            os.waitpid(pid, 0)
            self.take()
            raise ValueError(reason.decode("utf-8", "replace"))
        return pid

    def _become(
        self, program: str, argv: list[str], environment: dict[bytes, bytes], failed: int
    ) -> "NoReturn":
        """In the child: the agent, or the reason why not."""
        try:
            os.setpgid(0, 0)
            os.tcsetpgrp(self.fd, os.getpid())  # the stops are still ignored
            for number in DEFAULTED:
                _signal.signal(number, _signal.SIG_DFL)
            _signal.pthread_sigmask(_signal.SIG_SETMASK, [])
            for target in range(3):
                os.dup2(self.fd, target)
            os.execve(program, argv, environment)
        except BaseException as error:  # noqa: BLE001 - nothing of the runner may run on here
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            os.write(failed, why.encode("utf-8", "replace") or b"unknown")
        finally:
            os._exit(127)

    def give(self, group: int) -> None:
        """Give the foreground to the agent, and the modes it had when it was stopped."""
        try:
            if self._agents_modes is not None:
                termios.tcsetattr(self.fd, termios.TCSANOW, self._agents_modes)
                self._agents_modes = None
            os.tcsetpgrp(self.fd, group)
        except (OSError, termios.error):
            pass  # the terminal or the group has gone: that is seen elsewhere

    def lend_to_person(self) -> None:
        """The agent is stopped: lines can be read, and Ctrl-C is for the runner, till `give`."""
        try:
            self._agents_modes = termios.tcgetattr(self.fd)
        except (OSError, termios.error):
            self._agents_modes = None
        self.take()

    def take(self) -> None:
        """Take the foreground and put the modes back as they were; unread keys are thrown away.

        Keys meant for the agent must not reach the shell of an idle pane. Nothing here waits, as
        draining a terminal that is stopped would.
        """
        try:
            os.tcsetpgrp(self.fd, self._group)
            termios.tcsetattr(self.fd, termios.TCSANOW, self._modes)
            termios.tcflush(self.fd, termios.TCIFLUSH)
        except (OSError, termios.error):
            pass  # the pane is gone


def _modes(fd: int) -> "Any":
    try:
        return termios.tcgetattr(fd)
    except termios.error as error:
        raise OSError(*error.args) from error
