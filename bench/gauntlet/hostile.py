"""A hostile world at full size: orchestrators that are started at the very same instant, 200 times.

The rest of the hostile world is tests/hostile, whole, in CI; of this race CI runs a tenth. In each
round two to four processes begin one batch at one instant, the winner is killed with -9 while its
agents work, and as many resume the batch at one instant. Exactly one wins each time, every loser
says so with exit 3, and each agent is executed once, by the agents' own ledger and by the promises.
"""

import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

from gauntlet.report import Row

import gangline

ROUNDS = 200
_TESTS = Path(__file__).resolve().parents[2] / "tests"
_PLACES = ("acceptance", "crash", "prove", "hostile")


def race(pool: Executor, seed: int, rounds: int = ROUNDS) -> Row:
    """Run them all; what was promised and not kept is printed."""
    sys.path += [str(_TESTS / name) for name in _PLACES if str(_TESTS / name) not in sys.path]
    dice = random.Random(seed)
    counts = [dice.choice([2, 2, 3, 4]) for _ in range(rounds)]
    began = time.monotonic()
    wrong = list(filter(None, pool.map(_race, itertools.count(), counts)))
    for problem in wrong:
        print(f"  {problem}", flush=True)
    name = f"orchestrators at one instant, begun, killed, resumed: {2 * sum(counts)} of them"
    return Row(name, rounds, rounds, rounds, 0, 0, len(wrong), time.monotonic() - began)


def _race(number: int, count: int) -> str:
    """What went wrong in one round; "" if nothing did."""
    from hostile_stage import HostileCrew
    from races import race_once

    with tempfile.TemporaryDirectory(prefix="gl-race-") as room:
        crew = HostileCrew(Path(room))
        # What races is the Gangline that judges, also where that is a copy.
        crew.environment["PYTHONPATH"] = str(Path(gangline.__path__[0]).parent)
        try:
            race_once(crew, number, count=count)
        except Exception as error:  # noqa: BLE001 - one round that fell over must not end the others
            return f"round {number} of {count}: {type(error).__name__}: {error}"
        finally:
            crew.close()
    return ""


def main(words: Iterable[str]) -> None:
    """SEED [ROUNDS]"""
    with ThreadPoolExecutor(3) as pool:
        print(race(pool, *map(int, words)).text())


if __name__ == "__main__":
    main(sys.argv[1:] or ["0"])
