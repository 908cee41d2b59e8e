"""Measures every runner and the floor in one run, interleaved, and writes the table.

Interleaved, because a shared machine drifts: each round measures every runner once, so that a slow
minute falls on all of them. Only ratios within one run are to be trusted.
"""

import argparse
import datetime as dt
import importlib.util
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import floor
from peers.dask_driver import DaskDriver
from peers.dbos_driver import DbosDriver
from peers.doit_driver import DoitDriver
from peers.driver import ROOT, CommandDriver, Driver, OwnDriver, output
from peers.environment import make_environment
from peers.make_driver import MakeDriver
from peers.snakemake_driver import SnakemakeDriver
from peers.spec_shell_driver import SpecShellDriver

PEERS: tuple[type[CommandDriver], ...] = (
    MakeDriver,
    DoitDriver,
    SnakemakeDriver,
    DaskDriver,
    DbosDriver,
    SpecShellDriver,
)
WORKLOADS = ("W1", "W2", "W3", "W4", "W5", "W6")
RESULTS = ROOT / "bench" / "RESULTS.md"
SLOW_SECONDS = 20  # a piece that took longer is not repeated
FAILURES = (OSError, RuntimeError, ValueError, KeyError, subprocess.SubprocessError)


@dataclass(frozen=True)
class Sizes:
    """How much of each workload is run."""

    repeats: int = 3
    jobs: int = 1000
    layers: int = 20
    width: int = 8
    chain: int = 100
    limit_seconds: float = 60
    long_seconds: float = 20
    kill_after_seconds: float = 2
    total: int = 10_000
    open_jobs: int = 10
    resume_limit_seconds: float = 120
    attempts: int = 500
    idle_seconds: float = 60
    issues: int = 1000


QUICK = Sizes(
    repeats=1,
    jobs=100,
    layers=5,
    chain=20,
    limit_seconds=15,
    long_seconds=4,
    kill_after_seconds=0.5,
    total=500,
    resume_limit_seconds=15,
    attempts=20,
    idle_seconds=5,
    issues=100,
)


Record = dict  # of one measurement of one runner, as it goes into results.json
Results = dict[str, dict[str, list[Record]]]  # by workload, by runner


def w1(driver: Driver, sizes: Sizes) -> Record:
    done = driver.throughput(sizes.jobs, sizes.layers, sizes.width, sizes.limit_seconds)
    return asdict(done) | {"figure": done.jobs_per_second}


def w2(driver: Driver, sizes: Sizes) -> Record:
    gaps = driver.chain(sizes.chain, sizes.limit_seconds)
    note = "" if len(gaps) == sizes.chain - 1 else f"{len(gaps) + 1} of {sizes.chain} jobs"
    return {"figure": statistics.median(gaps) if gaps else None, "gaps": gaps, "note": note}


def w3(driver: Driver, sizes: Sizes) -> Record:
    return asdict(driver.crash(sizes.long_seconds, sizes.kill_after_seconds))


def w4(driver: Driver, sizes: Sizes) -> Record:
    done = sizes.total - sizes.open_jobs
    seconds = driver.resume(sizes.total, done, sizes.resume_limit_seconds)
    if seconds is not None and math.isinf(seconds):
        return {"figure": None, "note": f"not one in {sizes.resume_limit_seconds:.0f} s"}
    return {"figure": seconds}


def w5(driver: OwnDriver, sizes: Sizes) -> Record:
    return asdict(driver.live(sizes.attempts, sizes.idle_seconds))


def w6(driver: OwnDriver, sizes: Sizes) -> Record:
    return {"figure": driver.status(sizes.issues) * 1e3}


PIECES: dict[str, Callable[[Driver, Sizes], Record]] = dict(
    zip(WORKLOADS, (w1, w2, w3, w4, w5, w6), strict=True)
)


def floor_of(workload: str, sizes: Sizes) -> Record | None:
    """The floor's own figure for a workload, or what W4 and W6 are measured by; else None."""
    if workload == "W1":
        wide = floor.measure(max(40, sizes.jobs // 4), sizes.width)
        return {"figure": wide.jobs_per_second, "cpu_ms": wide.cpu_ms}
    if workload == "W2":
        serial = floor.measure(sizes.chain, 1)
        return {
            "figure": statistics.median(serial.gaps_ms),
            "gaps": serial.gaps_ms,
            "cpu_ms": serial.cpu_ms,
            "parts_ms": serial.parts_ms,
        }
    if workload in ("W4", "W6"):
        milliseconds = statistics.median(floor.interpreter_ms(5))
        return {"figure": milliseconds / 1e3 if workload == "W4" else milliseconds}
    return None


def measure(drivers: list[Driver], chosen: list[str], sizes: Sizes) -> Results:
    """Every chosen workload, in rounds: the floor first, then each runner once."""
    results: Results = {workload: {} for workload in chosen}
    for repeat in range(sizes.repeats):
        for workload in chosen:
            of_floor = floor_of(workload, sizes)
            if of_floor is not None:
                results[workload].setdefault("floor", []).append(of_floor)
            own_only = workload in ("W5", "W6")
            for driver in drivers:
                if own_only and not isinstance(driver, OwnDriver):
                    continue
                records = results[workload].setdefault(driver.name, [])
                if not (repeat and _is_enough(workload, records)):
                    records.append(_one(workload, driver, sizes))
    return results


def _is_enough(workload: str, records: list[Record]) -> bool:
    last = records[-1]
    if last.get("figure") is None:  # W3 and W5 are run once; so is what failed or does not apply
        return True
    return last["took_seconds"] > SLOW_SECONDS


def _one(workload: str, driver: Driver, sizes: Sizes) -> Record:
    print(f"{workload} {driver.name} ...", end=" ", file=sys.stderr, flush=True)
    began = time.monotonic()
    try:
        record = PIECES[workload](driver, sizes)
    except FAILURES as error:
        # Only our own errors are known to name no path of this machine.
        own = type(error) is RuntimeError
        record = {"error": str(error) if own else type(error).__name__}
        print(f"{error!r}", file=sys.stderr)
    record["took_seconds"] = time.monotonic() - began
    print(f"{record['took_seconds']:.1f} s", file=sys.stderr)
    return record


def _cell(records: list[Record], digits: int) -> list[str]:
    """Median, min, max and note of a runner's records, as cells of the table."""
    last = records[-1]
    if "error" in last:
        return ["-", "-", "-", f"failed: {last['error']}"]
    figures = [record["figure"] for record in records if record["figure"] is not None]
    note = last.get("note", "")
    if not figures:
        return ["-", "-", "-", note]
    if len(figures) == 1:
        note = "; ".join(filter(None, (note, "one run")))
    shown = (statistics.median(figures), min(figures), max(figures))
    return [*(f"{figure:.{digits}f}" for figure in shown), note]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _median(results: Results, workload: str, runner: str, key: str = "figure") -> float | None:
    records = results.get(workload, {}).get(runner, [])
    figures = [record[key] for record in records if record.get(key) is not None]
    return statistics.median(figures) if figures else None


TITLES = {
    "W1": ("{jobs:,} no-op jobs in {layers} layers, {width} at once: jobs/s", 0),
    "W2": ("chain of {chain} no-op jobs: end to next start, ms (median of each run)", 1),
    "W3": ("kill -9 with 8 of 16 jobs running, then resume: jobs", 0),
    "W4": ("{total:,} jobs, {open_jobs} not done: seconds from the start to the first of them", 2),
    "W5": ("{attempts} live attempts (Gangline only)", 0),
    "W6": ("status of {issues:,} issues (Gangline only), ms", 1),
}


def section(workload: str, of_runner: dict[str, list[Record]], sizes: Sizes) -> str:
    """One workload's heading and table."""
    title, digits = TITLES[workload]
    text = f"\n## {workload}: {title.format(**asdict(sizes))}\n\n"
    if workload == "W3":
        keys = ["twice", "redone", "lost", "note", "error"]
        rows = [
            [name, *(str(records[-1].get(key, "")) for key in keys)]
            for name, records in of_runner.items()
        ]
        return text + _table(["runner", "started twice", "redone", "lost", "note", "failed"], rows)
    if workload == "W5":
        found = {name: records[-1] for name, records in of_runner.items()}
        own = {name: last for name, last in found.items() if "adoption_seconds" in last}
        keys = ["adoption_seconds", "pass_cpu_ms", "idle_cpu_percent", "memory_mb"]
        rows = [[name, *(f"{last[key]:.2f}" for key in keys)] for name, last in own.items()]
        head = ["runner", "adoption s", "one pass, CPU ms", "idle, % of a core", "memory MB"]
        return text + (_table(head, rows) if rows else "not measured in this run\n")
    name_of = {} if workload in ("W1", "W2") else {"floor": "python -c pass"}
    rows = [
        [name_of.get(name, name), *_cell(records, digits)] for name, records in of_runner.items()
    ]
    return text + _table(["runner", "median", "min", "max", "note"], rows)


def floor_text(results: Results) -> str:
    """What the floor costs, and what it allows on all cores."""
    wide, serial = _median(results, "W1", "floor", "cpu_ms"), _median(results, "W2", "floor")
    cores = len(os.sched_getaffinity(0))
    text = "\n## The floor\n\n"
    if wide:
        text += f"8 at once: {wide:.1f} ms of CPU a job, so {cores} cores allow "
        text += f"{cores / wide * 1e3:.0f} jobs/s.\n"
    if serial:
        last = results["W2"]["floor"][-1]
        parts = ", ".join(f"{name} {ms:.1f}" for name, ms in last["parts_ms"].items())
        text += f"One at a time: {last['cpu_ms']:.1f} ms of CPU a job; wall: {parts} ms.\n"
    return text if wide or serial else ""


def targets(results: Results) -> str:
    """Gangline's targets, each beside what this run measured."""
    own = "gangline"
    cores = len(os.sched_getaffinity(0))
    rows: list[list[str]] = []

    def row(what: str, measured: float | None, limit: float | None, at_least: bool = False) -> None:
        if measured is None or limit is None:
            return
        met = measured >= limit if at_least else measured <= limit
        sign = ">=" if at_least else "<="
        rows.append([what, f"{measured:.2f}", f"{sign} {limit:.2f}", "yes" if met else "**no**"])

    allowed = _median(results, "W1", "floor", "cpu_ms")
    row("W1 jobs/s", _median(results, "W1", own), allowed and 600 * cores / allowed, at_least=True)
    gap = _median(results, "W2", "floor")
    row("W2 ms", _median(results, "W2", own), gap and 1.6 * gap)
    for key in ("twice", "redone", "lost"):
        row(f"W3 {key}", _median(results, "W3", own, key), 0)
    bare = _median(results, "W4", "floor")
    row("W4 s after Python's start", _median(results, "W4", own), bare and 0.5 + bare)
    row("W5 adoption s", _median(results, "W5", own, "adoption_seconds"), 1)
    row("W5 one pass, CPU ms", _median(results, "W5", own, "pass_cpu_ms"), 20)
    row("W5 idle, % of a core", _median(results, "W5", own, "idle_cpu_percent"), 0.5)
    row("W5 memory MB", _median(results, "W5", own, "memory_mb"), 80)
    bare = _median(results, "W6", "floor")
    row("W6 ms", _median(results, "W6", own), bare and 4 * bare)
    if not rows:
        return "\nGangline was not measured in this run.\n"
    return "\n## Targets\n\n" + _table(["target", "measured", "limit", "met"], rows)


def machine() -> str:
    """What the figures depend on; no names, no paths."""
    kernel = f"{platform.system()} {platform.release().partition('-')[0]}"
    cores = len(os.sched_getaffinity(0))
    python = f"Python {platform.python_version()}"
    date = dt.datetime.now(dt.UTC).date()
    return f"{date}; {cores} cores, {kernel}, {python}, {output(['tmux', '-V'])}, {file_system()}"


def file_system() -> str:
    """The kind of file system that the runners work on: fsync costs nothing on a tmpfs."""
    place = os.path.realpath(tempfile.gettempdir())
    mounts = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    kinds = {mount[1]: mount[2] for mount in mounts}
    return kinds[max((at for at in kinds if Path(place).is_relative_to(at)), key=len)]


def own_driver() -> list[Driver]:
    """Gangline's driver, where it is there."""
    if importlib.util.find_spec("gangline_driver") is None:
        return []
    return [importlib.import_module("gangline_driver").GanglineDriver()]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(WORKLOADS), help="workloads: W1,W2")
    parser.add_argument("--peers", help="runners, by name: make,doit")
    parser.add_argument("--quick", action="store_true", help="small sizes, once: only a check")
    given = parser.parse_args()
    given.only = given.only.split(",")
    if unknown := set(given.only) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    return given


def choose(named: str | None) -> tuple[list[Driver], list[str]]:
    """The runners to measure, and a line for each that cannot be."""
    every = [*own_driver(), *(peer() for peer in PEERS)]
    names = named.split(",") if named else [driver.name for driver in every]
    if unknown := set(names) - {driver.name for driver in every}:
        sys.exit(f"no such runner: {', '.join(sorted(unknown))}")
    wanted = [driver for driver in every if driver.name in names]
    why_not = make_environment() if any(getattr(d, "module", "") for d in wanted) else None
    reasons = {d.name: d.available() for d in wanted}
    if why_not:
        reasons |= {d.name: why_not for d in wanted if getattr(d, "module", "")}
    missing = [f"{name} is not measured: {reason}" for name, reason in reasons.items() if reason]
    return [driver for driver in wanted if not reasons[driver.name]], missing


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended
    given = arguments()
    sizes = QUICK if given.quick else Sizes()
    drivers, missing = choose(given.peers)
    results = measure(drivers, given.only, sizes)
    versions = ", ".join(driver.version() for driver in drivers)
    text = f"# Speed, beside other runners\n\n{machine()}.\n\n{versions}.\n\n"
    text += "Written by `make bench`; what is measured, and how, is in README.md here.\n"
    text += "".join(f"\n{line}\n" for line in missing) + targets(results) + floor_text(results)
    text += "".join(section(workload, results[workload], sizes) for workload in given.only)
    whole = not (given.quick or given.peers or set(given.only) != set(WORKLOADS))
    place = RESULTS if whole else ROOT / ".bench" / "partial.md"
    place.parent.mkdir(exist_ok=True)
    place.write_text(text)
    raw = {"machine": machine(), "sizes": asdict(sizes), "results": results}
    (ROOT / ".bench" / "results.json").write_text(json.dumps(raw, indent=1))
    print(text)
    print(f"written to {Path(place).relative_to(ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    main()
