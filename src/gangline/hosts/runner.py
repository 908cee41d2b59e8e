"""The runner: the process in the pane that runs one attempt, once, and records how it ended.

It is the agent's only parent and the attempt's proof of life: it holds `lock` while anything of the
attempt is left (DESIGN.md section 4, steps 3 to 5). What must stay true:

- `claim` is linked once; whoever comes second runs nothing.
- `starting` is durable before the first instruction of the agent; `exit.json` is durable only after
  the last process of the attempt is gone.
- The agent never inherits the lock.

It is started as `python -I -S`, and its start is the largest part of a dispatch, so before the
agent runs it imports next to nothing: `json` alone costs as much as all it does. What it needs
later it imports later (hosts/runner_watch.py).
"""

import _signal  # type: ignore[import-not-found] # the enum wrappers of `signal` cost 5 ms
import fcntl
import os
import sys
import time

TYPE_CHECKING = False  # importing `typing` costs more than all the rest
if TYPE_CHECKING:
    from typing import Any

    from gangline.hosts.runner_interactive import Interactive

LOCK, CLAIM, STARTING, EXIT = "lock", "claim", "starting", "exit.json"
SPEC, PROMPT, ENVIRONMENT, OUTPUT = "spec.json", "prompt.md", "environment", "output.log"
PROGRESS = "progress.json"  # what the agent's output tells (core/evidence.py: Progress)
MARK_VARIABLE = "GANGLINE_MARK"
PANE_OPTION = "@gangline_attempt"  # of a person's own pane: MARK@BOOTSECONDS of who took it

_PR_SET_CHILD_SUBREAPER = 36
_LOCK_RETRY_SECONDS = 0.001
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


class Attempt:
    """An attempt's folder, held open, so that it stays the same even if its path is moved."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def read(self, name: str) -> bytes:
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        with open(fd, "rb") as file:
            return file.read()

    def write_durably(self, name: str, data: bytes) -> None:
        """Write a new file; its contents are durable, its name not yet (see `sync`)."""
        self.write(name, data, durably=True)

    def write(self, name: str, data: bytes, *, durably: bool = False) -> None:
        """Write a new file, or over an old one."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self.fd)
        try:
            while data:
                data = data[os.write(fd, data) :]
            if durably:
                os.fsync(fd)
        finally:
            os.close(fd)

    def touch(self, name: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o600, dir_fd=self.fd))

    def sync(self) -> None:
        os.fsync(self.fd)

    def exists(self, name: str) -> bool:
        return os.access(name, os.F_OK, dir_fd=self.fd, follow_symlinks=False)


def take_lock(attempt: Attempt) -> int | None:
    """The descriptor that holds the lock, or None if the attempt belongs to another.

    A probe holds the lock shared for an instant, so a refusal is tried again until a claim shows
    that another runner, or the fence, was first.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    fd = os.open(LOCK, flags, 0o600, dir_fd=attempt.fd)
    while True:
        if attempt.exists(CLAIM):
            os.close(fd)
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_RETRY_SECONDS)
        else:
            return fd


def link_claim(attempt: Attempt, text: bytes) -> bool:
    """Link `claim` with this text, complete from its first instant; False if the name is taken.

    Its name is made durable by the folder's next sync, which comes before anything is executed.
    """
    own = f"{CLAIM}.{os.getpid()}"
    attempt.write_durably(own, text)
    try:
        os.link(own, CLAIM, src_dir_fd=attempt.fd, dst_dir_fd=attempt.fd, follow_symlinks=False)
    except FileExistsError:
        return False
    finally:
        os.unlink(own, dir_fd=attempt.fd)
    return True


def identity() -> bytes:
    """Which process this is: boot id, pid and start time (EVIDENCE.md section 2)."""
    start, boot = 0, ""
    try:
        with open("/proc/self/stat", "rb") as file:
            start = int(file.read().rpartition(b")")[2].split()[19])
        with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
            boot = file.read().strip()
    except OSError:  # no /proc: another system
        from gangline.hosts.processes import own_identity  # noqa: PLC0415 - psutil is slow

        start, boot = own_identity()
    return b'{"by":"runner","pid":%d,"startTicks":%d,"bootId":"%s"}' % (
        os.getpid(),
        start,
        boot.encode(),
    )


def parse_json(data: bytes) -> "Any":
    """JSON through the C scanner that `json` itself uses, without the cost of importing `json`."""
    text = data.decode()
    try:
        from _json import make_scanner  # noqa: PLC0415 - see the docstring
    except ImportError:
        import json  # noqa: PLC0415 - the slow way, on another Python

        return json.loads(text)

    class Context:
        strict = True
        memo: dict[str, str] = {}  # noqa: RUF012 - the scanner's own name
        object_hook = object_pairs_hook = None
        parse_float, parse_int, parse_constant = float, int, float

    return make_scanner(Context())(text, 0)[0]  # type: ignore[arg-type]


def refusal(spec: "dict[str, Any]") -> str | None:
    """Why the agent must not be started here, or None; the current folder is the agent's after it.

    An agent started in the wrong folder damages it (EVIDENCE.md section 4, pitfall g).
    """
    try:
        os.chdir(spec["cwd"])
    except OSError as error:
        return f"its folder cannot be entered: {error.strerror}: {spec['cwd']}"
    if os.path.realpath(os.getcwd()) != os.path.realpath(spec["cwd"]):
        return f"its folder is not {spec['cwd']}"
    worktree = spec.get("worktree")
    if worktree and (problem := _wrong_worktree(worktree)):
        return problem
    if not os.access(spec["program"], os.X_OK):
        return f"there is no program {spec['program']}"
    return None


def _wrong_worktree(worktree: "dict[str, str]") -> str | None:
    try:
        found = _read_text(".git").removeprefix("gitdir: ")
        head = _read_text(os.path.join(worktree["gitDir"], "HEAD"))
    except OSError as error:
        return f"its folder is not the registered worktree: {error.strerror}"
    if os.path.realpath(found) != os.path.realpath(worktree["gitDir"]):
        return f"its folder is a worktree of {found}, not of {worktree['gitDir']}"
    if head != f"ref: refs/heads/{worktree['branch']}":
        return f"its worktree is on {head}, not on branch {worktree['branch']}"
    return None


def _read_text(path: str) -> str:
    # A path may hold any byte, also a carriage return: no newline is translated.
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read().strip()


def read_environment(attempt: Attempt) -> dict[bytes, bytes]:
    """The agent's whole environment; the file goes, because it may hold secrets."""
    pairs = attempt.read(ENVIRONMENT).split(b"\0")
    os.unlink(ENVIRONMENT, dir_fd=attempt.fd)
    return dict(pair.split(b"=", 1) for pair in pairs if pair)


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


def become_reaper() -> bool:
    """Have orphans become children of this process, so that none gets away; whether it worked.

    Linux only (prctl). `ctypes` would cost 4 ms before the agent; its C half alone costs 0.5.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        import _ctypes  # noqa: PLC0415 - see the docstring

        itself = _ctypes.dlopen(None, 0)  # type: ignore[arg-type] # None: this program
        prctl = _ctypes.dlsym(itself, "prctl")
        return bool(_ctypes.call_function(prctl, (_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0)
    except (ImportError, AttributeError, OSError):
        from gangline.hosts.processes import set_subreaper  # noqa: PLC0415 - the slow way

        return set_subreaper()


def start_step(
    attempt: Attempt,
    spec: "dict[str, Any]",
    environment: dict[bytes, bytes],
    output: int,
    interactive: "Interactive | None" = None,
) -> tuple[int, str | None]:
    """Start the next thing to run, the worktree's setup before the agent: its pid, or why not.

    Args:
        attempt: Its folder.
        spec: What to run.
        environment: The agent's whole environment.
        output: The pipe that it prints into.
        interactive: Starts the agent on the pane's own terminal instead.
    """
    step = spec.get("setup") or spec
    try:
        if interactive is not None and step is spec:
            pid = interactive.start(step["program"], step["argv"], environment)
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


def prepare_terminal(
    attempt: Attempt, spec: "dict[str, Any]", signals: Signals
) -> "tuple[Interactive | None, str | None]":
    """What runs an interactive agent on the pane's terminal, or why it cannot; None: it is none."""
    if not spec.get("interactive"):
        return None, None
    from gangline.hosts.runner_interactive import Interactive  # noqa: PLC0415 - a TUI is slow anyway

    try:
        return Interactive(attempt, spec, signals), None
    except OSError as error:
        return (
            None,
            f"it is to run on its pane's terminal, and that cannot be had: {error.strerror}",
        )


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


def main(path: str) -> int:
    """Run the attempt in this folder, if it is nobody's yet; the pane's exit status."""
    signals = Signals()
    attempt = Attempt(path)
    lock = take_lock(attempt)
    if lock is None or not link_claim(attempt, identity()):
        return 0
    spec = parse_json(attempt.read(SPEC))
    environment = read_environment(attempt)
    problem, interactive = refusal(spec), None
    if problem is None:
        interactive, problem = prepare_terminal(attempt, spec, signals)
    if problem is None:
        attempt.touch(STARTING)
        attempt.sync()  # the claim's name and this one
        is_reaper = become_reaper()
        output_read, output_write = os.pipe2(os.O_CLOEXEC)
        pid, problem = start_step(attempt, spec, environment, output_write, interactive)
    else:
        pid, output_read, output_write, is_reaper = 0, -1, -1, False
    from gangline.hosts.runner_watch import Watch  # noqa: PLC0415 - the agent runs by now

    watch = Watch(attempt, spec, signals, environment, interactive, is_reaper=is_reaper)
    return watch.run(pid, output_read, output_write, lock, problem)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
