"""`gangline history` shows the batches that are put away, reads only, and hides nothing."""

import json
import os
import re
from pathlib import Path

import pytest
from project import Project, assert_harmless

ONE = {"id": 1, "title": "One", "run": ["echo", "done"]}
FAILS = {"id": 2, "title": "Two \x1b[31m", "run": ["false"]}


@pytest.fixture
def shared(project: Project) -> Project:
    project.settings("[workspace]\nkind = 'shared'\n")
    return project


def history(
    project: Project,
    area: str | None = None,
    batch: str | None = None,
    *,
    as_json: bool = False,
    check: int = 0,
) -> tuple[str, str]:
    """What the command says on stdout and stderr; it changes nothing."""
    before = project.snapshot()
    words = [word for word in (area, batch) if word is not None]
    done = project.run("history", *words, *(["--json"] if as_json else []), check=check)
    assert_harmless(done.stdout)
    assert_harmless(done.stderr)
    assert project.snapshot() == before
    return done.stdout, done.stderr


def listed(project: Project, area: str | None = None, *, check: int = 0) -> list[dict]:
    return json.loads(history(project, area, as_json=True, check=check)[0])


def archive(project: Project, area: str, *issues: dict) -> Path:
    """Run a batch to its end and have it archived; its folder."""
    code = 1 if FAILS in issues else 0
    project.run("run", area, "--from", project.plan(issues), check=code)
    said = project.run("run", area, check=code).stdout
    found = re.search(r"archived in (\S+)\n", said)
    assert found
    return Path(found[1])


def damage(folder: Path) -> None:
    path = folder / "batch.journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"at":"2', b'"at":"3', 1)
    path.write_bytes(b"".join(lines))


def test_nothing_archived_is_said_and_is_no_error(shared):
    assert history(shared) == ("no batch has been archived yet\n", "")
    assert listed(shared) == []


def test_batches_of_every_area_are_listed_newest_last(shared):
    first = archive(shared, "work", ONE)
    second = archive(shared, "alpha", ONE, FAILS)
    third = archive(shared, "work", ONE)
    found = listed(shared)
    folders = [str(first), str(second), str(third)]
    assert [one["createdAt"] for one in found] == sorted(one["createdAt"] for one in found)
    assert [one["folder"] for one in found] == folders
    assert [one["outcome"] for one in found] == ["completed", "incomplete", "completed"]
    assert [one["name"] for one in found] == [os.path.basename(folder) for folder in folders]
    assert found[1]["counts"]["failed"] == 1
    assert found[0].keys() == {
        *("area", "name", "batchId", "folder", "createdAt", "endedAt", "counts", "outcome"),
        "error",
    }
    heads, *rows = history(shared)[0].splitlines()
    assert heads.split() == ["area", "batch", "began", "ended", "issues", "outcome"]
    assert re.fullmatch(
        rf"alpha +{second.name} +\S+ \d\d:\d\d +\S+ \d\d:\d\d +1 completed, 1 failed +incomplete",
        rows[1],
    )
    assert [one["folder"] for one in listed(shared, "work")] == [str(first), str(third)]


def test_one_batch_is_shown_as_run_showed_it_with_its_folder_and_logs(shared):
    issues = shared.plan([ONE, FAILS])
    shared.run("run", "work", "--from", issues, check=1)
    last = shared.run("run", "work", check=1).stdout
    (name,) = (one["name"] for one in listed(shared))
    said = history(shared, "work", name)[0]
    summary, _, rest = said.partition("Its folder: ")
    assert last.startswith(summary)
    folder = Path(rest.splitlines()[0])
    assert folder.name == name
    view = json.loads(history(shared, "work", name, as_json=True)[0])
    assert view["folder"] == str(folder)
    assert view["outcome"] == "incomplete"
    (attempt,) = view["issues"][0]["attempts"]
    assert Path(attempt["log"]).read_text() == "done\n"
    assert Path(attempt["log"]).is_relative_to(folder)


def test_batch_archived_under_a_taken_name_is_listed_by_its_folder(shared):
    folder = archive(shared, "work", ONE)
    folder.rename(f"{folder}-20260101T000000")
    (one,) = listed(shared)
    assert one["name"] == f"{folder.name}-20260101T000000"
    assert one["batchId"] == folder.name
    assert folder.name in history(shared, "work", one["name"])[0]


def test_damaged_batch_is_named_and_does_not_hide_the_others(shared):
    folder = archive(shared, "work", ONE)
    archive(shared, "work", ONE)
    damage(folder)
    found = listed(shared, check=4)
    assert [one["outcome"] for one in found] == ["damaged", "completed"]
    assert found[0]["counts"] is None
    assert found[0]["createdAt"]  # its first lines can still be read
    said, error = history(shared, check=4)
    assert re.search(rf"{folder.name} .*damaged", said)
    assert f"archived batch {folder.name} of area work is damaged" in error
    assert "damaged at line 3, byte " in error
    assert str(folder) in error.partition("hint: ")[2]


def test_damaged_batch_is_shown_as_far_as_it_can_be_read(shared):
    folder = archive(shared, "work", ONE)
    damage(folder)
    said, error = history(shared, "work", folder.name, check=4)
    assert said.startswith("As far as its journal can be read, 2 events:\nSummary of work")
    assert "is damaged" in error


@pytest.mark.parametrize("how", ["gone", "empty", "newer"])
def test_journal_of_which_nothing_can_be_read_is_damage(shared, how):
    folder = archive(shared, "work", ONE)
    archive(shared, "work", ONE)
    path = folder / "batch.journal.jsonl"
    if how == "gone":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.write_bytes(b'{"seq":1,"at":"","type":"batch-started","format":9}\n')
    found = listed(shared, check=4)
    assert sorted(one["outcome"] for one in found) == ["completed", "damaged"]
    assert history(shared, "work", folder.name, check=4)[0] == ""


def test_unknown_area_and_batch_are_refused_with_did_you_mean(shared):
    folder = archive(shared, "work", ONE)
    said = history(shared, "wrok", check=2)[1]
    assert "usage error: area wrok has no archived batch" in said
    assert "did you mean work?" in said
    said = history(shared, "work", folder.name[:-1], check=2)[1]
    assert f"did you mean {folder.name}?" in said
    for wrong in ("../work", ".."):
        assert "has no archived batch" in history(shared, "work", wrong, check=2)[1]
        assert "is not a usable name" in history(shared, wrong, check=2)[1]
