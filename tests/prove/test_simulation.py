"""The real orchestrator, store and attempt folders on a simulated machine, with faults at random.

A failure names the command that replays it. The longer run is `make soak` (bench/soak.py).
"""

import inspect
import random
import textwrap

import pytest
import sim_disk
from sim_history import run_history

from gangline.app import launching
from gangline.core import batch, reconcile
from gangline.core.events import Voided
from gangline.core.model import Status
from gangline.hosts import attempts, local, runner
from gangline.store import batches, edits, journal

FIRST_SEED = 1_000_000_000  # not those of the soak
HISTORIES_OF_A_CHUNK = 100
HISTORIES_TO_CATCH = 400


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


# -- planted bugs --------------------------------------------------------------------------------


def plant(monkeypatch, owner, name, *changes):
    """Change the source of a function, and put it in the place of the true one."""
    function = inspect.unwrap(getattr(owner, name))
    source = textwrap.dedent(inspect.getsource(function))
    for old, new in changes:
        assert old in source, f"{name} has changed: the planted bug has to change with it"
        source = source.replace(old, new)
    names = {}
    exec(compile(source, f"planted in {name}", "exec"), function.__globals__, names)
    monkeypatch.setattr(owner, name, names[function.__name__])


BUGS = {
    "fsync is left out of the commit": [
        (journal.Journal, "append", ("        os.fsync(fd)\n", "")),
    ],
    "only the journal's own folder is synced": [
        (journal.Journal, "create", ("_FOLDERS_DEEP", "1")),
    ],
    "the names of attempt folders are not synced": [
        (attempts.AttemptFolders, "_sync_root", ("sync_folder(", "str(")),
    ],
    "a torn tail is appended to": [
        (journal.Journal, "repair", ("if found.torn or found.heal", "if False")),
    ],
    "a state file that lags is read as an edit": [
        (batches.Store, "_checkpoint", ("if not state", "if True or not state")),
        (batches, "judge", ("if digest_matches(data)", "if False")),
        (edits, "_base_of", ("return fold_at(journal, seq)", "return newest")),
    ],
    "a lock that cannot be probed is taken for free": [
        (attempts, "probe_lock", ("return Answer.UNKNOWN", "return Answer.NO")),
    ],
    "an exit.json that cannot be read is taken for none": [
        (attempts, "_read_exit", ("return Answer.UNKNOWN, None", "return Answer.NO, None")),
    ],
    "an attempt's number is used again": [
        (launching.Launcher, "intend", ("number = 1 + max(", "number = 0 * max(")),
    ],
    "a void is recorded before it is linked": [
        (
            reconcile,
            "_decide_not_started",
            (
                "decision.effects.append(Void(issue.key, attempt.number))",
                "_record_void(case, decision)",
            ),
        ),
    ],
    "the claim is not exclusive": [
        (runner, "link_claim", ("        return False\n", "        return True\n")),
        (runner, "take_lock", ("if attempt.exists(CLAIM)", "if False")),
    ],
    "what a dead attempt left is not looked for": [
        (
            local,
            "_with_survivors",
            (
                "if seen.starting is Answer.YES:",
                "left = Answer.NO\n    if seen.starting is Answer.YES:",
            ),
        ),
    ],
    "deaths are not counted": [
        (batch.Batch, "_fold_attempt", ("issue.spent += 1", "issue.spent += 0")),
    ],
    "a stale signal file is believed": [
        (attempts.AttemptFolders, "put_away_signal", ("if not os.path.lexists(path)", "if True")),
    ],
}


def _record_void(case, decision):
    event = Voided(issue=case.issue.key, attempt=case.attempt.number, reason="", to=Status.PENDING)
    decision.events.append(event)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug, monkeypatch):
    monkeypatch.setattr(reconcile, "_record_void", _record_void, raising=False)
    for owner, name, *changes in BUGS[bug]:
        plant(monkeypatch, owner, name, *changes)
    seeds = range(FIRST_SEED, FIRST_SEED + HISTORIES_TO_CATCH)
    assert any(run_history(seed).failure for seed in seeds)
