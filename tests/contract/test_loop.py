"""The loop with a real journal and a scripted machine: what it does between two waits."""

import errno
import os
from types import SimpleNamespace

import pytest

from gangline.app.decision_log import DecisionLog
from gangline.app.orchestrate import Orchestrator
from gangline.core.events import (
    BatchStarted,
    Condition,
    ConditionChanged,
    Dispatched,
    Ended,
    Launched,
    OrchestratorStarted,
    OrchestratorStopped,
    PlannedIssue,
    Policy,
    Retried,
)
from gangline.core.evidence import Answer, Claim, Evidence, ExitRecord
from gangline.core.model import IssueSpec, Status
from gangline.core.reconcile import Now
from gangline.errors import EXIT_OK, StateError
from gangline.ports import Launch, LaunchUnknownError, Wake
from gangline.store.area import AreaPaths
from gangline.store.batches import Store

AT = "2026-01-01T00:00:00.000Z"
LIVES = {"claim": Claim.RUNNER, "lock": Answer.YES}
GONE = {"claim": Claim.RUNNER, "lock": Answer.NO, "starting": Answer.YES}
SUCCEEDED = {**GONE, "has_exit": Answer.YES, "exit": ExitRecord(code=0)}
FAILED = {**GONE, "has_exit": Answer.YES, "exit": ExitRecord(code=1)}
DIED = {**GONE, "survivors": Answer.NO}


class Machine:
    """Host, clock, waiter, dispatcher and observer in one: plays a script and notes what is asked.

    Attributes:
        seen: What a probe of an issue's newest attempt finds.
        script: One step a wait: what happens before the loop wakes, and which issues it hears of.
    """

    refresh_seconds = None
    takes_idle_panes = False

    def __init__(self, folder, issues=("1",), **policy):
        self.paths = AreaPaths(str(folder / ".workspace"), "client")
        self.store = Store(self.paths)
        specs = [IssueSpec(id=key, title=key, place="plan.toml") for key in issues]
        planned = tuple(PlannedIssue(id=key) for key in issues)
        event = BatchStarted(
            format=1,
            area="client",
            batch_id="b1",
            agent="demo",
            issues=planned,
            policy=Policy(**policy),
        )
        self.store.create(event, specs, AT)
        self.server = "1.1"
        self.seconds = 1000.0
        self.seen = {}
        self.script = []
        self.waits = []
        self.notes = []
        self.unusable = {}
        self.put_away = []
        self.launched = []
        self.void_error = None
        self.launch_error = None
        self.on_event = lambda event: None

    def run(self):
        loop = Orchestrator(
            self.store,
            self,
            self,
            self,
            self,
            self,
            DecisionLog(self.paths.log),
            numbers={},
            poll_seconds=3600.0,
        )
        return loop.run(OrchestratorStarted(pid=os.getpid(), boot_id="boot-1"))

    def events(self, kind):
        return [event for event in self.store.last_events() if isinstance(event, kind)]

    # -- host ----------------------------------------------------------------------------------

    def tidy(self):
        pass

    def prepare(self, launch):
        pass

    def launch(self, *arguments):
        """Of the dispatcher with many arguments, of the host with one."""
        if len(arguments) > 1:
            return self._make_launch(*arguments)
        if self.launch_error:
            raise self.launch_error
        self.launched.append(arguments[0].issue)
        return "%1", self.server

    def probe(self, subjects):
        return {
            s.issue: Evidence(attempt=s.number, doubted=s.doubted, **self.seen[s.issue])
            for s in subjects
        }

    def void(self, attempt_id):
        if self.void_error:
            raise self.void_error

    def retire(self, subject, pane):
        pass

    def put_away_signal(self, issue, attempt_id):
        with open(self.paths.journal, encoding="utf-8") as journal:
            self.put_away.append((attempt_id, journal.read().count('"type":"ended"')))

    # -- clock, waiter, dispatcher, observer -----------------------------------------------------

    def now(self):
        return Now(boot_id="boot-1", boot_seconds=self.seconds)

    def wall(self):
        return AT

    def wait(self, timeout_seconds):
        self.waits.append(timeout_seconds)
        step = self.script.pop(0)
        return Wake(set(step() or ()), journal=False, signal=None)

    def workspace(self, batch, key):
        return self.unusable.get(key, SimpleNamespace())

    def _make_launch(self, batch, key, number, mark, workspace, retry, pane):
        return Launch(
            attempt_id=batch.attempt_id(key, number),
            issue=key,
            title=key,
            mark=mark,
            cwd="/",
            argv=("true",),
            program="true",
            prompt="",
            stdin="none",
            agent="demo",
            environment={},
            log_bytes=1,
        )

    def happened(self, batch, events, *, away=False):
        for event in events:
            self.on_event(event)

    def note(self, text):
        self.notes.append(text)

    def refresh(self, batch):
        pass

    def sees(self, key, what):
        """A step: from now on the issue looks so, and something was heard of it."""

        def step():
            self.seen[key] = what
            return {key}

        return step


def nothing():
    return None


def test_what_a_refused_issue_leaves_free_is_given_on_without_waiting(tmp_path):
    machine = Machine(tmp_path, ("1", "2"), max_concurrent=1)
    machine.unusable["1"] = StateError("its worktree is locked")
    machine.script = [nothing, machine.sees("2", SUCCEEDED)]
    assert machine.run() != EXIT_OK
    assert machine.launched == ["2"]
    assert machine.waits[0] == 0.0


def test_an_end_is_committed_before_the_signal_file_is_put_away_for_the_next_attempt(tmp_path):
    machine = Machine(tmp_path)
    machine.script = [machine.sees("1", DIED), nothing, machine.sees("1", SUCCEEDED)]
    assert machine.run() == EXIT_OK
    assert machine.put_away == [(None, 0), ("b1-1-a0", 1)]
    assert [event.retry for event in machine.events(Dispatched)] == [0, 1]


def test_the_pane_of_a_launch_is_recorded_soon_and_with_what_else_comes(tmp_path):
    machine = Machine(tmp_path)
    machine.script = [machine.sees("1", SUCCEEDED)]
    assert machine.run() == EXIT_OK
    assert 0.0 < machine.waits[0] <= 0.05
    assert [event.pane for event in machine.events(Launched)] == ["%1"]


def test_a_retry_that_arrives_as_the_batch_ends_is_not_left_lying(tmp_path):
    machine = Machine(tmp_path)

    def retry_once(event):
        if isinstance(event, Ended) and not machine.events(Retried):
            other = Store(machine.paths)
            other.load()
            with other.transaction(AT) as moment:
                moment.record(Retried(issue="1"))

    machine.on_event = retry_once
    machine.script = [machine.sees("1", FAILED), nothing, machine.sees("1", SUCCEEDED)]
    assert machine.run() == EXIT_OK
    assert machine.launched == ["1", "1"]
    assert [event.reason for event in machine.events(OrchestratorStopped)] == ["over"]


def test_an_attempt_that_stays_unknown_is_told_once_and_left_alone(tmp_path):
    machine = Machine(tmp_path)
    unknown = machine.sees("1", {"claim": Claim.RUNNER, "lock": Answer.UNKNOWN})
    machine.script = [unknown, unknown, unknown, machine.sees("1", SUCCEEDED)]
    assert machine.run() == EXIT_OK
    [asked] = machine.events(ConditionChanged)
    assert asked.condition is Condition.NEEDS_INPUT
    assert "its lock" in asked.text
    assert max(machine.waits) <= 2.0


def test_one_look_that_tells_nothing_is_not_worth_a_word(tmp_path):
    machine = Machine(tmp_path)
    unknown = machine.sees("1", {"claim": Claim.UNKNOWN})
    lives = machine.sees("1", LIVES)
    machine.script = [unknown, lives, unknown, lives, machine.sees("1", SUCCEEDED)]
    assert machine.run() == EXIT_OK
    assert machine.events(ConditionChanged) == []


def test_a_disk_that_refuses_the_fence_is_told_with_its_mend_and_nothing_is_recorded(tmp_path):
    machine = Machine(tmp_path)
    machine.launch_error = LaunchUnknownError("no answer")
    machine.void_error = OSError(errno.ENOSPC, "No space left on device", "attempts/b1-1-a0")

    def time_is_over():
        machine.seconds += 100
        machine.seen["1"] = {"claim": Claim.NONE}
        return {"1"}

    machine.script = [time_is_over]
    with pytest.raises(StateError, match=r"b1-1-a0 cannot be given up: No space left") as caught:
        machine.run()
    assert caught.value.hint
    assert machine.store.batch.issues["1"].status is Status.DISPATCHED
    assert machine.events(Ended) == []
