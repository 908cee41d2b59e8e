"""The loop: look, decide, record, do; then wait for a reason to look again.

It has no recovery mode. A start after a crash and every pass of a long night are the same: evidence
of the attempts that something was heard of goes into core.reconcile, the events that come out are
committed with one fsync, and only then are the effects carried out. Whatever is interrupted in
between is found by the next look. All that the loop remembers is when to look again.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn, Protocol

from gangline.app.decision_log import DecisionLog
from gangline.app.dispatch import Dispatcher
from gangline.app.launching import Launcher, subject_of
from gangline.core.batch import Batch
from gangline.core.dispatching import budget_used_up, held_back, runs_anything
from gangline.core.events import (
    AnyEvent,
    Edited,
    Ended,
    IssueEvent,
    OrchestratorStarted,
    OrchestratorStopped,
    Outcome,
    StopRequested,
    Voided,
)
from gangline.core.evidence import Evidence, Verdict, verdict
from gangline.core.issue import IssueState
from gangline.core.model import Status
from gangline.core.reconcile import (
    Effect,
    Look,
    Now,
    Reap,
    Start,
    Terminate,
    Void,
    reconcile,
)
from gangline.durable import disk_errors
from gangline.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_STATE,
    EXIT_UNFINISHED,
    AreaBusyError,
    StateError,
)
from gangline.ports import Clock, Host, Launch, Subject, Waiter
from gangline.store.batches import Store, Transaction

_UNKNOWN_LOOKS_BY_CHANCE = 1
_OUTCOMES_THAT_LEAVE_A_PANE = (
    Outcome.KILLED,
    Outcome.DIED,
    Outcome.LIMITED,
    Outcome.SESSION_LOST,
)


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
        self.store = store
        self._host = host
        self._clock = clock
        self._waiter = waiter
        self._observer = observer
        self._log = log
        self._launcher = Launcher(store, host, dispatcher, numbers, self._note)
        self._poll_seconds = poll_seconds
        self._hinted: set[str] = set()
        self._look_at: dict[str, float] = {}  # issue -> monotonic seconds
        self._confirm: set[str] = set()
        self._unknown: dict[str, int] = {}  # issue -> looks in a row that told nothing
        self._next_poll = 0.0
        self._first = False
        self._dispatching = True
        self._signal: int | None = None

    def run(self, started: OrchestratorStarted, asked: Sequence[AnyEvent] = ()) -> int:
        """Run to the end; the exit code (DESIGN.md section 8).

        Args:
            started: Recorded first.
            asked: What was recorded since this process had the area. A stop among it is meant for
                this orchestrator; one from before is finished, and the run goes on.

        Raises:
            StateError: the journal, the disk, git or the issues' texts need a person.
        """
        with self.store.transaction(self._clock.wall()) as moment:
            stops = [e for e in (*asked, *moment.fresh) if isinstance(e, StopRequested)]
            moment.record(started)
            if stops:
                moment.record(StopRequested(kill=any(stop.kill for stop in stops)))
        self._tell(moment)
        self._first = bool(self.store.batch.by_status[Status.DISPATCHED])
        while True:
            self._pass()
            self._first = False
            if self._launcher.obstacle is not None:
                self._give_up(self._launcher.obstacle)
            code = self._stop() if self._ended() else None
            if code is not None:
                return code
            wake = self._waiter.wait(self._timeout())
            self._hinted |= wake.issues
            self._signal = wake.signal or self._signal
            self._observer.refresh(self.store.batch)

    def cycle(self, patience_seconds: float, *, dispatching: bool) -> None:
        """One pass over everything and what follows from it at once: a cycle of a shell's own loop.

        Args:
            patience_seconds: How long to wait for what is being ended or reaped.
            dispatching: Whether anything new may be started.
        """
        self._dispatching = dispatching
        deadline = time.monotonic() + patience_seconds
        while True:
            self._pass()
            if self._launcher.obstacle is not None:
                raise self._launcher.obstacle
            ending = any(_is_ending(issue) for issue in self._dispatched())
            left = min(self._timeout(), deadline - time.monotonic())
            if self._hinted or self._launcher.has_unrecorded or self._launcher.wants_place:
                continue
            if not ending or left < 0:
                return
            self._hinted |= self._waiter.wait(left).issues

    def start(self, key: str, pane: str) -> bool:
        """Dispatch this issue into this pane, if both are free to; whether it was."""
        self._launcher.offer(pane)
        launch, now = None, self._clock.now()
        with self.store.transaction(self._clock.wall()) as moment:
            self._heed([*moment.fresh, *moment.events])
            issue = moment.batch.issues[key]
            if issue.status is Status.PENDING and held_back(moment.batch, issue, now) is None:
                launch = self._launcher.intend(moment, key, now)
        self._tell(moment)
        if self._launcher.obstacle is not None:
            raise self._launcher.obstacle
        if launch is not None:
            self._launcher.launch(launch)
            self._pass()
        return launch is not None

    def _dispatched(self) -> list[IssueState]:
        batch = self.store.batch
        return [batch.issues[key] for key in batch.dispatched]

    # -- one pass --------------------------------------------------------------------------

    def _pass(self) -> None:
        now = self._clock.now()
        evidence = self._host.probe([self._subject(key) for key in self._due()])
        self._launcher.look_for_places()
        launches: list[Launch] = []
        with self.store.transaction(self._clock.wall()) as moment:
            self._heed([*moment.fresh, *moment.events])
            self._launcher.record_launched(moment)
            effects = _settle(moment, evidence, now)
            for effect in effects:
                if isinstance(effect, Start) and self._dispatching:
                    launch = self._launcher.intend(moment, effect.issue, now)
                    launches += [launch] if launch else []
        self._tell(moment)
        self._doubt(evidence)
        self._log.decided(self._clock.wall(), evidence, moment.events, effects)
        for effect in effects:
            self._carry_out(effect)
        for launch in launches:
            self._look_at[launch.issue] = time.monotonic() + self._launcher.launch(launch)
        self._hinted |= self._launcher.take_hints()

    def _due(self) -> list[str]:
        """The dispatched issues to look at now."""
        dispatched = self.store.batch.by_status[Status.DISPATCHED]
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
        return [key for key in dispatched if key in due]  # in an order that a seed repeats

    def _heed(self, fresh: Sequence[AnyEvent]) -> None:
        """What others appended may concern attempts that were not looked at in this pass.

        Raises:
            AreaBusyError: another orchestrator has begun: somebody deleted the lock file.
        """
        for event in fresh:
            if isinstance(event, OrchestratorStarted):
                area = self.store.batch.area
                raise AreaBusyError(
                    f"another orchestrator took area {area} over: process {event.pid}",
                    causes=["the file of this one's lock was deleted"],
                    hint=f"look at it: gangline status {area}",
                )
            if isinstance(event, IssueEvent):
                self._hinted.add(event.issue)
            elif isinstance(event, StopRequested | Edited):
                self._hinted.update(self.store.batch.by_status[Status.DISPATCHED])

    def _subject(self, key: str) -> Subject:
        batch = self.store.batch
        return subject_of(
            batch,
            batch.issues[key],
            confirmed=key in self._confirm,
            doubted=self._unknown.get(key, 0) >= _UNKNOWN_LOOKS_BY_CHANCE,
        )

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
        """Count the looks in a row at an attempt that told nothing: a person is asked then."""
        for key, seen in evidence.items():
            attempt = self.store.batch.issues[key].attempts[-1]
            is_open = attempt.number == seen.attempt and attempt.outcome is None
            killed = attempt.kill is not None
            if not is_open or verdict(seen, kill_ordered=killed) is not Verdict.UNKNOWN:
                self._unknown.pop(key, None)
                continue
            self._unknown[key] = self._unknown.get(key, 0) + 1

    def _tell(self, moment: Transaction) -> None:
        """Say what was committed, and let go of attempts that are over."""
        for event in moment.events:
            if isinstance(event, Ended | Voided):
                attempts = moment.batch.issues[event.issue].attempts
                attempt = next(a for a in reversed(attempts) if a.number == event.attempt)
                leaves = attempt.outcome in _OUTCOMES_THAT_LEAVE_A_PANE
                pane = attempt.pane if leaves or isinstance(event, Voided) else None
                subject = subject_of(moment.batch, moment.batch.issues[event.issue], attempt)
                self._host.retire(subject, pane)
                self._look_at.pop(event.issue, None)
                self._confirm.discard(event.issue)
        while self.store.reports:
            self._note(self.store.reports.pop(0))
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
        ends = [self._next_poll, *self._look_at.values(), *self._launcher.deadlines()]
        left = max(0.0, min(ends) - time.monotonic())
        refresh = self._observer.refresh_seconds
        return left if refresh is None else min(left, refresh)

    def _ended(self) -> str | None:
        """Why to stop now, or None."""
        batch = self.store.batch
        if self._hinted or self._launcher.has_unrecorded:
            return None
        if batch.is_over:
            return "over"
        if self._signal is not None:
            return f"signal {self._signal}"
        if batch.stop == "leave":
            return "stop"
        if not runs_anything(batch):
            if batch.draining:
                return "drained"
            if budget_used_up(batch):
                return "budget"
        return None

    def _give_up(self, obstacle: StateError) -> NoReturn:
        """Record why no orchestrator goes on, as far as that can be done, and end."""
        with contextlib.suppress(StateError):
            with self.store.transaction(self._clock.wall()) as moment:
                self._heed(moment.fresh)
                self._launcher.record_launched(moment)
                reason = "; ".join([f"error: {obstacle.message}", *obstacle.causes])
                moment.record(OrchestratorStopped(reason=reason))
            self._tell(moment)
        raise obstacle

    def _stop(self) -> int | None:
        """Let go and give the exit code; None if others recorded something to be done meanwhile."""
        with self.store.transaction(self._clock.wall()) as moment:
            self._heed(moment.fresh)
            reason = self._ended()
            if reason:
                moment.record(OrchestratorStopped(reason=reason))
        self._tell(moment)
        if reason == "budget":
            return EXIT_STATE
        return exit_code(moment.batch) if reason else None


def _settle(moment: Transaction, evidence: dict[str, Evidence], now: Now) -> Sequence[Effect]:
    """Record what reconcile decides until it has nothing more to record; then what to do."""
    while True:
        decision = reconcile(moment.batch, evidence, now)
        if not decision.events:
            return decision.effects
        for event in decision.events:
            moment.record(event)


def _is_ending(issue: IssueState) -> bool:
    """Whether its attempt is about to be over, by our doing."""
    attempt = issue.attempts[-1]
    return attempt.reaping_since is not None or attempt.kill is not None


def exit_code(batch: Batch) -> int:
    """What `run` exits with for a batch in this state."""
    if not batch.is_over:
        return EXIT_INTERRUPTED
    completed = len(batch.by_status[Status.COMPLETED])
    return EXIT_OK if completed == len(batch.issues) else EXIT_UNFINISHED
