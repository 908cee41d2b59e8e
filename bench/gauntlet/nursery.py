"""Commands without the start of a Python each: a process that has loaded the program forks them.

Loading the program is two thirds of what a play costs, and changes nothing. A command that comes
from here is in a session of its own, with its own environment, folder and output, ends as any
Python does, and is the nursery's child: that tells its exit code. strace is attached before its
first step, so calls are counted from the same one in each play.

    python -P nursery.py SOCKET      ends with its standard input
"""

import atexit
import ctypes
import functools
import gc
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gangline

_LOOK_SECONDS = 0.002
_SAFETY_SECONDS = 120.0  # reached only where something is broken
_making = threading.Lock()  # plays are performed by several threads


class Born:
    """A command that has been forked.

    Args:
        nursery: Where.
        argv: Of hand.py.
        output: What it says, stdout and stderr together.
        tracer: strace with its options and no process, or None.
    """

    def __init__(
        self,
        nursery: "Nursery",
        argv: Sequence[str],
        output: Path,
        *,
        cwd: Path,
        env: Mapping[str, str],
        tracer: Sequence[str] | None,
    ) -> None:
        self.output = output
        self._tracer: subprocess.Popen[bytes] | None = None
        gate = output.with_name(f"{output.name}.gate")
        gate.unlink(missing_ok=True)
        os.mkfifo(gate)
        self._gate = os.open(gate, os.O_RDWR)  # open until the end, else its byte may be lost
        request = {"output": str(output), "gate": str(gate), "cwd": str(cwd), "env": dict(env)}
        self._replies = nursery.fork({"argv": list(argv), **request})
        self.pid = int(self._replies.readline())
        if tracer is not None:
            self._attach(tracer)
        os.write(self._gate, b"\n")

    def _attach(self, tracer: Sequence[str]) -> None:
        """Returns when the process can make no step that is not seen."""
        said = self.output.with_name(f"{self.output.name}.strace")
        with said.open("wb") as file:
            argv = [*tracer, "-p", str(self.pid)]
            self._tracer = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=file)
        deadline = time.monotonic() + _SAFETY_SECONDS
        while f"Process {self.pid} attached".encode() not in said.read_bytes():
            if self._tracer.poll() is not None or time.monotonic() > deadline:
                self._end()
                raise RuntimeError(f"strace: {said.read_text()}")
            time.sleep(_LOOK_SECONDS)

    def wait(self, seconds: float) -> int:
        """Its exit code, as subprocess has it; the trace is whole then.

        Raises:
            subprocess.TimeoutExpired: it did not end; it is killed.
        """
        self._replies.channel.settimeout(seconds)
        try:
            code = int(self._replies.readline())
        except TimeoutError:
            raise subprocess.TimeoutExpired(str(self.pid), seconds, self.text()) from None
        finally:
            self._end()
        return code

    def _end(self) -> None:
        if self._replies.unread:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        if self._tracer is not None:
            self._tracer.wait()
        self._replies.close()
        os.close(self._gate)

    def text(self) -> str:
        """What it has said."""
        return self.output.read_text(encoding="utf-8", errors="replace")


class _Replies:
    """Two lines: the process, then its exit code."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.unread = 2

    def readline(self) -> bytes:
        """The next line; the command sends the first when it is ready, the nursery the second."""
        line = b""
        while not line.endswith(b"\n"):
            data = self.channel.recv(1)
            if not data:
                raise RuntimeError("the nursery has ended")
            line += data
        self.unread -= 1
        return line

    def close(self) -> None:
        self.channel.close()


class Nursery:
    """A process that forks commands, for as long as this one lives."""

    def __init__(self) -> None:
        self._path = str(Path(tempfile.mkdtemp(prefix="gauntlet-nursery-"), "socket"))
        package = str(Path(gangline.__path__[0]).parent)
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__)), self._path],
            env={**os.environ, "PYTHONPATH": package},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it listens

    def fork(self, request: Mapping[str, Any]) -> _Replies:
        """Ask for a command."""
        channel = socket.socket(socket.AF_UNIX)
        channel.connect(self._path)
        channel.sendall(json.dumps(request).encode() + b"\n")
        return _Replies(channel)

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def the_nursery() -> Nursery:
    """The one of this process: it forks the Gangline that this process has loaded."""
    with _making:
        return _make_nursery()


@functools.cache
def _make_nursery() -> Nursery:
    made = Nursery()
    atexit.register(made.close)
    return made


# -- the process itself ------------------------------------------------------------------------


def _serve(path: str) -> tuple[socket.socket, dict[str, Any]]:
    """Fork a command for each request; returns only in the command, with who asked and for what."""
    with selectors.DefaultSelector() as selector, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(64)
        print("listening", flush=True)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == 0:
                    shutil.rmtree(os.path.dirname(path))
                    os._exit(0)
                if key.fileobj is not listener:
                    selector.unregister(key.fd)
                    _report(key.fd, *key.data)
                    continue
                channel, _ = listener.accept()
                with channel.makefile("rb") as lines:
                    request: dict[str, Any] = json.loads(lines.readline())
                pid = os.fork()
                if pid == 0:
                    os.setsid()
                    return channel, request
                selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, channel))


def _report(pidfd: int, pid: int, channel: socket.socket) -> None:
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(pidfd)
    with suppress(OSError), channel:  # whoever asked has gone
        channel.sendall(f"{code}\n".encode())


def _become(channel: socket.socket, request: dict[str, Any]) -> None:
    """Be in the place where the command is to be, say so, and wait for the word to begin."""
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in enumerate((nothing, output, output)):
        os.dup2(source, target)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv[1:] = request["argv"]
    gate = os.open(request["gate"], os.O_RDWR)
    # What is called from here on is what strace may see: nothing that it counts.
    channel.sendall(f"{os.getpid()}\n".encode())
    os.read(gate, 1)
    channel.detach()
    os.closerange(3, 1024)  # what belongs to other commands, too


def _allow_any_tracer() -> None:
    """strace is no ancestor of the commands; where Yama asks for one, this stands in for it."""
    anybody = ctypes.c_ulong(-1)
    ctypes.CDLL(None).prctl(0x59616D61, anybody, 0, 0, 0)  # PR_SET_PTRACER


def main() -> None:
    """Load, serve, and in a forked process be the command."""
    sys.path.append(str(Path(__file__).parents[1]))
    from gauntlet import hand

    from gangline.app import orchestrate, running, wiring  # noqa: F401 - loaded before the fork
    from gangline.cli import commands, live  # noqa: F401

    gc.collect()
    gc.freeze()
    channel, request = _serve(sys.argv[1])
    _allow_any_tracer()
    _become(channel, request)
    hand.main()


if __name__ == "__main__":
    main()
