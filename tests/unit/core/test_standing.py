"""Conditions, usage limits, budgets and messages: what is said, what is parked, what is ended."""

import msgspec
import pytest
from core_builders import DIED, OTHER_BOOT, RUNNING, Story, exited, signalled, snapshot

from gangline.core.codec import decode_state
from gangline.core.decision import Look, Terminate
from gangline.core.events import (
    Condition,
    ConditionChanged,
    Dispatched,
    KillReason,
    Outcome,
    PlannedIssue,
    Policy,
    Sent,
    StopRequested,
    Wish,
    Wished,
)
from gangline.core.evidence import Progress, Signal
from gangline.core.model import Status
from gangline.core.policy import LIMIT_JITTER_SECONDS, LIMIT_WAIT_SECONDS
from gangline.core.usage import Limits, Usage

NOON = 1_800_000_000.0
RESET = NOON + 3600


def story(dag=None, **policy):
    made = Story(dag, Policy(**policy))
    made.now = msgspec.structs.replace(made.now, epoch_seconds=NOON)
    return made


def at(made, epoch, seconds=0.0):
    made.later(seconds)
    made.now = msgspec.structs.replace(made.now, epoch_seconds=epoch)


def limited(**fields):
    told = {"limited": True, "limited_until": RESET, "failure_kind": "limit", "failure": "limit"}
    return Progress(**{**told, **fields})


class TestALimit:
    def parked(self, **fields):
        made = story()
        made.dispatch()
        made.ends(**exited(1), progress=limited(**fields))
        return made

    def test_attempt_is_parked_until_the_limit_ends_and_not_charged(self):
        made = self.parked()
        attempt = made.issue().attempts[-1]
        assert made.issue().status is Status.DISPATCHED
        assert (attempt.condition, attempt.until) == (Condition.LIMITED, RESET)
        at(made, RESET - 1)
        (effect,) = made.ends(**exited(1), progress=limited())
        assert isinstance(effect, Look)
        at(made, RESET + LIMIT_JITTER_SECONDS)
        made.ends(**exited(1), progress=limited())
        assert made.issue().status is Status.PENDING
        assert made.issue().attempts[-1].outcome is Outcome.LIMITED
        assert made.issue().spent == 0
        made.dispatch()
        assert made.issue().retry_count == 0

    def test_parked_attempt_survives_a_crash_and_a_restart_of_the_machine(self):
        made = self.parked()
        made.batch = decode_state(snapshot(made.batch))
        made.later(5, OTHER_BOOT)
        at(made, RESET - 1)
        made.ends(**exited(1), progress=limited())
        assert made.issue().status is Status.DISPATCHED
        at(made, RESET + LIMIT_JITTER_SECONDS)
        made.ends(**exited(1), progress=limited())
        assert made.issue().status is Status.PENDING

    def test_limit_without_a_known_end_waits_ever_longer(self):
        made = self.parked(limited_until=None)
        until = made.issue().attempts[-1].until
        assert until == NOON + LIMIT_WAIT_SECONDS
        at(made, until + LIMIT_JITTER_SECONDS)
        made.ends(**exited(1), progress=limited(limited_until=None))
        made.dispatch()
        made.ends(**exited(1), progress=limited(limited_until=None))
        again = made.issue().attempts[-1].until
        assert again == until + LIMIT_JITTER_SECONDS + 2 * LIMIT_WAIT_SECONDS

    def test_end_that_is_months_away_is_misread(self):
        made = self.parked(limited_until=NOON + 90 * 86_400)
        assert made.issue().attempts[-1].until == NOON + LIMIT_WAIT_SECONDS

    def test_agent_that_waits_for_its_limit_is_ended_and_parked(self):
        made = story()
        made.dispatch()
        effects = made.ends(**RUNNING, progress=limited(failure_kind=None, failure=None))
        assert made.issue().attempts[-1].kill is KillReason.LIMIT
        assert any(isinstance(effect, Terminate) for effect in effects)
        made.ends(**exited(143), progress=limited(failure_kind=None, failure=None))
        assert made.issue().attempts[-1].condition is Condition.LIMITED
        assert made.issue().status is Status.DISPATCHED

    def test_success_is_a_success_whatever_limit_was_met_on_the_way(self):
        made = story()
        made.dispatch()
        made.ends(**exited(0), progress=Progress())
        assert made.issue().status is Status.COMPLETED

    def test_signal_file_decides_over_a_limit(self):
        made = story()
        made.dispatch()
        made.ends(**signalled(Signal.OK, exited(1)), progress=limited())
        assert made.issue().status is Status.COMPLETED

    def test_cancel_of_a_parked_issue_is_granted_at_once(self):
        made = self.parked()
        made.record(Wished(issue="1", wish=Wish.CANCEL))
        made.ends(**exited(1), progress=limited())
        assert made.issue().status is Status.CANCELLED

    def test_stop_kill_does_not_wait_for_it(self):
        made = self.parked()
        made.record(StopRequested(kill=True))
        made.ends(**exited(1), progress=limited())
        assert made.issue().status is Status.PENDING

    def test_parked_attempt_holds_no_place_and_its_account_is_held_back(self):
        made = story({"1": (), "2": (), "3": ()}, max_concurrent=1, accounts=(("demo", "acme"),))
        plain = PlannedIssue(id="4", agent="command")
        made.batch.issues["4"] = type(made.issue())(id=plain.id, agent=plain.agent)
        made.batch.reindex()
        made.record(
            Dispatched(
                issue="1", attempt=0, mark="m", retry=0, boot_id="boot-1", boot_seconds=1000.0,
                account="acme",
            )
        )  # fmt: skip
        made.ends(**exited(1), progress=limited())
        assert made.starts() == ["4"]
        assert made.held_back("2") == "held back until the usage limit of acme ends"
        assert made.held_back("4") is None
        at(made, RESET)
        assert made.starts() == ["2"]
        assert made.held_back("2") is None


class TestASession:
    def test_session_that_is_gone_costs_nothing_and_is_not_tried_again(self):
        made = story()
        made.record(
            Dispatched(
                issue="1", attempt=0, mark="m", retry=0, boot_id="boot-1", boot_seconds=1000.0,
                session="s", resumed=True,
            )
        )  # fmt: skip
        told = Progress(failure="No conversation found", failure_kind="no-session")
        made.ends(**exited(1), progress=told)
        assert made.issue().attempts[-1].outcome is Outcome.SESSION_LOST
        assert (made.issue().status, made.issue().spent) == (Status.PENDING, 0)
        made.dispatch()
        made.ends(**exited(1), progress=told)
        assert made.issue().status is Status.FAILED

    def test_session_that_was_seen_is_on_record_after_a_death(self):
        made = story()
        made.dispatch()
        made.ends(**DIED, progress=Progress(session="abc"))
        assert made.issue().attempts[-1].session == "abc"


class TestAStall:
    def test_silence_is_a_condition_and_kills_nothing(self):
        made = story(stall_minutes=10.0)
        made.dispatch()
        effects = made.ends(**RUNNING, quiet_seconds=600.0)
        attempt = made.issue().attempts[-1]
        assert (attempt.condition, attempt.kill, effects) == (Condition.STALLED, None, [])
        made.ends(**RUNNING)  # unknown changes nothing
        assert made.issue().attempts[-1].condition is Condition.STALLED
        made.ends(**RUNNING, quiet_seconds=1.0)
        assert made.issue().attempts[-1].condition is None

    @pytest.mark.parametrize("told", [{"tool": "Bash: make"}, {"retrying": "529"}])
    def test_long_tool_and_the_agents_own_retries_are_no_stall(self, told):
        made = story(stall_minutes=10.0)
        made.dispatch()
        made.ends(**RUNNING, quiet_seconds=6000.0, progress=Progress(**told))
        assert made.issue().attempts[-1].condition is None

    @pytest.mark.parametrize(
        ("action", "status"), [("retry", Status.PENDING), ("fail", Status.FAILED)]
    )
    def test_it_is_ended_where_the_settings_say_so(self, action, status):
        made = story(stall_minutes=10.0, stall_action=action)
        made.dispatch()
        made.ends(**RUNNING, quiet_seconds=600.0)
        assert made.issue().attempts[-1].kill is KillReason.STALL
        made.ends(**exited(143))
        assert made.issue().status is status
        if status is Status.PENDING:
            made.dispatch()
            assert made.issue().retry_count == 1


class TestABudget:
    @pytest.mark.parametrize(
        ("limits", "told"),
        [
            (Limits(cost_usd=1.0), Progress(cost_usd=1.0)),
            (Limits(tokens=100.0), Progress(input_tokens=60, output_tokens=40)),
        ],
    )
    def test_agent_over_it_is_ended_failed_and_not_retried(self, limits, told):
        made = story(budget=limits, retry_on_failure=True)
        made.dispatch()
        made.ends(**RUNNING, progress=told)
        assert made.issue().attempts[-1].kill is KillReason.BUDGET
        made.ends(**exited(143), progress=told)
        assert (made.issue().status, made.issue().reason) == (
            Status.FAILED,
            "its budget is used up",
        )

    def test_attempts_of_an_issue_count_together(self):
        made = story(budget=Limits(minutes=1.0))
        made.dispatch()
        made.later(40)
        made.ends(**DIED)
        assert made.issue().usage == Usage(seconds=40.0)
        made.dispatch()
        made.later(15)
        (look,) = made.ends(**RUNNING)
        assert look == Look("1", 5.0, confirm=False)
        made.later(5)
        made.ends(**RUNNING)
        assert made.issue().attempts[-1].kill is KillReason.BUDGET

    def test_nothing_new_is_dispatched_over_the_batchs(self):
        made = story({"1": (), "2": ()}, batch_budget=Limits(cost_usd=2.0), max_concurrent=1)
        made.dispatch()
        made.ends(**exited(0), progress=Progress(cost_usd=2.5))
        assert made.issue().status is Status.COMPLETED
        assert made.starts() == []
        why = made.held_back("2")
        assert why == "held back: the batch's budget is used up ($2.50 of $2.00)"
        made.batch = decode_state(snapshot(made.batch))
        assert made.starts() == []
        assert made.batch.usage.cost_usd == 2.5


class TestWhatIsSaid:
    def test_question_stands_until_it_is_answered_and_ends_nothing(self):
        made = story()
        made.dispatch()
        made.record(
            ConditionChanged(
                issue="1", attempt=0, condition=Condition.NEEDS_INPUT, text="which?", asked=True
            )
        )
        assert made.ends(**RUNNING) == []
        attempt = made.issue().attempts[-1]
        assert (attempt.condition, attempt.question) == (Condition.NEEDS_INPUT, "which?")
        assert made.ends(**exited(0)) == []
        assert (made.issue().status, attempt.waits) == (Status.DISPATCHED, True)
        made.record(Sent(issue="1", text="the first"))
        assert (attempt.condition, attempt.waits) == (None, False)
        assert made.issue().messages == ["the first"]
        made.ends(**exited(0), progress=Progress(session="abc"))
        assert made.issue().status is Status.PENDING
        made.record(
            Dispatched(
                issue="1", attempt=1, mark="m", retry=0, boot_id="boot-1", boot_seconds=1000.0,
                messages=1,
            )
        )  # fmt: skip
        assert made.issue().messages == []
        made.ends(**exited(0))
        assert made.issue().status is Status.COMPLETED

    def asked(self, **policy):
        made = story({"1": (), "2": ()}, **policy)
        made.dispatch()
        made.record(
            ConditionChanged(
                issue="1", attempt=0, condition=Condition.NEEDS_INPUT, text="which?", asked=True
            )
        )
        return made

    def test_whoever_waits_for_an_answer_holds_no_place(self):
        made = self.asked(max_concurrent=1)
        assert made.starts() == []
        made.ends(**exited(0))
        assert made.starts() == ["2"]

    def test_question_outlives_a_crash_but_not_a_failure_nor_the_agents_own_word(self):
        made = self.asked()
        made.ends(**exited(0))
        made.batch = decode_state(snapshot(made.batch))
        assert made.ends(**exited(0))  # #2 can be started; nothing is decided over #1
        assert made.issue().status is Status.DISPATCHED
        made.record(Wished(issue="1", wish=Wish.COMPLETE))
        made.ends(**exited(0))
        assert made.issue().status is Status.COMPLETED
        failed = self.asked()
        failed.ends(**exited(1))
        assert failed.issue().status is Status.FAILED

    def test_stop_kill_gives_a_question_up_uncharged(self):
        made = self.asked()
        made.ends(**exited(0))
        made.record(StopRequested(kill=True))
        made.ends(**exited(0))
        assert (made.issue().status, made.issue().spent) == (Status.PENDING, 0)

    def test_cancel_outranks_what_was_sent(self):
        made = story()
        made.dispatch()
        made.record(Sent(issue="1", text="go on"), Wished(issue="1", wish=Wish.CANCEL))
        made.ends(**exited(0))
        assert made.issue().status is Status.CANCELLED

    def test_message_goes_with_the_retry_of_a_death_and_a_new_budget(self):
        made = story()
        made.dispatch()
        made.ends(**DIED)
        made.dispatch()
        made.record(Sent(issue="1", text="go on"))
        made.ends(**DIED)
        assert (made.issue().status, made.issue().spent) == (Status.PENDING, 0)

    def test_agent_that_says_it_is_done_is_given_time_to_end_by_itself(self):
        made = story()
        made.dispatch()
        made.record(Wished(issue="1", wish=Wish.COMPLETE, boot_id="boot-1", boot_seconds=1000.0))
        (look,) = made.ends(**RUNNING)
        assert isinstance(look, Look)
        assert made.issue().attempts[-1].kill is None
        made.later(look.seconds)
        made.ends(**RUNNING)
        assert made.issue().attempts[-1].kill is KillReason.WISH
        made.ends(**exited(143))
        assert made.issue().status is Status.COMPLETED

    def test_failure_in_the_output_counts_though_the_exit_code_is_0(self):
        made = story()
        made.dispatch()
        made.ends(**exited(0), progress=Progress(failure="denied: Bash", failure_kind="permission"))
        assert (made.issue().status, made.issue().reason) == (
            Status.FAILED,
            "denied: Bash (exit code 0)",
        )
