"""The batch: what the journal says, folded.

`Batch.fold` is the only way anything in it changes, so the batch is always equal to its journal.
Besides the issues it keeps a few derived indexes (what can be unblocked, what is ready, what is
running), each kept up in time proportional to the issue's own edges: the cost of an event must not
grow with the batch.
"""

import heapq
from collections.abc import Container, Iterable

from gangline.core.events import (
    AnyEvent,
    BatchRestored,
    BatchStarted,
    Condition,
    ConditionChanged,
    Configured,
    Dispatched,
    Draining,
    Edited,
    Ended,
    Held,
    IssueEvent,
    IssueEvents,
    KillOrdered,
    Launched,
    OrchestratorStarted,
    OrchestratorStopped,
    Outcome,
    Paused,
    Policy,
    Reaping,
    Released,
    Resumed,
    StopFinished,
    StopRequested,
    Voided,
)
from gangline.core.graph import heights
from gangline.core.issue import Attempt, IssueState
from gangline.core.issue_fold import fold_decision, new_issue, set_by_hand, settle
from gangline.core.model import TERMINAL, Status
from gangline.core.transitions import next_status
from gangline.core.usage import Usage

_AttemptEvent = Launched | ConditionChanged | KillOrdered | Reaping | Voided | Ended


class Batch:
    """The fold of a journal. Empty (`batch_id` is "") until its first event."""

    def __init__(self) -> None:
        self.seq = 0
        self.area = self.batch_id = ""
        self.agent: str | None = None
        self.source: str | None = None
        self.base_commit: str | None = None
        self.policy = Policy()
        self.issues: dict[str, IssueState] = {}
        self.created_at = ""
        self.updated_at = ""
        self.orchestrator_pane: str | None = None
        self.orchestrator_pid: int | None = None
        self.stopped_reason: str | None = None
        self.paused = False
        self.draining = False
        # "leave": the orchestrator is to end; "kill": the agents first; "finish": a kill that was
        # interrupted is finished by a later start, which then goes on.
        self.stop: str | None = None
        self.usage = Usage()  # of all attempts that are over
        self.extra: dict[str, object] = {}  # unknown keys of the state file, kept
        self.reindex()

    def reindex(self) -> None:
        """Derive every index anew from `issues`; needed only when issues were put in whole."""
        self.dependents: dict[str, list[str]] = {key: [] for key in self.issues}
        for key, issue in self.issues.items():
            for other in issue.depends_on:
                self.dependents[other].append(key)
        self.open_dependencies = {
            key: sum(self.issues[d].status not in TERMINAL for d in issue.depends_on)
            for key, issue in self.issues.items()
        }
        self.by_status: dict[Status, dict[str, None]] = {status: {} for status in Status}
        self.unblockable: dict[str, None] = {}
        self.misplaced: dict[str, None] = {}
        self.changed: set[str] = set(self.issues)  # since the state file was last encoded
        attempts = (attempt for issue in self.issues.values() for attempt in issue.attempts)
        self.usage = sum((a.usage for a in attempts if a.usage is not None), Usage())
        self._height = heights(self._open_graph())
        self._order = {key: place for place, key in enumerate(self.issues)}
        self._ready: list[tuple[tuple[int, int], str]] = []
        for key, issue in self.issues.items():
            self.by_status[issue.status][key] = None
            self._place(key)

    def _place(self, key: str) -> None:
        """Put the issue into the index that tells what can be done about it."""
        issue = self.issues[key]
        waiting = self.open_dependencies[key] > 0
        for index, belongs in (
            (self.unblockable, issue.status is Status.BLOCKED and not waiting),
            (self.misplaced, issue.status is Status.PENDING and waiting),
        ):
            if belongs:
                index[key] = None
            else:
                index.pop(key, None)
        if issue.status is Status.PENDING and not waiting:
            rank = (-self._height.get(key, 1), self._order[key])
            heapq.heappush(self._ready, (rank, key))

    def _open_graph(self) -> dict[str, list[str]]:
        """The dependency graph of what is not done; heights above done work tell nothing."""
        return {
            key: [d for d in issue.depends_on if self.issues[d].status not in TERMINAL]
            for key, issue in self.issues.items()
            if issue.status not in TERMINAL
        }

    # -- reading ---------------------------------------------------------------------------

    @property
    def dispatched(self) -> Iterable[str]:
        """The keys of the dispatched issues, oldest dispatch first."""
        return self.by_status[Status.DISPATCHED]

    @property
    def open_count(self) -> int:
        """How many issues are not terminal."""
        return sum(len(self.by_status[s]) for s in Status if s not in TERMINAL)

    @property
    def is_killing(self) -> bool:
        """Every living attempt is to be ended (`stop --kill`)."""
        return self.stop in ("kill", "finish")

    @property
    def is_over(self) -> bool:
        """Nothing is open (and there is a batch)."""
        return bool(self.batch_id) and self.open_count == 0

    def is_foreign(self, key: str) -> bool:
        """Whether the issue's newest attempt was started by the specification's own shell."""
        attempt = self.issues[key].attempt
        return attempt is not None and attempt.foreign

    def counts(self) -> dict[str, int]:
        """Issues by status, every status named."""
        return {status.value: len(self.by_status[status]) for status in Status}

    def attempt_id(self, key: str, number: int) -> str:
        """`{batchId}-{issue}-a{n}`, also the name of the attempt's folder."""
        return f"{self.batch_id}-{key}-a{number}"

    def account_of(self, issue: IssueState) -> str | None:
        """Whose usage limit its next attempt is under; None while no agent is named."""
        name = issue.agent or self.agent
        return dict(self.policy.accounts).get(name, name) if name else None

    def ready(self, count: int, held_back: Container[str | None] = ()) -> list[str]:
        """Up to `count` issues to dispatch next: what the most work waits for first.

        Held issues are passed over, and those of the accounts that are `held_back`. Stale entries
        of the heap are dropped on the way, which changes no answer.
        """
        chosen: list[str] = []
        put_back: list[tuple[tuple[int, int], str]] = []
        while self._ready and len(chosen) < count:
            entry = heapq.heappop(self._ready)
            issue = self.issues[entry[1]]
            if issue.status is not Status.PENDING or entry[1] in self.misplaced:
                continue
            if put_back and put_back[-1] == entry:
                continue
            put_back.append(entry)
            if not issue.held and (not held_back or self.account_of(issue) not in held_back):
                chosen.append(entry[1])
        for entry in put_back:
            heapq.heappush(self._ready, entry)
        return chosen

    # -- folding ---------------------------------------------------------------------------

    def fold(self, event: AnyEvent) -> None:
        """Take one event.

        Raises:
            IllegalEventError: the event cannot follow; the batch is unchanged.
            KeyError: the event names an issue that is not in the batch.
        """
        if isinstance(event, IssueEvent):
            self._fold_issue(event)
        else:
            self._fold_batch(event)
        self.seq = event.seq or self.seq
        self.updated_at = event.at or self.updated_at

    def _fold_issue(self, event: IssueEvents) -> None:
        issue = self.issues[event.issue]
        status = next_status(issue.status, event)
        if isinstance(event, Dispatched | Held | Released):
            self._fold_intent(issue, event)
        elif isinstance(event, _AttemptEvent):
            self._fold_attempt(issue, event)
        else:
            fold_decision(issue, event)
        self._set_status(issue, status)

    def _set_status(self, issue: IssueState, status: Status) -> None:
        key = issue.key
        self.changed.add(key)
        if status is issue.status:
            self._place(key)
            return
        was_open, is_open = issue.status not in TERMINAL, status not in TERMINAL
        del self.by_status[issue.status][key]
        self.by_status[status][key] = None
        issue.status = status
        if was_open != is_open:
            for other in self.dependents[key]:
                self.open_dependencies[other] += 1 if is_open else -1
                self._place(other)
        self._place(key)

    def _fold_intent(self, issue: IssueState, event: Dispatched | Held | Released) -> None:
        if isinstance(event, Held | Released):
            issue.held = isinstance(event, Held)
            return
        issue.reason = None
        issue.attempts.append(
            Attempt(
                number=event.attempt,
                mark=event.mark,
                started_at=event.at,
                boot_id=event.boot_id,
                boot_seconds=event.boot_seconds,
                retry=event.retry,
                server=event.server,
                agent=event.agent,
                branch=event.branch,
                plan=event.plan,
                account=event.account,
                session=event.session,
                resumed=event.resumed,
                messages=issue.messages[: event.messages],
            )
        )
        issue.messages = issue.messages[event.messages :]

    def _fold_attempt(self, issue: IssueState, event: _AttemptEvent) -> None:
        attempt = issue.attempts[-1]
        if attempt.number != event.attempt or attempt.outcome is not None:
            raise ValueError(f"{event.issue} has no open attempt {event.attempt}")
        match event:
            case Launched():
                attempt.pane = event.pane
                attempt.server = event.server
            case ConditionChanged():
                working = event.condition is Condition.WORKING
                attempt.condition = None if working else event.condition
                attempt.question, attempt.until = event.text, event.until
                attempt.asked, attempt.waits = event.asked, event.waits
                if event.waits:
                    attempt.lived_seconds = event.lived_seconds
            case KillOrdered():
                attempt.kill = event.why
                attempt.kill_boot_id = event.boot_id
                attempt.kill_boot_seconds = event.boot_seconds
            case Reaping():
                attempt.reaping_since = event.boot_seconds
            case Voided():
                attempt.outcome = Outcome.VOID
                attempt.ended_at = event.at
                attempt.reason = event.reason
                issue.voids += 1 if event.counted else 0
                settle(issue, event.to, event.reason)
            case Ended():
                attempt.outcome = event.outcome
                attempt.ended_at = event.ended_at or event.at
                attempt.exit_code = event.exit_code
                attempt.exit_signal = event.exit_signal
                attempt.reason = event.reason
                if event.session is not None:
                    attempt.session = event.session or None
                attempt.unheard = attempt.resumed and not event.session
                attempt.usage = event.usage
                self.usage += event.usage or Usage()
                issue.voids = 0
                if event.outcome in (Outcome.DIED, Outcome.FAILED):
                    issue.spent += 1
                settle(issue, event.to, event.reason)

    def _fold_batch(self, event: AnyEvent) -> None:
        match event:
            case BatchStarted():
                self._begin(event)
            case BatchRestored():
                raise TypeError("a restored batch is taken over by core.codec.replay")
            case Edited():
                self._edit(event)
            case Configured():
                self.policy = event.policy
                self.agent = event.agent or self.agent
                self.source = event.source or self.source
                self.base_commit = event.base_commit or self.base_commit
            case OrchestratorStarted():
                self.orchestrator_pid = event.pid
                self.orchestrator_pane = event.pane
                self.stopped_reason = None
                self.draining = False
                self.stop = "finish" if self.is_killing else None
            case OrchestratorStopped():
                self.stopped_reason = event.reason
                self.orchestrator_pid = None
                self.stop = self.stop if self.is_killing else None
            case StopRequested():
                self.stop = "kill" if event.kill or self.is_killing else "leave"
            case StopFinished():
                self.stop = "leave" if self.stop == "kill" else None
            case Paused():
                self.paused = True
            case Resumed():
                self.paused = self.draining = False
            case Draining():
                self.draining = True

    def _begin(self, event: BatchStarted) -> None:
        self.area, self.batch_id, self.agent = event.area, event.batch_id, event.agent
        self.policy, self.source = event.policy, event.source
        self.base_commit = event.base_commit
        self.created_at = event.at
        self.issues = {str(issue.id): new_issue(issue) for issue in event.issues}
        self.reindex()

    def _edit(self, event: Edited) -> None:
        """Take an edit that was found to hold together (core/edit.py)."""
        issues = self.issues | {str(new.id): new_issue(new) for new in event.issues}
        for key, depends_on in event.depends_on.items():
            issues[key].depends_on = depends_on
        for key, status in event.statuses.items():
            set_by_hand(issues[key], status)
        for key, wish in event.wishes.items():
            issues[key].wish, issues[key].wish_reason = wish, None
        for key, count in event.retries.items():
            issues[key].attempts[-1].retry = count
            issues[key].spent = max(issues[key].spent, count)
        for key, pane in event.panes.items():
            issues[key].attempts[-1].pane = pane
        for key, entry in event.entries.items():
            issues[key].entry = entry
        for key, detail in event.details.items():
            for name, value in detail.items():
                setattr(issues[key], name, value)
        self.agent = event.batch.get("agent", self.agent)
        self.orchestrator_pane = event.batch.get("orchestratorPane", self.orchestrator_pane)
        self.paused = event.batch.get("paused", self.paused)
        kept = {key: value for key, value in self.extra.items() if key not in event.dropped}
        self.extra = kept | event.extra
        oldest_first = list(self.dispatched)
        self.issues = issues
        self.reindex()
        dispatched = self.by_status[Status.DISPATCHED]
        for key in oldest_first:
            dispatched[key] = dispatched.pop(key)
