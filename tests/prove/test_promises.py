"""Each checker of a promise lets a good history pass and finds what is planted into it."""

import msgspec
import pytest
from promises import (
    AgentGone,
    AgentStarted,
    BrokenPromiseError,
    Committed,
    Decided,
    Promises,
    Read,
    Rested,
    Unreadable,
)

from gangline.core.events import (
    BatchRestored,
    BatchStarted,
    Cancelled,
    Condition,
    ConditionChanged,
    Configured,
    Dispatched,
    Edited,
    Ended,
    Held,
    KillOrdered,
    KillReason,
    Outcome,
    Paused,
    PlannedIssue,
    Policy,
    Retried,
    Sent,
    StopRequested,
    Unblocked,
    Voided,
    Wish,
    Wished,
)
from gangline.core.evidence import Answer, Claim, Evidence, ExitRecord, Signal
from gangline.core.model import Status
from gangline.core.reconcile import Look, Reap, Terminate, Void
from gangline.core.usage import Limits, Usage

BEGUN = BatchStarted(
    format=1,
    area="client",
    batch_id="b",
    agent="demo",
    issues=(PlannedIssue(id=1), PlannedIssue(id=2, depends_on=("1",))),
    policy=Policy(max_concurrent=1, retry_max=1),
)


def intent(issue="1", attempt=0, retry=0, messages=0):
    return Dispatched(
        issue=issue,
        attempt=attempt,
        mark="m",
        retry=retry,
        boot_id="b",
        boot_seconds=1.0,
        messages=messages,
    )


def end(issue="1", attempt=0, outcome=Outcome.COMPLETED, to=Status.COMPLETED):
    return Ended(issue=issue, attempt=attempt, outcome=outcome, to=to)


def void(issue="1", attempt=0):
    return Voided(issue=issue, attempt=attempt, reason="late", to=Status.PENDING)


def died(attempt, to=Status.PENDING):
    return end(attempt=attempt, outcome=Outcome.DIED, to=to)


def lives(attempt=0, issue="1"):
    return [AgentStarted(issue, attempt), AgentGone(issue, attempt)]


def committed(*events):
    return Committed(events)


def watch(*history):
    promises = Promises()
    promises.observe(committed(BEGUN))
    for witness in history:
        promises.observe(witness)
    return promises


def broken(promise, *history):
    """The last fact of the history breaks this promise, and none before it breaks any."""
    promises = watch(*history[:-1])
    with pytest.raises(BrokenPromiseError) as caught:
        promises.observe(history[-1])
    assert caught.value.promise == promise, caught.value


def test_a_whole_history_keeps_them_all():
    watch(
        committed(intent()),
        *lives(),
        committed(died(0), intent(attempt=1, retry=1)),
        *lives(1),
        committed(end(attempt=1)),
        committed(Unblocked(issue="2"), intent("2")),
        *lives(0, "2"),
        committed(end("2")),
        Read({"1": Status.COMPLETED, "2": Status.COMPLETED}),
        Rested(),
    )


# -- 1 -------------------------------------------------------------------------------------------


def test_an_attempt_executed_twice_is_found():
    broken(1, committed(intent()), *lives(), AgentStarted("1", 0))


def test_two_living_agents_of_one_issue_are_found():
    broken(
        1,
        committed(intent()),
        AgentStarted("1", 0),
        AgentStarted("1", 1),
    )


def test_an_agent_without_an_intent_is_found():
    broken(1, AgentStarted("1", 0))


def test_an_agent_that_starts_after_its_void_is_found():
    broken(1, committed(intent()), committed(void()), AgentStarted("1", 0))


@pytest.mark.parametrize("event", [end(), died(0), void()], ids=["ended", "died", "void"])
def test_an_attempt_recorded_as_over_while_it_lives_is_found(event):
    broken(1, committed(intent()), AgentStarted("1", 0), committed(event))


# -- 2 -------------------------------------------------------------------------------------------


def test_an_unreadable_state_is_found():
    broken(2, Unreadable("half a line"))


def test_a_state_that_says_something_else_is_found():
    broken(2, committed(intent()), Read({"1": Status.PENDING, "2": Status.BLOCKED}))


def test_a_state_that_falls_back_is_found():
    first, second = (
        Held(issue="1", seq=1),
        Cancelled(issue="1", seq=2),
    )
    before = {"1": Status.PENDING, "2": Status.BLOCKED}
    after = {"1": Status.CANCELLED, "2": Status.BLOCKED}
    history = [committed(first, second), Read(after, 2)]
    watch(committed(first, second), Read(before, 1), Read(after, 2), Read(after, 2))
    broken(2, *history, Read(before, 1))
    broken(2, committed(first), Read(after, 2))
    broken(2, committed(first), Read(after, 1))
    broken(2, committed(first), committed(Cancelled(issue="1", seq=3)))
    broken(2, committed(first), committed(Cancelled(issue="1", seq=1)))


@pytest.mark.parametrize(
    "event",
    [
        Cancelled(issue="1"),
        Edited(by="file", statuses={"1": Status.COMPLETED}),
        end(attempt=3),
        Retried(issue="1"),
        intent(attempt=1),
    ],
    ids=["cancelled", "edited", "another attempt ended", "retried", "dispatched again"],
)
def test_a_status_that_leaves_dispatched_otherwise_is_found(event):
    broken(2, committed(intent()), committed(event))


def test_a_terminal_status_that_is_left_without_a_word_is_found():
    broken(2, committed(intent()), committed(end()), committed(Unblocked(issue="1")))


def test_an_attempt_number_that_is_used_again_is_found():
    broken(2, committed(intent()), committed(void()), committed(intent()))


def test_a_message_that_is_lost_with_its_attempt_or_given_again_is_found():
    said = committed(Sent(issue="1", text="mind the gap"))
    told = committed(intent(messages=1))
    broken(2, said, committed(intent()))
    broken(2, said, told, committed(void()), committed(intent(attempt=1)))
    watch(said, told, committed(void()), committed(intent(attempt=1, messages=1)))
    goes_on = committed(end(to=Status.PENDING))
    broken(2, said, told, *lives(), goes_on, committed(intent(attempt=1, messages=1)))


def test_an_issue_that_is_over_with_something_unsaid_is_found():
    said = committed(Sent(issue="1", text="mind the gap"))
    broken(2, committed(intent()), *lives(), said, committed(end()))
    asks = ConditionChanged(issue="1", attempt=0, condition=Condition.NEEDS_INPUT, asked=True)
    done = committed(msgspec.structs.replace(end(), exit_code=0))
    broken(2, committed(intent()), *lives(), committed(asks), done)


def test_a_journal_begun_anew_knows_why_an_attempt_is_being_ended():
    def restored(kill):
        attempt = {"number": 0, "mark": "m", "startedAt": "", "kill": kill}
        detail = {"1": {"messages": ["mind the gap"], "attempts": [attempt]}}
        state = {"status": {"1": Status.DISPATCHED}, "dag": {"1": []}, "detail": detail}
        return committed(BatchRestored(format=1, area="client", batch_id="b", state=state))

    over = committed(end(outcome=Outcome.FAILED, to=Status.FAILED))
    watch(restored(KillReason.BUDGET), over)  # it is told nothing more
    broken(2, restored(KillReason.STALL), over)
    broken(2, restored(None), over)


# -- 3 -------------------------------------------------------------------------------------------


def test_a_dependent_before_its_dependency_is_found():
    broken(3, committed(Unblocked(issue="2")), committed(intent("2")))


def test_a_third_execution_in_one_budget_is_found():
    history = []
    for attempt in (0, 1):
        charged = committed(intent(attempt=attempt, retry=attempt))
        history += [charged, *lives(attempt), committed(died(attempt))]
    broken(3, *history, committed(intent(attempt=2, retry=1)), AgentStarted("1", 2))


def test_a_person_who_retries_opens_a_new_budget():
    history = []
    for attempt in range(4):
        to = Status.FAILED if attempt % 2 else Status.PENDING
        if attempt == 2:
            history.append(committed(Retried(issue="1"), Unblocked(issue="1")))
        history += [
            committed(intent(attempt=attempt, retry=attempt % 2)),
            *lives(attempt),
            committed(died(attempt, to)),
        ]
    watch(*history)
    wish = committed(Wished(issue="1", wish=Wish.RETRY))
    again = [
        committed(intent()),
        *lives(),
        committed(died(0)),
        committed(intent(attempt=1, retry=1)),
    ]
    wished = [*again, *lives(1), wish, committed(died(1)), committed(intent(attempt=2))]
    last = committed(intent(attempt=3, retry=1))
    watch(*wished, *lives(2), committed(died(2)), last, *lives(3))


@pytest.mark.parametrize("outcome", [Outcome.LIMITED, Outcome.SESSION_LOST])
def test_a_limit_that_is_charged_is_found(outcome):
    met = committed(end(outcome=outcome, to=Status.PENDING))
    watch(committed(intent()), *lives(), met, committed(intent(attempt=1)))
    broken(3, committed(intent()), *lives(), met, committed(intent(attempt=1, retry=1)))


def test_a_retry_that_is_not_charged_is_found():
    broken(3, committed(intent()), *lives(), committed(died(0)), committed(intent(attempt=1)))


def test_a_dispatch_over_the_batchs_budget_is_found():
    rules = Policy(batch_budget=Limits(tokens=100))
    used = msgspec.structs.replace(end(to=Status.PENDING), usage=Usage(input_tokens=100))
    history = [committed(Configured(policy=rules)), committed(intent()), *lives(), committed(used)]
    broken(3, *history, committed(intent(attempt=1)))


def test_who_waits_for_an_answer_takes_no_place():
    asks = ConditionChanged(
        issue="1", attempt=0, condition=Condition.NEEDS_INPUT, asked=True, waits=True
    )
    edges = Edited(by="file", depends_on={"2": ()}, statuses={"2": Status.PENDING})
    history = [committed(edges), committed(intent()), committed(asks)]
    watch(*history, committed(intent("2")))
    broken(3, *history, committed(Sent(issue="1", text="yes")), committed(intent("2")))


def test_an_end_by_stop_kill_is_not_counted():
    history = []
    for attempt in range(5):
        kill = end(attempt=attempt, outcome=Outcome.KILLED, to=Status.PENDING)
        history += [committed(intent(attempt=attempt)), *lives(attempt), committed(kill)]
    watch(*history)


@pytest.mark.parametrize("event", [Held(issue="1"), Paused()], ids=["held", "paused"])
def test_a_dispatch_of_what_is_held_or_paused_is_found(event):
    broken(3, committed(event), committed(intent()))


def test_more_dispatches_than_places_are_found():
    edges = Edited(by="file", depends_on={"2": ()}, statuses={"2": Status.PENDING})
    broken(3, committed(edges), committed(intent()), committed(intent("2")))


# -- 4 -------------------------------------------------------------------------------------------

LIVING = {"claim": Claim.RUNNER, "lock": Answer.YES, "starting": Answer.YES}
DEAD = {"claim": Claim.RUNNER, "lock": Answer.NO, "starting": Answer.YES, "survivors": Answer.NO}


def seen(known, **unknown):
    return {"1": Evidence(attempt=0, **{**known, **unknown})}


@pytest.mark.parametrize(
    "evidence",
    [
        seen(DEAD, lock=Answer.UNKNOWN),
        seen({"lock": Answer.NO}, claim=Claim.UNKNOWN),
        seen(DEAD, starting=Answer.UNKNOWN),
        seen(DEAD, has_exit=Answer.UNKNOWN),
        seen(DEAD, survivors=Answer.UNKNOWN),
        seen(DEAD, signal=Signal.UNKNOWN),
        seen(LIVING, lock=Answer.UNKNOWN),
    ],
    ids=lambda evidence: ",".join(
        name for name in Evidence.__struct_fields__ if getattr(evidence["1"], name) == "unknown"
    ),
)
def test_anything_done_over_an_answer_that_lacks_is_found(evidence):
    kill = KillOrdered(issue="1", attempt=0, why="stop", boot_id="b", boot_seconds=1.0)
    watch(committed(intent()), Decided(evidence, [], [Look("1", 2.0, confirm=False)]))
    for event in (died(0), void(), kill):
        broken(4, committed(intent()), Decided(evidence, [event], []))
    for effect in (Void("1", 0), Reap("1", 0, hard=True), Terminate("1", 0, hard=False)):
        broken(4, committed(intent()), Decided(evidence, [], [effect]))


def test_what_is_lacking_and_could_change_nothing_is_no_matter():
    running = seen(LIVING, starting=Answer.UNKNOWN)
    ended = seen(DEAD, survivors=Answer.UNKNOWN, has_exit=Answer.YES, exit=ExitRecord(code=0))
    fenced = seen({"claim": Claim.VOID}, lock=Answer.UNKNOWN)
    kill = KillOrdered(issue="1", attempt=0, why="stop", boot_id="b", boot_seconds=1.0)
    watch(
        committed(intent()),
        Decided(running, [kill], []),
        Decided(ended, [end()], []),
        Decided(fenced, [void()], []),
    )
    other_boot = seen(DEAD, survivors=Answer.UNKNOWN)
    watch(committed(intent()), Decided(other_boot, [died(0)], [], rebooted=frozenset({"1"})))


# -- 5 -------------------------------------------------------------------------------------------


def test_a_batch_that_stays_open_for_no_reason_is_found():
    broken(5, Rested())
    broken(5, committed(intent()), Rested())


def test_an_agent_that_is_left_running_unnamed_is_found():
    cancelled = committed(intent(), end(to=Status.CANCELLED), Cancelled(issue="2"))
    broken(5, committed(intent()), AgentStarted("1", 0), Rested())
    watch(cancelled, Rested())


def test_what_is_held_paused_or_asked_for_is_a_reason():
    watch(committed(Held(issue="1")), Rested())
    watch(committed(Paused()), Rested())
    watch(committed(intent()), AgentStarted("1", 0), Rested(named=frozenset({"1"})))


def test_a_stop_is_no_transition():
    promises = watch(committed(StopRequested(kill=True)))
    assert promises.ledger.statuses() == {"1": Status.PENDING, "2": Status.BLOCKED}
