"""What `doctor` and `init` find: one fact each, how grave it is, and the command that mends it.

A command is there to be copied into a shell, by a person or a program, so every word of it that is
not ours is quoted, also one that no terminal can show; and none of them destroys work.
"""

import os
import shlex
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from gangline.errors import EXIT_OK, EXIT_STATE, EXIT_USAGE, GanglineError


class Level(StrEnum):
    """How grave a finding is."""

    OK = "ok"
    NOTE = "note"  # to be known; nothing is wrong
    WRONG = "wrong"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `doctor`, and one object of `doctor --json`.

    Attributes:
        check: What was looked at: a key of GROUPS.
        level: How grave it is.
        message: One line; may hold untrusted text.
        area: The area it is about, if it is about one.
        command: A shell line that mends or removes it.
    """

    check: str
    level: Level
    message: str
    area: str | None = None
    command: str | None = None


# In the order in which they are shown; the names of the checks are stable (`--json`).
GROUPS = {
    "program": "programs",
    "agent": "programs",
    "file-system": "file system",
    "space": "file system",
    "clock": "clock and boot",
    "boot": "clock and boot",
    "repository": "settings and repository",
    "settings": "settings and repository",
    "workspace": "settings and repository",
    "tmux": "settings and repository",
    "area": "area",
    "journal": "area",
    "state-file": "area",
    "orchestrator": "area",
    "attempt": "area",
    "orphan": "left behind",
    "process": "left behind",
    "session": "left behind",
    "pane": "left behind",
    "worktree": "left behind",
    "attempt-folder": "left behind",
    "kept-file": "left behind",
    "part-file": "left behind",
    "lock-file": "left behind",
}
_OF_THE_MACHINE = frozenset({"programs", "file system", "clock and boot", GROUPS["settings"]})


def exit_code(findings: Sequence[Finding]) -> int:
    """0: nothing is wrong; 2: machine or settings cannot run it; 4: the state needs a person.

    2 comes before 4, as it does for every other command: with settings that cannot be read none of
    them comes to the state.
    """
    groups = {GROUPS[f.check] for f in findings if f.level is Level.WRONG}
    if groups & _OF_THE_MACHINE:
        return EXIT_USAGE
    return EXIT_STATE if groups else EXIT_OK


def of_error(check: str, error: GanglineError, area: str | None = None) -> Finding:
    """An error that another command would end with, as a finding: place, causes and mend in it."""
    where = f"{error.place}: " if error.place else ""
    causes = f" ({'; '.join(error.causes)})" if error.causes else ""
    hint = f"; {error.hint}" if error.hint else ""
    message = f"{where}{error.message}{causes}{hint}"
    return Finding(check=check, level=Level.WRONG, message=message, area=area)


def of_system_error(check: str, error: OSError, area: str | None = None) -> Finding:
    """A file that the system refuses."""
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "a file"
    message = f"{name}: {error.strerror or error}"
    return Finding(check=check, level=Level.WRONG, message=message, area=area)


def shell_line(*words: str) -> str:
    """One command for a shell, safe to copy; every word is one argument, whatever is in it."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    """A word of a shell line, shown whole by every terminal.

    What cannot be printed (or is no UTF-8) is written as octal in `$'…'`, which bash, zsh, ksh and
    the shell of POSIX 2024 read; in plain quotes it would act on the terminal that shows it.
    """
    if word.isprintable():
        return shlex.quote(word)
    parts = []
    for character in word:
        if character in "\\'":
            parts.append(f"\\{character}")
        elif character.isprintable():
            parts.append(character)
        else:
            parts += [f"\\{byte:03o}" for byte in os.fsencode(character)]
    return f"$'{''.join(parts)}'"


def free_name(path: str) -> str:
    """A path beside this one that nothing is at: `PATH-1`, `PATH-2`, …"""
    number = 1
    while os.path.lexists(f"{path}-{number}"):
        number += 1
    return f"{path}-{number}"
