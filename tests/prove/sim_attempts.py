"""Runners and agents: what lives in the panes, one step after another.

A runner goes through hosts/runner.py: its lock, claim, environment and `starting` are the product's
own functions, on the simulated disk, each a step that others come between and that may be the
runner's last. What comes after the agent's start (hosts/runner_watch.py is made of real signals,
pipes and waits) is told again here: end the agent when told to, reap, exit.json, let go, wake.

`Witness` is the one place outside of the disk that knows which agent ran when.
"""

from dataclasses import dataclass, field

from sim_world import AgainError

from gangline.hosts import runner
from gangline.hosts.attempt_folder import EXIT, SPEC, STARTING, Attempt, parse_json

GRACE_SECONDS = 5.0
HUP, KILL, TERM = 1, 9, 15


@dataclass
class Witness:
    """What agents themselves know: (seconds, attempt, pid) of each start, seconds of each end."""

    starts: list = field(default_factory=list)
    ends: dict = field(default_factory=dict)  # pid, ticks -> seconds
    codes: dict = field(default_factory=dict)  # attempt -> exit record of its agent


class Runner:
    """One process in a pane, for one attempt."""

    def __init__(self, machine, folder, issue, mark):
        self.machine, self.world = machine, machine.world
        self.folder, self.issue = folder, issue
        self.attempt_id = folder.rpartition("/")[2]
        self.process = self.world.spawn("runner", mark=mark, owner=self)
        self.process.on_signal = self.told
        self.mark = mark
        self.ending = self.agent = self.held = None
        self.record = {}
        self.talk = None
        calls = 60 if machine.service.is_on else 24
        if self.world.chance("crash", 0.05):
            self.process.kill_at = self.world.stream("crash").randint(1, calls)
        if self.world.chance("disk", 0.04):
            self.process.refuse_at = self.world.stream("disk").randint(1, calls)

    # -- until the agent runs --------------------------------------------------------------

    def go_on(self, step, delay=None):
        """The next step, soon; now and then the machine is busy with something else."""
        rng = self.world.stream("pace")
        if delay is None:
            delay = rng.uniform(0.0002, 0.004)
            if self.world.chance("launch", 0.02):
                delay = rng.choice((1.0, 12.0, 25.0))
        self.world.at(delay, self._step, step)

    def _step(self, step):
        if self.process.dead:
            return
        try:
            self.world.call(self.process, step)
        except AgainError:
            self.process.files = {f: o for f, o in self.process.files.items() if f == self.held}
            self.go_on(step, 0.002)
        except OSError as error:  # the real one ends with a traceback in its pane
            self.world.say(self.attempt_id, f"its runner fails: {error}")
            self.world.end(self.process)

    def begin(self):
        self.attempt = Attempt(self.folder)
        self.held = self.attempt.fd
        self.go_on(self.take_lock)

    def take_lock(self):
        self.lock = runner.take_lock(self.attempt)
        if self.lock is None:
            self.leave("somebody was first")
            return
        self.go_on(self.claim)

    def claim(self):
        text = b'{"by":"runner","pid":%d,"startTicks":%d,"bootId":"%s"}' % (
            self.process.pid,
            self.process.ticks,
            self.world.boot_id().encode(),
        )
        if not runner.link_claim(self.attempt, text):
            self.leave("the claim is taken")
            return
        self.world.say(self.attempt_id, "claimed", self.process.pid)
        self.machine.on_claim(self.attempt_id)
        self.go_on(self.prepare)

    def leave(self, why):
        self.world.say(self.attempt_id, f"a runner leaves: {why}", self.process.pid)
        self.world.end(self.process)

    def prepare(self):
        parse_json(self.attempt.read(SPEC))
        runner.read_environment(self.attempt)
        if self.machine.will_refuse(self.attempt_id):
            self.record = {"refused": "there is no program"}
            self.go_on(self.write_end)
        else:
            self.go_on(self.start)

    def start(self):
        self.attempt.touch(STARTING)
        self.attempt.sync()
        if self.process.dead:
            return
        self.agent = Agent(self)
        self.talk = self.machine.service.talk_of(self.agent)
        self.machine.on_told(self.agent, self.talk)
        self.note_session()
        if self.ending is not None:
            self.end_agent()

    def note_session(self):
        system = self.machine.system
        flags = system.O_WRONLY | system.O_TRUNC
        try:
            fd = system.open(STARTING, flags, dir_fd=self.attempt.fd)
            process = self.agent.process
            data = b'{"pid":%d,"startTicks":%d}' % (process.pid, process.ticks)
            while data:
                data = data[system.write(fd, data) :]
            system.close(fd)
        except OSError:
            return
        # Had it emptied its environment before this, nobody could find it (docs/CRITIQUES.md).
        self.agent.may_forget_mark()

    # -- the end ---------------------------------------------------------------------------

    def told(self, number):
        """HUP or TERM: a fact that the loop acts on."""
        if self.ending is None:
            self.ending = number
            if self.agent is not None and not self.agent.process.dead:
                self.world.at(0.001, self._step, self.end_agent)

    def end_agent(self):
        self.world.signal(self.agent.process.pid, TERM)
        self.world.at(GRACE_SECONDS, self._step, self.end_agent_hard)

    def end_agent_hard(self):
        if not self.agent.process.dead:
            for process in self.machine.marked(self.mark):
                if process is not self.process:
                    self.world.signal(process.pid, KILL)
            self.world.signal(self.agent.process.pid, KILL)

    def agent_ended(self, record):
        self.record = dict(record)
        if self.talk is not None:
            self.talk.finish()
        self.asked_at = None
        self.go_on(self.reap)

    def reap(self):
        """Everything of the attempt is ended and seen gone before exit.json says so."""
        left = [p for p in self.machine.marked(self.mark) if p is not self.process]
        left += self.machine.session_of(self.agent.process)
        if not left:
            self.go_on(self.write_end)
            return
        hard = self.asked_at is not None and self.world.now >= self.asked_at + GRACE_SECONDS
        if self.asked_at is None or hard:
            self.asked_at = self.world.now if self.asked_at is None else self.asked_at
            for process in left:
                self.world.signal(process.pid, KILL if hard else TERM)
        self.go_on(self.reap, 0.5)

    def write_end(self):
        if self.ending is not None:
            self.record["runnerSignal"] = self.ending
        text = ",".join(
            f'"{name}":"{value}"' if isinstance(value, str) else f'"{name}":{value}'
            for name, value in self.record.items()
        )
        try:
            if self.talk is not None:
                self.talk.settle()
            self.attempt.write_durably(EXIT + ".part", b"{%s}" % text.encode())
            self.machine.system.rename(
                EXIT + ".part",
                EXIT,
                src_dir_fd=self.attempt.fd,
                dst_dir_fd=self.attempt.fd,
            )
            self.attempt.sync()
        except OSError:
            self.go_on(self.write_end, 1.0)
            return
        self.world.say(self.attempt_id, "exit.json", text)
        self.go_on(self.let_go)

    def let_go(self):
        self.machine.system.close(self.lock)
        if not self.world.chance("launch", 0.05):
            self.machine.wake(self.issue)
        self.world.end(self.process)


class Agent:
    """What the runner executes: it works for a while, and ends in one of many ways."""

    def __init__(self, its_runner):
        self.runner, self.world = its_runner, its_runner.world
        self.machine = its_runner.machine
        rng = self.world.stream("agent")
        self.attempt_id, self.issue = its_runner.attempt_id, its_runner.issue
        self.process = self.world.spawn("agent", mark=its_runner.mark, owner=self)
        self.process.attempt_id, self.process.issue = self.attempt_id, self.issue
        self.process.on_signal = self.told
        self.plan, self.seconds = self._plan(rng)
        self.is_deaf = rng.random() < 0.15
        self.tool_kind = rng.choice((None,) * 8 + ("plain", "deaf", "stuck"))
        self.will_lose_tool = rng.random() < 0.5
        self.machine.agent_started(self)
        if self.tool_kind is not None:
            self.machine.start_tool(self)
        self.world.at(self.seconds, self.finish)
        self.idle_until = 0.0
        self.record = None

    def may_forget_mark(self):
        if self.world.stream("agent").random() < 0.05:
            self.process.mark = ""

    def _plan(self, rng):
        seconds = rng.choice((0.01, rng.expovariate(1 / 20), rng.expovariate(1 / 120)))
        if self.world.calm:
            return ({"code": 0}, None), min(seconds, 60.0)
        way = rng.random()
        if way < 0.68:
            return ({"code": 0}, None), seconds
        if way < 0.78:
            return ({"code": rng.choice((1, 1, 2, 129, 143))}, None), seconds
        if way < 0.82:
            return ({"signal": rng.choice((6, 9, 11, 15))}, None), seconds
        word = rng.choice(("ok", "ok", "failed", f"ok {self.attempt_id}"))
        return ({"code": rng.choice((0, 0, 1))}, word), seconds

    def finish(self):
        """The end of its work by its own plan; with a signal file it may live on after it."""
        if self.process.dead:
            return
        if self.world.now < self.idle_until:
            self.world.at(self.idle_until - self.world.now, self.finish)
            return
        record, word = self.plan
        if word is not None:
            self.plan = (record, None)
            self.world.call(self.process, self.write_signal, word)
            rng = self.world.stream("agent")
            self.world.at(rng.choice((0.0, 0.01, 30.0, 400.0)), self.finish)
            return
        self.end(record)

    def write_signal(self, word):
        system = self.machine.system
        path = self.machine.paths.folder + f"/issue-{self.issue}.exit"
        try:
            fd = system.open(path, system.O_WRONLY | system.O_CREAT | system.O_TRUNC)
            system.write(fd, word.encode() + b"\n")
            system.close(fd)
        except OSError:
            return
        self.world.say(self.attempt_id, f"the agent writes its signal file: {word}")
        self.machine.signal_written(self)

    def told(self, number):
        if number == HUP or self.is_deaf:
            return
        rng = self.world.stream("agent")
        record = rng.choice(({"signal": TERM}, {"code": 143}, {"code": 0}))
        self.world.at(rng.uniform(0.0, 3.0), self.end, record)

    def end(self, record):
        if not self.process.dead:
            self.record = record
            self.world.end(self.process)

    def ended(self):
        """Its process is dead, whoever did it."""
        if self.record is None:
            self.record = {"signal": KILL}
        self.machine.agent_ended(self)
        if not self.runner.process.dead:
            self.world.at(0.001, self.runner._step, lambda: self.runner.agent_ended(self.record))
