"""What must hold, at every commit, every start of an agent, every crash, and at the end.

Truth is taken from the witness and the process table, which no product code writes; records from
the bytes of the journal. An event is *committed* when `Journal.append` has returned.
"""

import msgspec
from promises import (
    AgentGone,
    AgentStarted,
    BrokenPromiseError,
    Committed,
    Decided,
    Promises,
    Read,
    Rested,
    Unreadable,
)

import gangline.store.journal as journal_module
from gangline.core.batch import Batch
from gangline.core.codec import decode_event, encode_event, replay
from gangline.core.digest import digest_matches
from gangline.core.events import (
    Dispatched,
    Edited,
    Ended,
    KillOrdered,
    Outcome,
    Reaping,
    Reopened,
    Retried,
    Sent,
    Skipped,
    Unblocked,
    Voided,
    Wish,
    Wished,
)
from gangline.core.model import TERMINAL, Status

_VOIDS_MAX = 3
_LAUNCH_SECONDS = 10.0


class Checks:
    """The checkers of one history."""

    def __init__(self, world, machine, people, paths):
        self.world, self.machine, self.people, self.paths = world, machine, people, paths
        self.committed = {}  # seq -> line
        self.events = {}  # seq -> event
        self.intended = {}  # attempt id -> issue key
        self.boots = {}  # attempt id -> boot of its intent
        self.begun = {}  # attempt id -> its intent
        self.closed = {}  # attempt id -> the event that closed it
        self.killed = set()  # attempts whose end is our own doing
        self.voids = {}  # issue -> launches in a row that came to nothing
        self.spoken_to = set()  # issues whose agent is to be told something: a new budget
        self.started = set()
        self.unsure = None  # the state file as a power cut left it
        self.batch_id = "b1"
        self.promises = Promises()
        self.service = None  # set by the history: the checks of sim_service_checks
        self.last = 0  # the newest event that the promises have seen
        machine.on_claim = self.claimed
        machine.on_start = self.agent_started
        machine.on_gone = self.attempt_gone

    def _observe(self, witness):
        try:
            self.promises.observe(witness)
        except BrokenPromiseError as error:
            self.world.fail(str(error))

    def decided(self, evidence, events, effects):
        """One pass of an orchestrator."""
        boot = self.world.boot_id()
        rebooted = frozenset(
            key
            for key, seen in evidence.items()
            if self.boots.get(f"{self.batch_id}-{key}-a{seen.attempt}") != boot
        )
        self._observe(Decided(evidence, events, effects, rebooted))

    def attempt_gone(self, issue, attempt_id):
        """Nothing of an attempt lives any more."""
        self._observe(AgentGone(issue, int(attempt_id.rpartition("-a")[2])))

    # -- commits -------------------------------------------------------------------------------

    def install(self):
        """Note every commit, whoever makes it."""
        append, checks = journal_module.Journal.append, self

        def noted(journal, events):
            append(journal, events)
            for event in events:
                checks.commit(event)

        journal_module.Journal.append = noted
        return lambda: setattr(journal_module.Journal, "append", append)

    def commit(self, event):
        world = self.world
        if event.seq in self.committed:
            world.fail(f"event {event.seq} was committed twice")
        self.committed[event.seq] = encode_event(event)[:-1]
        self.events[event.seq] = event
        self.people.has_journal = True
        world.say("journal", f"{event.seq} {type(event).__name__}", event)
        self._promise(event)
        match event:
            case Dispatched():
                self._check_number(event)
                self.intended[self._attempt(event)] = event.issue
                self.boots[self._attempt(event)] = event.boot_id
                self.begun[self._attempt(event)] = event
            case Voided() | Ended():
                self._closes(event)
            case Reaping():
                runner = self._runner(self._attempt(event))
                if runner is not None:
                    world.fail(f"{self._attempt(event)} is reaped while its runner lives")
            case Edited(by="file") if not self.people.edits:
                world.fail("an edit of the state file that nobody made")

    def _promise(self, event):
        """What was written by a process that died before it was sure comes first."""
        if event.seq > self.last + 1:
            lines = self._journal().split(b"\n")
            for earlier in map(decode_event, lines[self.last : event.seq - 1]):
                self._observe(Committed((earlier,)))
                self._count(earlier)
                self.service.saw(earlier, is_new=False)
        self._observe(Committed((event,)))
        self._count(event)
        self.service.saw(event, is_new=True)
        self.last = event.seq

    def _count(self, event):
        """Kills that are ours; and three launches in a row that come to nothing are failed."""
        match event:
            case Sent():
                self.spoken_to.add(event.issue)
            case Dispatched():
                self.spoken_to.discard(event.issue)
            case KillOrdered():
                self.killed.add(self._attempt(event))
            case Voided():
                count = self.voids.get(event.issue, 0) + 1 if event.counted else 0
                if event.issue in self.spoken_to:
                    count = 0
                if count >= _VOIDS_MAX and event.to is Status.PENDING:
                    self.world.fail(f"{event.issue} is launched again after {count} in vain")
                self.voids[event.issue] = count if event.to is Status.PENDING else 0
            case Ended() | Retried() | Reopened():
                self.voids[event.issue] = 0
            case Edited():
                self.voids.update(dict.fromkeys(event.statuses, 0))

    def _attempt(self, event):
        return f"{self.batch_id}-{event.issue}-a{event.attempt}"

    def _runner(self, attempt_id):
        """The living runner that has come to its claim, if any."""
        for process in self.world.living():
            owner = process.owner
            if process.kind != "runner" or owner.attempt_id != attempt_id:
                continue
            if owner.agent is not None and not owner.agent.process.dead:
                return process
        return None

    def _closes(self, event):
        """An issue leaves `dispatched` only when nothing of its attempt lives."""
        world, attempt_id = self.world, self._attempt(event)
        self.closed[attempt_id] = event
        for process in world.living():
            if process.attempt_id == attempt_id:
                world.fail(f"{attempt_id} is recorded as over while a {process.kind} of it lives")
        if isinstance(event, Voided):
            if attempt_id in self.started:
                world.fail(f"{attempt_id} is recorded as void, and its agent ran")
            self._check_time(event)
            return
        self._is_true(event, attempt_id)

    def _check_number(self, event):
        """An attempt's number exceeds every folder's that is there (DESIGN.md section 3)."""
        path = f"{self.paths.attempts}/{self._attempt(event)}"
        try:
            self.world.disk.find(path)
        except OSError:
            return
        self.world.fail(f"{self._attempt(event)} is intended, and its folder is there already")

    def _check_time(self, event):
        """A launch has its time."""
        attempt_id = self._attempt(event)
        on_its_way = any(
            process.kind == "runner" and process.owner.attempt_id == attempt_id
            for process in self.world.living()
        )
        if event.counted and on_its_way and self._is_young(attempt_id):
            self.world.fail(f"{attempt_id} is given up while its runner is on its way")

    def _is_young(self, attempt_id):
        """Whether it was fenced before its time, on the tmux server that it was meant for.

        A claim that is not ours is a runner's that died before its agent: such a one is void too.
        """
        intent, server = self.begun.get(attempt_id), self.machine.tmux_server()
        if intent is None or server is None or intent.server != server.id.text:
            return False
        if self.world.boot_seconds() - intent.boot_seconds >= _LAUNCH_SECONDS:
            return False
        try:
            node = self.world.disk.find(f"{self.paths.attempts}/{attempt_id}/claim")
        except OSError:
            return False
        return b'"void"' in node.data

    def _is_true(self, event, attempt_id):
        """What is recorded of an agent's end is what the agent itself knows."""
        codes = self.machine.witness.codes
        record = codes.get(attempt_id, {})
        has_word = f"{attempt_id}/signal" in codes
        untrue = False
        if event.outcome is Outcome.COMPLETED:
            untrue = record.get("code") != 0 and not has_word
        elif event.outcome is Outcome.FAILED:
            by_itself = record.get("code", 129) not in (0, 129, 143)
            untrue = not (by_itself or has_word or attempt_id in self.killed)
        elif event.outcome is Outcome.DIED:
            untrue = record.get("code", 129) not in (129, 143) and not self._is_vague(attempt_id)
        if untrue:
            self.world.fail(f"{attempt_id} is recorded as {event.outcome}; it ended with {record}")

    def _is_vague(self, attempt_id):
        """Whether its runner was told to end, or its exit.json was never written, or lost."""
        path = f"{self.paths.attempts}/{attempt_id}/exit.json"
        try:
            return b"runnerSignal" in bytes(self.world.disk.find(path).data)
        except OSError:
            return True

    # -- agents --------------------------------------------------------------------------------

    def claimed(self, attempt_id):
        """From the fence on nobody comes to the claim."""
        if attempt_id in self.closed:
            self.world.fail(f"{attempt_id} is claimed though it is recorded as over")

    def agent_started(self, agent):
        world, attempt_id = self.world, agent.attempt_id
        if attempt_id in self.started:
            world.fail(f"the agent of {attempt_id} was executed twice")
        self.started.add(attempt_id)
        self._observe(AgentStarted(agent.issue, int(attempt_id.rpartition("-a")[2])))
        if attempt_id not in self.intended:
            world.fail(f"{attempt_id} runs without a committed intent")
        if attempt_id in self.closed:
            world.fail(f"{attempt_id} runs though {type(self.closed[attempt_id]).__name__}")
        for process in world.living():
            other = process.owner if process.kind == "agent" else None
            if other is not None and other is not agent and other.issue == agent.issue:
                world.fail(f"two living agents of issue {agent.issue}: also {other.attempt_id}")
            if (
                process.kind == "tool"
                and process.attempt_id.rpartition("-")[0] == (attempt_id.rpartition("-")[0])
            ):
                world.fail(f"what {process.attempt_id} left still lives beside {attempt_id}")

    # -- crashes -------------------------------------------------------------------------------

    def after_crash(self, *, power):
        """Nothing committed is lost; the state can be read."""
        data = self._journal()
        if data is None:
            if self.committed:
                self.world.fail("the journal is gone")
            return
        lines = data.split(b"\n")
        for seq, line in self.committed.items():
            if seq > len(lines) or lines[seq - 1] != line:
                self.world.fail(f"committed event {seq} is lost: {line.decode()}")
        try:
            node = self.world.disk.find(self.paths.state)
        except OSError:
            return
        if power:  # it is not synced: until it is written again, anything may be in it
            self.unsure, self.promises._newest_read = node, 0
        if node is self.unsure or self.people.edits:
            return
        state = bytes(node.data)
        if not digest_matches(state):
            self._observe(Unreadable("the state file is torn though nobody lost power"))
        read = msgspec.json.decode(state)
        if read["seq"] <= self.last:
            statuses = {key: Status(status) for key, status in read["status"].items()}
            self._observe(Read(statuses, read["seq"]))

    def journal_lost(self):
        """What is committed from here on begins with the state file; who has run stays known."""
        self.committed, self.events, self.closed, self.voids = {}, {}, {}, {}
        self.last = 0
        self.service.forget()
        self.promises.memory = self.promises.memory._replace(spent=())

    def _journal(self):
        disk = self.world.disk
        archived = f"{self.paths.archive}/{self.batch_id}/batch.journal.jsonl"
        for path in (self.paths.journal, archived):
            try:
                return bytes(disk.find(path).data)
            except OSError:
                continue
        return None

    # -- the end -------------------------------------------------------------------------------

    def is_over(self):
        """Whether the batch is: a command may have come after the orchestrator's last look."""
        batch = Batch()
        for line in self._journal().split(b"\n")[:-1]:
            batch = replay(batch, decode_event(line))
        return batch.is_over

    def at_the_end(self):
        """The journal alone, from its first line: order, budgets, acknowledged commands."""
        self.after_crash(power=True)
        lines = self._journal().split(b"\n")[:-1]
        batch = Batch()
        spent = {}
        for number, line in enumerate(lines, 1):
            event = decode_event(line)
            if event.seq != number:
                self.world.fail(f"line {number} has number {event.seq}")
            self._check_event(batch, event, spent)
            batch = replay(batch, event)
        if not batch.is_over:
            self.world.fail("the batch is not over")
        self._observe(Rested())
        for seq, name in self.people.acknowledged:
            if seq > len(lines):
                self.world.fail(f"the acknowledged {name!r} is lost")

    def _check_event(self, batch, event, spent):
        match event:
            case Dispatched(issue=key):
                issue = batch.issues[key]
                waiting = [d for d in issue.depends_on if batch.issues[d].status not in TERMINAL]
                if waiting:
                    self.world.fail(f"{key} is dispatched before {waiting}")
                if event.attempt in [attempt.number for attempt in issue.attempts]:
                    self.world.fail(f"attempt number {event.attempt} of {key} is used twice")
                attempts = [batch.issues[k].attempts[-1] for k in batch.dispatched]
                if sum(not a.waits for a in attempts) >= batch.policy.max_concurrent:
                    self.world.fail("more attempts than places")
                if spent.get(key, 0) > batch.policy.retry_max:
                    self.world.fail(f"{key} has died {spent[key]} times and is dispatched again")
            case Ended(outcome=Outcome.DIED | Outcome.FAILED, issue=key):
                self._check_wish(batch, event)
                granted = batch.issues[key].wish is Wish.RETRY
                goes_on = event.to is Status.PENDING and batch.issues[key].messages
                spent[key] = 0 if granted or goes_on else spent.get(key, 0) + 1
            case Voided() | Ended():
                self._check_wish(batch, event)
                issue = batch.issues[event.issue]
                if issue.wish is Wish.RETRY or issue.messages:
                    spent[event.issue] = 0
            case Retried(issue=key) | Reopened(issue=key):
                spent[key] = 0
            case Edited():
                for key, status in event.statuses.items():
                    if status not in TERMINAL and batch.issues[key].status in TERMINAL:
                        spent[key] = 0
            case Wished() | Unblocked() | Skipped():
                return

    def _check_wish(self, batch, event):
        """An acknowledged cancel outranks whatever is read later."""
        wish = batch.issues[event.issue].wish
        if wish is Wish.CANCEL and event.to is not Status.CANCELLED:
            self.world.fail(f"the cancel of {event.issue} was forgotten")
