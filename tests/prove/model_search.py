"""The search: every state that a small batch can come to, with no more than so many faults.

A state is the fold of the journal, what the orchestrator remembers (nothing: it is dead), the
operations it has still to do, the attempts of every issue with their processes, and what the
promises remember. Every step of everybody is taken from every state, by itself. A fault is a crash
of the orchestrator, a death, a probe without answer, a lost tmux server, a restart of the machine,
a launch that is late or lost, a signal file, an exit that is no success, a word of a person.

States are searched in the order of the faults that they took, so each is visited once, with the
most faults still to spend: what it could do with fewer is part of that. Two more reductions, both
of steps that commute: a look and the transaction that follows it are one step, because no step of
an attempt reads the journal (what an attempt does *while* it is looked at is in model_look); and
people speak only between two passes (model_people).

Liveness: every state has one *calm* step, in which nothing goes wrong any more: runners come,
agents succeed, whoever waits waits long enough, a dead orchestrator is started again, a person lets
go of what is held or paused (that is no fault then, and the states after it are visited as well).
The chain of calm steps from every visited state has to end with the batch over, nobody alive and
the orchestrator gone.
"""

import struct
from array import array
from itertools import pairwise
from typing import NamedTuple

from model_fold import Commit
from model_look import scenes_answer
from model_orchestrator import Operation
from model_parts import State, Successor
from model_steps import Model
from promises import BrokenPromiseError


class Found(NamedTuple):
    """What a search came to."""

    states: int
    steps: int
    folds: int
    calm_steps_max: int


class CounterexampleError(AssertionError):
    """A promise is broken; the message is the path to it.

    Attributes:
        promise: Its number; 0: the product contradicts itself.
    """

    def __init__(self, told: str, promise: int = 0) -> None:
        super().__init__(told)
        self.promise = promise


class Search:
    """Visits every state of a model with at most `faults` faults."""

    def __init__(self, model: Model, faults: int) -> None:
        self.model = model
        self.faults = faults
        self._pack = struct.Struct(f"<{4 + len(model.keys)}I")
        self._index: dict[bytes, int] = {}
        self._states: list[bytes] = []
        self._parents = array("I")
        self._costs = bytearray()
        self._calm = array("I")
        self._steps = 0

    def run(self) -> Found:
        """Visit them all: see Found.

        Raises:
            CounterexampleError: a promise is broken, or the batch does not end.
        """
        with scenes_answer():
            return self._run()

    def _run(self) -> Found:
        levels: list[list[int]] = [[] for _ in range(self.faults + 1)]
        self._meet(self.model.first, 0, 0, levels)
        for cost, level in enumerate(levels):
            for at in level:  # it grows meanwhile
                if self._costs[at] == cost and not self._calm[at]:
                    self._visit(at, cost, levels)
        longest = self._follow_calm()
        return Found(len(self._states), self._steps, len(self.model.folds.things), longest)

    def _meet(self, state: State, parent: int, cost: int, levels: list[list[int]]) -> int:
        packed = self._pack.pack(*state[:4], *state.sites)
        at = self._index.get(packed)
        if at is None:
            at = self._index[packed] = len(self._states)
            self._states.append(packed)
            self._parents.append(parent)
            self._costs.append(cost)
            self._calm.append(0)
            levels[cost].append(at)
        elif cost < self._costs[at]:
            self._costs[at], self._parents[at] = cost, parent
            levels[cost].append(at)
        return at

    def _unpack(self, at: int) -> State:
        fold, life, todo, memory, *sites = self._pack.unpack(self._states[at])
        return State(fold, life, todo, memory, tuple(sites))

    def _visit(self, at: int, cost: int, levels: list[list[int]]) -> None:
        state = self._unpack(at)
        found: list[Successor] = []
        try:
            found.extend(self.model.successors(state, self.faults - cost))
            self._steps += len(found)
            calm = self.model.calm_step(state, found)
            if calm is None:
                self.model.check_rest(state)
        except Exception as error:  # the product contradicts itself, or a promise is broken
            raise self._counterexample(at, error) from error
        for successor in found:
            self._meet(successor.to, at, cost + successor.cost, levels)
        # A state that only people's kindness leads to is not one of those to be visited.
        self._calm[at] = 1 + (at if calm is None else self._meet(calm, at, cost, levels))

    def _follow_calm(self) -> int:
        """Every chain of calm steps has to end; the length of the longest."""
        lengths = array("I", bytes(4 * len(self._states)))
        for start in range(len(self._states)):
            chain_of, at = [], start
            seen = set()
            while not lengths[at]:
                after = self._calm[at] - 1
                if at in seen:
                    error = BrokenPromiseError(5, "it goes round and round, and never ends")
                    raise self._counterexample(at, error)
                seen.add(at)
                chain_of.append(at)
                if after == at:
                    break
                at = after
            length = lengths[at]
            for back in reversed(chain_of):
                length += 1
                lengths[back] = length
        return max(lengths)

    # -- telling ---------------------------------------------------------------------------

    def _counterexample(self, at: int, error: Exception) -> CounterexampleError:
        path = [at]
        while path[-1] != 0:
            path.append(self._parents[path[-1]])
        path.reverse()
        lines = [self._words_between(a, b) for a, b in pairwise(path)]
        told = "\n".join(f"{number + 1:3}. {line}" for number, line in enumerate(lines))
        promise = error.promise if isinstance(error, BrokenPromiseError) else 0
        return CounterexampleError(f"{error!r}\n{told}\n  then: {error!r}", promise)

    def _words_between(self, before: int, after: int) -> str:
        wanted = self._unpack(after)
        left = self.faults - self._costs[before]
        for successor in self.model.successors(self._unpack(before), left):
            if successor.to == wanted:
                return told_words(successor.words)
        return "a person lets go of what is held or paused"


def told_words(words: object) -> str:
    """A step, for a person."""
    match words:
        case ("commit", Commit() as commit):
            return "commit: " + ", ".join(map(_event_words, commit.events))
        case Operation(what, issue, attempt):
            return f"{what} #{issue}" + (f" a{attempt}" if attempt >= 0 else "")
        case (str() as doubt, Operation() as operation):
            return f"{told_words(operation)}, {doubt}"
        case (str() as who, str() as what):
            return f"#{who} {what}" if who.isdigit() else f"{who}: {what}"
    return str(words)


def _event_words(event) -> str:
    name = type(event).__struct_config__.tag
    issue = f" #{event.issue}" if hasattr(event, "issue") else ""
    to = f" -> {event.to}" if hasattr(event, "to") else ""
    return f"{name}{issue}{to}"
