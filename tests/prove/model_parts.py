"""The parts of a state, each kept once and known by its number.

So a state is a few small numbers: it is copied, compared and remembered cheaply, and what was
worked out once for a part is never worked out again.
"""

from typing import NamedTuple

from model_fold import Frozen
from model_orchestrator import Life
from model_world import Site

CRASH, FAULT = 1, 2  # what they cost: two crashes of the orchestrator weigh as much as one fault


class State(NamedTuple):
    """A state, every part by its number in the tables."""

    fold: int
    life: int
    todo: int
    memory: int
    sites: tuple[int, ...]


class Successor(NamedTuple):
    """A state after one step. `calm`: the lower, the sooner it is done when nothing goes wrong."""

    words: object
    to: State
    cost: int = 0
    calm: int | None = None


class Table:
    """Equal things get equal numbers."""

    def __init__(self) -> None:
        self.things: list = []
        self._numbers: dict = {}

    def number(self, thing) -> int:
        number = self._numbers.get(thing)
        if number is None:
            number = self._numbers[thing] = len(self.things)
            self.things.append(thing)
        return number


class Parts:
    """The tables of one model: what every part of a state can be."""

    def __init__(self, issues: int) -> None:
        self.keys = [str(place + 1) for place in range(issues)]
        self.folds, self.lives, self.traces = Table(), Table(), Table()
        self.memories, self.sites, self.commits = Table(), Table(), Table()
        self.seen = Table()
        self.dead = self.lives.number(None)
        self.idle = self.traces.number(())

    def fold_of(self, state: State) -> Frozen:
        return self.folds.things[state.fold]

    def life_of(self, state: State) -> Life | None:
        return self.lives.things[state.life]

    def site(self, state: State, place: int) -> Site:
        return self.sites.things[state.sites[place]]
