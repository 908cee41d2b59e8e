"""Every pass that an orchestrator may make from where it stands.

A look and the transaction that follows it are one step of the model: no step of an attempt reads
the journal, so whatever happens between the two may as well happen after both, and what a person
says between them may as well be said before both.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain, combinations
from typing import NamedTuple

from model_fold import Commit, Frozen, ledger_of
from model_look import Angle, Glance, glances, of_attempt
from model_orchestrator import Life, decide
from model_parts import Parts
from model_world import NOWHERE
from promises import AgentGone, AgentStarted, BrokenPromiseError, Decided, Promises, Witness

from gangline.core.events import AnyEvent, ConditionChanged, Dispatched, Ended, Outcome
from gangline.core.evidence import Evidence


class Pass(NamedTuple):
    """One pass that the orchestrator may make from a state."""

    words: str
    cost: int
    calm: int | None
    life: int
    todo: int
    changes: tuple[tuple[int, int], ...]  # of sites, by what happened during the look
    witnesses: tuple[Witness, ...]


class Passes:
    """The passes of one model."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._decided = lru_cache(None)(self._decide)
        self.from_here = lru_cache(None)(self._find)

    def _find(self, fold: int, life: int, sites: tuple[int, ...], faults: bool) -> tuple[Pass, ...]:
        """Every pass from here: any choice of attempts, any look at one of them, early or late."""
        frozen, living = self._parts.folds.things[fold], self._parts.lives.things[life]
        places = [p for p in range(len(self._parts.keys)) if frozen.open_number(p) >= 0]
        found: dict[tuple, Pass] = {}
        all_subsets = chain.from_iterable(
            combinations(places, size) for size in range(len(places), -1, -1)
        )
        for chosen in all_subsets:
            for looks in self._looks(frozen, living, sites, chosen, faults):
                is_plain = not any(glance.words for _, glance in looks)
                for late in (False, True) if is_plain else (False,):
                    made = self._pass(frozen, living, sites, looks, late)
                    if made is None:
                        continue
                    calm = len(chosen) == len(places) and is_plain
                    made = made._replace(calm=5 + late if calm else None)
                    key = (made.life, made.todo, made.changes, made.witnesses)
                    if key not in found or found[key].cost > made.cost:
                        found[key] = made
        return tuple(found.values())

    def _looks(
        self,
        frozen: Frozen,
        life: Life,
        sites: tuple[int, ...],
        chosen: tuple[int, ...],
        faults: bool,
    ) -> Iterator[tuple[tuple[int, Glance], ...]]:
        """What looking at these attempts may bring.

        Attempts know nothing of each other, so what a probe that fails or is overtaken does is
        found by looking at one alone; several are looked at in one instant.
        """
        every = []
        for place in chosen:
            attempt = frozen.issues[place].attempt
            assert attempt is not None
            site = self._parts.sites.things[sites[place]]
            angle = Angle(attempt.server, attempt.launched, life.server)
            every.append(glances(site.attempt(attempt.number), site.signal, angle))
        plain = tuple((place, every[at][0]) for at, place in enumerate(chosen))
        yield plain
        if len(chosen) == 1:
            for glance in every[0][1:]:
                if faults or not glance.cost:
                    yield ((chosen[0], glance),)

    def _pass(
        self,
        frozen: Frozen,
        life: Life,
        sites: tuple[int, ...],
        looks: tuple[tuple[int, Glance], ...],
        late: bool,
    ) -> Pass | None:
        evidence: list[tuple[str, Evidence]] = []
        changes: list[tuple[int, int]] = []
        witnesses: list[Witness] = []
        cost, words = 0, []
        for place, glance in looks:
            key, number = self._parts.keys[place], frozen.open_number(place)
            seen = of_attempt(glance.seen, number, doubted=key in life.unknown)
            evidence.append((key, seen))
            cost += glance.cost
            words.append(f"#{key}{glance.words}")
            site = self._parts.sites.things[sites[place]]
            local = site.attempt(number)
            if late and local is not None and (local.coming or local.place != NOWHERE):
                cost += 1  # slower than anything should be
            for step in glance.meanwhile:
                if step.started:
                    witnesses.append(AgentStarted(key, number))
                elif step.gone:
                    witnesses.append(AgentGone(key, number))
            if glance.meanwhile:
                site = site.put(number, glance.meanwhile[-1].to)
                changes.append((place, self._parts.sites.number(site)))
        looked = tuple((key, self._parts.seen.number(seen)) for key, seen in evidence)
        fold, living = self._parts.folds.number(frozen), self._parts.lives.number(life)
        decision = self._decided(fold, living, looked, late)
        if late and decision == self._decided(fold, living, looked, False):
            return None
        return Pass(
            ", ".join(words) + (", long after" if late else ""),
            cost,
            None,
            *decision,
            tuple(changes),
            tuple(witnesses),
        )

    def _decide(
        self, fold: int, life: int, looked: tuple[tuple[str, int], ...], late: bool
    ) -> tuple[int, int]:
        """The pass itself: the orchestrator's memory after it, and what it sets out to do."""
        frozen = self._parts.folds.things[fold]
        evidence = tuple((key, self._parts.seen.things[seen]) for key, seen in looked)
        decision = decide(frozen, self._parts.lives.things[life], evidence, late)
        other_boot = frozenset(
            key
            for key, issue in zip(self._parts.keys, frozen.issues, strict=True)
            if issue.attempt is not None and not issue.attempt.same_boot
        )
        if not late:
            _check_limits(
                frozen, [e for c in decision.trace if isinstance(c, Commit) for e in c.events]
            )
        Promises(ledger_of(frozen)).observe(
            Decided(dict(evidence), *decision.decided, rebooted=other_boot)
        )
        return self._parts.lives.number(decision.life), self._parts.traces.number(decision.trace)


def _check_limits(frozen: Frozen, events: Sequence[AnyEvent]) -> None:
    """Before a limit has ended nothing that met it, or shares its account, is dispatched."""
    limited = {
        str(place + 1)
        for place, issue in enumerate(frozen.issues)
        if issue.attempt is not None and issue.attempt.is_limited
    }
    for event in events:
        match event:
            case ConditionChanged():
                limited.discard(event.issue)
                if event.until is not None:
                    limited.add(event.issue)
            case Ended():
                early = event.outcome is Outcome.LIMITED and event.issue in limited
                if early and frozen.stop not in ("kill", "finish"):
                    raise BrokenPromiseError(3, f"#{event.issue} goes on before its limit ends")
                limited.discard(event.issue)
            case Dispatched() if limited:
                raise BrokenPromiseError(3, f"#{event.issue} is dispatched while {limited} wait")
