"""One git worktree an issue, so that agents do not work in each other's files.

What must stay true, after a crash at any instant: nobody's work is deleted (a folder that cannot be
used is moved aside, a branch is never moved back), an agent gets a whole worktree on its own branch
or none at all, and two processes never run `git worktree add` on one repository at a time (it
fails; EVIDENCE.md section 4d).

How a half-made worktree is known: `{worktree}.making` is there from before git starts until after
it has ended well. It is also git's output and is held with flock by git and its hooks, so a later
call finds and ends an orphan of a killed gangline before it makes the worktree anew.

It does not judge the work, and does not merge.
"""

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence

import msgspec

from gangline.durable import make_folders
from gangline.errors import InputError, MachineError, StateError
from gangline.workspaces import mending, repository
from gangline.workspaces.blame import of_the_machine
from gangline.workspaces.git import (
    RefusedByGitError,
    changed_files,
    demand_git,
    git_environment,
    git_missing,
    git_version,
    head_fault,
    link_fault,
    read_pointer,
    render_branch,
    run_git,
    some,
)
from gangline.workspaces.repository import Place


class Workspace(msgspec.Struct, frozen=True):
    """Where an agent works.

    Attributes:
        path: Absolute.
        branch: Its branch, without `refs/heads/`; None in a shared folder.
        git_dir: The worktree's private git folder, absolute; None in a shared folder.
    """

    path: str
    branch: str | None
    git_dir: str | None


class SharedFolder:
    """Every issue in the same folder, for `kind = "shared"`: no git, no separation."""

    def __init__(self, place: Place) -> None:
        self._top = place.top

    def prepare_batch(self, issues: Sequence[str]) -> None:
        """Any folder will do."""

    def base_commit(self) -> str:
        """No commit: the empty text."""
        return ""

    def ensure(self, issue: str, base_commit: str) -> Workspace:
        """The folder itself."""
        return Workspace(path=self._top, branch=None, git_dir=None)

    def registered(self, workspace: Workspace) -> str | None:
        """None while the folder is there, else the reason as a sentence."""
        return None if os.path.isdir(workspace.path) else f"{workspace.path} is gone"


class GitWorktrees:
    """The worktrees of one area of one repository.

    Args:
        place: The repository.
        area: A checked area name.
        base: The branch, tag or commit that a batch starts from; None for the commit that is
            checked out in the main worktree.
        branch_template: The branch of an issue, with the placeholders {area} and {issue}.
    """

    def __init__(self, place: Place, area: str, base: str | None, branch_template: str) -> None:
        self._place = place
        self._area = area
        self._base = base
        self._branch_template = branch_template

    def path(self, issue: str) -> str:
        """Where the worktree of an issue is or would be."""
        folder = repository.workspace_folder(self._place)
        return os.path.join(folder, "worktrees", self._area, f"issue-{issue}")

    def branch(self, issue: str) -> str:
        """The branch of an issue, without `refs/heads/`."""
        return render_branch(self._branch_template, area=self._area, issue=issue)

    def prepare_batch(self, issues: Sequence[str]) -> None:
        """Refuse what would hurt a new batch, before anything is written; changes nothing.

        It takes a fixed number of git processes, and one for each worktree that is still there.

        Raises:
            InputError: no repository or commit; an unknown base; uncommitted changes or an
                unfinished merge or rebase that the agents would not see; a branch or worktree of
                one of these issues that holds work, is in use elsewhere or cannot be made.
            MachineError: git is missing or too old.
        """
        repository.common_folder(self._place)
        version = git_version(self._place.top)
        repository.check_repository(self._place)
        commit = self.base_commit()
        if self._base is None:
            repository.check_finished(self._place)
        branches = [self.branch(issue) for issue in issues]
        repository.check_branches(self._place, branches, commit)
        self._check_elsewhere(issues, version)
        self._check_leftovers(issues)

    def base_commit(self) -> str:
        """The full id of the commit that a batch starts from now; to be recorded once a batch.

        Raises:
            InputError: there is no repository, no commit, or no such base.
        """
        return repository.base_commit(self._place, self._base)

    def ensure(self, issue: str, base_commit: str) -> Workspace:
        """Make the worktree of an issue, or mend it, or keep it with all that is in it.

        May be called again after a crash anywhere. To be called only while no attempt of the issue
        lives: git's lock files in it are then of the dead. A branch that is fully contained in
        `base_commit` is moved up to it if its worktree is clean.

        Args:
            issue: A checked issue id.
            base_commit: What `base_commit()` said when the batch began.

        Raises:
            InputError: git refuses (its words are the causes), or something that is not ours is
                in the way.
            StateError: the worktree is on another branch, or an orphan cannot be ended.
            MachineError: git is missing, or the disk refuses or is too full (blame.py).
        """
        path, branch = self.path(issue), self.branch(issue)
        if not self._is_ready(path, branch) or self._is_behind(branch, base_commit):
            try:
                repository.create_workspace(self._place)
                with self._one_at_a_time():
                    self._settle(path, branch, base_commit)
            except RefusedByGitError as error:
                raise of_the_machine(
                    error, path, self._common, base_commit, self._place.top
                ) from error
            except OSError as error:
                raise MachineError(
                    "the worktree cannot be made", place=path, causes=[str(error)]
                ) from error
        git_dir = read_pointer(os.path.join(path, ".git"))
        workspace = Workspace(path=path, branch=branch, git_dir=git_dir)
        fault = self.registered(workspace)
        if fault is not None:
            raise StateError("the worktree changed while it was made", place=path, causes=[fault])
        return workspace

    def registered(self, workspace: Workspace) -> str | None:
        """None if the folder is the registered worktree and on its branch, else why it is not.

        Reads three small files; an agent is launched only where this says None.
        """
        if workspace.git_dir is None or workspace.branch is None:
            return f"{workspace.path} is not a worktree of its own"
        return link_fault(workspace.path, workspace.git_dir) or head_fault(
            workspace.git_dir, workspace.branch
        )

    def commits_ahead(self, branch: str, base_commit: str) -> int:
        """How many commits of the branch are not in `base_commit`.

        Raises:
            InputError: there is no such branch or commit.
        """
        return self._counts(branch, base_commit)[0]

    def is_dirty(self, workspace: Workspace) -> bool:
        """Whether the worktree holds anything uncommitted; new files count, ignored ones do not.

        Raises:
            InputError: git cannot tell.
        """
        return bool(changed_files(workspace.path, untracked=True, git_dir=workspace.git_dir))

    def remove(self, issue: str) -> None:
        """Remove the worktree of an issue if it is clean; its branch stays. Again does nothing.

        Raises:
            InputError: it is not ours, or git refuses: it is not clean, or locked.
        """
        path = self.path(issue)
        with self._one_at_a_time():
            standing = mending.standing_of(path, self._common)
            if standing not in ("absent", "linked"):
                raise mending.not_ours(path)
            if standing == "linked":
                # Without --force git itself refuses whatever would be lost.
                self._demand(["worktree", "remove", "--", path], f"remove the worktree {path}")

    @property
    def _common(self) -> str:
        return repository.common_folder(self._place)

    def _demand(self, arguments: Sequence[str], purpose: str) -> str:
        return demand_git(arguments, self._place.top, purpose)

    def _check_elsewhere(self, issues: Sequence[str], version: tuple[int, int]) -> None:
        """Refuse a branch that is checked out anywhere but in its own worktree."""
        end = "\0" if version >= (2, 36) else "\n"
        arguments = ["worktree", "list", "--porcelain", *(["-z"] if end == "\0" else [])]
        path = ""
        holders: dict[str, str] = {}
        for field in self._demand(arguments, "list the worktrees").split(end):
            if field.startswith("worktree "):
                path = field.removeprefix("worktree ")
            elif field.startswith("branch refs/heads/"):
                holders[field.removeprefix("branch refs/heads/")] = path
        for issue in issues:
            holder = holders.get(self.branch(issue))
            if holder is not None and os.path.realpath(holder) != self.path(issue):
                quoted = shlex.quote(holder)
                gone = "" if os.path.isdir(holder) else " (the folder is gone)"
                raise InputError(
                    f"the branch {self.branch(issue)} is checked out in another worktree",
                    place=holder + gone,
                    hint="`git worktree prune`"
                    if gone
                    else f"`git -C {quoted} switch --detach`, or `git worktree remove {quoted}`",
                )

    def _check_leftovers(self, issues: Sequence[str]) -> None:
        """Refuse worktrees of an earlier batch that hold work, are astray, or are not ours."""
        folder = os.path.dirname(self.path(""))
        there = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        dirty = []
        for issue in issues:
            path = self.path(issue)
            if os.path.basename(path) not in there or os.path.lexists(mending.marker_of(path)):
                continue  # one that was still being made is made anew, and nothing of it deleted
            standing = mending.standing_of(path, self._common)
            if standing == "foreign":
                raise mending.not_ours(path)
            git_dir = read_pointer(os.path.join(path, ".git"))
            if (
                standing == "linked"
                and git_dir is not None
                and not mending.is_initializing(git_dir)
            ):
                mending.check_branch(path, git_dir, self.branch(issue))
                if changed_files(path, untracked=True, git_dir=git_dir):
                    dirty.append(path)
        if dirty:
            raise InputError(
                "worktrees of an earlier batch hold uncommitted changes",
                place=dirty[0],
                causes=[some(dirty)],
                hint=f"look at `git -C {shlex.quote(dirty[0])} status`; commit and merge them, or "
                f"`git -C {shlex.quote(dirty[0])} stash -u`, or run another area",
            )

    def _is_ready(self, path: str, branch: str) -> bool:
        """Whether nothing is to be done: three file reads and a few look-ups, no lock."""
        git_dir = read_pointer(os.path.join(path, ".git"))
        linked = git_dir is not None and mending.standing_of(path, self._common) == "linked"
        if git_dir is None or not linked or mending.is_initializing(git_dir):
            return False
        left = [mending.marker_of(path), *mending.lock_files(self._common, git_dir, branch)]
        return head_fault(git_dir, branch) is None and not any(map(os.path.lexists, left))

    def _settle(self, path: str, branch: str, base_commit: str) -> None:
        """From whatever a crash left to a whole worktree; under the lock."""
        common, interrupted = self._common, mending.end_orphan(path)
        mending.mend_pointers(common, repository.workspace_folder(self._place))
        standing = mending.standing_of(path, common)
        if standing == "broken" and not interrupted:
            mending.relink(path, branch, self._place.top, common)
            standing = mending.standing_of(path, common)
        if standing == "foreign":
            raise mending.not_ours(path)
        git_dir = read_pointer(os.path.join(path, ".git")) if standing == "linked" else None
        mending.drop_lock_files(common, git_dir, branch)
        if git_dir is not None and not interrupted and not mending.is_initializing(git_dir):
            mending.check_branch(path, git_dir, branch)
            dirty = changed_files(path, untracked=True, git_dir=git_dir)
            if self._is_behind(branch, base_commit) and not dirty:
                demand_git(["reset", "--quiet", "--keep", base_commit, "--"], path, "move it up")
            return
        self._clear(path, git_dir)
        self._start_branch(branch, base_commit)
        self._add(path, branch)

    def _clear(self, path: str, git_dir: str | None) -> None:
        """Make room for a new worktree: what could be work is moved aside, the rest is deleted.

        Args:
            path: Where there is nothing, or a folder to be given up.
            git_dir: Its private git folder if it is a worktree that was not made to the end.
        """
        entry = os.path.join(path, ".git")
        if os.path.isdir(path):
            content = set(os.listdir(path))
            if content <= {".git"} or (git_dir and mending.is_expendable(path, git_dir)):
                shutil.rmtree(path)
            else:
                if ".git" in content:  # kept, but out of force: it could lead to the new worktree
                    os.rename(entry, f"{entry}.broken")
                number = 1
                while os.path.lexists(f"{path}.broken-{number}"):
                    number += 1
                os.rename(path, f"{path}.broken-{number}")
        for private, claimed in mending.claims(self._common):
            if claimed == entry:
                shutil.rmtree(private)

    def _start_branch(self, branch: str, base_commit: str) -> None:
        """Create the branch, or move up one whose commits the base has; never lose a commit."""
        ref = f"refs/heads/{branch}"
        tip = run_git(["rev-parse", "--verify", "--quiet", ref], self._place.top)
        old = tip.output.strip() if tip.code == 0 else ""
        if not old or self._is_behind(branch, base_commit):
            # With its old value ("" for none) given, git changes it only if it still has that.
            arguments = ["update-ref", "--", ref, base_commit, old]
            if run_git(arguments, self._place.top).code != 0:
                # Perhaps because the same command of a gangline killed just now came before it.
                old = self._demand(["rev-parse", "--verify", ref], f"make the branch {branch}")
                self._demand([*arguments[:-1], old.strip()], f"move up the branch {branch}")

    def _is_behind(self, branch: str, base_commit: str) -> bool:
        ahead, behind = self._counts(branch, base_commit)
        return ahead == 0 < behind

    def _counts(self, branch: str, base_commit: str) -> tuple[int, int]:
        """How many commits only the branch has, and how many only the base."""
        both = f"refs/heads/{branch}...{base_commit}"
        purpose = f"compare the branch {branch} with {base_commit}"
        output = self._demand(["rev-list", "--left-right", "--count", both, "--"], purpose)
        ahead, behind = output.split()
        return int(ahead), int(behind)

    def _add(self, path: str, branch: str) -> None:
        make_folders(os.path.dirname(path))
        marker = mending.marker_of(path)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        with open(os.open(marker, flags, 0o600), "r+b") as log:
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            try:
                # No time limit: a checkout, its filters and hooks take what they take. The output
                # goes to a file: a pipe would be held open by a daemon that a hook starts.
                process = subprocess.Popen(
                    ["git", "worktree", "add", "--", path, branch],
                    cwd=self._place.top,
                    env=git_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            except OSError as error:
                raise git_missing(error) from None
            code = process.wait()
            if code != 0:
                log.seek(0)
                lines = log.read()[-4096:].decode("utf-8", "replace").splitlines()
                raise RefusedByGitError(
                    f"git could not make the worktree of the branch {branch}",
                    place=path,
                    causes=[*lines, f"exit code {code}"],
                    hint="mend what git or its post-checkout hook says and run again",
                )
            os.unlink(marker)

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Hold the repository's worktrees, across processes; waits for as long as it takes."""
        file = os.path.join(self._common, "gangline-worktree.lock")
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
