"""Other writers: commands, an editor on the state file, `gangline add`, a second orchestrator.

Commands are the product's own (app/commands.py) in the product's own transaction; like everything
they can be killed at any of their calls, and the disk may refuse them.
"""

import json

import msgspec
from sim_machine import wall_text

from gangline.app import commands
from gangline.core.edit import check_edit
from gangline.core.events import Edited, PlannedIssue
from gangline.core.model import IssueSpec
from gangline.errors import GanglineError, StateError
from gangline.store.batches import Store
from gangline.store.locks import FileLock

_OF_ISSUES = (
    *("cancel", "skip", "hold", "release"),
    *("retry",) * 4,
)
_OF_BATCH = ("pause", "resume", "drain", "stop", "stop --kill", "resume", "resume")


class People:
    """Everybody who writes besides the orchestrator."""

    def __init__(self, world, machine, paths):
        self.world, self.machine, self.paths = world, machine, paths
        self.rng = world.stream("people")
        self.acknowledged = []  # (seq, command) of what was answered with success
        self.edits = 0
        self.has_journal = False  # without one a state that cannot be used stays as it is
        self.journals = 0  # that were lost
        self.joined = 0

    def forget(self):
        """The journal was lost, and with it what was acknowledged since the state was written."""
        self.acknowledged = []
        self.has_journal = False
        self.journals += 1

    # -- commands ------------------------------------------------------------------------------

    def something(self):
        """One command, chosen at random."""
        way = self.rng.random()
        keys = self._keys()
        if not keys:
            return
        if way < 0.6:
            name, key = self.rng.choice(_OF_ISSUES), self.rng.choice(keys)
            self.command(f"{name} {key}", lambda b: commands.ISSUE_COMMANDS[name](b, key))
        elif way < 0.85:
            name = self.rng.choice(_OF_BATCH)
            self.batch_command(name)
        elif way < 0.95:
            self.command("add", None)
        else:
            self.second_orchestrator()

    def batch_command(self, name):
        if name.startswith("stop"):
            self.command(name, lambda b: commands.stop(b, kill=name.endswith("kill")))
        else:
            self.command(name, commands.BATCH_COMMANDS[name])

    def command(self, name, decide):
        """A process of its own, as soon as the journal's lock is free."""
        if self._is_locked():
            self.world.at(0.001, self.command, name, decide)
            return
        process = self.world.spawn("command")
        if self.world.chance("crash", 0.2):
            process.kill_at = self.world.stream("crash").randint(1, 40)
        elif self.world.chance("disk", 0.1):
            process.refuse_at = self.world.stream("disk").randint(1, 40)
        try:
            action = self._add if decide is None else lambda: self._change(name, decide)
            self.world.call(process, action)
        except GanglineError as error:
            self.world.say("person", f"{name}: {error.message}", *error.causes)
            if not process.was_refused:
                self._check_refusal(error)
        except OSError as error:
            self.world.say("person", f"{name}: {error}")
            if not process.was_refused:
                raise
        finally:
            if not self.world.is_off:
                self.world.end(process)

    def _check_refusal(self, error):
        """A command may be refused for what it asks; never because the files cannot be read."""
        if isinstance(error, StateError) and "the state file was changed" not in error.message:
            self.world.fail(f"a command met a state that it cannot read: {error.message}")

    def _is_locked(self):
        """Whether the journal's lock is held just now; a real command would wait."""
        try:
            return bool(self.world.disk.find(self.paths.journal_lock).holders)
        except OSError:
            return False

    def _load(self):
        store = Store(self.paths)
        return store if store.exists() and store.load(repair=True) else None

    def _change(self, name, decide):
        store = self._load()
        if store is None:
            return
        with store.transaction(wall_text(self.world)) as moment:
            for event in decide(moment.batch):
                moment.record(event)
        self._acknowledge(name, moment)

    def _acknowledge(self, name, moment):
        self.world.say("person", name, [type(event).__name__ for event in moment.events])
        self.acknowledged += [(event.seq, name) for event in moment.events]
        if self.machine.watcher is not None and not self.world.chance("launch", 0.1):
            self.machine.watcher.has_news = True

    def _add(self):
        """As app/adding.py: texts first, then the event that names them."""
        store = self._load()
        if store is None or store.batch.is_over:
            return
        known = store.read_issues()
        key = f"n{self.joined}"
        self.joined += 1
        edges = tuple(self.rng.sample(sorted(known), min(len(known), self.rng.randint(0, 2))))
        with store.transaction(wall_text(self.world)) as moment:
            if moment.batch.is_over or key in moment.batch.issues:
                return
            planned = PlannedIssue(id=key, title=key, depends_on=edges)
            event = Edited(by="add", issues=(planned,))
            check_edit(moment.batch, event)
            text = IssueSpec(id=key, title=key, place="added")
            store.write_issues([*store.read_issues().values(), text])
            moment.record(event)
        self._acknowledge("add", moment)

    def second_orchestrator(self):
        """It must find the area taken while another orchestrator lives."""
        main = self.world.main
        process = self.world.spawn("second orchestrator")
        lock = FileLock(self.paths.orchestrator_lock)
        taken = self.world.call(process, lock.try_acquire)
        if taken and main is not None and not main.dead and self.machine.watcher is not None:
            self.world.fail("a second orchestrator took the lock of one that lives")
        self.world.say("person", "a second orchestrator", "had no chance" if not taken else "")
        self.world.end(process)

    # -- an editor -----------------------------------------------------------------------------

    def begin_edit(self):
        """Read the state file now, and write it back changed, a little later."""
        try:
            data = bytes(self.world.disk.find(self.paths.state).data)
            state = msgspec.json.decode(data)
        except (OSError, msgspec.DecodeError):
            return
        what = self._change_text(state)
        if what is None:
            return
        text = json.dumps(state).encode()
        if self.rng.random() < 0.06:
            what, text = "rubbish", text[: self.rng.randint(1, len(text))]
        delay = self.rng.choice((0.0, 0.01, self.rng.uniform(0.1, 20.0)))
        self.world.at(delay, self._end_edit, what, text, self.journals)

    def _end_edit(self, what, text, journals):
        if not self.has_journal or journals != self.journals:
            return
        process = self.world.spawn("people-editor")
        self.edits += 1
        try:
            self.world.call(process, self._write, text)
            self.world.say("editor", what)
        except OSError:
            return
        finally:
            if not self.world.is_off:
                self.world.end(process)

    def _write(self, text):
        system = self.machine.system
        part = self.paths.state + ".edited"
        fd = system.open(part, system.O_WRONLY | system.O_CREAT | system.O_TRUNC)
        system.write(fd, text)
        system.close(fd)
        system.rename(part, self.paths.state)

    def _change_text(self, state):
        rng, keys = self.rng, list(state.get("status", {}))
        if not keys:
            return None
        key = rng.choice(keys)
        way = rng.randint(0, 5)
        if way <= 1:
            before = state["status"][key]
            after = rng.choice(("pending", "completed", "failed", "skipped", "cancelled"))
            state["status"][key] = after
            return f"status of {key}: {before} becomes {after}"
        if way == 2:
            state["detail"][key]["held"] = not state["detail"][key].get("held", False)
            return f"held of {key} becomes {state['detail'][key]['held']}"
        if way == 3:
            state["note"] = rng.randint(0, 99)
            return "a key of one's own"
        if way == 4:
            other = rng.choice(keys)
            state["dag"][key] = sorted({*map(str, state["dag"][key]), other})
            return f"{key} is to wait for {other}"
        state["paused"] = not state["paused"]
        return f"paused becomes {state['paused']}"

    def _keys(self):
        try:
            state = msgspec.json.decode(bytes(self.world.disk.find(self.paths.state).data))
            return list(state["status"])
        except (OSError, msgspec.DecodeError, KeyError, TypeError):
            return []
