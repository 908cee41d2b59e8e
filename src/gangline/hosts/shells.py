"""Whether a shell waits at its prompt in a terminal, judged from outside, by what /proc says of it.

What must stay true: only an interactive shell of our own user, asleep on its terminal, with no
child, is said to wait; whatever cannot be read or is not understood is said to be busy. A prompt
and the builtin `read` look alike.
"""

import os
from collections.abc import Sequence

from gangline.hosts import processes

SHELLS = frozenset({"ash", "bash", "dash", "fish", "ksh", "ksh93", "mksh", "oksh", "sh", "zsh"})

_SLEEPING = b"S"
# Options of shells whose value is the next word; any other word is a script or its argument.
_LONG_WITH_VALUE = frozenset({"--rcfile", "--init-file", "--emulate", "--init-command"})
_LETTERS_WITH_VALUE = "oO"
_FISH_LETTERS_WITH_VALUE = "CdDfop"


def waits_by_proc(pane_pid: int) -> bool:
    """Whether a shell at its prompt leads the foreground of the terminal of this process.

    Raises:
        OSError: it cannot be read.
    """
    leader = _foreground(pane_pid)
    if leader is None or not _sleeps(leader):
        return False
    folder = f"/proc/{leader}"
    own = os.stat(folder).st_uid == os.getuid()
    if not own or not os.path.samefile(f"{folder}/root", "/"):  # chroot: our paths are not there
        return False
    with open(f"{folder}/comm", encoding="utf-8", errors="replace") as file:
        name = file.read().rstrip("\n")
    with open(f"{folder}/cmdline", "rb") as file:
        argv = [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    if name not in SHELLS:  # `exec -a` and links change one of the names, not both
        name = os.path.basename(os.readlink(f"{folder}/exe"))
    if name not in SHELLS or not reads_terminal(name, argv):
        return False
    # In this order: a child that began after the look would be its shell's foreground, or a sleep.
    return not has_children(leader) and _sleeps(leader) and _foreground(leader) == leader


def _foreground(pid: int) -> int | None:
    """The foreground process group of its terminal (field 8 of stat); None: it has none."""
    fields = processes.stat_fields(pid)
    return int(fields[5]) if fields and int(fields[5]) > 0 else None


def _sleeps(pid: int) -> bool:
    """Whether it waits, with its controlling terminal (field 7) as standard input."""
    fields = processes.stat_fields(pid)
    if not fields or fields[0] != _SLEEPING:
        return False
    return os.stat(f"/proc/{pid}/fd/0").st_rdev == int(fields[4])


def has_children(pid: int) -> bool:
    """Whether it has a child, also one that has ended and was not collected.

    Raises:
        OSError: it cannot be known now: no descriptor or memory left to look with.
    """
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                if file.read(1):
                    return True
        return False
    except (FileNotFoundError, ProcessLookupError):
        # A kernel without CONFIG_PROC_CHILDREN, or a thread that ended: look at every process.
        parents = (
            fields[1] for each in processes.every_pid() if (fields := processes.stat_fields(each))
        )
        return any(int(parent) == pid for parent in parents)


def waits_by_psutil(pane_pid: int, command: str) -> bool:
    """The same without /proc, for the pane's first process alone: another's child is not seen."""
    import psutil  # noqa: PLC0415 - not needed on Linux

    name = command.removeprefix("-")
    try:
        process = psutil.Process(pane_pid)
        return (
            name in SHELLS
            and process.uids().real == os.getuid()
            and process.status() not in {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
            and reads_terminal(name, process.cmdline())
            and not process.children()
        )
    except psutil.Error:
        return False


def reads_terminal(name: str, argv: Sequence[str]) -> bool:
    """Whether a shell of this name and command line takes commands from its terminal.

    A script or `-c` is none; whatever is not understood counts as a script.
    """
    if not argv:
        return False
    with_value = _FISH_LETTERS_WITH_VALUE if name == "fish" else _LETTERS_WITH_VALUE
    words = iter(argv[1:])
    for word in words:
        if word in {"-", "--"}:
            return next(words, None) is None
        if word.startswith("--"):
            if word.partition("=")[0] == "--command":
                return False
            if word in _LONG_WITH_VALUE:
                next(words, None)
        elif word[0:1] in {"-", "+"}:
            letters = word[1:]
            if "c" in letters:
                return False
            if letters[-1:] in with_value:  # elsewhere in the word its value is attached
                next(words, None)
            elif "s" in letters and word[0] == "-":
                return True  # the rest are arguments of what is typed
        else:
            return False
    return True
