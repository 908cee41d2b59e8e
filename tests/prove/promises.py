"""The five promises of DESIGN.md section 5, each written once, as a checker of what was witnessed.

A model checker, a simulator, a gauntlet of real processes and a hostile world all tell the same few
facts (`Witness`), in the order in which they happened, and `Promises` says at the first fact that
breaks one. Nothing here asks how a fact came to be known. The committed events are folded by a
plain ledger of its own: a fold that is wrong must not be what judges itself.

    promises = Promises()
    for witness in history:
        promises.observe(witness)      # raises BrokenPromiseError

What is witnessed is split into `ledger` (what the journal says) and `memory` (what else has to be
remembered); both are immutable, so that a model checker can put them away and take them up again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from promises_answers import completions, meaning
from promises_ledger import Entry, Ledger

from gangline.core.events import (
    AnyEvent,
    BatchRestored,
    Blocked,
    Cancelled,
    Dispatched,
    Edited,
    Ended,
    KillOrdered,
    Outcome,
    Reaping,
    Refused,
    Reopened,
    Retried,
    Skipped,
    Unblocked,
    Voided,
    Wish,
)
from gangline.core.evidence import Evidence, Foreign
from gangline.core.model import TERMINAL, Status
from gangline.core.reconcile import Effect, Reap, Terminate, Void

# -- what is witnessed ---------------------------------------------------------------------------


class AgentStarted(NamedTuple):
    """The agent of this attempt was executed (its first instruction, or just before it)."""

    issue: str
    attempt: int


class AgentGone(NamedTuple):
    """Nothing of this attempt lives any more: neither its agent nor what the agent started."""

    issue: str
    attempt: int


class Committed(NamedTuple):
    """These events are in the journal now, durably, in this order."""

    events: tuple[AnyEvent, ...]


class Read(NamedTuple):
    """Somebody read the state and it was whole.

    Attributes:
        statuses: By issue.
        seq: Of the newest event it tells of; None: of all that are committed.
    """

    statuses: Mapping[str, Status]
    seq: int | None = None


class Unreadable(NamedTuple):
    """Somebody read the state, or the journal, and could not."""

    why: str


class Decided(NamedTuple):
    """One pass of an orchestrator: what it saw, what it recorded of that, what it set out to do.

    Attributes:
        rebooted: Issues whose attempt began in another boot: of those no process can be left.
    """

    evidence: Mapping[str, Evidence]
    events: Sequence[AnyEvent]
    effects: Sequence[Effect]
    rebooted: frozenset[str] = frozenset()


class Rested(NamedTuple):
    """Probes answered, agents ended, an orchestrator ran: and nothing more happens by itself.

    Attributes:
        named: What the batch says it needs or has left running: issues with a question to a person,
            or named as still running.
    """

    named: frozenset[str] = frozenset()


Witness = AgentStarted | AgentGone | Committed | Read | Unreadable | Decided | Rested


class BrokenPromiseError(AssertionError):
    """A promise does not hold."""

    def __init__(self, promise: int, why: str) -> None:
        super().__init__(f"promise {promise} is broken: {why}")
        self.promise = promise


class Memory(NamedTuple):
    """What has to be remembered besides the ledger.

    Attributes:
        alive: Attempts of which something lives.
        executed: Attempts whose agent was executed.
        spent: Executions of each issue in its present budget, issues with none left out.
    """

    alive: frozenset[tuple[str, int]] = frozenset()
    executed: frozenset[tuple[str, int]] = frozenset()
    spent: tuple[tuple[str, int], ...] = ()


# -- the promises --------------------------------------------------------------------------------


def one_agent(memory: Memory, ledger: Ledger, witness: Witness) -> None:
    """1. At most one live agent per issue, always; no attempt's agent is executed twice.

    The record is held to it as well, which tells sooner: an attempt that is on record as void or
    ended must be so, because from then on another may be started.
    """
    match witness:
        case AgentStarted(issue, attempt):
            others = [other for other in memory.alive if other[0] == issue]
            if (issue, attempt) in memory.executed:
                raise BrokenPromiseError(1, f"attempt {attempt} of #{issue} is executed twice")
            if others:
                raise BrokenPromiseError(1, f"a second agent of #{issue} starts beside {others}")
            entry = ledger[issue]
            if entry.newest != attempt or not entry.is_open:
                raise BrokenPromiseError(
                    1, f"attempt {attempt} of #{issue} starts, which is not the one on record"
                )
        case Voided() | Ended() if (witness.issue, witness.attempt) in memory.alive:
            raise BrokenPromiseError(
                1, f"attempt {witness.attempt} of #{witness.issue} lives and is recorded as over"
            )


def nothing_lost(ledger: Ledger, witness: Witness) -> None:
    """2. No committed transition is lost; the state is readable at every instant.

    Every event has to follow what is committed: a status that leaves `dispatched` without the end
    of its attempt, or a terminal status without a person's word, loses a transition.
    """
    match witness:
        case Unreadable(why):
            raise BrokenPromiseError(2, f"the state cannot be read: {why}")
        case Read(statuses) if dict(statuses) != ledger.statuses():
            raise BrokenPromiseError(
                2, f"the state says {dict(statuses)}; committed is {ledger.statuses()}"
            )
        case Dispatched(issue=issue):
            entry = ledger[issue]
            if entry.status is not Status.PENDING:
                raise BrokenPromiseError(2, f"#{issue} is dispatched while it is {entry.status}")
            if witness.attempt <= entry.newest:
                raise BrokenPromiseError(2, f"attempt number {witness.attempt} of #{issue} again")
            if witness.messages != entry.messages:
                raise BrokenPromiseError(
                    2, f"#{issue} is given {witness.messages} of {entry.messages} messages"
                )
        case Voided() | Ended():
            entry = ledger[witness.issue]
            if not entry.is_open or entry.newest != witness.attempt:
                raise BrokenPromiseError(
                    2, f"#{witness.issue} has no open attempt {witness.attempt}, yet one is closed"
                )
            _nothing_unsaid(entry, witness)
        case Edited():
            lost = [k for k in witness.statuses if _has_open_attempt(ledger, k)]
            if lost:
                raise BrokenPromiseError(2, f"an edit sets the status of {lost} over an attempt")
        case Unblocked() | Blocked() | Skipped() | Cancelled() | Refused():
            status = ledger[witness.issue].status
            if status in TERMINAL or status is Status.DISPATCHED:
                raise BrokenPromiseError(
                    2, f"{type(witness).__name__} of #{witness.issue}, which is {status}"
                )
        case Retried() | Reopened() if ledger[witness.issue].status not in TERMINAL:
            raise BrokenPromiseError(2, f"#{witness.issue} is reopened and was not over")


def _nothing_unsaid(entry: Entry, event: Voided | Ended) -> None:
    """Nothing that was said is lost: an agent is told it, a person's answer is waited for.

    What a person decided, and a budget that is used up, come before both.
    """
    if entry.wish is not None or entry.over_budget or not isinstance(event, Ended):
        return
    if event.to in TERMINAL and event.outcome is not Outcome.REFUSED and entry.messages:
        raise BrokenPromiseError(2, f"#{event.issue} is over, and its agent was not told all")
    if event.to is Status.COMPLETED and event.exit_code == 0 and entry.asked:
        raise BrokenPromiseError(2, f"#{event.issue} is completed over its agent's open question")


def _has_open_attempt(ledger: Ledger, issue: str) -> bool:
    return any(key == issue and entry.is_open for key, entry in ledger.entries)


def in_order(memory: Memory, ledger: Ledger, witness: Witness) -> None:
    """3. Dependents start only after every dependency is terminal; an issue is executed at most
    1 + retry times a budget.

    What a person set is kept as well: nothing held or paused is dispatched, and no more than
    max_concurrent at once.
    """
    match witness:
        case Dispatched(issue=issue):
            entry, statuses = ledger[issue], ledger.statuses()
            waiting = [other for other in entry.needs if statuses[other] not in TERMINAL]
            if waiting:
                raise BrokenPromiseError(3, f"#{issue} is dispatched before {waiting}")
            if entry.held or ledger.paused:
                raise BrokenPromiseError(3, f"#{issue} is dispatched while held or paused")
            if ledger.places_taken() >= ledger.max_concurrent:
                raise BrokenPromiseError(3, f"#{issue} is dispatched and there is no free place")
            if ledger.is_over_budget:
                raise BrokenPromiseError(3, f"#{issue} is dispatched over the batch's budget")
            if witness.retry != min(entry.charges, 1):
                raise BrokenPromiseError(
                    3, f"#{issue} is charged {witness.retry}, after {entry.charges} that count"
                )
        case AgentStarted(issue, _):
            times = 1 + dict(memory.spent).get(issue, 0)
            if times > 1 + ledger.retry_max:
                raise BrokenPromiseError(3, f"#{issue} is executed {times} times in one budget")


def blindness_changes_nothing(ledger: Ledger, witness: Witness) -> None:
    """4. A probe that fails changes nothing.

    An answer that is lacking could have been any: if not all of them mean the same for the attempt,
    nothing may be recorded of its end and nothing done to it.
    """
    if not isinstance(witness, Decided):
        return
    done = {e.issue for e in witness.events if isinstance(e, _OVER_AN_ATTEMPT)}
    done |= {e.issue for e in witness.effects if isinstance(e, _TO_AN_ATTEMPT)}
    for issue in done & witness.evidence.keys():
        seen = witness.evidence[issue]
        killed = _was_killed(ledger, issue)
        meanings = {meaning(full, killed, issue in witness.rebooted) for full in completions(seen)}
        if len(meanings) <= 1:
            continue
        for event in witness.events:
            concerned = isinstance(event, _OVER_AN_ATTEMPT) and event.issue == issue
            if concerned and not _is_doubt(seen):
                raise BrokenPromiseError(4, f"{event} is recorded over {seen}")
        for effect in witness.effects:
            if isinstance(effect, _TO_AN_ATTEMPT) and effect.issue == issue:
                raise BrokenPromiseError(4, f"{effect} is done over {seen}")


_OVER_AN_ATTEMPT = (Voided, Ended, Reaping, KillOrdered)
_TO_AN_ATTEMPT = (Void, Terminate, Reap)


def _was_killed(ledger: Ledger, issue: str) -> bool:
    return any(key == issue and entry.killed for key, entry in ledger.entries)


def _is_doubt(seen: Evidence) -> bool:
    """A person has decided what nobody can see (a foreign attempt)."""
    return seen.foreign is Foreign.DOUBTFUL


def comes_to_an_end(memory: Memory, ledger: Ledger, witness: Witness) -> None:
    """5. Every batch comes to an end while its agents end, probes answer and nothing is held or
    paused; else it says what it needs. What it left running is named.
    """
    if not isinstance(witness, Rested):
        return
    left = {issue for issue, _ in memory.alive} - witness.named
    if left:
        raise BrokenPromiseError(5, f"something of {sorted(left)} was left running, unnamed")
    if ledger.paused:
        return
    waited_for = {k for k, e in ledger.entries if e.held or k in witness.named}
    statuses = ledger.statuses()
    for key, entry in _from_the_roots(ledger):
        if any(other in waited_for for other in entry.needs if statuses[other] not in TERMINAL):
            waited_for.add(key)
        if entry.status not in TERMINAL and key not in waited_for:
            raise BrokenPromiseError(5, f"#{key} stays {entry.status}, and nobody is told why")


def _from_the_roots(ledger: Ledger) -> Iterator[tuple[str, Entry]]:
    """Every issue after those it depends on; what hangs in a cycle comes last."""
    left, given = dict(ledger.entries), set[str]()
    while left:
        free = [k for k, e in left.items() if given.issuperset(e.needs)] or list(left)
        for key in free:
            yield key, left.pop(key)
            given.add(key)


# -- all five over one history -------------------------------------------------------------------


class Promises:
    """Watches one history. A model checker sets `memory` and `ledger` itself before each step."""

    def __init__(self, ledger: Ledger | None = None, memory: Memory | None = None) -> None:
        self.ledger = ledger or Ledger()
        self.memory = memory or Memory()
        self._at: dict[int, dict[str, Status]] = {}  # the statuses after each numbered event
        self._newest_read = 0

    def observe(self, witness: Witness) -> None:
        """Take one fact.

        Raises:
            BrokenPromiseError: it breaks a promise.
        """
        if isinstance(witness, Committed):
            for event in witness.events:
                self._check(event)
                self._take(event)
        elif isinstance(witness, Read) and witness.seq is not None:
            self._read(witness, witness.seq)
        else:
            self._check(witness)
            self._live(witness)

    def _check(self, witness: Witness | AnyEvent) -> None:
        one_agent(self.memory, self.ledger, witness)
        nothing_lost(self.ledger, witness)
        in_order(self.memory, self.ledger, witness)
        blindness_changes_nothing(self.ledger, witness)
        comes_to_an_end(self.memory, self.ledger, witness)

    def _read(self, witness: Read, seq: int) -> None:
        """A state of an instant: it may lag behind the newest commit, and never falls back."""
        if seq < self._newest_read:
            raise BrokenPromiseError(2, f"the state fell back from {self._newest_read} to {seq}")
        if seq not in self._at:
            raise BrokenPromiseError(2, f"the state is of event {seq}, which nobody committed")
        if dict(witness.statuses) != self._at[seq]:
            raise BrokenPromiseError(
                2, f"the state of event {seq} says {dict(witness.statuses)}, not {self._at[seq]}"
            )
        self._newest_read = seq

    def _live(self, witness: Witness) -> None:
        memory = self.memory
        match witness:
            case AgentStarted(issue, attempt):
                self.memory = Memory(
                    memory.alive | {(issue, attempt)},
                    memory.executed | {(issue, attempt)},
                    _counted(memory.spent, issue, 1),
                )
            case AgentGone(issue, attempt):
                self.memory = memory._replace(alive=memory.alive - {(issue, attempt)})

    def _take(self, event: AnyEvent) -> None:
        if isinstance(event, BatchRestored):  # a journal that was lost is begun anew
            self._at, self._newest_read = {}, 0
        if event.seq and event.seq in self._at:
            raise BrokenPromiseError(2, f"event {event.seq} is committed twice")
        if event.seq and self._at and event.seq - 1 not in self._at:
            raise BrokenPromiseError(2, f"event {event.seq} is committed after a gap")
        before, self.ledger = self.ledger, self.ledger.after(event)
        if event.seq:
            self._at[event.seq] = self.ledger.statuses()
        for issue in _new_budgets(before, event):
            self.memory = self.memory._replace(spent=_counted(self.memory.spent, issue, None))
        if isinstance(event, Ended) and event.to is Status.PENDING:
            ran = (event.issue, event.attempt) in self.memory.executed
            if ran and event.outcome in _UNCHARGED:
                spent = _counted(self.memory.spent, event.issue, -1)
                self.memory = self.memory._replace(spent=spent)


_UNCHARGED = (Outcome.KILLED, Outcome.LIMITED, Outcome.SESSION_LOST)


def _counted(
    spent: tuple[tuple[str, int], ...], issue: str, change: int | None
) -> tuple[tuple[str, int], ...]:
    """The executions by issue, changed; None begins a new budget."""
    counts = dict(spent)
    counts[issue] = 0 if change is None else max(0, counts.get(issue, 0) + change)
    return tuple(sorted((key, count) for key, count in counts.items() if count))


def _new_budgets(before: Ledger, event: AnyEvent) -> list[str]:
    """The issues that a person gave a new budget with this event."""
    match event:
        case Retried() | Reopened():
            return [event.issue]
        case Voided() | Ended() if event.to is Status.PENDING and (
            before[event.issue].wish is Wish.RETRY or before[event.issue].messages
        ):
            return [event.issue]
        case Edited():
            was = before.statuses()
            return [
                key
                for key, status in event.statuses.items()
                if was.get(key) in TERMINAL and status not in TERMINAL
            ]
    return []
