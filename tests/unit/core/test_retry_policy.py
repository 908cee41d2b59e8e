"""The specification's "Auto-Retry Policy" and DESIGN.md's "Retry", sentence by sentence."""

import pytest
from core_builders import (
    DIED,
    NEVER_RAN,
    OTHER_BOOT,
    RUNNING,
    VOID,
    Story,
    exited,
    signalled,
    snapshot,
)

from gangline.core.codec import decode_state
from gangline.core.events import Outcome, Policy, Retried, Unblocked
from gangline.core.evidence import Answer, ExitRecord, Signal
from gangline.core.model import Status
from gangline.core.reconcile import Start, retry_charge


def died_once(**policy: object) -> Story:
    story = Story(policy=Policy(**policy))
    story.dispatch()
    story.ends(**DIED)
    return story


def died_twice() -> Story:
    story = died_once()
    story.dispatch()
    story.ends(**DIED)
    return story


class TestMaximumOneAutomaticRedispatchAnIssue:
    def test_a_first_death_is_dispatched_again(self):
        story = died_once()
        assert story.issue().status is Status.PENDING
        assert story.starts() == ["1"]

    def test_second_death_is_failed_and_reported(self):
        story = died_twice()
        issue = story.issue()
        assert issue.status is Status.FAILED
        assert issue.reason == "died again: its runner was killed; not retried by itself any more"

    def test_it_is_not_retried_a_third_time(self):
        story = died_twice()
        story.later(1e6)
        assert story.starts() == []
        assert story.batch.is_over

    def test_no_retry_at_all_where_retry_max_is_zero(self):
        story = died_once(retry_max=0)
        assert story.issue().status is Status.FAILED
        assert story.issue().reason.startswith("died: ")


class TestTheRetryCount:
    def test_the_first_dispatch_is_not_charged(self):
        story = Story()
        story.dispatch()
        assert story.issue().retry_count == 0

    def test_the_redispatch_is_charged_in_its_own_intent(self):
        story = died_once()
        assert retry_charge(story.issue()) == 1
        story.dispatch()
        assert story.issue().retry_count == 1
        assert b'"retryCount":1' in snapshot(story.batch)

    def test_it_survives_a_crash(self):
        story = died_once()
        story.batch = decode_state(snapshot(story.batch))
        assert retry_charge(story.issue()) == 1
        story.dispatch()
        story.batch = decode_state(snapshot(story.batch))
        story.ends(**DIED)
        assert story.issue().status is Status.FAILED

    def test_it_is_never_decremented_by_a_launch_that_never_ran(self):
        story = died_once()
        story.dispatch()
        story.ends(**VOID)
        assert story.issue().status is Status.PENDING
        assert retry_charge(story.issue()) == 1
        story.dispatch()
        story.ends(**DIED)
        assert story.issue().status is Status.FAILED

    def test_it_is_at_most_one(self):
        story = died_once(retry_max=3)
        for _ in range(2):
            story.dispatch()
            assert story.issue().retry_count == 1
            story.ends(**DIED)
        assert story.issue().status is Status.PENDING


class TestWhatIsNotADeath:
    def test_an_agent_that_ends_with_a_failure_is_failed_without_a_retry(self):
        story = Story()
        story.dispatch()
        story.ends(**exited(3))
        assert (story.issue().status, story.issue().reason) == (Status.FAILED, "exit code 3")
        assert story.issue().attempt.outcome is Outcome.FAILED

    def test_retry_on_failure_dispatches_a_failed_agent_again_once(self):
        story = Story(policy=Policy(retry_on_failure=True))
        story.dispatch()
        story.ends(**exited(3))
        assert story.starts() == ["1"]
        story.dispatch()
        assert story.issue().retry_count == 1
        story.ends(**exited(3))
        assert story.issue().status is Status.FAILED

    def test_a_death_and_a_failure_share_one_budget(self):
        story = died_once(retry_on_failure=True)
        story.dispatch()
        story.ends(**exited(3))
        assert story.issue().status is Status.FAILED

    def test_exit_code_zero_is_completed(self):
        story = Story()
        story.dispatch()
        story.ends(**exited(0))
        assert (story.issue().status, story.issue().reason) == (Status.COMPLETED, None)

    def test_a_refusal_of_the_runner_is_failed_with_its_reason(self):
        story = Story()
        story.dispatch()
        record = ExitRecord(refused="no such program: claud")
        story.ends(**NEVER_RAN, has_exit=Answer.YES, exit=record)
        assert story.issue().status is Status.FAILED
        assert story.issue().reason == "no such program: claud"
        assert story.issue().attempt.outcome is Outcome.REFUSED


class TestTheSignalFile:
    @pytest.mark.parametrize("seen", [DIED, exited(0), exited(9), exited(None, signal=9)])
    def test_ok_completes_whatever_the_end_was(self, seen):
        story = Story()
        story.dispatch()
        story.ends(**signalled(Signal.OK, seen))
        assert story.issue().status is Status.COMPLETED

    def test_failed_outranks_exit_code_zero(self):
        story = Story()
        story.dispatch()
        story.ends(**signalled(Signal.FAILED, exited(0)))
        assert story.issue().status is Status.FAILED
        assert story.issue().reason == "the agent's signal file says it failed"


class TestAPersonsRetry:
    def test_it_opens_a_new_budget(self):
        story = died_twice()
        story.record(Retried(issue="1"))
        story.settle()
        assert retry_charge(story.issue()) == 0
        story.dispatch()
        story.ends(**DIED)
        assert story.issue().status is Status.PENDING
        story.dispatch()
        story.ends(**DIED)
        assert story.issue().status is Status.FAILED
        assert [attempt.retry for attempt in story.issue().attempts] == [0, 1, 0, 1]

    def test_it_forgets_launches_that_never_ran(self):
        story = Story()
        for _ in range(3):
            story.dispatch()
            story.ends(**VOID)
        assert story.issue().status is Status.FAILED
        story.record(Retried(issue="1"), Unblocked(issue="1"))
        story.dispatch()
        story.ends(**VOID)
        assert story.issue().status is Status.PENDING


class TestDependents:
    def test_a_failed_issue_still_unblocks_its_dependents(self):
        story = Story({"1": (), "2": ("1",)})
        story.dispatch("1")
        story.ends("1", **exited(1))
        assert story.starts() == ["2"]

    def test_a_death_that_is_retried_does_not(self):
        story = Story({"1": (), "2": ("1",)})
        story.dispatch("1")
        story.ends("1", **DIED)
        assert story.starts() == ["1"]
        assert story.issue("2").status is Status.BLOCKED


class TestMachineLossIsNamed:
    def test_by_boot_id(self):
        story = Story()
        story.dispatch()
        story.later(1, OTHER_BOOT)
        story.ends(**{**DIED, "survivors": Answer.UNKNOWN})
        assert story.issue().attempt.reason == "the machine was restarted"

    def test_by_a_vanished_tmux_server(self):
        story = Story()
        story.dispatch()
        story.ends(**DIED, server_gone=Answer.YES)
        assert story.issue().attempt.reason == "its tmux server is gone"

    @pytest.mark.parametrize(
        ("seen", "words"),
        [
            (exited(0, runner_signal=1), "its pane was closed or told to end (signal 1)"),
            (exited(None, signal=9), "the agent was killed by signal 9"),
            (exited(143), "the agent was told to end (exit code 143)"),
            (DIED, "its runner was killed"),
        ],
    )
    def test_other_deaths_are_told_as_they_were_seen(self, seen, words):
        story = Story()
        story.dispatch()
        story.ends(**seen)
        assert story.issue().attempt.reason == words


def test_nothing_is_started_while_the_attempt_lives():
    story = Story()
    story.dispatch()
    effects = story.ends(**RUNNING)
    assert not any(isinstance(effect, Start) for effect in effects)
