"""The whole core against a machine that does everything it may, killed after any step.

Small batches, one simulated machine (simulated_world), an orchestrator that loses its memory at any
point and is built anew from the journal or from the state file (simulated_orchestrator). What the
design promises in section 5 is asserted all along, and at the end, with no more faults, the batch
has to come to its end.
"""

from core_builders import STEADY, snapshot, started
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from naive_indexes import check_indexes, check_round_trip
from simulated_orchestrator import Orchestrator, Writer, fold_journal
from simulated_world import World

from gangline.core.batch import Batch
from gangline.core.codec import decode_event, decode_state
from gangline.core.events import (
    Cancelled,
    Dispatched,
    Ended,
    Held,
    Paused,
    Policy,
    Released,
    Reopened,
    Resumed,
    Retried,
    StopRequested,
    Wish,
    Wished,
)
from gangline.core.evidence import ExitRecord, Signal
from gangline.core.model import TERMINAL, Status

RECORDS = [
    ExitRecord(code=0),
    ExitRecord(code=1),
    ExitRecord(code=143),
    ExitRecord(code=None, signal=9),
]


@st.composite
def graphs(draw):
    count = draw(st.integers(1, 6))
    edges = draw(st.sets(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=8))
    return {str(n): tuple(str(m) for m in range(n) if (n, m) in edges) for n in range(count)}


policies = st.builds(
    Policy,
    max_concurrent=st.integers(1, 4),
    retry_max=st.integers(0, 2),
    retry_on_failure=st.booleans(),
    on_failed_dependency=st.sampled_from(["run", "skip"]),
    attempt_minutes=st.sampled_from([None, 1.0]),
)


class Simulation(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.world = World()
        self.orchestrator: Orchestrator | None = None

    @initialize(dag=graphs(), policy=policies)
    def begin(self, dag, policy):
        writer = Writer(self.world, Batch())
        writer.commit(writer.record(started(dag, policy)))

    # -- the orchestrator ------------------------------------------------------------------

    def run_pass(self, *, die_after=None, torn=0, from_state_file=False, lost_launches=False):
        """One pass, cut off after so many steps if `die_after` says so."""
        if self.orchestrator is None:
            self.orchestrator = Orchestrator(self.world, from_state_file=from_state_file)
        steps = self.orchestrator.steps(torn=torn, lost_launches=lost_launches)
        for count, _ in enumerate(steps):
            if count == die_after:
                self.orchestrator = None
                return
        self.check_folds()
        if self.orchestrator.has_left:
            self.orchestrator = None

    @rule(from_state_file=st.booleans(), lost_launches=st.booleans())
    def orchestrate(self, from_state_file, lost_launches):
        self.run_pass(from_state_file=from_state_file, lost_launches=lost_launches)

    @rule(from_state_file=st.booleans())
    def orchestrate_in_peace(self, from_state_file):
        self.run_pass(from_state_file=from_state_file)

    @rule(die_after=st.integers(0, 10), torn=st.integers(0, 6), from_state_file=st.booleans())
    def orchestrate_and_die(self, die_after, torn, from_state_file):
        self.run_pass(die_after=die_after, torn=torn, from_state_file=from_state_file)
        self.orchestrator = None

    def check_folds(self):
        batch = self.orchestrator.batch
        kept = snapshot(batch)
        assert snapshot(fold_journal(self.world.journal)) == kept
        assert self.world.state_file == kept
        assert snapshot(decode_state(kept)) == kept
        check_round_trip(batch)

    # -- the machine -----------------------------------------------------------------------

    def pick(self, folders, number):
        return folders[number % len(folders)]

    @precondition(lambda self: self.world.coming)
    @rule(number=st.integers(0, 5), starts=st.booleans())
    def runner_comes_to_its_claim(self, number, starts):
        folder = self.pick(self.world.coming, number)
        self.world.runner_comes(folder)
        if starts and folder.lock_held:
            self.world.agent_starts(folder)

    @precondition(lambda self: self.world.coming)
    @rule(number=st.integers(0, 5), record=st.sampled_from(RECORDS))
    def attempt_lives_and_ends_unwatched(self, number, record):
        folder = self.pick(self.world.coming, number)
        self.world.runner_comes(folder)
        if folder.lock_held:
            self.world.agent_starts(folder)
            self.world.agent_ends(folder, record)

    @precondition(lambda self: [f for f in self.world.with_runner() if not f.starting])
    @rule(number=st.integers(0, 5))
    def agent_starts(self, number):
        waiting = [folder for folder in self.world.with_runner() if not folder.starting]
        self.world.agent_starts(self.pick(waiting, number))

    @precondition(lambda self: [f for f in self.world.with_runner() if f.starting])
    @rule(number=st.integers(0, 5), record=st.sampled_from(RECORDS))
    def agent_ends(self, number, record):
        running = [folder for folder in self.world.with_runner() if folder.starting]
        self.world.agent_ends(self.pick(running, number), record)

    @precondition(lambda self: [f for f in self.world.with_runner() if not f.starting])
    @rule(number=st.integers(0, 5))
    def runner_refuses(self, number):
        waiting = [folder for folder in self.world.with_runner() if not folder.starting]
        self.world.agent_ends(self.pick(waiting, number), ExitRecord(refused="wrong folder"))

    @precondition(lambda self: self.world.with_runner())
    @rule(number=st.integers(0, 5), agent_survives=st.booleans())
    def runner_is_killed(self, number, agent_survives):
        folder = self.pick(self.world.with_runner(), number)
        self.world.runner_is_killed(folder, agent_survives=agent_survives)

    @precondition(lambda self: [f for f in self.world.alive() if not f.lock_held])
    @rule(number=st.integers(0, 5))
    def survivor_ends(self, number):
        left = [folder for folder in self.world.alive() if not folder.lock_held]
        self.pick(left, number).agent_lives = False

    @rule(issue=st.integers(0, 5), signal=st.sampled_from([Signal.OK, Signal.FAILED]))
    def signal_file_is_written(self, issue, signal):
        if any(folder.issue == str(issue) for folder in self.world.alive()):
            self.world.signals[str(issue)] = signal

    @rule(
        issue=st.integers(0, 5),
        probe=st.sampled_from(["claim", "lock", "signal", "server", "survivors"]),
    )
    def probes_begin_to_fail(self, issue, probe):
        self.world.unseen[str(issue)] = probe

    @precondition(lambda self: self.world.unseen)
    @rule()
    def probes_answer_again(self):
        self.world.unseen.clear()

    @rule()
    def tmux_server_dies(self):
        self.world.server_dies()

    @rule()
    def machine_restarts(self):
        self.orchestrator = None
        self.world.machine_restarts()

    @rule(seconds=st.sampled_from([1.0, 12.0, 45.0, 100.0]))
    def time_passes(self, seconds):
        self.world.seconds += seconds

    # -- people ----------------------------------------------------------------------------

    def command(self):
        return Writer(self.world, fold_journal(self.world.journal))

    def say(self, *events):
        writer = self.command()
        writer.commit(writer.record(*events))

    @rule(issue=st.integers(0, 5), wish=st.sampled_from(Wish))
    def person_wishes(self, issue, wish):
        writer = self.command()
        state = writer.batch.issues.get(str(issue))
        if state is None:
            return
        if state.status is Status.DISPATCHED:
            self.say(Wished(issue=state.key, wish=wish))
        elif state.status in TERMINAL and wish is Wish.RETRY:
            self.say(Retried(issue=state.key), *self.reopened(writer.batch, state.key))
        elif state.status not in TERMINAL and wish is Wish.CANCEL:
            self.say(Cancelled(issue=state.key))

    def reopened(self, batch, key):
        return [
            Reopened(issue=other, because=key)
            for other, issue in batch.issues.items()
            if issue.because == key and issue.status is Status.SKIPPED
        ]

    @rule(issue=st.integers(0, 5), hold=st.booleans())
    def person_holds_or_releases(self, issue, hold):
        state = self.command().batch.issues.get(str(issue))
        if state is not None and state.status not in TERMINAL:
            self.say(Held(issue=state.key) if hold else Released(issue=state.key))

    @rule(event=st.sampled_from([Paused(), Resumed(), StopRequested(kill=True)]))
    def person_pauses_resumes_or_stops(self, event):
        self.say(event)

    # -- what is promised ------------------------------------------------------------------

    @invariant()
    def indexes_equal_their_definition(self):
        if self.orchestrator is not None:
            check_indexes(self.orchestrator.batch)

    @invariant()
    def budgets_are_kept(self):
        """An issue is executed at most 1 + retry times a budget, ends by stop --kill not counted.

        What is still running counts, so the launch that would be one too many is seen at once.
        """
        batch = Batch()
        executed: dict[str, int] = {}
        for line in self.world.journal:
            event = decode_event(line)
            match event:
                case Dispatched() if self.was_executed(event):
                    executed[event.issue] = executed.get(event.issue, 0) + 1
                case Ended() if event.to is Status.PENDING and (
                    batch.issues[event.issue].wish is Wish.RETRY
                ):
                    executed[event.issue] = 0
                case Ended() if event.to is Status.PENDING and event.outcome == "killed":
                    executed[event.issue] -= self.was_executed(event)
                case Retried() | Reopened():
                    executed[event.issue] = 0
            batch.fold(event)
        for issue, count in executed.items():
            assert count <= 1 + batch.policy.retry_max, f"#{issue} was executed {count} times"

    def was_executed(self, event):
        folder = self.world.folders.get((event.issue, event.attempt))
        return folder is not None and folder.starting

    def teardown(self):
        """No more faults: the batch ends, within a bounded number of passes."""
        if not self.world.journal:
            return
        self.world.unseen.clear()
        self.say(Resumed(), *(Released(issue=key) for key in self.open_issues()))
        passes = 20 + 12 * len(self.open_issues())
        for _ in range(passes):
            self.run_pass()
            self.world.seconds += 15.0
            self.everyone_does_their_duty()
            if not self.open_issues():
                break
        assert not self.open_issues(), f"not over after {passes} passes"
        self.run_pass()
        assert not self.world.with_runner()
        assert not list(self.world.alive())

    def open_issues(self):
        batch = fold_journal(self.world.journal)
        return [key for key, issue in batch.issues.items() if issue.status not in TERMINAL]

    def everyone_does_their_duty(self):
        for folder in list(self.world.coming):
            self.world.runner_comes(folder)
        for folder in self.world.with_runner():
            if not folder.starting:
                self.world.agent_starts(folder)
            self.world.agent_ends(folder, ExitRecord(code=143 if folder.told_to_end else 0))


Simulation.TestCase.settings = settings(STEADY, max_examples=200, stateful_step_count=45)
TestSimulation = Simulation.TestCase
