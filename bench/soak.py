"""Simulated histories without end: each a batch on a machine where everything goes wrong.

    python bench/soak.py --seed 42            one history, printed, and what it broke if it did
    python bench/soak.py --seed 42 --until-broken 400      those from 42 on, up to a broken one
    python bench/soak.py --minutes 30         as many as fit, on all cores; counted in bench/SOAK.md
    make soak                                 the same, until it is interrupted (Ctrl-C)

A seed gives the same history on every machine (for the same code). A soak goes on from the seed
where the last one ended, and adds to the counts of the code that it ran: each version of
src/gangline has a row of its own, named by the hash of its contents.
"""

import argparse
import hashlib
import multiprocessing
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
FIGURES = TOP / "bench" / "SOAK.md"
_CHUNK = 25
_COLUMNS = (
    *("histories", "events", "calls", "agents", "crashes", "crash pairs"),
    *("power losses", "broken"),
)
_HEAD = """# Soak: simulated histories, counted

Written by `make soak` (bench/soak.py); each row is one version of `src/gangline`, named by the hash
of its contents. A *history* is a batch of 3 to 12 issues (one in 500: of 200) run to its end by
the real orchestrator on simulated ports, with faults at random; *calls* are all processes' calls
to the simulated system, each a place where one may be killed; a *crash pair* is an orchestrator
that was killed, and whose recovery was killed too; *power losses* lose what was not synced.
*Broken*: histories in which a promise did not hold; their seeds are below.
"""
_CAUSES = "\n## What broke them, and what mended it\n"


def main(arguments):
    """Replay one seed, or soak."""
    parser = argparse.ArgumentParser(description="simulated histories")
    parser.add_argument("--seed", type=int, help="replay this history and print it")
    parser.add_argument("--until-broken", type=int, help="so many histories from the seed on")
    parser.add_argument("--without", default="", help="kinds of faults to leave out: crash,power")
    parser.add_argument("--issues", type=int, help="how many issues the batch has")
    parser.add_argument("--quiet", action="store_true", help="do not print the history")
    parser.add_argument("--minutes", type=float, help="how long to soak; without: until Ctrl-C")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    chosen = parser.parse_args(arguments)
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets would be chance of its own
        environment = os.environ | {"PYTHONHASHSEED": "0"}
        os.execve(sys.executable, [sys.executable, __file__, *arguments], environment)
    sys.path[:0] = [str(TOP / "tests" / "prove"), str(TOP / "src")]
    if chosen.until_broken is not None:
        return search(chosen.seed or 0, chosen.until_broken)
    if chosen.seed is not None:
        return replay(chosen)
    return soak(chosen.minutes, chosen.workers)


# -- one history ---------------------------------------------------------------------------------


def replay(chosen):
    """Print one history; 1 if it broke a promise."""
    from sim_history import run_history

    without = tuple(filter(None, chosen.without.split(",")))
    result = run_history(chosen.seed, without, chosen.issues)
    if not chosen.quiet:
        print("\n".join(result.lines()))
    counts = result.counts
    print(
        f"seed {result.seed}: {result.issues} issues, {counts.calls} calls, "
        f"{counts.agents} agents, {counts.crashes} crashes, {counts.crash_pairs} pairs, "
        f"{counts.power_losses} power losses"
    )
    if result.failure is None:
        return 0
    print(f"BROKEN: {result.failure}")
    print(f"again: {command(chosen.seed, without, chosen.issues)}")
    smaller = shrink(chosen.seed, without, chosen.issues)
    if set(smaller) != set(without):
        print(f"with fewer kinds of faults: {command(chosen.seed, smaller, chosen.issues)}")
    return 1


def search(first, count):
    """Look for a broken history; 1 if there is one."""
    from sim_history import run_history

    for seed in range(first, first + count):
        failure = run_history(seed).failure
        if failure is not None:
            print(f"BROKEN: history {seed - first + 1}: {failure}\n  {command(seed)}")
            return 1
    print(f"{count} histories keep every promise")
    return 0


def command(seed, without=(), issues=None):
    """The command that replays a history."""
    words = ["python bench/soak.py", f"--seed {seed}"]
    words += [f"--without {','.join(without)}"] if without else []
    words += [f"--issues {issues}"] if issues else []
    return " ".join(words)


def shrink(seed, without, issues):
    """The kinds of faults that the failure does not need."""
    from sim_history import FAULTS, run_history

    kept = list(without)
    for kind in ("service", *FAULTS):
        if kind not in kept and run_history(seed, (*kept, kind), issues).failure is not None:
            kept.append(kind)
    return tuple(kept)


# -- many ----------------------------------------------------------------------------------------


def run_chunk(first):
    """Run some seeds: their counts, and (seed, failure) of each that broke."""
    from sim_history import run_history

    counts, broken = Counter(), []
    for seed in range(first, first + _CHUNK):
        result = run_history(seed)
        found = result.counts
        counts["histories"] += 1
        for column in _COLUMNS[1:-1]:
            counts[column] += getattr(found, column.replace(" ", "_"))
        if result.failure is not None:
            counts["broken"] += 1
            broken.append((seed, result.failure))
    return counts, broken


def soak(minutes, workers):
    """Run history after history, and add to the figures; 1 if one broke a promise."""
    import sim_history  # noqa: F401 - before the workers are forked: all run what is hashed here

    version = code_version()
    figures = Figures()
    deadline = None if minutes is None else time.monotonic() + minutes * 60
    first, done = figures.next_seed, 0
    written = time.monotonic()
    found_broken = False

    def seeds():
        seed = first
        while deadline is None or time.monotonic() < deadline:
            yield seed
            seed += _CHUNK

    # Only a worker that has nothing to do asks for more: what is asked for is run.
    with multiprocessing.Pool(workers) as pool:
        source, running = seeds(), []
        try:
            while True:
                while len(running) < workers + 1 and (seed := next(source, None)) is not None:
                    running.append(pool.apply_async(run_chunk, (seed,)))
                if not running:
                    break
                counts, broken = running.pop(0).get()
                done += _CHUNK
                figures.add(version, counts, broken, first + done)
                for seed, failure in broken:
                    found_broken = True
                    print(f"BROKEN: {failure}\n  {command(seed)}", flush=True)
                if time.monotonic() > written + 10:
                    written = time.monotonic()
                    figures.write()
                    print(f"{done} histories", flush=True)
        except KeyboardInterrupt:
            pool.terminate()
    figures.write()
    print(f"{done} histories; the figures are in {FIGURES.relative_to(TOP)}")
    return int(found_broken)


def code_version():
    """The hash of what src/gangline holds."""
    found = hashlib.sha256()
    for path in sorted((TOP / "src" / "gangline").rglob("*.py")):
        found.update(str(path.relative_to(TOP)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()[:10]


class Figures:
    """bench/SOAK.md, read and written."""

    def __init__(self):
        self.rows = {}
        self.broken = []  # lines of text
        self.causes = ""  # written by hand: what broke them, and what mended it
        self.next_seed = 0
        if not FIGURES.exists():
            return
        text = FIGURES.read_text(encoding="utf-8")
        self.causes = text.partition(_CAUSES)[2].strip()
        for line in text.splitlines():
            cells = [cell.strip().replace(",", "") for cell in line.strip("|").split("|")]
            if re.fullmatch(r"`[0-9a-f]{10}`", cells[0]) and len(cells) == 1 + len(_COLUMNS):
                numbers = map(int, cells[1:])
                self.rows[cells[0].strip("`")] = Counter(dict(zip(_COLUMNS, numbers, strict=True)))
            elif line.startswith("- `") and ": python " in line:
                self.broken.append(line)
        found = re.search(r"next seed: (\d+)", text)
        self.next_seed = int(found[1]) if found else 0

    def add(self, version, counts, broken, next_seed):
        self.rows.setdefault(version, Counter()).update(counts)
        self.broken += [
            f"- `{version}`: {command(seed)}: {' '.join(why.split())[:150]}" for seed, why in broken
        ]
        self.next_seed = next_seed

    def write(self):
        total = sum(self.rows.values(), Counter())
        lines = [
            _HEAD,
            "| code | " + " | ".join(_COLUMNS) + " |",
            "|---" * (1 + len(_COLUMNS)) + "|",
        ]
        for name, row in [*((f"`{v}`", r) for v, r in self.rows.items()), ("**total**", total)]:
            lines.append(f"| {name} | " + " | ".join(f"{row[c]:,}" for c in _COLUMNS) + " |")
        lines += ["", f"next seed: {self.next_seed}", ""]
        if self.broken:
            lines += ["Broken, by the version that broke:", "", *self.broken, ""]
        if self.causes:
            lines += [_CAUSES.strip(), "", self.causes, ""]
        part = FIGURES.with_suffix(".part")
        part.write_text("\n".join(lines), encoding="utf-8")
        part.replace(FIGURES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
