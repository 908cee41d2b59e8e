"""Mistakes planted in a copy of the program: the simulation has to find them.

`make planted` plants all of them for all proofs (bench/PLANTED.md); here are those that the
simulation finds, as changed source. That it finds nothing in the true program is
test_simulation.py's.
"""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))

from gauntlet.mutations import HOSTILE, MODEL, MUTATIONS, SIMULATION
from gauntlet.planted import changed, run_checker

FOUND_BY_SIMULATION = [planted for planted in MUTATIONS if SIMULATION in planted.caught_by]


@pytest.mark.parametrize("planted", FOUND_BY_SIMULATION, ids=lambda planted: planted.name)
def test_mistake_is_found(planted, tmp_path):
    caught = run_checker(planted, SIMULATION, tmp_path)
    assert caught.caught, caught.why


@pytest.mark.parametrize("planted", MUTATIONS, ids=lambda planted: planted.name)
def test_mistake_is_one_that_the_source_can_have(planted):
    assert changed(planted)
    assert planted.caught_by
    assert all(checker.startswith((MODEL, SIMULATION, HOSTILE)) for checker in planted.caught_by)
