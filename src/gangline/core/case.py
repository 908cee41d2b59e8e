"""One attempt before its judge: what is recorded of it, what is seen of it, and the moment."""

from typing import NamedTuple

from gangline.core.batch import Batch
from gangline.core.decision import Now
from gangline.core.events import Condition, ConditionChanged, Ended
from gangline.core.evidence import (
    Answer,
    Evidence,
    ExitRecord,
    Foreign,
    Progress,
    Verdict,
    verdict,
)
from gangline.core.issue import Attempt, IssueState
from gangline.core.policy import Ruling
from gangline.core.usage import Usage


class Case(NamedTuple):
    batch: Batch
    issue: IssueState
    attempt: Attempt
    seen: Evidence
    now: Now

    def verdict(self) -> Verdict:
        return verdict(self.seen, kill_ordered=self.attempt.kill is not None)

    def other_boot(self) -> bool:
        return not self.attempt.foreign and self.attempt.boot_id != self.now.boot_id

    def seconds_since_intent(self) -> float:
        return self.now.boot_seconds - self.attempt.boot_seconds

    def cause(self) -> str:
        """Why an attempt died, as far as it is proven."""
        record = self.seen.exit or ExitRecord()
        if self.seen.foreign is Foreign.ABSENT:
            pane = self.attempt.pane
            return f"its pane {pane} is gone" if pane else "there is no tmux server it could be in"
        if self.seen.foreign is Foreign.IDLE:
            return f"its pane {self.attempt.pane} is back at its shell, and it left no word"
        if self.other_boot():
            return "the machine was restarted"
        if self.seen.server_gone is Answer.YES:
            return "its tmux server is gone"
        if record.runner_signal is not None:
            return f"its pane was closed or told to end (signal {record.runner_signal})"
        if record.signal is not None:
            return f"the agent was killed by signal {record.signal}"
        if record.code is not None:
            return f"the agent was told to end (exit code {record.code})"
        return "its runner was killed"

    def progress(self) -> Progress:
        """What its output tells; nothing where nobody reads it."""
        return self.seen.progress or Progress()

    def usage(self) -> Usage:
        """What this attempt has used up so far."""
        told, seconds = self.progress(), self.attempt.lived_seconds
        if seconds is None:  # it does not wait, and has not
            seconds = 0.0 if self.other_boot() else max(0.0, self.seconds_since_intent())
        return Usage(
            input_tokens=told.input_tokens,
            output_tokens=told.output_tokens,
            cost_usd=told.cost_usd,
            seconds=round(seconds, 3),
        )

    def session(self) -> str | None:
        """The agent's session as its output told it; "" if it told none, None if nobody read it."""
        told = self.seen.progress
        return None if told is None else told.session or ""

    def stands(
        self,
        condition: Condition,
        text: str | None,
        until: float | None = None,
        *,
        waits: bool = False,
    ) -> ConditionChanged:
        return ConditionChanged(
            issue=self.issue.key,
            attempt=self.attempt.number,
            condition=condition,
            text=text,
            until=until,
            asked=condition is Condition.NEEDS_INPUT and self.attempt.asked,
            waits=waits,
            lived_seconds=self.usage().seconds if waits else 0.0,
        )

    def ended(self, ruling: Ruling) -> Ended:
        record = self.seen.exit or ExitRecord()
        return Ended(
            issue=self.issue.key,
            attempt=self.attempt.number,
            outcome=ruling.outcome,
            to=ruling.to,
            reason=ruling.reason,
            exit_code=record.code,
            exit_signal=record.signal,
            ended_at=record.ended_at,
            session=self.session(),
            usage=None if self.attempt.foreign else self.usage(),
        )
