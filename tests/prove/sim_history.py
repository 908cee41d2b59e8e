"""One history: a batch from its first event to its end, on a machine where everything goes wrong.

`run_history(seed)` is a function of its arguments alone. At first there are faults; then the world
calms down, and the batch has to come to its end.
"""

import hashlib
import traceback
from dataclasses import dataclass, field

from sim_checks import Checks
from sim_faults import Faults
from sim_machine import Dispatcher, Machine, SimProcesses, SimTmux, Waiter, wall_text
from sim_people import People
from sim_service import Service
from sim_service_checks import ServiceChecks
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
        pace = self.rng.choice((5.0, 20.0, 60.0))
        self.faults = Faults(self.world, self.machine, self.people, self.checks, self.paths, pace)
        self.poll_seconds = self.rng.choice((2.0, 30.0))
        self.lives = 0
        self.service = self.machine.service = Service(
            self.world, self.machine, self.paths, self.size
        )
        if self.service.is_on:
            self.poll_seconds = self.service.poll_seconds
        self.checks.service = ServiceChecks(self.world, self.machine, self.service)
        self.machine.on_told = self.checks.service.agent_started
        kinds = [kind for kind in FAULTS if self.rng.random() < 0.6]
        self.world.without |= set(FAULTS) - set(kinds)
        if self.world.chance("launch", 0.05):  # nobody ever comes to the claims of this issue
            self.machine.unlaunchable = str(self.rng.randint(1, self.size))

    # -- the plan ------------------------------------------------------------------------------

    def planned(self):
        keys = [str(number) for number in range(1, self.size + 1)]
        reach = self.rng.choice((2, 5, 50))
        found = []
        for place, key in enumerate(keys):
            before = keys[max(0, place - reach) : place]
            count = min(len(before), self.rng.choice((0, 1, 1, 2)))
            found.append(
                PlannedIssue(
                    id=key,
                    title=key,
                    depends_on=tuple(self.rng.sample(before, count)),
                    agent=self.service.agent_name(),
                )
            )
        return tuple(found)

    def policy(self):
        rng = self.rng
        policy = Policy(
            max_concurrent=rng.choice((1, 2, 3, 4, 8)) if self.size < 50 else 16,
            retry_max=rng.choice((0, 1, 1, 1)),
            retry_on_failure=rng.random() < 0.2,
            on_failed_dependency=rng.choice(("run", "skip")),
            attempt_minutes=rng.choice((None, None, 3.0)),
        )
        return self.service.policy(policy)

    # -- the whole -----------------------------------------------------------------------------

    def run(self):
        failure = None
        processes = SimProcesses(self.machine)
        remove = self.checks.install()
        try:
            on = self.service.is_on
            with Installed(self.world, processes, with_service=on) as installed:
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
        self.faults.begin()
        self.service.begin(self.people)
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
            self.faults.wait(self.rng.choice((0.01, 0.5, 30.0)))
            if world.now > 1000.0 + self.fault_seconds + _CALM_SECONDS_MAX:
                world.fail("the batch does not come to its end")
        self.checks.at_the_end()
        world.say("history", "the batch is over")

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
        self.service.settle_all()
        self.world.at(200.0, self.release_all)

    # -- a life of an orchestrator -------------------------------------------------------------

    def live(self):
        """From its start to its end, whatever that is; whether the batch is over."""
        world = self.world
        process = world.main = world.spawn("orchestrator")
        self.faults.plan_crash(process)
        world.actor = process
        code = None
        try:
            code = self.orchestrate()
        except Gone:
            if process.kill_at and process.calls >= process.kill_at:
                world.counts.crashes += 1
                world.counts.crash_pairs += self.faults.is_recovering
            self.faults.is_recovering = True
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
            self.faults.boot()
            return False
        world.end(process)
        self.checks.after_crash(power=False)
        return code is not None and code != EXIT_INTERRUPTED and self.is_over

    def _judge(self, process, error):
        """An orchestrator may end with an error only where somebody made one."""
        world = self.world
        world.say("orchestrator", f"ends: {error.message}", *error.causes)
        self.faults.is_recovering = False
        of_edit = "the state file was changed" in error.message and self.people.edits
        if not (process.was_refused or of_edit):
            world.fail(f"the orchestrator ends with an error: {error.message}")

    def recovered(self):
        self.faults.is_recovering = False

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
