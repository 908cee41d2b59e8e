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

import fcntl
import os
import sys
import time

from gangline.hosts.attempt_folder import (
    CLAIM,
    ENVIRONMENT,
    LOCK,
    SPEC,
    STARTING,
    Attempt,
    parse_json,
)
from gangline.hosts.runner_start import Signals, start_step

TYPE_CHECKING = False  # importing `typing` costs more than all the rest
if TYPE_CHECKING:
    from typing import Any

    from gangline.hosts.runner_interactive import Interactive

_PR_SET_CHILD_SUBREAPER = 36
_LOCK_RETRY_SECONDS = 0.001


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
        on_terminal = interactive.start if interactive else None
        pid, problem = start_step(attempt, spec, environment, output_write, on_terminal)
    else:
        pid, output_read, output_write, is_reaper = 0, -1, -1, False
    from gangline.hosts.runner_watch import Watch  # noqa: PLC0415 - the agent runs by now

    watch = Watch(attempt, spec, signals, environment, interactive, is_reaper=is_reaper)
    return watch.run(pid, output_read, output_write, lock, problem)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
