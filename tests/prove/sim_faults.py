"""What goes wrong from outside, at random moments: kills, power cuts, files that cannot be read.

What goes wrong within a process's own calls (it is killed there, held up, or refused by the disk)
is the world's own doing (sim_world).
"""

from sim_system import Gone

from gangline.core.digest import digest_matches


class Faults:
    """The faults of one history.

    Args:
        pace: Seconds between two faults of a kind, about.
    """

    def __init__(self, world, machine, people, checks, paths, pace):
        self.world, self.machine, self.people = world, machine, people
        self.checks, self.paths, self.pace = checks, paths, pace
        self.is_recovering = False

    def begin(self):
        """Each kind at moments of its own, until the world calms down."""
        for kind, happen in (
            ("kill", self.kill_something),
            ("power", self.power_fails),
            ("server", self.machine.server_dies),
            ("probe", self.hide_something),
            ("clock", self.set_clock),
            ("people", self.people.something),
            ("edit", self.people.begin_edit),
            ("crash", self.kill_orchestrator),
        ):
            if kind not in self.world.without:
                self._again(kind, happen)

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
        names = ("claim", "lock", "starting", "exit.json")
        if self.machine.service.is_on:
            names = (*names, "exit.json", "progress.json", "progress.json")
        name = rng.choice(names)
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

    # -- between two orchestrators -------------------------------------------------------------

    def boot(self):
        """The machine goes on after a power cut; now and then without its journal."""
        self.machine.watcher = self.machine.server = None
        self.world.power_on()
        self.checks.after_crash(power=True)
        if self.world.chance("journal", 0.15):
            self.lose_journal()

    def lose_journal(self):
        """The journal is gone, and the state file is as old as the power cut left it.

        Nothing lives after a boot, and only a whole state file begins a journal anew: what is lost
        with both is lost. The folders of the attempts are there, of newer ones too.
        """
        disk = self.world.disk
        try:
            state = bytes(disk.find(self.paths.state).data)
            folder, name = disk.place(self.paths.journal)
        except OSError:
            return
        if name not in folder.entries or not digest_matches(state):
            return
        disk.unlink(folder, name)
        disk.sync(folder)
        self.world.say("disk", "the journal is gone")
        self.people.forget()
        self.checks.journal_lost()

    def plan_crash(self, process):
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
        if "pause" not in world.without:
            world.hold_up(process)

    def wait(self, seconds):
        """Time without an orchestrator; boots again if the machine goes down."""
        try:
            self.world.pass_time(self.world.now + seconds)
        except Gone:
            self.boot()
