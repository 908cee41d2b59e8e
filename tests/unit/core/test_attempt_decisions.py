"""What is decided over one attempt: launch timeout, voids, kills, wishes, stop, survivors."""

from typing import ClassVar

import pytest
from core_builders import DIED, NEVER_RAN, NOT_STARTED, OTHER_BOOT, RUNNING, VOID, Story, exited

from gangline.core.events import (
    Ended,
    KillOrdered,
    KillReason,
    OrchestratorStarted,
    OrchestratorStopped,
    Outcome,
    Policy,
    Reaping,
    StopFinished,
    StopRequested,
    Voided,
    Wish,
    Wished,
)
from gangline.core.evidence import Answer, Signal
from gangline.core.model import Status
from gangline.core.policy import (
    KILL_GRACE_SECONDS,
    REAP_GRACE_SECONDS,
    REAP_LOOK_SECONDS,
    REAP_LOOK_SECONDS_MAX,
)
from gangline.core.reconcile import Look, Reap, Start, Terminate, Void


def running(policy: Policy | None = None) -> Story:
    story = Story(policy=policy)
    story.dispatch()
    return story


class TestLaunch:
    def test_a_launch_is_waited_for_until_its_timeout(self):
        story = running()
        story.later(9)
        assert story.look(**NOT_STARTED).effects == [Look("1", 1.0, confirm=False)]
        story.later(1)
        assert story.look(**NOT_STARTED).effects == [Void("1", 0)]

    def test_the_timeout_doubles_after_each_void(self):
        story = Story()
        for seconds in (10, 20, 40):
            story.dispatch()
            number = story.issue().attempts[-1].number
            story.later(seconds - 1)
            assert story.look(**NOT_STARTED).effects == [Look("1", 1.0, confirm=False)]
            story.later(1)
            assert story.look(**NOT_STARTED).effects == [Void("1", number)]
            story.ends(**VOID)

    def test_another_boot_is_not_waited_for(self):
        story = running()
        story.later(0, OTHER_BOOT)
        assert story.look(**NOT_STARTED).effects == [Void("1", 0)]
        story.ends(**VOID)
        assert story.issue().attempt.reason == "the machine was restarted before it ran"

    def test_a_dead_tmux_server_is_not_waited_for(self):
        decision = running().look(**NOT_STARTED, server_gone=Answer.YES)
        assert decision.effects == [Void("1", 0)]

    def test_nothing_is_recorded_before_the_fence_is_seen(self):
        story = running()
        story.later(100)
        assert story.look(**NOT_STARTED).events == []

    @pytest.mark.parametrize("seen", [VOID, NEVER_RAN])
    def test_an_attempt_that_never_ran_is_dispatched_again_not_charged(self, seen):
        story = running()
        story.ends(**seen)
        assert story.issue().attempt.outcome is Outcome.VOID
        assert story.starts() == ["1"]
        story.dispatch()
        assert story.issue().retry_count == 0

    @pytest.mark.parametrize(
        ("seen", "reason"),
        [
            (VOID, "its runner never came to its claim"),
            (NEVER_RAN, "its runner ended before it started the agent"),
            ({**VOID, "server_gone": Answer.YES}, "its tmux server was gone before it ran"),
        ],
    )
    def test_why_it_never_ran_is_told_as_it_was_seen(self, seen, reason):
        story = running()
        story.ends(**seen)
        assert story.issue().attempt.reason == reason

    def test_three_voids_in_a_row_are_failed(self):
        story = Story()
        for _ in range(3):
            assert story.starts() == ["1"]
            story.dispatch()
            story.ends(**VOID)
        assert story.issue().status is Status.FAILED
        assert story.issue().reason.startswith("could not be started (3 launches)")

    def test_only_voids_in_a_row_count(self):
        story = Story(policy=Policy(retry_max=1))
        for seen in (VOID, VOID, DIED, VOID, VOID):
            story.dispatch()
            story.ends(**seen)
        assert story.issue().status is Status.PENDING


class TestKill:
    def order(self, story: Story, **seen: object) -> KillOrdered:
        """The kill that is journalled before anything is ended."""
        decision = story.look(**seen)
        (event,) = decision.events
        assert isinstance(event, KillOrdered)
        assert not any(isinstance(effect, Terminate) for effect in decision.effects)
        story.record(event)
        return event

    def test_attempt_minutes_orders_the_kill_before_it_is_done(self):
        story = running(Policy(attempt_minutes=2))
        story.later(119)
        assert story.look(**RUNNING).effects == [Look("1", 1.0, confirm=False)]
        story.later(1)
        assert self.order(story, **RUNNING).why is KillReason.TIMEOUT
        effects = story.look(**RUNNING).effects
        assert effects == [
            Terminate("1", 0, hard=False),
            Look("1", KILL_GRACE_SECONDS, confirm=False),
        ]

    def test_a_kill_is_hard_after_the_grace(self):
        story = running(Policy(attempt_minutes=1))
        story.later(60)
        self.order(story, **RUNNING)
        story.later(KILL_GRACE_SECONDS - 0.5)
        assert story.look(**RUNNING).effects[0] == Terminate("1", 0, hard=False)
        story.later(0.5)
        assert story.look(**RUNNING).effects[0] == Terminate("1", 0, hard=True)

    def test_a_timeout_is_failed_even_with_exit_code_zero(self):
        story = running(Policy(attempt_minutes=1))
        story.later(60)
        self.order(story, **RUNNING)
        story.ends(**exited(0))
        assert story.issue().status is Status.FAILED
        assert story.issue().reason == "ran longer than 1 minutes"

    def test_a_signal_file_of_a_running_attempt_has_it_ended_and_decides(self):
        story = running()
        assert self.order(story, **RUNNING, signal=Signal.OK).why is KillReason.SIGNAL
        assert story.look(**RUNNING, signal=Signal.OK).effects[0] == Terminate("1", 0, hard=False)
        story.ends(**exited(None, signal=15), signal=Signal.OK)
        assert story.issue().status is Status.COMPLETED

    def test_a_kill_is_ordered_once(self):
        story = running(Policy(attempt_minutes=1))
        story.later(60)
        self.order(story, **RUNNING)
        story.record(Wished(issue="1", wish=Wish.CANCEL))
        assert story.look(**RUNNING, signal=Signal.OK).events == []


class TestWishes:
    @pytest.mark.parametrize(
        ("wish", "status"),
        [
            (Wish.CANCEL, Status.CANCELLED),
            (Wish.SKIP, Status.SKIPPED),
            (Wish.RETRY, Status.PENDING),
            (Wish.COMPLETE, Status.COMPLETED),
            (Wish.FAIL, Status.FAILED),
        ],
    )
    @pytest.mark.parametrize(
        "seen", [DIED, exited(0), exited(1), exited(None, signal=15), VOID, NEVER_RAN]
    )
    def test_a_wish_decides_the_status_when_the_attempt_has_ended(self, wish, status, seen):
        story = running()
        story.record(Wished(issue="1", wish=wish))
        assert story.issue().status is Status.DISPATCHED
        story.ends(**seen)
        assert story.issue().status is status
        assert story.issue().wish is None

    def test_a_wish_has_the_living_attempt_ended(self):
        story = running()
        story.record(Wished(issue="1", wish=Wish.CANCEL))
        (event,) = story.look(**RUNNING).events
        assert (type(event), event.why) == (KillOrdered, KillReason.WISH)

    def test_an_acknowledged_cancel_outranks_a_success_that_is_read_later(self):
        story = running()
        story.record(Wished(issue="1", wish=Wish.CANCEL))
        story.ends(**exited(0), signal=Signal.OK)
        assert story.issue().status is Status.CANCELLED
        assert story.issue().attempt.outcome is Outcome.COMPLETED

    def test_the_last_wish_is_granted_with_its_reason(self):
        story = running()
        story.record(Wished(issue="1", wish=Wish.CANCEL))
        story.record(Wished(issue="1", wish=Wish.FAIL, reason="tests are red"))
        story.ends(**exited(0))
        assert (story.issue().status, story.issue().reason) == (Status.FAILED, "tests are red")

    def test_a_wished_retry_opens_a_new_budget(self):
        story = running()
        story.ends(**DIED)
        story.dispatch()
        story.record(Wished(issue="1", wish=Wish.RETRY))
        story.ends(**DIED)
        story.dispatch()
        assert story.issue().retry_count == 0

    def test_a_launch_that_is_not_wanted_any_more_is_fenced_at_once(self):
        story = running()
        story.record(Wished(issue="1", wish=Wish.CANCEL))
        assert story.look(**NOT_STARTED).effects == [Void("1", 0)]

    def test_a_void_that_a_person_asked_for_is_none_of_the_three(self):
        story = running()
        for _ in range(4):
            story.record(Wished(issue="1", wish=Wish.RETRY))
            story.ends(**VOID)
            story.dispatch()
        assert story.issue().voids == 0


class TestStopThatKills:
    def stopped(self) -> Story:
        story = running()
        story.record(StopRequested(kill=True))
        return story

    @pytest.mark.parametrize("seen", [exited(None, signal=15), exited(0), exited(143), DIED])
    def test_what_it_ends_returns_to_pending_uncharged(self, seen):
        story = self.stopped()
        story.settle(story.seen(**RUNNING))
        assert story.issue().attempt.kill is KillReason.STOP
        story.ends(**seen)
        assert story.issue().attempt.outcome is Outcome.KILLED
        assert (story.issue().status, story.issue().spent) == (Status.PENDING, 0)
        story.dispatch()
        assert story.issue().retry_count == 0

    def test_it_is_finished_only_when_no_attempt_is_left(self):
        story = self.stopped()
        story.settle(story.seen(**RUNNING))
        assert story.batch.stop == "kill"
        (ended,) = story.look(**exited(143)).events
        assert isinstance(ended, Ended)
        story.record(ended)
        assert story.decide().events == [StopFinished()]

    def test_nothing_is_started_before_it_is_finished(self):
        story = Story({"1": (), "2": ()})
        story.dispatch("1")
        story.record(StopRequested(kill=True))
        effects = story.settle(story.seen("1", **RUNNING))
        assert not any(isinstance(effect, Start) for effect in effects)

    def test_an_interrupted_stop_is_finished_by_the_next_start(self):
        story = self.stopped()
        story.record(OrchestratorStarted(pid=2))
        story.settle(story.seen(**RUNNING))
        assert story.issue().attempt.kill is KillReason.STOP
        story.ends(**exited(143))
        assert story.batch.stop is None
        assert story.decide().effects == [Start("1")]

    def test_one_that_a_signal_interrupted_is_finished_by_the_next_start(self):
        story = self.stopped()
        story.record(OrchestratorStopped(reason="signal 2"), OrchestratorStarted(pid=2))
        story.settle(story.seen(**RUNNING))
        assert story.issue().attempt.kill is KillReason.STOP

    def test_a_finished_one_is_not_done_again_by_the_next_start(self):
        story = self.stopped()
        story.settle(story.seen(**RUNNING))
        story.ends(**exited(143))
        story.record(OrchestratorStopped(reason="stop"), OrchestratorStarted(pid=2))
        assert story.starts() == ["1"]

    def test_when_it_is_finished_nothing_is_started_again(self):
        story = self.stopped()
        story.settle(story.seen(**RUNNING))
        effects = story.ends(**exited(143))
        assert story.batch.stop == "leave"
        assert not any(isinstance(effect, Start) for effect in effects)

    def test_a_launch_under_way_is_fenced_and_not_counted(self):
        story = self.stopped()
        assert story.look(**NOT_STARTED).effects == [Void("1", 0)]
        (event, *_) = story.look(**VOID).events
        assert isinstance(event, Voided)
        assert (event.counted, event.to) == (False, Status.PENDING)
        assert event.reason == "given up before it ran, by stop --kill"

    def test_a_later_plain_stop_does_not_weaken_it(self):
        story = self.stopped()
        story.record(StopRequested(kill=False))
        assert story.batch.stop == "kill"


class TestSurvivors:
    LEFT: ClassVar = {**DIED, "survivors": Answer.YES}

    def test_reaping_is_recorded_before_the_first_is_ended(self):
        decision = running().look(**self.LEFT)
        assert [type(event) for event in decision.events] == [Reaping]
        assert not any(isinstance(effect, Reap) for effect in decision.effects)

    def test_they_get_term_and_after_the_grace_kill(self):
        story = running()
        assert story.ends(**self.LEFT)[0] == Reap("1", 0, hard=False)
        story.later(REAP_GRACE_SECONDS)
        assert story.ends(**self.LEFT)[0] == Reap("1", 0, hard=True)

    def test_what_cannot_be_ended_is_asked_ever_more_rarely(self):
        story = running()
        waits = [story.ends(**self.LEFT)[1].seconds]
        for _ in range(4):
            story.later(REAP_GRACE_SECONDS * 8)
            waits.append(story.ends(**self.LEFT)[1].seconds)
        assert waits == sorted(waits)
        assert (waits[0], waits[-1]) == (REAP_LOOK_SECONDS, REAP_LOOK_SECONDS_MAX)

    def test_the_end_is_recorded_only_when_they_are_seen_gone(self):
        story = running()
        story.ends(**self.LEFT)
        assert story.issue().status is Status.DISPATCHED
        story.ends(**DIED)
        assert story.issue().attempt.outcome is Outcome.DIED

    def test_survivors_unknown_are_looked_for_again(self):
        decision = running().look(**{**DIED, "survivors": Answer.UNKNOWN})
        assert decision.events == []
        assert [type(effect) for effect in decision.effects] == [Look]

    @pytest.mark.parametrize("survivors", [Answer.UNKNOWN, Answer.YES])
    def test_another_boot_leaves_none(self, survivors):
        story = running()
        story.later(0, OTHER_BOOT)
        story.ends(**{**DIED, "survivors": survivors})
        assert story.issue().attempt.outcome is Outcome.DIED
