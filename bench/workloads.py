"""The work that every runner is given, and what its log proves.

One job program serves all of them, so what is compared is the runner: it appends one line to a log,
in one write, and ends. The log is the only witness; no runner is asked about itself.
"""

import json
import os
import shlex
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

LONG_JOBS = 8  # W3: the first eight names are the long jobs
SHORT_JOBS = 8


@dataclass(frozen=True)
class Batch:
    """A DAG of jobs in a folder of its own.

    Attributes:
        folder: Where the runner works; also holds the job program and the log.
        after: For each job, the jobs it waits for, in topological order; names are 1, 2, 3, ...
    """

    folder: Path
    after: Mapping[str, tuple[str, ...]]

    @property
    def job(self) -> str:
        """The program; its only argument is the job's name."""
        return str(self.folder / "job")

    @property
    def log(self) -> Path:
        return self.folder / "job.log"

    def write(self) -> None:
        """Write the DAG as batch.json, for the peers that are programs in Python."""
        text = json.dumps({"job": self.job, "after": self.after})
        (self.folder / "batch.json").write_text(text)


def layered(jobs: int, layers: int) -> dict[str, tuple[str, ...]]:
    """Equal layers; a job waits for two jobs of the layer before: its own place and the next."""
    size = jobs // layers
    after: dict[str, tuple[str, ...]] = {}
    for index in range(size * layers):
        layer, place = divmod(index, size)
        first = (layer - 1) * size + 1
        both = {first + place, first + (place + 1) % size} if layer else set()
        after[str(index + 1)] = tuple(str(name) for name in sorted(both))
    return after


def chain(jobs: int) -> dict[str, tuple[str, ...]]:
    """Each job waits for the one before."""
    return {str(n): (str(n - 1),) if n > 1 else () for n in range(1, jobs + 1)}


def crash_jobs() -> dict[str, tuple[str, ...]]:
    """W3: eight long jobs and eight short ones, all free to start at once."""
    return {str(n): () for n in range(1, LONG_JOBS + SHORT_JOBS + 1)}


def _program(batch: Batch, body: str) -> None:
    path = Path(batch.job)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    batch.log.touch()


def write_instant_job(batch: Batch) -> None:
    """A job that appends "NAME NANOSECONDS" and ends: its start and its end are that one instant.

    `exec` makes it one process: sh becomes date.
    """
    _program(batch, f'exec date "+$1 %s%N" >>{shlex.quote(str(batch.log))}')


def write_crash_job(batch: Batch, seconds: float) -> None:
    """A job that appends "NAME start PID NANOSECONDS", waits if long, appends "NAME end …"."""
    log = shlex.quote(str(batch.log))
    _program(
        batch,
        f'date "+$1 start $$ %s%N" >>{log}\n'
        f'[ "$1" -gt {LONG_JOBS} ] || sleep {seconds}\n'
        f'date "+$1 end $$ %s%N" >>{log}',
    )


@dataclass(frozen=True)
class Instant:
    """One line of an instant job's log."""

    name: str
    at: int  # ns since the epoch


def read_instants(log: Path) -> list[Instant]:
    """The lines of the log in the order of their instants; a torn last line is left out."""
    lines = (line.split() for line in log.read_text().splitlines())
    found = [Instant(line[0], int(line[1])) for line in lines if len(line) == 2]
    return sorted(found, key=lambda instant: instant.at)


def gaps(log: Path) -> list[float]:
    """Milliseconds from the end of each job of a chain to the start of the next."""
    instants = read_instants(log)
    return [(after.at - before.at) / 1e6 for before, after in pairwise(instants)]


def faults(batch: Batch) -> str:
    """What the log says against the runner: jobs run again, jobs run before what they wait for."""
    first: dict[str, int] = {}
    again = 0
    for instant in read_instants(batch.log):
        again += instant.name in first
        first.setdefault(instant.name, instant.at)
    early = sum(
        any(first.get(other, at + 1) > at for other in batch.after[name])
        for name, at in first.items()
    )
    counts = [(again, "run again"), (early, "run too early")]
    return ", ".join(f"{count} {what}" for count, what in counts if count)


@dataclass(frozen=True)
class Throughput:
    """W1: jobs that ran, of how many, in how many seconds from the runner's start to its end."""

    done: int
    wanted: int
    seconds: float
    note: str = ""

    @property
    def jobs_per_second(self) -> float:
        return self.done / self.seconds


@dataclass(frozen=True)
class Crash:
    """W3: jobs (of 16) started while they still ran, started after they had ended, never ended."""

    twice: int
    redone: int
    lost: int
    note: str = ""


@dataclass(frozen=True)
class Live:
    """W5: what many living attempts cost the orchestrator (Gangline only)."""

    attempts: int
    adoption_seconds: float
    pass_cpu_ms: float
    idle_cpu_percent: float  # of one core
    memory_mb: float  # resident


@dataclass
class Run:
    """One start of a crash job."""

    name: str
    pid: int
    start: int  # ns since the epoch
    end: int | None = None


def read_runs(log: Path) -> list[Run]:
    """Every start in the log, with its end where it has one."""
    runs: dict[tuple[str, int], Run] = {}
    for line in log.read_text().splitlines():
        fields = line.split()
        if len(fields) != 4:
            continue
        name, what, pid, at = fields[0], fields[1], int(fields[2]), int(fields[3])
        if what == "start":
            runs[name, pid] = Run(name, pid, at)
        else:
            runs[name, pid].end = at
    return sorted(runs.values(), key=lambda run: run.start)


def judge(names: Iterable[str], runs: list[Run], last_seen: Mapping[int, int]) -> Crash:
    """Count the jobs that a crash and a resume started twice, redid and lost.

    Args:
        names: Every job of the batch.
        runs: As `read_runs` gives them.
        last_seen: For each process id, when it was last seen alive (ns): stands in for the end of a
            run that was killed.
    """
    twice, redone, lost = set(), set(), set()
    for name in names:
        own = [run for run in runs if run.name == name]
        if all(run.end is None for run in own):
            lost.add(name)
        for place, later in enumerate(own):
            for earlier in own[:place]:
                gone = earlier.end or last_seen.get(earlier.pid, earlier.start)
                if gone > later.start:
                    twice.add(name)
                elif earlier.end is not None:
                    redone.add(name)
    return Crash(len(twice), len(redone), len(lost))


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_all_marked(name: str, value: str) -> None:
    """End every process whose environment holds exactly name=value, until none is left."""
    mark = f"{name}={value}".encode()
    own = os.getpid()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        found = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if pid != own]
        marked = [pid for pid in found if is_alive(pid) and mark in _environment(pid)]
        if not marked:
            return
        for pid in marked:
            _kill(pid)
    raise RuntimeError("processes of a run could not be ended")


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
