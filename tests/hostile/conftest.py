"""Fixtures of the hostile world. The crew of the crash tests plays here too."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent.parent
for _folder in ("crash", "prove"):
    if str(_TESTS / _folder) not in sys.path:
        sys.path.append(str(_TESTS / _folder))

pytest.register_assert_rewrite("hostile_stage", "promises")

from hostile_stage import HostileCrew, LateLaunch  # noqa: E402 - found by the lines above


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[HostileCrew]:
    """A project whose agents keep a ledger, in one shared folder; all is ended afterwards."""
    made = HostileCrew(tmp_path)
    yield made
    made.close()


@pytest.fixture
def late_launch(crew: HostileCrew) -> LateLaunch:
    """Two issues: the first runs, the second's launch is with a tmux server that hangs."""
    return LateLaunch(crew)
