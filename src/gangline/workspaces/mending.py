"""What a crash leaves of a worktree, and how it is put right without losing anybody's work."""

import os
from collections.abc import Iterator

from gangline.errors import GanglineError, InputError, StateError
from gangline.workspaces.git import (
    changed_files,
    head_fault,
    link_fault,
    read_path,
    read_pointer,
    run_git,
)

ORPHAN_SECONDS_MAX = 10


def is_initializing(git_dir: str) -> bool:
    """Whether `git worktree add` still was at work: it locks the worktree with this reason."""
    try:
        with open(os.path.join(git_dir, "locked"), "rb") as file:
            return file.read(100).strip() == b"initializing"
    except OSError:
        return False


def is_expendable(path: str, git_dir: str) -> bool:
    """Whether a half-made worktree holds nothing but unchanged files of its commit."""
    if not os.path.lexists(os.path.join(git_dir, "index")):  # killed in the midst of the checkout
        run_git(["--git-dir", git_dir, "--work-tree", path, "reset", "--quiet"], path)
    try:
        names = changed_files(path, untracked=True, git_dir=git_dir)
    except GanglineError:
        return False
    # The file that git was at when it was killed is there, but empty.
    files = [os.path.join(path, name) for name in names]
    return not any(os.path.lexists(file) and os.lstat(file).st_size for file in files)


def check_branch(path: str, git_dir: str, branch: str) -> None:
    """Refuse a worktree that is not on its branch: the agent or a person has switched it.

    Raises:
        StateError: naming where it is and the command that brings it back.
    """
    import shlex  # noqa: PLC0415 - for a message only

    fault = head_fault(git_dir, branch)
    if fault is None:
        return
    git = f"git -C {shlex.quote(path)}"
    rebasing = any(os.path.isdir(f"{git_dir}/rebase-{name}") for name in ("merge", "apply"))
    raise StateError(
        fault,
        place=path,
        causes=["a rebase is in progress in it"] if rebasing else [],
        hint=f"`{git} rebase --abort`" if rebasing else f"`{git} switch {shlex.quote(branch)}`",
    )


def standing_of(path: str, common: str) -> str:
    """What is where a worktree should be: "absent", "linked", "broken" or "foreign".

    absent: nothing. linked: a worktree of the repository of `common`, on whatever branch. broken: a
    folder that git does not take for a worktree. foreign: not ours to touch.
    """
    if not os.path.lexists(path):
        return "absent"
    entry = os.path.join(path, ".git")
    if os.path.islink(path) or not os.path.isdir(path) or os.path.isdir(entry):
        return "foreign"
    git_dir = read_pointer(entry)
    if git_dir is None or not os.path.isdir(git_dir):
        return "broken"
    if os.path.dirname(git_dir) != os.path.join(common, "worktrees"):
        return "foreign"
    return "linked" if link_fault(path, git_dir) is None else "broken"


def not_ours(path: str) -> InputError:
    """The error for a folder whose standing is "foreign"."""
    import shlex  # noqa: PLC0415 - for a message only

    quoted = shlex.quote(path)
    return InputError(
        "what is where the issue's worktree should be is not a worktree of this repository",
        place=path,
        hint=f"move it away: `mv {quoted} {quoted}.aside`",
    )


def claims(common: str) -> Iterator[tuple[str, str]]:
    """Each private git folder, and the `.git` file that it says is its worktree's."""
    folder = os.path.join(common, "worktrees")
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        claimed = read_path(os.path.join(folder, name, "gitdir"))
        if claimed is not None:
            yield os.path.join(folder, name), claimed


def mend_pointers(common: str, workspace: str) -> None:
    """Write what a killed `git worktree add` of ours left out, and git itself stops at.

    With an empty `commondir` anywhere `git worktree` and `git branch` fail everywhere.
    """
    for git_dir, claimed in claims(common):
        file = os.path.join(git_dir, "commondir")
        ours = claimed.startswith(workspace + os.sep)
        if ours and os.path.exists(file) and os.path.getsize(file) == 0:
            with open(file, "wb") as stream:
                stream.write(b"../..\n")  # it is never anything else (gitrepository-layout(5))


def relink(path: str, branch: str, place_top: str, common: str) -> bool:
    """Tie a folder with work in it to its private git folder again; whether that could be done.

    It can if its `.git` file was lost, or if the whole repository was moved. This is not left to
    `git worktree repair`, which in a copy of a repository would take the original's worktrees.
    """
    if not set(os.listdir(path)) - {".git"}:
        return False
    entry = os.path.join(path, ".git")
    tail = os.sep + os.path.relpath(entry, place_top)
    for git_dir, claimed in claims(common):
        if claimed.endswith(tail) and head_fault(git_dir, branch) is None:
            for file, text in ((f"{git_dir}/gitdir", entry), (entry, f"gitdir: {git_dir}")):
                with open(file, "wb") as stream:
                    stream.write(os.fsencode(f"{text}\n"))
            return True
    return False


def lock_files(common: str, git_dir: str | None, branch: str) -> list[str]:
    """The lock files that a killed git leaves, and that would stop every later one."""
    own = [] if git_dir is None else [f"{git_dir}/index.lock", f"{git_dir}/HEAD.lock"]
    return [f"{common}/refs/heads/{branch}.lock", *own]


def drop_lock_files(common: str, git_dir: str | None, branch: str) -> None:
    """Delete those that no living process has open."""
    for file in lock_files(common, git_dir, branch):
        try:
            if not _processes_with(os.stat(file)):
                os.unlink(file)
        except FileNotFoundError:  # or a git that a killed gangline had started just let go of it
            continue


def marker_of(path: str) -> str:
    """The file that is there while the worktree is being made."""
    return f"{path}.making"


def end_orphan(path: str) -> bool:
    """Whether the worktree was still being made; if git still is, for a dead gangline, end it.

    Raises:
        StateError: it does not end.
    """
    import fcntl  # noqa: PLC0415 - as those below: only where a worktree is made
    import shlex  # noqa: PLC0415
    import signal  # noqa: PLC0415
    import time  # noqa: PLC0415
    from contextlib import suppress  # noqa: PLC0415

    try:
        descriptor = os.open(marker_of(path), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        limit = time.monotonic() + ORPHAN_SECONDS_MAX
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                pass
            if time.monotonic() > limit:
                raise StateError(
                    "a `git worktree add` of an earlier gangline is still at work here",
                    place=path,
                    hint=f"`lsof {shlex.quote(marker_of(path))}` names it; end it and run again",
                )
            # Whoever has this very file open is that git or a hook of it: no guess by id or name.
            for process in _processes_with(os.fstat(descriptor)):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.01)
    finally:
        os.close(descriptor)


def _processes_with(file: os.stat_result) -> list[int]:
    """The other processes that have the file open; none where there is no /proc (macOS)."""
    from contextlib import suppress  # noqa: PLC0415 - only after a crash

    found = []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self/fd") else []:
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError):  # it ended, or is another user's
                for descriptor in os.listdir(f"/proc/{name}/fd"):
                    if os.path.samestat(os.stat(f"/proc/{name}/fd/{descriptor}"), file):
                        found.append(int(name))
                        break
    return found
