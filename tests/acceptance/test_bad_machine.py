"""A machine that lacks something: git, tmux, GitHub; a repository that is not ready."""

import json
import os

import pytest

ONE = {"id": 1, "title": "One", "run": ["true"]}
GITHUB = ("--from", "github:owner/repo", "--agent", "me")


# -- the repository ----------------------------------------------------------------------------


def test_worktrees_without_a_git_repository_are_refused(folder_without_git):
    folder_without_git.settings("[workspace]\nkind = 'worktree'\n")
    for said in folder_without_git.refusals("--from", folder_without_git.plan([ONE])):
        assert "input error: worktrees need a git repository" in said
        assert "at: gangline.toml: workspace.kind" in said
        assert "git init" in said


def test_shared_folder_serves_without_git(folder_without_git):
    project = folder_without_git
    project.settings("[workspace]\nkind = 'shared'\n")
    source = project.plan([{**ONE, "run": ["sh", "-c", "pwd > where"]}])
    env = project.only_programs("tmux", "sh", "cat")
    project.run("run", "work", "--from", source, check=0, env=env)
    assert (project.folder / "where").read_text() == f"{project.folder}\n"


def test_shared_folder_does_not_mind_uncommitted_changes(project):
    project.settings("[workspace]\nkind = 'shared'\n")
    project.run("plan", "work", "--from", project.plan([ONE]), check=0)


def test_uncommitted_changes_are_refused_where_agents_would_not_see_them(project):
    project.write(".gitignore", "/plan.json\n/other\n")
    source = project.plan([ONE])
    for said in project.refusals("--from", source):
        assert "input error: there are uncommitted changes, which the agents would not see" in said
        assert f"at: {project.folder}" in said
        assert "cause: .gitignore" in said
        assert "git stash" in said
    project.settings("[workspace]\nbase = 'main'\n")
    project.run("plan", "work", "--from", source, check=0)


def test_unfinished_merge_is_refused(project):
    project.git("switch", "--quiet", "--create", "other")
    project.write("file", "theirs")
    project.commit()
    project.git("switch", "--quiet", "main")
    project.git("merge", "--quiet", "--no-ff", "--no-commit", "other")
    for said in project.refusals("--from", project.plan([ONE])):
        assert "a merge is in progress" in said
        assert "git merge --abort" in said


def test_repository_without_a_commit_is_refused(folder_without_git):
    folder_without_git.git("init", "--quiet")
    for said in folder_without_git.refusals("--from", folder_without_git.plan([ONE])):
        assert "the repository has no commit yet" in said
        assert "git commit --allow-empty" in said


def test_unknown_base_is_refused_with_what_was_meant(project):
    project.git("branch", "release")
    project.settings("[workspace]\nbase = 'relaese'\n")
    for said in project.refusals("--from", project.plan([ONE])):
        assert "the base 'relaese' is no branch, tag or commit" in said
        assert "at: gangline.toml: workspace.base" in said
        assert "did you mean 'release'?" in said


def test_branch_with_unmerged_commits_is_refused_with_what_to_do(project):
    project.git("switch", "--quiet", "--create", "gangline/work/issue-1")
    project.write("work", "done")
    project.commit()
    project.git("switch", "--quiet", "main")
    for said in project.refusals("--from", project.plan([ONE])):
        assert "input error: branches of an earlier batch hold commits" in said
        assert "gangline/work/issue-1: 1 commit" in said
        assert "git branch -m gangline/work/issue-1 gangline/work/issue-1-kept" in said
        assert "git branch -D gangline/work/issue-1" in said


def test_branch_in_the_way_is_refused(project):
    project.git("branch", "gangline")
    for said in project.refusals("--from", project.plan([ONE])):
        assert "the branch gangline is in the way" in said
        assert "git branch -m gangline gangline-kept" in said


@pytest.mark.parametrize("kind", ["file", "link"])
def test_workspace_that_is_no_folder_is_refused_and_left_alone(project, kind):
    workspace = project.folder / ".workspace"
    if kind == "file":
        workspace.write_text("mine")
    else:
        workspace.symlink_to(project.room)
    said = project.refusal("run", "work", "--from", project.plan([ONE]))
    assert "input error: the workspace folder" in said
    assert f"at: {workspace}" in said
    assert "hint: " in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_may_not_be_written_is_refused(project):
    source = project.plan([ONE])
    project.folder.chmod(0o555)
    try:
        said = project.refusal("run", "work", "--from", source)
    finally:
        project.folder.chmod(0o755)
    assert "machine error: the workspace cannot be prepared" in said


def test_deleted_current_folder_is_refused(folder_without_git):
    gone = folder_without_git.room / "gone"
    script = f'cd {gone} && rmdir {gone} && exec "$0" -m gangline'
    for command in ("plan work", "status work", "run work", "list"):
        gone.mkdir()
        done = folder_without_git.run_shell(f"{script} {command}")
        assert done.returncode == 2, done.stderr
        assert "input error: the current folder has been deleted" in done.stderr
        assert "Traceback" not in done.stderr


# -- programs ----------------------------------------------------------------------------------


def test_missing_git_is_refused(project):
    source = project.plan([ONE])
    for said in project.refusals("--from", source, env=project.only_programs("tmux", "true")):
        assert "machine error: git cannot be started" in said
        assert "install git 2.30 or newer" in said


def test_old_git_is_refused(project):
    project.program("git", "echo git version 2.20.1")
    for said in project.refusals("--from", project.plan([ONE])):
        assert "machine error: git is too old: git version 2.20.1" in said
        assert "install git 2.30 or newer" in said


def test_missing_tmux_is_refused_and_plan_does_not_need_it(project):
    source, env = project.plan([ONE]), project.only_programs("git", "true")
    project.run("plan", "work", "--from", source, check=0, env=env)
    for more in ([], ["--detach"]):
        said = project.refusal("run", "work", "--from", source, *more, env=env)
        assert "machine error: " in said
        assert "tmux" in said
        assert "apt install tmux" in said


@pytest.mark.parametrize("version", ["tmux 2.9", "tmux 3.2", "tmux \x1b[31m", ""])
def test_tmux_that_is_too_old_is_refused(project, version):
    project.program("tmux", f"printf '%s\\n' '{version}'")
    said = project.refusal("run", "work", "--from", project.plan([ONE]))
    assert "machine error: tmux 3.2a or later is needed" in said
    assert "apt install tmux" in said


def test_tmux_that_cannot_be_executed_is_refused(project):
    env = project.only_programs("git", "true")
    project.program("tmux", "")
    (project.programs / "tmux").write_bytes(b"\x7fELF, but not really")
    said = project.refusal("run", "work", "--from", project.plan([ONE]), env=env)
    assert "machine error: " in said
    assert "apt install tmux" in said


# -- GitHub ------------------------------------------------------------------------------------


def test_missing_gh_is_refused_with_how_to_get_it(project):
    project.settings("[agents.me]\nstart = ['true']\n")
    for said in project.refusals(*GITHUB, env=project.only_programs("git", "tmux", "true")):
        assert "machine error: the program gh (GitHub CLI) is not installed" in said
        assert "https://cli.github.com" in said
        assert "gh auth login" in said


LIMITED = json.dumps({"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]})
LIMITS = json.dumps({"resources": {"graphql": {"remaining": 0, "reset": 4_000_000_000}}})


@pytest.mark.parametrize(
    ("script", "words", "hint"),
    [
        (
            "echo 'To get started with GitHub CLI, please run:  gh auth login' >&2; exit 4",
            "machine error: gh is not logged in to GitHub",
            "hint: gh auth login",
        ),
        (
            "echo 'gh: Bad credentials (HTTP 401)' >&2; exit 1",
            "machine error: gh is not logged in to GitHub",
            "hint: gh auth login",
        ),
        (
            f"case $2 in rate_limit) echo '{LIMITS}';; *) echo '{LIMITED}'; exit 1;; esac",
            "machine error: GitHub's rate limit is used up",
            "hint: try again after 2096-10-02 07:06 UTC",
        ),
        (
            "echo 'error connecting to api.github.com' >&2; exit 1",
            "machine error: GitHub cannot be reached",
            "hint: check the network",
        ),
        (
            "echo 'gh: Could not resolve to a Repository (HTTP 404)' >&2; exit 1",
            "input error: this repository does not exist, or this login may not see it",
            "hint: check its name",
        ),
        ("echo '<html>'", "machine error: gh gave an answer that cannot be read", "gh --version"),
        (
            "printf 'odd \\033[31m trouble' >&2; exit 1",
            "machine error: gh failed with exit code 1",
            "gh api graphql",
        ),
    ],
    ids=["no login", "bad login", "limited", "offline", "unknown", "no answer", "escapes"],
)
def test_failing_gh_is_refused_with_what_mends_it(project, script, words, hint):
    project.program("gh", script)
    for said in project.refusals(*GITHUB):
        assert words in said
        assert hint in said
