"""What a living attempt is doing: what its output tells, and for how long nothing of it has moved.

Silence is looked at from cheap to dear. As long as the output grows, nothing else is asked. Only
when it has been silent for long are the CPU time of its processes and the files of its worktree
looked at, twice, because one look shows no movement.
"""

import os
import time
from collections.abc import Iterator

import msgspec

from gangline.core.evidence import Answer, Evidence, Progress
from gangline.hosts import processes
from gangline.hosts.attempt_folder import OUTPUT, PROGRESS, SPEC
from gangline.hosts.attempts import AttemptFolders
from gangline.ports import Subject

_PROGRESS_BYTES_MAX = 1_000_000
_FILES_MAX = 20_000  # of a worktree; a larger one is judged by its first
_BETWEEN_SECONDS = 1.0  # two looks closer than this show nothing
_ROUNDING_SECONDS = 1.0  # by which the times of two clocks may differ
_IDLE_SHARE = 0.02  # of a core: an interface that only waits uses less

_decoder = msgspec.json.Decoder(Progress)


class _Spec(msgspec.Struct):
    cwd: str


class _Seen(msgspec.Struct):
    """What was seen of one attempt: of its output, and at the last dear look."""

    output: tuple[int, int]
    since: float  # boot seconds of the last movement
    looked_at: float | None = None
    cpu_seconds: float = 0.0
    newest: float = 0.0


class Activity:
    """Looks at living attempts; it remembers only what saves looking, and what moved when."""

    def __init__(self, folders: AttemptFolders) -> None:
        self._folders = folders
        self._progress: dict[str, tuple[int, Progress | None]] = {}
        self._seen: dict[str, _Seen] = {}

    def add_to(self, seen: Evidence, subject: Subject, *, living: bool) -> Evidence:
        """The evidence with what the output tells, and the silence of a living attempt."""
        folder = self._folders.path(subject.attempt_id)
        has_progress, progress = self._read_progress(subject, folder, living=living)
        quiet = None
        if living and subject.quiet_seconds is not None and seen.runner is not None:
            quiet = self._quiet_seconds(subject, folder, seen.runner.pid, subject.quiet_seconds)
        if has_progress is Answer.NO and quiet is None:
            return seen
        return msgspec.structs.replace(
            seen, progress=progress, has_progress=has_progress, quiet_seconds=quiet
        )

    def forget(self, attempt_id: str) -> None:
        """The attempt is over."""
        self._progress.pop(attempt_id, None)
        self._seen.pop(attempt_id, None)

    def _read_progress(
        self, subject: Subject, folder: str, *, living: bool
    ) -> tuple[Answer, Progress | None]:
        """What is remembered saves reading while it lives; its last words are always read.

        Two files that were written within one tick of the clock bear the same time.
        """
        path = f"{folder}/{PROGRESS}"
        try:
            changed = os.stat(path).st_mtime_ns
            known = self._progress.get(subject.attempt_id)
            if known is None or known[0] != changed or not living:
                known = (changed, read_progress(path))
                self._progress[subject.attempt_id] = known
        except FileNotFoundError:
            return Answer.NO, None
        except OSError:
            return Answer.UNKNOWN, None
        return Answer.YES if known[1] else Answer.NO, known[1]

    def _quiet_seconds(
        self, subject: Subject, folder: str, runner: int, threshold: float
    ) -> float | None:
        """For how long nothing moved; None while that is not known."""
        now = processes.boot_seconds()
        try:
            found = os.stat(f"{folder}/{OUTPUT}")
        except OSError:
            return None
        output = (found.st_size, found.st_mtime_ns)
        known = self._seen.get(subject.attempt_id)
        if known is None:
            silent = _silent_seconds(subject, found.st_mtime, now)
            known = self._seen[subject.attempt_id] = _Seen(output, now - silent)
        elif known.output != output:
            known.output, known.since, known.looked_at = output, now, None
        quiet = now - known.since
        if quiet < threshold:
            return quiet
        return self._look_deeper(known, folder, runner, now)

    def _look_deeper(self, known: _Seen, folder: str, runner: int, now: float) -> float | None:
        if known.looked_at is not None and now - known.looked_at < _BETWEEN_SECONDS:
            return None
        try:
            cpu = _cpu_seconds_below(runner)
            newest = _newest_change(_folder_of(folder))
        except (OSError, msgspec.DecodeError):
            return None
        # From the end of one look to the begin of the next: a look may be held up for long.
        before, known.looked_at = known.looked_at, processes.boot_seconds()
        moved = before is not None and (
            newest > known.newest or cpu - known.cpu_seconds > _IDLE_SHARE * (now - before)
        )
        known.cpu_seconds, known.newest = cpu, newest
        if before is None:
            return None
        if moved:
            known.since = now
        return now - known.since


def read_progress(path: str) -> Progress | None:
    """What a progress.json tells; None where it cannot be understood.

    Raises:
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return _decoder.decode(os.read(fd, _PROGRESS_BYTES_MAX))
    except msgspec.DecodeError:
        return None
    finally:
        os.close(fd)


def _silent_seconds(subject: Subject, changed: float, now: float) -> float:
    """For how long a file has been as it is: the least that can be true, and never above the age.

    The wall clock may have been set since the intent, and the file's time be of before or after.
    """
    age = now - subject.boot_seconds
    by_intent = age - (changed - processes.epoch_seconds(subject.since))
    possible = [each for each in (time.time() - changed, by_intent) if each > -_ROUNDING_SECONDS]
    return max(0.0, min([*possible, age])) if possible else 0.0


def _folder_of(attempt_folder: str) -> str:
    with open(os.path.join(attempt_folder, SPEC), "rb") as file:
        return msgspec.json.decode(file.read(), type=_Spec).cwd


def _newest_change(folder: str) -> float:
    """When the newest of the files below was changed; 0 for an empty folder."""
    newest = 0.0
    for count, entry in enumerate(_entries(folder)):
        if count >= _FILES_MAX:
            break
        try:
            newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
        except FileNotFoundError:
            continue
    return newest


def _entries(folder: str) -> Iterator["os.DirEntry[str]"]:
    todo = [folder]
    while todo:
        try:
            with os.scandir(todo.pop()) as found:
                for entry in found:
                    yield entry
                    if entry.is_dir(follow_symlinks=False) and entry.name != ".git":
                        todo.append(entry.path)
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            continue


def _cpu_seconds_below(pid: int) -> float:
    """CPU seconds of a process and all below it, also of those that ended and were collected.

    Raises:
        OSError: it cannot be known now: no descriptor or memory left to look with.
    """
    if not processes.HAS_PROC:
        return _cpu_seconds_by_psutil(pid)
    parents, ticks = {}, {}
    for each in processes.every_pid():
        fields = processes.stat_fields(each)
        if fields is not None:
            parents[each] = int(fields[1])
            ticks[each] = sum(map(int, fields[11:15]))
    below: set[int] = set()
    new = {pid}
    while new:
        below |= new
        new = {each for each, parent in parents.items() if parent in new} - below
    return sum(ticks.get(each, 0) for each in below) / os.sysconf("SC_CLK_TCK")


def _cpu_seconds_by_psutil(pid: int) -> float:
    import psutil  # noqa: PLC0415 - not needed on Linux

    total = 0.0
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            total += times.user + times.system
    except psutil.Error:
        pass
    return total
