"""Fixtures of the tests with real coding agents (`make test-agents`)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("agent_project")

from agent_project import AgentProject  # noqa: E402 - its asserts are rewritten first


@pytest.fixture
def project(tmp_path: Path) -> Iterator[AgentProject]:
    """A repository for real agents with a stub model server, all ended afterwards."""
    made = AgentProject(tmp_path)
    yield made
    made.close()
