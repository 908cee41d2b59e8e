"""Repository location and worktrees, against real git: odd paths, refusals, and every crash."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest

from gangline.errors import ConfigError, InputError, MachineError, StateError
from gangline.workspaces.git import git_environment, run_git
from gangline.workspaces.repository import Place, create_workspace, locate, workspace_folder
from gangline.workspaces.worktrees import GitWorktrees, SharedFolder, Workspace

TEMPLATE = "gangline/{area}/issue-{issue}"
ENSURE = """
import sys
import time
from gangline.workspaces.repository import locate
from gangline.workspaces.worktrees import GitWorktrees
worktrees = GitWorktrees(locate(sys.argv[1]), "client", None, "gangline/{area}/issue-{issue}")
for issue in sys.argv[2:]:
    print(worktrees.ensure(issue, worktrees.base_commit()).git_dir)
"""


@pytest.fixture(autouse=True)
def _own_git_settings(tmp_path_factory, monkeypatch):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    config = tmp_path_factory.mktemp("settings") / "gitconfig"
    config.write_text(
        "[user]\nname = Tester\nemail = tester@example.org\n[init]\ndefaultBranch = main\n"
        '[protocol "file"]\nallow = always\n[gc]\nauto = 0\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def git(folder, *arguments, code=0):
    answer = run_git(arguments, str(folder))
    assert answer.code == code, answer.messages
    return answer.output.removesuffix("\n")


def make_repository(folder):
    folder.mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "README").write_text("one\n")
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "code").write_text("two\n")
    (folder / ".gitignore").write_text("ignored\n")
    return commit(folder)


def commit(folder, name=None, text="more\n"):
    if name is not None:
        (folder / name).write_text(text)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--no-verify", "-m", "work")
    return folder


@pytest.fixture
def repository(tmp_path):
    return make_repository(tmp_path / "project")


def worktrees_of(folder, base=None, area="client", template=TEMPLATE):
    return GitWorktrees(locate(str(folder)), area, base, template)


def ensure(worktrees, issue="1"):
    return worktrees.ensure(issue, worktrees.base_commit())


def assert_whole(worktrees, workspace, issue="1"):
    """Git itself, asked in the folder, agrees that this is a whole worktree on its branch."""
    assert workspace.path == worktrees.path(issue)
    assert worktrees.registered(workspace) is None
    assert git(workspace.path, "rev-parse", "--absolute-git-dir") == workspace.git_dir
    assert git(workspace.path, "symbolic-ref", "--short", "HEAD") == workspace.branch
    assert not os.path.exists(f"{workspace.path}.making")
    with open(os.path.join(workspace.path, "deep", "er", "code")) as file:
        assert file.read() == "two\n"
    commit_in(workspace)


def commit_in(workspace):
    git(workspace.path, "commit", "--quiet", "--allow-empty", "-m", "an agent can commit")


def snapshot(folder):
    """Everything that a refusal must not change: files, refs and worktrees."""
    return sorted(
        (root, tuple(sorted(names)), tuple(sorted(files))) for root, names, files in os.walk(folder)
    ), git(folder, "for-each-ref")


# --- where the repository is


@pytest.mark.parametrize(
    "name", ["plain", "two words", 'it\'s "quoted"', "über-이슈", "new\nline", "-n", "$(id)`id`"]
)
def test_every_folder_of_a_repository_means_the_same_place(tmp_path, name):
    folder = make_repository(tmp_path / name)
    top = os.path.realpath(folder)
    place = Place(top, os.path.join(top, ".git"))
    worktrees = worktrees_of(folder)
    worktrees.prepare_batch(["1"])
    workspace = ensure(worktrees)
    git(folder, "worktree", "add", "--quiet", "--detach", "--", str(tmp_path / f"{name} linked"))
    for inside in (
        *(folder, folder / "deep" / "er", folder / ".git" / "refs", tmp_path / f"{name} linked"),
        *(workspace.path, os.path.join(workspace.path, "deep")),
    ):
        assert locate(str(inside)) == place
    assert_whole(worktrees, workspace)
    worktrees.prepare_batch(["2"])


def test_usual_layouts_are_found_without_starting_a_process(repository, tmp_path, monkeypatch):
    git(repository, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    make_repository(tmp_path / "library")
    git(repository, "submodule", "--quiet", "add", str(tmp_path / "library"), "sub")
    monkeypatch.setenv("PATH", str(tmp_path))
    place = locate(str(repository / "deep"))
    assert place == locate(str(tmp_path / "linked"))
    submodule = locate(str(repository / "sub" / "deep"))
    assert submodule.top == os.path.realpath(repository / "sub")
    assert submodule.git_dir == os.path.join(place.git_dir, "modules", "sub")
    assert locate(str(tmp_path)) == Place(os.path.realpath(tmp_path), None)


def test_worktrees_of_a_submodule_know_their_submodule(repository, tmp_path):
    make_repository(tmp_path / "library")
    git(repository, "submodule", "--quiet", "add", str(tmp_path / "library"), "sub")
    worktrees = worktrees_of(repository / "sub")
    worktrees.prepare_batch(["1"])
    workspace = ensure(worktrees)
    assert locate(workspace.path) == locate(str(repository / "sub"))
    assert_whole(worktrees, workspace)


def test_bare_repositories_have_one_place(repository, tmp_path):
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), "store.git")
    git(tmp_path, "clone", "--quiet", "--bare", str(repository), "hidden/.bare")
    (tmp_path / "hidden" / ".git").write_text("gitdir: ./.bare\n")
    for bare, top in (("store.git", "store.git"), ("hidden/.bare", "hidden")):
        git(tmp_path / bare, "worktree", "add", "--quiet", "--detach", str(tmp_path / f"w-{top}"))
        expected = Place(os.path.realpath(tmp_path / top), os.path.realpath(tmp_path / bare))
        for inside in (tmp_path / bare / "refs", tmp_path / f"w-{top}" / "deep", tmp_path / top):
            assert locate(str(inside)) == expected
        worktrees = worktrees_of(tmp_path / bare)
        worktrees.prepare_batch(["1"])
        assert_whole(worktrees, ensure(worktrees))


def test_a_separate_git_folder_has_one_place(tmp_path):
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--separate-git-dir", str(tmp_path / "store"))
    commit(folder, "README")
    workspace = ensure(worktrees_of(folder))
    expected = Place(os.path.realpath(folder), os.path.realpath(tmp_path / "store"))
    assert locate(str(folder)) == locate(workspace.path) == expected
    git(folder, "worktree", "add", "--quiet", "--detach", str(tmp_path / "linked"))
    with pytest.raises(InputError, match="main worktree"):
        locate(str(tmp_path / "linked"))


def test_git_dir_of_the_caller_is_honoured_and_kept_from_later_commands(
    repository, tmp_path, monkeypatch
):
    other = make_repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert locate(str(repository)).top == os.path.realpath(other)
    assert "GIT_DIR" not in git_environment()
    assert_whole(worktrees_of(repository), ensure(worktrees_of(repository)))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nothing"))
    with pytest.raises(InputError, match="refuses"):
        locate(str(repository))


def test_a_broken_git_file_is_refused_not_taken_for_the_folder_above(repository):
    (repository / "deep" / ".git").write_text("gitdir: ../gone\n")
    with pytest.raises(InputError, match=r"not where its \.git file says"):
        locate(str(repository / "deep" / "er"))


# --- .workspace


@pytest.mark.parametrize("before", [None, b"", b"mine\n", b"mine", b"/.workspace/\n"])
def test_the_workspace_is_private_and_excluded_once(repository, before):
    exclude = repository / ".git" / "info" / "exclude"
    exclude.unlink()
    if before is not None:
        exclude.write_bytes(before)
    place = locate(str(repository))
    for _ in range(2):
        create_workspace(place)
    assert stat.S_IMODE(os.stat(workspace_folder(place)).st_mode) == 0o700
    lines = exclude.read_bytes().splitlines()
    assert lines == ([b"mine"] if before and b"mine" in before else []) + [b"/.workspace/"]
    (repository / ".workspace" / "file").write_text("")
    assert git(repository, "status", "--porcelain") == ""


def test_an_unsafe_workspace_is_refused(repository, tmp_path):
    place = locate(str(repository))
    folder = repository / ".workspace"
    folder.symlink_to(tmp_path)
    with pytest.raises(InputError, match="symbolic link"):
        create_workspace(place)
    folder.unlink()
    folder.mkdir()
    folder.chmod(0o770)
    with pytest.raises(InputError, match="writable by other users") as caught:
        create_workspace(place)
    assert "chmod 700" in caught.value.hint
    if os.geteuid() == 0:
        folder.chmod(0o700)
        os.chown(folder, 12345, -1)
        with pytest.raises(InputError, match="another user"):
            create_workspace(place)


# --- before a new batch


def no_commit(folder):
    git(folder, "update-ref", "-d", "HEAD")


def reftable(folder):
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/.invalid\n")


def changed_file(folder):
    (folder / "README").write_text("changed\n")


def merge(folder):
    git(folder, "branch", "other")
    commit(folder, "README", "ours\n")
    git(folder, "switch", "--quiet", "other")
    commit(folder, "README", "theirs\n")
    git(folder, "merge", "main", code=1)


def rebase(folder):
    merge(folder)
    git(folder, "merge", "--abort")
    git(folder, "rebase", "main", code=1)


def unmerged(folder):
    git(folder, "switch", "--quiet", "--create", "gangline/client/issue-1")
    commit(commit(folder, "a"), "b")
    git(folder, "switch", "--quiet", "main")


def elsewhere(folder):
    git(folder, "worktree", "add", "-b", "gangline/client/issue-1", f"{folder} elsewhere")


def blocking_above(folder):
    git(folder, "branch", "gangline")


def blocking_below(folder):
    git(folder, "branch", "gangline/client/issue-1/more")


def dirty_leftover(folder):
    workspace = ensure(worktrees_of(folder))
    with open(os.path.join(workspace.path, "new"), "w"):
        pass


def astray(folder):
    git(ensure(worktrees_of(folder)).path, "switch", "--quiet", "--detach")


def foreign(folder):
    make_repository(folder / ".workspace" / "worktrees" / "client" / "issue-1")


@pytest.mark.parametrize(
    ("spoil", "message", "hint"),
    [
        (no_commit, "no commit yet", "git commit --allow-empty"),
        (reftable, "reftable", "git refs migrate"),
        (changed_file, "uncommitted changes", "git stash"),
        (merge, "merge is in progress", "git merge --abort"),
        (rebase, "rebase is in progress", "git rebase --abort"),
        (unmerged, "hold commits.*issue-1", "git branch -m"),
        (elsewhere, "checked out in another worktree", "git worktree remove"),
        (blocking_above, "branch gangline is in the way", "git branch -m gangline "),
        (blocking_below, "issue-1/more is in the way", "git branch -m"),
        (dirty_leftover, "hold uncommitted changes", "stash -u"),
        (astray, "instead of the branch", "switch gangline/client/issue-1"),
        (foreign, "not a worktree of this repository", "mv "),
    ],
)
def test_a_batch_that_would_hurt_is_refused_before_anything_changes(
    repository, spoil, message, hint
):
    worktrees_of(repository).prepare_batch(["1", "2"])
    create_workspace(locate(str(repository)))
    spoil(repository)
    before = snapshot(repository)
    with pytest.raises((InputError, StateError), match=message) as caught:
        worktrees_of(repository).prepare_batch(["1", "2"])
    assert hint in caught.value.hint
    assert snapshot(repository) == before


def test_what_the_refusal_names(repository, tmp_path):
    unmerged(repository)
    with pytest.raises(InputError) as caught:
        worktrees_of(repository).prepare_batch(["1"])
    assert caught.value.causes == ("gangline/client/issue-1: 2 commits",)
    git(repository, "branch", "--force", "gangline/client/issue-1", "gangline/client/issue-1^")
    with pytest.raises(InputError) as caught:
        worktrees_of(repository).prepare_batch(["1"])
    assert caught.value.causes == ("gangline/client/issue-1: 1 commit",)
    with pytest.raises(InputError, match="'mian'") as caught:
        worktrees_of(repository, base="mian").prepare_batch(["1"])
    assert caught.value.hint == "did you mean 'main'?"
    for base in ("--all", ""):
        with pytest.raises(InputError, match="no branch"):
            worktrees_of(repository, base=base).base_commit()
    with pytest.raises(ConfigError, match="template"):
        worktrees_of(repository, template="one").prepare_batch(["1", "2"])
    with pytest.raises(ConfigError, match="template"):
        worktrees_of(repository, template="a b/{issue}").prepare_batch(["1"])
    (tmp_path / "bare folder").mkdir()
    with pytest.raises(InputError) as caught:
        worktrees_of(tmp_path / "bare folder").prepare_batch(["1"])
    assert 'kind = "shared"' in caught.value.hint


def test_untracked_files_and_a_set_base_do_not_hinder(repository):
    (repository / "untracked").write_text("")
    worktrees_of(repository).prepare_batch(["1"])
    changed_file(repository)
    worktrees_of(repository, base="main").prepare_batch(["1"])


def test_a_thousand_issues_cost_no_process_each(repository, tmp_path, monkeypatch):
    count = tmp_path / "count"
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho . >> "{count}"\nexec "{shutil.which("git")}" "$@"\n')
    program.chmod(0o755)
    names = [str(number) for number in range(1000)]
    lines = [f"create refs/heads/gangline/client/issue-{name} HEAD\n" for name in names[::2]]
    subprocess.run(
        ["git", "update-ref", "--stdin"], cwd=repository, input="".join(lines).encode(), check=True
    )
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    worktrees_of(repository).prepare_batch(names)
    assert 5 <= len(count.read_text().split()) <= 15


def test_git_missing_or_too_old_is_said_with_its_remedy(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="cannot be started"):
        worktrees_of(repository).prepare_batch(["1"])
    (tmp_path / "git").write_text("#!/bin/sh\necho git version 2.29.9\n")
    (tmp_path / "git").chmod(0o755)
    with pytest.raises(MachineError, match=r"too old: git version 2\.29\.9") as caught:
        worktrees_of(repository).prepare_batch(["1"])
    assert "2.30" in caught.value.hint


# --- making, mending and keeping worktrees


def test_a_worktree_is_kept_as_it_is_with_uncommitted_work(repository):
    worktrees = worktrees_of(repository)
    base = worktrees.base_commit()
    workspace = worktrees.ensure("1", base)
    assert worktrees.ensure("1", base) == workspace
    commit_in(workspace)
    with open(os.path.join(workspace.path, "README"), "w") as file:
        file.write("half an edit")
    os.unlink(os.path.join(workspace.path, "deep", "er", "code"))
    commit(repository, "later")  # the base's branch moves on; the batch's base does not
    before = snapshot(workspace.path)
    assert worktrees.ensure("1", base) == workspace
    assert snapshot(workspace.path) == before
    assert worktrees.commits_ahead(workspace.branch, base) == 1
    assert worktrees.is_dirty(workspace)
    assert sorted(os.listdir(os.path.dirname(workspace.path))) == ["issue-1"]


def test_uncommitted_work_keeps_a_worktree_from_being_moved_up(repository):
    worktrees = worktrees_of(repository)
    workspace = ensure(worktrees)
    tip = git(workspace.path, "rev-parse", "HEAD")
    with open(os.path.join(workspace.path, "new"), "w"):
        pass
    commit(repository, "later")
    assert ensure(worktrees) == workspace
    assert git(workspace.path, "rev-parse", "HEAD") == tip


def test_finished_work_of_an_earlier_batch_is_moved_up_to_the_new_base(repository):
    worktrees = worktrees_of(repository)
    kept, removed = ensure(worktrees, "1"), ensure(worktrees, "2")
    commit_in(kept)
    git(repository, "merge", "--quiet", "--no-ff", "-m", "merge", kept.branch)
    worktrees.remove("2")
    worktrees.prepare_batch(["1", "2"])
    base = worktrees.base_commit()
    for issue, workspace in (("1", kept), ("2", removed)):
        assert worktrees.ensure(issue, base) == workspace
        assert git(workspace.path, "rev-parse", "HEAD") == base
        assert not worktrees.is_dirty(workspace)


def test_a_branch_with_commits_is_never_moved(repository):
    worktrees = worktrees_of(repository)
    base = worktrees.base_commit()
    workspace = worktrees.ensure("1", base)
    commit_in(workspace)
    tip = git(workspace.path, "rev-parse", "HEAD")
    worktrees.remove("1")
    assert not os.path.exists(workspace.path)
    worktrees.remove("1")
    commit(repository, "later")
    for start in (base, worktrees.base_commit()):
        assert git(worktrees.ensure("1", start).path, "rev-parse", "HEAD") == tip


def test_remove_refuses_whatever_would_be_lost(repository):
    worktrees = worktrees_of(repository)
    workspace = ensure(worktrees)
    with open(os.path.join(workspace.path, "new"), "w"):
        pass
    with pytest.raises(InputError) as caught:
        worktrees.remove("1")
    assert "untracked" in " ".join(caught.value.causes)
    assert worktrees.registered(workspace) is None
    foreign_path = worktrees.path("2")
    os.mkdir(foreign_path)
    with pytest.raises(InputError, match="not a worktree of this repository"):
        worktrees.remove("2")
    assert os.path.isdir(foreign_path)


def branch_only(repository, worktrees, workspace):
    worktrees.remove("1")


def folder_deleted(repository, worktrees, workspace):
    shutil.rmtree(workspace.path)


def folder_deleted_and_locked(repository, worktrees, workspace):
    git(repository, "worktree", "lock", workspace.path)
    shutil.rmtree(workspace.path)


def everything_deleted(repository, worktrees, workspace):
    shutil.rmtree(repository / ".workspace")
    git(repository, "worktree", "prune")
    git(repository, "branch", "-D", workspace.branch)


def files_deleted(repository, worktrees, workspace):
    shutil.rmtree(workspace.path)
    os.mkdir(workspace.path)


def private_folder_without_pointer(repository, worktrees, workspace):
    folder_deleted(repository, worktrees, workspace)
    os.unlink(os.path.join(workspace.git_dir, "gitdir"))
    half_locked(workspace)


def private_folder_without_head(repository, worktrees, workspace):
    os.unlink(os.path.join(workspace.git_dir, "HEAD"))
    half_locked(workspace)


def private_folder_git_stops_at(repository, worktrees, workspace):
    with open(os.path.join(workspace.git_dir, "commondir"), "w"):
        pass
    half_locked(workspace)
    git(repository, "worktree", "list", code=128)
    for issue in ("2", "3"):  # the others are not to suffer from it
        assert_whole(worktrees, ensure(worktrees, issue), issue)


def add_killed_before_the_checkout(repository, worktrees, workspace):
    for name in ("README", ".gitignore"):
        os.unlink(os.path.join(workspace.path, name))
    shutil.rmtree(os.path.join(workspace.path, "deep"))
    os.unlink(os.path.join(workspace.git_dir, "index"))
    half_locked(workspace)


def add_finished_but_not_recorded(repository, worktrees, workspace):
    with open(f"{workspace.path}.making", "w"):
        pass


def lock_files_of_a_killed_git(repository, worktrees, workspace):
    for folder, name in ((workspace.git_dir, "index"), (workspace.git_dir, "HEAD")):
        with open(os.path.join(folder, f"{name}.lock"), "w"):
            pass
    (repository / ".git" / "refs" / "heads" / f"{workspace.branch}.lock").write_text("")


def half_locked(workspace):
    with open(os.path.join(workspace.git_dir, "locked"), "w") as file:
        file.write("initializing")


@pytest.mark.parametrize(
    "crash",
    [
        *(branch_only, folder_deleted, folder_deleted_and_locked, everything_deleted),
        *(files_deleted, private_folder_without_pointer, private_folder_without_head),
        *(private_folder_git_stops_at, add_killed_before_the_checkout),
        *(add_finished_but_not_recorded, lock_files_of_a_killed_git),
    ],
)
def test_whatever_a_crash_left_becomes_a_whole_worktree(repository, crash):
    worktrees = worktrees_of(repository)
    crash(repository, worktrees, ensure(worktrees))
    workspace = ensure(worktrees)
    assert_whole(worktrees, workspace)
    assert ensure(worktrees) == workspace
    git(repository, "worktree", "prune")
    assert_whole(worktrees, workspace)


def test_a_half_made_worktree_with_other_files_is_moved_aside_not_deleted(repository):
    worktrees = worktrees_of(repository)
    for number in (1, 2):
        workspace = ensure(worktrees)
        with open(os.path.join(workspace.path, "precious"), "w") as file:
            file.write(str(number))
        half_locked(workspace)
        assert_whole(worktrees, ensure(worktrees))
        aside = f"{workspace.path}.broken-{number}"
        with open(os.path.join(aside, "precious")) as file:
            assert file.read() == str(number)
        # Its old pointer would make git in it work on the new worktree.
        assert not os.path.exists(os.path.join(aside, ".git"))


def test_a_folder_that_is_no_worktree_is_moved_aside_not_deleted(repository):
    worktrees = worktrees_of(repository)
    path = worktrees.path("1")
    os.makedirs(path)
    os.chmod(repository / ".workspace", 0o700)
    with open(os.path.join(path, "precious"), "w"):
        pass
    assert_whole(worktrees, ensure(worktrees))
    assert os.listdir(f"{path}.broken-1") == ["precious"]


def test_a_worktree_that_lost_its_git_file_keeps_its_work(repository):
    worktrees = worktrees_of(repository)
    workspace = ensure(worktrees)
    changed = os.path.join(workspace.path, "README")
    with open(changed, "w") as file:
        file.write("half an edit")
    os.unlink(os.path.join(workspace.path, ".git"))
    assert worktrees.registered(workspace) is not None
    assert ensure(worktrees) == workspace
    with open(changed) as file:
        assert file.read() == "half an edit"
    assert_whole(worktrees, workspace)


def test_a_moved_repository_keeps_its_work_and_a_copy_leaves_the_original_alone(
    repository, tmp_path
):
    original = ensure(worktrees_of(repository))
    with open(os.path.join(original.path, "new"), "w"):
        pass
    shutil.copytree(repository, tmp_path / "copy", symlinks=True)
    with pytest.raises(InputError, match="not a worktree of this repository"):
        ensure(worktrees_of(tmp_path / "copy"))
    assert worktrees_of(repository).registered(original) is None
    shutil.rmtree(tmp_path / "copy")
    repository.rename(tmp_path / "moved")
    worktrees = worktrees_of(tmp_path / "moved")
    workspace = ensure(worktrees)
    assert os.path.exists(os.path.join(workspace.path, "new"))
    assert_whole(worktrees, workspace)


def test_a_lock_file_that_a_living_process_has_open_is_left(repository):
    worktrees = worktrees_of(repository)
    workspace = ensure(worktrees)
    lock = os.path.join(workspace.git_dir, "index.lock")
    with open(lock, "w") as file:
        command = [sys.executable, "-c", "input()"]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file)
    ensure(worktrees)
    assert os.path.exists(lock) is os.path.isdir("/proc/self/fd")
    holder.communicate(b"\n", timeout=30)
    ensure(worktrees)
    assert not os.path.exists(lock)


def test_an_agent_that_switched_the_branch_is_named_with_the_command(repository):
    worktrees = worktrees_of(repository)
    workspace = ensure(worktrees)
    git(workspace.path, "switch", "--quiet", "--create", "mine")
    assert "is on mine instead" in worktrees.registered(workspace)
    with pytest.raises(StateError, match="is on mine instead of the branch") as caught:
        ensure(worktrees)
    command = caught.value.hint.strip("`")
    subprocess.run(["sh", "-c", command], env=git_environment(), capture_output=True, check=True)
    assert ensure(worktrees) == workspace


def test_what_is_not_ours_is_refused_and_left_alone(repository, tmp_path):
    worktrees = worktrees_of(repository)
    create_workspace(locate(str(repository)))
    path = worktrees.path("1")
    os.makedirs(os.path.dirname(path))
    other = make_repository(tmp_path / "other")
    git(other, "worktree", "add", "--quiet", "--detach", path)
    os.symlink(tmp_path, worktrees.path("2"))
    make_repository(repository / ".workspace" / "worktrees" / "client" / "issue-3")
    before = snapshot(repository)
    for issue in "123":
        with pytest.raises(InputError, match="not a worktree of this repository"):
            ensure(worktrees, issue)
    (repository / ".git" / "gangline-worktree.lock").unlink()
    assert snapshot(repository) == before


def test_a_failing_hook_is_reported_in_its_words_and_heals(repository):
    worktrees = worktrees_of(repository)
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\necho no space for toys >&2\nexit 3\n")
    hook.chmod(0o755)
    with pytest.raises(InputError, match="could not make the worktree") as caught:
        ensure(worktrees)
    assert "no space for toys" in caught.value.causes
    hook.unlink()
    assert_whole(worktrees, ensure(worktrees))
    assert os.listdir(os.path.dirname(worktrees.path("1"))) == ["issue-1"]


def test_what_the_system_refused_is_told_from_what_git_refused(repository):
    worktrees = worktrees_of(repository)
    hook = repository / ".git" / "hooks" / "post-checkout"
    words = f"cp: error writing '/x': {os.strerror(errno.ENOSPC)}"
    hook.write_text(f'#!/bin/sh\necho "{words}" >&2\nexit 3\n')
    hook.chmod(0o755)
    with pytest.raises(MachineError, match="could not make the worktree") as caught:
        ensure(worktrees)
    assert caught.value.causes[-3:] == (
        words,
        "exit code 3",
        "the system refused it, not git",
    )
    assert caught.value.hint == "make room or mend the disk, then run the same command again"
    hook.unlink()
    assert_whole(worktrees, ensure(worktrees))


# --- real kills and real races


def start_ensure(repository, *issues):
    return subprocess.Popen(
        [sys.executable, "-c", ENSURE, str(repository), *issues],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def is_running(process):
    """Whether the process still runs anything; what nobody has reaped yet does not."""
    answer = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip()[:1] not in ("", "Z")


def ancestors(process, last):
    """The process and those above it, up to the child of `last`."""
    found = []
    while process != last:
        found.append(process)
        answer = subprocess.run(
            ["ps", "-o", "ppid=", "-p", str(process)], capture_output=True, text=True, check=True
        )
        process = int(answer.stdout)
    return found


def block_in_hook(repository, script):
    hook = repository / ".git" / "hooks" / "post-checkout"
    hook.write_text(script)
    hook.chmod(0o755)


def block_in_checkout(repository, script):
    """In the middle of the files: README is there by then, deep/er/code is not."""
    (repository.parent / "filter").write_text(script)
    git(repository, "config", "filter.slow.smudge", f"sh '{repository.parent / 'filter'}'; cat")
    git(repository, "config", "filter.slow.clean", "cat")
    git(repository, "config", "filter.slow.required", "true")
    (repository / ".gitattributes").write_text("code filter=slow\n")
    commit(repository)


@pytest.mark.parametrize("block", [block_in_hook, block_in_checkout])
@pytest.mark.parametrize("also_git", [False, True])
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="orphans are found through /proc")
def test_a_killed_worktree_add_is_ended_and_made_anew(repository, tmp_path, block, also_git):
    """`kill -9` of gangline, and of git too, while git waits in a hook or a filter for ever."""
    for name in ("started", "never"):
        os.mkfifo(tmp_path / name)
    once = tmp_path / "block"
    once.write_text("")
    block(
        repository,
        f"#!/bin/sh\n[ -e '{once}' ] || exit 0\n"
        f"echo $$ > '{tmp_path / 'started'}'\nread line < '{tmp_path / 'never'}'\n",
    )
    killed = start_ensure(repository, "1")
    with open(tmp_path / "started") as fifo:
        orphans = ancestors(int(fifo.read()), killed.pid)
    try:
        killed.kill()
        killed.communicate(timeout=30)
        for process in orphans[:0:-1] if also_git else []:  # from the top: none sees another fail
            os.kill(process, signal.SIGKILL)
        assert is_running(orphans[0])
        once.unlink()
        worktrees = worktrees_of(repository)
        worktrees.prepare_batch(["1"])
        assert_whole(worktrees, ensure(worktrees))
        end_by = time.monotonic() + 30  # a killed process lets go of its files before it is gone
        while any(map(is_running, orphans)):
            assert time.monotonic() < end_by, "the orphans live on"
        assert os.listdir(os.path.dirname(worktrees.path("1"))) == ["issue-1"]
    finally:
        for process in filter(is_running, orphans):
            os.kill(process, signal.SIGKILL)


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="who waits is read from /proc/locks")
def test_a_second_process_waits_for_the_first_worktree_add(repository, tmp_path):
    for name in ("started", "go-on"):
        os.mkfifo(tmp_path / name)
    block_in_hook(
        repository,
        f"#!/bin/sh\ncase $PWD in *issue-1) ;; *) exit 0 ;; esac\n"
        f"echo > '{tmp_path / 'started'}'\nread line < '{tmp_path / 'go-on'}'\n",
    )
    first = start_ensure(repository, "1")
    (tmp_path / "started").read_text()
    lock = os.stat(repository / ".git" / "gangline-worktree.lock").st_ino
    second = start_ensure(repository, "2")
    try:
        while not is_waited_for(lock):
            assert second.poll() is None, "it did not wait"
    finally:
        (tmp_path / "go-on").write_text("\n")
        answers = [process.communicate(timeout=60) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], answers
    for issue in "12":
        assert_whole(worktrees_of(repository), ensure(worktrees_of(repository), issue), issue)


def is_waited_for(inode):
    with open("/proc/locks") as file:
        return any("->" in line and f":{inode} " in line for line in file)


def test_two_processes_at_once_make_each_worktree_once(repository):
    issues = [str(number) for number in range(8)]
    both = [start_ensure(repository, *order) for order in (issues, issues[::-1])]
    answers = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    worktrees = worktrees_of(repository)
    workspaces = [ensure(worktrees, issue) for issue in issues]
    folders = [workspace.git_dir for workspace in workspaces]
    assert answers[0][0].split() == answers[1][0].split()[::-1] == folders
    assert len(set(folders)) == 8
    for issue, workspace in zip(issues, workspaces, strict=True):
        assert_whole(worktrees, workspace, issue)
    assert sorted(os.listdir(os.path.dirname(worktrees.path("0")))) == [
        f"issue-{issue}" for issue in issues
    ]
    exclude = (repository / ".git" / "info" / "exclude").read_text()
    assert exclude.count("/.workspace/") == 1


# --- the shared folder


def test_the_shared_folder_takes_any_folder(tmp_path):
    shared = SharedFolder(locate(str(tmp_path)))
    shared.prepare_batch(["1"])
    workspace = shared.ensure("1", shared.base_commit())
    assert workspace == Workspace(path=os.path.realpath(tmp_path), branch=None, git_dir=None)
    assert shared.registered(workspace) is None
    gone = Workspace(path=str(tmp_path / "gone"), branch=None, git_dir=None)
    assert "is gone" in shared.registered(gone)
