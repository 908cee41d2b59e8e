"""One history: a batch from its first event to its end, on a machine where everything goes wrong.

`run_history(seed)` is a function of its arguments alone. At first there are faults; then the world
calms down, and the batch has to come to its end.
"""

import hashlib
import traceback
from dataclasses import dataclass, field

from sim_checks import Checks
from sim_machine import Dispatcher, Machine, SimProcesses, SimTmux, Waiter, wall_text
from sim_people import People
from sim_system import Gone, Installed
from sim_world import FAULTS, Counts, ViolationError, World

from gangline.app import commands
from gangline.app.orchestrate import Orchestrator
from gangline.core.events import (
    BatchStarted,
    OrchestratorStarted,
    PlannedIssue,
    Policy,
)
from gangline.core.model import TERMINAL, IssueSpec
from gangline.errors import EXIT_INTERRUPTED, GanglineError
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.local import LocalHost
from gangline.store.area import AreaPaths
from gangline.store.batches import Store
from gangline.store.journal import events_from, journal_bytes
from gangline.store.locks import FileLock

WORKSPACE = "/w/.workspace"
_CALM_SECONDS_MAX = 40_000.0
_LIVES_MAX = 400
_GREAT = 0.002  # of the histories are of 200 issues


@dataclass
class Result:
    """What came of a history."""

    seed: int
    without: tuple
    issues: int
    failure: str | None
    counts: Counts
    history: list = field(default_factory=list)

    def lines(self):
        """The history for people: seconds, who, what."""
        for moment, who, what, details in self.history:
            yield f"{moment:11.4f}  {who:<14} {what}  " + "  ".join(map(_short, details))

    def digest(self):
        return hashlib.sha256("\n".join(self.lines()).encode()).hexdigest()


def _short(detail):
    text = str(detail)
    return text if len(text) < 160 else text[:157] + "..."


class Listener:
    """The observer and the log: what the orchestrator says and does goes into the history."""

    refresh_seconds = None

    def __init__(self, world, checks):
        self._world, self._checks = world, checks

    def decided(self, at, evidence, events, effects):
        self._checks.decided(evidence, events, effects)

    def noted(self, at, text):
        return None

    def happened(self, batch, events, *, away=False):
        return None

    def note(self, text):
        self._world.say("orchestrator", text)

    def refresh(self, batch):
        return None


class History:
    """One run of one seed."""

    def __init__(self, seed, without=(), issues=None):
        self.world = World(seed, without)
        self.rng = self.world.stream("plan")
        self.paths = AreaPaths(WORKSPACE, "client")
        self.machine = Machine(self.world, self.paths)
        self.people = People(self.world, self.machine, self.paths)
        self.checks = Checks(self.world, self.machine, self.people, self.paths)
        great = self.rng.random() < _GREAT
        self.size = issues or (200 if great else self.rng.randint(3, 12))
        self.fault_seconds = self.rng.choice((60.0, 300.0, 900.0)) + self.size * 5
        self.pace = self.rng.choice((5.0, 20.0, 60.0))  # seconds between two faults of a kind
        self.poll_seconds = self.rng.choice((2.0, 30.0))
        self.is_recovering = False
        self.lives = 0
        kinds = [kind for kind in FAULTS if self.rng.random() < 0.6]
        self.world.without |= set(FAULTS) - set(kinds)

    # -- the plan ------------------------------------------------------------------------------

    def planned(self):
        keys = [str(number) for number in range(1, self.size + 1)]
        reach = self.rng.choice((2, 5, 50))
        found = []
        for place, key in enumerate(keys):
            before = keys[max(0, place - reach) : place]
            count = min(len(before), self.rng.choice((0, 1, 1, 2)))
            found.append(
                PlannedIssue(id=key, title=key, depends_on=tuple(self.rng.sample(before, count)))
            )
        return tuple(found)

    def policy(self):
        rng = self.rng
        return Policy(
            max_concurrent=rng.choice((1, 2, 3, 4, 8)) if self.size < 50 else 16,
            retry_max=rng.choice((0, 1, 1, 1)),
            retry_on_failure=rng.random() < 0.2,
            on_failed_dependency=rng.choice(("run", "skip")),
            attempt_minutes=rng.choice((None, None, 3.0)),
        )

    # -- the whole -----------------------------------------------------------------------------

    def run(self):
        failure = None
        processes = SimProcesses(self.machine)
        remove = self.checks.install()
        try:
            with Installed(self.world, processes) as installed:
                self.machine.system = installed.system
                self._run()
        except ViolationError as error:
            failure = str(error)
        except Exception as error:  # noqa: BLE001 - whatever escapes is a defect, of the product or of this
            failure = f"{type(error).__name__}: {error}"
            self.world.say("checker", failure, traceback.format_exc())
        finally:
            remove()
        world = self.world
        return Result(
            world.seed,
            tuple(sorted(world.without)),
            self.size,
            failure,
            world.counts,
            world.history,
        )

    def _run(self):
        world = self.world
        world.disk.make(world.disk.root, "w", is_folder=True)
        world.disk.sync_all()
        for kind, happen in self._faults():
            if kind not in world.without:
                self._again(kind, happen)
        world.at(self.fault_seconds, self.calm_down)
        self.event = BatchStarted(
            format=1,
            area="client",
            batch_id="b1",
            agent="demo",
            issues=self.planned(),
            policy=self.policy(),
            source="plan",
        )
        while not (self.live() and self.checks.is_over()):
            self.lives += 1
            if self.lives > _LIVES_MAX:
                world.fail(f"{_LIVES_MAX} orchestrators, and no end")
            self._pause(self.rng.choice((0.01, 0.5, 30.0)))
            if world.now > 1000.0 + self.fault_seconds + _CALM_SECONDS_MAX:
                world.fail("the batch does not come to its end")
        self.checks.at_the_end()
        world.say("history", "the batch is over")

    def _pause(self, seconds):
        """Time without an orchestrator; boots again if the machine goes down."""
        try:
            self.world.pass_time(self.world.now + seconds)
        except Gone:
            self.boot()

    def boot(self):
        self.machine.watcher = self.machine.server = None
        self.world.power_on()
        self.checks.after_crash(power=True)

    def calm_down(self):
        """No more faults: what people held or paused is let go."""
        world = self.world
        world.calm = True
        world.unreadable.clear()
        world.hidden_until = 0.0
        world.say("history", "no more faults from here on")
        self.release_all()

    def release_all(self):
        """Nothing is held or paused any more, again and again, for edits still arrive."""

        def release(batch):
            held = [k for k, i in batch.issues.items() if i.held and i.status not in TERMINAL]
            events = [e for key in held for e in commands.release(batch, key)]
            return [*events, *commands.resume(batch)]

        self.people.command("release everything", release)
        self.world.at(200.0, self.release_all)

    # -- faults --------------------------------------------------------------------------------

    def _faults(self):
        return (
            ("kill", self.kill_something),
            ("power", self.power_fails),
            ("server", self.machine.server_dies),
            ("probe", self.hide_something),
            ("clock", self.set_clock),
            ("people", self.people.something),
            ("edit", self.people.begin_edit),
            ("crash", self.kill_orchestrator),
        )

    def _again(self, kind, happen):
        rare = {"power": 8.0, "server": 8.0, "edit": 3.0}.get(kind, 1.0)
        delay = self.world.stream(kind).expovariate(1 / (self.pace * rare))
        self.world.at(delay, self._fault, kind, happen)

    def _fault(self, kind, happen):
        if self.world.calm:
            return
        self._again(kind, happen)
        happen()

    def kill_something(self):
        rng = self.world.stream("kill")
        living = [p for p in self.world.living() if p.kind in ("runner", "agent")]
        if living:
            process = rng.choice(living)
            number = rng.choice((9, 9, 15, 1))
            self.world.say("somebody", f"signal {number} for a {process.kind}", process.pid)
            self.world.signal(process.pid, number)

    def power_fails(self):
        in_order = self.world.stream("power").random() < 0.3
        self.crashed()
        self.world.power_off("", in_order=in_order)

    def hide_something(self):
        rng = self.world.stream("probe")
        until = self.world.now + rng.choice((0.5, 5.0, 40.0))
        attempts = list(self.checks.intended)[-6:]
        if rng.random() < 0.15 or not attempts:
            self.world.hidden_until = until
            self.world.say("disk", "the process table cannot be read until", until)
            return
        attempt = rng.choice(attempts)
        name = rng.choice(("claim", "lock", "starting", "exit.json"))
        end = f"{attempt}/{name}"
        if rng.random() < 0.2:
            end = f"issue-{self.checks.intended[attempt]}.exit"
        self.world.unreadable[end] = until
        self.world.say("disk", f"{end} cannot be read until", until)

    def set_clock(self):
        seconds = self.world.stream("clock").choice((-3600.0, 3600.0, -5.0, 30.0, 86400.0))
        self.world.wall_offset += seconds
        self.world.say("clock", f"the wall clock steps by {seconds:.0f} s")

    def kill_orchestrator(self):
        main = self.world.main
        if main is not None and not main.dead:
            rng = self.world.stream("crash")
            if rng.random() < 0.2 and self.machine.watcher is not None:
                self.machine.watcher.signal = 15
                self.world.say("somebody", "signal 15 for the orchestrator")
            else:
                self.crashed()
                self.world.say("orchestrator", "killed by a signal")
                self.world.end(main)

    def crashed(self):
        """Count a crash of the orchestrator, and a pair if its recovery was hit."""
        main = self.world.main
        if main is not None and not main.dead:
            self.world.counts.crashes += 1
            self.world.counts.crash_pairs += self.is_recovering

    # -- a life of an orchestrator -------------------------------------------------------------

    def live(self):
        """From its start to its end, whatever that is; whether the batch is over."""
        world = self.world
        process = world.main = world.spawn("orchestrator")
        self._plan_crash(process)
        world.actor = process
        code = None
        try:
            code = self.orchestrate()
        except Gone:
            if process.kill_at and process.calls >= process.kill_at:
                world.counts.crashes += 1
                world.counts.crash_pairs += self.is_recovering
            self.is_recovering = True
        except GanglineError as error:
            self._judge(process, error)
        except OSError as error:
            world.say("orchestrator", f"ends with {error!r}")
            if not process.was_refused:
                world.fail(f"the orchestrator fails with {error!r}")
        finally:
            world.actor = world.main = None
            self.machine.watcher = None
        if world.is_off:
            self.boot()
            return False
        world.end(process)
        self.checks.after_crash(power=False)
        return code is not None and code != EXIT_INTERRUPTED and self.is_over

    def _plan_crash(self, process):
        """Where it will be hit, counted in its own calls; often in the midst of its recovery."""
        world = self.world
        rng = world.stream("crash-plan")
        chance = 0.6 if self.is_recovering else 0.35
        near = rng.randint(1, 120) if self.is_recovering else int(rng.expovariate(1 / 400)) + 1
        if not self.checks.committed:  # the beginning is there once only
            near, chance = rng.randint(1, 60), 0.7
        for kind in ("crash", "power"):
            if world.chance(kind, chance if kind == "crash" else chance / 6):
                process.kill_at, process.cut_power = near, kind == "power"
        if world.chance("disk", 0.15):
            process.refuse_at = int(rng.expovariate(1 / 300)) + 1

    def _judge(self, process, error):
        """An orchestrator may end with an error only where somebody made one."""
        world = self.world
        world.say("orchestrator", f"ends: {error.message}", *error.causes)
        self.is_recovering = False
        of_edit = "the state file was changed" in error.message and self.people.edits
        if not (process.was_refused or of_edit):
            world.fail(f"the orchestrator ends with an error: {error.message}")

    def recovered(self):
        self.is_recovering = False

    def orchestrate(self):
        """As app/running.py: lock, load or begin, run; then let go."""
        world, paths = self.world, self.paths
        since = journal_bytes(paths.journal)
        lock = FileLock(paths.orchestrator_lock)
        if not lock.try_acquire():
            world.fail("the orchestrator lock is held though nobody lives")
        lock.write_holder(f"process {world.actor.pid}")
        store = Store(paths)
        if not store.load(repair=True):
            texts = [IssueSpec(id=i.id, title=i.title, place="plan") for i in self.event.issues]
            store = Store(paths)
            store.create(self.event, texts, wall_text(world))
        store.read_issues()
        asked = events_from(paths.journal, since) if since else []
        world.say("orchestrator", "begins", world.actor.pid)
        waiter = Waiter(self.machine, self.recovered)
        folders = AttemptFolders(paths.folder, paths.wake)
        host = LocalHost(folders, SimTmux(self.machine), "s", "o", waiter)
        listener = Listener(world, self.checks)
        loop = Orchestrator(
            store,
            host,
            waiter,
            waiter,
            Dispatcher(self.machine),
            listener,
            listener,
            numbers=folders.numbers(),
            poll_seconds=self.poll_seconds,
        )
        code = loop.run(OrchestratorStarted(pid=world.actor.pid, boot_id=world.boot_id()), asked)
        self.is_over = store.batch.is_over
        world.say("orchestrator", f"exits with {code}")
        host.disconnect()
        lock.release()
        return code


def run_history(seed, without=(), issues=None):
    """Run one history; never raises for what the product does wrong: that is in the result."""
    return History(seed, without, issues).run()
