"""What is in the way, full or slow outside of Gangline: said or lived with, never a traceback."""

import os

import pytest
from project import assert_harmless

from gangline.hosts.tmux import Socket, Tmux

ISSUES = [
    {"id": 1, "title": "One", "run": ["true"]},
    {"id": 2, "title": "Two", "run": ["true"], "depends_on": [1]},
]


@pytest.fixture
def shared(project):
    """A project whose issues need no worktree, and its plan file."""
    project.settings("[workspace]\nkind = 'shared'\n")
    project.plan(ISSUES)
    return project


@pytest.mark.parametrize("kind", ["file", "folder", "link to nowhere"])
def test_what_is_in_the_wake_pipes_place_is_kept_and_the_run_goes_on(shared, kind):
    shared.area().mkdir(parents=True)
    wake = shared.area() / "wake"
    match kind:
        case "file":
            wake.write_text("mine")
        case "folder":
            wake.mkdir()
        case _:
            wake.symlink_to(shared.room / "nowhere")
    done = shared.run("run", "work", "--from", "plan.json", check=0)
    assert "Traceback" not in done.stderr
    assert shared.statuses() == {"1": "completed", "2": "completed"}
    assert os.path.lexists(shared.area() / "wake.rejected-1")
    assert wake.is_fifo()


@pytest.mark.parametrize("streams", [">/dev/full", ">/dev/full 2>&1"])
def test_full_output_ends_the_run_with_its_exit_code_and_loses_nothing(shared, streams):
    done = shared.run_shell(f'exec "$0" -m gangline run work --from plan.json {streams}')
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    shared.run("run", "work", check=0)
    assert shared.statuses() == {"1": "completed", "2": "completed"}
    attempts = [len(issue["attempts"]) for issue in shared.status()["issues"]]
    assert attempts == [1, 1]


@pytest.mark.parametrize("name", ["batch.journal.jsonl", "batch.state.json"])
def test_folder_in_the_place_of_a_file_is_named(shared, name):
    shared.run("run", "work", "--from", "plan.json", check=0)
    path = shared.area() / name
    path.unlink()
    path.mkdir()
    for argv in (("status", "work"), ("run", "work"), ("pause", "work")):
        said = shared.refusal(*argv, code=4)
        assert f"at: {path}" in said
        assert "hint: " in said


def test_file_in_the_place_of_the_locks_folder_is_named(shared):
    shared.run("run", "work", "--from", "plan.json", check=0)
    locks = shared.area().parent / ".locks"
    locks.rename(shared.room / "locks")
    locks.touch()
    for argv in (("run", "work"), ("pause", "work")):
        assert f"at: {locks}/work." in shared.refusal(*argv, code=4)


def test_settings_of_tmux_that_take_long_are_waited_for(shared):
    settings = shared.room / "slow.conf"
    settings.write_text('run-shell "sleep 1"\n')  # ten times what a command may take
    tmux = Tmux(Socket("path", str(shared.socket)), timeout_seconds=0.1, config=str(settings))
    assert tmux.ensure_session("gangline-work", "owner") == "gangline-work"
    assert shared.tmux("list-sessions", "-F", "#{session_name}").stdout == "gangline-work\n"


def test_git_folder_that_went_away_is_not_made_anew(project):
    plan = project.plan([{**ISSUES[0], "run": ["sh", "-c", f"mv {project.folder}/.git away"]}])
    project.run("run", "work", "--from", plan, check=0)
    assert not (project.folder / ".git").exists()
    project.run("status", "work")
    project.run("retry", "work", "1")
    project.run("run", "work")
    assert not (project.folder / ".git").exists()


def test_words_of_a_hook_that_stop_the_orchestrator_cannot_act_on_a_terminal(project):
    project.plan(ISSUES)
    words = "\\033[31m\\033]0;title\\007cp: /x: No space left on device"
    script = f"#!/bin/sh\nprintf '{words}\\n' >&2\nexit 1\n"
    hook = project.write(".git/hooks/post-checkout", script)
    hook.chmod(0o755)
    said = project.run("run", "work", "--from", "plan.json", check=4)
    texts = [said.stdout, said.stderr]
    for command in ("status", "doctor", "history", "run"):
        done = project.run(command, "work")
        texts += [done.stdout, done.stderr]
    for text in texts:
        assert_harmless(text)
    assert sum("title" in text for text in texts) >= 6
    hook.unlink()
    project.run("run", "work", check=0)


def test_disk_that_refuses_a_worktree_ends_the_run_and_costs_no_issue_anything(project):
    project.plan(ISSUES)
    in_the_way = project.write(".workspace/worktrees", "")
    said = project.run("run", "work", "--from", "plan.json", check=4).stderr
    assert "the workspace of #1 cannot be made" in said
    assert "then run the same command again" in said
    assert project.statuses() == {"1": "pending", "2": "blocked"}
    stopped = project.status()["orchestrator"]["stopped"]
    assert stopped.startswith("error: the workspace of #1 cannot be made: ")
    assert f"the orchestrator stopped: {stopped}" in project.run("status", "work").stdout
    in_the_way.unlink()
    assert f"its orchestrator stopped ({stopped})" in project.run("run", "work", check=0).stdout
    assert project.statuses() == {"1": "completed", "2": "completed"}
