"""Fixtures of the acceptance tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A git repository with one commit and a private tmux server, all ended afterwards."""
    made = Project(tmp_path)
    yield made
    made.close()


@pytest.fixture
def folder_without_git(tmp_path: Path) -> Iterator[Project]:
    """The same in a folder that is no git repository."""
    made = Project(tmp_path, git=False)
    yield made
    made.close()
