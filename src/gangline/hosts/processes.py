"""Processes of this machine: who lives, who belongs to an attempt, and how to end them.

A pid alone is never trusted: a process is boot id + pid + start time. A process belongs to an
attempt if its environment holds the attempt's mark exactly, or if it is in the agent's session, or
a child of the runner. On Linux all of it is read from /proc; elsewhere psutil answers the same
questions more slowly.
"""

import errno
import os
import sys
import time

TYPE_CHECKING = False  # the runner imports this module; `typing` would cost 11 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

_SIGTERM, _SIGKILL = 15, 9
_PR_SET_CHILD_SUBREAPER = 36
HAS_PROC = os.path.exists("/proc/self/stat")
_ZOMBIE = b"Z"
_POLL_SECONDS = 0.005
# These say nothing about the process that was asked for: it may well live.
ASKER_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_KERNEL_THREAD = 0x00200000  # PF_KTHREAD of the flags in stat
_EXEC_SECONDS_MAX = 0.2
_EXEC_POLL_SECONDS = 0.0005
_EMPTY_LOOKS = 4

MARK_ENTRY = b"GANGLINE_MARK="
ATTEMPT_FOLDER_ENTRY = b"GANGLINE_ATTEMPT_DIR="


def boot_id() -> str:
    """This boot of the machine: equal for two moments exactly if no restart lies between them."""
    if HAS_PROC:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    import psutil  # noqa: PLC0415 - not needed on Linux

    return f"boot-{int(psutil.boot_time())}"


def boot_seconds() -> float:
    """Seconds since the boot, also while suspended; never steps with the wall clock."""
    clock = getattr(time, "CLOCK_BOOTTIME", None) or time.CLOCK_MONOTONIC
    return time.clock_gettime(clock)


def wall_time() -> str:
    """UTC now, ISO 8601 with milliseconds and Z: for people; nothing is decided by it."""
    seconds = time.time()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1000) % 1000:03d}Z"


def epoch_seconds(wall: str) -> float:
    """The seconds of a time as `wall_time` writes it, or any other ISO 8601; 0 where it is none.

    Seconds of the epoch, as `date +%s` writes them, are a time as well.
    """
    from datetime import UTC, datetime  # noqa: PLC0415 - the runner imports this module

    if wall.isdecimal() and len(wall) in (9, 10):
        return float(wall)
    try:
        found = datetime.fromisoformat(wall)
    except ValueError:
        return 0.0
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def start_ticks(pid: int) -> int | None:
    """When the process started, in the kernel's ticks; None if there is no such living process.

    A zombie is not living.

    Raises:
        OSError: it cannot be known now: no descriptor or memory left to look with.
    """
    if not HAS_PROC:
        import psutil  # noqa: PLC0415 - not needed on Linux

        try:
            process = psutil.Process(pid)
            dead = process.status() == psutil.STATUS_ZOMBIE
            return None if dead else int(process.create_time() * 100)
        except psutil.Error:
            return None
    fields = stat_fields(pid)
    return None if fields is None or fields[0] == _ZOMBIE else int(fields[19])


def own_identity() -> tuple[int, str]:
    """Start time and boot id of this process."""
    return start_ticks(os.getpid()) or 0, boot_id()


def stat_fields(pid: int) -> list[bytes] | None:
    """Fields of /proc/PID/stat from the state on (index 0 = field 3); None: no such process.

    Raises:
        OSError: it cannot be known now: no descriptor or memory left to look with.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(4096).rpartition(b")")[2].split()
    except OSError as error:
        if error.errno in ASKER_EXHAUSTED:
            raise
        return None


def every_pid() -> "Iterator[int]":
    """Every process, and those that appear while the caller looks at the others.

    A process that forks and ends between the listing and the look at it would hide its child.
    """
    known: set[int] = set()
    while new := {int(name) for name in os.listdir("/proc") if name.isdigit()} - known:
        known |= new
        yield from new


def set_subreaper() -> bool:
    """Make orphans of the agent children of this process (Linux); whether it worked."""
    if not sys.platform.startswith("linux"):
        return False
    import ctypes  # noqa: PLC0415 - 7 ms

    return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def marked_processes(mark: str, *, session: int | None = None) -> dict[int, int]:
    """The living processes of an attempt, as pid -> start time; never this process.

    Args:
        mark: The attempt's mark; matched whole.
        session: The agent's session id, or its group's on a terminal; the members of either and
            this process's children count as well.

    Raises:
        OSError: it cannot be known now: no descriptor or memory left to look with.
    """
    if not HAS_PROC:
        return _marked_by_psutil(mark, session)
    entry = MARK_ENTRY + mark.encode()
    own = os.getpid()
    found = {}
    for pid in every_pid():
        if pid == own or (fields := _living_program(pid)) is None:
            continue
        ours = session is not None and (_is_led_by(session, fields) or int(fields[1]) == own)
        if ours or entry in _environment(pid):
            found[pid] = int(fields[19])
    return found


def living_marks(marks: "Collection[str]") -> set[str]:
    """Those of the marks that a living process bears; one look at the machine for all of them.

    Raises:
        OSError: it cannot be known now: no descriptor or memory left to look with.
    """
    if not HAS_PROC:
        return {mark for mark in marks if _marked_by_psutil(mark, None)}
    entries = {MARK_ENTRY + mark.encode(): mark for mark in marks}
    found: set[str] = set()
    for pid in every_pid():
        if _living_program(pid) is not None:
            found.update(entries[entry] for entry in entries.keys() & set(_environment(pid)))
    return found


def session_members(leader: int, started: int) -> dict[int, int]:
    """The living processes of the session or group that exactly this process leads, as
    pid -> start time.

    {} once the leader has ended: from then on its number may be given to another. Linux only.

    Raises:
        OSError: it cannot be known now: no descriptor or memory left to look with.
    """
    if not HAS_PROC or start_ticks(leader) != started:
        return {}
    found = {}
    for pid in every_pid():
        fields = _living_program(pid)
        if fields is not None and _is_led_by(leader, fields):
            found[pid] = int(fields[19])
    return found


def signal_session(leader: int, started: int, number: int) -> None:
    """Signal that session's members; its leader last, and only by KILL.

    While the leader lives the session is known to be the same one.
    """
    members = session_members(leader, started)
    itself = members.pop(leader, None)
    _signal_all(members, number)
    if itself is not None and number == _SIGKILL:
        _signal_all({leader: itself}, number)


def living_agents(attempts_folder: str) -> dict[int, str]:
    """The living processes of any attempt in this folder, as pid -> attempt id.

    Known by the agents' environment: the attempts' own files may be gone. Linux only; {} elsewhere.

    Raises:
        OSError: it cannot be known now: no descriptor or memory left to look with.
    """
    if not HAS_PROC:
        return {}
    start = ATTEMPT_FOLDER_ENTRY + os.fsencode(os.path.join(attempts_folder, ""))
    found = {}
    for pid in every_pid():
        if pid == os.getpid() or _living_program(pid) is None:
            continue
        for entry in _environment(pid):
            if entry.startswith(start):
                found[pid] = os.fsdecode(entry[len(start) :])
    return found


def _living_program(pid: int) -> list[bytes] | None:
    """Its stat fields; None if it has ended or is a thread of the kernel."""
    fields = stat_fields(pid)
    if fields is None or fields[0] == _ZOMBIE or int(fields[6]) & _KERNEL_THREAD:
        return None
    return fields


def _is_led_by(leader: int, fields: list[bytes]) -> bool:
    """Whether a process belongs to the session or the process group of this number.

    A group that has the number of a session is in it, so for an agent with a session of its own
    the second says nothing new; one on a terminal leads a group only (hosts/runner_terminal.py).
    """
    return leader in (int(fields[3]), int(fields[2]))


def _environment(pid: int) -> list[bytes]:
    """What a process was started with; nothing if that is not ours to read.

    In the middle of an execve it is empty for an instant, so empty is only believed where the
    kernel says, look after look, that this program has none: env_start = env_end, fields 50 and 51
    of stat. They are equal for an instant of every execve as well.
    """
    deadline = 0.0
    places: list[bytes] = []
    while (data := _read_environment(pid)) == b"":
        fields = _living_program(pid)
        if fields is None:
            break
        if 0 < int(fields[47]) == int(fields[48]):
            places.append(fields[47])
            if places[-_EMPTY_LOOKS:] == [fields[47]] * _EMPTY_LOOKS:
                break
        now = time.monotonic()
        deadline = deadline or now + _EXEC_SECONDS_MAX
        if now > deadline:
            break
        time.sleep(_EXEC_POLL_SECONDS)
    return (data or b"").split(b"\0")


def _read_environment(pid: int) -> bytes | None:
    try:
        with open(f"/proc/{pid}/environ", "rb", buffering=0) as file:
            data = b""
            while chunk := file.read(131072):
                data += chunk
            return data
    except OSError as error:
        if error.errno in ASKER_EXHAUSTED:
            raise
        return None


def _marked_by_psutil(mark: str, session: int | None) -> dict[int, int]:
    import psutil  # noqa: PLC0415 - not needed on Linux

    own, found = os.getpid(), {}
    for process in psutil.process_iter():
        try:
            ours = process.environ().get(MARK_ENTRY[:-1].decode()) == mark
            if not ours and session is not None:
                leaders = (os.getsid(process.pid), os.getpgid(process.pid))
                ours = process.ppid() == own or session in leaders
            if ours and process.pid != own and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = int(process.create_time() * 100)
        except (psutil.Error, OSError):
            continue
    return found


def kill_marked(mark: str, *, session: int | None = None) -> None:
    """Send KILL once to every process of an attempt."""
    signal_marked(mark, _SIGKILL, session=session)


def signal_marked(mark: str, number: int, *, session: int | None = None) -> None:
    """Send a signal once to every process of an attempt."""
    _signal_all(marked_processes(mark, session=session), number)


def end_marked(
    mark: str,
    *,
    session: int | None = None,
    grace_seconds: float = 2.0,
    reap: "Callable[[], object]" = lambda: None,
) -> int:
    """End every process of an attempt and see it gone: TERM, after the grace KILL, until none is.

    What may not be signalled, another user's process, is left: nobody here can end it.

    Args:
        mark: The attempt's mark.
        session: See `marked_processes`.
        grace_seconds: Between TERM and KILL; 0 for KILL at once.
        reap: Called before each look: collects children of this process that ended.

    Returns:
        How many were found at first.
    """
    beyond: set[int] = set()

    def look() -> dict[int, int]:
        while True:
            try:
                found = marked_processes(mark, session=session)
            except OSError:  # exhausted: nothing was seen, so nothing is known
                time.sleep(_POLL_SECONDS)
            else:
                return {pid: started for pid, started in found.items() if pid not in beyond}

    found = look()
    first = len(found)
    if found and grace_seconds > 0:
        beyond |= _signal_all(found, _SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while found and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            reap()
            found = look()
    while found:
        beyond |= _signal_all(found, _SIGKILL)
        time.sleep(_POLL_SECONDS)
        reap()
        found = look()
    return first


def _signal_all(found: dict[int, int], number: int) -> set[int]:
    """Signal each once; those that may not be signalled."""
    beyond: set[int] = set()
    for pid, started in found.items():
        try:
            signal_process(pid, started, number)
        except PermissionError:
            beyond.add(pid)
        except OSError:
            continue  # no descriptor left just now: who wants it gone looks again
    return beyond


def signal_process(pid: int, started: int, number: int) -> bool:
    """Signal exactly this process (pid and start time); False if it is gone.

    Through a pidfd where there is one: it is opened first and checked after, so a reused pid is
    never hit.

    Raises:
        PermissionError: it is another user's.
    """
    try:
        if not hasattr(os, "pidfd_open"):
            if start_ticks(pid) != started:
                return False
            os.kill(pid, number)
            return True
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        if start_ticks(pid) != started:
            return False
        import _signal  # type: ignore[import-not-found] # noqa: PLC0415 - `signal` imports enum

        _signal.pidfd_send_signal(fd, number)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
