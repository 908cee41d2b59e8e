"""output.log of an agent on the pane's terminal: what tmux says that the pane shows.

The agent does not print through the runner, so tmux is asked to copy the pane's output into a named
pipe in the attempt's folder, from which the runner writes the log: so it is capped as any other,
and the copy ends when the runner does, also in an idle pane, which goes on as a person's shell.
Best effort: where tmux does not answer, or pipes this pane for somebody already, there is no log.
"""

import os
import select
import time

from gangline.hosts.attempt_folder import Attempt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PIPE = "pane"
_READ_BYTES = 65536
_PATIENCE_SECONDS = 1.0  # a tmux server that hangs must hold up neither the start nor the end


class PaneLog:
    """The pipe from the pane.

    Attributes:
        fd: What the pane shows can be read from it; -1 if nothing can.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._pane = os.environ.get("TMUX_PANE") if os.environ.get("TMUX") else None
        self._is_on = False
        self.fd = -1
        if self._pane:
            try:
                os.mkfifo(_PIPE, 0o600, dir_fd=attempt.fd)
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                self.fd = os.open(_PIPE, flags, dir_fd=attempt.fd)
            except OSError:
                pass  # the disk is full, say

    def start(self) -> None:
        """Have tmux copy what the pane shows from now on."""
        if self.fd < 0 or not self._pane:
            return
        if tmux_says("display-message", "-p", "-t", self._pane, "#{pane_pipe}") != b"0\n":
            return  # somebody has it piped, and tmux has one pipe a pane
        path = os.path.join(self._attempt.path, _PIPE)
        line = f"exec cat >>{for_tmux_shell(path)}"
        self._is_on = tmux_says("pipe-pane", "-O", "-t", self._pane, line) is not None

    def stop(self, log: "Callable[[bytes], None]") -> None:
        """End the copying; what is still on its way is written first."""
        if self._is_on and self._pane:
            tmux_says("pipe-pane", "-t", self._pane)
            _copy_rest(self.fd, log)
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            try:
                os.unlink(_PIPE, dir_fd=self._attempt.fd)
            except OSError:
                pass  # whoever deleted it


def for_tmux_shell(path: str) -> str:
    """A path as one word of a shell line that tmux expands before the shell reads it."""
    quoted = "'" + path.replace("'", "'\\''") + "'"
    return quoted.replace("#", "##").replace("%", "%%")


def _copy_rest(fd: int, log: "Callable[[bytes], None]") -> None:
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        data = os.read(fd, _READ_BYTES)
        if not data:
            return
        log(data)


def tmux_says(*arguments: str) -> bytes | None:
    """What tmux answers; None if it refuses, or does not answer in time."""
    read, write = os.pipe2(os.O_CLOEXEC)
    actions = [
        (os.POSIX_SPAWN_DUP2, write, 1),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    try:
        pid = os.posix_spawnp("tmux", ["tmux", *arguments], os.environ, file_actions=actions)
    except OSError:
        os.close(read)
        return None
    finally:
        os.close(write)
    answer = b""
    poller = select.poll()
    poller.register(read, select.POLLIN)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
        data = os.read(read, _READ_BYTES)
        if not data:
            break
        answer += data
    else:
        os.kill(pid, 9)
    os.close(read)
    return answer if os.waitpid(pid, 0)[1] == 0 else None
