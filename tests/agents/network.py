"""A network of loopback only, for an agent that must reach the stub and nothing else.

Where root may make a network namespace, one is made; it lives as long as a process that holds it,
which ends when this one does. The stub listens inside it: a socket belongs to the namespace that
its maker was in, whoever accepts on it. Elsewhere agents run on the machine's own network.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

_CLONE_NEWNET = 0x40000000
# Says that it is ready, then waits until its stdin is closed: by close(), or by our death.
_HOLDER = "ip link set lo up && echo ready && exec cat"


class LoopbackOnly:
    """A network namespace with nothing but loopback."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", _HOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            self.close()
            raise OSError("a network namespace cannot be made here")

    def close(self) -> None:
        """Let the namespace go; it ends with the last process in it."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait()

    @property
    def _path(self) -> str:
        return f"/proc/{self._holder.pid}/ns/net"

    def wrap(self, argv: Sequence[str | Path]) -> list[str]:
        """The argv that runs this one inside; the process stays the same one."""
        return ["nsenter", f"--net={self._path}", "--", *map(str, argv)]

    def listen(self) -> socket.socket:
        """A socket that listens on loopback inside."""
        made: list[socket.socket | OSError] = []
        # setns is of one thread: this one ends with the namespace it was moved to.
        thread = threading.Thread(target=lambda: made.append(self._listen_inside()))
        thread.start()
        thread.join()
        if isinstance(made[0], OSError):
            raise made[0]
        return made[0]

    def _listen_inside(self) -> socket.socket | OSError:
        namespace = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
                return OSError(ctypes.get_errno(), "setns")
            return socket.create_server(("127.0.0.1", 0))
        finally:
            os.close(namespace)


def loopback_only() -> LoopbackOnly | None:
    """A namespace; None where it cannot be made (no root, a container without the right)."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return None
    try:
        return LoopbackOnly()
    except OSError:
        return None
