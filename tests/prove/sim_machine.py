"""The ports of one simulated machine: tmux, the process table, the clocks, the waiter, workspaces.

`LocalHost` itself runs, on this tmux and this process table; only what would be the kernel, the
tmux server and git is told again here.
"""

from types import SimpleNamespace

from sim_attempts import HUP, Runner, Witness
from sim_system import Gone

from gangline.core.reconcile import Now
from gangline.errors import StateError
from gangline.hosts.processes import epoch_seconds
from gangline.hosts.tmux_control import TmuxGoneError, TmuxUnknownError
from gangline.hosts.tmux_server import ServerId
from gangline.ports import Launch, Wake


class Machine:
    """Everything that outlives an orchestrator, besides the disk."""

    def __init__(self, world, paths):
        self.world, self.paths = world, paths
        self.system = None  # set by the history: the simulated `os`
        self.witness = Witness()
        self.watcher = None  # the waiter of the living orchestrator
        self.server = None
        self.unlaunchable = None  # the issue whose launches nobody ever sees come to their claim
        self.service = None  # set by the history: what its agents have to do with
        self.looked_at = 0.0  # the wall clock, as an orchestrator has read it last
        self.on_claim = lambda attempt_id: None
        self.on_start = lambda agent: None
        self.on_told = lambda agent, talk: None
        self.on_gone = lambda issue, attempt_id: None
        world.on_death = self.died

    # -- tmux ----------------------------------------------------------------------------------

    def tmux_server(self):
        if self.server is not None and self.server.process.dead:
            self.server = None
        return self.server

    def need_server(self):
        server = self.tmux_server()
        if server is None:
            process = self.world.spawn("tmux")
            server = self.server = SimpleNamespace(
                process=process, panes={}, id=ServerId(process.pid, process.ticks)
            )
            self.world.say("tmux", "a new server", process.pid)
            if self.world.stream("server-how").random() < 0.5:  # a person's own pane comes first
                server.panes["%0"] = SimpleNamespace(mark="", process=None)
        return server

    def server_dies(self):
        server = self.tmux_server()
        if server is not None:
            self.world.say("tmux", "the server dies", server.process.pid)
            self.world.end(server.process)

    def open_pane(self, folder, issue, mark, delay):
        """A pane with a runner in it, that begins after so many seconds."""
        server = self.need_server()
        pane = f"%{len(server.panes)}"
        runner = Runner(self, folder, issue, mark)
        server.panes[pane] = SimpleNamespace(mark=mark, process=runner.process)
        self.world.at(delay, runner._step, runner.begin)
        return pane, runner.process.pid

    def open_deaf_pane(self, mark):
        """A pane in which something waits that is no runner."""
        server = self.need_server()
        pane = f"%{len(server.panes)}"
        process = self.world.spawn("shell")
        server.panes[pane] = SimpleNamespace(mark=mark, process=process)
        return SimpleNamespace(pane=pane, pid=process.pid)

    def open_pane_in_boot(self, boot, *arguments):
        if boot == self.world.boot and self.tmux_server() is not None:
            self.open_pane(*arguments)

    # -- processes -----------------------------------------------------------------------------

    def marked(self, mark):
        return [p for p in self.world.living() if p.mark == mark and mark]

    def session_of(self, leader):
        if leader.dead:
            return []
        return [p for p in self.world.living() if p.session == leader.pid]

    def signal_marked(self, mark, number):
        for process in self.marked(mark):
            self.world.signal(process.pid, number)

    def start_tool(self, agent):
        """A process that an agent started, and that may outlive it."""
        kind = agent.tool_kind
        # One that forgets its mark is found by its session, for as long as its leader lives.
        tool = self.world.spawn(
            "tool", mark=agent.runner.mark, session=agent.process.pid, owner=kind
        )
        if kind == "deaf":
            tool.on_signal = lambda number: None
        tool.attempt_id, tool.issue = agent.attempt_id, agent.issue
        self.world.at(self.world.stream("agent").expovariate(1 / 200), self.world.end, tool)

    def died(self, process):
        if process.kind in ("agent", "tool"):
            self.look_for_end(process)
        if process.kind == "agent":
            process.owner.ended()
        elif process.kind == "tmux":
            for pane in self.server.panes.values():
                if pane.process is not None and not pane.process.dead:
                    self.world.at(0.002, self.world.signal, pane.process.pid, HUP)
        if self.watcher is not None:
            self.watcher.process_died(process.pid)

    def look_for_end(self, process):
        """Tell if this was the last of its attempt."""
        alive = any(
            p.attempt_id == process.attempt_id
            for p in self.world.living()
            if p.kind in ("agent", "tool")
        )
        if not alive:
            self.on_gone(process.issue, process.attempt_id)

    def agent_started(self, agent):
        self.witness.starts.append((self.world.now, agent.attempt_id, agent.process.pid))
        self.world.counts.agents += 1
        self.world.say(agent.attempt_id, "AGENT STARTS", agent.process.pid)
        self.on_start(agent)

    def agent_ended(self, agent):
        self.witness.ends[agent.process.pid, agent.process.ticks] = self.world.now
        self.witness.codes[agent.attempt_id] = agent.record
        self.world.say(agent.attempt_id, "agent ends", agent.record)

    def signal_written(self, agent):
        self.witness.codes.setdefault(agent.attempt_id + "/signal", True)

    def will_refuse(self, attempt_id):
        return self.world.stream("agent").random() < 0.01 and not self.world.calm

    def wake(self, issue):
        if self.watcher is not None:
            self.watcher.hints.add(issue)


class SimProcesses:
    """The names of hosts/processes.py that LocalHost uses."""

    HAS_PROC = True
    epoch_seconds = staticmethod(epoch_seconds)

    def __init__(self, machine):
        self._machine, self._world = machine, machine.world

    def boot_id(self):
        return self._world.boot_id()

    def _look(self, what):
        self._world.step("look", what)
        if self._world.now < self._world.hidden_until:
            raise OSError(24, "Too many open files")

    def boot_seconds(self):
        return self._world.boot_seconds()

    def every_pid(self):
        self._look("processes")
        return [process.pid for process in self._world.living()]

    def stat_fields(self, pid):
        """The fields that hosts/activity reads: the parent, and the time of the processor."""
        process = self._world.processes.get(pid)
        if process is None or process.dead:
            return None
        parent = process.owner.runner.process.pid if process.kind == "agent" else 1
        ticks = self._machine.service.ticks_of(process)
        return [*"S", str(parent), *"000000000", str(ticks), *"000"]

    def living_marks(self, marks):
        self._look("processes")
        return {mark for mark in marks if self._machine.marked(mark)}

    def start_ticks(self, pid):
        self._look("process")
        process = self._world.processes.get(pid)
        return None if process is None or process.dead else process.ticks

    def signal_process(self, pid, ticks, number):
        self._world.step("kill", str(pid))
        if self.start_ticks(pid) == ticks:
            self._world.signal(pid, number)

    def signal_marked(self, mark, number):
        self._look("processes")
        self._machine.signal_marked(mark, number)

    def signal_session(self, leader, ticks, number):
        self._look("processes")
        process = self._world.processes.get(leader)
        if process is not None and process.ticks == ticks:
            for member in self._machine.session_of(process):
                if member is not process:
                    self._world.signal(member.pid, number)
            if number == 9:
                self._world.signal(leader, number)


class SimTmux:
    """One orchestrator's client of the tmux server."""

    def __init__(self, machine):
        self._machine, self._world = machine, machine.world

    def _ask(self, what):
        self._world.step("tmux", what)
        if self._world.chance("server", 0.004):
            self._machine.server_dies()
            raise TmuxUnknownError("the connection ended")

    def ensure_session(self, name, owner):
        self._ask("new-session")
        self._machine.need_server()
        return name

    def connect(self, session):
        self._ask("attach")

    def server(self):
        self._world.step("tmux", "server")
        server = self._machine.tmux_server()
        return server.id if server else None

    def fileno(self):
        return None

    def drain(self):
        return True

    def heal(self):
        self._ask("list-panes")

    def close(self):
        return None

    def other_windows(self, session):
        return 1

    def new_window(self, session, title, argv, environment, cwd):
        self._ask("new-window")
        if self._machine.tmux_server() is None:
            raise TmuxGoneError("no server")
        world, rng = self._world, self._world.stream("launch-how")
        folder, mark = argv[5], argv[7]
        issue = title.split()[0][1:]
        delay = rng.uniform(0.005, 0.03)
        if issue == self._machine.unlaunchable:
            world.say("tmux", "a launch is swallowed", folder.rpartition("/")[2])
            return self._machine.open_deaf_pane(mark)
        if not world.chance("launch", 0.12):
            pane, pid = self._machine.open_pane(folder, issue, mark, delay)
            return SimpleNamespace(pane=pane, pid=pid)
        how = rng.choice(("lost", "late", "late", "very late", "double", "no answer", "refused"))
        world.say("tmux", f"a launch is {how}", folder.rpartition("/")[2])
        if how == "refused":
            raise TmuxGoneError("proven not started")
        if how == "lost":
            raise TmuxUnknownError("no answer; it did not start")
        if how == "late":  # tmux itself is slow: there is no process until then
            boot = world.boot
            opening = self._machine.open_pane_in_boot
            world.at(rng.uniform(1, 25), opening, boot, folder, issue, mark, delay)
            raise TmuxUnknownError("no answer; it does start, later")
        delay = rng.uniform(1, 90) if how == "very late" else delay
        pane, pid = self._machine.open_pane(folder, issue, mark, delay)
        if how == "double":
            self._machine.open_pane(folder, issue, mark, rng.choice((delay, rng.uniform(0, 60))))
        if how == "no answer" or rng.random() < 0.3:
            raise TmuxUnknownError("no answer; it did start")
        return SimpleNamespace(pane=pane, pid=pid)

    def pane_is(self, pane, server, mark):
        self._ask("display-message")
        there = self._machine.tmux_server()
        if there is None or there.id != server or pane not in there.panes:
            return False
        return there.panes[pane].mark == mark

    def kill_pane(self, pane, server=None):
        self._ask("kill-pane")
        there = self._machine.tmux_server()
        if there is None or there.id != server or pane not in there.panes:
            return
        if not there.panes[pane].mark:
            self._world.fail(f"a person's own pane {pane} was closed")
        process = there.panes[pane].process
        if not process.dead:
            self._world.signal(process.pid, HUP)


class Waiter:
    """What one orchestrator sleeps on; also its Watcher and Clock."""

    def __init__(self, machine, on_wait):
        self._machine, self._world = machine, machine.world
        self._on_wait = on_wait
        self.hints = set()
        self.has_news = False
        self.signal = None
        self._watched = {}
        machine.watcher = self

    def watch(self, issue, pid):
        self._watched[issue] = pid

    def unwatch(self, issue):
        self._watched.pop(issue, None)

    def watch_descriptor(self, fd, previous, drain):
        return None

    def process_died(self, pid):
        for issue, watched in self._watched.items():
            if watched == pid:
                self.hints.add(issue)

    def wait(self, timeout_seconds):
        world = self._world
        world.step("wait", "")
        self._on_wait()
        process = world.actor
        world.pass_time(
            world.now + timeout_seconds,
            lambda: process.dead or self.hints or self.has_news or self.signal is not None,
        )
        if process.dead:
            raise Gone
        hints, self.hints = self.hints, set()
        signal, self.signal, self.has_news = self.signal, None, False
        return Wake(hints, journal=False, signal=signal)

    def now(self):
        world = self._world
        self._machine.looked_at = world.wall_seconds()
        return Now(
            boot_id=world.boot_id(),
            boot_seconds=world.boot_seconds(),
            epoch_seconds=world.wall_seconds(),
        )

    def wall(self):
        return wall_text(self._world)


def wall_text(world):
    """The wall clock as the product writes it."""
    import time

    seconds = world.wall_seconds()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds * 1000) % 1000:03d}Z"


class Dispatcher:
    """Workspaces that take a while, and launches of nothing in particular."""

    def __init__(self, machine):
        self._machine, self._world = machine, machine.world
        self._made = {}
        self._asked = set()

    def workspace(self, batch, key):
        if key in self._made:
            self._asked.discard(key)
            return self._made.pop(key)
        if key not in self._asked:
            self._asked.add(key)
            rng = self._world.stream("workspace")
            if rng.random() < 0.5:
                self._asked.discard(key)
                return self._make()
            self._world.at(rng.uniform(0.01, 2.0), self._finish, key)
        return None

    def _finish(self, key):
        self._made[key] = self._make()
        if self._machine.watcher is not None:
            self._machine.watcher.has_news = True

    def _make(self):
        if self._world.chance("launch", 0.004):
            return StateError("its worktree is locked")
        return SimpleNamespace(path="/w")

    def launch(self, batch, key, number, mark, workspace, retry, pane=None):
        attempt_id = batch.attempt_id(key, number)
        launch = Launch(
            attempt_id=attempt_id,
            issue=key,
            title=key,
            mark=mark,
            cwd="/w",
            argv=("agent",),
            program="agent",
            prompt="do it",
            stdin="none",
            agent="demo",
            environment={"GANGLINE_MARK": mark, "GANGLINE_ATTEMPT": attempt_id},
            log_bytes=1,
        )
        return self._machine.service.launch(batch, key, launch)
