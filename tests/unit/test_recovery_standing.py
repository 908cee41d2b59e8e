"""What a plan says of usage limits, sessions, messages, budgets and stalls."""

import pytest
from test_recovery_plan import BOOT, DIED, RUNNING, Tale, exited

from gangline.app.recovery_plan import plan_issues
from gangline.app.resuming import SessionPlan
from gangline.core.events import (
    Condition,
    ConditionChanged,
    Dispatched,
    Ended,
    KillOrdered,
    KillReason,
    Outcome,
    PlannedIssue,
    Sent,
    Wish,
    Wished,
)
from gangline.core.evidence import Progress
from gangline.core.model import Status
from gangline.core.policy import KILL_GRACE_SECONDS
from gangline.core.reconcile import Now
from gangline.core.usage import Limits, Usage

NOW = 1_800_000_000.0
LIMITED = Progress(limited=True, limited_until=NOW + 2520, limit_text="5-hour limit", session="s")
REFUSED_BY_LIMIT = Progress(
    limited=True, limited_until=NOW + 2520, failure="5-hour limit", failure_kind="limit"
)


def tale(*issues: PlannedIssue, **policy: object) -> Tale:
    made = Tale(*issues, **policy)
    made.now = Now(boot_id=BOOT, boot_seconds=1000.0, epoch_seconds=NOW)
    return made


def dispatch(told: Tale, key: str = "5", account: str | None = "claude") -> None:
    told.batch.fold(
        Dispatched(
            issue=key,
            attempt=len(told.batch.issues[key].attempts),
            mark=f"mark-{key}",
            retry=0,
            boot_id=BOOT,
            boot_seconds=998.0,
            account=account,
        )
    )


@pytest.mark.parametrize(
    "seen",
    [
        {**RUNNING, "progress": LIMITED},
        {**exited(1), "progress": REFUSED_BY_LIMIT},
        {**DIED, "progress": LIMITED},
    ],
)
def test_limited_attempt_is_parked_uncharged_and_says_until_when(seen):
    told = tale()
    dispatch(told)
    told.see(seen)
    plan = told.plan()
    assert "(in 42m): uncharged, it goes on after that" in plan.action
    assert plan.rule.text.startswith("an attempt that met its service's usage limit is parked")
    assert (plan.expected_status, plan.expected_retry_count) == ("dispatched", 0)
    assert any("it met a usage limit until" in words for words in plan.evidence)


def test_parked_attempt_goes_on_when_its_limit_has_ended():
    told = tale()
    dispatch(told)
    told.batch.fold(
        ConditionChanged(
            issue="5", attempt=0, condition=Condition.LIMITED, until=NOW - 60, waits=True
        )
    )
    told.see({**DIED, "progress": LIMITED})
    plan = told.plan()
    assert plan.action == "limited is recorded: 5-hour limit, then re-dispatched, not charged"
    assert plan.rule.text.startswith("an attempt that met its service's usage limit is parked")


def test_others_of_the_account_are_held_back_and_no_others():
    issues = (PlannedIssue(id=5), PlannedIssue(id=6), PlannedIssue(id=7, agent="codex"))
    told = tale(*issues, accounts=(("demo", "claude"),))
    dispatch(told)
    told.see({**RUNNING, "progress": LIMITED})
    plans = told.plans()
    assert plans["6"].action.startswith("not dispatched until ")
    assert plans["6"].action.endswith("(in 42m): its account has met its usage limit")
    assert plans["6"].rule.text.startswith("what shares an account")
    assert plans["6"].expected_status == "pending"
    assert plans["7"].action == "dispatched"


def test_lost_session_starts_afresh_uncharged():
    told = tale()
    dispatch(told)
    told.batch.issues["5"].attempts[-1].resumed = True
    failure = Progress(failure="no such session", failure_kind="no-session")
    told.see({**exited(1), "progress": failure})
    plan = told.plan()
    assert plan.action.startswith("session-lost is recorded: the session it was to go on with")
    assert plan.action.endswith("then re-dispatched, not charged")
    assert plan.rule.source == "docs/agents.md: after a death"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (SessionPlan("s", True, None), "charged as its one retry, with its session"),
        (SessionPlan("", False, "no id"), "charged as its one retry, afresh: no id"),
        (None, "charged as its one retry"),
    ],
)
def test_dispatch_says_what_it_does_about_the_session(plan, words):
    told = tale()
    dispatch(told)
    told.see(DIED)
    (found,) = plan_issues(told.batch, told.evidence, told.now, lambda issue: plan)
    assert found.action.endswith(f"then re-dispatched, {words}")


def test_message_is_the_next_turn_uncharged():
    told = tale()
    dispatch(told)
    told.batch.fold(Sent(issue="5", text="more"))
    told.see(exited())
    plan = told.plan()
    assert plan.action == (
        "completed is recorded: it goes on with what a person said, then re-dispatched, "
        "not charged, with 1 message"
    )
    assert plan.rule.source == "DESIGN.md 8: gangline send"
    assert "1 message to it not delivered" in plan.evidence


def test_issue_over_its_budget_is_ended_and_failed():
    told = tale(budget=Limits(cost_usd=1.0))
    dispatch(told)
    told.see({**RUNNING, "progress": Progress(cost_usd=1.2)})
    plan = told.plan()
    assert plan.action.startswith("its agent is ended because its budget is used up, then marked")
    assert plan.rule.source == "gangline.toml: [budget]"


def test_batch_over_its_budget_dispatches_nothing():
    told = tale(PlannedIssue(id=5), PlannedIssue(id=6), batch_budget=Limits(tokens=10))
    dispatch(told)
    ended = Ended(
        issue="5",
        attempt=0,
        outcome=Outcome.COMPLETED,
        to=Status.COMPLETED,
        usage=Usage(input_tokens=20),
    )
    told.batch.fold(ended)
    plan = told.plan("6")
    assert plan.action == "not dispatched: the budget of the batch is used up"
    assert plan.rule.source == "gangline.toml: [budget] batch_…"


@pytest.mark.parametrize(
    ("action", "words"),
    [
        ("report", "found stalled: no output, no CPU and no change in its worktree for 10 minutes"),
        ("fail", "its agent is ended because it stalled, then marked failed: stalled"),
        ("retry", "its agent is ended because it stalled, then failed is recorded: stalled"),
    ],
)
def test_stall_is_reported_or_ended_as_the_settings_say(action, words):
    told = tale(stall_minutes=10, stall_action=action)
    dispatch(told)
    told.see({**RUNNING, "quiet_seconds": 700.0})
    plan = told.plan()
    assert words in plan.action
    assert plan.rule.source == "gangline.toml: [stall] action"


def test_every_reason_to_kill_has_its_words():
    for why in KillReason:
        told = tale(stall_minutes=10)
        dispatch(told)
        told.batch.fold(
            KillOrdered(
                issue="5",
                attempt=0,
                why=why,
                boot_id=BOOT,
                boot_seconds=1000.0 - KILL_GRACE_SECONDS,
            )
        )
        told.see(RUNNING)
        plan = told.plan()
        assert any("a kill of it is recorded" in words for words in plan.evidence)
        assert plan.rule.text


def test_agent_that_says_it_is_done_has_its_time():
    told = tale()
    dispatch(told)
    done = Wished(issue="5", wish=Wish.COMPLETE, boot_id=BOOT, boot_seconds=990.0)
    told.batch.fold(done)
    told.see(RUNNING)
    assert told.plan().expected_status == "dispatched"
    told.see(exited(3))
    assert told.plan().expected_status == "completed"
