"""What agents do besides working, in a share of the histories; and the people who speak to them.

They report what they use up, meet their service's usage limit, ask, stall, find their session gone
and use up budgets; people answer and send messages. What an agent tells goes through the product's
own ProgressFile and is read by its own hosts/activity, both on the simulated machine.

All chance here is drawn from streams of its own, and histories of seeds before `FIRST_SEED` have
none of it: those that were counted and replayed before it was here stay what they were.
"""

import re

import msgspec

from gangline.agents.registry import Agent
from gangline.app import commands
from gangline.app.resuming import plan_session, prompt_of
from gangline.core.events import Configured, Policy
from gangline.core.model import Status
from gangline.core.usage import Limits
from gangline.hosts.attempt_folder import OUTPUT, PROMPT
from gangline.hosts.runner_account import ProgressFile

FIRST_SEED = 100_000
SHARE = 0.3
TICKS = 100  # of a second of the processor
_TREES = "/trees"
_ACCOUNTS = {"red": "shared", "blue": "shared", "green": "green"}
_MESSAGE = re.compile(rb"said-\d+")


def _agent(name):
    # One of them cannot go on with a session.
    resume = None if name == "blue" else ("agent", "{session}", "{prompt}")
    return Agent(
        name=name,
        start=("agent", "{prompt}"),
        resume=resume,
        prompt="argv",
        reader="claude",
        account=_ACCOUNTS[name],
    )


class Service:
    """What agents have to do with in one history: accounts, their limits, people's words."""

    def __init__(self, world, machine, paths, size):
        self.world, self.machine, self.paths, self.size = world, machine, paths, size
        plan = self.plan = world.stream("service-plan")
        wanted = world.seed >= FIRST_SEED and "service" not in world.without
        self.is_on = plan.random() < SHARE and wanted
        self.rng = world.stream("service")
        self.people = None
        self.limits = {}  # account -> until when, in the world's own time
        self.launches = {}  # attempt id -> its launch
        self.agents = {}  # attempt id -> its Talk
        self.wall_offset = world.wall_offset  # the service's clock is never set
        self.said = 0
        self.poll_seconds = plan.choice((10.0, 30.0))  # limits last long
        self.pace = plan.choice((5.0, 30.0, 120.0))

    # -- the plan ------------------------------------------------------------------------------

    def agent_name(self):
        return self.plan.choice((*_ACCOUNTS, None)) if self.is_on else None

    def policy(self, policy):
        if not self.is_on:
            return policy
        plan = self.plan
        none = Limits()
        return msgspec.structs.replace(
            policy,
            stall_minutes=plan.choice((None, 1.0, 3.0)),
            stall_action=plan.choice(("report", "retry", "fail")),
            budget=plan.choice((none, none, Limits(tokens=2000.0), Limits(minutes=10.0))),
            batch_budget=plan.choice((none, none, Limits(tokens=self.size * 300.0))),
            accounts=(("blue", "shared"), ("red", "shared"), ("demo", "green"), ("green", "green")),
        )

    def launch(self, batch, key, launch):
        """The launch as app/dispatch.py makes it, where it is about sessions and messages."""
        if not self.is_on:
            return launch
        issue = batch.issues[key]
        agent = _agent(issue.agent or "green")
        plan = plan_session(issue, agent)
        launch = msgspec.structs.replace(
            launch,
            agent=agent.name,
            account=agent.account,
            cwd=f"{_TREES}/{key}",
            prompt=prompt_of(issue, plan, "do it"),
            session=plan.session or None,
            resumed=plan.resumed,
            afresh=plan.afresh,
            messages=len(issue.messages),
        )
        self.launches[launch.attempt_id] = launch
        return launch

    # -- agents --------------------------------------------------------------------------------

    def talk_of(self, agent):
        """What tells of this agent, from its start on; None where nothing does."""
        if not self.is_on:
            return None
        talk = self.agents[agent.attempt_id] = Talk(self, agent)
        return talk

    def ticks_of(self, process):
        """The processor's time of a process, in ticks."""
        talk = self.agents.get(process.attempt_id)
        if process.kind != "agent" or talk is None:
            return 0
        return int(talk.busy_seconds() * TICKS / 2)

    # -- people --------------------------------------------------------------------------------

    def begin(self, people):
        self.people = people
        if self.is_on:
            self.world.at(self.rng.expovariate(1 / self.pace), self._speak)

    def _speak(self):
        if self.world.calm:
            return
        self.world.at(self.rng.expovariate(1 / self.pace), self._speak)
        if self.rng.random() < 0.1:
            self._command("raise the budget", raised)
        elif self.rng.random() < 0.6:
            self._command("answer", self._answers)
        else:
            key = str(self.rng.randint(1, self.size))
            self._command(f"send {key}", lambda b: commands.send(b, key, self._message()))

    def _command(self, name, decide):
        self.people.command(name, decide)

    def _message(self):
        self.said += 1
        return f"said-{self.said}"

    def _answers(self, batch):
        asking = [
            key
            for key in batch.by_status[Status.DISPATCHED]
            if batch.issues[key].attempts[-1].asked and batch.issues[key].wish is None
        ]
        return [e for key in asking for e in commands.send(batch, key, self._message())]

    def settle_all(self):
        """Faults are over: what is asked is answered, and there is budget enough."""
        if self.is_on:
            self._command("answer everything", self._answers)
            self._command("raise the budget", raised)


def raised(batch):
    """As app/reconfiguring.py records a changed gangline.toml."""
    if batch.policy.batch_budget == Limits() or batch.open_count == 0:
        return []
    policy: Policy = msgspec.structs.replace(batch.policy, batch_budget=Limits())
    return [Configured(policy=policy)]


class Talk:
    """One agent's way, and what its runner writes down of it.

    Attributes:
        met_limit, limited, lost, has_stalled, stalled_at: Whether it met a limit, ended by it,
            found no session; whether it stalled, since when: what only the agent itself knows.
        questions: What it asked.
        tokens: What it has said that it used up.
    """

    def __init__(self, service, agent):
        self.service, self.agent, self.world = service, agent, service.world
        self.rng = service.rng
        self.launch = service.launches[agent.attempt_id]
        self.account = self.launch.account
        self.file = ProgressFile(agent.runner.attempt)
        self.known = {}
        self.begun = self.world.now
        self.idle_seconds = 0.0
        self.stalled_at = None
        self.has_stalled = self.met_limit = self.limited = self.lost = False
        self.questions = set()
        self.tokens = 0
        self.texts = set(map(bytes.decode, _MESSAGE.findall(self._prompt())))
        self._choose()

    def _prompt(self):
        return bytes(self.world.disk.find(f"{self.agent.runner.folder}/{PROMPT}").data)

    def _choose(self):
        rng, world = self.rng, self.world
        way, delay = rng.random(), min(self.agent.seconds, 60.0) * rng.random()
        if self.launch.resumed and rng.random() < 0.1 and not world.calm:
            world.at(0.02, self._lose_session)
            return
        world.at(0.01, self.tell, {"session": f"s-{self.agent.attempt_id}"}, 300)
        if self._limit_left() > 0:
            world.at(0.02, self._meet_limit)
        elif world.calm:
            return
        elif way < 0.15:
            world.at(delay, self._begin_limit)
        elif way < 0.3:
            world.at(delay, self._ask)
        elif way < 0.4:
            world.at(delay, self._stall)
        elif way < 0.5:
            self._hold(rng.expovariate(1 / 300))
            world.at(delay, self._spend)

    def busy_seconds(self):
        return self.stalled_at_or_now() - self.begun - self.idle_seconds

    def stalled_at_or_now(self):
        return self.world.now if self.stalled_at is None else self.stalled_at

    def _hold(self, seconds):
        """It does not come to its end before."""
        self.agent.idle_until = max(self.agent.idle_until, self.world.now + seconds)

    def _is_dead(self):
        return self.agent.process.dead

    # -- its ways ------------------------------------------------------------------------------

    def _lose_session(self):
        if self._is_dead():
            return
        self.lost = True
        self.tell({"failure": "there is no such session", "failureKind": "no-session"}, 0)
        self.agent.end({"code": 1})

    def _limit_left(self):
        return self.service.limits.get(self.account, 0.0) - self.world.now

    def _begin_limit(self):
        if self._is_dead():
            return
        if self._limit_left() <= 0 and not self.world.calm:
            until = self.world.now + self.rng.choice((20.0, 60.0, 60.0, 600.0, 3600.0))
            self.service.limits[self.account] = until
            self.world.say(self.account, "its usage limit is hit until", until)
        self._meet_limit()

    def _meet_limit(self):
        """It ends by it, or waits for its end in vain; its service may not say when that is."""
        left = self._limit_left()
        if self._is_dead() or left <= 0:
            return
        self.met_limit = True
        told = {"limited": True, "limitText": "you have hit your limit"}
        if self.rng.random() < 0.7:
            wall = self.service.wall_offset + self.service.limits[self.account]
            told["limitedUntil"] = float(int(wall) + 1)
        if self.world.chance("probe", 0.1):
            path, until = f"{self.agent.attempt_id}/progress.json", self.world.now + 10.0
            self.world.unreadable[path] = until
            self.world.say("disk", f"{path} cannot be read until", until)
        if self.rng.random() < 0.6:
            self.limited = True
            self.tell({**told, "failure": "usage limit", "failureKind": "limit"}, 100)
            self.agent.end({"code": 1})
        else:
            self._hold(left + 5.0)
            self.tell(told, 100)
            self.world.at(left + 2.0, self._go_on)

    def _go_on(self):
        gone = dict.fromkeys(("limited", "limitText", "limitedUntil"))
        self.tell(gone, 100)

    def _ask(self):
        if self._is_dead() or self.agent.runner.process.dead:
            return
        key, attempt_id = self.agent.issue, self.agent.attempt_id
        question = f"which one, asks {attempt_id}?"
        self.questions.add(question)
        self.service.people.command(
            f"ask {attempt_id}", lambda b: commands.agent_asks(b, key, attempt_id, question)
        )
        self._hold(0.5)
        if self.rng.random() < 0.7:
            self.world.at(self.rng.uniform(0.1, 5.0), self.agent.end, {"code": 0})

    def _stall(self):
        if self._is_dead():
            return
        seconds = self.rng.expovariate(1 / 900)
        self.stalled_at, self.has_stalled = self.world.now, True
        self._hold(seconds + 1.0)
        self.world.at(seconds, self._move_again)

    def _move_again(self):
        if self.stalled_at is not None and not self._is_dead():
            self.idle_seconds += self.world.now - self.stalled_at
            self.stalled_at = None

    def _spend(self):
        if not self._is_dead() and self.world.now < self.agent.idle_until:
            self.tell({"tool": self.rng.choice(("make test", None))}, self.rng.randint(100, 900))
            self.world.at(self.rng.uniform(0.3, 20.0), self._spend)

    # -- what is told --------------------------------------------------------------------------

    def tell(self, changes, tokens):
        """It prints something, from which this is read."""
        if self._is_dead():
            return
        self.tokens += tokens
        known = {**self.known, **changes, "inputTokens": self.tokens}
        self.known = {name: value for name, value in known.items() if value is not None}
        self.agent.runner._step(self._note)

    def _note(self):
        self._print()
        if self.file.note(dict(self.known)) and not self.world.chance("launch", 0.1):
            self.service.machine.wake(self.agent.issue)
        patience = self.file.patience_ms()
        if patience is not None:
            self.world.at(patience / 1000, self.agent.runner._step, self.file.write_if_due)

    def _print(self):
        system = self.service.machine.system
        flags = system.O_WRONLY | system.O_CREAT | system.O_APPEND
        try:
            fd = system.open(OUTPUT, flags, dir_fd=self.agent.runner.attempt.fd)
            system.write(fd, b"words\n")
            system.close(fd)
        except OSError:
            return  # the log is cut short

    def finish(self):
        """Its runner has seen it end."""
        if self.known:
            self.file.note(dict(self.known), durably=True)

    def settle(self):
        self.file.settle()
