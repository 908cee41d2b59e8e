"""The floor: the least that a durable job in a pane of its own can cost on this machine.

A job of the floor is what Gangline cannot leave out and nothing else: `new-window` over tmux's
control mode, a bare Python in it (the runner), the job itself by posix_spawn, and three fsync'd
appends (intent, claim, end). It knows nothing of Gangline, so it cannot flatter it.
"""

import contextlib
import itertools
import os
import resource
import select
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import workloads
from workloads import Batch

APPENDS = 3
RECORD = b"x" * 199 + b"\n"
TICKS = os.sysconf("SC_CLK_TCK")
PARTS = ("new-window", "python", "job", "appends")


@dataclass(frozen=True)
class Floor:
    """What one way of running the floor's jobs cost.

    Attributes:
        gaps_ms: From one job's instant to the next one's (meaningful for width 1).
        cpu_ms: CPU a job, over all processes: ours, the jobs, tmux client and server, the panes.
        jobs_per_second: By the clock.
        parts_ms: Median wall time of each of PARTS.
    """

    gaps_ms: list[float]
    cpu_ms: float
    jobs_per_second: float
    parts_ms: dict[str, float]


class Control:
    """A control-mode client of a private tmux server: one command, one answer."""

    def __init__(self, socket: str) -> None:
        flags = ["-u", "-S", socket, "-f", os.devnull, "-C"]
        keeper = ["new-session", "-x", "80", "-y", "24", "tail", "-f", os.devnull]
        environment = {name: text for name, text in os.environ.items() if name != "TMUX"}
        self._process = subprocess.Popen(
            ["tmux", *flags, *keeper],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._lines = self._read_lines()
        self._lock = threading.Lock()
        self._answer()  # of new-session
        self.ask("refresh-client -f no-output,ignore-size")
        self.server = int(self.ask("display-message -p '#{pid}'")[0])
        self.pid = self._process.pid

    def ask(self, command: str) -> list[str]:
        """Send a command; the lines of its answer."""
        with self._lock:
            self._process.stdin.write(command.encode() + b"\n")
            return self._answer()

    def close(self) -> None:
        """End the server, and with it the client."""
        with contextlib.suppress(RuntimeError):
            self.ask("kill-server")
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def _read_lines(self) -> Iterator[str]:
        pending = b""
        while chunk := os.read(self._process.stdout.fileno(), 65536):
            *whole, pending = (pending + chunk).split(b"\n")
            for line in whole:
                yield line.decode()

    def _answer(self) -> list[str]:
        for line in self._lines:
            if line.startswith("%begin"):
                return list(itertools.takewhile(lambda text: not _is_end(text), self._lines))
        raise RuntimeError("tmux has ended")


def _is_end(line: str) -> bool:
    if line.startswith("%error"):
        raise RuntimeError("tmux refused a command")
    return line.startswith("%end")


def measure(jobs: int, width: int) -> Floor:
    """Run `jobs` of the floor's jobs, `width` at once."""
    folder = Path(tempfile.mkdtemp(prefix="gangline-floor-"))
    batch = Batch(folder, {})
    workloads.write_instant_job(batch)
    control = Control(str(folder / "tmux"))
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        with ThreadPoolExecutor(width) as pool:
            list(pool.map(lambda name: one_job(control, batch, journal, name), range(width)))
            _settle(control)
            batch.log.write_text("")
            cpu, began = _cpu_seconds(control), time.monotonic()
            parts = list(pool.map(lambda name: one_job(control, batch, journal, name), range(jobs)))
            seconds = time.monotonic() - began
        _settle(control)
        cpu = _cpu_seconds(control) - cpu
        medians = [statistics.median(column) for column in zip(*parts, strict=True)]
        return Floor(
            gaps_ms=workloads.gaps(batch.log),
            cpu_ms=cpu / jobs * 1e3,
            jobs_per_second=jobs / seconds,
            parts_ms=dict(zip(PARTS, medians, strict=True)),
        )
    finally:
        os.close(journal)
        control.close()
        shutil.rmtree(folder, ignore_errors=True)


def one_job(control: Control, batch: Batch, journal: int, name: int) -> list[float]:
    """One job of the floor; the milliseconds of each of PARTS."""
    instants = [time.perf_counter()]
    bare = f"{shlex.quote(sys.executable)} -I -S -c pass"
    pane = control.ask(f"new-window -d -P -F '#{{pane_pid}}' {bare}")
    instants.append(time.perf_counter())
    _await_end(int(pane[0]))
    instants.append(time.perf_counter())
    argv = [batch.job, str(name)]
    os.waitpid(os.posix_spawn(argv[0], argv, os.environ), 0)
    instants.append(time.perf_counter())
    for _ in range(APPENDS):
        os.write(journal, RECORD)
        os.fsync(journal)
    instants.append(time.perf_counter())
    return [(after - before) * 1e3 for before, after in itertools.pairwise(instants)]


def interpreter_ms(times: int) -> list[float]:
    """`python -c pass`, in milliseconds: what W6 is measured by."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        taken.append((time.perf_counter() - began) * 1e3)
    return taken


def _await_end(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # ended and reaped already
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(10_000)
    finally:
        os.close(descriptor)


def _settle(control: Control) -> None:
    """Wait until tmux has reaped every pane but the keeper: only then is their CPU in its account.

    tmux before 3.6 can miss a SIGCHLD; sending it another makes it look again.
    """
    deadline = time.monotonic() + 10
    while len(control.ask("list-windows -F '#{window_id}'")) > 1:
        if time.monotonic() > deadline:
            raise RuntimeError("tmux does not reap its panes")
        os.kill(control.server, signal.SIGCHLD)
        time.sleep(0.02)


def _cpu_seconds(control: Control) -> float:
    """CPU used so far: by us and our ended children, the tmux client, the server and its panes."""
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    used = sum(usage.ru_utime + usage.ru_stime for usage in own)
    for pid in (control.pid, control.server):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += sum(int(field) for field in fields[11:15]) / TICKS  # utime stime cutime cstime
    return used
