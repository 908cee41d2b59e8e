"""A simulated machine: virtual time, processes, boots, and what goes wrong at each of their steps.

Everything that happens is an event at a moment of virtual time. While the orchestrator's own code
runs, each of its calls to the system is a step that takes a little time, and whatever is due by
then happens right there, between two of its calls. It sleeps only in its waiter, and time jumps.

Every kind of fault draws from a random stream of its own, so leaving one kind out (to make a
failing history smaller) does not shuffle the others.
"""

import errno
import heapq
import os
import random
import zlib
from dataclasses import dataclass, field

from sim_disk import Disk
from sim_system import Gone, unlock

FAULTS = (
    "crash",  # the orchestrator, a command or a runner is killed at one of its calls
    "power",  # the machine loses power
    "disk",  # ENOSPC or EIO at a write, fsync, link, rename, mkdir
    "probe",  # what an attempt's folder or the process table holds cannot be read
    "launch",  # a launch is lost, late, doubled or not answered
    "server",  # the tmux server dies
    "kill",  # a runner or an agent is killed
    "clock",  # the wall clock is set
    "people",  # commands
    "edit",  # the state file is changed by hand
    "pause",  # the orchestrator is held up between two of its calls, and the others go on
    "journal",  # the journal is lost, with what of the state file a power cut took
)
_SECONDS_OF = {"fsync": 0.0006, "mkdir": 0.0001}
_SECONDS_OF_A_CALL = 0.00004
_REFUSALS = {
    "write": (errno.ENOSPC, errno.EIO),
    "fsync": (errno.EIO, errno.ENOSPC),
    "open-for-write": (errno.ENOSPC, errno.EROFS),
    "mkdir": (errno.ENOSPC,),
    "link": (errno.ENOSPC, errno.EIO),
    "rename": (errno.ENOSPC, errno.EIO),
    "ftruncate": (errno.EIO,),
    "unlink": (errno.EIO,),
}
_STEPS_MAX = 400_000


class ViolationError(AssertionError):
    """A promise was broken, or the history makes no sense."""


@dataclass(eq=False)
class Process:
    """One process: its open files and, counted in its own calls, what is going to hit it.

    Attributes:
        kill_at, refuse_at, hold_at: At which of its calls it is killed, the disk begins to refuse,
            or it is held up.
        on_signal: What it does when it is signalled; None: it dies.
    """

    pid: int
    ticks: int
    kind: str
    mark: str = ""
    session: int = 0
    dead: bool = False
    files: dict = field(default_factory=dict)
    calls: int = 0
    kill_at: int = 0
    refuse_at: int = 0
    hold_at: int = 0
    cut_power: bool = False  # at kill_at the machine goes, not only the process
    was_refused: bool = False
    on_signal: object = None
    attempt_id: str = ""  # of an agent and what it started
    issue: str = ""
    owner: object = None


@dataclass
class Counts:
    """What a history was made of."""

    calls: int = 0
    events: int = 0
    crashes: int = 0
    crash_pairs: int = 0
    power_losses: int = 0
    agents: int = 0
    by_site: dict = field(default_factory=dict)


class World:
    """The machine: `disk`, `now` (seconds), `actor` (whose call it is), `main` (orchestrator)."""

    def __init__(self, seed, without=()):
        self.seed = seed
        self.without = frozenset(without)
        self._streams = {}
        self.disk = Disk(self.stream("power-law"))
        self.now = 1000.0
        self.boot = 1
        self.boot_at = 900.0
        self.wall_offset = 1_767_225_600.0
        self.is_off = False
        self.calm = False  # no more faults
        self.processes = {}  # pid -> Process
        self._pid = 100
        self._tick = 0
        self._heap = []
        self._order = 0
        self.actor = None
        self.main = None
        self.depth = 0
        self.unreadable = {}  # end of a path -> until when
        self.hidden_until = 0.0  # the process table cannot be read
        self.counts = Counts()
        self.history = []
        self.on_death = lambda process: None

    # -- chance --------------------------------------------------------------------------------

    def stream(self, name):
        found = self._streams.get(name)
        if found is None:
            number = zlib.crc32(f"{self.seed}/{name}".encode()) ^ (self.seed << 32)
            found = self._streams[name] = random.Random(number)
        return found

    def chance(self, kind, probability):
        """Whether this fault happens now; never when it is left out or the faults are over."""
        happens = self.stream(kind).random() < probability
        return happens and not self.calm and kind not in self.without

    def new_token(self):
        return f"{self.stream('token').getrandbits(64):016x}"

    # -- the history ---------------------------------------------------------------------------

    def say(self, who, what, *details):
        self.history.append((self.now, who, what, details))

    def fail(self, why):
        self.say("checker", "VIOLATION: " + why)
        raise ViolationError(why)

    # -- time ----------------------------------------------------------------------------------

    def wall_seconds(self):
        return self.now + self.wall_offset

    def at(self, delay, action, *arguments):
        self._order += 1
        heapq.heappush(self._heap, (self.now + delay, self._order, action, arguments))

    def next_moment(self):
        return self._heap[0][0] if self._heap else None

    def _happen(self):
        moment, _, action, arguments = heapq.heappop(self._heap)
        self.now = max(self.now, moment)
        self.disk.wall_ns = int(self.wall_seconds() * 250) * 4_000_000  # a jiffy of 4 ms
        self.counts.events += 1
        actor, self.actor = self.actor, None
        try:
            action(*arguments)
        finally:
            self.actor = actor

    def pass_time(self, until, stop=lambda: False):
        """Let everything happen that is due until then, or until `stop` says so."""
        while not stop():
            moment = self.next_moment()
            if moment is None or moment > until:
                self.now = max(self.now, until)
                return
            self._happen()

    def sleep(self, seconds):
        if self.depth or self.actor is not self.main:
            raise AgainError
        self.pass_time(self.now + seconds)
        self._check_alive(self.actor)

    # -- steps ---------------------------------------------------------------------------------

    def step(self, kind, path, size=0):
        """The actor makes a call to the system.

        Returns:
            For a write: how many bytes come through before it is cut short, or None.

        Raises:
            Gone: the process is dead, perhaps since just now.
            OSError: the disk refuses.
        """
        process = self.actor
        self._check_alive(process)
        self.counts.calls += 1
        if self.counts.calls > _STEPS_MAX:
            self.fail("a history of so many calls: something goes round in a circle")
        process.calls += 1
        if not self.depth:
            self.now += _SECONDS_OF.get(kind, _SECONDS_OF_A_CALL)
            if process.calls == process.hold_at:
                self.now += self._pause(process, path)
            heap = self._heap
            while heap and heap[0][0] <= self.now:
                self._happen()
            self.actor = process
            self._check_alive(process)
        if process.kill_at and process.calls >= process.kill_at:
            if kind == "write" and size > 1 and self.stream("torn").random() < 0.5:
                self._after_short = lambda: self._crash(process, kind, path)
                return self.stream("torn").randint(0, size - 1)
            self._crash(process, kind, path)
        if process.refuse_at and process.calls >= process.refuse_at and kind in _REFUSALS:
            return self._refuse(process, kind, path, size)
        if self.unreadable and kind in ("open", "stat"):
            self._hide(path)
        return None

    def hold_up(self, process):
        """Choose the call before which it is held up next."""
        process.hold_at = process.calls + 1 + int(self.stream("pause").expovariate(1 / 60))

    def _pause(self, process, path):
        """How long a busy machine, or a Ctrl-Z, lets it wait between two of its calls.

        Mostly between two reads of one attempt: what they tell belongs together.
        """
        rng = self.stream("pause")
        if "/attempts/" not in path and rng.random() < 0.8:
            process.hold_at = process.calls + rng.randint(1, 3)
            return 0.0
        self.hold_up(process)
        return 0.0 if self.calm else rng.random() * rng.choice((0.01, 0.1, 1.0, 10.0))

    def _check_alive(self, process):
        if process.dead:
            raise Gone

    def _refuse(self, process, kind, path, size):
        process.refuse_at = 0
        if self.calm or process.kind == "people-editor":
            return None
        rng = self.stream("disk-how")
        number = rng.choice(_REFUSALS[kind])
        process.was_refused = True
        self.say(process.kind, f"the disk refuses {kind}: {os.strerror(number)}", path)
        if kind == "write" and size > 1 and rng.random() < 0.5:
            process.refuse_at = process.calls + 1
            self._after_short = lambda: None
            return rng.randint(0, size - 1)
        raise OSError(number, os.strerror(number), path)

    def after_short_write(self):
        self._after_short()

    def _hide(self, path):
        for end, until in list(self.unreadable.items()):
            if until <= self.now:
                del self.unreadable[end]
            elif path.endswith(end):
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def _crash(self, process, kind, path):
        site = f"{process.kind}: {kind} {_of_what(path)}"
        self.counts.by_site[site] = self.counts.by_site.get(site, 0) + 1
        if process.cut_power:
            self.power_off(f"at {site}")
        self.say(process.kind, f"killed at its call {process.calls}", kind, path)
        self.end(process)
        raise Gone

    # -- processes -----------------------------------------------------------------------------

    def spawn(self, kind, *, mark="", session=0, owner=None):
        """A new process; its number may have been another's before."""
        while True:
            self._pid = 100 + (self._pid - 99) % 60
            before = self.processes.get(self._pid)
            if before is None or before.dead:
                break
            if sum(not p.dead for p in self.processes.values()) >= 60:
                self._pid = 1000 + self._tick
                break
        self._tick += 1
        pid = self._pid
        process = Process(pid, self._tick, kind, mark, session or pid, owner=owner)
        self.processes[pid] = process
        return process

    def living(self):
        return [process for process in self.processes.values() if not process.dead]

    def end(self, process):
        """It is dead: its files are closed, its locks free."""
        if process.dead:
            return
        process.dead = True
        for file in process.files.values():
            unlock(file)
        process.files = {}
        self.on_death(process)

    def call(self, process, action, *arguments):
        """Have a process run some code now, unless it is dead; its crash is only its own."""
        if process.dead:
            return None
        self.actor, before = process, self.actor
        self.depth += 1
        try:
            return action(*arguments)
        except Gone:
            if self.is_off:
                raise
            return None
        finally:
            self.depth -= 1
            self.actor = before

    def signal(self, pid, number):
        """A signal, if the process is there."""
        process = self.processes.get(pid)
        if process is None or process.dead:
            return
        if number == 9 and process.kind == "tool" and process.owner == "stuck":
            process.owner = None
            self.at(8.0, self.end, process)  # it hangs in the kernel for a while
        elif number == 9 or process.on_signal is None:
            self.end(process)
            if process is self.main:
                self.say("orchestrator", "killed by a signal")
        else:
            process.on_signal(number)

    # -- the machine ---------------------------------------------------------------------------

    def boot_id(self):
        return f"boot-{self.boot}"

    def boot_seconds(self):
        return self.now - self.boot_at

    def power_off(self, why, *, in_order=False):
        """Everything is dead. Whoever runs the history boots again."""
        self.say("machine", "shut down" if in_order else "POWER LOST " + why)
        self.counts.power_losses += not in_order
        living = self.living()
        for process in living:
            process.dead = True
            process.files = {}
        for process in living:
            if process.attempt_id:
                self.on_death(process)
        self.is_off = True
        if in_order:
            self.disk.sync_all()
        raise Gone

    def power_on(self):
        self.say("machine", "boots: " + self.disk.cut_power())
        self.is_off = False
        self.processes = {}
        self.boot += 1
        self.now += 20
        self.boot_at = self.now - 5


class AgainError(Exception):
    """A process that is no orchestrator would wait here: it is asked again a little later."""


def _of_what(path):
    """A path without what differs from history to history."""
    name = path.rpartition("/")[2]
    if name.startswith("issue-"):
        return "issue-N.exit"
    if "-a" in name:
        return "attempt-folder"
    for known in ("claim.void", "claim"):
        if name.startswith(known + "."):
            return known + ".PID"
    return ".".join("PID" if part.isdigit() else part for part in name.split("."))
