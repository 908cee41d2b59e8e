"""The gauntlet from end to end: every strike and every power cut of one seed, then the report."""

import argparse
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from gauntlet.every import start_from_every
from gauntlet.hostile import ROUNDS, race
from gauntlet.injection import PAIRS, WATCHED_PLAYS, Gauntlet
from gauntlet.power import Recording, Told, pick, replay, resume
from gauntlet.report import Row, row_of, write_report
from gauntlet.scenario import make_room
from gauntlet.targets import KILL, SHARED, Target

_RECORDINGS = 3


def main() -> int:
    """Run everything, write the report; 1 where a promise was broken or a site was left out."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what is being played is played out
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}", flush=True)
    gauntlet = Gauntlet(seed, options.workers, options.repeats)
    parts = []
    try:
        for name, play in (
            ("watch", gauntlet.watch),
            ("kill", gauntlet.kill),
            ("children", gauntlet.kill_children),
            ("pairs", lambda: gauntlet.kill_pairs(options.pairs)),
            ("refuse", gauntlet.refuse),
            ("full", lambda: gauntlet.fill_disk(options.full)),
        ):
            if options.only and name not in ("watch", *options.only):
                continue
            parts.append(play())
            print(row_of(parts[-1]).text(), flush=True)
        rows = [row_of(part) for part in parts]
        if not options.only or "race" in options.only:
            rows.append(race(gauntlet.pool, seed, options.races))
            print(rows[-1].text(), flush=True)
    finally:
        gauntlet.close()
    if not options.only or "power" in options.only:
        rows += _cut_power(seed, gauntlet.watched, options.states, options.resumes)
    missing = {part.name: sorted(part.sites - part.hit) for part in parts[1:]}
    never = [
        (name, site, gauntlet.seen_in[site.partition(" error=")[0]])
        for name, sites in missing.items()
        if name != PAIRS  # of the recoveries' sites many are there after one kill only
        for site in sites
    ]
    notes = [
        f"{name}: never hit: {site}, which was there in {count} of {WATCHED_PLAYS} watched plays."
        for name, site, count in never
    ]
    if not options.only:
        write_report(rows, seed, notes)
    broken = sum(row.wrong for row in rows)
    print(f"seed {seed}: {broken} broken; " + "; ".join(notes[:20]))
    left_out = any(count >= WATCHED_PLAYS for _, _, count in never)
    return 1 if broken or left_out else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gauntlet", description=__doc__)
    parser.add_argument("--seed", type=int, help="of every choice; else the time")
    parser.add_argument("--workers", type=int, default=6, help="plays at the same time")
    parser.add_argument("--repeats", type=int, default=1, help="kills a site at least")
    parser.add_argument("--pairs", type=int, default=300, help="struck twice")
    parser.add_argument("--full", type=int, default=12, help="full disks")
    parser.add_argument("--states", type=int, default=6, help="ways for names a moment and law")
    parser.add_argument("--resumes", type=int, default=20, help="real resumes a recording")
    parser.add_argument("--races", type=int, default=ROUNDS)
    parser.add_argument(
        "--only", nargs="*", help="watch, kill, children, pairs, refuse, full, race, power"
    )
    return parser.parse_args()


def _cut_power(seed: int, watched: Sequence[Target], states: int, resumes: int) -> list[Row]:
    """Record a play as it should be, and plays in which a run is killed; replay their disks."""
    runs = [t for t in watched if t.role == "command-0" and t.play == SHARED]
    strikes: list[dict[str, str]] = [{}]
    for number in range(_RECORDINGS - 1):
        target = runs[(seed * 7919 + number * 104729) % len(runs)]
        strikes.append({target.role: target.strike(KILL)})
    rooms = [make_room() for _ in strikes]
    with ThreadPoolExecutor(len(strikes)) as pool:
        recordings = list(
            pool.map(lambda room, strike: Recording(Path(room.name), strike), rooms, strikes)
        )
        every, sampled = _replay(recordings, seed, states)
        rows = [
            _row("power cut, names ordered: every state", every),
            _row("power cut, names any: a sample of states", sampled),
        ]
        looked = time.monotonic()
        results = [
            result
            for several in pool.map(lambda each: _resume_some(each, seed, resumes), recordings)
            for result in several
        ]
    for recording, room in zip(recordings, rooms, strict=True):
        recording.theatre.close()
        room.cleanup()
    for problem in [p for told, _ in (*every, *sampled) for p in told.wrong[:20]]:
        print(f"  power cut: {problem}")
    wrong = [result for result in results if result.wrong]
    for result in wrong:
        print(f"  {result.faults}: {result.wrong}")
    count, seconds = len(results), time.monotonic() - looked
    total = sum(row.plays for row in rows)
    rows.append(Row("power cut, really resumed", total, count, count, 0, 0, len(wrong), seconds))
    for row in rows:
        print(row.text(), flush=True)
    return rows


def _resume_some(recording: Recording, seed: int, count: int) -> list:
    moments = pick(recording, seed, count)
    return [resume(recording, moment, act) for act, moment in enumerate(moments)]


def _replay(
    recordings: Sequence[Recording], seed: int, states: int
) -> tuple[list[tuple[Told, float]], ...]:
    """What came of each recording's states, and in which time, by each of the two laws."""
    steps = [recording.steps for recording in recordings]
    # No thread of this process may hold a lock in the copy: each is a Python of its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(steps), context) as processes:
        every = processes.map(_timed, [start_from_every] * len(steps), [(s,) for s in steps])
        sample = [(each, seed, states) for each in steps]
        sampled = processes.map(_timed, [replay] * len(steps), sample)
        return list(every), list(sampled)


def _timed(job: Callable[..., Told], arguments: tuple[Any, ...]) -> tuple[Told, float]:
    began = time.monotonic()
    return job(*arguments), time.monotonic() - began


def _row(name: str, found: Sequence[tuple[Told, float]]) -> Row:
    started = sum(told.started for told, _ in found)
    wrong = sum(len(told.wrong) for told, _ in found)
    seconds = max(seconds for _, seconds in found)
    possible = sum(told.possible for told, _ in found)
    return Row(name, possible, started, started, 0, 0, wrong, seconds)


if __name__ == "__main__":
    sys.exit(main())
