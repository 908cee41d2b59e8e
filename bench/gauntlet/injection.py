"""The real program struck at its system calls: killed, killed again in its recovery, refused.

Every target comes from a play that was only watched: which process, which call, the how many-th. No
two plays are the same to the call, so what was hit is read from the trace. Kills are first aimed by
the number of the call; what no kill has hit, and every refusal, is aimed at by what the call means
(hand.py). Rounds go on until every site that was ever seen has been hit.
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
from gauntlet.scenario import BY_HAND, ISSUES, Play, Theatre, make_room, split_fault
from gauntlet.targets import KILL, SHARED, WORKTREES, Aim, Target, role_name, targets_in, unmarked

ERRORS = ("ENOSPC", "EIO", "EINTR")
_KILLED = (-9, 137)
_REFUSED = (2, 4)  # 2: before anything of a batch is there
PAIRS = "killed, and its recovery killed, then resumed"
WATCHED_PLAYS = 3
_ROUNDS_MAX = 6
_PAIR_ROUNDS_MAX = 4
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
        aim, strike = split_fault(inject)
        name_struck = strike.partition(":")[0] or "kill"  # hand.py has the process kill itself
        hits = struck(calls, name_struck, kill=KILL in strike or not strike)
        if not hits:
            continue
        meant = [unmarked(call) if aim and call in hits else call for call in calls]
        known = dict(sites_of(meant, name, str(theatre.folder)))
        result.hit[role] = tuple(
            site
            for hit in hits
            for site in known.get(
                unmarked(hit) if aim else hit, [f"{name}: {hit.name} that changes nothing"]
            )
        )


class Gauntlet:
    """All strikes of one seed.

    Args:
        seed: Of every choice.
        workers: Plays at the same time.
        repeats: How many calls of one site are struck, at most.
    """

    def __init__(self, seed: int, workers: int, repeats: int) -> None:
        self._dice = random.Random(seed)
        self.pool = ThreadPoolExecutor(workers)
        self._repeats = repeats
        self.watched: list[Target] = []
        self.seen_in: Counter[str] = Counter()  # in how many of the watched plays a site was
        self._recoveries: dict[Aim, list[Target]] = {}  # of a kill, what its recovery called

    def close(self) -> None:
        """End the workers."""
        self.pool.shutdown(cancel_futures=True)

    # -- watching --------------------------------------------------------------------------

    def watch(self, plays: int = WATCHED_PLAYS) -> Part:
        """Play without any fault, to see what is called."""
        part = Part("watched, nothing struck")
        jobs = [(play, dict.fromkeys(_WATCHED[play], "")) for play in (SHARED, WORKTREES)] * plays
        began = time.monotonic()
        for result in self.pool.map(lambda job: perform(*job), jobs):
            part.results.append(result)
            self.watched += result.seen
            self.seen_in.update(_sites(result.seen))
        part.seconds = time.monotonic() - began
        part.sites = _sites(self.watched)
        part.hit = part.sites
        part.calls = len(self.watched) // plays
        return part

    def _sample(self, targets: Sequence[Target], repeats: int) -> Iterator[Target]:
        """Of each site the first call, the last and others between, so many; of one alone any."""
        groups: dict[str, list[Target]] = defaultdict(list)
        for target in dict.fromkeys(targets):
            for site in target.sites:
                groups[site].append(target)
        chosen: dict[Target, None] = {}
        for group in groups.values():
            group.sort(key=lambda target: (target.role, target.ordinal))
            ends = list(dict.fromkeys([group[0], group[-1]])) if repeats > 1 else []
            rest = [target for target in group if target not in ends]
            more = self._dice.sample(rest, min(len(rest), repeats - len(ends)))
            chosen |= dict.fromkeys([*ends, *more])
        yield from chosen

    # -- killing ---------------------------------------------------------------------------

    def kill(self, only: Sequence[Aim] | None = None) -> Part:
        """Kill every process at its calls, until every site was hit; or at these calls alone."""
        part = Part("killed at each call, then resumed")
        aims = list(only or map(_by_number, self._sample(self.watched, self._repeats)))
        part.calls = len(set(self.watched))
        part.sites = {aim.site for aim in aims} if only else _sites(self.watched)
        began = time.monotonic()
        for turn in range(1, 1 + _ROUNDS_MAX):
            for aim, result in zip(aims, self.pool.map(self._kill, aims), strict=True):
                self._note(part, result)
                if result.seen:
                    self._recoveries[aim] = result.seen
            missing = part.sites - part.hit
            if only or not missing:
                break
            aims = [self._aim(self.watched, site, turn) for site in sorted(missing)]
        part.seconds = time.monotonic() - began
        return part

    def _aim(self, targets: Sequence[Target], site: str, turn: int) -> Aim:
        """At a call of this site; by its number in a turn of two: hand.py sees Python's calls."""
        found = self._dice.choice([target for target in targets if site in target.sites])
        return Aim(found, site, by_number=turn % 2 == 0)

    def _kill(self, aim: Aim) -> Result:
        target = aim.target
        faults = {target.role: aim.fault(KILL)}
        kind, _, number = target.role.partition("-")
        if kind == "command":
            faults[f"command-{int(number) + 1}"] = ""  # what recovers is watched for the pairs
        result = perform(target.play, faults, allowed=_KILLED, recoveries=True)
        return _told(result, aim)

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
        for result in self.pool.map(
            lambda job: perform(*job, allowed=(*_KILLED, 2, 3, 4, 5)), jobs
        ):
            self._note(part, result)
        part.sites = part.hit
        part.calls = len(jobs)
        part.seconds = time.monotonic() - began
        return part

    def kill_pairs(self, count: int, only: Sequence[tuple[Aim, Aim]] | None = None) -> Part:
        """Kill a command at one call, and its recovery at another; or a runner and a command.

        Until so many plays were struck twice and every site of a recovery was hit, or these alone.
        """
        part = Part(PAIRS)
        part.sites = _sites([t for seen in self._recoveries.values() for t in seen])
        part.calls = sum(map(len, self._recoveries.values()))
        began = time.monotonic()
        for turn in range(_PAIR_ROUNDS_MAX):
            missing = sorted(part.sites - part.hit)
            for result in self.pool.map(
                self._kill_pair, only or self._pairs(missing, count - part.struck, turn)
            ):
                self._note(part, result)
            if only:
                break
        part.hit &= part.sites
        part.seconds = time.monotonic() - began
        return part

    def _pairs(self, sites: Sequence[str], count: int, turn: int) -> list[tuple[Aim, Aim]]:
        """Pairs of kills: one for each of these sites of a recovery, and others up to `count`.

        Aimed at a site it is by what it means, as far as that can be, and by number in turns.
        """
        by_site: dict[str, list[tuple[Aim, Target]]] = defaultdict(list)
        for first, seen in self._recoveries.items():
            for second in seen:
                for site in second.sites:
                    by_site[site].append((first, second))
        pairs = []
        for site in sites:
            first, second = self._dice.choice(by_site[site])
            pairs.append((first, Aim(second, site, by_number=turn % 2 == 1)))
        runners = [t for t in self.watched if t.role.startswith("runner") and t.play == SHARED]
        runs = [t for t in self.watched if t.role == "command-0" and t.play == SHARED]
        every = list(self._recoveries)
        while len(pairs) < count and every:
            if len(pairs) % 10 == 0 and runners:
                killed = _by_number(self._dice.choice(runners))
                pairs.append((killed, _by_number(self._dice.choice(runs))))
                continue
            first = self._dice.choice(every)
            pairs.append((first, _by_number(self._dice.choice(self._recoveries[first]))))
        return pairs

    def _kill_pair(self, pair: tuple[Aim, Aim]) -> Result:
        faults = {aim.target.role: aim.fault(KILL) for aim in pair}
        result = perform(pair[0].target.play, faults, allowed=_KILLED)
        second = pair[1].target.role
        if second in result.hit:
            whose = pair[1].target.sites[0].partition(": ")[0]
            found = (site.partition(": ")[2] for site in result.hit[second])
            result.hit[second] = tuple(f"{whose}: {site}" for site in found)
        return _told(result, *pair)

    # -- refusing --------------------------------------------------------------------------

    def refuse(self, only: Sequence[Aim] | None = None) -> Part:
        """The system refuses each write, sync, rename and link in each of three ways."""
        part = Part("refused: ENOSPC, EIO, EINTR")
        names = (*WRITES, *SYNCS, *RENAMES, *LINKS)
        every = [t for t in self.watched if t.name in names and t.is_file]
        part.calls = len(ERRORS) * len(set(every))
        sites = {aim.site for aim in only} if only else _once(_sites(every))
        part.sites = {f"{site} error={error}" for site in sites for error in ERRORS}
        began = time.monotonic()
        for turn in range(1, 1 + _ROUNDS_MAX):
            jobs = [
                (aim, f"error={error}")
                for aim in only or [self._aim(every, site, turn) for site in sorted(sites)]
                for error in ERRORS
                if f"{aim.site} error={error}" not in part.hit
            ]
            for (_, how), result in zip(jobs, self.pool.map(self._refuse, jobs), strict=True):
                result.hit = {
                    role: tuple(f"{site} {how}" for site in at) for role, at in result.hit.items()
                }
                self._note(part, result)
            if only or part.sites <= part.hit:
                break
        part.hit &= part.sites
        part.seconds = time.monotonic() - began
        return part

    def _refuse(self, job: tuple[Aim, str]) -> Result:
        aim, how = job
        return perform(aim.target.play, {aim.target.role: aim.fault(how)}, allowed=_REFUSED)

    def fill_disk(self, count: int) -> Part:
        """From some write on, every write of the command is refused: the disk is full."""
        part = Part("full disk from some write on")
        writes = [t for t in self.watched if t.role == "command-0" and t.name == "write"]
        targets = self._dice.sample(writes, min(count, len(writes)))
        part.calls = len(writes)
        began = time.monotonic()
        for result in self.pool.map(self._fill_disk, targets):
            self._note(part, result)
        part.sites = part.hit  # from where on it is full is chosen by number, and any place will do
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


def _sites(targets: Sequence[Target]) -> set[str]:
    return {site for target in targets for site in target.sites}


def _by_number(target: Target) -> Aim:
    return Aim(target, by_number=True)


def _once(sites: set[str]) -> set[str]:
    """Without what the play with worktrees does as the other one does it."""
    there = f" ({WORKTREES})"
    return {site for site in sites if there not in site or site.replace(there, "") not in sites}


def _told(result: Result, *aims: Aim) -> Result:
    """Put in the sites of processes that have killed themselves: of it the trace tells no more."""
    for aim in aims:
        role = aim.target.role
        by_hand = result.faults[role].startswith(f"{BY_HAND}kill ")
        if by_hand and result.hit.get(role, ("",))[0].endswith(": kill"):
            result.hit[role] = (aim.site,)
    return result
