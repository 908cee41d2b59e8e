"""A part of `make gauntlet`: the real program struck at calls that matter, and the power cut.

All of it, with every site, 300 pairs and every error, is bench/gauntlet; what is here is one strike
at each kind of step of the protocol. The checkers are given doctored histories as well, because a
checker that finds nothing proves nothing.
"""

import shutil
import sys

import pytest
from gauntlet.calls import SYNCS
from gauntlet.checks import judge
from gauntlet.every import start_from_every
from gauntlet.injection import ERRORS, Gauntlet
from gauntlet.power import Recording, pick, replay, resume
from gauntlet.scenario import ISSUES, Play, Theatre
from gauntlet.targets import SHARED, Aim

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="strace is Linux's")

SEED = 4
STEPS = [  # role, and what its site has: before each of these calls the process is killed
    ("command-0", "run: write work/batch.journal.jsonl [batch-started]"),
    ("command-0", "run: fsync work/batch.journal.jsonl [dispatched]"),
    ("command-0", "run: write pipe"),
    ("command-0", "run: unlink work/attempts/*/environment"),
    ("command-0", "run: write work/batch.journal.jsonl [launched]"),
    ("command-0", "run: write work/batch.journal.jsonl [ended]"),
    ("command-0", "run: rename work/batch.state.json.part -> work/batch.state.json [ended]"),
    ("command-1", "retry: fsync work/batch.journal.jsonl [retried]"),
    ("command-3", "run, second act: rename work/issue-N.exit"),
    ("command-4", "run that archives: rename work -> .archive"),
    ("cancel", "cancel: fsync work/batch.journal.jsonl [wished]"),
    ("runner-1-0", "runner: linkat"),
    ("runner-1-0", "runner: clone3"),
    ("runner-1-0", "runner: renameat work/attempts/*/exit.json.part"),
    ("runner-3-0", "runner of one that dies: openat work/wake"),
]
PAIRS = [  # a run killed there, and then the run that recovers
    ("run: fsync work/batch.journal.jsonl [dispatched]", "recovery: write work/batch.journal"),
    ("run: write work/batch.journal.jsonl [launched]", "recovery: fsync work/batch.journal"),
    ("run: write work/batch.journal.jsonl [ended]", "recovery: rename work/batch.state.json.part"),
]
REFUSED = [
    ("command-0", "run: write work/batch.journal.jsonl [dispatched]"),
    ("command-0", "run: fsync work/batch.journal.jsonl [dispatched]"),
    ("command-0", "run: rename work/batch.state.json.part"),
    ("runner-1-0", "runner: linkat"),
]


@pytest.fixture(scope="module")
def gauntlet():
    """One play of each kind was watched, and kept every promise."""
    assert shutil.which("strace"), "install it: sh scripts/install-system-tools.sh strace"
    made = Gauntlet(SEED, workers=3, repeats=1)
    watched = made.watch(plays=1)
    assert [result.wrong for result in watched.wrong] == []
    yield made
    made.close()


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A play with all that its processes called."""
    made = Recording(tmp_path_factory.mktemp("recorded"), {})
    assert judge(made.play, hurt=False) == []
    yield made
    made.theatre.close()


def first(targets, role, start):
    """The first call of this process at the site that starts so."""
    found = [
        Aim(target, site)
        for target in targets
        if target.play == SHARED and target.role == role
        for site in target.sites
        if site.startswith(start)
    ]
    assert found, f"nothing is called there any more: {start}"
    return min(found, key=lambda aim: aim.target.ordinal)


def broken(part):
    return [(result.faults, result.wrong) for result in part.wrong]


def test_killed_before_any_step_and_resumed_nothing_is_lost_and_nothing_runs_twice(gauntlet):
    aims = [first(gauntlet.watched, role, site) for role, site in STEPS]
    part = gauntlet.kill(aims)
    assert broken(part) == []
    assert {aim.site for aim in aims} <= part.hit
    assert part.struck == len(aims)


def test_a_recovery_that_is_killed_as_well_is_recovered_from(gauntlet):
    kills = [first(gauntlet.watched, "command-0", killed) for killed, _ in PAIRS]
    watched = gauntlet.kill(kills)
    pairs = [
        (kill, first(result.seen, "command-1", recovery))
        for kill, result, (_, recovery) in zip(kills, watched.results, PAIRS, strict=True)
    ]
    part = gauntlet.kill_pairs(len(pairs), pairs)
    assert broken(part) == []
    assert part.struck == len(pairs)


def test_a_write_sync_rename_or_link_that_is_refused_costs_nothing(gauntlet):
    aims = [first(gauntlet.watched, role, site) for role, site in REFUSED]
    part = gauntlet.refuse(aims)
    assert broken(part) == []
    assert {f"{aim.site} error={error}" for aim in aims for error in ERRORS} <= part.hit


def test_every_state_that_a_power_cut_may_leave_is_started_from(recording):
    """CI has each fortieth way for names, and of those that POSIX alone allows a sample."""
    ways = []

    def is_ours(number):
        if number % 40 == SEED:
            ways.append(number)
        return number % 40 == SEED

    every = start_from_every(recording.steps, share=is_ours)
    assert every.wrong == []
    assert len(ways) > 10
    assert every.started > len(ways)  # what is in doubt was read, and laid out otherwise as well
    sampled = replay(recording.steps, SEED, per_moment=2, share=0.1)
    assert sampled.wrong == []
    assert sampled.started > 200


@pytest.mark.parametrize(
    ("what", "lies", "found"),
    [
        ("journal", lambda path: path.endswith("batch.journal.jsonl"), "a commit was lost"),
        ("starting", lambda path: "/attempts/" in path and "." not in path, "would run again"),
        ("exit.json", lambda path: path.endswith("exit.json.part"), "nobody can tell"),
    ],
    ids=["journal", "attempt-folder", "exit-record"],
)
def test_a_sync_that_is_left_out_is_found(recording, what, lies, found):
    def lie(step):
        return lies(step.paths[0].replace(".workspace", ""))

    told = start_from_every(recording.steps, lie, until=found, share=lambda number: number % 3 == 0)
    assert any(found in problem for problem in told.wrong), set(told.wrong)


def test_after_a_power_cut_the_batch_is_really_resumed_to_its_end(recording):
    for act, moment in enumerate(pick(recording, SEED, 3)):
        assert resume(recording, moment, act).wrong == []


def played(room):
    theatre = Theatre(room)
    play = Play(theatre, {}, ISSUES)
    play.perform()
    return theatre, play


def test_the_judge_sees_a_double_start_an_overlap_and_a_lost_commit(tmp_path):
    theatre, play = played(tmp_path)
    try:
        assert judge(play, hurt=False) == []
        ledger = tmp_path / "ledger"
        lines = ledger.read_text().splitlines(keepends=True)
        start = next(line for line in lines if line.startswith("start 1 "))
        ledger.write_text("".join([*lines, start]))
        assert any("executed twice" in each for each in judge(play, hurt=True))
        ledger.write_text("".join(lines).replace(" yes ", " no ", 1))
        assert any("beside an earlier one" in each for each in judge(play, hurt=True))
        ledger.write_text("".join(line for line in lines if line != start))
        assert judge(play, hurt=False) != []
        ledger.write_text("".join(lines))
        theatre.snapshots.append(theatre.snapshots[-1] + b'\n{"type":"gone"}')
        assert any("has lost" in each for each in judge(play, hurt=True))
    finally:
        theatre.close()


def test_syncs_are_among_what_is_watched(gauntlet):
    """Were strace's output read wrongly, whole kinds of calls would be missing unseen."""
    names = {target.name for target in gauntlet.watched}
    assert {"write", "rename", "mkdir", "openat", "flock", *SYNCS[:1]} <= names
    roles = {target.role for target in gauntlet.watched}
    assert {"command-0", "command-3", "cancel", "runner-3-0", "runner-7-0"} <= roles
