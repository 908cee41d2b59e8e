"""The loop: look, decide, record, do; then wait for a reason to look again.

It has no recovery mode. A start after a crash and every pass of a long night are the same: evidence
of the attempts that something was heard of goes into core.reconcile, the events that come out are
committed with one fsync, and only then are the effects carried out. Whatever is interrupted in
between is found by the next look. All that the loop remembers is when to look again.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from gangline.app.decision_log import DecisionLog
from gangline.app.dispatch import Dispatcher, MissingTextError
from gangline.core.batch import Batch
from gangline.core.events import (
    AnyEvent,
    Dispatched,
    Ended,
    IssueEvent,
    Launched,
    OrchestratorStarted,
    OrchestratorStopped,
    Outcome,
    Refused,
    StopRequested,
    Voided,
)
from gangline.core.evidence import Evidence, Verdict, unreadable, verdict
from gangline.core.issue import Attempt
from gangline.core.model import Status
from gangline.core.policy import launch_timeout_seconds
from gangline.core.reconcile import (
    Effect,
    Look,
    Now,
    Reap,
    Start,
    Terminate,
    Void,
    reconcile,
    retry_charge,
)
from gangline.durable import disk_errors
from gangline.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_UNFINISHED, GanglineError
from gangline.ports import Clock, Host, Launch, LaunchUnknownError, Subject, Waiter
from gangline.store.batches import Store, Transaction

# Pane ids wait this long for a commit that is made anyway: nothing is decided by them.
_LAUNCHED_PATIENCE_SECONDS = 0.05
_UNKNOWN_LOOKS_TOLD = 2  # one that failed may be chance
_OUTCOMES_THAT_LEAVE_A_PANE = (Outcome.KILLED, Outcome.DIED)


class Observer(Protocol):
    """Who is told what happens; it never decides anything."""

    refresh_seconds: float | None

    def happened(self, batch: Batch, events: Sequence[AnyEvent], *, away: bool = False) -> None:
        """Events were committed; `away`: they tell what happened while no orchestrator lived."""

    def note(self, text: str) -> None:
        """Something a person should know that is no event."""

    def refresh(self, batch: Batch) -> None:
        """Time to draw again, if it draws."""


class Orchestrator:
    """Runs one area's batch until it is over, stopped, or drained.

    Args:
        store: The loaded batch; the caller holds the orchestrator lock.
        log: Where it says why.
        numbers: The highest attempt number of the folders that are there (AttemptFolders.numbers).
        poll_seconds: How often everything is looked at, heard of or not.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        clock: Clock,
        waiter: Waiter,
        dispatcher: Dispatcher,
        observer: Observer,
        log: DecisionLog,
        *,
        numbers: dict[str, int],
        poll_seconds: float,
    ) -> None:
        self._store = store
        self._host = host
        self._clock = clock
        self._waiter = waiter
        self._dispatcher = dispatcher
        self._observer = observer
        self._log = log
        self._numbers = numbers
        self._poll_seconds = poll_seconds
        self._hinted: set[str] = set()
        self._look_at: dict[str, float] = {}  # issue -> monotonic seconds
        self._confirm: set[str] = set()
        self._unknown: dict[str, int] = {}  # issue -> looks in a row that told nothing
        self._launched: list[Launched] = []
        self._launched_at = 0.0
        self._next_poll = 0.0
        self._first = False
        self._signal: int | None = None

    def run(self, started: OrchestratorStarted, asked: Sequence[AnyEvent] = ()) -> int:
        """Run to the end; the exit code (DESIGN.md section 8).

        Args:
            started: Recorded first.
            asked: What was recorded since this process had the area. A stop among it is meant for
                this orchestrator; one from before is finished, and the run goes on.

        Raises:
            StateError: the journal, the disk or the issues' texts need a person.
        """
        with self._store.transaction(self._clock.wall()) as moment:
            stops = [e for e in (*asked, *moment.fresh) if isinstance(e, StopRequested)]
            moment.record(started)
            if stops:
                moment.record(StopRequested(kill=any(stop.kill for stop in stops)))
        self._tell(moment)
        self._first = bool(self._store.batch.by_status[Status.DISPATCHED])
        while True:
            self._pass()
            self._first = False
            code = self._stop() if self._ended() else None
            if code is not None:
                return code
            wake = self._waiter.wait(self._timeout())
            self._hinted |= wake.issues
            self._signal = wake.signal or self._signal
            self._observer.refresh(self._store.batch)

    # -- one pass --------------------------------------------------------------------------

    def _pass(self) -> None:
        now = self._clock.now()
        evidence = self._host.probe([self._subject(key) for key in self._due()])
        launches: list[Launch] = []
        with self._store.transaction(self._clock.wall()) as moment:
            self._heed(moment.fresh)
            self._record_launched(moment)
            effects = _settle(moment, evidence, now)
            for effect in effects:
                if isinstance(effect, Start):
                    self._intend(moment, effect.issue, now, launches)
        self._tell(moment)
        self._doubt(evidence)
        self._log.decided(self._clock.wall(), evidence, moment.events, effects)
        for effect in effects:
            self._carry_out(effect)
        for launch in launches:
            self._launch(launch)

    def _due(self) -> list[str]:
        """The dispatched issues to look at now."""
        dispatched = self._store.batch.by_status[Status.DISPATCHED]
        moment = time.monotonic()
        if moment >= self._next_poll:
            self._next_poll = moment + self._poll_seconds
            self._host.tidy()
            due = set(dispatched)
        else:
            due = self._hinted | {k for k, at in self._look_at.items() if at <= moment}
        self._hinted = set()
        for key in due:
            self._look_at.pop(key, None)
        return [key for key in due if key in dispatched]

    def _heed(self, fresh: Sequence[AnyEvent]) -> None:
        """What others appended may concern attempts that were not looked at in this pass."""
        for event in fresh:
            if isinstance(event, IssueEvent):
                self._hinted.add(event.issue)
            elif isinstance(event, StopRequested):
                self._hinted.update(self._store.batch.by_status[Status.DISPATCHED])

    def _subject(self, key: str, attempt: Attempt | None = None) -> Subject:
        batch = self._store.batch
        attempt = attempt or batch.issues[key].attempts[-1]
        return Subject(
            attempt_id=batch.attempt_id(key, attempt.number),
            issue=key,
            number=attempt.number,
            mark=attempt.mark,
            server=attempt.server,
            launched=attempt.pane is not None,
            confirmed=key in self._confirm,
        )

    def _record_launched(self, moment: Transaction) -> None:
        for event in self._launched:
            issue = moment.batch.issues[event.issue]
            attempt = issue.attempt
            if attempt and attempt.number == event.attempt and attempt.outcome is None:
                moment.record(event)
        self._launched = []

    # -- dispatch --------------------------------------------------------------------------

    def _intend(self, moment: Transaction, key: str, now: Now, launches: list[Launch]) -> None:
        """Record the intent, if the issue's workspace is ready."""
        if any(isinstance(e, Ended | Voided) and e.issue == key for e in moment.events):
            self._hinted.add(key)  # its end is committed before its signal file is put away
            return
        batch = moment.batch
        workspace = self._dispatcher.workspace(batch, key)
        if workspace is None:
            return
        issue = batch.issues[key]
        previous = issue.attempt
        number = 1 + max(
            previous.number if previous else -1, self._numbers.get(f"{batch.batch_id}-{key}", -1)
        )
        mark = f"{batch.attempt_id(key, number)}.{secrets.token_hex(8)}"
        retry = retry_charge(issue)
        try:
            if isinstance(workspace, GanglineError):
                raise workspace
            launch = self._dispatcher.launch(batch, key, number, mark, workspace, retry)
        except MissingTextError:
            raise
        except GanglineError as error:
            reason = "; ".join([error.message, *error.causes])
            moment.record(Refused(issue=key, reason=reason))
            self._hinted.add(key)  # what it leaves free is given to others at once
            return
        self._put_away_signal(key, previous)
        moment.record(
            Dispatched(
                issue=key,
                attempt=number,
                mark=mark,
                retry=retry,
                boot_id=now.boot_id,
                boot_seconds=now.boot_seconds,
                server=self._host.server,
                agent=launch.agent,
                branch=launch.branch,
            )
        )
        launches.append(launch)

    def _put_away_signal(self, key: str, previous: Attempt | None) -> None:
        batch = self._store.batch
        attempt_id = batch.attempt_id(key, previous.number) if previous else None
        cause = "nothing was started: it would be taken for the next attempt's"
        with disk_errors(f"the signal file of #{key} cannot be moved away", cause):
            self._host.put_away_signal(key, attempt_id)

    def _launch(self, launch: Launch) -> None:
        """Make the attempt's folder and start its runner; the intent is durable."""
        key = launch.issue
        *before, attempt = self._store.batch.issues[key].attempts
        if before:  # its pane may have been kept to be read
            self._host.retire(self._subject(key, before[-1]), before[-1].pane)
        cause = "nothing was started; the next start gives this attempt up, uncharged"
        with disk_errors(f"the folder of attempt {launch.attempt_id} cannot be made", cause):
            self._host.prepare(launch)
        batch = self._store.batch
        timeout = launch_timeout_seconds(batch.issues[key])
        if batch.policy.attempt_minutes is not None:
            timeout = min(timeout, batch.policy.attempt_minutes * 60)
        self._look_at[key] = time.monotonic() + timeout
        try:
            pane, server = self._host.launch(launch)
        except LaunchUnknownError as error:
            self._note(f"tmux did not confirm the start of #{key}: {error}")
            return
        if not self._launched:
            self._launched_at = time.monotonic()
        self._launched.append(Launched(issue=key, attempt=attempt.number, pane=pane, server=server))

    # -- effects ---------------------------------------------------------------------------

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Void(issue, _):
                self._void(issue)
            case Terminate(issue, _, hard):
                self._host.terminate(self._subject(issue), hard=hard)
            case Reap(issue, _, hard):
                self._host.reap(self._subject(issue), hard=hard)
            case Look(issue, seconds, confirm):
                self._look_at[issue] = time.monotonic() + seconds
                if confirm and issue not in self._confirm:
                    self._confirm.add(issue)
                    self._note(f"#{issue} seems to have died with many others; looking again")

    def _void(self, key: str) -> None:
        attempt_id = self._subject(key).attempt_id
        cause = "nothing was recorded; the next start tries it again"
        with disk_errors(f"attempt {attempt_id} cannot be given up", cause):
            self._host.void(attempt_id)
        self._hinted.add(key)

    def _doubt(self, evidence: Mapping[str, Evidence]) -> None:
        """Say once of an attempt that stays unknown: nothing is decided over it till it is seen."""
        for key, seen in evidence.items():
            attempt = self._store.batch.issues[key].attempts[-1]
            is_open = attempt.number == seen.attempt and attempt.outcome is None
            killed = attempt.kill is not None
            if not is_open or verdict(seen, kill_ordered=killed) is not Verdict.UNKNOWN:
                self._unknown.pop(key, None)
                continue
            self._unknown[key] = self._unknown.get(key, 0) + 1
            if self._unknown[key] == _UNKNOWN_LOOKS_TOLD:
                self._note(
                    f"nothing is decided over #{key} while this cannot be read: "
                    f"{unreadable(seen)} (attempts/{self._subject(key).attempt_id})"
                )

    def _tell(self, moment: Transaction) -> None:
        """Say what was committed, and let go of attempts that are over."""
        for event in moment.events:
            if isinstance(event, Ended | Voided):
                attempts = moment.batch.issues[event.issue].attempts
                attempt = next(a for a in reversed(attempts) if a.number == event.attempt)
                leaves = attempt.outcome in _OUTCOMES_THAT_LEAVE_A_PANE
                pane = attempt.pane if leaves or isinstance(event, Voided) else None
                self._host.retire(self._subject(event.issue, attempt), pane)
                self._look_at.pop(event.issue, None)
                self._confirm.discard(event.issue)
        while self._store.reports:
            self._note(self._store.reports.pop(0))
        told = [*moment.fresh, *moment.events]
        if told:
            self._observer.happened(moment.batch, told, away=self._first)

    def _note(self, text: str) -> None:
        self._log.noted(self._clock.wall(), text)
        self._observer.note(text)

    # -- the end ---------------------------------------------------------------------------

    def _timeout(self) -> float:
        if self._hinted:
            return 0.0
        ends = [self._next_poll, *self._look_at.values()]
        if self._launched:
            ends.append(self._launched_at + _LAUNCHED_PATIENCE_SECONDS)
        left = max(0.0, min(ends) - time.monotonic())
        refresh = self._observer.refresh_seconds
        return left if refresh is None else min(left, refresh)

    def _ended(self) -> str | None:
        """Why to stop now, or None."""
        batch = self._store.batch
        if self._hinted or self._launched:
            return None
        if batch.is_over:
            return "over"
        if self._signal is not None:
            return f"signal {self._signal}"
        if batch.stop == "leave":
            return "stop"
        if batch.draining and not batch.by_status[Status.DISPATCHED]:
            return "drained"
        return None

    def _stop(self) -> int | None:
        """Let go and give the exit code; None if others recorded something to be done meanwhile."""
        with self._store.transaction(self._clock.wall()) as moment:
            self._heed(moment.fresh)
            reason = self._ended()
            if reason:
                moment.record(OrchestratorStopped(reason=reason))
        self._tell(moment)
        return exit_code(moment.batch) if reason else None


def _settle(moment: Transaction, evidence: dict[str, Evidence], now: Now) -> Sequence[Effect]:
    """Record what reconcile decides until it has nothing more to record; then what to do."""
    while True:
        decision = reconcile(moment.batch, evidence, now)
        if not decision.events:
            return decision.effects
        for event in decision.events:
            moment.record(event)


def exit_code(batch: Batch) -> int:
    """What `run` exits with for a batch in this state."""
    if not batch.is_over:
        return EXIT_INTERRUPTED
    completed = len(batch.by_status[Status.COMPLETED])
    return EXIT_OK if completed == len(batch.issues) else EXIT_UNFINISHED
