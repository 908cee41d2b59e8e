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
from gauntlet.injection import KILL, SHARED, Gauntlet, perform
from gauntlet.power import Recording, pick, replay, resume
from gauntlet.scenario import ISSUES, Play, Theatre

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="strace is Linux's")

SEED = 4
STEPS = [  # role, and what its site has: before each of these calls the process is killed
    ("command-0", "run: write work/batch.journal.jsonl [batch-started]"),
    ("command-0", "run: fsync work/batch.journal.jsonl [dispatched]"),
    ("command-0", "run: write pipe"),
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
]
REFUSED = [
    ("command-0", "run: write work/batch.journal.jsonl [dispatched]"),
    ("command-0", "run: fsync work/batch.journal.jsonl [dispatched]"),
    ("command-0", "run: rename work/batch.state.json.part"),
    ("runner-1-0", "runner: linkat"),
]


@pytest.fixture(scope="module")
def gauntlet():
    """Six targets a site are more than enough to aim at; what was watched kept every promise."""
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


def first(gauntlet, role, site):
    """The first call of this process at the site."""
    found = [
        target
        for target in gauntlet.watched
        if target.play == SHARED
        and target.role == role
        and any(each.startswith(site) for each in target.sites)
    ]
    assert found, f"nothing is called there any more: {site}"
    return min(found, key=lambda target: target.ordinal)


def test_killed_before_any_step_and_resumed_nothing_is_lost_and_nothing_runs_twice(gauntlet):
    targets = [first(gauntlet, role, site) for role, site in STEPS]
    part = gauntlet.kill(targets)
    assert [(result.faults, result.wrong) for result in part.wrong] == []
    assert part.struck == len(targets)


def test_a_recovery_that_is_killed_as_well_is_recovered_from(gauntlet):
    part = gauntlet.kill_pairs(4)
    assert len(part.results) == 4
    assert [(result.faults, result.wrong) for result in part.wrong] == []


def test_a_write_sync_rename_or_link_that_is_refused_costs_nothing(gauntlet):
    part = gauntlet.refuse([first(gauntlet, role, site) for role, site in REFUSED])
    assert [(result.faults, result.wrong) for result in part.wrong] == []
    assert part.struck == 3 * len(REFUSED)


def test_a_kept_pane_that_was_never_recorded_goes_with_its_batch(gauntlet):
    """The launch of #2, which fails, is done and its pane not on record."""
    target = first(gauntlet, "command-0", "run: write work/batch.journal.jsonl [launched]")
    result = perform(SHARED, {target.role: target.strike(KILL)}, allowed=(-9, 137))
    assert result.hit
    assert result.wrong == []


def test_every_state_that_a_power_cut_may_leave_is_started_from(recording):
    tally = replay(recording, SEED, per_moment=2)
    assert tally.wrong == []
    assert min(tally.looked_at.values()) > 500


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
    tally = replay(
        recording,
        SEED,
        per_moment=2,
        lies=lambda step: lies(step.paths[0].replace(".workspace", "")),
        until=found,
    )
    assert any(found in problem for problem in tally.wrong), set(tally.wrong)


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
