"""Every reachable state of small batches keeps the five promises; and a mistake would be found.

The depths that a pull request can wait for; `python tests/prove/model.py --full` goes deeper.
"""

import model_look
import model_people
import model_steps
import model_world
import msgspec
import pytest
from model import BUDGETS, IN_CI, ONE, PAIR, SERVICE, TWO, Case
from model_fold import Commit, check_encoding, ledger_of
from model_orchestrator import Operation, left, opened
from model_people import words_of_people
from model_search import CounterexampleError, Search
from model_steps import Model
from model_world import Local, claimed, site_steps, steps

from gangline.app import commands
from gangline.app.launching import Launcher
from gangline.core import batch, dispatching, issue_fold, reconcile, standing
from gangline.core import case as case_of_core
from gangline.core.batch import Batch
from gangline.core.events import (
    ConditionChanged,
    Dispatched,
    Ended,
    KillOrdered,
    KillReason,
    Outcome,
    Policy,
    Voided,
)
from gangline.core.evidence import Answer, Claim, Verdict
from gangline.core.model import TERMINAL, Status
from gangline.core.reconcile import Start
from gangline.hosts.attempts import AttemptFolders

_REMEMBERING = (
    model_look.glances,
    model_look.at_once,
    steps,
    site_steps,
    opened,
    left,
    ledger_of,
    check_encoding,
    words_of_people,
)


@pytest.fixture
def planted(monkeypatch):
    """Change the product for one test; what was worked out with another product is forgotten."""
    for function in _REMEMBERING:
        function.cache_clear()
    yield monkeypatch
    for function in _REMEMBERING:
        function.cache_clear()


def broken_promise(case: Case) -> int:
    """The promise that a search finds broken, and never without a path to it."""
    with pytest.raises(CounterexampleError) as caught:
        case.search()
    told = str(caught.value)
    assert "  1. " in told, told
    return caught.value.promise


@pytest.mark.parametrize("case", IN_CI, ids=lambda case: f"{case.name}, depth {case.depth}")
def test_every_reachable_state_keeps_the_promises_and_comes_to_an_end(case):
    found = case.search()
    assert found.states > 1000
    assert found.calm_steps_max < 40 * (1 + len(case.needs))


def test_a_search_comes_through_limits_questions_messages_stalls_and_budgets():
    recorded, kills, ends = set(), set(), set()
    for case in (Case("", ONE, 2, service=SERVICE), Case("", ONE, 2, service=BUDGETS)):
        model = Model(case.needs, case.policy)
        Search(model, case.depth).run()
        events = [event for commit in model.commits.things for event in commit.events]
        recorded |= {(e.condition, e.waits) for e in events if isinstance(e, ConditionChanged)}
        kills |= {event.why for event in events if isinstance(event, KillOrdered)}
        ends |= {event.outcome for event in events if isinstance(event, Ended)}
    conditions = ("stalled", "needs-input", "limited", "working")
    assert recorded == {*((c, False) for c in conditions), ("limited", True), ("needs-input", True)}
    assert kills >= {KillReason.LIMIT, KillReason.STALL, KillReason.BUDGET}
    assert Outcome.LIMITED in ends


def test_states_are_the_same_in_every_search():
    assert Case("", ONE, 2).search() == Case("", ONE, 2).search()


def test_a_batch_without_faults_is_led_through_every_step_of_the_protocol():
    model = Model(PAIR, Policy())
    told, state = [], model.first
    with model_look.scenes_answer():
        while True:
            found = list(model.successors(state, 0))
            after = model.calm_step(state, found)
            if after is None:
                break
            told += [s.words for s in found if s.to == after][:1]
            state = after
    assert model.fold_of(state).is_over
    done = [word.what for word in told if isinstance(word, Operation)]
    assert done == ["put away", "prepare", "launch"] * 2
    commits = [word[1] for word in told if isinstance(word[1], Commit)]
    kinds = [type(event) for commit in commits for event in commit.events]
    assert kinds.count(Dispatched) == kinds.count(Ended) == 2


def test_a_search_comes_through_every_event_and_operation_of_the_protocol():
    model = Model(PAIR, Policy(on_failed_dependency="skip"))
    Search(model, 2).run()
    recorded = {
        type(event).__struct_config__.tag
        for commit in model.commits.things
        for event in commit.events
    }
    done = {
        operation.what
        for trace in model.traces.things
        for operation in trace
        if isinstance(operation, Operation)
    }
    # Two faults are needed for `retried`, `reopened` and `condition-changed`; no issue is refused,
    # and begun, restored and configured batches are not of this model.
    assert recorded == {
        *("blocked", "cancelled", "dispatched", "draining", "edited", "ended", "held"),
        *("kill-ordered", "launched", "orchestrator-started", "orchestrator-stopped", "paused"),
        *("reaping", "released", "resumed", "skipped", "stop-finished", "stop-requested"),
        *("unblocked", "voided", "wished"),
    }
    assert done == {
        *("put away", "prepare", "launch", "void", "end"),
        *("kill runner", "kill rest", "kill left"),
    }


# -- planted bugs --------------------------------------------------------------------------------


def test_dispatch_before_the_intent_is_committed_is_found(planted):
    intend = Launcher.intend

    def launch_at_once(self, moment, key, now):
        launch = intend(self, moment, key, now)
        if launch is not None:
            self.launch(launch)

    planted.setattr(Launcher, "intend", launch_at_once)
    assert broken_promise(Case("", ONE, 1)) == 1


def test_a_fence_that_does_not_look_at_the_claim_is_found(planted):
    planted.setattr(model_steps, "voided", lambda local: local._replace(claim=Claim.VOID))
    assert broken_promise(Case("", ONE, 2)) == 1


def test_a_claim_that_is_not_exclusive_is_found(planted):
    real = claimed

    def take_over(local: Local):
        return real(local._replace(claim=Claim.NONE))

    planted.setattr(model_world, "claimed", take_over)
    assert broken_promise(Case("", ONE, 2)) == 1


def test_void_recorded_before_it_is_linked_is_found(planted):
    def record_first(case, decision):
        if case.seconds_since_intent() > 10 or case.other_boot():
            to = Status.PENDING
            number = case.attempt.number
            decision.events.append(
                Voided(issue=case.issue.key, attempt=number, reason="late", to=to)
            )

    planted.setattr(reconcile, "_decide_not_started", record_first)
    assert broken_promise(Case("", ONE, 2)) == 1


def test_a_probe_without_answer_that_is_read_as_death_is_found(planted):
    verdict = case_of_core.verdict

    def hasty(seen, *, kill_ordered):
        found = verdict(seen, kill_ordered=kill_ordered)
        return Verdict.DIED if found is Verdict.UNKNOWN else found

    planted.setattr(case_of_core, "verdict", hasty)
    assert broken_promise(Case("", ONE, 2)) == 4


def test_a_retry_that_is_never_charged_is_found(planted):
    fold = Batch._fold_attempt

    def uncharged(self, issue, event):
        spent = issue.spent
        fold(self, issue, event)
        if isinstance(event, Ended) and event.outcome is Outcome.DIED:
            issue.spent = spent

    planted.setattr(batch.Batch, "_fold_attempt", uncharged)
    assert broken_promise(Case("", ONE, 4)) == 3


def test_a_retry_that_is_charged_only_once_its_launch_is_recorded_is_found(planted):
    fold = Batch._fold_attempt

    def charged_late(self, issue, event):
        spent, pane = issue.spent, issue.attempts[-1].pane
        fold(self, issue, event)
        if isinstance(event, Ended) and pane is None:
            issue.spent = spent

    planted.setattr(batch.Batch, "_fold_attempt", charged_late)
    assert broken_promise(Case("", ONE, 5)) == 3


def test_a_survivor_that_is_not_reaped_is_found(planted):
    decide_died = reconcile._decide_died

    def leave_it(case, decision):
        seen = case.seen
        if seen.survivors is Answer.YES:
            seen = msgspec.structs.replace(seen, survivors=Answer.NO)
        decide_died(case._replace(seen=seen), decision)

    planted.setattr(reconcile, "_decide_died", leave_it)
    assert broken_promise(Case("", ONE, 2)) == 1


def test_a_status_that_is_set_while_the_attempt_lives_is_found(planted):
    cancel = commands.cancel

    def at_once(batch, key):
        issue = batch.issues[key]
        if issue.status is not Status.DISPATCHED:
            return cancel(batch, key)
        number, to = issue.attempts[-1].number, Status.CANCELLED
        return [Ended(issue=key, attempt=number, outcome=Outcome.KILLED, to=to)]

    planted.setitem(commands.ISSUE_COMMANDS, "cancel", at_once)
    assert broken_promise(Case("", ONE, 2)) == 1


def test_evidence_read_from_its_end_is_found(planted):
    read_once = AttemptFolders._read_once

    def end_first(self, subject):
        early = read_once(self, subject)
        late = read_once(self, subject)
        return msgspec.structs.replace(
            late, starting=early.starting, has_exit=early.has_exit, exit=early.exit
        )

    planted.setattr(AttemptFolders, "_read_once", end_first)
    assert broken_promise(Case("", ONE, 2)) == 1


def test_a_limit_that_is_charged_is_found(planted):
    fold = Batch._fold_attempt

    def charged(self, issue, event):
        fold(self, issue, event)
        if isinstance(event, Ended) and event.outcome is Outcome.LIMITED:
            issue.spent += 1

    planted.setattr(batch.Batch, "_fold_attempt", charged)
    assert broken_promise(Case("", ONE, 2, service=SERVICE)) == 3


def test_a_parking_that_a_look_forgets_is_found(planted):
    planted.setattr(standing, "limit_jitter_seconds", lambda attempt: -1e6)
    assert broken_promise(Case("", ONE, 2, service=SERVICE)) == 3


def test_a_message_that_is_lost_with_a_launch_is_found(planted):
    planted.setattr(issue_fold, "_NEVER_TOLD", ())
    assert broken_promise(Case("", ONE, 4, service=SERVICE)) == 2


def test_a_budget_that_nobody_looks_at_is_found(planted):
    planted.setattr(dispatching, "budget_used_up", lambda batch: None)
    assert broken_promise(Case("", PAIR, 2, service=BUDGETS)) == 3


def test_words_that_cannot_be_read_and_are_taken_for_none_are_found(planted):
    verdict = case_of_core.verdict

    def hasty(seen, *, kill_ordered):
        seen = msgspec.structs.replace(seen, has_progress=Answer.NO)
        return verdict(seen, kill_ordered=kill_ordered)

    planted.setattr(case_of_core, "verdict", hasty)
    assert broken_promise(Case("", ONE, 4, service=SERVICE)) == 4


def test_a_dependent_that_is_started_too_early_is_found(planted):
    def ready_anyway(batch, decision, now):
        waiting = [k for k, i in batch.issues.items() if i.status not in TERMINAL]
        decision.effects.extend(
            Start(k) for k in waiting if batch.issues[k].status is Status.PENDING
        )

    place = Batch._place

    def never_wait(self, key):
        self.open_dependencies[key] = 0
        place(self, key)

    planted.setattr(Batch, "_place", never_wait)
    planted.setattr(reconcile, "decide_dispatch", ready_anyway)
    assert broken_promise(Case("", PAIR, 0)) == 3


def test_more_agents_than_places_are_found(planted):
    def all_at_once(batch, decision, now):
        decision.effects.extend(Start(key) for key in batch.ready(9))

    planted.setattr(reconcile, "decide_dispatch", all_at_once)
    assert broken_promise(Case("", TWO, 0, panes=1)) == 3


def test_a_batch_that_never_ends_is_found(planted):
    planted.setattr(reconcile, "waiting_events", lambda batch: [])
    assert broken_promise(Case("", PAIR, 0)) == 5


def test_an_orchestrator_that_forgets_a_lost_launch_is_found(planted):
    planted.setattr(reconcile, "_decide_not_started", lambda case, decision: None)
    assert broken_promise(Case("", ONE, 1)) == 5


def test_people_can_say_every_command_of_the_product():
    said = set()
    with model_look.scenes_answer():
        model = Model(PAIR, Policy())
        fold = model.fold_of(model.first)
        for word in model_people.words_of_people(fold):
            said.add(word.words.partition(" ")[0])
            for other in model_people.words_of_people(word.commit.folds[-1]):
                said.add(other.words.partition(" ")[0])
    assert said == {
        *("cancel", "skip", "retry", "hold", "release", "pause", "resume", "drain"),
        *("stop", "edit"),
    }
