"""The real program struck at its system calls: killed, killed again in its recovery, refused.

Every target comes from a play that was only watched: which process, which call, the how many-th. A
call is aimed at by its number, and what was hit is read from the trace, because no two plays are
the same to the call; so rounds go on until every site that was ever seen has been hit.
"""

import random
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from gauntlet.calls import LINKS, RENAMES, SYNCS, WRITES, sites_of, struck
from gauntlet.checks import judge, judge_codes
from gauntlet.scenario import BY_HAND, ISSUES, Play, Theatre, make_room
from gauntlet.targets import SHARED, WORKTREES, Target, role_name, targets_in

KILL = "signal=SIGKILL"
ERRORS = ("ENOSPC", "EIO", "EINTR")
_KILLED = (-9, 137)
_REFUSED = (2, 4)  # 2: before anything of a batch is there
_WATCHED_PLAYS = 3
_ROUNDS_MAX = 6
_PROGRESS = 50  # plays between two words to whoever waits
# Two plays: every transition in a shared folder; and worktrees, made by git in a second thread.
_ISSUES = {SHARED: ISSUES, WORKTREES: {1: (), 3: (), 8: (3,)}}
_WATCHED = {
    SHARED: [*(f"command-{n}" for n in range(5)), "cancel", *(f"runner-{n}-0" for n in ISSUES)],
    WORKTREES: ["command-0", "command-1", "runner-1-0"],
}


@dataclass
class Result:
    """One play with its faults.

    Attributes:
        faults: What was laid out, by role.
        hit: The sites that were struck, by role; a role is missing where nothing came of its fault.
        wrong: What was promised and not kept.
        seen: The targets of roles that were watched only.
    """

    play: str
    faults: Mapping[str, str]
    hit: dict[str, tuple[str, ...]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    seen: list[Target] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Part:
    """One row of the report: what was done, and what came of it."""

    name: str
    results: list[Result] = field(default_factory=list)
    calls: int = 0  # state-changing calls that were there to be struck
    sites: set[str] = field(default_factory=set)
    hit: set[str] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def struck(self) -> int:
        """Plays in which every fault hit something."""
        return sum(len(r.hit) == sum(map(bool, r.faults.values())) for r in self.results)

    @property
    def wrong(self) -> list[Result]:
        """Plays with a broken promise."""
        return [result for result in self.results if result.wrong]


def perform(
    play: str, faults: Mapping[str, str], *, allowed: tuple[int, ...] = (), recoveries: bool = False
) -> Result:
    """One play with these faults, judged.

    Args:
        play: Which.
        faults: By role; "" only watches.
        allowed: Exit codes of a struck command.
        recoveries: What is watched is called recovery in the sites.
    """
    result = Result(play, faults)
    began = time.monotonic()
    with make_room() as room:
        theatre = Theatre(Path(room), git=play == WORKTREES)
        try:
            acted = Play(theatre, faults, _ISSUES[play], acts=play == SHARED)
            acted.perform()
            _read_traces(result, theatre, recoveries=recoveries)
            hurt = any(role.startswith("runner") for role, inject in faults.items() if inject)
            result.wrong += judge(acted, hurt=hurt)
            aimed = {role for role, inject in faults.items() if inject}
            result.wrong += judge_codes(theatre.commands, aimed, allowed)
        except subprocess.TimeoutExpired as error:
            result.wrong.append(f"it never ends: {error.cmd}: {error.output!r}")
        except Exception as error:  # noqa: BLE001 - one play that fell over must not end the others
            result.wrong.append(f"the play fell over: {type(error).__name__}: {error}")
        finally:
            theatre.close()
    result.seconds = time.monotonic() - began
    return result


def _read_traces(result: Result, theatre: Theatre, *, recoveries: bool) -> None:
    for role, inject in result.faults.items():
        calls = theatre.calls(role)
        name = role_name(result.play, role, recovery=recoveries and not inject)
        if not inject:
            result.seen += targets_in(result.play, role, calls, theatre.folder, name)
            continue
        hit = struck(calls, kill=KILL in inject or inject.startswith(BY_HAND))
        if hit is None:
            continue
        known = dict(sites_of(calls, name, str(theatre.folder)))
        result.hit[role] = tuple(known.get(hit, [f"{name}: {hit.name} that changes nothing"]))


class Gauntlet:
    """All strikes of one seed.

    Args:
        seed: Of every choice.
        workers: Plays at the same time.
        repeats: How many calls of one site are struck, at most.
    """

    def __init__(self, seed: int, workers: int, repeats: int) -> None:
        self._dice = random.Random(seed)
        self._pool = ThreadPoolExecutor(workers)
        self._repeats = repeats
        self.watched: list[Target] = []
        self._recoveries: dict[Target, list[Target]] = {}

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown()

    # -- watching --------------------------------------------------------------------------

    def watch(self, plays: int = _WATCHED_PLAYS) -> Part:
        """Play without any fault, to see what is called."""
        part = Part("watched, nothing struck")
        jobs = [(play, dict.fromkeys(_WATCHED[play], "")) for play in (SHARED, WORKTREES)] * plays
        began = time.monotonic()
        for result in self._pool.map(lambda job: perform(*job), jobs):
            part.results.append(result)
            self.watched += result.seen
        part.seconds = time.monotonic() - began
        part.sites = {site for target in self.watched for site in target.sites}
        part.hit = part.sites
        part.calls = len(self.watched) // plays
        return part

    def _sample(self, targets: Sequence[Target], repeats: int) -> Iterator[Target]:
        """Of each site the first call, the last and others between, so many at most."""
        groups: dict[str, list[Target]] = defaultdict(list)
        for target in dict.fromkeys(targets):
            for site in target.sites:
                groups[site].append(target)
        chosen: dict[Target, None] = {}
        for group in groups.values():
            group.sort(key=lambda target: (target.role, target.ordinal))
            ends = [group[0], group[-1]][:repeats]
            rest = [target for target in group if target not in ends]
            more = self._dice.sample(rest, min(len(rest), max(0, repeats - len(ends))))
            chosen |= dict.fromkeys([*ends, *more])
        yield from chosen

    # -- killing ---------------------------------------------------------------------------

    def kill(self, only: Sequence[Target] | None = None) -> Part:
        """Kill every process at its calls, until every site was hit."""
        part = Part("killed at each call, then resumed")
        targets = list(only or self._sample(self.watched, self._repeats))
        part.calls = len(set(self.watched))
        part.sites = {site for target in targets for site in target.sites}
        began = time.monotonic()
        for turn in range(_ROUNDS_MAX):
            jobs = [(target, turn > 0) for target in targets]
            for target, result in zip(targets, self._pool.map(self._kill, jobs), strict=True):
                self._note(part, result)
                if result.seen:
                    self._recoveries[target] = result.seen
            missing = part.sites - part.hit
            candidates = [t for t in self.watched if missing & set(t.sites)]
            if not candidates or only:
                break
            targets = [
                self._dice.choice([t for t in candidates if site in t.sites])
                for site in sorted(missing)
            ]
        part.seconds = time.monotonic() - began
        return part

    def _kill(self, job: tuple[Target, bool]) -> Result:
        target, is_again = job
        by_hand = target.kill_by_hand if is_again else None
        faults = {target.role: by_hand or target.strike(KILL)}
        kind, _, number = target.role.partition("-")
        if kind == "command":
            faults[f"command-{int(number) + 1}"] = ""  # what recovers is watched for the pairs
        result = perform(target.play, faults, allowed=_KILLED, recoveries=True)
        if by_hand and target.role in result.hit:
            result.hit[target.role] = target.sites
        return result

    def kill_children(self) -> Part:
        """Every child of a command killed before it becomes another program: tmux, git."""
        part = Part("every child killed at its execve")
        jobs = [
            (play, {role: f"execve:{KILL}:when=1"})
            for play in (SHARED, WORKTREES)
            for role in _WATCHED[play]
            if role.startswith("command")
        ]
        began = time.monotonic()
        for result in self._pool.map(
            lambda job: perform(*job, allowed=(*_KILLED, 2, 3, 4, 5)), jobs
        ):
            self._note(part, result)
        part.sites = part.hit
        part.calls = len(jobs)
        part.seconds = time.monotonic() - began
        return part

    def kill_pairs(self, count: int) -> Part:
        """Kill a command at one call, and its recovery at another; or a runner and a command."""
        part = Part("killed, and its recovery killed, then resumed")
        pairs = self._pairs(count)
        part.sites = {s for seen in self._recoveries.values() for t in seen for s in t.sites}
        part.calls = sum(map(len, self._recoveries.values()))
        began = time.monotonic()
        for result in self._pool.map(self._kill_pair, pairs):
            self._note(part, result)
        part.hit &= part.sites
        part.seconds = time.monotonic() - began
        return part

    def _pairs(self, count: int) -> list[tuple[Target, Target]]:
        """First one for each site of a recovery, then any."""
        by_site: dict[str, list[tuple[Target, Target]]] = defaultdict(list)
        for first, seen in self._recoveries.items():
            for second in seen:
                for site in second.sites:
                    by_site[site].append((first, second))
        pairs = [self._dice.choice(by_site[site]) for site in sorted(by_site)][:count]
        runners = [t for t in self.watched if t.role.startswith("runner") and t.play == SHARED]
        runs = [t for t in self.watched if t.role == "command-0" and t.play == SHARED]
        every = list(self._recoveries)
        while len(pairs) < count and every:
            if len(pairs) % 10 == 0 and runners:
                pairs.append((self._dice.choice(runners), self._dice.choice(runs)))
                continue
            first = self._dice.choice(every)
            pairs.append((first, self._dice.choice(self._recoveries[first])))
        return pairs

    def _kill_pair(self, pair: tuple[Target, Target]) -> Result:
        faults = {target.role: target.strike(KILL) for target in pair}
        result = perform(pair[0].play, faults, allowed=_KILLED)
        second = pair[1].role
        if second in result.hit:
            whose = pair[1].sites[0].partition(": ")[0]
            found = (site.partition(": ")[2] for site in result.hit[second])
            result.hit[second] = tuple(f"{whose}: {site}" for site in found)
        return result

    # -- refusing --------------------------------------------------------------------------

    def refuse(self, only: Sequence[Target] | None = None) -> Part:
        """The system refuses each write, sync, rename and link in each of three ways."""
        part = Part("refused: ENOSPC, EIO, EINTR")
        names = (*WRITES, *SYNCS, *RENAMES, *LINKS)
        # No kernel refuses a pipe these ways; of what has a path everything is taken.
        every = [t for t in self.watched if t.name in names and t.path]
        targets = list(only or self._sample(every, 1))
        part.calls = len(ERRORS) * len(set(every))
        jobs = [(target, f"error={error}") for target in targets for error in ERRORS]
        part.sites = {f"{site} {how}" for target, how in jobs for site in target.sites}
        began = time.monotonic()
        for (_, how), result in zip(jobs, self._pool.map(self._refuse, jobs), strict=True):
            result.hit = {role: tuple(f"{s} {how}" for s in at) for role, at in result.hit.items()}
            self._note(part, result)
        part.hit &= part.sites
        part.seconds = time.monotonic() - began
        return part

    def _refuse(self, job: tuple[Target, str]) -> Result:
        target, how = job
        return perform(target.play, {target.role: target.strike(how)}, allowed=_REFUSED)

    def fill_disk(self, count: int) -> Part:
        """From some write on, every write of the command is refused: the disk is full."""
        part = Part("full disk from some write on")
        writes = [t for t in self.watched if t.role == "command-0" and t.name == "write"]
        targets = self._dice.sample(writes, min(count, len(writes)))
        part.calls = len(writes)
        part.sites = {site for target in targets for site in target.sites}
        began = time.monotonic()
        for result in self._pool.map(self._fill_disk, targets):
            self._note(part, result)
        part.hit &= part.sites
        part.seconds = time.monotonic() - began
        return part

    def _fill_disk(self, target: Target) -> Result:
        strike = f"write:error=ENOSPC:when={target.ordinal}+"
        return perform(target.play, {target.role: strike}, allowed=_REFUSED)

    def _note(self, part: Part, result: Result) -> None:
        part.results.append(result)
        if len(part.results) % _PROGRESS == 0:
            print(f"  {part.name}: {len(part.results)} plays", flush=True)
        part.hit |= {site for sites in result.hit.values() for site in sites}
        for problem in result.wrong:
            print(f"  {dict(result.faults)}: {problem[:2000]}", flush=True)


def beside(part: Part) -> Counter[str]:
    """What was hit instead of what was aimed at."""
    return Counter(
        site
        for r in part.results
        for sites in r.hit.values()
        for site in sites
        if site not in part.sites
    )
