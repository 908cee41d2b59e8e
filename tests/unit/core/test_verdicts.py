"""The verdict table of DESIGN.md section 4, row by row, and what unknown must never do."""

import msgspec
import pytest
from core_builders import DIED, NEVER_RAN, RUNNING, STEADY, VOID, Story, exited, signalled
from hypothesis import assume, given
from hypothesis import strategies as st

from gangline.core.events import KillOrdered, KillReason, StopRequested, Wish, Wished
from gangline.core.evidence import (
    Answer,
    Claim,
    Evidence,
    ExitRecord,
    Signal,
    Verdict,
    unreadable,
    verdict,
)
from gangline.core.model import Status
from gangline.core.reconcile import Look

NOTHING = {"claim": Claim.NONE}
LOST_CLAIM = {"claim": Claim.NONE, "starting": Answer.YES}
REFUSAL = {**NEVER_RAN, "has_exit": Answer.YES, "exit": ExitRecord(refused="no such program")}

ROWS = {
    "no claim, not starting: not-started": (NOTHING, Verdict.NOT_STARTED),
    "no claim, not starting, lock held: not-started": (
        {**NOTHING, "lock": Answer.YES},
        Verdict.NOT_STARTED,
    ),
    "void: never-ran": (VOID, Verdict.NEVER_RAN),
    "runner, held: running": (RUNNING, Verdict.RUNNING),
    "runner, held, not yet starting: running": (
        {**RUNNING, "starting": Answer.NO},
        Verdict.RUNNING,
    ),
    "runner, held, exit record there: running until the lock is free": (
        {**exited(0), "lock": Answer.YES},
        Verdict.RUNNING,
    ),
    "runner, free, not starting, no exit: never-ran": (NEVER_RAN, Verdict.NEVER_RAN),
    "runner, free, not starting, exit: refused": (REFUSAL, Verdict.REFUSED),
    "runner, free, starting, no exit: died": (DIED, Verdict.DIED),
    "runner, free, starting, exit code 0: finished": (exited(0), Verdict.FINISHED),
    "runner, free, starting, exit code 1: finished": (exited(1), Verdict.FINISHED),
    "runner, free, starting, exit by a signal: died": (exited(None, signal=9), Verdict.DIED),
    "runner, free, starting, exit code 129: died": (exited(129), Verdict.DIED),
    "runner, free, starting, exit code 143: died": (exited(143), Verdict.DIED),
    "runner, free, starting, the runner saw HUP: died": (
        exited(0, runner_signal=1),
        Verdict.DIED,
    ),
    "runner, free, starting, the runner saw TERM: died": (
        exited(1, runner_signal=15),
        Verdict.DIED,
    ),
    "no claim, starting: died": ({**LOST_CLAIM, "lock": Answer.NO}, Verdict.DIED),
    "no claim, starting, lock held: the runner lives": (
        {**LOST_CLAIM, "lock": Answer.YES},
        Verdict.RUNNING,
    ),
    "no claim, starting, lock unknown: no verdict": (LOST_CLAIM, Verdict.UNKNOWN),
    "no claim, starting unknown: no verdict": (
        {**NOTHING, "starting": Answer.UNKNOWN},
        Verdict.UNKNOWN,
    ),
    "claim unknown: no verdict": (
        {**exited(0), "claim": Claim.UNKNOWN},
        Verdict.UNKNOWN,
    ),
    "runner, lock unknown: no verdict": ({**exited(0), "lock": Answer.UNKNOWN}, Verdict.UNKNOWN),
    "runner, free, starting unknown: no verdict": (
        {**DIED, "starting": Answer.UNKNOWN},
        Verdict.UNKNOWN,
    ),
    "runner, free, exit unreadable: no verdict": (
        {**DIED, "has_exit": Answer.UNKNOWN},
        Verdict.UNKNOWN,
    ),
    "runner, free, died, signal file unreadable: no verdict": (
        signalled(Signal.UNKNOWN, DIED),
        Verdict.UNKNOWN,
    ),
    "runner, free, exit code, signal file unreadable: no verdict": (
        signalled(Signal.UNKNOWN, exited(0)),
        Verdict.UNKNOWN,
    ),
    "no claim, starting, signal file unreadable: no verdict": (
        signalled(Signal.UNKNOWN, {**LOST_CLAIM, "lock": Answer.NO}),
        Verdict.UNKNOWN,
    ),
}


@pytest.mark.parametrize(("fields", "expected"), ROWS.values(), ids=ROWS.keys())
def test_verdict_table(fields, expected):
    assert verdict(Evidence(attempt=0, **fields), kill_ordered=False) is expected


@pytest.mark.parametrize(
    "record",
    [
        ExitRecord(signal=15),
        ExitRecord(code=129),
        ExitRecord(code=143),
        ExitRecord(code=0, runner_signal=15),
    ],
)
def test_an_end_by_signal_is_no_death_when_a_kill_of_ours_was_journalled(record):
    seen = Evidence(attempt=0, **{**exited(), "exit": record})
    assert verdict(seen, kill_ordered=True) is Verdict.FINISHED


def test_an_end_without_a_record_is_a_death_even_when_a_kill_was_journalled():
    seen = Evidence(attempt=0, **DIED)
    assert verdict(seen, kill_ordered=True) is Verdict.DIED


def any_evidence():
    return st.builds(
        Evidence,
        attempt=st.just(0),
        claim=st.sampled_from(Claim),
        lock=st.sampled_from(Answer),
        starting=st.sampled_from(Answer),
        signal=st.sampled_from(Signal),
        has_exit=st.sampled_from(Answer),
        exit=st.none()
        | st.builds(
            ExitRecord,
            code=st.sampled_from([None, 0, 1, 129, 143]),
            signal=st.sampled_from([None, 1, 9]),
            runner_signal=st.sampled_from([None, 1, 15]),
        ),
        server_gone=st.sampled_from(Answer),
        survivors=st.sampled_from(Answer),
        confirmed=st.booleans(),
    )


def burdened_story(wish: Wish | None, kill: KillReason | None, stopping: bool, boot: str) -> Story:
    """One dispatched issue that everything would like to see ended."""
    story = Story()
    story.dispatch()
    if wish:
        story.record(Wished(issue="1", wish=wish))
    if kill:
        order = KillOrdered(issue="1", attempt=0, why=kill, boot_id="boot-1", boot_seconds=0)
        story.record(order)
    if stopping:
        story.record(StopRequested(kill=True))
    story.later(100_000, boot)
    return story


@STEADY
@given(
    seen=any_evidence(),
    wish=st.none() | st.sampled_from(Wish),
    kill=st.none() | st.sampled_from(KillReason),
    stopping=st.booleans(),
    boot=st.sampled_from(["boot-1", "boot-2"]),
)
def test_unknown_never_ends_kills_voids_or_dispatches_anything(seen, wish, kill, stopping, boot):
    ended = seen.claim is Claim.RUNNER and seen.lock is Answer.NO
    unknown = (
        seen.claim is Claim.UNKNOWN
        or (seen.claim is Claim.RUNNER and seen.lock is Answer.UNKNOWN)
        or (seen.claim is Claim.NONE and seen.starting is Answer.UNKNOWN)
        or (ended and Answer.UNKNOWN in (seen.starting, seen.has_exit))
        or (ended and seen.starting is Answer.YES and seen.signal is Signal.UNKNOWN)
    )
    assume(unknown)
    story = burdened_story(wish, kill, stopping, boot)
    decision = story.decide({"1": seen})
    assert decision.events == []
    assert [type(effect) for effect in decision.effects] == [Look]
    assert unreadable(seen)


@STEADY
@given(seen=any_evidence(), survivors=st.sampled_from([Answer.YES, Answer.UNKNOWN]))
def test_a_death_whose_survivors_are_not_seen_gone_never_frees_the_issue(seen, survivors):
    dead = {**DIED, "has_exit": Answer.NO, "survivors": survivors}
    seen = msgspec.structs.replace(seen, **dead)
    story = Story()
    story.dispatch()
    story.settle({"1": seen})
    assert story.issue().status is Status.DISPATCHED


@STEADY
@given(seen=any_evidence(), boot=st.sampled_from(["boot-1", "boot-2"]))
def test_reconcile_is_total_and_settles_on_any_evidence(seen, boot):
    story = Story()
    story.dispatch()
    story.later(5, boot)
    effects = story.settle({"1": seen})
    assert story.settle({"1": seen}) == effects


def test_evidence_of_another_attempt_is_never_used():
    story = Story()
    story.dispatch()
    decision = story.decide({"1": Evidence(attempt=1, **exited(0))})
    assert decision.events == []
