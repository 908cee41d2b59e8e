"""What may be struck: a call of a process that was watched, and how to hit the same one again."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gauntlet.calls import Call, sites_of
from gauntlet.hand import NAMES
from gauntlet.scenario import BY_HAND

SHARED, WORKTREES = "shared", "worktrees"
_COMMANDS = ("run", "retry", "retry", "run, second act", "run that archives")
# In a path: what differs from play to play.
_CHANGING_TEXT = re.compile(r"(?P<batch>\d{8}\\-\d{6}\\-[0-9a-f]{4})|(?P<pid>(?<=json\\\.)\d+)")
_PATTERNS = {"batch": r"\d{8}-\d{6}-[0-9a-f]{4}", "pid": r"\d+"}
_BY_OTHER_NAME = {"open": "openat", "linkat": "link", "unlinkat": "unlink", "mkdirat": "mkdir"}


class Target(NamedTuple):
    """A call to strike: the N-th of this name of the process, and the sites that it belongs to.

    Attributes:
        path, nth: A pattern of what it acts on, and the how many-th call of this name on that.
    """

    play: str
    role: str
    name: str
    ordinal: int
    sites: tuple[str, ...]
    path: str = ""
    nth: int = 0

    def strike(self, how: str) -> str:
        """What strace's `inject=` takes."""
        return f"{self.name}:{how}:when={self.ordinal}"

    @property
    def kill_by_hand(self) -> str | None:
        """The fault that hits this very call, where hand.py can."""
        name = _BY_OTHER_NAME.get(self.name, self.name)
        if not self.role.startswith("command") or name not in NAMES or not self.path:
            return None
        return f"{BY_HAND}{name} {self.nth} {self.path}"


def role_name(play: str, role: str, *, recovery: bool = False) -> str:
    """What a role is called in a site."""
    kind, _, rest = role.partition("-")
    if kind == "runner":
        kinds = {"3": "runner of one that dies", "7": "runner of one that is cancelled"}
        name = kinds.get(rest.partition("-")[0], "runner")
    elif kind == "command":
        names = _COMMANDS if play == SHARED else ("run", "run that archives")
        name = "recovery" if recovery else names[min(int(rest), len(names) - 1)]
    else:
        name = role
    return name if play == SHARED else f"{name} ({play})"


def targets_in(
    play: str, role: str, calls: Iterable[Call], folder: Path, name: str
) -> list[Target]:
    """What a watched process called. Its children are left out: they are counted by themselves."""
    own = role.startswith("runner")
    counts: Counter[tuple[str, str]] = Counter()
    targets = []
    for call, sites in sites_of(calls, name, str(folder)):
        path = _pattern(call, folder)
        counts[call.name, path] += 1
        if own or call.name != "execve":
            nth = counts[call.name, path]
            targets.append(Target(play, role, call.name, call.ordinal, tuple(sites), path, nth))
    return targets


def _pattern(call: Call, folder: Path) -> str:
    """What matches the first path of a call in any play; "" for what is no path of the project."""
    path = (call.paths or [""])[0]
    if not path.startswith(f"{folder}/"):
        return ""
    text = re.escape(path.removeprefix(str(folder)))
    return f"{_CHANGING_TEXT.sub(lambda match: _PATTERNS[match.lastgroup or ''], text)}$"
