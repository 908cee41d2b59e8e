"""How an agent's end is told: to the kernel, in exit.json, to the orchestrator and in the pane.

The last part of the attempt protocol (DESIGN.md section 4, step 5), apart from the watching, which
is different for an agent behind a pipe and one on a terminal. Imported when the agent runs; see
hosts/runner_watch.py for what is not.
"""

import os
import time

from gangline.hosts.attempt_folder import EXIT, OUTPUT, PANE_OPTION, Attempt
from gangline.hosts.processes import kill_marked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SIGTERM = 15
_ENDING_POLL_MS = 10
_DISK_FULL_RETRY_SECONDS = 1.0
_REMAIN = ("remain-on-exit", "on")


def as_record(status: int) -> "dict[str, Any]":
    """The end that a wait status tells, as exit.json says it."""
    if os.WIFSIGNALED(status):
        return {"signal": os.WTERMSIG(status)}
    return {"code": os.WEXITSTATUS(status)}


def exit_status(pid: int) -> "dict[str, Any] | None":
    """How the agent ended, or None while it lives; reaps other children on the way."""
    ended: dict[str, Any] | None = None
    while True:
        try:
            found, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if found == 0:
            return ended
        if found == pid:
            ended = as_record(status)


def no_children() -> bool:
    """Collect children that ended; whether none is left.

    For a reaper of orphans this proves that nothing of the attempt is left: whatever the agent
    started is below this process, or became its child when its own parent ended.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def signal_group(pid: int, number: int) -> None:
    """Signal the agent's process group, if it is there and ours to signal."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        pass  # it has ended, or runs as another user


def end_agent(
    pid: int,
    mark: str,
    grace_seconds: float,
    status: "Callable[[], dict[str, Any] | None]",
    attend: "Callable[[int], None]",
) -> "dict[str, Any]":
    """End the agent politely, then hard; everything else of the attempt with it.

    Args:
        pid: The agent, and its group.
        mark: The attempt's mark.
        grace_seconds: Between TERM and KILL.
        status: How the agent ended; None while it lives.
        attend: Copies what is printed meanwhile, for at most so many milliseconds.
    """
    deadline = time.monotonic() + grace_seconds
    signal_group(pid, _SIGTERM)
    while time.monotonic() < deadline:
        if (ended := status()) is not None:
            return ended
        attend(_ENDING_POLL_MS)
    while (ended := status()) is None:
        kill_marked(mark, session=pid)
        attend(_ENDING_POLL_MS)
    return ended


def record_end(
    attempt: Attempt,
    record: "dict[str, Any]",
    first: "Callable[[], None]",
    show: "Callable[[bytes], None]",
) -> None:
    """Make exit.json durable; on a full disk wait for space, because the result matters.

    In a folder that was deleted nobody can ever read it, so there it is given up.

    Args:
        attempt: The attempt's folder.
        record: How it ended.
        first: Begins each try: writes what has to be there before exit.json is.
        show: Tells the pane what is wrong.
    """
    data = _json_object(record)
    part = EXIT + ".part"
    while True:
        try:
            first()
            attempt.write_durably(part, data)
            os.rename(part, EXIT, src_dir_fd=attempt.fd, dst_dir_fd=attempt.fd)
            attempt.sync()
        except OSError as error:
            if os.fstat(attempt.fd).st_nlink == 0:
                show(b"\r\n[gangline] the attempt's folder was deleted\r\n")
                return
            show(f"\r\n[gangline] exit.json: {error.strerror}; trying again\r\n".encode())
            time.sleep(_DISK_FULL_RETRY_SECONDS)
        else:
            return


def wake(spec: "dict[str, Any]") -> None:
    """Tell the orchestrator, if one listens, which attempt to look at."""
    try:
        fd = os.open(spec["wake"], os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, spec["issue"].encode() + b"\n")
    except OSError:
        pass
    finally:
        os.close(fd)


def has_succeeded(record: "dict[str, Any]") -> bool:
    """Whether the agent ran and ended with 0."""
    return record.get("code") == 0 and "refused" not in record


def last_words(path: str, spec: "dict[str, Any]", record: "dict[str, Any]") -> str:
    """How it ended and where its log is, for the pane."""
    how = record.get("refused") or (
        f"signal {record['signal']}" if "signal" in record else f"exit code {record['code']}"
    )
    return f"[gangline] #{spec['issue']}: {how}. Log: {os.path.join(path, OUTPUT)}"


def keep_or_give_back_pane(*, is_borrowed: bool) -> None:
    """Have tmux keep this pane when we have ended, or not think of a person's own as taken."""
    pane = os.environ.get("TMUX_PANE")
    if not pane or not os.environ.get("TMUX"):
        return
    # What is borrowed is given back at once; else the next orchestrator would do it.
    what = ["-u", "-t", pane, PANE_OPTION] if is_borrowed else ["-t", pane, *_REMAIN]
    argv = ["tmux", "set-option", "-p", *what]
    try:
        os.waitpid(os.posix_spawnp("tmux", argv, os.environ), 0)
    except OSError:
        pass  # the log is kept in any case, and a pane that was not given back lapses


def _json_object(record: "dict[str, Any]") -> bytes:
    """One flat JSON object, without the cost of importing `json`."""
    from _json import encode_basestring_ascii as quoted  # noqa: PLC0415 - the C half of json

    parts = []
    for name, value in record.items():
        plain = "true" if value is True else str(value)
        parts.append(f'"{name}":{quoted(value) if isinstance(value, str) else plain}')
    return ("{" + ",".join(parts) + "}").encode("ascii")
