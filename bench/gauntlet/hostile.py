"""A hostile world at full size: orchestrators that are started at the very same instant, 200 times.

The rest of the hostile world is tests/hostile, whole, in CI; of this race CI runs a tenth. In each
round two to four processes begin one batch at one instant, the winner is killed with -9 while its
agents work, and as many resume the batch at one instant. Exactly one wins each time, every loser
says so with exit 3, and each agent is executed once, by the agents' own ledger and by the promises.
"""

import random
import sys
import tempfile
from pathlib import Path

ROUNDS = 200
_TESTS = Path(__file__).resolve().parents[2] / "tests"
_PLACES = ("acceptance", "crash", "prove", "hostile")


def main(seed: int, rounds: int = ROUNDS) -> list[tuple[str, int, list[str]]]:
    """Run them all.

    Returns:
        A row for each kind of fault: what was done, how often, and what was promised and not kept.
    """
    sys.path += [str(_TESTS / name) for name in _PLACES if str(_TESTS / name) not in sys.path]
    from hostile_stage import HostileCrew
    from races import race_once

    dice = random.Random(seed)
    wrong, racers = [], 0
    for number in range(rounds):
        count = dice.choice([2, 2, 3, 4])
        racers += 2 * count
        with tempfile.TemporaryDirectory(prefix="gl-race-") as room:
            crew = HostileCrew(Path(room))
            try:
                race_once(crew, number, count=count)
            except AssertionError as error:
                wrong.append(f"seed {seed}, round {number} of {count}: {error}")
            finally:
                crew.close()
    return [
        ("rounds of orchestrators at one instant, begun, killed and resumed", rounds, wrong),
        ("orchestrators in them", racers, []),
    ]


if __name__ == "__main__":
    for what, count, problems in main(*map(int, sys.argv[1:] or ["0"])):
        print(f"{count:6} {what}", *problems, sep="\n  ")
