"""What can happen to a batch: past-tense facts.

The journal is a sequence of these. Which may follow which status is one table of its own
(core/transitions.py).
"""

from enum import StrEnum
from typing import Any

import msgspec

from gangline.core.model import IssueId, Status
from gangline.core.usage import Limits, Usage

FORMAT_VERSION = 1


class Outcome(StrEnum):
    """How an attempt ended, as reports name it."""

    COMPLETED = "completed"
    FAILED = "failed"  # the agent ran to its end and did not succeed
    DIED = "died"  # ended without a word: killed, hung up, machine lost
    VOID = "void"  # never ran
    REFUSED = "refused"  # the runner would not start it: wrong folder, no such program
    KILLED = "killed"  # ended by a journalled kill of ours
    LIMITED = "limited"  # its service's usage limit was hit; goes on afterwards, uncharged
    SESSION_LOST = (
        "session-lost"  # the session to be resumed was not there; starts afresh, uncharged
    )


class KillReason(StrEnum):
    """Why Gangline ended a living attempt."""

    WISH = "wish"  # a person asked for something that needs the attempt to end
    STOP = "stop"  # gangline stop --kill
    TIMEOUT = "timeout"  # attempt_minutes
    SIGNAL = "signal"  # the agent wrote its signal file: its work is over
    LIMIT = "limit"  # its service's usage limit was hit: it waits in vain
    BUDGET = "budget"  # [budget] is used up
    STALL = "stall"  # it stalled, and [stall] action says so


class Wish(StrEnum):
    """What a person or agent asked for while an attempt lives; granted when it has ended."""

    CANCEL = "cancel"
    SKIP = "skip"
    RETRY = "retry"
    COMPLETE = "complete"
    FAIL = "fail"


class Condition(StrEnum):
    """How a dispatched issue stands; not a status (DESIGN.md section 2)."""

    WORKING = "working"
    NEEDS_INPUT = "needs-input"  # a person has to answer or decide
    STALLED = "stalled"  # no output, no CPU, no change in its worktree
    LIMITED = "limited"  # its service's usage limit was hit, until a time


class Policy(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The rules of a batch, recorded in it (units: issues, minutes, megabytes).

    Attributes:
        stall_minutes: Silence after which an attempt is stalled; None: never.
        stall_action: What is done then: "report", "retry" or "fail".
        budget: Limits of one issue, over all its attempts.
        batch_budget: Limits of the batch: over them nothing new is dispatched.
        accounts: Agent to account, where several agents share one; else an agent is its own.
    """

    max_concurrent: int = 4
    retry_max: int = 1
    retry_on_failure: bool = False
    on_failed_dependency: str = "run"
    attempt_minutes: float | None = None
    log_mb: float = 100.0
    stall_minutes: float | None = None
    stall_action: str = "report"
    budget: Limits = Limits()
    batch_budget: Limits = Limits()
    accounts: tuple[tuple[str, str], ...] = ()


class PlannedIssue(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What the journal keeps of an issue; bodies are in batch.issues.json."""

    id: IssueId
    title: str = ""
    depends_on: tuple[str, ...] = ()
    agent: str | None = None


class Event(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag_field="type",
    rename="camel",
):
    """One journal line. `seq` and `at` (UTC, ISO 8601, ms) are given when it is committed."""

    seq: int = 0
    at: str = ""


class BatchStarted(Event, frozen=True, kw_only=True, tag="batch-started"):
    """A plan was accepted. `format` is the journal's format version."""

    format: int
    area: str
    batch_id: str
    agent: str | None
    issues: tuple[PlannedIssue, ...]
    policy: Policy
    source: str | None = None
    base_commit: str | None = None


class BatchRestored(Event, frozen=True, kw_only=True, tag="batch-restored"):
    """The journal is begun from a state file: it was lost, or (`adopted`) there never was one."""

    format: int
    area: str
    batch_id: str
    state: dict[str, Any]
    adopted: bool = False


class Edited(Event, frozen=True, kw_only=True, tag="edited"):
    """The state was changed by a person or a script, or issues joined: checked and taken whole.

    Attributes:
        by: "file" (an editor or jq), "filter" (orch_state_update), "add", "source" or "command".
        issues: Those that joined.
        depends_on: The whole new edges of an issue.
        statuses: Of issues without an attempt; where one lives it is a wish.
        retries: `retryCount`, raised.
        panes: Of attempts that Gangline did not start.
        entries: All unknown keys of the issue's entry in `dispatched`.
        details: `title`, `agent`, `held` of an issue, as far as they changed.
        batch: `agent`, `orchestratorPane`, `paused`, as far as they changed.
        extra: Unknown keys of the state file, with their new values.
        dropped: Unknown keys that were taken away.
    """

    by: str
    issues: tuple[PlannedIssue, ...] = ()
    depends_on: dict[str, tuple[str, ...]] = {}
    statuses: dict[str, Status] = {}
    wishes: dict[str, Wish] = {}
    retries: dict[str, int] = {}
    panes: dict[str, str | None] = {}
    entries: dict[str, dict[str, Any]] = {}
    details: dict[str, dict[str, Any]] = {}
    batch: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    dropped: tuple[str, ...] = ()


class Configured(Event, frozen=True, kw_only=True, tag="configured"):
    """The rules changed: a flag of `run`, or gangline.toml."""

    policy: Policy
    agent: str | None = None
    source: str | None = None
    base_commit: str | None = None


class OrchestratorStarted(Event, frozen=True, kw_only=True, tag="orchestrator-started"):
    """An orchestrator holds the area now."""

    pid: int
    pane: str | None = None
    boot_id: str = ""


class OrchestratorStopped(Event, frozen=True, kw_only=True, tag="orchestrator-stopped"):
    """It let go on purpose; agents that still run go on."""

    reason: str


class StopRequested(Event, frozen=True, kw_only=True, tag="stop-requested"):
    """A person asked the orchestrator to stop; with kill, to end the agents first."""

    kill: bool = False


class StopFinished(Event, frozen=True, kw_only=True, tag="stop-finished"):
    """No attempt is left of a stop that ends the agents."""


class Paused(Event, frozen=True, kw_only=True, tag="paused"):
    """No new dispatch until resumed."""


class Resumed(Event, frozen=True, kw_only=True, tag="resumed"):
    """Dispatch again; also ends draining."""


class Draining(Event, frozen=True, kw_only=True, tag="draining"):
    """No new dispatch; the orchestrator ends when the running attempts have."""


class IssueEvent(Event, frozen=True, kw_only=True):
    """An event of one issue, named by its key."""

    issue: str


class Unblocked(IssueEvent, frozen=True, kw_only=True, tag="unblocked"):
    """Every dependency is terminal."""


class Blocked(IssueEvent, frozen=True, kw_only=True, tag="blocked"):
    """A dependency is open again (after a retry or an edit)."""


class Skipped(IssueEvent, frozen=True, kw_only=True, tag="skipped"):
    """Not to be done: a person said so, or `because` names the failed dependency."""

    because: str | None = None


class Cancelled(IssueEvent, frozen=True, kw_only=True, tag="cancelled"):
    """A person said so, before it was dispatched."""


class Retried(IssueEvent, frozen=True, kw_only=True, tag="retried"):
    """A person opened a new budget of attempts for a terminal issue."""


class Reopened(IssueEvent, frozen=True, kw_only=True, tag="reopened"):
    """Skipped because of a dependency that a person retries: it waits for it again."""

    because: str


class Held(IssueEvent, frozen=True, kw_only=True, tag="held"):
    """Not to be dispatched until released."""


class Released(IssueEvent, frozen=True, kw_only=True, tag="released"):
    """May be dispatched again."""


class Refused(IssueEvent, frozen=True, kw_only=True, tag="refused"):
    """No attempt could be made: its workspace, agent or prompt is unusable."""

    reason: str


class Dispatched(IssueEvent, frozen=True, kw_only=True, tag="dispatched"):
    """The intent: durable before anything is started. `retry` is the charge (0 or 1).

    `mark` holds random bits and is in the environment of every process of the attempt;
    `boot_seconds` is the boot clock (CLOCK_BOOTTIME) at the intent; `plan` is the person's own idle
    pane that it is going to be typed into, None for a window of ours. `session` is the agent's own,
    as far as it is known before; `resumed`: it goes on, else `afresh` may say why not. `messages`
    counts what a person said that goes with the prompt.
    """

    attempt: int
    mark: str
    retry: int
    boot_id: str
    boot_seconds: float
    server: str | None = None
    agent: str | None = None
    branch: str | None = None
    plan: str | None = None
    account: str | None = None
    session: str | None = None
    resumed: bool = False
    afresh: str | None = None
    messages: int = 0


class Launched(IssueEvent, frozen=True, kw_only=True, tag="launched"):
    """Tmux answered: the attempt's pane. The runner may or may not have come to its claim."""

    attempt: int
    pane: str
    server: str | None = None


class ConditionChanged(IssueEvent, frozen=True, kw_only=True, tag="condition-changed"):
    """How an attempt stands now; `text`: what is asked of a person, or why; `until`: when a limit
    ends (epoch); `asked`: the agent itself asks; `waits`: it has ended, after `lived_seconds`.
    """

    attempt: int
    condition: Condition
    text: str | None = None
    until: float | None = None
    asked: bool = False
    waits: bool = False
    lived_seconds: float = 0.0


class Sent(IssueEvent, frozen=True, kw_only=True, tag="sent"):
    """A person said something to the agent: it goes with the next prompt, unless it was typed."""

    text: str
    typed: bool = False


class Wished(IssueEvent, frozen=True, kw_only=True, tag="wished"):
    """A command or edit for an issue whose attempt still lives; an agent's own has its moment."""

    wish: Wish
    reason: str | None = None
    boot_id: str = ""
    boot_seconds: float = 0.0


class KillOrdered(IssueEvent, frozen=True, kw_only=True, tag="kill-ordered"):
    """Recorded before the first signal is sent."""

    attempt: int
    why: KillReason
    boot_id: str
    boot_seconds: float


class Reaping(IssueEvent, frozen=True, kw_only=True, tag="reaping"):
    """A dead attempt left processes; recorded before the first of them is ended."""

    attempt: int
    boot_seconds: float


class Voided(IssueEvent, frozen=True, kw_only=True, tag="voided"):
    """The attempt is fenced and never ran. `to` is the issue's next status; `counted` says whether
    it is one of the launches in a row that failed (not when a person asked for the end).
    """

    attempt: int
    reason: str
    to: Status
    counted: bool = True


class Ended(IssueEvent, frozen=True, kw_only=True, tag="ended"):
    """The attempt has ended and nothing of it is left. `to` is the issue's next status.

    `session` is the agent's own, as its output told it ("": it told none; None: nobody read it);
    `usage` what it says that it used up.
    """

    attempt: int
    outcome: Outcome
    to: Status
    reason: str | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    ended_at: str | None = None
    session: str | None = None
    usage: Usage | None = None


IssueEvents = (
    Unblocked
    | Blocked
    | Skipped
    | Cancelled
    | Retried
    | Reopened
    | Held
    | Released
    | Refused
    | Dispatched
    | Launched
    | ConditionChanged
    | Sent
    | Wished
    | KillOrdered
    | Reaping
    | Voided
    | Ended
)
BatchEvents = (
    BatchStarted
    | BatchRestored
    | Edited
    | Configured
    | OrchestratorStarted
    | OrchestratorStopped
    | StopRequested
    | StopFinished
    | Paused
    | Resumed
    | Draining
)
AnyEvent = IssueEvents | BatchEvents
