"""What may be struck: a call of a process that was watched, and how to hit the same one again."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gauntlet.calls import Call, sites_of
from gauntlet.hand import ANY, KILLED, MARKS
from gauntlet.scenario import BY_HAND, BY_PATH

SHARED, WORKTREES = "shared", "worktrees"
KILL = "signal=SIGKILL"
_COMMANDS = ("run", "retry", "retry", "run, second act", "run that archives")
# In a path: what differs from play to play.
_CHANGING_TEXT = re.compile(r"(?P<batch>\d{8}\\-\d{6}\\-[0-9a-f]{4})|(?P<pid>(?<=json\\\.)\d+)")
_PATTERNS = {"batch": r"\d{8}-\d{6}-[0-9a-f]{4}", "pid": r"\d+"}
_PIPE = "^pipe:"
_BY_OTHER_NAME = {
    "open": "openat",
    "linkat": "link",
    "unlinkat": "unlink",
    "mkdirat": "mkdir",
    "renameat": "rename",
    "renameat2": "rename",
}
_DRIFTING = ("openat", "write")  # of a runner, by their numbers
_KIND = re.compile(r" \[([a-z-]+)\]$")


class Target(NamedTuple):
    """A call to strike: the N-th of this name of the process, and the sites that it belongs to.

    Attributes:
        path: A pattern of what it acts on; "" where that is neither a file nor a pipe.
        nths: For each site, the how many-th call of this name on that path it is there.
        file: That file, below the project; of what is in an attempt's folder its name.
    """

    play: str
    role: str
    name: str
    ordinal: int
    sites: tuple[str, ...]
    path: str = ""
    nths: tuple[int, ...] = ()
    file: str = ""

    @property
    def is_file(self) -> bool:
        """Whether it acts on a file: no kernel refuses a pipe as it refuses a file."""
        return self.path not in ("", _PIPE)

    def strike(self, how: str) -> str:
        """What strace's `inject=` takes: the call is aimed at by its number."""
        return f"{self.name}:{how}:when={self.ordinal}"

    def strike_exactly(self, site: str, how: str) -> str | None:
        """The fault that hits this very call at this site, where it can be aimed at so."""
        name = self._python_name
        if self.role.startswith("runner"):
            return self._strike_by_path(site, how)
        aim = self._aim(site)
        if aim and name in MARKS:
            return f"{BY_HAND}mark {name} {aim}\n{MARKS[name]}:{how}:when=1"
        if aim and name in KILLED and how == KILL:
            return f"{BY_HAND}kill {name} {aim}"
        return None

    def _strike_by_path(self, site: str, how: str) -> str | None:
        """strace counts a runner's calls on one file alone.

        A runner is one thread, whose calls are the same in each play but for these: it looks into
        /proc, and copies what comes.
        """
        if self.name not in _DRIFTING or not self.file:
            return None
        nth = self.nths[self.sites.index(site)]
        return f"{BY_PATH}{self.file}\n{self.name}:{how}:when={nth}"

    @property
    def _python_name(self) -> str:
        return _BY_OTHER_NAME.get(self.name, self.name)

    def _aim(self, site: str) -> str:
        if not self.path:
            return ""
        kind = _KIND.search(site)
        return f"{self.nths[self.sites.index(site)]} {kind[1] if kind else ANY} {self.path}"


class Aim(NamedTuple):
    """A call to strike for this site: by what it means where that can be told, or by its number."""

    target: Target
    site: str = ""
    by_number: bool = False

    def fault(self, how: str) -> str:
        """What to lay out for the target's role."""
        exact = None if self.by_number else self.target.strike_exactly(self.site, how)
        return exact or self.target.strike(how)


def unmarked(call: Call) -> Call:
    """The call as the program meant it, where hand.py had it made by the other system call."""
    usual = {other: name for name, other in MARKS.items()}
    return call._replace(name=usual.get(call.name, call.name))


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
    counts: Counter[tuple[str, str, str]] = Counter()
    targets = []
    for call, sites in sites_of(calls, name, str(folder)):
        path = _pattern(call, folder)
        nths = []
        for site in sites:
            kind = _KIND.search(site)
            place = call.name, path, kind[1] if kind else ANY
            counts[place] += 1
            nths.append(counts[place])
        if own or call.name != "execve":
            place_of = (tuple(sites), path, tuple(nths), _file(call, folder))
            targets.append(Target(play, role, call.name, call.ordinal, *place_of))
    return targets


def _file(call: Call, folder: Path) -> str:
    """Its first path below the project; of what is in an attempt's folder the name alone."""
    path = (call.paths or [""])[0]
    below = path.removeprefix(f"{folder}/") if path.startswith(f"{folder}/") else ""
    _, of_attempt, name = below.partition("/attempts/")
    return name.partition("/")[2] if of_attempt else below


def _pattern(call: Call, folder: Path) -> str:
    """What matches the first path of a call in any play; "" for what is no path of the project."""
    path = (call.paths or [""])[0]
    if path.startswith("pipe:"):
        return _PIPE
    if not f"{path}/".startswith(f"{folder}/"):
        return ""
    text = re.escape(path.removeprefix(str(folder.parent)))
    return f"{_CHANGING_TEXT.sub(lambda match: _PATTERNS[match.lastgroup or ''], text)}$"
