"""Where the repository is, so that every call, from any folder of it, means the same batch.

What must stay true: one repository has one `.workspace`, whichever linked worktree, subfolder or
issue's worktree a command is called from; otherwise two orchestrators could hold one area. And it
must be quick: `gangline status` starts in about 20 ms, so the usual layouts are read from the files
git itself reads (gitrepository-layout(5)), and the git program is asked only where they leave a
doubt. Nothing heavy is imported at the top of this module, for the same reason.

It also says whether a batch may start on the repository at all, before anything is written.
"""

import os

from gangline.durable import sync_folder
from gangline.errors import ConfigError, InputError, MachineError
from gangline.workspaces.git import changed_files, read_path, read_pointer, run_git, some

TYPE_CHECKING = False  # importing `collections.abc` costs `status` 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

UNMERGED_COUNTED_MAX = 50
WORKSPACE_FOLDER = ".workspace"
EXCLUDE_LINE = b"/.workspace/"

# What git leaves in its folder while an operation waits for the user (git-status(1)).
_UNFINISHED = {
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}

# They change what a folder's repository is, so only git may judge them.
_ASK_GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_CEILING_DIRECTORIES")


class Place:
    """Where a repository is.

    Attributes:
        top: The top of its main worktree, absolute, without symbolic links; for a bare repository
            its folder, or the parent of a hidden one (`project/.bare`); where there is no git, the
            folder that was asked about.
        git_dir: The folder that all worktrees share (`git rev-parse --git-common-dir`), absolute,
            without symbolic links; None where there is no git.
    """

    # Not a msgspec.Struct: importing msgspec costs more than finding the repository.
    __slots__ = ("git_dir", "top")

    def __init__(self, top: str, git_dir: str | None) -> None:
        self.top = top
        self.git_dir = git_dir

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Place):
            return NotImplemented
        return (self.top, self.git_dir) == (other.top, other.git_dir)

    def __hash__(self) -> int:
        return hash((self.top, self.git_dir))

    def __repr__(self) -> str:
        return f"Place(top={self.top!r}, git_dir={self.git_dir!r})"


def locate(folder: str) -> Place:
    """Find the repository that `folder` belongs to, from any of its worktrees or subfolders.

    A submodule is a repository of its own. $GIT_DIR and its like are honoured.

    Raises:
        InputError: there is no such folder, or git refuses the repository it is in.
        MachineError: git had to be asked and is missing or does not answer.
    """
    try:
        folder = os.path.realpath(folder)
    except FileNotFoundError as error:  # of os.getcwd()
        raise InputError(
            "the current folder has been deleted", hint='`cd "$PWD"` if it was made again'
        ) from error
    if not os.path.isdir(folder):
        raise InputError("there is no such folder", place=folder)
    if any(name in os.environ for name in _ASK_GIT):
        return _ask_git(folder)
    current = folder
    while True:
        entry = os.path.join(current, ".git")
        if _is_git_folder(entry):
            return Place(current, os.path.realpath(entry))
        if os.path.isfile(entry):
            return _follow(current, entry)
        if _is_git_folder(current):
            return _ask_git(folder)
        parent = os.path.dirname(current)
        if parent == current:
            return Place(folder, None)
        current = parent


def _is_git_folder(folder: str) -> bool:
    """Whether git would take the folder for a repository: HEAD, objects and refs are there."""
    return os.path.lexists(os.path.join(folder, "HEAD")) and all(
        os.path.isdir(os.path.join(folder, name)) for name in ("objects", "refs")
    )


def _follow(folder: str, entry: str) -> Place:
    """The place behind a `.git` file: a linked worktree, a submodule, a separate git folder."""
    git_dir = read_pointer(entry)
    if git_dir is None or not os.path.isdir(git_dir):
        raise InputError(
            "the git folder of this worktree is not where its .git file says",
            place=entry,
            causes=[f"it points to {git_dir}" if git_dir else "it does not read `gitdir: …`"],
            hint="if the repository was moved, run `git worktree repair` at its new place",
        )
    common = read_path(os.path.join(git_dir, "commondir"))
    if common is None:
        return Place(folder, git_dir)
    return Place(_main_top(common, folder), common)


def _main_top(common: str, start: str) -> str:
    """The top of the main worktree of the repository whose shared folder is `common`."""
    if os.path.basename(common) == ".git":
        return os.path.dirname(common)
    inside = ("--git-dir", common)
    worktree = run_git([*inside, "config", "--get", "core.worktree"], common)
    if worktree.code == 0:
        return os.path.realpath(os.path.join(common, worktree.output.removesuffix("\n")))
    if run_git([*inside, "rev-parse", "--is-bare-repository"], common).output.strip() == "true":
        hidden = os.path.basename(common).startswith(".")
        return os.path.dirname(common) if hidden else common
    # `git init --separate-git-dir` records nowhere which worktree is the main one: it is the
    # folder above whose .git leads straight to the shared folder.
    while True:
        entry = os.path.join(start, ".git")
        if common in (read_pointer(entry), os.path.realpath(entry)):
            return start
        parent = os.path.dirname(start)
        if parent == start:
            raise InputError(
                "the main worktree of this repository cannot be found from here",
                place=common,
                causes=["its git folder is kept apart and does not name its worktree"],
                hint="run gangline in the main worktree, or name it there once: "
                '`git config core.worktree "$PWD"`',
            )
        start = parent


def _ask_git(folder: str) -> Place:
    answer = run_git(["rev-parse", "--git-common-dir"], folder, as_called=True)
    if answer.code != 0:
        if "not a git repository" in answer.messages and "GIT_DIR" not in os.environ:
            return Place(folder, None)
        raise InputError(
            "git refuses this repository",
            place=folder,
            causes=answer.messages.splitlines(),
            hint="`git status` in that folder says the same; mend that first",
        )
    # Relative to the folder it was asked in; `--path-format` came only with git 2.31.
    common = os.path.realpath(os.path.join(folder, answer.output.removesuffix("\n")))
    return Place(_main_top(common, folder), common)


def workspace_folder(place: Place) -> str:
    """The folder of everything Gangline keeps for this repository."""
    return os.path.join(place.top, WORKSPACE_FOLDER)


def create_workspace(place: Place) -> None:
    """Make `.workspace` (mode 0700) and hide it from git, durably; again does nothing.

    Raises:
        InputError: `.workspace` is there, but a symbolic link, no folder, another user's, or
            writable by others, who could then run commands as this user.
        MachineError: it cannot be written.
    """
    folder = workspace_folder(place)
    try:
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            check_workspace_folder(folder)
        sync_folder(place.top)
        if place.git_dir is not None:
            _exclude(place.git_dir)
    except OSError as error:
        raise MachineError(
            "the workspace cannot be prepared", place=folder, causes=[str(error)]
        ) from error


def check_workspace_folder(folder: str) -> None:
    import shlex  # noqa: PLC0415 - for a message only
    import stat  # noqa: PLC0415 - only where the folder is prepared

    status = os.lstat(folder)
    quoted = shlex.quote(folder)
    if stat.S_ISLNK(status.st_mode):
        problem, hint = "is a symbolic link", f"remove it: `rm {quoted}`"
    elif not stat.S_ISDIR(status.st_mode):
        problem, hint = "is not a folder", f"move it away: `mv {quoted} {quoted}.aside`"
    elif status.st_uid != os.geteuid():
        problem = f"belongs to another user (uid {status.st_uid})"
        hint = f"run gangline as that user, or move it away: `mv {quoted} {quoted}.aside`"
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem, hint = "is writable by other users", f"`chmod 700 {quoted}`"
    else:
        return
    raise InputError(f"the workspace folder {problem}", place=folder, hint=hint)


def _exclude(git_dir: str) -> None:
    """Put `/.workspace/` into info/exclude once, after whatever the user has there."""
    import fcntl  # noqa: PLC0415 - only where the folder is prepared

    info = os.path.join(git_dir, "info")
    if not os.path.isdir(info):
        os.mkdir(info)  # not its parents: a `.git` of our own making would be no repository
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    with open(os.open(os.path.join(info, "exclude"), flags, 0o644), "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # two first starts at once must not both append
        content = file.readall()
        if EXCLUDE_LINE not in (line.strip() for line in content.splitlines()):
            newline = b"" if not content or content.endswith(b"\n") else b"\n"
            file.write(newline + EXCLUDE_LINE + b"\n")
        os.fsync(file)
    sync_folder(info)
    sync_folder(git_dir)


def common_folder(place: Place) -> str:
    """The git folder of the repository.

    Raises:
        InputError: there is no repository.
    """
    if place.git_dir is None:
        raise InputError(
            "there is no git repository here, and each issue is to get a git worktree",
            place=place.top,
            hint='`git init` and commit, or set `kind = "shared"` under [workspace]',
        )
    return place.git_dir


def check_repository(place: Place) -> None:
    """Refuse a repository that git, called in its top folder, does not find or read as we do.

    Raises:
        InputError: git refuses it, finds another one, or it keeps its branches in a reftable.
    """
    common = common_folder(place)
    answer = run_git(["rev-parse", "--git-common-dir"], place.top)
    found = os.path.realpath(os.path.join(place.top, answer.output.removesuffix("\n")))
    if answer.code != 0 or found != common:
        raise InputError(
            "git does not find this repository from its top folder",
            place=place.top,
            causes=answer.messages.splitlines() or [f"it finds {found} instead of {common}"],
            hint="unset GIT_DIR and GIT_WORK_TREE, or mend what git says",
        )
    with open(os.path.join(common, "HEAD"), "rb") as file:
        if file.read(100).rstrip() == b"ref: refs/heads/.invalid":
            raise InputError(
                "this repository keeps its branches in a reftable, which is not supported",
                place=common,
                hint="`git refs migrate --ref-format=files`",
            )


def base_commit(place: Place, base: str | None) -> str:
    """The full id of the commit that `base` means now; None is the main worktree's checkout.

    Raises:
        InputError: there is no commit, or no such base.
    """
    common = common_folder(place)
    # As a branch first: git itself would prefer a tag of the same name.
    for name in ["HEAD"] if base is None else [f"refs/heads/{base}", base]:
        if name and not name.startswith("-"):
            arguments = ["rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"]
            answer = run_git(arguments, place.top)
            if answer.code == 0:
                return answer.output.strip()
    if base is None:
        raise InputError(
            "the repository has no commit yet, so there is nothing to start a worktree from",
            place=common,
            hint='`git commit --allow-empty -m "First commit"`',
        )
    import difflib  # noqa: PLC0415 - for a message only

    listed = run_git(["for-each-ref", "--format=%(refname:short)"], place.top).output.splitlines()
    near = difflib.get_close_matches(base, listed, n=1)
    raise InputError(
        f"the base {base!r} is no branch, tag or commit of this repository",
        place="gangline.toml: workspace.base",
        hint=f"did you mean {near[0]!r}?" if near else "`git branch --all` lists the branches",
    )


def check_finished(place: Place) -> None:
    """Refuse a main worktree whose state an agent that starts from its commit would not see.

    Files that git does not track do not count.

    Raises:
        InputError: a merge, rebase or the like is unfinished, or changes are not committed.
    """
    for name, operation in _UNFINISHED.items():
        if os.path.lexists(os.path.join(common_folder(place), name)):
            raise InputError(
                f"a {operation} is in progress, and the agents would start without it",
                place=place.top,
                hint=f"`git {operation} --continue` or `git {operation} --abort` first, "
                "or set `base` under [workspace]",
            )
    if run_git(["rev-parse", "--is-inside-work-tree"], place.top).output.strip() != "true":
        return
    names = changed_files(place.top, untracked=False)
    if names:
        raise InputError(
            "there are uncommitted changes, which the agents would not see",
            place=place.top,
            causes=[some(names)],
            hint="`git stash` or `git commit` them, or set `base` under [workspace]",
        )


def check_branches(place: Place, branches: "Sequence[str]", commit: str) -> None:
    """Refuse branches that cannot be made, or that hold commits which `commit` does not contain.

    Raises:
        ConfigError: the branch template gives no branch name, or one for two issues.
        InputError: another branch is in the way, or there are such commits.
    """
    wanted = set(branches)
    for name in branches[:1]:  # ids and areas are checked; what can be wrong is the template
        answer = run_git(["check-ref-format", "--branch", name], place.top)
        if (
            answer.code != 0
            or answer.output.removesuffix("\n") != name
            or len(wanted) < len(branches)
        ):
            raise ConfigError(
                f"the branch template does not give each issue a branch: {name!r}",
                place="gangline.toml: workspace.branch",
                hint='the default is "gangline/{area}/issue-{issue}"',
            )
    listing = ["for-each-ref", "--format=%(refname:lstrip=2)"]
    there = set(run_git([*listing, "refs/heads/"], place.top).output.splitlines())
    blocking = {part for name in wanted for part in _folders(name) if part in there}
    blocking.update(name for name in there if not wanted.isdisjoint(_folders(name)))
    if blocking:
        name = min(blocking)
        raise InputError(
            f"the branch {name} is in the way: git cannot have it beside {branches[0]}",
            causes=[f"in the way: {some(sorted(blocking))}"] if len(blocking) > 1 else [],
            hint=f"`git branch -m {name} {name}-kept`, or set `branch` under [workspace]",
        )
    if wanted & there:
        arguments = [*listing, f"--no-merged={commit}", "refs/heads/"]
        unmerged = wanted.intersection(run_git(arguments, place.top).output.splitlines())
        if unmerged:
            _refuse_unmerged(place, sorted(unmerged), commit)


def _folders(branch: str) -> list[str]:
    """The folders a branch's file lies in: `a` and `a/b` for `a/b/c`."""
    parts = branch.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


def _refuse_unmerged(place: Place, branches: "Sequence[str]", commit: str) -> None:
    causes = []
    for name in branches[:UNMERGED_COUNTED_MAX]:
        arguments = ["rev-list", "--count", f"refs/heads/{name}", f"^{commit}", "--"]
        count = run_git(arguments, place.top).output.strip()
        causes.append(f"{name}: {count} commit{'' if count == '1' else 's'}")
    first = branches[0]
    raise InputError(
        f"branches of an earlier batch hold commits that the base does not: {some(branches)}",
        place=place.top,
        causes=causes,
        hint=f"merge them; or put them away, `git branch -m {first} {first}-kept`, or delete them, "
        f"`git branch -D {first}` (after `git worktree remove` where one is still checked out); "
        "or run another area",
    )
