"""How a source is named: what is taken for what, and what is refused before anything is read."""

import subprocess
import sys

import pytest

from gangline.errors import InputError, UsageError
from gangline.sources.loading import load


def test_paths_are_relative_to_the_folder(tmp_path, monkeypatch):
    (tmp_path / "a" / "issues").mkdir(parents=True)
    (tmp_path / "a" / "issues" / "1.md").write_text("x")
    monkeypatch.chdir("/")
    assert load("issues/", str(tmp_path / "a")).description == "Markdown folder issues"
    assert load("issues", str(tmp_path / "a")).issues[0].place == "issues/1.md"
    assert load(".", str(tmp_path / "a" / "issues")).issues[0].place == "1.md"


def test_a_path_outside_the_folder_is_named_as_it_is(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "..b").mkdir()
    (tmp_path / "p.json").write_text('{"issues": [{"id": 1}]}')
    (tmp_path / "..b" / "1.md").write_text("x")
    path = str(tmp_path / "p.json")
    assert load(path, str(tmp_path / "a")).issues[0].place == f"{path}: issues[0]"
    assert load("..b", str(tmp_path)).issues[0].place == "..b/1.md"


@pytest.mark.parametrize("source", ["", "nowhere", "nowhere.toml", "x\0y", "githubby"])
def test_a_source_that_is_not_there_is_refused(tmp_path, source):
    with pytest.raises(InputError) as caught:
        load(source, str(tmp_path))
    assert "github:owner/repo" in caught.value.hint


@pytest.mark.parametrize(("name", "hint"), [("d/3.md", "--from d"), ("plan.txt", "rename it")])
def test_a_file_of_another_kind_is_refused(tmp_path, name, hint):
    (tmp_path / "d").mkdir()
    (tmp_path / name).write_text("x")
    with pytest.raises(InputError) as caught:
        load(name, str(tmp_path))
    assert hint in caught.value.hint


@pytest.mark.parametrize("arguments", [{"labels": ["bug"]}, {"assignee": "me"}])
def test_filters_for_a_source_without_them_are_refused_not_ignored(tmp_path, arguments):
    (tmp_path / "1.md").write_text("x")
    with pytest.raises(UsageError, match="GitHub"):
        load(".", str(tmp_path), **arguments)


@pytest.mark.parametrize("name", ["", "owner", "a/b/c", "-o/r", "o/r;x", "o /r", "@x/y"])
def test_a_repository_name_that_is_none_is_refused_before_gh_is_run(tmp_path, monkeypatch, name):
    monkeypatch.setenv("PATH", str(tmp_path))  # no gh: running it would be another error
    with pytest.raises(InputError, match="not the name of a repository"):
        load(f"github:{name}", str(tmp_path))


def test_importing_the_entry_costs_neither_yaml_nor_subprocess():
    program = (
        "import sys; before = set(sys.modules); import gangline.sources.loading\n"
        "print(sorted({'yaml', 'subprocess', 'tomllib'} & (set(sys.modules) - before)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "[]"
