"""The product's own orchestrator, one step at a time, from a state that can be put away.

`Orchestrator._pass`, `_ended`, `_stop` and the opening of `run`, the real Launcher, Transaction,
fold and reconcile decide everything. The store and the host that they are given do nothing and
write down what they were told to do, in its order: that list (`Trace`) is what the model then
carries out, operation by operation, with everything that can happen between any two of them.

What is left out of its memory, and why that loses nothing:
- Timers (`_look_at`, `_next_poll`, `_hinted`): a pass may look at any choice of attempts at any
  time, so whatever timers there are, the pass that they would bring about is one of them.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import SimpleNamespace
from typing import NamedTuple

from model_fold import (
    ACCOUNT,
    BATCH,
    BOOT,
    NOON,
    NOW_SECONDS,
    Commit,
    Frozen,
    commit_of,
    freeze,
    thaw,
)
from model_look import SERVER

from gangline.app import orchestrate
from gangline.core.batch import Batch
from gangline.core.events import (
    AnyEvent,
    Launched,
    OrchestratorStarted,
    StopRequested,
)
from gangline.core.evidence import Evidence
from gangline.core.reconcile import Effect, Now
from gangline.ports import Launch
from gangline.store.batches import Transaction


class Life(NamedTuple):
    """What an orchestrator remembers.

    Attributes:
        begun: Whether it has recorded its start; `asked`: the stop that was asked for before that.
        server: The tmux server that it is connected to.
        launched: Launches that it has not recorded yet.
        unknown: Issues whose last look told nothing.
        numbers: Attempt numbers found in the folders at its start, where they exceed the journal's.
    """

    begun: bool = False
    asked: bool | None = None
    server: str | None = None
    launched: tuple[tuple[str, int], ...] = ()
    unknown: frozenset[str] = frozenset()
    numbers: tuple[tuple[str, int], ...] = ()


class Operation(NamedTuple):
    """Something that the host was told to do."""

    what: str  # put away, void, end, kill runner, kill rest, kill left, prepare, launch
    issue: str
    attempt: int


Trace = tuple[Commit | Operation, ...]


class Decision(NamedTuple):
    """What a pass comes to: what is done, in this order, and the memory after it."""

    trace: Trace
    life: Life | None
    decided: tuple[tuple[AnyEvent, ...], tuple[Effect, ...]] = ((), ())


# -- what the orchestrator is given --------------------------------------------------------------


class _Store:
    """A store whose only writer is this orchestrator; commands come between its transactions."""

    def __init__(self, frozen: Frozen, batch: Batch, trace: list[Commit | Operation]) -> None:
        self.batch, self.reports = batch, list[str]()
        self._frozen = frozen
        self._trace = trace

    def check_same_batch(self) -> None:
        """Nobody removes a folder here."""

    @contextmanager
    def transaction(self, at: str) -> Iterator[Transaction]:
        moment = Transaction(self.batch, [], at)
        yield moment
        if moment.events:
            commit = commit_of(self._frozen, moment.events)
            assert commit.folds[-1] == freeze(self.batch), "the journal folds to something else"
            self._trace.append(commit)
            self._frozen = commit.folds[-1]


class _Host:
    """Writes down what it is told."""

    takes_idle_panes = False

    def __init__(self, server: str | None, evidence: Mapping[str, Evidence], trace: list) -> None:
        self.server = server
        self._evidence = evidence
        self._trace = trace

    def _note(self, what: str, attempt_id: str) -> None:
        issue, _, number = attempt_id.removeprefix(f"{BATCH}-").rpartition("-a")
        self._trace.append(Operation(what, issue, int(number)))

    def tidy(self) -> None: ...

    def probe(self, subjects) -> dict[str, Evidence]:
        return {subject.issue: self._evidence[subject.issue] for subject in subjects}

    def void(self, attempt_id: str) -> None:
        self._note("void", attempt_id)

    def terminate(self, subject, *, hard: bool) -> None:
        if hard:  # one signal to the runner, then one to each of what it started
            self._note("kill runner", subject.attempt_id)
            self._note("kill rest", subject.attempt_id)
        else:
            self._note("end", subject.attempt_id)

    def reap(self, subject, *, hard: bool) -> None:
        if hard:  # what ignores a TERM ignores it, and what does not may as well have ended itself
            self._note("kill left", subject.attempt_id)

    def retire(self, subject, pane) -> None:
        """Closes a pane in which nothing runs; a runner that was late may as well never come."""

    def put_away_signal(self, issue: str, attempt_id: str | None) -> None:
        self._trace.append(Operation("put away", issue, -1))

    def prepare(self, launch: Launch) -> None:
        self._note("prepare", launch.attempt_id)

    def launch(self, launch: Launch) -> tuple[str, str]:
        self._note("launch", launch.attempt_id)
        self.server = SERVER
        return "%1", SERVER


class _Dispatcher:
    """Everything is there."""

    def workspace(self, batch, key):
        return "workspace"

    def launch(self, batch, key, number, mark, workspace, retry, pane) -> Launch:
        return Launch(
            attempt_id=batch.attempt_id(key, number),
            issue=key,
            title="",
            mark=mark,
            cwd="/",
            argv=("agent",),
            program="agent",
            prompt="",
            stdin="none",
            agent="demo",
            environment={},
            log_bytes=0,
            account=ACCOUNT,
            messages=len(batch.issues[key].messages),
        )


class _Observer:
    refresh_seconds = None

    def happened(self, batch, events, *, away=False) -> None: ...
    def note(self, text: str) -> None: ...
    def refresh(self, batch: Batch) -> None: ...


class _Log:
    """Hears what a pass decided."""

    def __init__(self) -> None:
        self.events: tuple[AnyEvent, ...] = ()
        self.effects: tuple[Effect, ...] = ()

    def decided(self, at, evidence, events, effects) -> None:
        self.events, self.effects = tuple(events), tuple(effects)

    def noted(self, at: str, text: str) -> None: ...


class _OpeningOverError(Exception):
    """The opening of `run` is through."""


# -- steps of an orchestrator --------------------------------------------------------------------


class _Living:
    """A real orchestrator, taken up from what was put away."""

    def __init__(
        self, frozen: Frozen, life: Life, evidence: Mapping[str, Evidence], *, late: bool = False
    ) -> None:
        self.trace: list[Commit | Operation] = []
        self.log = _Log()
        batch = thaw(frozen, late=late)
        self.batch = batch
        clock = SimpleNamespace(
            now=lambda: Now(boot_id=BOOT, boot_seconds=NOW_SECONDS, epoch_seconds=NOON),
            wall=lambda: "",
        )
        self.host = _Host(life.server, evidence, self.trace)
        self.loop = orchestrate.Orchestrator(
            _Store(frozen, batch, self.trace),
            self.host,
            clock,
            SimpleNamespace(),
            _Dispatcher(),
            _Observer(),
            self.log,
            numbers={f"{BATCH}-{key}": number for key, number in life.numbers},
            poll_seconds=30.0,
        )
        self.loop._unknown = dict.fromkeys(life.unknown, 1)
        self.loop._due = lambda: list(evidence)
        self.loop._launcher._launched = [
            Launched(issue=key, attempt=number, pane="%1", server=SERVER)
            for key, number in life.launched
        ]

    def put_away(self, life: Life) -> Life:
        launched = tuple((e.issue, e.attempt) for e in self.loop._launcher._launched)
        unknown = frozenset(self.loop._unknown)
        return life._replace(server=self.host.server, launched=launched, unknown=unknown)


def decide(
    frozen: Frozen, life: Life, looks: tuple[tuple[str, Evidence], ...], late: bool
) -> Decision:
    """One pass over this evidence."""
    living = _Living(frozen, life, dict(looks), late=late)
    living.loop._pass()
    decided = (living.log.events, living.log.effects)
    return Decision(tuple(living.trace), living.put_away(life), decided)


@lru_cache(None)
def opened(frozen: Frozen, life: Life) -> Decision:
    """The opening of `run`: its start is recorded, and a stop that was asked for meanwhile."""
    living = _Living(frozen, life, {})
    asked = [] if life.asked is None else [StopRequested(kill=life.asked)]

    def over() -> None:
        raise _OpeningOverError

    living.loop._pass = over
    with suppress(_OpeningOverError):
        living.loop.run(OrchestratorStarted(pid=1, boot_id=BOOT), asked)
    return Decision(tuple(living.trace), life._replace(begun=True, asked=None))


@lru_cache(None)
def left(frozen: Frozen, life: Life, interrupted: bool) -> Decision | None:
    """The end of `run`, if it has a reason to end now."""
    living = _Living(frozen, life, {})
    living.loop._signal = 15 if interrupted else None
    if living.loop._ended() is None or living.loop._stop() is None:
        return None
    return Decision(tuple(living.trace), None)
