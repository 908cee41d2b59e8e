"""Fixtures of the crash tests: real agents, real panes, real kills."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from crew import Crew


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    """A project whose agents keep a ledger; everything is ended afterwards."""
    made = Crew(tmp_path)
    yield made
    made.close()
