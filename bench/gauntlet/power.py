"""Power cuts: a play is recorded, and every state that the disk may then hold is started from.

Each state, or of those that POSIX alone would allow a sample (every.py has all that ext4 and APFS
allow), is laid out in a folder and loaded as a start would, by the real store, and each attempt
in it is looked at by the real attempt folders. What was acknowledged has to be there: commits whose
fsync had returned, the start of an agent before its first instruction, its end once exit.json was
synced. A sample of the states is then really resumed to the end, where the play was recorded.
"""

import hashlib
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from gauntlet.checks import judge, judge_codes
from gauntlet.disk import ANY, LAWS, ROOT, Disk, State, Step, steps_of
from gauntlet.injection import SHARED, Result
from gauntlet.scenario import AREA, ISSUES, Play, Theatre

from gangline.app.launching import subject_of
from gangline.core.evidence import ExitRecord, Verdict, verdict
from gangline.core.model import Status
from gangline.errors import GanglineError
from gangline.hosts import processes
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.local import LocalHost
from gangline.hosts.tmux import Tmux
from gangline.hosts.tmux_control import Socket
from gangline.hosts.wakes import Unwatched
from gangline.store.area import AreaPaths
from gangline.store.batches import Store

# Nothing is left of it when it is over, so it may be in memory.
MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None
BYTES_TRACED = 1_000_000
_AREA = f"{ROOT}/orchestrate/{AREA}"
_ARCHIVE = f"{ROOT}/orchestrate/.archive/{AREA}/"
_JOURNAL = f"{_AREA}/batch.journal.jsonl"
_NOT_RUN = (Verdict.NOT_STARTED, Verdict.NEVER_RAN, Verdict.REFUSED)


class Facts(NamedTuple):
    """What was acknowledged before the power went.

    Attributes:
        committed: The journal as its last fsync found it.
        ran: Attempts (ISSUE-aN) whose agent was started.
        ended: Attempts whose exit.json was synced, name and contents.
        archived: 0: the batch is not archived; 1: perhaps; 2: for sure.
    """

    at: float = 0.0
    committed: bytes = b""
    ran: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    archived: int = 0


class Moment(NamedTuple):
    """A state that may be found, and what has to be in it."""

    facts: Facts
    state: State
    law: str


class Recording:
    """One play, with all that its processes called; it keeps its folder for real resumes.

    Args:
        room: For the theatre.
        faults: Of the play, as in `injection.perform`; the processes are all traced anyway.
    """

    def __init__(self, room: Path, faults: dict[str, str]) -> None:
        self.theatre = Theatre(room, bytes_traced=BYTES_TRACED)
        self.theatre.lay_fault("all-runners", "")
        watched = {f"command-{number}": "" for number in range(20)} | {"cancel": ""}
        self.play = Play(self.theatre, watched | faults, ISSUES)
        self.play.perform()
        roles = sorted(path.name for path in (room / "traces").iterdir())
        traces = [(role, self.theatre.calls(role)) for role in roles]
        self.steps = steps_of(traces, str(self.theatre.folder))
        self.ledger = (room / "ledger").read_text().splitlines()
        retries = [c.began for c in self.theatre.commands if c.argv[0] == "retry"]
        self.second_act_at = min(retries, default=float("inf"))


def played(
    steps: Sequence[Step], lies: Callable[[Step], bool] | None = None
) -> Iterator[tuple[Facts, Disk]]:
    """The disk after each step, and what is acknowledged then.

    Args:
        steps: Of a recording.
        lies: Syncs that the disk acknowledges and does not do; as if they were left out.
    """
    disk, facts = Disk(), Facts()
    for step in steps:
        if step.what != "run" and not (lies and step.what == "sync" and lies(step)):
            disk.play(step)
        facts = _told(facts, step, disk)
        yield facts, disk


def moments(
    steps: Sequence[Step], seed: int, per_moment: int, laws: Sequence[str] = LAWS
) -> Iterator[tuple[str, int, list[Moment]]]:
    """After each step and by each law: how many states there may be, and those to look at.

    Args:
        steps: Of a recording.
        seed: Of the sampling.
        per_moment: How many ways for names to be there are tried, at most.
    """
    dice = random.Random(seed)
    for facts, disk in played(steps):
        for law in laws:
            states = disk.states(law, dice, per_moment)
            yield law, disk.count(law), [Moment(facts, state, law) for state in states]


def _told(facts: Facts, step: Step, disk: Disk) -> Facts:
    """What is acknowledged after this step."""
    facts = facts._replace(at=step.at)
    path = step.paths[0]
    if step.what == "run":
        _, issue, number = path.split("-")
        return facts._replace(ran=facts.ran | {f"{issue}-a{number}"})
    if step.what == "rename" and path == _AREA:
        return facts._replace(archived=1)
    if step.what != "sync":
        return facts
    if path == _JOURNAL:
        found = disk.find(path)
        return facts._replace(committed=found.now if found else b"")
    if facts.archived == 1 and path == _ARCHIVE.rstrip("/"):
        return facts._replace(archived=2)
    folder = disk.find(path)
    if folder is not None and "exit.json" in folder.names:
        issue, _, number = path.rpartition("-a")
        return facts._replace(ended=facts.ended | {f"{issue.rpartition('-')[2]}-a{number}"})
    return facts


class Shelf:
    """A folder that holds one state after another; only what differs is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._there: State = {}

    def lay_out(self, state: State) -> None:
        """Make the folder hold exactly this state."""
        for path in sorted(self._there.keys() - state.keys(), reverse=True):
            target = self.folder / path
            if self._there.pop(path) is None:
                shutil.rmtree(target, ignore_errors=True)
            else:
                target.unlink(missing_ok=True)
        for path in sorted(state):
            data = state[path]
            if path in self._there and self._there[path] == data:
                continue
            if data is None:
                (self.folder / path).mkdir(exist_ok=True)
            else:
                (self.folder / path).write_bytes(data)
            self._there[path] = data

    def forget_changes(self) -> None:
        """A start has repaired what it found: those files are not what they were."""
        area = self.folder / _AREA
        for entry in os.scandir(area) if area.is_dir() else ():
            path = f"{_AREA}/{entry.name}"
            if not entry.is_dir():
                os.unlink(entry)
                self._there.pop(path, None)


def check(moment: Moment, folder: Path) -> list[str]:
    """What a start from this state would lose or get wrong."""
    facts = moment.facts
    paths = AreaPaths(str(folder / ROOT), AREA)
    if not os.path.isdir(paths.folder):
        return _check_archive(moment, folder)
    if facts.archived == 2:
        return ["the batch was archived and is back"]
    store = Store(paths)
    try:
        there = store.load(repair=True)
        batch = store.batch
        if not there:
            return ["there is no batch, and commits were acknowledged"] if facts.committed else []
        wrong = [] if _journal(folder).startswith(facts.committed) else ["a commit was lost"]
        store.read_issues()
        dispatched = [batch.issues[key] for key in batch.by_status[Status.DISPATCHED]]
        evidence = _host(paths).probe([subject_of(batch, issue) for issue in dispatched])
        for issue in dispatched:
            attempt, seen = issue.attempts[-1], evidence[issue.key]
            found = verdict(seen, kill_ordered=attempt.kill is not None)
            wrong += _check_attempt(facts, f"{issue.key}-a{attempt.number}", found, seen.exit)
        again = Store(paths)
        again.load(repair=True)
        if again.batch.seq != batch.seq or again.reports:
            wrong.append(f"a second start finds something else: {again.reports}")
        again.close()
    except GanglineError as error:
        return [f"it cannot be loaded: {error.message} {error.causes}"]
    finally:
        store.close()
    return wrong


def _host(paths: AreaPaths) -> LocalHost:
    """Looks at attempts as a start does; of tmux it asks nothing."""
    folders = AttemptFolders(paths.folder, paths.wake)
    return LocalHost(folders, Tmux(Socket("name", "unused")), "", "", Unwatched())


@contextmanager
def another_boot() -> Iterator[None]:
    """The machine was started anew: its boot has another id."""
    true = processes.boot_id
    processes.boot_id = lambda: "after-the-power-cut"
    try:
        yield
    finally:
        processes.boot_id = true


def _journal(folder: Path) -> bytes:
    return (folder / _JOURNAL).read_bytes()


def _check_archive(moment: Moment, folder: Path) -> list[str]:
    """The area's folder is not there: nothing was begun, or the batch is in the archive, whole."""
    facts = moment.facts
    if not facts.archived:
        return ["the area is gone, and commits were acknowledged"] if facts.committed else []
    found = list((folder / _ARCHIVE).glob("*/batch.journal.jsonl"))
    if len(found) != 1:
        return ["the batch is neither in its place nor in the archive"]
    return [] if found[0].read_bytes().startswith(facts.committed) else ["a commit was lost"]


def _check_attempt(
    facts: Facts, attempt: str, found: Verdict, record: ExitRecord | None
) -> list[str]:
    """After a power cut no agent lives, so each attempt has to be one thing or the other."""
    if found in (Verdict.UNKNOWN, Verdict.RUNNING):
        return [f"nobody can tell what became of {attempt}: {found}"]
    if attempt in facts.ended and found not in (Verdict.FINISHED, Verdict.DIED):
        return [f"{attempt} had ended on record and is {found}"]
    if attempt in facts.ended and record is None:
        return [f"the end of {attempt} was lost"]
    if attempt in facts.ran and found in _NOT_RUN:
        return [f"the agent of {attempt} had run, and it is {found}: it would run again, uncharged"]
    return []


# -- all of them -------------------------------------------------------------------------------


class Told(NamedTuple):
    """What came of the states of a recording.

    Attributes:
        possible: States that there may be, told apart or not.
        started: Different ones that were started from.
        wrong: What was lost or wrong in one of them.
    """

    possible: int
    started: int
    wrong: list[str]


def replay(
    steps: Sequence[Step],
    seed: int,
    per_moment: int,
    share: float = 1.0,
) -> Told:
    """Start from states that POSIX allows, each different one once, or a share of them.

    The other arguments are those of `moments`.
    """
    possible, started, wrong = 0, 0, []
    known: set[bytes] = set()
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="gauntlet-disk-", dir=MEMORY) as room, another_boot():
        shelf = Shelf(Path(room))
        for _, count, found in moments(steps, seed, per_moment, (ANY,)):
            possible += count
            for moment in found:
                key = _digest(moment)
                if key in known:
                    continue
                known.add(key)
                if dice.random() >= share:
                    continue
                started += 1
                shelf.lay_out(moment.state)
                wrong += check(moment, shelf.folder)
                shelf.forget_changes()
    return Told(possible, started, wrong)


def _digest(moment: Moment) -> bytes:
    facts = moment.facts._replace(at=0.0)
    found = hashlib.blake2b(repr((sorted(map(str, facts.ran)), sorted(facts.ended))).encode())
    found.update(repr((facts.archived, facts.committed)).encode())
    for path in sorted(moment.state):
        found.update(path.encode() + b"\0" + (moment.state[path] or b"\1") + b"\2")
    return found.digest()


def pick(recording: Recording, seed: int, count: int) -> list[Moment]:
    """States to resume from: any, but for those of a batch that was not begun or is archived."""
    dice = random.Random(seed)
    found = [
        moment
        for _, _, there in moments(recording.steps, seed, 2)
        for moment in there
        if moment.facts.committed and not moment.facts.archived
    ]
    return dice.sample(found, min(count, len(found)))


def resume(recording: Recording, moment: Moment, act: int) -> Result:
    """Put this state in the place of what is there, as after a power cut, and play on to the end.

    Raises nothing: what went wrong is in the result.
    """
    theatre, facts = recording.theatre, moment.facts
    result = Result(SHARED, {f"power cut {act}": moment.law}, hit={f"power cut {act}": ()})
    began = time.monotonic()
    theatre.cut_power()
    shutil.rmtree(theatre.folder / ROOT, ignore_errors=True)
    Shelf(theatre.folder).lay_out(moment.state)
    lines = [line for line in recording.ledger if float(line.split()[-1]) <= facts.at]
    (theatre.room / "ledger").write_text("".join(f"{line}\n" for line in lines))
    with suppress(FileNotFoundError):
        (theatre.room / "second-act").unlink()
    play = Play(theatre, {}, ISSUES)
    if facts.at >= recording.second_act_at:
        (theatre.room / "second-act").touch()
    play.edited = b'"type":"edited"' in facts.committed
    play.lost_signals = True
    theatre.snapshots.append(facts.committed.rpartition(b"\n")[0])
    try:
        play.perform()
        result.wrong += judge(play, hurt=True)
        result.wrong += judge_codes(theatre.commands, set(), ())
    except Exception as error:  # noqa: BLE001 - one state that fell over must not end the others
        result.wrong.append(f"the resume fell over: {type(error).__name__}: {error}")
    result.seconds = time.monotonic() - began
    return result
