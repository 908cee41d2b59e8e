"""Short words for the tests of the core: plan a batch, tell it what happened, ask it to decide."""

from collections.abc import Mapping

import msgspec
from hypothesis import HealthCheck, settings

from gangline.core.batch import Batch
from gangline.core.codec import StateEncoder
from gangline.core.dispatching import held_back
from gangline.core.events import (
    AnyEvent,
    BatchStarted,
    Dispatched,
    PlannedIssue,
    Policy,
    Unblocked,
)
from gangline.core.evidence import Answer, Claim, Evidence, ExitRecord, Signal
from gangline.core.issue import IssueState
from gangline.core.model import Status
from gangline.core.reconcile import Decision, Effect, Now, Start, reconcile, retry_charge

# Nothing may depend on the wall clock or on chance: the same examples in every run.
STEADY = settings(
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

BOOT = "boot-1"
OTHER_BOOT = "boot-2"

NOT_STARTED = {"claim": Claim.NONE, "lock": Answer.UNKNOWN}
VOID = {"claim": Claim.VOID}
RUNNING = {"claim": Claim.RUNNER, "lock": Answer.YES, "starting": Answer.YES}
# Dead without a word, and nothing of it left.
DIED = {
    "claim": Claim.RUNNER,
    "lock": Answer.NO,
    "starting": Answer.YES,
    "survivors": Answer.NO,
}
NEVER_RAN = {"claim": Claim.RUNNER, "lock": Answer.NO}


def exited(code: int | None = 0, **fields: object) -> dict[str, object]:
    """Evidence of an agent that ended, with its exit record."""
    record = ExitRecord(code=code, **fields)
    return {**DIED, "has_exit": Answer.YES, "exit": record}


def signalled(signal: Signal, seen: Mapping[str, object]) -> dict[str, object]:
    """The same, with a signal file."""
    return {**seen, "signal": signal}


def started(
    dag: Mapping[str, tuple[str, ...]], policy: Policy | None = None, batch_id: str = "b1"
) -> BatchStarted:
    """The first event of a batch with this graph."""
    return BatchStarted(
        format=1,
        area="client",
        batch_id=batch_id,
        agent="demo",
        issues=tuple(PlannedIssue(id=key, depends_on=needs) for key, needs in dag.items()),
        policy=policy or Policy(),
    )


def snapshot(batch: Batch) -> bytes:
    """Everything the batch says, as the bytes of its state file."""
    kept = set(batch.changed)
    batch.changed = set(batch.issues)
    try:
        return StateEncoder(batch).encode()
    finally:
        batch.changed = kept


class Story:
    """A batch and the moment, told event by event."""

    def __init__(
        self, dag: Mapping[str, tuple[str, ...]] | None = None, policy: Policy | None = None
    ) -> None:
        self.batch = Batch()
        self.now = Now(boot_id=BOOT, boot_seconds=1000.0)
        self.record(started(dag if dag is not None else {"1": ()}, policy))

    def record(self, *events: AnyEvent) -> None:
        for event in events:
            at = f"2026-01-01T00:00:00.{self.batch.seq:03}Z"
            self.batch.fold(msgspec.structs.replace(event, seq=self.batch.seq + 1, at=at))

    def issue(self, key: str = "1") -> IssueState:
        return self.batch.issues[key]

    def dispatch(self, *keys: str) -> None:
        """Record the intent of the next attempt of each issue."""
        for key in keys or ("1",):
            issue = self.issue(key)
            if issue.status is Status.BLOCKED:
                self.record(Unblocked(issue=key))
            number = len(issue.attempts)
            self.record(
                Dispatched(
                    issue=key,
                    attempt=number,
                    mark=f"mark-{key}-{number}",
                    retry=retry_charge(issue),
                    boot_id=self.now.boot_id,
                    boot_seconds=self.now.boot_seconds,
                )
            )

    def later(self, seconds: float, boot_id: str | None = None) -> None:
        boot = boot_id or self.now.boot_id
        self.now = Now(boot_id=boot, boot_seconds=self.now.boot_seconds + seconds)

    def seen(self, key: str = "1", **fields: object) -> dict[str, Evidence]:
        """Evidence of the issue's newest attempt."""
        attempt = self.issue(key).attempts[-1]
        return {key: Evidence(attempt=attempt.number, **fields)}

    def look(self, key: str = "1", **fields: object) -> Decision:
        """What one call of reconcile decides; nothing is recorded."""
        return reconcile(self.batch, self.seen(key, **fields), self.now)

    def decide(self, evidence: Mapping[str, Evidence] | None = None) -> Decision:
        return reconcile(self.batch, evidence or {}, self.now)

    def settle(self, evidence: Mapping[str, Evidence] | None = None) -> list[Effect]:
        """Record what is decided until nothing more is; the effects then left to do."""
        for _ in range(10 + 4 * len(self.batch.issues)):
            decision = self.decide(evidence)
            if not decision.events:
                return decision.effects
            self.record(*decision.events)
        message = "reconcile does not settle"
        raise AssertionError(message)

    def ends(self, key: str = "1", **fields: object) -> list[Effect]:
        """Show this evidence of the issue's newest attempt, and settle."""
        return self.settle(self.seen(key, **fields))

    def starts(self) -> list[str]:
        """The issues that would be started now."""
        return [effect.issue for effect in self.settle() if isinstance(effect, Start)]

    def held_back(self, key: str) -> str | None:
        """Why the issue is not sent to a place that a person has for it."""
        return held_back(self.batch, self.batch.issues[key], self.now)
