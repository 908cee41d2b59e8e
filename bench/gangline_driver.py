"""Gangline as installed here: real panes on a private tmux server, one folder for all jobs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from peers.driver import CommandDriver, OwnDriver, environment, output
from workloads import Batch, Live

from gangline.core.events import (
    FORMAT_VERSION,
    BatchStarted,
    Dispatched,
    Ended,
    Launched,
    Outcome,
    PlannedIssue,
    Policy,
    Unblocked,
)
from gangline.core.model import Dependency, IssueSpec, Status
from gangline.hosts.processes import boot_id, wall_time
from gangline.store.area import AreaPaths
from gangline.store.batches import Store

AREA = "bench"
TICKS = os.sysconf("SC_CLK_TCK")


class GanglineDriver(CommandDriver, OwnDriver):
    """`gangline run` on a plan file whose issues are the jobs."""

    name = "gangline"
    resumable = True

    def __init__(self) -> None:
        self._gangline = str(Path(sys.executable).parent / "gangline")

    def available(self) -> str | None:
        return None

    def version(self) -> str:
        return output([self._gangline, "--version"])

    def prepare(self, batch: Batch, width: int) -> None:
        issues = [
            {
                "id": int(name),
                "title": f"job {name}",
                "depends_on": list(map(int, after)),
                "run": [batch.job, name],
            }
            for name, after in batch.after.items()
        ]
        (batch.folder / "plan.json").write_text(json.dumps({"issues": issues}))
        self._configure(batch, poll_seconds=30)

    def _configure(self, batch: Batch, poll_seconds: float) -> None:
        socket = json.dumps(str(batch.folder / "tmux"))
        (batch.folder / "gangline.toml").write_text(
            f"[batch]\npoll_seconds = {poll_seconds}\n"
            f'[workspace]\nkind = "shared"\n[tmux]\nsocket = {socket}\n'
        )

    def command(self, batch: Batch, width: int) -> list[str]:
        plan = ["--from", "plan.json", "--max-concurrent", str(width)]
        return [self._gangline, "run", AREA, *plan]

    def close(self, batch: Batch) -> None:
        self._call(batch, "stop", AREA, "--kill")
        socket = str(batch.folder / "tmux")
        if Path(socket).exists():
            subprocess.run(["tmux", "-S", socket, "kill-server"], check=False, capture_output=True)

    def _call(self, batch: Batch, *words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self._gangline, *words],
            cwd=batch.folder,
            env=environment(batch),
            check=False,
            capture_output=True,
        )

    def mark_done(self, batch: Batch, names: Sequence[str]) -> None:
        """Write the journal that Gangline itself would have written for these jobs."""
        paths = AreaPaths(str(batch.folder / ".workspace"), AREA)
        store = Store(paths)
        planned = [
            PlannedIssue(id=int(name), title=f"job {name}", depends_on=after)
            for name, after in batch.after.items()
        ]
        specs = [
            IssueSpec(
                id=int(name),
                title=f"job {name}",
                place=f"plan.json: issues[{place}]",
                depends_on=tuple(Dependency(other, "plan.json") for other in after),
                run=(batch.job, name),
            )
            for place, (name, after) in enumerate(batch.after.items())
        ]
        begun = BatchStarted(
            format=FORMAT_VERSION,
            area=AREA,
            batch_id="20260101-000000-0000",
            agent=None,
            issues=tuple(planned),
            policy=Policy(max_concurrent=8),
            source="plan.json",
        )
        store.create(begun, specs, wall_time())
        boot = boot_id()
        with store.transaction(wall_time()) as moment:
            for name in names:
                if batch.after[name]:
                    moment.record(Unblocked(issue=name))
                moment.record(
                    Dispatched(
                        issue=name, attempt=0, mark=f"m-{name}-a0.0123456789abcdef", retry=0,
                        boot_id=boot, boot_seconds=1.5, server="4242.1795350086", agent="command",
                    )
                )  # fmt: skip
                moment.record(Launched(issue=name, attempt=0, pane="%7", server="4242.1795350086"))
                moment.record(
                    Ended(
                        issue=name, attempt=0, outcome=Outcome.COMPLETED, to=Status.COMPLETED,
                        exit_code=0, ended_at=wall_time(),
                    )
                )  # fmt: skip
        store.close()

    def live(self, attempts: int, idle_seconds: float) -> Live:
        with self._batch({str(n): () for n in range(1, attempts + 1)}) as batch:
            Path(batch.job).write_text("#!/bin/sh\nexec sleep 3600\n")
            Path(batch.job).chmod(0o755)
            batch.log.touch()
            self.prepare(batch, attempts)
            first = self._start(batch, attempts)
            self._await_watched(first.pid, attempts, 300)
            first.kill()
            first.wait()
            self._configure(batch, poll_seconds=0.5)
            began = time.monotonic()
            second = self._start(batch, attempts)
            self._await_watched(second.pid, attempts, 60)
            adoption = time.monotonic() - began
            pass_ms = self._pass_cpu_ms(batch, second.pid)
            second.kill()
            second.wait()
            self._configure(batch, poll_seconds=30)
            third = self._start(batch, attempts)
            self._await_watched(third.pid, attempts, 60)
            cpu = cpu_seconds(third.pid)
            time.sleep(idle_seconds)
            idle = (cpu_seconds(third.pid) - cpu) / idle_seconds * 100
            memory = resident_mb(third.pid)
            third.kill()
            third.wait()
            return Live(attempts, adoption, pass_ms, idle, memory)

    def _pass_cpu_ms(self, batch: Batch, pid: int) -> float:
        """CPU of one look at everything: polled every 0.5 s for 10 s."""
        time.sleep(1)
        cpu = cpu_seconds(pid)
        time.sleep(10)
        return (cpu_seconds(pid) - cpu) / 20 * 1e3

    def _await_watched(self, pid: int, count: int, limit_seconds: float) -> None:
        """Wait until the orchestrator watches the process of so many attempts."""
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline:
            if pidfds(pid) >= count:
                return
            time.sleep(0.01)
        raise RuntimeError(f"only {pidfds(pid)} of {count} attempts are watched")

    def status(self, issues: int) -> float:
        after = {str(n): (str(n - 1),) if n > 1 else () for n in range(1, issues + 1)}
        with self._batch(after) as batch:
            self.prepare(batch, 8)
            self.mark_done(batch, list(after)[: issues // 2])
            taken = []
            for _ in range(7):
                began = time.perf_counter()
                self._call(batch, "status", AREA)
                taken.append(time.perf_counter() - began)
            return sorted(taken)[len(taken) // 2]


def cpu_seconds(pid: int) -> float:
    """CPU that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    """Resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def pidfds(pid: int) -> int:
    """How many processes the process watches."""
    try:
        links = [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return 0
    return sum("pidfd" in link for link in links)
