"""How the runner starts a process: with default signals, in a session of its own.

The runner imports this before its agent runs, so it imports next to nothing (hosts/runner.py).
"""

import _signal  # type: ignore[import-not-found] # the enum wrappers of `signal` cost 5 ms
import os

from gangline.hosts.attempt_folder import PROMPT, STARTING, Attempt

TYPE_CHECKING = False  # importing `typing` costs more than all the rest
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_HUP, _INT, _TERM, _CHLD = 1, 2, 15, _signal.SIGCHLD
# A job-control shell stops its foreground job by these: Ctrl-Z in an idle pane, and `stty tostop`.
_STOPS = (_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU)
# What an agent starts with at its default. An ignored signal is inherited: Python ignores PIPE and
# XFSZ, and a tmux server that a script began in the background ignores INT and QUIT.
_IGNORED = (_signal.SIGQUIT, _signal.SIGPIPE, _signal.SIGXFSZ)
DEFAULTED = [_HUP, _INT, _TERM, _CHLD, *_IGNORED, *_STOPS]


class Signals:
    """The signals the runner itself got; kept as facts, acted on in the loop."""

    def __init__(self) -> None:
        self.ending: int | None = None  # the first HUP or TERM
        self.interrupts = 0
        self.wake_read, self.wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        for number in (_HUP, _INT, _TERM, _CHLD):
            _signal.signal(number, self._note)
        for number in _STOPS:  # a stopped runner would watch nothing and record no end
            _signal.signal(number, _signal.SIG_IGN)

    def _note(self, number: int, frame: object) -> None:
        if number == _INT:
            self.interrupts += 1
        elif number != _CHLD and self.ending is None:
            self.ending = number


def spawn(
    program: str, argv: list[str], environment: dict[bytes, bytes], stdin: int, output: int
) -> int:
    """Start a process in a session of its own, with default signals; its pid."""
    options: dict[str, Any] = {
        "file_actions": [
            (os.POSIX_SPAWN_DUP2, stdin, 0),
            (os.POSIX_SPAWN_DUP2, output, 1),
            (os.POSIX_SPAWN_DUP2, output, 2),
        ],
        "setsigdef": DEFAULTED,
        "setsigmask": [],
    }
    try:
        return os.posix_spawn(program, argv, environment, setsid=True, **options)
    except NotImplementedError:
        return os.posix_spawn(program, argv, environment, setpgroup=0, **options)


def start_step(
    attempt: Attempt,
    spec: "dict[str, Any]",
    environment: dict[bytes, bytes],
    output: int,
    on_terminal: "Callable[[str, list[str], dict[bytes, bytes]], int] | None" = None,
) -> tuple[int, str | None]:
    """Start the next thing to run, the worktree's setup before the agent: its pid, or why not.

    Args:
        attempt: Its folder.
        spec: What to run.
        environment: The agent's whole environment.
        output: The pipe that it prints into.
        on_terminal: Starts the agent on the pane's own terminal instead; its pid.
    """
    step = spec.get("setup") or spec
    try:
        if on_terminal is not None and step is spec:
            pid = on_terminal(step["program"], step["argv"], environment)
        else:
            stdin = open_stdin(attempt, step)
            try:
                pid = spawn(step["program"], step["argv"], environment, stdin, output)
            finally:
                os.close(stdin)
    except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
        why = error.strerror if isinstance(error, OSError) else error
        return 0, f"{step['program']} could not be executed: {why}"
    note_session(attempt, pid)
    return pid, None


def note_session(attempt: Attempt, pid: int) -> None:
    """Write into `starting` which session was started: it is found so if this process is killed.

    On a terminal it is the leader of a process group instead, whose number leads to it as well.
    An agent may empty its environment, and so lose the mark. Not durable: with the machine every
    process ends.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            start = int(file.read(4096).rpartition(b")")[2].split()[19])
        fd = os.open(STARTING, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, dir_fd=attempt.fd)
    except OSError:  # no /proc: another system
        return
    try:
        data = b'{"pid":%d,"startTicks":%d}' % (pid, start)
        while data:  # half of it would tell nothing
            data = data[os.write(fd, data) :]
    except OSError:
        pass  # the disk is full: the mark is left to know it by
    finally:
        os.close(fd)


def open_stdin(attempt: Attempt, spec: "dict[str, Any]") -> int:
    """What it reads: its prompt, or nothing."""
    if spec.get("stdin") == "prompt":
        return os.open(PROMPT, os.O_RDONLY | os.O_CLOEXEC, dir_fd=attempt.fd)
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
