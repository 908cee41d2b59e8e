"""What a driver of the benchmark is, and the part shared by every runner that is one command.

A driver knows how one runner is told of a batch and how it is started. Measuring is done here, the
same way for all of them: by the clock around the command and by the log that the jobs write.
"""

import contextlib
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import workloads
from workloads import Batch, Crash, Live, Throughput

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".bench" / "venv"
# In the environment of every process of a run: how what is left of it is found and ended.
MARK = "GANGLINE_BENCH_RUN"
# What the shell or make that started the benchmark would otherwise tell the runner.
FOREIGN = (
    "TMUX",
    "TMUX_PANE",
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",  # it would have every start compile the program anew
    "VIRTUAL_ENV",
)


class Driver:
    """One runner. Every method works in a temporary folder and leaves nothing running."""

    name = ""
    resumable = False  # whether `resume` applies: finished work can be given to it from outside

    def version(self) -> str:
        """One line for the table."""
        raise NotImplementedError

    def available(self) -> str | None:
        """None, or why the runner cannot be measured here."""
        raise NotImplementedError

    def throughput(self, jobs: int, layers: int, width: int, limit_seconds: float) -> Throughput:
        """W1: run a layered DAG of instant jobs, `width` at once."""
        raise NotImplementedError

    def chain(self, jobs: int, limit_seconds: float) -> list[float]:
        """W2: milliseconds from the end of each job to the start of the next."""
        raise NotImplementedError

    def crash(self, long_seconds: float, kill_after_seconds: float) -> Crash:
        """W3: kill -9 the runner while its long jobs run, let it resume, count what went wrong."""
        raise NotImplementedError

    def resume(self, total: int, done: int, limit_seconds: float) -> float | None:
        """W4: seconds from the runner's start to the first job not done yet.

        None where it does not apply, infinity where the limit was reached.
        """
        raise NotImplementedError


class OwnDriver(Driver):
    """Gangline's driver: what only it is measured by."""

    def live(self, attempts: int, idle_seconds: float) -> Live:
        """W5: kill -9 the orchestrator of many living attempts, start it again, watch it idle."""
        raise NotImplementedError

    def status(self, issues: int) -> float:
        """W6: seconds that `gangline status` takes on a batch of so many issues."""
        raise NotImplementedError


class CommandDriver(Driver):
    """A runner that is one command, started in the batch's folder, and started again to resume."""

    programs: Sequence[str] = ()  # what has to be on PATH
    module = ""  # what has to be in the peers' virtual environment

    def prepare(self, batch: Batch, width: int) -> None:
        """Tell the runner of the batch: write its files, start what it needs."""
        raise NotImplementedError

    def command(self, batch: Batch, width: int) -> list[str]:
        raise NotImplementedError

    def environment(self, batch: Batch) -> Mapping[str, str]:
        """What to add to the runner's environment."""
        return {}

    def mark_done(self, batch: Batch, names: Sequence[str]) -> None:
        """Make the runner take these jobs for done (only where `resumable`)."""
        raise NotImplementedError

    def mend(self, batch: Batch) -> None:
        """What a person has to do after a crash, before the runner can be started again."""

    def close(self, batch: Batch) -> None:
        """End what `prepare` started."""

    def available(self) -> str | None:
        for program in self.programs:
            if shutil.which(program) is None:
                return f"{program} is not installed"
        if self.module and not (VENV / "bin" / "python").exists():
            return "the peers' virtual environment could not be made"
        if self.module and not any(VENV.glob(f"lib/python*/site-packages/{self.module}")):
            return f"{self.module} is not in the peers' virtual environment"
        return None

    def version(self) -> str:
        """As the package's metadata or the program's first line of --version says."""
        if not self.module:
            return output([self.programs[0], "--version"])
        code = f"import importlib.metadata as m; print('{self.module}', m.version('{self.module}'))"
        return output([python(), "-c", code])

    def throughput(self, jobs: int, layers: int, width: int, limit_seconds: float) -> Throughput:
        with self._batch(workloads.layered(jobs, layers)) as batch:
            workloads.write_instant_job(batch)
            self.prepare(batch, width)
            began = time.monotonic()
            finished, seconds = self._run(batch, width, limit_seconds, began)
            done = len({instant.name for instant in workloads.read_instants(batch.log)})
            wanted = len(batch.after)
            notes = [workloads.faults(batch)]
            if not finished:
                notes.append(f"{done:,} of {wanted:,} in {limit_seconds:.0f} s")
            elif done < wanted:
                notes.append(f"ended after {done:,} of {wanted:,}: {last_words(batch)}")
            return Throughput(done, wanted, seconds, "; ".join(filter(None, notes)))

    def chain(self, jobs: int, limit_seconds: float) -> list[float]:
        with self._batch(workloads.chain(jobs)) as batch:
            workloads.write_instant_job(batch)
            self.prepare(batch, 8)
            self._run(batch, 8, limit_seconds, time.monotonic())
            if wrong := workloads.faults(batch):
                raise RuntimeError(wrong)
            return workloads.gaps(batch.log)

    def crash(self, long_seconds: float, kill_after_seconds: float) -> Crash:
        width = workloads.LONG_JOBS + workloads.SHORT_JOBS
        with self._batch(workloads.crash_jobs()) as batch:
            workloads.write_crash_job(batch, long_seconds)
            self.prepare(batch, width)
            witness = Witness(batch.log)
            first = self._start(batch, width)
            if not witness.watch_until(witness.all_long_run, 60, first):
                raise RuntimeError("the jobs did not all start within 60 s")
            time.sleep(kill_after_seconds)
            first.kill()
            first.wait()
            witness.watch(0.5)
            self.mend(batch)
            second = self._start(batch, width)
            ended = witness.watch_until(
                lambda: second.poll() is not None, 3 * long_seconds + 30, None
            )
            witness.watch_until(witness.none_runs, long_seconds + 5, None)
            result = workloads.judge(batch.after, workloads.read_runs(batch.log), witness.last_seen)
            return replace(result, note="" if ended else "the resume did not end")

    def resume(self, total: int, done: int, limit_seconds: float) -> float | None:
        if not self.resumable:
            return None
        with self._batch(workloads.layered(total, 20)) as batch:
            workloads.write_instant_job(batch)
            self.prepare(batch, 8)
            self.mark_done(batch, list(batch.after)[:done])
            os.sync()  # or the first fsync of the resume would pay for writing all of it
            began = time.time_ns()  # the jobs' clock
            process = self._start(batch, 8)
            while not batch.log.stat().st_size and process.poll() is None:
                if time.time_ns() - began > limit_seconds * 1e9:
                    break
                time.sleep(0.01)
            instants = workloads.read_instants(batch.log)
            return (instants[0].at - began) / 1e9 if instants else math.inf

    @contextlib.contextmanager
    def _batch(self, after: Mapping[str, tuple[str, ...]]) -> Iterator[Batch]:
        folder = Path(tempfile.mkdtemp(prefix="gangline-bench-"))
        batch = Batch(folder, after)
        try:
            yield batch
        finally:
            self.close(batch)
            workloads.end_all_marked(MARK, folder.name)
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, batch: Batch, width: int) -> subprocess.Popen[bytes]:
        with open(batch.folder / "output.log", "ab") as log:
            return subprocess.Popen(
                self.command(batch, width),
                cwd=batch.folder,
                env=environment(batch) | dict(self.environment(batch)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _run(
        self, batch: Batch, width: int, limit_seconds: float, began: float
    ) -> tuple[bool, float]:
        """Whether it came to its end, and the seconds it took."""
        process = self._start(batch, width)
        try:
            process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False, limit_seconds
        return True, time.monotonic() - began


class Witness:
    """Watches the processes of the crash jobs, so that one that was killed has a time of death."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.last_seen: dict[int, int] = {}  # process id -> ns since the epoch

    def all_long_run(self) -> bool:
        """Every job has started, and the short ones have ended."""
        runs = workloads.read_runs(self.log)
        ended = sum(run.end is not None for run in runs)
        started_all = len(runs) >= workloads.LONG_JOBS + workloads.SHORT_JOBS
        return started_all and ended >= workloads.SHORT_JOBS

    def none_runs(self) -> bool:
        return not any(workloads.is_alive(run.pid) for run in self._open_runs())

    def watch(self, seconds: float) -> None:
        self.watch_until(lambda: False, seconds, None)

    def watch_until(
        self,
        claim: Callable[[], bool],
        seconds: float,
        process: subprocess.Popen[bytes] | None,
    ) -> bool:
        """Watch until the claim holds; False after the limit or when the process has ended."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for run in self._open_runs():
                if workloads.is_alive(run.pid):
                    self.last_seen[run.pid] = time.time_ns()
            if claim():
                return True
            if process and process.poll() is not None:
                return False
            time.sleep(0.02)
        return False

    def _open_runs(self) -> list[workloads.Run]:
        return [run for run in workloads.read_runs(self.log) if run.end is None]


def environment(batch: Batch) -> dict[str, str]:
    """The caller's environment without what would change a runner, and with the run's mark."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    return kept | {MARK: batch.folder.name}


def python() -> str:
    """The interpreter of the peers' virtual environment."""
    return str(VENV / "bin" / "python")


def program(name: str) -> str:
    """A file beside the drivers."""
    return str(Path(__file__).parent / name)


def output(command: Sequence[str]) -> str:
    """The first line that a command prints."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return ((answer.stdout or answer.stderr).splitlines() or ["?"])[0].strip()


def last_words(batch: Batch) -> str:
    """The last line the runner printed, without this machine's paths."""
    lines = (batch.folder / "output.log").read_text(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "nothing said")
    return said.replace(str(batch.folder), ".").replace(str(ROOT), ".")[:120]
