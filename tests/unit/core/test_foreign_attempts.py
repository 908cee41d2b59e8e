"""Attempts of the specification's shell: only pane and signal file tell how they stand."""

import json

import pytest
from core_builders import STEADY, Story
from hypothesis import given
from hypothesis import strategies as st

from gangline.core.adopt import adopted
from gangline.core.events import (
    Condition,
    ConditionChanged,
    Dispatched,
    Ended,
    Outcome,
    Policy,
    StopFinished,
    StopRequested,
    Wish,
    Wished,
)
from gangline.core.evidence import Answer, Evidence, Foreign, Signal, Verdict, unreadable, verdict
from gangline.core.model import Status
from gangline.core.policy import FOREIGN_LOOK_SECONDS, RECHECK_SECONDS
from gangline.core.reconcile import Look, Reap, Start, Terminate, Void, retry_charge

GRANTED = {
    Wish.CANCEL: Status.CANCELLED,
    Wish.SKIP: Status.SKIPPED,
    Wish.RETRY: Status.PENDING,
    Wish.COMPLETE: Status.COMPLETED,
    Wish.FAIL: Status.FAILED,
}
ROWS = {
    (Foreign.ABSENT, Signal.NONE): Verdict.DIED,
    (Foreign.IDLE, Signal.NONE): Verdict.DIED,
    (Foreign.BUSY, Signal.NONE): Verdict.RUNNING,
    (Foreign.DOUBTFUL, Signal.NONE): Verdict.UNKNOWN,
    (Foreign.UNKNOWN, Signal.NONE): Verdict.UNKNOWN,
    **{(pane, Signal.OK): Verdict.FINISHED for pane in Foreign},
    **{(pane, Signal.FAILED): Verdict.FINISHED for pane in Foreign},
    **{(pane, Signal.UNKNOWN): Verdict.UNKNOWN for pane in Foreign},
}


class ForeignStory(Story):
    """A batch of the specification's shell with one issue dispatched into %3, and its dependent."""

    def __init__(self, *, retry_count: int = 0, pane: str | None = "%3", **policy: object) -> None:
        super().__init__()
        state = {
            "issues": ["1", "2"],
            "dag": {"2": ["1"]},
            "status": {"1": "dispatched", "2": "blocked"},
            "dispatched": {"1": {"pane": pane, "retryCount": retry_count}},
        }
        self.batch = adopted(json.dumps(state).encode(), "client", Policy(**policy))

    def pane(self, pane: Foreign, signal: Signal = Signal.NONE, **more: object) -> dict:
        return self.seen(foreign=pane, signal=signal, survivors=Answer.NO, **more)

    def shows(self, pane: Foreign, signal: Signal = Signal.NONE, **more: object) -> list:
        """Show this pane, and settle; the effects left to do."""
        return self.settle(self.pane(pane, signal, **more))


def test_verdict_of_every_pane_and_signal():
    assert len(ROWS) == len(Foreign) * len(Signal)
    for (pane, signal), expected in ROWS.items():
        seen = Evidence(attempt=0, foreign=pane, signal=signal)
        assert verdict(seen, kill_ordered=False) is expected, (pane, signal)


class TestDeath:
    @pytest.mark.parametrize(
        ("pane", "cause"),
        [
            (Foreign.ABSENT, "its pane %3 is gone"),
            (Foreign.IDLE, "its pane %3 is back at its shell, and it left no word"),
        ],
    )
    def test_first_is_charged_and_dispatched_again(self, pane, cause):
        story = ForeignStory()
        assert story.shows(pane) == [Start("1")]
        issue = story.issue()
        assert (issue.attempts[0].outcome, issue.attempts[0].reason) == (Outcome.DIED, cause)
        assert retry_charge(issue) == 1

    @pytest.mark.parametrize("pane", [Foreign.ABSENT, Foreign.IDLE])
    @pytest.mark.parametrize("count", [1, 2])
    def test_second_is_failed_and_reported_and_unblocks(self, pane, count):
        story = ForeignStory(retry_count=count)
        assert story.shows(pane) == [Start("2")]
        assert story.issue().status is Status.FAILED
        assert story.issue().reason.startswith("died again: its pane %3 ")

    def test_without_a_pane_it_is_said_that_there_is_no_server(self):
        story = ForeignStory(pane=None)
        story.shows(Foreign.ABSENT)
        assert story.issue().attempts[0].reason == "there is no tmux server it could be in"

    def test_our_attempt_after_it_is_the_last(self):
        story = ForeignStory()
        story.shows(Foreign.ABSENT)
        story.record(
            Dispatched(issue="1", attempt=1, mark="m", retry=1, boot_id="boot-1", boot_seconds=1.0)
        )
        story.ends(claim="runner", lock=Answer.NO, starting=Answer.YES, survivors=Answer.NO)
        assert story.issue().status is Status.FAILED

    def test_many_at_once_are_believed(self):
        keys = [str(number) for number in range(1, 6)]
        state = {
            "issues": keys,
            "status": dict.fromkeys(keys, "dispatched"),
            "dispatched": {key: {"pane": f"%{key}"} for key in keys},
        }
        story = Story()
        story.batch = adopted(json.dumps(state).encode(), "client", Policy())
        seen = Evidence(attempt=0, foreign=Foreign.ABSENT, survivors=Answer.NO)
        story.settle(dict.fromkeys(keys, seen))
        assert {story.issue(key).status for key in keys} == {Status.PENDING}

    def test_another_boot_proves_nothing_while_the_pane_is_busy(self):
        story = ForeignStory()
        story.later(0, "boot-2")
        assert story.shows(Foreign.BUSY) == [Look("1", FOREIGN_LOOK_SECONDS, confirm=False)]


class TestLife:
    def test_it_is_only_looked_at(self):
        story = ForeignStory(attempt_minutes=0.001)
        story.later(100_000)
        assert story.look(foreign=Foreign.BUSY) == (
            [],
            [Look("1", FOREIGN_LOOK_SECONDS, confirm=False)],
        )

    @pytest.mark.parametrize("wish", Wish)
    def test_a_wish_waits_for_its_end_and_is_granted_then(self, wish):
        story = ForeignStory()
        story.record(Wished(issue="1", wish=wish))
        assert story.shows(Foreign.BUSY) == [Look("1", FOREIGN_LOOK_SECONDS, confirm=False)]
        assert story.issue().status is Status.DISPATCHED
        story.shows(Foreign.IDLE)
        assert story.issue().status is GRANTED[wish]

    def test_stop_that_kills_leaves_it_and_is_finished(self):
        story = ForeignStory()
        story.record(StopRequested(kill=True))
        assert story.look(foreign=Foreign.BUSY).events == [StopFinished()]
        effects = story.shows(Foreign.BUSY)
        assert not any(isinstance(effect, Terminate | Reap | Void) for effect in effects)
        assert (story.issue().status, story.batch.stop) == (Status.DISPATCHED, "leave")


class TestSignal:
    @pytest.mark.parametrize("pane", Foreign)
    def test_ok_is_completed_whatever_the_pane_shows(self, pane):
        story = ForeignStory()
        assert story.shows(pane, Signal.OK) == [Start("2")]
        assert story.issue().status is Status.COMPLETED

    @pytest.mark.parametrize("pane", Foreign)
    def test_anything_else_is_failed_and_unblocks(self, pane):
        story = ForeignStory()
        assert story.shows(pane, Signal.FAILED) == [Start("2")]
        assert story.issue().status is Status.FAILED

    @pytest.mark.parametrize("pane", Foreign)
    def test_one_that_cannot_be_read_decides_nothing(self, pane):
        story = ForeignStory()
        assert story.shows(pane, Signal.UNKNOWN) == [Look("1", RECHECK_SECONDS, confirm=False)]
        assert story.issue().status is Status.DISPATCHED

    def test_a_failure_that_is_to_be_retried_waits_while_the_pane_is_busy(self):
        story = ForeignStory(retry_on_failure=True)
        effects = story.shows(Foreign.BUSY, Signal.FAILED)
        assert effects == [Look("1", FOREIGN_LOOK_SECONDS, confirm=False)]
        assert story.issue().status is Status.DISPATCHED
        assert story.shows(Foreign.IDLE, Signal.FAILED) == [Start("1")]

    @pytest.mark.parametrize("pane", [Foreign.DOUBTFUL, Foreign.UNKNOWN])
    def test_a_failure_that_is_to_be_retried_waits_while_the_pane_is_in_doubt(self, pane):
        story = ForeignStory(retry_on_failure=True)
        assert story.shows(pane, Signal.FAILED) == [Look("1", RECHECK_SECONDS, confirm=False)]
        assert story.issue().status is Status.DISPATCHED

    def test_a_wished_retry_waits_while_the_pane_is_busy(self):
        story = ForeignStory()
        story.record(Wished(issue="1", wish=Wish.RETRY))
        story.shows(Foreign.BUSY, Signal.OK)
        assert story.issue().status is Status.DISPATCHED
        assert story.shows(Foreign.ABSENT, Signal.OK) == [Start("1")]


class TestDoubt:
    def test_a_person_is_asked_once(self):
        story = ForeignStory()
        (event,) = story.look(foreign=Foreign.DOUBTFUL).events
        assert isinstance(event, ConditionChanged)
        assert event.condition is Condition.NEEDS_INPUT
        assert "gangline retry client 1" in event.text
        effects = story.shows(Foreign.DOUBTFUL)
        assert effects == [Look("1", RECHECK_SECONDS, confirm=False)]
        attempt = story.issue().attempt
        assert (attempt.condition, attempt.question) == (Condition.NEEDS_INPUT, event.text)

    @pytest.mark.parametrize("wish", Wish)
    def test_the_person_decides(self, wish):
        story = ForeignStory(retry_count=1)
        story.shows(Foreign.DOUBTFUL)
        story.record(Wished(issue="1", wish=wish))
        story.shows(Foreign.DOUBTFUL)
        assert story.issue().status is GRANTED[wish]
        assert story.issue().attempt.outcome is Outcome.DIED

    def test_a_retry_that_a_person_chose_is_a_new_budget(self):
        story = ForeignStory(retry_count=1)
        story.record(Wished(issue="1", wish=Wish.RETRY))
        story.shows(Foreign.DOUBTFUL)
        assert retry_charge(story.issue()) == 0

    def test_what_can_be_seen_again_asks_no_more(self):
        story = ForeignStory()
        story.shows(Foreign.DOUBTFUL)
        story.shows(Foreign.BUSY)
        attempt = story.issue().attempt
        assert (attempt.condition, attempt.question) == (None, None)

    def test_a_pane_that_went_meanwhile_is_a_death(self):
        story = ForeignStory()
        story.shows(Foreign.DOUBTFUL)
        story.shows(Foreign.ABSENT)
        assert story.issue().attempts[0].outcome is Outcome.DIED

    def test_a_pane_that_cannot_be_seen_is_asked_about_only_if_it_stays_so(self):
        story = ForeignStory()
        assert story.look(foreign=Foreign.UNKNOWN).events == []
        (event,) = story.look(foreign=Foreign.UNKNOWN, doubted=True).events
        assert event.condition is Condition.NEEDS_INPUT
        assert "its pane" in event.text

    @pytest.mark.parametrize("wish", Wish)
    def test_a_wish_is_not_granted_over_a_pane_that_cannot_be_seen(self, wish):
        story = ForeignStory()
        story.record(Wished(issue="1", wish=wish))
        story.shows(Foreign.UNKNOWN, doubted=True)
        assert story.issue().status is Status.DISPATCHED

    def test_unreadable_names_the_pane(self):
        assert unreadable(Evidence(attempt=0, foreign=Foreign.UNKNOWN)) == "its pane"
        assert unreadable(Evidence(attempt=0, foreign=Foreign.DOUBTFUL)) == ""


@STEADY
@given(
    pane=st.sampled_from(Foreign),
    signal=st.sampled_from(Signal),
    wish=st.none() | st.sampled_from(Wish),
    stopping=st.booleans(),
    on_failure=st.booleans(),
    count=st.integers(0, 2),
)
def test_nothing_is_ever_ended_voided_or_started_beside_a_foreign_attempt(
    pane, signal, wish, stopping, on_failure, count
):
    story = ForeignStory(retry_count=count, retry_on_failure=on_failure)
    if wish:
        story.record(Wished(issue="1", wish=wish))
    if stopping:
        story.record(StopRequested(kill=True))
    evidence = story.pane(pane, signal, doubted=True)
    told: list = []
    for _ in range(10):
        decision = story.decide(evidence)
        told += [*decision.events, *decision.effects]
        story.record(*decision.events)
        if not decision.events:
            break
    else:
        raise AssertionError(told)
    assert not any(isinstance(each, Terminate | Reap | Void) for each in told)
    may_live = pane in (Foreign.BUSY, Foreign.UNKNOWN)
    if may_live:
        assert Start("1") not in told
    if may_live and signal not in (Signal.OK, Signal.FAILED):
        assert not any(isinstance(each, Ended) for each in told)
