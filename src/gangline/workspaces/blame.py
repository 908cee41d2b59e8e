"""Whether git failed because of the machine: then no issue is to blame, and nothing else is tried.

Git tells the system's error only now and then ("unable to write file f5" is a full disk), and takes
away what it had written, so the disk has room again when one looks. So what is left is also held
against what the checkout takes.
"""

import errno
import os
from collections.abc import Sequence

from gangline.errors import GanglineError, MachineError
from gangline.workspaces.git import RefusedByGitError, run_git

_OF_THE_MACHINE = tuple(
    os.strerror(code)
    for code in (
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    )
)
_LEAST_BYTES = 1 << 20  # with less than this left git cannot keep its own books
_BLOCK_BYTES = 4096
_MIB = 1 << 20


def of_the_machine(
    error: RefusedByGitError, path: str, common: str, commit: str, top: str
) -> GanglineError:
    """The error as it is, or a MachineError where the machine and not the branch is the cause.

    Args:
        error: What git refused.
        path: Where the worktree was to be.
        common: The repository's git folder.
        commit: Whose files were to be checked out.
        top: A folder to ask git in.
    """
    found = _words_of_the_system(error.causes) or _too_little_left(path, common, commit, top)
    if found is None:
        return error
    return MachineError(
        error.message,
        place=error.place,
        causes=[*error.causes, found],
        hint="make room or mend the disk, then run the same command again",
    )


def _words_of_the_system(lines: Sequence[str]) -> str | None:
    ends = (line.rstrip(". ") for line in lines)
    told = next((end for end in ends if end.endswith(_OF_THE_MACHINE)), None)
    return "the system refused it, not git" if told else None


def _too_little_left(path: str, common: str, commit: str, top: str) -> str | None:
    sizes = _checkout_sizes(commit, top)
    needed = sum(-(-size // _BLOCK_BYTES) * _BLOCK_BYTES for size in sizes)
    return _lack(path, max(needed, _LEAST_BYTES), len(sizes)) or _lack(common, _LEAST_BYTES, 1)


def _lack(path: str, least_bytes: int, least_files: int) -> str | None:
    folder = path
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    disk = os.statvfs(folder)
    left = disk.f_bavail * disk.f_frsize
    if left < least_bytes:
        return (
            f"{left / _MIB:.1f} MiB are left on the disk of {folder}, "
            f"at least {least_bytes / _MIB:.1f} MiB are needed"
        )
    if disk.f_files and disk.f_favail < least_files:
        return f"{disk.f_favail} files fit on the disk of {folder}, {least_files} are needed"
    return None


def _checkout_sizes(commit: str, top: str) -> list[int]:
    """Bytes of each file of a commit; empty where git does not tell."""
    answer = run_git(["ls-tree", "-r", "-l", "-z", commit], top)
    fields = [entry.partition("\t")[0].split() for entry in answer.output.split("\0") if entry]
    return [int(each[3]) for each in fields if len(each) == 4 and each[3].isdecimal()]
