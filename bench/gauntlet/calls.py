"""What strace wrote, as calls and call sites.

A call is one system call of one process, numbered as strace's `when=N` counts: per process (or
thread) and per system call. A site is what the call means: the role of the process, the system
call, and what it acts on with the changing parts of names left out. Kills are aimed by number, and
what they really hit is read from the trace; coverage is counted by sites.
"""

import ast
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gauntlet.hand import JOURNAL, kinds_of

WRITES = ("write", "pwrite64", "writev", "pwritev2")
SYNCS = ("fsync", "fdatasync")
RENAMES = ("rename", "renameat", "renameat2")
LINKS = ("link", "linkat", "symlink", "symlinkat")
_OPENS = ("openat", "open", "creat")
_CLONES = ("clone", "clone3", "fork", "vfork")
_NAMES = ("unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "mknod", "mknodat")
_SIZES = ("ftruncate", "truncate")
_OTHERS = ("execve", "connect", "sendto", "sendmsg", "kill", "tgkill", "pidfd_send_signal", "flock")
TRACED = (*WRITES, *SYNCS, *RENAMES, *LINKS, *_OPENS, *_CLONES, *_NAMES, *_SIZES, *_OTHERS)
UNTOUCHED = "no call"  # nothing was injected

_LINE = re.compile(r"(\d+) +(?:(\d+\.\d+) )?(.*)", re.DOTALL)
_CALL = re.compile(r"(\w+)\((.*)", re.DOTALL)
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)", re.DOTALL)
_RESULT = re.compile(r"\) += (\S+.*)$", re.DOTALL)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FD = re.compile(r"(-?\d+)<((?:[^<>]|<[^<>]*>)*)>")
_OF_ATTEMPT = re.compile(r"attempts/[^/]+")
_BATCH = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")
_NUMBER = re.compile(r"\d+")
_STATE_FILES = (JOURNAL, "batch.state.json")


class Call(NamedTuple):
    """One system call.

    Attributes:
        pid, ordinal: Which process or thread, and the how many-th call of this name in it.
        name, args, result: As strace writes them; result "?" where the process never returned.
        began, ended: Seconds since the epoch; 0 where the trace has no times.
        injected: strace changed its result.
    """

    pid: int
    ordinal: int
    name: str
    args: str
    result: str
    began: float = 0.0
    ended: float = 0.0
    injected: bool = False

    @property
    def strings(self) -> list[bytes]:
        """The call's string arguments."""
        return [unescape(text) for text in _STRING.findall(self.args)]

    @property
    def descriptor(self) -> tuple[int, str]:
        """Number and path of the first descriptor among the arguments; -1 and "" without one."""
        found = _FD.match(self.args)
        return (int(found[1]), found[2]) if found else (-1, "")

    @property
    def paths(self) -> list[str]:
        """What the call acts on, absolute where strace knows the folder."""
        if self.name in (*WRITES, *SYNCS, "ftruncate", "flock"):
            return [self.descriptor[1]]
        if self.name == "execve" or self.name in _CLONES or self.name in ("kill", "tgkill"):
            return []
        folders = [path for _, path in _FD.findall(self.args.split("=>")[0])]
        if self.name in ("rename", "link", "symlink", "mkdir", "unlink", "rmdir"):
            folders = []
        names = [os.fsdecode(text) for text in self.strings]
        return [
            name if name.startswith("/") or place >= len(folders) else f"{folders[place]}/{name}"
            for place, name in enumerate(names)
        ]


def unescape(text: str) -> bytes:
    """The bytes of a string as strace quotes it."""
    value = ast.literal_eval(f'b"{text}"')
    assert isinstance(value, bytes)
    return value


def read_calls(path: Path) -> list[Call]:
    """The calls of a trace in the order in which they began; a last line cut short is left out."""
    calls: list[Call] = []
    counts: Counter[tuple[int, str]] = Counter()
    unfinished: dict[tuple[int, str], int] = {}
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    for line in text.split("\n")[:-1]:
        parts = _LINE.match(line)
        if not parts or parts[3].startswith(("---", "+++")):
            continue
        pid, at = int(parts[1]), float(parts[2] or 0)
        resumed = _RESUMED.match(parts[3])
        if resumed:
            place = unfinished.pop((pid, resumed[1]), None)
            if place is not None:
                result = _result(resumed[2])
                calls[place] = calls[place]._replace(
                    result=result, ended=at, injected="(INJECTED)" in resumed[2]
                )
            continue
        found = _CALL.match(parts[3])
        if not found:
            continue
        name, rest = found[1], found[2]
        counts[pid, name] += 1
        if "<unfinished ...>" in rest or "<detached ...>" in rest:
            unfinished[pid, name] = len(calls)
        args = _RESULT.sub("", rest).partition("<unfinished")[0]
        injected = "(INJECTED)" in rest
        result = _result(rest)
        calls.append(Call(pid, counts[pid, name], name, args, result, at, at, injected))
    return calls


def _result(text: str) -> str:
    found = _RESULT.search(text)
    return found[1] if found else "?"


def changes(call: Call) -> bool:
    """Whether the call changes something on disk or in another process, or may.

    Left out: reading, what goes to the process's own output, compiled Python, devices.
    """
    if call.name in _OPENS:
        path = (call.paths or [""])[0]
        opened = re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", call.args)
        return bool(opened) and not path.startswith(("/dev/", "/proc/")) and "pycache" not in path
    if call.name in WRITES:
        number, path = call.descriptor
        aside = "pycache" in path or "[eventfd]" in path or path.startswith("/dev/")
        return number > 2 and not aside
    if call.name in RENAMES:
        return not any("pycache" in path for path in call.paths)
    return call.name in TRACED


class Sites:
    """Names the sites of one process's calls, in order: a call may belong to several.

    A commit is told by the events in it: the write that has a `dispatched`, and what follows it
    up to the next commit, is another site than the one that has an `ended`.
    """

    def __init__(self, role: str, folder: str) -> None:
        self._role = role
        self._folder = folder
        self._committing: list[str] = []

    def of(self, call: Call) -> list[str]:
        """The sites of the next call; none if it changes nothing."""
        if not changes(call):
            return []
        targets = " -> ".join(self._short(path) for path in call.paths)
        if call.name in WRITES and JOURNAL in targets:
            self._committing = kinds_of(b"".join(call.strings))
        what = f"{self._role}: {call.name} {targets or self._object(call)}".rstrip()
        if any(name in targets for name in _STATE_FILES) and call.name != "flock":
            return [f"{what} [{kind}]" for kind in self._committing or ["before"]]
        return [what]

    def _object(self, call: Call) -> str:
        if call.name == "execve":
            words = [os.fsdecode(text) for text in call.strings[1:]]
            return os.path.basename(words[0]) if words else ""
        if call.name in _CLONES:
            return "thread" if "CLONE_THREAD" in call.args else "process"
        return ""

    def _short(self, path: str) -> str:
        if path.startswith(("pipe:", "socket:", "UNIX", "TCP")):
            return path.partition(":")[0]
        for start in ("/.workspace/orchestrate/", "/.workspace/"):
            if start in path:
                path = path.partition(start)[2]
                break
        else:
            path = path.replace(self._folder, "PROJECT")
        return _NUMBER.sub("N", _BATCH.sub("BATCH", _OF_ATTEMPT.sub("attempts/*", path)))


def sites_of(calls: Iterable[Call], role: str, folder: str) -> list[tuple[Call, list[str]]]:
    """The calls that change something, each with its sites; the program's own start is left out."""
    name = Sites(role, folder)
    found = []
    for place, call in enumerate(calls):
        if place == 0 and call.name == "execve":
            continue
        sites = name.of(call)
        if sites:
            found.append((call, sites))
    return found


def struck(calls: list[Call], name: str, *, kill: bool) -> list[Call]:
    """The calls of this name that the fault hit; none if it came to none.

    What other threads were in the middle of is not it. It is one call, but for execve: strace
    counts by process, so each child is struck at its own.
    """
    if not kill:
        return [call for call in calls if call.injected][:1]
    killed = [call for call in calls if call.result.startswith("?") and call.name == name]
    return killed if name == "execve" else killed[-1:]
