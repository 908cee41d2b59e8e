"""The real orchestrator, store and attempt folders on a simulated machine, with faults at random.

A failure names the command that replays it. The longer run is `make soak` (bench/soak.py).
"""

import random

import pytest
import sim_disk
from sim_history import run_history

FIRST_SEED = 1_000_000_000  # not those of the soak
HISTORIES_OF_A_CHUNK = 100
# bench/SOAK.md tells of them.
_BROKEN_ONCE = "484 653 1516 9090 11411 11966 15505 44154 54435 66498 69642 70366 72106 72166 77297"
_BROKEN_ONCE += " 104000 104440 106056 108626 110180 110682 111376 111998 124919"


@pytest.mark.parametrize("chunk", range(12))
def test_no_history_breaks_a_promise(chunk):
    first = FIRST_SEED + chunk * HISTORIES_OF_A_CHUNK
    broken = {}
    crashes = 0
    for seed in range(first, first + HISTORIES_OF_A_CHUNK):
        result = run_history(seed)
        crashes += result.counts.crashes
        if result.failure is not None:
            broken[f"python bench/soak.py --seed {seed}"] = result.failure
    assert broken == {}
    assert crashes > HISTORIES_OF_A_CHUNK


@pytest.mark.parametrize("seed", [int(seed) for seed in _BROKEN_ONCE.split()])
def test_a_history_that_was_broken_once_is_whole(seed):
    assert run_history(seed).failure is None


def test_a_batch_of_200_issues_comes_to_its_end():
    result = run_history(FIRST_SEED, issues=200)
    assert result.failure is None
    assert result.counts.agents >= 150


def test_a_seed_repeats_its_history_to_the_last_byte():
    seeds = [FIRST_SEED + number for number in range(10)]
    histories = [run_history(seed).digest() for seed in seeds]
    assert [run_history(seed).digest() for seed in seeds] == histories
    assert len(set(histories)) == len(seeds)


def test_what_is_not_synced_is_lost_with_the_power():
    kept = set()
    for seed in range(60):
        disk = sim_disk.Disk(random.Random(seed))
        folder = disk.make(disk.root, "folder", is_folder=True)
        disk.sync(disk.root)
        file = disk.make(folder, "file")
        disk.write(file, 0, b"old")
        disk.sync(file)
        disk.sync(folder)
        disk.write(file, 3, b"new")
        disk.make(folder, "other")
        disk.cut_power()
        assert bytes(disk.find("/folder/file").data).startswith(b"old")
        kept.add((bytes(disk.find("/folder/file").data), "other" in folder.entries))
    assert {(b"old", False), (b"oldnew", True), (b"oldn", False)} <= kept
