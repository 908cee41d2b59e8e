"""The machine of the model: of each attempt its folder, its runner, its agent; of each issue the
signal file. It obeys the attempt protocol (DESIGN.md section 4) and nothing more.

A `Local` is all there is of one attempt. The runner goes its steps one by one, in the order of
hosts/runner.py and hosts/runner_watch.py; between any two it may be killed, told to end, or
overtaken by somebody who looks. A runner that was started may come late or never: nothing ever
forces a step.

An attempt that is over on record and of which no process is left, or can come, is dropped from the
world: nobody asks for its evidence again, so worlds that differ only in it have the same future.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from gangline.core.evidence import Answer, Claim, ExitRecord, Progress, Signal

# Where a runner stands: what it did last.
NOWHERE, LOCKED, CLAIMED, STARTING, RUNNING, ENDED, REAPED, RECORDED = range(8)
# What lives of the attempt besides its runner.
NOTHING, TOOLS, AGENT = range(3)
HUP, TERM, KILL = 1, 15, 9
WAITS_FOR_LIMIT, ENDED_BY_LIMIT = 1, 2
TOKENS = 100

Exit = tuple[int | None, int | None, bool]  # code, signal, refused
SUCCESS: Exit = (0, None, False)
REFUSAL: Exit = (None, None, True)
_BAD_ENDS: tuple[tuple[str, Exit], ...] = (
    ("fails (exit 1)", (1, None, False)),
    ("ends as if hung up (exit 143)", (143, None, False)),
    ("is killed", (None, KILL, False)),
)


class Local(NamedTuple):
    """One attempt: its folder and its processes.

    Attributes:
        coming: Runners that were started and have not come to the lock.
        place: Where the runner stands; NOWHERE: there is none.
        lock_file: Whether `lock` exists; it is held while there is a runner.
        end: How the agent ended, known to the runner.
        record: exit.json, with the signal that the runner itself got.
        told: The first HUP or TERM that the runner got.
        has_reader: What the agent prints is read: the limit, the stall, what it uses up.
        limit: Whether it met its service's limit: it waits for its end, or has ended by it.
    """

    coming: int = 0
    place: int = NOWHERE
    lock_file: bool = False
    claim: Claim = Claim.NONE
    starting: bool = False
    end: Exit | None = None
    record: tuple[Exit, int | None] | None = None
    alive: int = NOTHING
    told: int | None = None
    has_reader: bool = False
    limit: int = 0
    is_still: bool = False
    tokens: int = 0

    @property
    def progress(self) -> Progress | None:
        if not (self.limit or self.tokens):
            return None
        ended = self.limit == ENDED_BY_LIMIT
        return Progress(
            limited=bool(self.limit),
            failure="limit" if ended else None,
            failure_kind="limit" if ended else None,
            input_tokens=self.tokens,
        )

    @property
    def lock(self) -> Answer:
        if not self.lock_file:
            return Answer.UNKNOWN
        return Answer.NO if self.place == NOWHERE else Answer.YES

    @property
    def exit(self) -> ExitRecord | None:
        if self.record is None:
            return None
        (code, signal, refused), told = self.record
        why = "it is the wrong folder" if refused else None
        return ExitRecord(code=code, signal=signal, runner_signal=told, refused=why)

    @property
    def is_over(self) -> bool:
        """No process is left and none can come."""
        return not self.coming and self.place == NOWHERE and self.alive == NOTHING


class Step(NamedTuple):
    """One step that an attempt can take by itself.

    Attributes:
        words: For a person who reads a counterexample.
        to: The attempt after it.
        cost: Faults that it takes.
        started, gone: Whether an agent was executed, whether the last process went.
        calm: Whether it is part of what happens when nothing goes wrong any more.
    """

    words: str
    to: Local
    cost: int = 0
    started: bool = False
    gone: bool = False
    calm: bool = True


def without_runner(local: Local, alive: int) -> Local:
    """The attempt after its runner is gone."""
    return local._replace(place=NOWHERE, told=None, end=None, alive=alive)


@lru_cache(None)
def steps(local: Local) -> tuple[Step, ...]:
    """Every step that the attempt can take now."""
    return tuple(_steps(local))


def _steps(local: Local) -> Iterator[Step]:
    if local.coming:
        fewer = local._replace(coming=local.coming - 1)
        if local.claim is not Claim.NONE:
            yield Step("a runner comes and finds a claim: it runs nothing", fewer)
        elif local.place == NOWHERE:
            yield Step("its runner takes the lock", fewer._replace(place=LOCKED, lock_file=True))
    yield from _runner_steps(local)
    if local.place == NOWHERE and local.alive:
        # Not part of the calm: what ignores every politeness has to be ended.
        yield Step("what it left ends", local._replace(alive=NOTHING), gone=True, calm=False)
    if local.place != NOWHERE:
        yield Step("its runner is killed alone", without_runner(local, local.alive), 1)
        if local.alive:
            gone = without_runner(local, NOTHING)
            yield Step("its runner and agent are killed", gone, 1, gone=True)
    if NOWHERE < local.place <= ENDED and local.told is None:
        yield Step("its pane is closed", local._replace(told=HUP), 1)


def _runner_steps(local: Local) -> Iterator[Step]:
    match local.place:
        case 1:  # LOCKED
            yield claimed(local)
        case 2:  # CLAIMED
            yield Step("`starting` is made", local._replace(place=STARTING, starting=True))
            refused = local._replace(place=REAPED, end=REFUSAL)
            yield Step("its runner refuses to start the agent", refused, 1)
        case 3:  # STARTING
            running = local._replace(place=RUNNING, alive=AGENT)
            yield Step("its agent starts", running, started=True)
        case 4:  # RUNNING
            over = local._replace(place=ENDED, alive=TOOLS)
            if not (local.limit or local.is_still):
                succeeded = over._replace(end=SUCCESS)
                yield Step("its agent succeeds", succeeded, calm=local.told is None)
            if local.told is not None:
                yield Step("its agent obeys", over._replace(end=(143, None, False)))
            for words, end in _BAD_ENDS:
                yield Step(f"its agent {words}", over._replace(end=end), 1)
            if local.has_reader:
                yield from _service_steps(local, over)
        case 5:  # ENDED
            yield Step(
                "its runner reaps what the agent left",
                local._replace(place=REAPED, alive=NOTHING),
                gone=True,
            )
        case 6:  # REAPED
            assert local.end is not None
            done = local._replace(place=RECORDED, record=(local.end, local.told), told=None)
            yield Step("exit.json is written", done._replace(end=None))
        case 7:  # RECORDED
            yield Step("its runner lets the lock go", without_runner(local, NOTHING))


def _service_steps(local: Local, over: Local) -> Iterator[Step]:
    """What an agent may come to that tells of itself."""
    if local.limit:
        yield Step("its limit is over", local._replace(limit=0))
    else:
        waits = local._replace(limit=WAITS_FOR_LIMIT)
        yield Step("its agent meets the limit, and waits", waits, 1)
        ended = over._replace(end=(1, None, False), limit=ENDED_BY_LIMIT)
        yield Step("its agent ends by the limit", ended, 1)
    if local.is_still:
        yield Step("its agent moves again", local._replace(is_still=False))
    else:
        yield Step("its agent stalls", local._replace(is_still=True), 1)
    if not local.tokens:
        yield Step("its agent uses much up", local._replace(tokens=TOKENS), 1)


def claimed(local: Local) -> Step:
    """The runner's link: it wins only where there is no claim."""
    if local.claim is Claim.NONE:
        mine = local._replace(place=CLAIMED, claim=Claim.RUNNER)
        return Step("its runner links the claim", mine)
    return Step("its runner finds a claim: it runs nothing", without_runner(local, NOTHING))


# -- what others do to an attempt ----------------------------------------------------------------


def voided(local: Local) -> Local:
    """The fence: void, unless the name is taken (AttemptFolders.void)."""
    return local._replace(claim=Claim.VOID) if local.claim is Claim.NONE else local


def told_to_end(local: Local, signal: int) -> Local:
    """HUP or TERM to the runner, which does its duty then; before its lock there is nobody."""
    if NOWHERE < local.place <= ENDED and local.told is None:
        return local._replace(told=signal)
    return local


def server_lost(local: Local) -> Local:
    """tmux is gone: no runner comes any more, those that live are hung up."""
    return told_to_end(local, HUP)._replace(coming=0)


def rebooted(local: Local) -> Local:
    """Only what is on the disk is left."""
    left = without_runner(local, NOTHING)._replace(coming=0, is_still=False)
    # What its output told is durable only together with its end.
    return left if local.record else left._replace(limit=0, tokens=0)


# -- one issue's part of the world ---------------------------------------------------------------


class Site(NamedTuple):
    """The attempts of one issue, oldest first, and its signal file."""

    signal: Signal = Signal.NONE
    attempts: tuple[tuple[int, Local], ...] = ()

    def attempt(self, number: int) -> Local | None:
        """The attempt of this number, if it has a folder."""
        for found, local in self.attempts:
            if found == number:
                return local
        return None

    def put(self, number: int, local: Local) -> "Site":
        attempts = dict(self.attempts) | {number: local}
        return self._replace(attempts=tuple(sorted(attempts.items())))

    def pruned(self, closed: int) -> "Site":
        """Without the attempts that are over in the world and on record, which are those up to
        the number `closed`.
        """
        kept = tuple(x for x in self.attempts if x[0] > closed or not x[1].is_over)
        return self if len(kept) == len(self.attempts) else self._replace(attempts=kept)

    def everywhere(self, change) -> "Site":
        return self._replace(attempts=tuple((n, change(local)) for n, local in self.attempts))

    @property
    def numbers(self) -> list[int]:
        return [number for number, _ in self.attempts]


class SiteStep(NamedTuple):
    """A step of one attempt, seen from its issue."""

    words: str
    to: Site
    cost: int
    started: int | None
    gone: int | None
    calm: bool


@lru_cache(None)
def site_steps(site: Site, closed: int) -> tuple[SiteStep, ...]:
    """Every step that something of this issue can take by itself."""
    found: list[SiteStep] = []
    for number, local in site.attempts:
        for step in steps(local):
            to = site.put(number, step.to).pruned(closed)
            started = number if step.started else None
            gone = number if step.gone else None
            found.append(
                SiteStep(f"a{number}: {step.words}", to, step.cost, started, gone, step.calm)
            )
        if local.alive == AGENT and site.signal is Signal.NONE:
            for signal in (Signal.OK, Signal.FAILED):
                to = site._replace(signal=signal)
                words = f"a{number}: its agent writes the signal file: {signal}"
                found.append(SiteStep(words, to, 1, None, None, False))
    return tuple(found)
