"""The steps of a small batch: from a state, every state that one step of anybody leads to.

A state is the fold of the journal, what the orchestrator remembers (nothing: it is dead), the
operations it has still to do, the attempts of every issue with their processes, and what the
promises remember (model_parts).

Two reductions, both of steps that commute: a look and the transaction that follows it are one step
(model_passes says why), and people speak only between two passes (model_people says why).
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from model_fold import Commit, Frozen, FrozenIssue, ledger_of, rebooted, server_lost
from model_look import OLD_SERVER
from model_orchestrator import Decision, Life, Operation, Trace, left, opened
from model_parts import CRASH, FAULT, Parts, State, Successor
from model_passes import Passes
from model_people import words_of_people
from model_world import (
    AGENT,
    NOTHING,
    NOWHERE,
    TERM,
    Local,
    Site,
    site_steps,
    told_to_end,
    voided,
    without_runner,
)
from model_world import rebooted as local_rebooted
from model_world import server_lost as local_server_lost
from promises import (
    AgentGone,
    AgentStarted,
    BrokenPromiseError,
    Committed,
    Ledger,
    Memory,
    Promises,
    Read,
    Rested,
    Witness,
)

from gangline.core.events import Policy, StopRequested
from gangline.core.evidence import Claim, Signal
from gangline.core.model import TERMINAL, Status


class Model(Parts):
    """The steps of one batch: which states follow a state."""

    def __init__(self, needs: Sequence[tuple[int, ...]], policy: Policy) -> None:
        super().__init__(len(needs))
        self._passes = Passes(self)
        issues = tuple(
            FrozenIssue(
                Status.BLOCKED if wanted else Status.PENDING, tuple(str(w + 1) for w in wanted)
            )
            for wanted in needs
        )
        nowhere = self.sites.number(Site())
        self.first = State(
            self.folds.number(Frozen(issues, policy)),
            self.dead,
            self.idle,
            self.memories.number(Memory()),
            (nowhere,) * len(needs),
        )
        self._observe = lru_cache(None)(self._observe_anew)
        self._moves = lru_cache(None)(self._find_moves)
        self._said = lru_cache(None)(self._find_said)
        self._leaving = lru_cache(None)(self._find_leaving)
        self._first_of = lru_cache(None)(self._take_first)
        self._landing = lru_cache(None)(self._land)

    # -- parts of a state ------------------------------------------------------------------

    def _observe_anew(self, memory: int, fold: int, witness: Witness) -> int:
        frozen = self.folds.things[fold]
        promises = Promises(ledger_of(frozen), self.memories.things[memory])
        promises.observe(witness)
        return self.memories.number(promises.memory)

    def witnessed(self, state: State, *witnesses: Witness) -> int:
        memory = state.memory
        for witness in witnesses:
            memory = self._observe(memory, state.fold, witness)
        return memory

    def _put(self, state: State, place: int, site: Site) -> tuple[int, ...]:
        sites = list(state.sites)
        closed = self.fold_of(state).closed_number(place)
        sites[place] = self.sites.number(site.pruned(closed))
        return tuple(sites)

    # -- all steps -------------------------------------------------------------------------

    def successors(self, state: State, faults_left: int) -> Iterator[Successor]:
        """Every state that one step of anybody leads to; `cost` is never more than is left.

        Raises:
            BrokenPromiseError: one of the steps breaks a promise.
        """
        yield from self._world_steps(state, faults_left)
        if faults_left >= FAULT:
            yield from self._machine_faults(state)
        if state.todo != self.idle:
            yield from self._carry_out(state, faults_left)
            return
        if state.life != self.dead and faults_left:
            yield Successor("the orchestrator is killed", state._replace(life=self.dead), CRASH)
        yield from self._orchestrator_steps(state, faults_left)
        if faults_left >= FAULT:
            yield from self._people(state)

    def _world_steps(self, state: State, faults_left: int) -> Iterator[Successor]:
        for place in range(len(self.keys)):
            closed = self.fold_of(state).closed_number(place)
            for words, to, cost, started, gone, calm in self._moves(state.sites[place], closed):
                if cost > faults_left:
                    continue
                sites = (*state.sites[:place], to, *state.sites[place + 1 :])
                memory = state.memory
                if started is not None:
                    memory = self.witnessed(state, AgentStarted(self.keys[place], started))
                elif gone is not None:
                    memory = self.witnessed(state, AgentGone(self.keys[place], gone))
                yield Successor(
                    (self.keys[place], words),
                    state._replace(memory=memory, sites=sites),
                    cost,
                    1 if calm and not cost else None,
                )

    def _find_moves(self, site: int, closed: int) -> tuple:
        return tuple(
            (s.words, self.sites.number(s.to), FAULT * s.cost, s.started, s.gone, s.calm)
            for s in site_steps(self.sites.things[site], closed)
        )

    def _machine_faults(self, state: State) -> Iterator[Successor]:
        fold = self.fold_of(state)
        life = self.life_of(state)
        lost = self._everywhere(state, local_server_lost)
        if life is not None and life.server is not None:
            life = life._replace(server=OLD_SERVER)
        elsewhere = state._replace(
            fold=self.folds.number(server_lost(fold)), life=self.lives.number(life), sites=lost
        )
        if elsewhere != state:
            yield Successor("the tmux server dies", elsewhere, FAULT)
        gone = [
            AgentGone(self.keys[place], number)
            for place in range(len(self.keys))
            for number, local in self.site(state, place).attempts
            if local.alive
        ]
        again = State(
            self.folds.number(rebooted(fold)),
            self.dead,
            self.idle,
            self.witnessed(state, *gone),
            self._everywhere(state, local_rebooted),
        )
        if again != state:
            yield Successor("the machine is restarted", again, FAULT)

    def _everywhere(self, state: State, change) -> tuple[int, ...]:
        fold = self.fold_of(state)
        return tuple(
            self.sites.number(self.sites.things[s].everywhere(change).pruned(fold.closed_number(p)))
            for p, s in enumerate(state.sites)
        )

    # -- the orchestrator ------------------------------------------------------------------

    def _orchestrator_steps(self, state: State, faults_left: int) -> Iterator[Successor]:
        fold, life = self.fold_of(state), self.life_of(state)
        if life is None:
            if not fold.is_over:
                life = Life(numbers=self._numbers(state))
                yield Successor(
                    "an orchestrator is started",
                    state._replace(life=self.lives.number(life)),
                    calm=2,
                )
            return
        if not life.begun:
            begun = opened(fold, life)
            yield Successor("it has the area", self._set_out(state, begun), calm=2)
            return
        for interrupted in (False, True) if faults_left >= FAULT else (False,):
            commit = self._leaving(state.fold, state.life, interrupted)
            if commit is not None:
                to = self._committed(state, commit)._replace(life=self.dead)
                words = "the orchestrator lets go"
                yield Successor(words, to, FAULT * interrupted, None if interrupted else 3)
        dispatched = tuple(
            site if fold.open_number(place) >= 0 else -1 for place, site in enumerate(state.sites)
        )
        for found in self._passes.from_here(
            state.fold, state.life, dispatched, faults_left >= FAULT
        ):
            if FAULT * found.cost > faults_left:
                continue
            sites = list(state.sites)
            for place, site in found.changes:
                sites[place] = site
            memory = state.memory
            for witness in found.witnesses:
                memory = self._observe(memory, state.fold, witness)
            to = State(state.fold, found.life, found.todo, memory, tuple(sites))
            if to != state:
                yield Successor(("a pass", found.words), to, FAULT * found.cost, found.calm)

    def _find_leaving(self, fold: int, life: int, interrupted: bool) -> int | None:
        end = left(self.folds.things[fold], self.lives.things[life], interrupted)
        if end is None:
            return None
        (commit,) = end.trace
        return self.commits.number(commit)

    def _numbers(self, state: State) -> tuple[tuple[str, int], ...]:
        """What is found in attempts/ beyond what the journal knows of."""
        found = []
        for place, key in enumerate(self.keys):
            attempt = self.fold_of(state).issues[place].attempt
            highest = max(self.site(state, place).numbers, default=-1)
            if highest > (attempt.number if attempt else -1):
                found.append((key, highest))
        return tuple(found)

    def _set_out(self, state: State, decision: Decision) -> State:
        return state._replace(
            life=self.lives.number(decision.life), todo=self.traces.number(decision.trace)
        )

    # -- what it has set out to do ---------------------------------------------------------

    def _carry_out(self, state: State, faults_left: int) -> Iterator[Successor]:
        first, rest_of_it, commits = self._first_of(state.todo)
        rest = state._replace(todo=rest_of_it)
        crashed = state._replace(life=self.dead, todo=self.idle)
        if faults_left:
            yield Successor("the orchestrator is killed", crashed, CRASH)
        if commits:
            *torn, whole = commits
            for count, commit in enumerate(torn if faults_left else ()):
                words = f"the orchestrator is killed after {count + 1} lines"
                yield Successor(words, self._committed(crashed, commit), CRASH)
            yield Successor(("commit", first), self._committed(rest, whole), calm=0)
            return
        place = int(first.issue) - 1
        to = rest._replace(sites=self._put(rest, place, self._done(rest, place, first)))
        if first.what in ("kill rest", "kill left"):
            local = self.site(state, place).attempt(first.attempt)
            if local is not None and local.alive:
                memory = self.witnessed(state, AgentGone(first.issue, first.attempt))
                to = to._replace(memory=memory)
        yield Successor(first, to, calm=0)
        if first.what == "launch" and faults_left >= FAULT:
            yield from self._unsure_launches(rest, to, first)

    def _take_first(self, todo: int) -> tuple[Commit | Operation, int, tuple[int, ...]]:
        """What is done first, what is left then, and the ways in which a commit may be torn."""
        trace: Trace = self.traces.things[todo]
        first, rest = trace[0], self.traces.number(trace[1:])
        commits = ()
        if isinstance(first, Commit):
            commits = tuple(
                self.commits.number(Commit(first.lines[:count], first.folds[:count]))
                for count in range(1, len(first.lines) + 1)
            )
        return first, rest, commits

    def _unsure_launches(
        self, rest: State, launched: State, operation: Operation
    ) -> Iterator[Successor]:
        """tmux did not say that it started it: it has, or it has not."""
        life = self.life_of(rest)
        assert life is not None
        unsure = tuple(x for x in life.launched if x != (operation.issue, operation.attempt))
        number = self.lives.number(life._replace(launched=unsure))
        yield Successor(("unconfirmed", operation), launched._replace(life=number), FAULT)
        yield Successor(("swallowed", operation), rest._replace(life=number), FAULT)

    def _done(self, state: State, place: int, operation: Operation) -> Site:
        """The site after the operation, as the host carries it out."""
        site = self.site(state, place)
        number, local = operation.attempt, site.attempt(operation.attempt)
        match operation.what:
            case "put away":
                return site._replace(signal=Signal.NONE)
            case "void":
                return site.put(number, voided(local or Local()))
            case "prepare":
                if local is not None:
                    raise BrokenPromiseError(2, f"there is a folder of attempt {number} already")
                reader = self.fold_of(state).has_service
                return site.put(number, Local(has_reader=reader))
        if local is None:
            return site
        match operation.what:
            case "end":
                local = told_to_end(local, TERM)
            case "kill runner" if local.claim is Claim.RUNNER and local.place != NOWHERE:
                local = without_runner(local, local.alive)
            case "kill rest" | "kill left":
                local = without_runner(local, NOTHING)
            case "launch":
                local = local._replace(coming=local.coming + 1)
        return site.put(number, local)

    def _committed(self, state: State, commit: int) -> State:
        """The state with the commit in the journal."""
        fold, memory, sites = self._landing(state.fold, state.memory, state.sites, commit)
        return state._replace(fold=fold, memory=memory, sites=sites)

    def _land(
        self, fold: int, memory: int, sites: tuple[int, ...], number: int
    ) -> tuple[int, int, tuple[int, ...]]:
        commit: Commit = self.commits.things[number]
        promises = Promises(ledger_of(self.folds.things[fold]), self.memories.things[memory])
        promises.observe(Committed(commit.events))
        after = commit.folds[-1]
        promises.observe(Read(ledger_of(after).statuses()))
        used = promises.ledger.used._replace(seconds=0.0)  # the clock is not of this model
        plain = promises.ledger._replace(used=used)
        _agree(plain, ledger_of(after))
        kept = tuple(
            self.sites.number(self.sites.things[site].pruned(after.closed_number(place)))
            for place, site in enumerate(sites)
        )
        tidied = self._tidied(promises.memory, after, kept)
        return self.folds.number(after), self.memories.number(tidied), kept

    def _tidied(self, memory: Memory, after: Frozen, sites: tuple[int, ...]) -> Memory:
        """Without what can never matter again: attempts out of the world, budgets that are over."""
        there = {
            (key, number)
            for place, key in enumerate(self.keys)
            for number in [*self.sites.things[sites[place]].numbers, after.open_number(place)]
        }
        spent = tuple(
            (key, count)
            for key, count in memory.spent
            if after.issues[int(key) - 1].status not in TERMINAL
        )
        return Memory(memory.alive, memory.executed & there, spent)

    # -- people ----------------------------------------------------------------------------

    def _people(self, state: State) -> Iterator[Successor]:
        life = self.life_of(state)
        for words, commit, stop in self._said(state.fold):
            if words.startswith("ask") and not self._can_speak(state, words):
                continue
            to = self._committed(state, commit)
            if life is not None and not life.begun and stop is not None:
                to = to._replace(
                    life=self.lives.number(life._replace(asked=stop or life.asked is True))
                )
            yield Successor(("a person", words), to, FAULT)

    def _can_speak(self, state: State, words: str) -> bool:
        """Whether the agent that asks lives."""
        place = int(words.partition(" ")[2]) - 1
        local = self.site(state, place).attempt(self.fold_of(state).open_number(place))
        return local is not None and local.alive == AGENT

    def _find_said(self, fold: int) -> tuple[tuple[str, int, bool | None], ...]:
        """What people may say: the words, the commit, and of a stop whether it kills."""
        found = []
        for word in words_of_people(self.folds.things[fold]):
            stops = [e.kill for e in word.commit.events if isinstance(e, StopRequested)]
            stop = stops[-1] if stops else None
            found.append((word.words, self.commits.number(word.commit), stop))
        return tuple(found)

    def calm_step(self, state: State, found: Sequence[Successor]) -> State | None:
        """The state after the step that is taken when nothing goes wrong; None: nothing happens."""
        calm = [s for s in found if s.calm is not None and s.calm <= 3]
        if state.todo == self.idle and ledger_of(self.fold_of(state)).is_over_budget:
            freed = self._freed(state)
            if freed is not None:
                return freed
        if not calm and state.todo == self.idle:
            freed = self._freed(state)
            if freed is not None:
                return freed
            calm = [s for s in found if s.calm is not None]
        return min(calm, key=lambda s: s.calm).to if calm else None

    def _freed(self, state: State) -> State | None:
        """A person lets go of what is held or paused, answers, and raises the budget."""
        fold = self.fold_of(state)
        is_over_budget = ledger_of(fold).is_over_budget and not fold.is_over
        wanted = [f"release {k}" for k, i in zip(self.keys, fold.issues, strict=True) if i.held]
        wanted += ["resume"] if fold.paused else []
        wanted += ["raise the budget"] if is_over_budget else []
        wanted += [
            f"send {key}"
            for key, issue in zip(self.keys, fold.issues, strict=True)
            if issue.attempt is not None and issue.attempt.asked
        ]
        if not wanted:
            return None
        for words, commit, _ in self._said(state.fold):
            if words in wanted:
                return self._committed(state, commit)
        return None

    def check_rest(self, state: State) -> None:
        """Nothing happens any more: all has to be over."""
        self.witnessed(state, Rested())
        if state.life != self.dead:
            raise BrokenPromiseError(5, "the orchestrator goes on though nothing is left to do")


def _agree(plain: Ledger, folded: Ledger) -> None:
    """The product's fold comes to what the plain ledger comes to."""
    for (key, wanted), (_, found) in zip(plain.entries, folded.entries, strict=True):
        if wanted.charges != found.charges:
            raise BrokenPromiseError(3, f"#{key} is charged {found.charges}, not {wanted.charges}")
        if (wanted.messages, wanted.given) != (found.messages, found.given):
            raise BrokenPromiseError(2, f"of the messages to #{key} {found.messages} are kept")
    assert plain == folded, "the fold and the plain ledger differ"
