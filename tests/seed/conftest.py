"""The recovery document as a test: its copy stands beside this file (README.md says whence)."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("team")
# crew.py: agents with a ledger; behind everything else, so that its conftest.py is not found first.
sys.path.append(str(Path(__file__).resolve().parents[1] / "crash"))

from team import Team  # noqa: E402 - needs the path above


@pytest.fixture
def make_team(tmp_path: Path) -> Iterator[Callable[..., Team]]:
    """Makes teams of the specification's shell; everything is ended afterwards."""
    made: list[Team] = []

    def make(**options: object) -> Team:
        made.append(Team(tmp_path / f"team-{len(made)}", **options))
        return made[-1]

    yield make
    for team in made:
        team.close()


@pytest.fixture
def team(make_team: Callable[..., Team]) -> Team:
    """An orchestrator's session with three idle panes, shims installed."""
    return make_team()
