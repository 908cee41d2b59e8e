"""Who starts next, who waits, who never runs; and deaths that are not believed at once."""

from typing import ClassVar

import pytest
from core_builders import DIED, OTHER_BOOT, RUNNING, Story, exited

from gangline.core.events import (
    Blocked,
    Cancelled,
    Draining,
    Held,
    OrchestratorStarted,
    Paused,
    Policy,
    Refused,
    Released,
    Reopened,
    Resumed,
    Retried,
    Skipped,
    StopRequested,
    Wish,
    Wished,
)
from gangline.core.evidence import Answer, Evidence
from gangline.core.model import Status
from gangline.core.policy import RECHECK_SECONDS
from gangline.core.reconcile import Look, Start

FOUR = {"1": (), "2": (), "3": (), "4": ()}


class TestOrder:
    def test_what_the_most_work_waits_for_starts_first(self):
        dag = {"lone": (), "short": (), "long": (), "a": ("short",), "b": ("long",), "c": ("b",)}
        story = Story(dag, Policy(max_concurrent=3))
        assert story.starts() == ["long", "short", "lone"]

    def test_equals_start_in_the_order_of_the_source(self):
        story = Story({"z": (), "m": (), "a": ()}, Policy(max_concurrent=2))
        assert story.starts() == ["z", "m"]

    def test_no_more_than_max_concurrent_run(self):
        story = Story(FOUR, Policy(max_concurrent=2))
        assert story.starts() == ["1", "2"]
        story.dispatch("1")
        assert story.starts() == ["2"]
        story.dispatch("2")
        assert story.starts() == []
        story.ends("1", **exited(0))
        assert story.starts() == ["3"]

    def test_a_lower_limit_than_what_runs_starts_nothing_and_kills_nothing(self):
        story = Story(FOUR, Policy(max_concurrent=1))
        story.dispatch("1", "2")
        evidence = story.seen("1", **RUNNING) | story.seen("2", **RUNNING)
        decision = story.decide(evidence)
        assert (decision.events, decision.effects) == ([], [])

    def test_asking_again_gives_the_same_answer(self):
        story = Story(FOUR)
        assert story.starts() == story.starts() == ["1", "2", "3", "4"]


class TestDependencies:
    DIAMOND: ClassVar = {"a": (), "b": ("a",), "c": ("a",), "d": ("b", "c")}

    def test_a_dependent_waits_for_every_dependency(self):
        story = Story(self.DIAMOND)
        assert story.starts() == ["a"]
        story.dispatch("a")
        story.ends("a", **exited(0))
        assert story.starts() == ["b", "c"]
        story.dispatch("b", "c")
        story.ends("b", **exited(0))
        assert story.starts() == []
        assert story.issue("d").status is Status.BLOCKED
        story.ends("c", **exited(1))
        assert story.starts() == ["d"]

    def test_a_dependency_that_is_retried_blocks_what_has_not_started(self):
        story = Story({"a": (), "b": ("a",)})
        story.dispatch("a")
        story.ends("a", **exited(1))
        assert story.issue("b").status is Status.PENDING
        story.record(Retried(issue="a"))
        assert Blocked(issue="b") in story.decide().events
        story.settle()
        assert story.issue("b").status is Status.BLOCKED
        assert story.starts() == ["a"]


class TestSkipPolicy:
    CHAIN: ClassVar = {"a": (), "b": ("a",), "c": ("b",), "d": ("c",), "free": ()}

    def test_skips_propagate_and_name_the_dependency(self):
        story = Story(self.CHAIN, Policy(on_failed_dependency="skip"))
        story.dispatch("a")
        story.ends("a", **exited(1))
        skipped = {key: story.issue(key).because for key in "bcd"}
        assert skipped == {"b": "a", "c": "b", "d": "c"}
        assert story.issue("d").reason == "dependency c did not complete"
        assert story.starts() == ["free"]

    def test_what_a_person_passes_over_skips_nothing(self):
        story = Story({"a": (), "b": (), "c": ("a", "b")}, Policy(on_failed_dependency="skip"))
        story.dispatch("a")
        story.record(Skipped(issue="b"), Wished(issue="a", wish=Wish.SKIP))
        story.ends("a", **DIED)
        assert story.starts() == ["c"]

    def test_what_a_person_cancels_skips_its_dependents(self):
        story = Story(self.CHAIN, Policy(on_failed_dependency="skip"))
        story.record(Cancelled(issue="a"))
        story.settle()
        assert story.issue("d").status is Status.SKIPPED

    def test_a_completed_dependency_skips_nothing(self):
        story = Story(self.CHAIN, Policy(on_failed_dependency="skip"))
        story.dispatch("a")
        story.ends("a", **exited(0))
        assert "b" in story.starts()

    def test_what_was_skipped_waits_again_when_its_dependency_is_retried(self):
        story = Story({"a": (), "b": ("a",)}, Policy(on_failed_dependency="skip"))
        story.dispatch("a")
        story.ends("a", **exited(1))
        story.record(Retried(issue="a"), Reopened(issue="b", because="a"))
        assert story.starts() == ["a"]
        story.dispatch("a")
        story.ends("a", **exited(0))
        assert story.starts() == ["b"]
        assert story.issue("b").because is None


class TestWhatIsNotDispatched:
    def test_a_held_issue_until_it_is_released(self):
        story = Story(FOUR, Policy(max_concurrent=2))
        story.record(Held(issue="1"), Held(issue="3"))
        assert story.starts() == ["2", "4"]
        story.record(Released(issue="1"))
        assert story.starts() == ["1", "2"]

    def test_an_issue_held_while_it_runs_is_not_dispatched_again_after_its_death(self):
        story = Story()
        story.dispatch()
        story.record(Held(issue="1"))
        story.ends(**DIED)
        assert story.issue().status is Status.PENDING
        assert story.starts() == []

    @pytest.mark.parametrize(
        "event", [Paused(), Draining(), StopRequested(), StopRequested(kill=True)]
    )
    def test_anything_while_paused_draining_or_stopping(self, event):
        story = Story(FOUR)
        story.dispatch("1")
        story.record(event)
        evidence = story.seen("1", **RUNNING)
        assert not any(isinstance(effect, Start) for effect in story.settle(evidence))

    @pytest.mark.parametrize("event", [Paused(), Draining()])
    def test_resume_ends_pausing_and_draining(self, event):
        story = Story(FOUR)
        story.record(event, Resumed())
        assert story.starts() == ["1", "2", "3", "4"]

    def test_pausing_outlives_a_new_orchestrator_but_a_stop_that_leaves_does_not(self):
        story = Story(FOUR)
        story.record(StopRequested(), OrchestratorStarted(pid=1))
        assert story.starts() == ["1", "2", "3", "4"]
        story.record(Paused(), OrchestratorStarted(pid=2))
        assert story.starts() == []

    def test_an_issue_that_could_not_be_launched_is_failed_with_the_reason(self):
        story = Story(FOUR)
        story.record(Refused(issue="1", reason="no such agent"))
        assert (story.issue().status, story.issue().reason) == (Status.FAILED, "no such agent")


class TestMassDeath:
    def many(self, count: int) -> Story:
        story = Story({str(n): () for n in range(count)}, Policy(max_concurrent=count))
        story.dispatch(*(str(n) for n in range(count)))
        return story

    def dead(self, story: Story, count: int, **fields: object) -> dict[str, Evidence]:
        seen = {**DIED, **fields}
        return {str(n): Evidence(attempt=0, **seen) for n in range(count)}

    def test_three_deaths_of_most_that_live_are_looked_at_again_within_two_seconds(self):
        story = self.many(5)
        decision = story.decide(self.dead(story, 3))
        assert decision.events == []
        assert decision.effects == [Look(str(n), RECHECK_SECONDS, confirm=True) for n in range(3)]
        assert RECHECK_SECONDS <= 2.0

    def test_they_are_believed_when_confirmed(self):
        story = self.many(5)
        story.settle(self.dead(story, 3, confirmed=True))
        assert [story.issue(str(n)).spent for n in range(5)] == [1, 1, 1, 0, 0]

    def test_what_was_seen_alive_the_second_time_goes_on(self):
        story = self.many(3)
        story.decide(self.dead(story, 3))
        evidence = self.dead(story, 2, confirmed=True) | story.seen("2", **RUNNING)
        story.settle(evidence)
        assert story.issue("2").status is Status.DISPATCHED

    @pytest.mark.parametrize(("dead", "alive"), [(1, 1), (2, 2), (3, 6), (4, 8)])
    def test_few_deaths_or_fewer_than_most_are_believed_at_once(self, dead, alive):
        story = self.many(alive)
        story.settle(self.dead(story, dead))
        assert sum(issue.spent for issue in story.batch.issues.values()) == dead

    def test_a_vanished_server_is_proof_and_believed_at_once(self):
        story = self.many(5)
        story.settle(self.dead(story, 5, server_gone=Answer.YES))
        assert all(issue.spent == 1 for issue in story.batch.issues.values())

    def test_another_boot_is_proof_and_believed_at_once(self):
        story = self.many(5)
        story.later(1, OTHER_BOOT)
        story.settle(self.dead(story, 5))
        assert all(issue.spent == 1 for issue in story.batch.issues.values())

    def test_the_others_are_decided_meanwhile(self):
        story = self.many(5)
        evidence = self.dead(story, 3) | story.seen("4", **exited(0))
        story.settle(evidence)
        assert story.issue("4").status is Status.COMPLETED
        assert story.issue("0").status is Status.DISPATCHED

    def test_reaping_that_has_begun_is_not_doubted_again(self):
        story = self.many(3)
        story.settle(self.dead(story, 3, confirmed=True, survivors=Answer.YES))
        story.settle(self.dead(story, 3))
        assert all(issue.spent == 1 for issue in story.batch.issues.values())
