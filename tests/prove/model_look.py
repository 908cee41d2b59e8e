"""How the model looks at an attempt: the product's own reading, over a world that moves meanwhile.

`LocalHost.probe` and `AttemptFolders.read` run as they are. Only the questions that they put to the
system (is this file there, is this lock held, does this process live) are answered by the model,
and before every one of them the attempt may go on by some steps: so evidence is read in the order
that the product reads it in, and is no more atomic than it is.

A look that could as well have been taken in one instant, before, between or after the steps that
overtook it, is left out: the same is reached by those steps taken by themselves.
"""

import os.path
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache, partial
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import patch

import msgspec
from model_world import Local, Step, steps

from gangline.app import launching
from gangline.core.evidence import Answer, Claim, Evidence, RunnerIdentity, Signal
from gangline.hosts import attempts, processes
from gangline.hosts.attempt_folder import LOCK, STARTING
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.local import LocalHost
from gangline.ports import Subject

SERVER, OLD_SERVER = "11.1", "22.2"  # the tmux server that lives, and one that is gone
OVERTAKING_STEPS_MAX = 4
PROBES = ("claim", "lock", "starting", "exit", "signal", "survivors", "server", "progress")
QUIET_SECONDS = 1e6


class Glance(NamedTuple):
    """What one look may bring.

    Attributes:
        seen: The evidence.
        meanwhile: Steps that the attempt took while it was looked at.
        cost: Faults among them.
        words: For a person who reads a counterexample.
    """

    seen: Evidence
    meanwhile: tuple[Step, ...] = ()
    cost: int = 0
    words: str = ""


class _Scene:
    """One attempt, while it is looked at.

    Args:
        script: Before the how manieth question it takes which step.
        blind: The probe that fails.
    """

    def __init__(
        self, local: Local | None, signal: Signal, script: Sequence[tuple[int, int]], blind: str
    ) -> None:
        self.made = local is not None
        self.local = local or Local()
        self.signal = signal
        self._script = list(script)
        self.blind = blind
        self.moments: list[Local] = []  # the attempt at each question
        self.taken: list[Step] = []
        self.passed = [self.local]
        self.answers: list[object] = []  # to each question

    def now(self) -> Local:
        """The attempt at the instant of this question."""
        while self._script and self._script[0][0] == len(self.moments):
            step = steps(self.local)[self._script.pop(0)[1]]
            self.taken.append(step)
            self.local = step.to
            self.passed.append(self.local)
        self.moments.append(self.local)
        return self.local

    def claim(self, path: str) -> tuple[Claim, RunnerIdentity | None]:
        found = self.now().claim
        self.answers.append(found)
        if self.blind == "claim":
            return Claim.UNKNOWN, None
        return found, RunnerIdentity(7, 7, self.boot()) if found is Claim.RUNNER else None

    def lock(self, path: str) -> Answer:
        found = self.now().lock
        self.answers.append(found)
        return Answer.UNKNOWN if self.blind == "lock" else found

    def exists(self, path: str) -> Answer:
        local, name = self.now(), os.path.basename(path)
        if name == STARTING:
            found = local.starting
        else:
            found = local.lock_file if name == LOCK else self.made
        self.answers.append(found)
        if name == STARTING and self.blind == "starting":
            return Answer.UNKNOWN
        return Answer.YES if found else Answer.NO

    def exit(self, path: str):
        record = self.now().exit
        self.answers.append(record)
        if self.blind == "exit":
            return Answer.UNKNOWN, None
        return (Answer.YES, record) if record else (Answer.NO, None)

    def read_signal(self, subject: Subject) -> Signal:
        self.now()
        self.answers.append(self.signal)
        return Signal.UNKNOWN if self.blind == "signal" else self.signal

    def add_to(self, seen: Evidence, subject: Subject, *, living: bool) -> Evidence:
        """As hosts/activity; where nobody reads what an agent prints nothing is asked."""
        if not self.local.has_reader:
            return seen
        local = self.now()
        self.answers.append((local.progress, local.is_still))
        if self.blind == "progress":
            return msgspec.structs.replace(seen, has_progress=Answer.UNKNOWN)
        return msgspec.structs.replace(
            seen,
            progress=local.progress,
            has_progress=Answer.YES if local.progress else Answer.NO,
            quiet_seconds=(QUIET_SECONDS if local.is_still else 0.0) if living else None,
        )

    def living(self, marks: set[str]) -> set[str]:
        local = self.now()
        found = bool(local.alive or local.place)
        self.answers.append(found)
        if self.blind == "survivors":
            raise OSError("no descriptor left")
        return set(marks) if found else set()

    def boot(self) -> str:
        return "boot"  # a lock that was ever taken stays there: nobody asks whose boot it was

    def ticks(self, pid: int) -> int | None:
        if self.blind == "server":
            raise OSError("no descriptor left")
        return 1 if pid == int(SERVER.partition(".")[0]) else None


_scene: list[_Scene] = []  # the one that answers now
_ANSWERED_BY_SCENE = (
    (attempts, "_read_claim", "claim"),
    (attempts, "probe_lock", "lock"),
    (attempts, "_exists", "exists"),
    (attempts, "_read_exit", "exit"),
    (processes, "living_marks", "living"),
    (processes, "start_ticks", "ticks"),
    (processes, "boot_id", "boot"),
)


@contextmanager
def scenes_answer() -> Iterator[None]:
    """The product asks the scene, instead of the system, as long as this lasts."""
    with ExitStack() as stack:
        for module, name, answer in _ANSWERED_BY_SCENE:
            ask = partial(_ask_scene, answer)
            stack.enter_context(patch.object(module, name, ask))
        # Random bits of marks are not random here: equal states have to be equal.
        marks = SimpleNamespace(token_hex=lambda size: "mark")
        stack.enter_context(patch.object(launching, "secrets", marks))
        yield


def _ask_scene(answer: str, *question):
    return getattr(_scene[0], answer)(*question)


def _look(scene: _Scene, subject: Subject, host_server: str | None) -> Evidence:
    folders = AttemptFolders("area", "area/wake")
    folders.read_signal = scene.read_signal
    folders.session = lambda subject: None  # the mark tells all there is to tell
    host = LocalHost.__new__(LocalHost)
    host._folders = folders
    host._activity = SimpleNamespace(add_to=scene.add_to)
    host._wakes = SimpleNamespace(watch=lambda issue, pid: None)
    host.server = host_server
    _scene[:] = [scene]
    return host.probe([subject])[subject.issue]


class Angle(NamedTuple):
    """From where an attempt is looked at: what the batch and the orchestrator know of it."""

    server: str | None
    launched: bool
    host_server: str | None


@lru_cache(None)
def glances(local: Local | None, signal: Signal, angle: Angle) -> tuple[Glance, ...]:
    """Everything that one look may bring; the first is the look in one instant."""
    subject = Subject(
        attempt_id="b-1-a0",
        issue="1",
        number=0,
        mark="mark",
        server=angle.server,
        launched=angle.launched,
    )

    def look(script: Sequence[tuple[int, int]], blind: str = "") -> tuple[_Scene, Evidence]:
        scene = _Scene(local, signal, script, blind)
        return scene, _look(scene, subject, angle.host_server)

    first, seen = look(())
    found = [Glance(seen)]
    for probe in PROBES:
        _, other = look((), probe)
        if all(other != glance.seen for glance in found):
            found.append(Glance(other, (), 1, f"its {probe} cannot be read"))
    if local is not None:
        found += _overtaken(look, first, signal, angle)
    return tuple(found)


def _overtaken(look, first: _Scene, signal: Signal, angle: Angle) -> list[Glance]:
    """The looks that no single instant would have given."""
    found: dict[tuple[Evidence, tuple[Step, ...]], Glance] = {}
    begun: set[tuple] = set()  # from where the rest of a look can only be the same
    todo: list[tuple[tuple[tuple[int, int], ...], list[Local]]] = [((), first.moments)]
    while todo:
        script, moments = todo.pop()
        if len(script) == OVERTAKING_STEPS_MAX:
            continue
        begin = script[-1][0] if script else 1
        for at in range(begin, len(moments)):
            for which, step in enumerate(steps(moments[at])):
                longer = (*script, (at, which))
                scene, seen = look(longer)
                cost = sum(step.cost for step in scene.taken)
                if cost > 1:
                    continue
                from_here = (at, scene.moments[at], *scene.answers[:at], len(longer), cost)
                if from_here in begun:
                    continue
                begun.add(from_here)
                todo.append((longer, scene.moments))
                if any(seen == at_once(x, signal, angle) for x in scene.passed):
                    continue
                taken = tuple(scene.taken)
                words = "; meanwhile " + ", ".join(step.words for step in taken)
                found.setdefault((seen, taken), Glance(seen, taken, cost, words))
    return list(found.values())


@lru_cache(None)
def at_once(local: Local, signal: Signal, angle: Angle) -> Evidence:
    """The look in one instant."""
    scene = _Scene(local, signal, (), "")
    subject = Subject(
        attempt_id="b-1-a0",
        issue="1",
        number=0,
        mark="mark",
        server=angle.server,
        launched=angle.launched,
    )
    return _look(scene, subject, angle.host_server)


def of_attempt(seen: Evidence, number: int, *, doubted: bool) -> Evidence:
    """The same of another attempt."""
    return msgspec.structs.replace(seen, attempt=number, doubted=doubted)
