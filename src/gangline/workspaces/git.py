"""How git is asked, and how its small files are read.

`repository` is read on every call of the command line, so nothing heavy is imported at the top of
it or of this file; import `worktrees` only where worktrees are made or read.

Git runs as the user has it (configuration, hooks, filters), but always on the repository of the
folder it is run in, in English, and never asking a question.
"""

import os

from gangline.errors import InputError, MachineError

TYPE_CHECKING = False  # importing `collections.abc` costs `status` 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

GIT_VERSION_MIN = (2, 30)
COMMAND_SECONDS_MAX = 300
NAMES_SHOWN_MAX = 5

# The variables that tie git to one repository (`git rev-parse --local-env-vars`), without
# GIT_CONFIG_*: those are settings of the user, and the user's git is to behave as it always does.
_REPOSITORY_VARIABLES = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_IMPLICIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_QUARANTINE_PATH"),
    *("GIT_NAMESPACE", "GIT_PREFIX", "GIT_INTERNAL_SUPER_PREFIX", "GIT_CONFIG"),
    *("GIT_GRAFT_FILE", "GIT_SHALLOW_FILE", "GIT_REPLACE_REF_BASE", "GIT_NO_REPLACE_OBJECTS"),
)


class RefusedByGitError(InputError):
    """A git command ended with a failure; its words are the causes."""


class Answer:
    """What a git command said: its exit code, its output and its messages."""

    __slots__ = ("code", "messages", "output")

    def __init__(self, code: int, output: str, messages: str) -> None:
        self.code = code
        self.output = output
        self.messages = messages


def git_environment(*, as_called: bool = False) -> dict[str, str]:
    """The environment git runs in.

    Args:
        as_called: Keep the variables that name a repository ($GIT_DIR …), which otherwise would
            send every command to that one instead of the one of its folder.
    """
    environment = dict(os.environ)
    if not as_called:
        for name in _REPOSITORY_VARIABLES:
            environment.pop(name, None)
    environment["LC_ALL"] = "C"
    environment["GIT_TERMINAL_PROMPT"] = "0"
    return environment


def run_git(arguments: "Sequence[str]", folder: str, *, as_called: bool = False) -> Answer:
    """Run git in a folder and return whatever it answers, also a failure.

    Raises:
        MachineError: git is missing, or does not answer within COMMAND_SECONDS_MAX.
        InputError: the folder is gone.
    """
    import subprocess  # noqa: PLC0415 - slow to import, and most calls never need it

    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=git_environment(as_called=as_called),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MachineError(
            f"git did not answer within {COMMAND_SECONDS_MAX} seconds",
            place=folder,
            hint="run `git status` in that folder to see what it waits for",
        ) from None
    except OSError as error:
        if not os.path.isdir(folder):
            raise InputError("the folder is gone", place=folder) from None
        raise git_missing(error) from None
    return Answer(done.returncode, os.fsdecode(done.stdout), os.fsdecode(done.stderr))


def demand_git(arguments: "Sequence[str]", folder: str, purpose: str) -> str:
    """Run git in a folder and return its output.

    Raises:
        RefusedByGitError: it failed; its messages are the causes.
        MachineError: as `run_git`.
    """
    answer = run_git(arguments, folder)
    if answer.code != 0:
        raise RefusedByGitError(
            f"git could not {purpose}",
            place=folder,
            causes=answer.messages.splitlines(),
            hint="mend what git says and run again",
        )
    return answer.output


def git_missing(error: OSError) -> MachineError:
    """The error for a git program that cannot be started."""
    return MachineError(
        "git cannot be started",
        causes=[str(error)],
        hint="install git {}.{} or newer and see that it is on PATH".format(*GIT_VERSION_MIN),
    )


def git_version(folder: str) -> tuple[int, int]:
    """The version of the git program, as (major, minor).

    Raises:
        MachineError: it is missing or older than GIT_VERSION_MIN.
    """
    words = run_git(["version"], folder).output.split()
    numbers = [
        int(part) for part in (words[2] if len(words) > 2 else "").split(".")[:2] if part.isdigit()
    ]
    version = (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)
    if version < GIT_VERSION_MIN:
        raise MachineError(
            f"git is too old: {' '.join(words) or 'it does not tell its version'}",
            hint="install git {}.{} or newer".format(*GIT_VERSION_MIN),
        )
    return version


def read_pointer(file: str) -> str | None:
    """The folder that a `.git` file (`gitdir: …`) points to, absolute; None if it is no such file.

    The path may be relative to the file's folder, and may hold anything but a final line end.
    """
    return read_path(file, b"gitdir: ")


def read_path(file: str, prefix: bytes = b"") -> str | None:
    """The path that a file of git holds (`commondir`, `gitdir`), absolute; None if unreadable."""
    try:
        with open(file, "rb") as stream:
            content = stream.read(65536)
    except OSError:
        return None
    path = os.fsdecode(content.removeprefix(prefix).rstrip(b"\r\n"))
    if not path or not content.startswith(prefix):
        return None
    return os.path.realpath(os.path.join(os.path.dirname(file), path))


def changed_files(folder: str, *, untracked: bool, git_dir: str | None = None) -> list[str]:
    """The files of a worktree with uncommitted changes, staged or not; ignored ones do not count.

    Args:
        folder: The top of the worktree.
        untracked: Whether files that git does not know count too.
        git_dir: The worktree's own git folder. With it a folder that lost its `.git` file is never
            taken for a part of the repository around it.

    Raises:
        InputError: git cannot tell.
    """
    own = [] if git_dir is None else ["--git-dir", git_dir, "--work-tree", folder]
    files = f"--untracked-files={'normal' if untracked else 'no'}"
    arguments = ["--no-optional-locks", *own, "status", "--porcelain", "-z", files]
    fields = iter(demand_git(arguments, folder, "tell what is uncommitted").split("\0"))
    names = []
    for field in fields:
        if field:
            names.append(field[3:])
            if field[0] in "RC":
                next(fields)  # the name it had before
    return names


def some(names: "Sequence[str]") -> str:
    """The first few names, and how many more there are."""
    more = len(names) - NAMES_SHOWN_MAX
    return ", ".join(names[:NAMES_SHOWN_MAX]) + (f" and {more} more" if more > 0 else "")


def link_fault(path: str, git_dir: str) -> str | None:
    """Why the folder and the private git folder do not point to each other; None if they do."""
    entry = os.path.join(path, ".git")
    if read_pointer(entry) != os.path.realpath(git_dir):
        return f"{entry} does not point to {git_dir}"
    if read_path(os.path.join(git_dir, "gitdir")) != os.path.realpath(entry):
        return f"{git_dir} is of another worktree than {path}"
    return None


def head_fault(git_dir: str, branch: str) -> str | None:
    """Why the worktree is not on the branch; None if it is."""
    try:
        with open(os.path.join(git_dir, "HEAD"), "rb") as file:
            head = os.fsdecode(file.read(4096)).rstrip()
    except OSError as error:
        return f"the worktree has no HEAD: {error}"
    if head == f"ref: refs/heads/{branch}":
        return None
    found = head.removeprefix("ref: refs/heads/")
    return f"the worktree is on {found} instead of the branch {branch}"


def render_branch(template: str, *, area: str, issue: str) -> str:
    """The branch of one issue, given by its text form; `template` is `[workspace] branch`.

    Not str.format: the template may not reach into objects ({area.__class__}). Neither an area nor
    an id can hold a brace.
    """
    return template.replace("{area}", area).replace("{issue}", issue)
