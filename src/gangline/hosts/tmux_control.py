"""Send commands to a tmux server such that each answer is *yes*, *no*, or *nobody knows*.

A control client (`tmux -C`) answers a list in 0.1 ms where a process takes 3 to 6 (EVIDENCE.md
section 1), so it is what the orchestrator's loop stands on; the one-shot process is what is left
when there is no session to attach to. What must stay true: a command that was once written to a
connection is never sent again by this module, whatever happened to the answer; and "there is no
server" is only said when tmux itself said so. What commands mean is not known here: see `tmux.py`.
"""

import os
import select
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gangline.errors import MachineError

COMMAND_BYTES_MAX = 16_000  # tmux refuses a message of 16,384 bytes, its header included (trap 8)
READ_BYTES = 65_536
ANSWER_BYTES_MAX = 64_000_000  # far above any list: what says more is no tmux
_DRAIN_READS_MAX = 64  # at once; what goes on for ever must not hold up its reader for ever
_LINE_OVERHEAD_BYTES = 64
CLIENT_FLAGS = "no-output,ignore-size"  # else every byte of every pane, and windows of 80 columns

Commands = Sequence[Sequence[str]]


class TmuxError(Exception):
    """tmux did not do what it was asked to."""


class TmuxUnknownError(TmuxError):
    """Nobody knows whether the command ran: no answer in time, or one that makes no sense."""


class TmuxLostError(TmuxUnknownError):
    """The connection or the server ended after the command was sent: it ran once or not at all."""


class TmuxGoneError(TmuxError):
    """Proven: no server listens on the socket."""


class TmuxRefusedError(TmuxError):
    """The server answered no; the command changed nothing.

    Attributes:
        message: The server's words. They may repeat untrusted text.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class NotSentError(TmuxError):
    """The connection was lost before the command was written: it may be sent another way."""


class Socket(msgspec.Struct, frozen=True):
    """Which tmux server: by a name, as for `tmux -L`, or by a path, as for `tmux -S`."""

    kind: Literal["name", "path"]
    value: str

    def args(self) -> list[str]:
        """The arguments that make a tmux client take this server, whatever `$TMUX` says."""
        return ["-L" if self.kind == "name" else "-S", self.value]


class Answer(msgspec.Struct):
    """What the server answered to a command or a sequence of them.

    Attributes:
        lines: The output of the commands that succeeded.
        refused: The message of the one that did not; those after it were not run.
    """

    lines: list[str]
    refused: str | None = None


# Inside double quotes tmux reads escapes, $ and a leading ~; the line may hold no newline.
_ESCAPES = str.maketrans(
    {chr(code): f"\\{code:03o}" for code in (*range(1, 32), 127)}
    | {character: "\\" + character for character in '\\"$~'}
    # Bytes that are no UTF-8, as Python keeps them: a plain 0xff ends the line for tmux.
    | {chr(0xDC00 + byte): f"\\{byte:03o}" for byte in range(128, 256)}
)


def encode(text: str) -> bytes:
    """The bytes of an argument: UTF-8, and what the system gave us as it gave it."""
    return text.encode("utf-8", "surrogateescape")


def quote(argument: str) -> str:
    """One argument of a control-mode line, such that the server reads exactly this text.

    Raises:
        ValueError: the text holds NUL, which no argument can.
    """
    if "\0" in argument:
        raise ValueError("an argument of a tmux command may not hold NUL")
    return f'"{argument.translate(_ESCAPES)}"'


def check_size(commands: Commands) -> None:
    """Refuse what tmux would refuse, in the same words over either way of sending.

    Raises:
        TmuxRefusedError: over COMMAND_BYTES_MAX bytes.
    """
    size = sum(len(encode(argument)) + 1 for argv in commands for argument in argv)
    if size > COMMAND_BYTES_MAX:
        raise TmuxRefusedError(
            f"the command has {size:,} bytes; tmux takes no more than {COMMAND_BYTES_MAX:,}"
        )


def client_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of a tmux client: all but what names another server or pane (trap 5)."""
    return {key: value for key, value in environ.items() if key not in {"TMUX", "TMUX_PANE"}}


def tmux_missing() -> MachineError:
    """The error for a machine without tmux."""
    return MachineError(
        "tmux is not installed, or not on PATH",
        hint="install tmux 3.2a or later: apt install tmux, dnf install tmux or brew install tmux",
    )


def one_shot(
    socket: Socket, commands: Commands, *, timeout_seconds: float, config: str | None = None
) -> Answer:
    """Run a command sequence by a tmux process of its own.

    Args:
        socket: The server.
        commands: Run in order up to the first that is refused.
        timeout_seconds: After this long the process is killed and nobody knows.
        config: The `-f` file, should this start the server.

    Raises:
        TmuxUnknownError: no answer in time, or one that is not understood.
        TmuxLostError: the server ended instead of answering.
        TmuxGoneError: there is no server.
        MachineError: there is no tmux.
    """
    import subprocess  # noqa: PLC0415 - 10 ms that a command which needs no tmux does not pay

    argv = ["tmux", "-u", *socket.args(), *(["-f", config] if config is not None else [])]
    for position, command in enumerate(commands):
        # tmux takes a trailing ';' of any argument for the end of the command (trap 6).
        escaped = [word[:-1] + "\\;" if word.endswith(";") else word for word in command]
        argv += [";", *escaped] if position else escaped
    try:
        done = subprocess.run(  # noqa: PLW1510 - the exit code is read below
            [encode(word) for word in argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_seconds,
            env=client_environment(os.environ),
            start_new_session=True,  # Ctrl-C at the terminal must not cut a command in two
        )
    except FileNotFoundError as error:
        raise tmux_missing() from error
    except subprocess.TimeoutExpired as error:
        raise TmuxUnknownError(f"tmux did not answer within {timeout_seconds:g} s") from error
    lines = _text(done.stdout).split("\n")
    if lines[-1] == "":
        del lines[-1]
    if done.returncode == 0:
        return Answer(lines)
    return Answer(lines, _refusal(done.returncode, _text(done.stderr).strip()))


def _refusal(code: int, message: str) -> str:
    """The server's own refusal; anything that is not one is raised.

    The words are those of tmux's client.c, which sets only LC_CTYPE and LC_TIME: no translations.
    """
    if message.startswith("no server running on "):
        raise TmuxGoneError(message)
    if message.startswith("error connecting to "):
        if message.endswith(("(No such file or directory)", "(Connection refused)")):
            raise TmuxGoneError(message)
        raise TmuxUnknownError(message)
    if message.startswith(("server exited", "lost server")):
        raise TmuxLostError(f"tmux: {message}")
    if code < 0 or not message:
        raise TmuxUnknownError(f"tmux ended with {code}: {message or 'no message'}")
    return message


def _text(data: bytes) -> str:
    # Answers are read, never sent back; a surrogate could be neither printed nor put into JSON.
    return data.decode("utf-8", "backslashreplace")


class AnswerParser:
    """Cuts a control client's bytes into answers and drops notifications (tmux(1), CONTROL MODE).

    An answer stands between `%begin TIME NUMBER FLAGS` and the `%end` or `%error` that bears the
    same three words, so output that looks like a guard is still output. FLAGS is 1 for what this
    client asked for, 0 for what a hook of the user's ran.

    Attributes:
        answers: Complete and not yet taken: (asked for by us, the answer).
        exited: The server has said `%exit`, or what comes is no tmux's.
    """

    def __init__(self) -> None:
        self.answers: list[tuple[bool, Answer]] = []
        self.exited = False
        self._rest = b""
        self._guard: bytes | None = None
        self._block: list[bytes] = []
        self._block_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes; they may end anywhere."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > READ_BYTES * 16 or self._block_bytes > ANSWER_BYTES_MAX:
            self.exited, self._rest, self._block = True, b"", []
        for line in lines:
            guard = self._guard
            if guard is None:
                if line.startswith(b"%begin "):
                    self._guard = line[len(b"%begin") :]
                    self._block, self._block_bytes = [], 0
                elif line.startswith(b"%exit"):
                    self.exited = True
            elif line.endswith(guard) and line in (b"%end" + guard, b"%error" + guard):
                text = [_text(part) for part in self._block]
                refused = line.startswith(b"%error")
                answer = Answer([], "\n".join(text)) if refused else Answer(text)
                self.answers.append((guard.endswith(b" 1"), answer))
                self._guard = None
            else:
                self._block.append(line)
                self._block_bytes += len(line) + _LINE_OVERHEAD_BYTES


class ControlConnection:
    """One `tmux -C` client attached to a session. It is made connected and is of no use once lost.

    After any exception but `NotSentError` its answers may be out of step: close it.

    Raises:
        TmuxUnknownError: no answer within `timeout_seconds`.
        TmuxLostError: the client ended before it answered.
        TmuxRefusedError: no such session.
        MachineError: there is no tmux.
    """

    def __init__(self, socket: Socket, session: str, timeout_seconds: float) -> None:
        import subprocess  # noqa: PLC0415 - 10 ms that a command which needs no tmux does not pay

        self._timeout_seconds = timeout_seconds
        self._parser = AnswerParser()
        argv = ["tmux", "-u", *socket.args(), "-f", os.devnull, "-C"]
        try:
            self._process = subprocess.Popen(
                [*argv, "attach-session", "-t", f"={session}", "-f", CLIENT_FLAGS],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=client_environment(os.environ),
                start_new_session=True,  # Ctrl-C at the terminal is for the orchestrator alone
            )
        except FileNotFoundError as error:
            raise tmux_missing() from error
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._to_server = self._process.stdin.fileno()
        self._from_server = self._process.stdout.fileno()
        try:
            os.set_blocking(self._to_server, False)
            os.set_blocking(self._from_server, False)
            greeting = self._answer(time.monotonic() + timeout_seconds, ours=False)
        except BaseException:
            self.close()
            raise
        if greeting.refused is not None:
            self.close()
            raise TmuxRefusedError(greeting.refused)

    def fileno(self) -> int:
        """The descriptor that becomes readable when there is something to `drain`."""
        return self._from_server

    def close(self) -> None:
        """End the client. The server sees the pipes close; the session stays."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        # There is nothing to wait for, and a client of a hanging server would not end by itself.
        self._process.kill()
        self._process.wait()

    def drain(self) -> bool:
        """Read and drop, without waiting, what came unasked; False when the connection is lost."""
        for _ in range(_DRAIN_READS_MAX):
            if not self._receive():
                break
        self._parser.answers.clear()
        return not self._parser.exited

    def exchange(self, commands: Commands) -> Answer:
        """Send a command sequence as one line and wait for its answers.

        None of them may run others (`if-shell`, `source-file`): those answers are not counted.

        Raises:
            NotSentError: lost before anything was written.
            TmuxLostError: lost after that.
            TmuxUnknownError: no answer in time.
        """
        line = " ; ".join([" ".join([quote(word) for word in argv]) for argv in commands])
        data = encode(line + "\n")
        if not self.drain():
            raise NotSentError("the connection to tmux was lost")
        deadline = time.monotonic() + self._timeout_seconds
        self._send(data, deadline)
        lines: list[str] = []
        for _ in commands:
            answer = self._answer(deadline, ours=True)
            lines += answer.lines
            if answer.refused is not None:
                return Answer(lines, answer.refused)
        return Answer(lines)

    def _send(self, data: bytes, deadline: float) -> None:
        rest = data
        while rest:
            try:
                rest = rest[os.write(self._to_server, rest) :]
            except BlockingIOError:
                self._wait(self._to_server, select.POLLOUT, deadline)
            except BrokenPipeError as error:
                if len(rest) == len(data):
                    raise NotSentError("the connection to tmux was lost") from error
                raise TmuxLostError("the connection to tmux broke") from error

    def _answer(self, deadline: float, *, ours: bool) -> Answer:
        """The next answer; with `ours`, the next to a command of this client.

        Whatever else may come, it is waited for until the deadline: one read more is given to a
        process that was stopped meanwhile.
        """
        late = False
        while True:
            while self._parser.answers:
                asked, answer = self._parser.answers.pop(0)
                if asked or not ours:
                    return answer
            if self._parser.exited:
                raise TmuxLostError("the connection to tmux broke before the answer came")
            if late:
                raise self._no_answer()
            self._wait(self._from_server, select.POLLIN, deadline)
            late = time.monotonic() > deadline
            self._receive()

    def _receive(self) -> bool:
        """Take what has arrived; False when that is nothing."""
        try:
            data = os.read(self._from_server, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._parser.exited = True
            return False
        self._parser.feed(data)
        return True

    def _wait(self, descriptor: int, event: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(descriptor, event)
        remaining_seconds = max(0.0, deadline - time.monotonic())
        if not poll.poll(remaining_seconds * 1000):
            raise self._no_answer()

    def _no_answer(self) -> TmuxUnknownError:
        return TmuxUnknownError(f"tmux did not answer within {self._timeout_seconds:g} s")
