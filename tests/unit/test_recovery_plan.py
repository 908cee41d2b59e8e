"""Each verdict with each budget is told in the right words, and foreseen as the rules decide it."""

from collections.abc import Mapping

import msgspec
import pytest

from gangline.app.recovery_plan import IssuePlan, plan_issues
from gangline.core.batch import Batch
from gangline.core.events import (
    BatchStarted,
    Cancelled,
    Dispatched,
    Ended,
    Held,
    KillOrdered,
    KillReason,
    OrchestratorStarted,
    Outcome,
    Paused,
    PlannedIssue,
    Policy,
    StopRequested,
    Unblocked,
    Voided,
    Wish,
    Wished,
)
from gangline.core.evidence import (
    Answer,
    Claim,
    Evidence,
    ExitRecord,
    Foreign,
    RunnerIdentity,
    Signal,
)
from gangline.core.model import Status
from gangline.core.reconcile import Now, retry_charge

BOOT = "boot-1"
SERVER = "123.456"
RUNNER = RunnerIdentity(4242, 1, BOOT)

NOT_STARTED = {"claim": Claim.NONE}
VOID = {"claim": Claim.VOID}
RUNNING = {"claim": Claim.RUNNER, "lock": Answer.YES, "starting": Answer.UNKNOWN, "runner": RUNNER}
NEVER_RAN = {"claim": Claim.RUNNER, "lock": Answer.NO, "runner": RUNNER}
DIED = {**NEVER_RAN, "starting": Answer.YES, "survivors": Answer.NO}
SURVIVED = {**DIED, "survivors": Answer.YES}
UNREADABLE = {"claim": Claim.UNKNOWN}


def exited(code: int | None = 0, **fields: object) -> dict[str, object]:
    record = ExitRecord(code=code, **fields)
    return {**DIED, "survivors": Answer.UNKNOWN, "has_exit": Answer.YES, "exit": record}


REFUSED = {**exited(None, refused="no such program"), "starting": Answer.NO}


class Tale:
    """A batch, told event by event, and what is seen of it."""

    def __init__(self, *issues: PlannedIssue, **policy: object) -> None:
        self.batch = Batch()
        self.batch.fold(
            BatchStarted(
                seq=1,
                at="2026-01-01T00:00:00.000Z",
                format=1,
                area="client",
                batch_id="b1",
                agent="demo",
                issues=issues or (PlannedIssue(id=5, title="Five"),),
                policy=Policy(**policy),
            )
        )
        self.evidence: dict[str, Evidence] = {}
        self.now = Now(boot_id=BOOT, boot_seconds=1000.0)

    def dispatch(self, key: str = "5", number: int | None = None) -> None:
        issue = self.batch.issues[key]
        attempt = len(issue.attempts) if number is None else number
        self.batch.fold(
            Dispatched(
                issue=key,
                attempt=attempt,
                mark=f"mark-{key}-{attempt}",
                retry=retry_charge(issue),
                boot_id=BOOT,
                boot_seconds=998.0,
                server=SERVER,
            )
        )

    def died(self, key: str = "5") -> None:
        """An attempt that was dispatched and died is behind it."""
        self.dispatch(key)
        self.batch.fold(
            Ended(
                issue=key,
                attempt=self.batch.issues[key].attempts[-1].number,
                outcome=Outcome.DIED,
                to=Status.PENDING,
                reason="its runner was killed",
            )
        )

    def see(self, seen: Mapping[str, object], key: str = "5") -> None:
        number = self.batch.issues[key].attempts[-1].number
        self.evidence[key] = Evidence(attempt=number, **seen)

    def plans(self) -> dict[str, IssuePlan]:
        return {str(one.id): one for one in plan_issues(self.batch, self.evidence, self.now)}

    def plan(self, key: str = "5") -> IssuePlan:
        return self.plans()[key]


RETRY_POLICY = "orchestrator-recovery.md, Auto-Retry Policy"
KILLED = "its runner was killed"
# evidence, budget spent (0 or 1) -> verdict, status after, retry count after, rule's source, action
TABLE = [
    (RUNNING, 0, "running", "dispatched", 0, "Per-Status Recovery: dispatched", "nothing: it runs"),
    (RUNNING, 1, "running", "dispatched", 1, "Per-Status Recovery: dispatched", "nothing: it runs"),
    (
        *(DIED, 0, "died", "dispatched", 1, RETRY_POLICY),
        f"died is recorded: {KILLED}, then re-dispatched, charged as its one retry",
    ),
    (
        *(DIED, 1, "died", "failed", 1, RETRY_POLICY),
        f"marked failed: died again: {KILLED}; not retried by itself any more",
    ),
    (
        *(SURVIVED, 0, "died", "dispatched", 1, RETRY_POLICY),
        (
            f"what it left running is ended and seen gone, then died is recorded: {KILLED}, "
            "then re-dispatched, charged as its one retry"
        ),
    ),
    (
        *(SURVIVED, 1, "died", "failed", 1, RETRY_POLICY),
        (
            "what it left running is ended and seen gone, then marked failed: "
            f"died again: {KILLED}; not retried by itself any more"
        ),
    ),
    (
        *({**DIED, "survivors": Answer.UNKNOWN}, 0, "died", "dispatched", 0, "DESIGN.md 4: died"),
        "nothing is decided until it is known whether processes of it live",
    ),
    (
        *({**DIED, "signal": Signal.OK}, 1, "died", "completed", 1, "reading evidence"),
        "completed is recorded",
    ),
    (
        *(exited(None, signal=9), 0, "died", "dispatched", 1, RETRY_POLICY),
        (
            "died is recorded: the agent was killed by signal 9, then re-dispatched, "
            "charged as its one retry"
        ),
    ),
    (exited(), 0, "finished", "completed", 0, "DESIGN.md 4: finished", "completed is recorded"),
    (exited(), 1, "finished", "completed", 1, "DESIGN.md 4: finished", "completed is recorded"),
    (exited(3), 0, "finished", "failed", 0, "4: finished", "marked failed: exit code 3"),
    (exited(3), 1, "finished", "failed", 1, "4: finished", "marked failed: exit code 3"),
    (
        *({**exited(0), "signal": Signal.FAILED}, 0, "finished", "failed", 0, "reading evidence"),
        "marked failed: the agent's signal file says it failed",
    ),
    (
        *(VOID, 0, "never-ran", "dispatched", 0, "DESIGN.md 4: never-ran"),
        (
            "never ran is recorded: its runner never came to its claim, then re-dispatched, "
            "not charged"
        ),
    ),
    (
        *(NEVER_RAN, 1, "never-ran", "dispatched", 1, "DESIGN.md 4: never-ran"),
        (
            "never ran is recorded: its runner ended before it started the agent, then "
            "re-dispatched, charged as its one retry"
        ),
    ),
    (
        *(NOT_STARTED, 0, "not-started", "dispatched", 0, "DESIGN.md 4: not-started"),
        "waited for, 8 s at most: it runs, or is given up and dispatched again, not charged",
    ),
    (
        *({**NOT_STARTED, "server_gone": Answer.YES}, 0, "not-started", "dispatched", 0),
        "DESIGN.md 4: not-started",
        (
            "it is given up, unless its runner comes to its claim before, then never ran is "
            "recorded: its tmux server was gone before it ran, then re-dispatched, not charged"
        ),
    ),
    (REFUSED, 0, "refused", "failed", 0, "DESIGN.md 4: refused", "marked failed: no such program"),
    (
        *(UNREADABLE, 0, "unknown", "dispatched", 0, "DESIGN.md 2: evidence"),
        "nothing is decided over it until this can be seen: its claim",
    ),
]


@pytest.mark.parametrize(("seen", "spent", "verdict", "status", "retries", "source", "act"), TABLE)
def test_every_verdict_and_budget_is_told_with_rule_and_action(
    seen, spent, verdict, status, retries, source, act
):
    tale = Tale()
    if spent:
        tale.died()
    tale.dispatch()
    tale.see(seen)
    plan = tale.plan()
    assert plan.verdict == verdict
    assert plan.status == "dispatched"
    assert plan.retry_count == spent
    assert plan.action == act
    assert plan.rule.source.endswith(source)
    assert (plan.expected_status, plan.expected_retry_count) == (status, retries)


def test_table_names_every_verdict_there_is():
    from gangline.core.evidence import Verdict

    assert {row[2] for row in TABLE} == set(Verdict)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (
            RUNNING,
            [
                "claim: its runner, process 4242",
                "lock: held: its runner lives",
                "signal file issue-5.exit: none",
                "machine: same boot",
            ],
        ),
        (
            {**SURVIVED, "server_gone": Answer.YES},
            [
                "claim: its runner, process 4242",
                "lock: free: its runner does not live",
                "starting: yes",
                "signal file issue-5.exit: none",
                "exit.json: none",
                "tmux server 123.456: gone",
                "processes of the attempt: some live",
                "machine: same boot",
            ],
        ),
        (
            {**exited(0, runner_signal=1), "signal": Signal.OK, "server_gone": Answer.NO},
            [
                "claim: its runner, process 4242",
                "lock: free: its runner does not live",
                "starting: yes",
                "signal file issue-5.exit: ok",
                "exit.json: exit code 0, its runner was told to end (signal 1)",
                "tmux server 123.456: lives",
                "machine: same boot",
            ],
        ),
        (
            NOT_STARTED,
            [
                "claim: none",
                "lock: not there, or cannot be probed",
                "starting: none",
                "signal file issue-5.exit: none",
                "exit.json: none",
                "intent: 2 s ago; a launch may take 10 s",
                "tmux server 123.456: not known: a process has its number, and may be another",
                "machine: same boot",
            ],
        ),
    ],
)
def test_evidence_is_said_in_the_order_in_which_it_is_read(seen, words):
    tale = Tale()
    tale.dispatch()
    tale.see(seen)
    assert tale.plan().evidence == words


def test_restart_of_the_machine_is_said_and_gives_up_what_never_claimed():
    tale = Tale()
    tale.dispatch()
    tale.see(NOT_STARTED)
    tale.now = Now(boot_id="boot-2", boot_seconds=3.0)
    plan = tale.plan()
    assert plan.evidence[-1] == "machine: restarted since"
    assert "the machine was restarted before it ran" in plan.action
    assert plan.expected_retry_count == 0


def test_third_launch_in_vain_is_failed():
    tale = Tale()
    for number in (0, 1):
        tale.dispatch(number=number)
        tale.batch.fold(Voided(issue="5", attempt=number, reason="-", to=Status.PENDING))
    tale.dispatch(number=2)
    tale.see(VOID)
    plan = tale.plan()
    assert plan.action.startswith("marked failed: could not be started (3 launches)")
    assert plan.expected_status == "failed"


def test_death_without_any_retry_allowed_is_failed():
    tale = Tale(retry_max=0)
    tale.dispatch()
    tale.see(DIED)
    plan = tale.plan()
    assert plan.action.startswith("marked failed: died: ")
    assert plan.rule.text == "no automatic re-dispatch is left: failed, reported, never tried again"


def test_failure_is_retried_where_the_settings_say_so():
    tale = Tale(retry_on_failure=True)
    tale.dispatch()
    tale.see(exited(3))
    plan = tale.plan()
    assert plan.action == (
        "failed is recorded: exit code 3, then re-dispatched, charged as its one retry"
    )
    assert plan.rule.source == "gangline.toml: [retry] on_failure"


def test_many_deaths_at_once_are_looked_at_again_first():
    tale = Tale(*(PlannedIssue(id=n) for n in range(4)))
    for key in "0123":
        tale.dispatch(key)
        tale.see(DIED if key != "3" else RUNNING, key)
    plans = tale.plans()
    for key in "012":
        assert plans[key].action.startswith("looked at again in 2 s and, if it is still dead, then")
        assert plans[key].rule.source.startswith("DESIGN.md 5")
        assert plans[key].expected_retry_count == 1
    assert plans["3"].action == "nothing: it runs"


@pytest.mark.parametrize(
    ("wish", "status", "word"),
    [(Wish.CANCEL, "cancelled", "cancelled"), (Wish.SKIP, "skipped", "skipped")],
)
@pytest.mark.parametrize("seen", [RUNNING, DIED, VOID])
def test_pending_wish_is_granted_when_the_attempt_has_ended(wish, status, word, seen):
    tale = Tale()
    tale.dispatch()
    tale.batch.fold(Wished(issue="5", wish=wish))
    tale.see(seen)
    plan = tale.plan()
    first = "its agent is ended on request, then " if seen is RUNNING else ""
    assert plan.action == f"{first}{status} is recorded: {word} on request"
    assert plan.evidence[-1] == f"{wish.value} was asked for"
    assert plan.rule.source == "DESIGN.md 4: leaving dispatched"
    assert plan.expected_status == status


def test_retry_that_was_asked_for_is_not_charged():
    tale = Tale()
    tale.died()
    tale.dispatch()
    tale.batch.fold(Wished(issue="5", wish=Wish.RETRY))
    tale.see(RUNNING)
    plan = tale.plan()
    assert plan.action.endswith("then re-dispatched, not charged")
    assert plan.expected_retry_count == 0


def test_signal_file_of_a_living_agent_ends_it_and_decides():
    tale = Tale()
    tale.dispatch()
    tale.see({**RUNNING, "signal": Signal.OK})
    plan = tale.plan()
    assert plan.action == (
        "its agent is ended because its signal file says its work is over, then completed is "
        "recorded"
    )
    assert plan.rule.source == "DESIGN.md 4: reading evidence"


def test_attempt_over_its_time_is_ended_and_failed():
    tale = Tale(attempt_minutes=0.01)
    tale.dispatch()
    tale.see(RUNNING)
    plan = tale.plan()
    assert plan.action.startswith("its agent is ended because its time is over, then marked failed")
    assert plan.rule.source == "gangline.toml: [batch] attempt_minutes"


def test_interrupted_stop_is_finished_and_its_issues_go_on_uncharged():
    tale = Tale()
    tale.dispatch()
    tale.batch.fold(StopRequested(kill=True))
    tale.batch.fold(
        KillOrdered(issue="5", attempt=0, why=KillReason.STOP, boot_id=BOOT, boot_seconds=999.0)
    )
    tale.batch.fold(OrchestratorStarted(pid=1))
    tale.see(RUNNING)
    plan = tale.plan()
    assert plan.action == (
        "its agent is ended by the stop --kill that was interrupted, then killed is recorded: "
        "ended by stop --kill, not charged, then re-dispatched, not charged"
    )
    assert plan.rule.text.startswith("an interrupted stop --kill is finished")


@pytest.mark.parametrize(
    ("pane", "verdict", "status"),
    [
        (Foreign.BUSY, "running", "dispatched"),
        (Foreign.ABSENT, "died", "dispatched"),
        (Foreign.DOUBTFUL, "unknown", "dispatched"),
    ],
)
def test_attempt_of_the_shell_is_told_by_its_pane(pane, verdict, status):
    tale = Tale()
    tale.dispatch()
    attempt = tale.batch.issues["5"].attempts[-1]
    attempt.foreign, attempt.pane = True, "%3"
    tale.see({"foreign": pane, "survivors": Answer.NO})
    plan = tale.plan()
    assert plan.verdict == verdict
    assert plan.evidence[0].startswith("pane %3: ")
    assert plan.evidence[1] == "signal file issue-5.exit: none"
    assert plan.expected_status == status
    assert plan.expected_retry_count == (1 if pane is Foreign.ABSENT else 0)


# -- issues without an attempt -----------------------------------------------------------------


def test_pending_issues_are_dispatched_in_rank_and_the_others_wait_for_a_place():
    tale = Tale(*(PlannedIssue(id=n) for n in (1, 2, 3)), max_concurrent=1)
    plans = tale.plans()
    assert [plans[key].action for key in "123"] == [
        "dispatched",
        "dispatched when a place is free (rank 1)",
        "dispatched when a place is free (rank 2)",
    ]
    assert [plans[key].expected_status for key in "123"] == ["dispatched", "pending", "pending"]
    assert plans["1"].rule.source == "orchestrator-recovery.md, Per-Status Recovery: pending"


def test_dead_issue_that_finds_no_place_says_what_it_will_be_charged():
    tale = Tale(PlannedIssue(id=1), PlannedIssue(id=2), max_concurrent=1)
    tale.died("1")
    tale.dispatch("2")
    tale.see(RUNNING, "2")
    assert tale.plan("1").action == (
        "dispatched again, charged as its one retry, when a place is free (rank 1)"
    )
    assert tale.plan("1").evidence == [f"last attempt: died: {KILLED}"]


def test_blocked_issue_names_what_it_waits_for():
    tale = Tale(PlannedIssue(id=2), PlannedIssue(id=3), PlannedIssue(id=4, depends_on=("2", "3")))
    tale.dispatch("2")
    tale.see(exited(), "2")
    plans = tale.plans()
    assert plans["2"].action == "completed is recorded"
    assert plans["4"].evidence == ["#2: dispatched", "#3: pending"]
    assert plans["4"].action == "waits for #3"
    assert plans["4"].rule.source == "orchestrator-recovery.md, Per-Status Recovery: blocked"


def test_end_of_the_last_dependency_unblocks_and_dispatches_in_the_same_run():
    tale = Tale(PlannedIssue(id=2), PlannedIssue(id=4, depends_on=("2",)))
    tale.dispatch("2")
    tale.see(exited(1), "2")
    plans = tale.plans()
    assert plans["2"].action == "marked failed: exit code 1, then #4 is unblocked"
    assert plans["4"].action == "unblocked, then dispatched"


def test_dependent_of_a_failure_is_skipped_under_the_skip_policy():
    issues = PlannedIssue(id=2), PlannedIssue(id=4, depends_on=("2",))
    tale = Tale(*issues, on_failed_dependency="skip")
    tale.dispatch("2")
    tale.see(exited(1), "2")
    plan = tale.plan("4")
    assert plan.action == "skipped: #2 did not complete"
    assert plan.rule.source == "gangline.toml: [batch] on_failed_dependency"
    assert plan.expected_status == "skipped"


def test_terminal_issue_whose_dependent_is_still_blocked_is_listed():
    tale = Tale(PlannedIssue(id=2), PlannedIssue(id=3), PlannedIssue(id=4, depends_on=("2",)))
    tale.batch.fold(Cancelled(issue="2"))
    tale.batch.fold(Cancelled(issue="3"))
    plans = tale.plans()
    assert set(plans) == {"2", "4"}
    assert plans["2"].action == "#4 is unblocked"
    assert plans["2"].rule.source == "orchestrator-recovery.md, Per-Status Recovery: cancelled"
    assert plans["4"].action == "unblocked, then dispatched"


def test_pending_issue_whose_dependency_is_open_again_is_blocked():
    tale = Tale(PlannedIssue(id=2), PlannedIssue(id=4, depends_on=("2",)))
    tale.batch.fold(Unblocked(issue="4"))
    tale.batch.reindex()
    assert tale.plan("4").action == "blocked again, then waits for #2"


def test_held_and_paused_issues_say_what_lets_them_go():
    tale = Tale(PlannedIssue(id=1), PlannedIssue(id=2))
    tale.batch.fold(Held(issue="1"))
    plans = tale.plans()
    assert plans["1"].action == "not dispatched: it is held until gangline release client 1"
    assert plans["1"].rule.source == "DESIGN.md 2: held"
    tale = Tale(PlannedIssue(id=1))
    tale.batch.fold(Paused())
    assert tale.plan("1").action == (
        "not dispatched while the batch is paused: gangline resume client"
    )


def test_json_keys_are_those_that_were_promised():
    tale = Tale()
    assert msgspec.to_builtins(tale.plan()).keys() == {
        *("id", "title", "status", "held", "wish", "retryCount", "verdict", "evidence", "rule"),
        *("action", "expectedStatus", "expectedRetryCount"),
    }
