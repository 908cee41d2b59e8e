"""Model checking of the real core: which batches are searched, how deep, and the figures.

    python tests/prove/model.py           what CI searches
    python tests/prove/model.py --full    everything

A depth is what the faults of one history may cost together: a crash of the orchestrator costs 1,
anything else 2 (model_steps). So depth 2 is every single fault, and every two crashes, also of a
recovery; depth 3 is a fault and a crash, or three crashes; depth 4 is any two faults.

Of shapes that differ only in the names of their issues one is searched: the names decide nothing
but which of two equals is dispatched first.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from multiprocessing import Pool
from typing import NamedTuple

import msgspec
from model_fold import ACCOUNT
from model_search import CounterexampleError, Found, Search
from model_steps import Model

from gangline.core.events import Policy
from gangline.core.usage import Limits


class Case(NamedTuple):
    """One batch to be searched.

    Attributes:
        needs: By issue, the places of the issues that it depends on.
        depth: What the faults of one history may cost.
    """

    name: str
    needs: tuple[tuple[int, ...], ...]
    depth: int
    on_failed_dependency: str = "run"
    retry_on_failure: bool = False
    panes: int = 2
    service: Policy | None = None  # with limits, questions, messages and budgets

    @property
    def policy(self) -> Policy:
        return msgspec.structs.replace(
            self.service or Policy(),
            max_concurrent=self.panes,
            retry_max=1,
            on_failed_dependency=self.on_failed_dependency,
            retry_on_failure=self.retry_on_failure,
        )

    def search(self) -> Found:
        """Visit every state.

        Raises:
            CounterexampleError: a promise is broken.
        """
        return Search(Model(self.needs, self.policy), self.depth).run()


ONE = ((),)
TWO = ((), ())
PAIR = ((), (0,))
INDEPENDENT = ((), (), ())
EDGE = ((), (0,), ())
CHAIN = ((), (0,), (1,))
FORK = ((), (0,), (0,))
JOIN = ((), (), (0, 1))
TRIANGLE = ((), (0,), (0, 1))
CHAIN_OF_FOUR = ((), (0,), (1,), (2,))
DIAMOND = ((), (0,), (0,), (1, 2))

# All agents share one account; a stalled one is ended.
SERVICE = Policy(accounts=(("demo", ACCOUNT),), stall_minutes=1.0, stall_action="retry")
BUDGETS = msgspec.structs.replace(
    SERVICE, budget=Limits(tokens=100.0), batch_budget=Limits(tokens=100.0)
)

IN_CI = [
    Case("one issue", ONE, 4),
    Case("one issue, failures are retried", ONE, 2, retry_on_failure=True),
    Case("two issues, one after the other, skipped after a failure", PAIR, 2, "skip"),
    Case("two issues side by side", TWO, 1),
    Case("chain of three", CHAIN, 2),
    Case("join of three", JOIN, 1),
    Case("diamond", DIAMOND, 1),
    Case("one issue, with a service", ONE, 3, service=SERVICE),
    Case("one issue, with budgets", ONE, 2, service=BUDGETS),
    Case("two issues side by side, with a service", TWO, 2, panes=1, service=SERVICE),
    Case("two issues, one after the other, with budgets", PAIR, 2, service=BUDGETS),
]
EVERYTHING = [
    Case("three issues side by side", INDEPENDENT, 2),
    Case("one edge and one beside it", EDGE, 2),
    Case("chain of three", CHAIN, 3),
    Case("fork of three", FORK, 2),
    Case("join of three", JOIN, 2),
    Case("triangle", TRIANGLE, 2),
    Case("chain of four", CHAIN_OF_FOUR, 2),
    Case("diamond", DIAMOND, 2),
    Case("chain of three, skipped after a failure", CHAIN, 2, "skip"),
    Case("one issue", ONE, 5),
    Case("two issues, one after the other", PAIR, 4),
    Case("two issues side by side", TWO, 3),
    Case("one issue, with a service", ONE, 4, service=SERVICE),
    Case("one issue, with budgets", ONE, 4, service=BUDGETS),
    Case("two issues side by side, with a service", TWO, 3, panes=1, service=SERVICE),
    Case("two issues, one after the other, with budgets", PAIR, 3, service=BUDGETS),
]


class Figures(NamedTuple):
    """What one search came to: see Found; seconds of the processor."""

    case: Case
    found: Found | None
    error: str
    seconds: float


def searched(case: Case) -> Figures:
    """Search, and say how it went."""
    begun = time.process_time()
    try:
        found, error = case.search(), ""
    except CounterexampleError as broken:
        found, error = None, str(broken)
    return Figures(case, found, error, time.process_time() - begun)


def search_all(cases: Sequence[Case], processes: int) -> Iterable[Figures]:
    """Search them all, a process each."""
    with Pool(processes, maxtasksperchild=1) as pool:
        yield from pool.imap_unordered(searched, cases, chunksize=1)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Visit every state of small batches.")
    parser.add_argument("--full", action="store_true", help="every shape, as deep as is feasible")
    parser.add_argument("--only", default="", help="cases whose name has this text")
    parser.add_argument("--depth", type=int, help="instead of each case's own")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    chosen = parser.parse_args(arguments)
    cases = [c for c in (EVERYTHING if chosen.full else IN_CI) if chosen.only in c.name]
    if chosen.depth is not None:
        cases = [case._replace(depth=chosen.depth) for case in cases]
    print(f"{'states':>10} {'steps':>11} {'folds':>7} {'to end':>6} {'seconds':>8}  depth, batch")
    states = steps = 0
    failed = False
    for case, found, error, seconds in search_all(cases, chosen.processes):
        if found is None:
            failed = True
            print(f"{case.name}, depth {case.depth}: {error}", flush=True)
            continue
        states, steps = states + found.states, steps + found.steps
        print(
            f"{found.states:10,} {found.steps:11,} {found.folds:7,} {found.calm_steps_max:6} "
            f"{seconds:8.1f}  {case.depth} {case.name}",
            flush=True,
        )
    print(f"{states:10,} {steps:11,} in all")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
