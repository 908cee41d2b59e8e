"""What waits, for a limit's end or an answer, keeps what it waits for; what was said is not lost.

The simulation found each of these (CHANGELOG.md).
"""

import msgspec
import pytest
from core_builders import DIED, OTHER_BOOT, RUNNING, VOID, Story, exited, signalled

from gangline.core.events import (
    Condition,
    ConditionChanged,
    Dispatched,
    KillReason,
    Outcome,
    Policy,
    Sent,
)
from gangline.core.evidence import Answer, ExitRecord, Progress, Signal
from gangline.core.model import Status
from gangline.core.policy import LIMIT_WAIT_SECONDS
from gangline.core.usage import Limits

NOON = 1_800_000_000.0
RESET = NOON + 3600
LIMIT = Progress(limited=True, limited_until=RESET, failure="limit", failure_kind="limit")
UNREADABLE = {"has_progress": Answer.UNKNOWN}


def story(**policy):
    made = Story(None, Policy(**policy))
    at(made, NOON)
    return made


def at(made, epoch, seconds=0.0, boot=None):
    made.later(seconds, boot)
    made.now = msgspec.structs.replace(made.now, epoch_seconds=epoch)


def parked(**policy):
    made = story(**policy)
    made.dispatch()
    made.later(60)
    at(made, NOON)
    made.ends(**exited(1), progress=LIMIT)
    return made


def asked(made=None):
    made = made or story()
    made.dispatch()
    question = ConditionChanged(
        issue="1", attempt=0, condition=Condition.NEEDS_INPUT, text="which?", asked=True
    )
    made.record(question)
    return made


def given(made, number, *, messages):
    made.record(
        Dispatched(
            issue="1",
            attempt=number,
            mark="m",
            retry=0,
            boot_id=made.now.boot_id,
            boot_seconds=made.now.boot_seconds,
            resumed=True,
            messages=messages,
        )
    )


class TestWordsThatCannotBeRead:
    @pytest.mark.parametrize("seen", [exited(1), exited(0), DIED], ids=["failed", "ended", "died"])
    def test_nothing_is_decided_over_an_end_without_them(self, seen):
        made = story()
        made.dispatch()
        made.ends(**seen, **UNREADABLE)
        assert made.issue().status is Status.DISPATCHED
        made.ends(**seen, **UNREADABLE, doubted=True)
        assert "progress.json" in made.issue().attempts[-1].question

    def test_a_limit_is_not_forgotten_for_it(self):
        made = story()
        made.dispatch()
        made.ends(**RUNNING, progress=LIMIT)
        made.ends(**RUNNING, **UNREADABLE)
        assert made.issue().attempts[-1].condition is Condition.LIMITED


class TestADoubt:
    def test_the_agents_own_question_stays(self):
        made = asked()
        made.ends(**{**RUNNING, "lock": Answer.UNKNOWN}, doubted=True)
        assert made.issue().attempts[-1].question == "which?"

    def test_a_parked_attempt_stays_parked_until_its_limit_ends(self):
        made = parked()
        blind = {**exited(1), "has_exit": Answer.UNKNOWN}
        made.ends(**blind, doubted=True)
        attempt = made.issue().attempts[-1]
        assert (attempt.condition, attempt.waits, attempt.until) == (
            Condition.LIMITED,
            True,
            RESET,
        )
        at(made, RESET + 1)
        made.ends(**blind, doubted=True)
        assert made.issue().attempts[-1].condition is Condition.NEEDS_INPUT


class TestAParkedAttempt:
    def test_stays_parked_where_a_power_cut_took_what_it_told(self):
        made = parked()
        at(made, NOON + 60, boot=OTHER_BOOT)
        made.ends(**DIED)
        assert made.issue().status is Status.DISPATCHED
        at(made, RESET + 31)
        made.ends(**DIED)
        assert made.issue().attempts[-1].outcome is Outcome.LIMITED
        assert made.issue().spent == 0

    def test_uses_nothing_up_while_it_waits(self):
        made = parked(budget=Limits(minutes=5.0))
        at(made, RESET + 31, 3600.0)
        made.ends(**exited(1), progress=LIMIT)
        assert made.issue().usage.seconds == 60.0
        made.dispatch()
        made.ends(**RUNNING)
        assert made.issue().attempts[-1].kill is None

    def test_nor_does_one_that_waits_for_an_answer(self):
        made = asked()
        made.ends(**exited(0))
        made.later(3600)
        made.record(Sent(issue="1", text="the first"))
        made.ends(**exited(0))
        assert made.issue().usage.seconds == 0.0

    def test_end_that_is_over_already_is_believed_once(self):
        made = story()
        told = msgspec.structs.replace(LIMIT, limited_until=NOON - 5)
        made.dispatch()
        made.ends(**exited(1), progress=told)
        at(made, NOON + 31)
        made.ends(**exited(1), progress=told)
        assert made.issue().status is Status.PENDING
        made.dispatch()
        made.ends(**exited(1), progress=told)
        assert made.issue().attempts[-1].until == NOON + 31 + 2 * LIMIT_WAIT_SECONDS

    def test_end_that_cannot_be_is_not_reckoned_anew_with_each_look(self):
        made = story()
        told = msgspec.structs.replace(LIMIT, limited_until=NOON + 1e8)
        made.dispatch()
        made.ends(**RUNNING, progress=told)
        at(made, NOON + 60)
        made.ends(**RUNNING, progress=told)
        assert made.issue().attempts[-1].until == NOON + LIMIT_WAIT_SECONDS


class TestAMessage:
    def sent(self):
        made = story()
        made.record(Sent(issue="1", text="mind the gap"))
        given(made, 0, messages=1)
        assert made.issue().messages == []
        return made

    def test_goes_with_the_next_attempt_where_this_one_never_ran(self):
        made = self.sent()
        made.ends(**VOID)
        assert made.issue().messages == ["mind the gap"]
        assert made.issue().attempts[0].messages == []

    def test_opens_no_new_budget_of_launches_by_coming_back(self):
        made = self.sent()
        for number in range(1, 3):
            made.ends(**VOID)
            given(made, number, messages=1)
        made.ends(**VOID)
        assert made.issue().status is Status.FAILED

    def test_goes_with_the_next_where_the_session_was_gone(self):
        made = self.sent()
        made.ends(**exited(1), progress=Progress(failure="gone", failure_kind="no-session"))
        assert made.issue().attempts[-1].outcome is Outcome.SESSION_LOST
        assert made.issue().messages == ["mind the gap"]

    def test_goes_with_a_retry_of_what_was_refused(self):
        made = self.sent()
        refused = {**exited(None, refused="no program"), "starting": Answer.NO}
        assert isinstance(refused["exit"], ExitRecord)
        made.ends(**refused)
        assert (made.issue().status, made.issue().messages) == (Status.FAILED, ["mind the gap"])

    def test_is_not_told_again_after_a_death(self):
        made = self.sent()
        made.ends(**DIED)
        assert made.issue().messages == []
        assert made.issue().attempts[0].messages == ["mind the gap"]

    def test_does_not_go_on_over_the_budget(self):
        made = story(budget=Limits(tokens=100))
        made.dispatch()
        made.record(Sent(issue="1", text="go on"))
        used = Progress(input_tokens=200)
        made.ends(**RUNNING, progress=used)
        assert made.issue().attempts[-1].kill is KillReason.BUDGET
        made.ends(**exited(143), progress=used)
        assert (made.issue().status, made.issue().reason) == (
            Status.FAILED,
            "its budget is used up",
        )
        assert made.issue().messages == ["go on"]


def test_open_question_is_waited_for_whoever_hung_the_agent_up():
    made = asked()
    hung_up = exited(0, runner_signal=1)
    made.ends(**signalled(Signal.OK, hung_up))
    assert made.issue().status is Status.DISPATCHED
    assert made.issue().attempts[-1].waits
