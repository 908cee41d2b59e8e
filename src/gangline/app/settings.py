"""The keys of gangline.toml (DESIGN.md section 8), and their defaults, which stand only here."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from gangline.agents.registry import AgentConfig, Argv

PROMPT_PLACEHOLDERS = ("area", "issue", "title", "body")
BRANCH_PLACEHOLDERS = ("area", "issue")
DEFAULT_PROMPT = """\
{title}

{body}

---
Do the whole of issue {issue} in the current folder, then commit your work on the current branch.
What is not committed does not count. Do not switch branches and do not push.
If only a person can decide something, run: gangline ask "your question" (it does not wait).
If the issue cannot be done, run: gangline fail "why".
"""

SPECIFICATION_PROMPT = "/dev-pipeline {area} #{issue}"

Flag = Annotated[bool, Meta(description="true or false")]
Text = Annotated[str, Meta(min_length=1, description="a string that is not empty")]
Workers = Annotated[int, Meta(ge=1, le=1000, description="an integer from 1 to 1000")]
Megabytes = Annotated[int, Meta(ge=1, le=1_000_000, description="an integer from 1 to 1000000")]
Minutes = Annotated[
    float,
    Meta(gt=0, le=525_600, description="a number of minutes above 0, at most 525600 (a year)"),
]
Seconds = Annotated[
    float, Meta(gt=0, le=86_400, description="a number of seconds above 0, at most 86400 (a day)")
]
Amount = Annotated[float, Meta(gt=0, le=1e12, description="a number above 0")]
Retries = Annotated[int, Meta(ge=0, le=1, description="0 or 1")]


class BatchConfig(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"source": "from"}
):
    """`[batch]`: what is run and within which limits.

    Attributes:
        source: `from`: where issues are read (`--from`).
        agent: The agent of issues that name none (`--agent`).
        prompt: Template of PROMPT_PLACEHOLDERS; see `render_prompt`.
        max_concurrent: Attempts that may live at the same time.
        attempt_minutes: After this an attempt is ended; None for no limit.
        log_mb: Limit of one attempt's output.log.
        poll_seconds: How often evidence is read again when nothing wakes the orchestrator.
        stall_minutes: Silence after which an attempt counts as stalled.
        on_failed_dependency: Whether dependents of a failed issue run or are skipped.
        panes: Who makes the panes: Gangline, or the user, whose idle shells are taken (`idle`).
        keep_failed_panes: Whether the pane of a failed attempt stays, to be read.
        keep_completed_panes: The same after a success.
    """

    source: Text | None = None
    agent: Text | None = None
    prompt: Text = DEFAULT_PROMPT
    max_concurrent: Workers = 4
    attempt_minutes: Minutes | None = None
    log_mb: Megabytes = 100
    poll_seconds: Seconds = 30
    stall_minutes: Minutes = 10
    on_failed_dependency: Literal["run", "skip"] = "run"
    panes: Literal["managed", "idle"] = "managed"
    keep_failed_panes: Flag = True
    keep_completed_panes: Flag = False


class RetryConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[retry]`: the automatic re-dispatch; `max` is at most 1, as the specification says."""

    max: Retries = 1
    on_failure: Flag = False


class WorkspaceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[workspace]`: where an agent works.

    Attributes:
        kind: None for a worktree in a git repository and the shared folder elsewhere.
        base: The commit worktrees start from; None for what is checked out.
        branch: Template of BRANCH_PLACEHOLDERS; see `render_branch`.
        setup: A command run in each new worktree; empty for none.
    """

    kind: Literal["worktree", "shared"] | None = None
    base: Text | None = None
    branch: Text = "gangline/{area}/issue-{issue}"
    setup: Argv = ()


class VerifyConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[verify]`: a command that decides whether an attempt succeeded (not built)."""

    command: Argv = ()


class DoneConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[done]`: what must be true of the work before an issue is completed (not built)."""

    require: Argv = ()


class StallConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[stall]`: what is done with an attempt that is silent for `[batch] stall_minutes`.

    Attributes:
        action: "report": a person is told; "retry": it is ended and dispatched again, charged as
            its one automatic retry; "fail": it is ended and failed.
    """

    action: Literal["report", "retry", "fail"] = "report"


class BudgetConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[budget]`: what may be used up, as the agents say it; None is no limit.

    Attributes:
        cost_usd, tokens, minutes: Of one issue, over all its attempts: at the limit it is failed.
        batch_cost_usd, batch_tokens, batch_minutes: Of the batch: over it nothing new starts.
    """

    cost_usd: Amount | None = None
    tokens: Amount | None = None
    minutes: Amount | None = None
    batch_cost_usd: Amount | None = None
    batch_tokens: Amount | None = None
    batch_minutes: Amount | None = None


class TmuxConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[tmux]`: the server, a name as for `tmux -L` or an absolute path as for `tmux -S`."""

    socket: Text | None = None


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of gangline.toml, each absent key at its default."""

    batch: BatchConfig = field(default_factory=BatchConfig)
    retry: RetryConfig = field(default_factory=RetryConfig)
    workspace: WorkspaceConfig = field(default_factory=WorkspaceConfig)
    verify: VerifyConfig = field(default_factory=VerifyConfig)
    done: DoneConfig = field(default_factory=DoneConfig)
    stall: StallConfig = field(default_factory=StallConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    tmux: TmuxConfig = field(default_factory=TmuxConfig)
    agents: dict[str, AgentConfig] = {}
