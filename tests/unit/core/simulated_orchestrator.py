"""An orchestrator over the real core that can be killed after every step it makes durable.

Its memory is the batch and a few notes; whoever drops it loses all of that, as kill -9 does. The
steps are those of the real loop: look, commit, write the state file, then each effect by itself.
"""

from collections.abc import Iterator, Sequence

import msgspec
from core_builders import snapshot
from simulated_world import World

from gangline.core.batch import Batch
from gangline.core.codec import (
    check_line,
    decode_event,
    decode_state,
    encode_event,
    line_seq,
    replay,
)
from gangline.core.events import (
    AnyEvent,
    Dispatched,
    Launched,
    OrchestratorStarted,
    OrchestratorStopped,
)
from gangline.core.model import TERMINAL
from gangline.core.reconcile import (
    Effect,
    Look,
    Reap,
    Start,
    Terminate,
    Void,
    reconcile,
    retry_charge,
)

SETTLING_ROUNDS_MAX = 60


def fold_journal(lines: Sequence[bytes], batch: Batch | None = None) -> Batch:
    """The fold of the lines, onto a checkpoint if there is one."""
    batch = batch or Batch()
    for line in lines[batch.seq :]:
        check_line(line)
        assert line_seq(line) == batch.seq + 1
        batch = replay(batch, decode_event(line))
    return batch


class Writer:
    """Anyone who appends to the journal: reads on first, then commits all at once."""

    def __init__(self, world: World, batch: Batch) -> None:
        self.world = world
        self.batch = batch

    def catch_up(self) -> None:
        self.batch = fold_journal(self.world.journal, self.batch)

    def record(self, *events: AnyEvent) -> list[bytes]:
        """Fold events in memory; the lines that would commit them."""
        lines = []
        for event in events:
            seq = self.batch.seq + 1
            stamped = msgspec.structs.replace(event, seq=seq, at=f"2026-01-01T00:00:{seq:06}Z")
            self.batch.fold(stamped)
            lines.append(encode_event(stamped)[:-1])
        return lines

    def commit(self, lines: Sequence[bytes]) -> None:
        self.world.journal.extend(lines)

    def write_state(self) -> None:
        self.world.state_file = snapshot(self.batch)


class Orchestrator(Writer):
    """One life of the orchestrator, from its start to its end or its death."""

    def __init__(self, world: World, *, from_state_file: bool) -> None:
        checkpoint = None
        if from_state_file and world.state_file is not None:
            checkpoint = decode_state(world.state_file)
        super().__init__(world, fold_journal(world.journal, checkpoint))
        self.has_left = False
        self._confirm: set[str] = set()
        self._launched: list[Launched] = []
        self.commit(self.record(OrchestratorStarted(pid=1, boot_id=world.now.boot_id)))

    def steps(self, *, torn: int, lost_launches: bool) -> Iterator[str]:
        """One pass; yields after every step, so that the caller can stop it dead there.

        Args:
            torn: How many of the lines reach the disk if it dies in the middle of the commit.
            lost_launches: tmux never starts what it is told to start.
        """
        self.catch_up()
        world, now = self.world, self.world.now
        evidence = {key: self._look(key) for key in self.batch.dispatched}
        lines = self._record_launched()
        effects = self._settle(evidence, lines)
        launches = [e for e in effects if isinstance(e, Start)]
        for effect in launches:
            lines += self._intend(effect.issue)
        yield "decided"
        self.commit(lines[:torn])
        yield "commit torn"
        self.commit(lines[torn:])
        yield "committed"
        self.write_state()
        yield "state file"
        for effect in effects:
            self._carry_out(effect)
            yield f"effect {effect}"
        for effect in launches:
            attempt = self.batch.issues[effect.issue].attempts[-1]
            folder = world.prepare(effect.issue, attempt.number)
            yield "prepared"
            if not lost_launches:
                world.coming.append(folder)
                self._launched.append(
                    Launched(
                        issue=effect.issue, attempt=attempt.number, pane="%1", server=world.server
                    )
                )
            yield "launched"
        assert now == world.now

    def _look(self, key: str):
        attempt = self.batch.issues[key].attempts[-1]
        confirmed = key in self._confirm
        return self.world.probe(key, attempt.number, attempt.server, confirmed=confirmed)

    def _record_launched(self) -> list[bytes]:
        lines = []
        for event in self._launched:
            attempt = self.batch.issues[event.issue].attempt
            if attempt.number == event.attempt and attempt.outcome is None:
                lines += self.record(event)
        self._launched = []
        return lines

    def _settle(self, evidence, lines: list[bytes]) -> list[Effect]:
        for _ in range(SETTLING_ROUNDS_MAX):
            decision = reconcile(self.batch, evidence, self.world.now)
            if not decision.events:
                again = reconcile(self.batch, evidence, self.world.now)
                assert again == decision, "deciding again without new evidence changed something"
                if self.batch.stop == "leave" and not self.has_left:
                    assert not any(isinstance(effect, Start) for effect in decision.effects)
                    lines += self.record(OrchestratorStopped(reason="stop"))
                    self.has_left = True
                return decision.effects
            lines += self.record(*decision.events)
        message = "reconcile does not settle"
        raise AssertionError(message)

    def _intend(self, key: str) -> list[bytes]:
        issue = self.batch.issues[key]
        for other in issue.depends_on:
            assert self.batch.issues[other].status in TERMINAL, "started before its dependency"
        assert not issue.held, "a held issue was started"
        assert not self.batch.paused, "started while paused"
        numbers = [number for (name, number) in self.world.folders if name == key]
        numbers += [attempt.number for attempt in issue.attempts]
        self.world.signals.pop(key, None)
        now = self.world.now
        event = Dispatched(
            issue=key,
            attempt=max(numbers, default=-1) + 1,
            mark=f"mark-{key}-{len(numbers)}",
            retry=retry_charge(issue),
            boot_id=now.boot_id,
            boot_seconds=now.boot_seconds,
            server=self.world.server,
        )
        lines = self.record(event)
        assert len(self.batch.by_status["dispatched"]) <= self.batch.policy.max_concurrent
        return lines

    def _carry_out(self, effect: Effect) -> None:
        match effect:
            case Void(issue, number):
                self.world.void(issue, number)
            case Terminate(issue, number, hard):
                attempt = self.batch.issues[issue].attempts[-1]
                assert attempt.kill is not None, "a kill was not journalled"
                self.world.terminate(issue, number, hard=hard)
            case Reap(issue, number, hard):
                attempt = self.batch.issues[issue].attempts[-1]
                assert attempt.reaping_since is not None, "reaping was not journalled"
                self.world.reap(issue, number, hard=hard)
            case Look(issue, _, confirm) if confirm:
                self._confirm.add(issue)
            case _:
                pass
