"""One issue and its attempts, as the journal tells them: plain records, folded by core/batch.py."""

from typing import Any

import msgspec

from gangline.core.events import Condition, KillReason, Outcome, Wish
from gangline.core.model import IssueId, Status
from gangline.core.usage import Usage


class Attempt(msgspec.Struct, kw_only=True, omit_defaults=True, rename="camel"):
    """One dispatch of one issue. Open while `outcome` is None.

    Attributes:
        plan: The person's own pane it was typed into; None for a window of ours.
        foreign: The specification's shell started it: there is no folder, mark or runner of it, and
            only its pane tells how it stands (DESIGN.md section 4, "Foreign attempts").
        condition: None is `working`; `question` is what a person is asked, or why; `until` when a
            limit ends (seconds of the epoch); `asked`: the agent itself asks;
            `waits`: it has ended, after `lived_seconds`, and the attempt waits for an answer or the
            end of the limit.
        messages: What a person said that went with its prompt.
        account: Whose usage limit it is under.
        session: The agent's own session; `resumed`: it went on with one of an attempt before;
            `unheard`: it was to, and is over without a word: it may never have had its prompt.
    """

    number: int
    mark: str
    started_at: str
    boot_id: str = ""
    boot_seconds: float = 0.0
    retry: int = 0
    server: str | None = None
    pane: str | None = None
    agent: str | None = None
    branch: str | None = None
    plan: str | None = None
    foreign: bool = False
    condition: Condition | None = None
    question: str | None = None
    until: float | None = None
    asked: bool = False
    waits: bool = False
    lived_seconds: float | None = None
    messages: list[str] = msgspec.field(default_factory=list)
    account: str | None = None
    session: str | None = None
    resumed: bool = False
    unheard: bool = False
    usage: Usage | None = None
    kill: KillReason | None = None
    kill_boot_id: str = ""
    kill_boot_seconds: float = 0.0
    reaping_since: float | None = None
    outcome: Outcome | None = None
    ended_at: str | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    reason: str | None = None


class IssueState(msgspec.Struct, kw_only=True):
    """One issue as the journal tells it.

    Attributes:
        spent: Attempts of this budget that died, or failed under retry.on_failure.
        voids: Launches in a row that never ran.
        because: The failed dependency for which it was skipped.
        entry: Keys of its entry in `dispatched` that are not ours, kept.
        messages: What a person said to its agent and no prompt has told it yet.
        wish_boot_id, wish_boot_seconds: When an agent said the wish of itself; "" if a person did.
    """

    id: IssueId
    title: str = ""
    depends_on: tuple[str, ...] = ()
    agent: str | None = None
    status: Status = Status.PENDING
    spent: int = 0
    voids: int = 0
    held: bool = False
    wish: Wish | None = None
    wish_reason: str | None = None
    reason: str | None = None
    because: str | None = None
    entry: dict[str, Any] = msgspec.field(default_factory=dict)
    messages: list[str] = msgspec.field(default_factory=list)
    wish_boot_id: str = ""
    wish_boot_seconds: float = 0.0
    attempts: list[Attempt] = msgspec.field(default_factory=list)

    @property
    def key(self) -> str:
        """The text form of the id."""
        return str(self.id)

    @property
    def attempt(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def retry_count(self) -> int:
        """The specification's `retryCount`: automatic re-dispatches charged to the open attempt."""
        return self.attempts[-1].retry if self.attempts else 0

    @property
    def usage(self) -> Usage:
        """What its attempts that are over have used up."""
        return sum((a.usage for a in self.attempts if a.usage is not None), Usage())
