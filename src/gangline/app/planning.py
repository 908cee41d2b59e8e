"""From a source to a batch that may be begun: everything is checked before anything is written."""

import os
import secrets
import time
from collections.abc import Sequence
from difflib import get_close_matches

import msgspec

from gangline.agents.registry import COMMAND_AGENT, accounts
from gangline.app.dispatch import Workspaces, check_agents
from gangline.app.settings import Config
from gangline.core import graph
from gangline.core.events import FORMAT_VERSION, BatchStarted, PlannedIssue, Policy
from gangline.core.model import IssueSpec, check_specs
from gangline.core.usage import Limits
from gangline.errors import UsageError
from gangline.sources.loading import load


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line of `plan` and `run` asks for."""

    source: str | None = None
    agent: str | None = None
    max_concurrent: int | None = None
    only: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    assignee: str | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A checked set of issues.

    Attributes:
        waves: Keys by earliest possible start.
        critical_path: The longest chain by number of issues.
        warnings: What a person should look at; untrusted text in it.
    """

    issues: tuple[IssueSpec, ...]
    waves: list[list[str]]
    critical_path: list[str]
    warnings: tuple[str, ...]
    description: str
    agent: str | None
    source: str


def make_plan(top: str, config: Config, request: Request) -> Plan:
    """Read the issues and check them: ids, dependencies, cycles, agents and their programs.

    Args:
        top: The top of the repository; relative sources start from it.
        config: gangline.toml.
        request: What was asked for.

    Raises:
        GanglineError: the first thing that is wrong, with its place and its mend.
    """
    source = request.source or config.batch.source
    if source is None:
        raise UsageError(
            "no issues are named",
            place="gangline.toml: batch.from",
            hint="say where they are: --from issues/ (or plan.toml, or github)",
        )
    loaded = load(source, top, labels=request.labels, assignee=request.assignee)
    check_specs(loaded.issues)
    issues = only(loaded.issues, request.only)
    graph.check_graph(issues)
    agent = request.agent or config.batch.agent
    check_agents(config, agent, issues)
    dag = graph.dag_of(issues)
    return Plan(
        issues=tuple(issues),
        waves=graph.waves(dag),
        critical_path=graph.critical_path(dag),
        warnings=loaded.warnings,
        description=loaded.description,
        agent=agent,
        source=source,
    )


def only(issues: Sequence[IssueSpec], wanted: Sequence[str]) -> list[IssueSpec]:
    """The wanted issues and all that they depend on, in the order of the source."""
    if not wanted:
        return list(issues)
    known = {issue.key: issue for issue in issues}
    chosen: set[str] = set()
    for key in wanted:
        if key not in known:
            near = get_close_matches(key[:100], known, n=1)
            raise UsageError(
                f"there is no issue {key[:100]!r} to be run alone",
                place="--only",
                hint=f"did you mean {near[0]!r}?" if near else "gangline plan AREA lists them",
            )
    todo = list(wanted)
    while todo:
        key = todo.pop()
        if key not in chosen and key in known:
            chosen.add(key)
            todo.extend(edge.id for edge in known[key].depends_on)
    return [issue for issue in issues if issue.key in chosen]


def policy_of(config: Config, request: Request) -> Policy:
    """The rules that gangline.toml and the flags give a new batch."""
    minutes = config.batch.attempt_minutes
    budget = config.budget
    # As they are read back: the same batch has to be the same bytes, whoever writes the state file.
    return Policy(
        max_concurrent=request.max_concurrent or config.batch.max_concurrent,
        retry_max=config.retry.max,
        retry_on_failure=config.retry.on_failure,
        on_failed_dependency=config.batch.on_failed_dependency,
        attempt_minutes=None if minutes is None else float(minutes),
        log_mb=float(config.batch.log_mb),
        stall_minutes=float(config.batch.stall_minutes),
        stall_action=config.stall.action,
        budget=_limits(budget.cost_usd, budget.tokens, budget.minutes),
        batch_budget=_limits(budget.batch_cost_usd, budget.batch_tokens, budget.batch_minutes),
        accounts=accounts(config.agents),
    )


def _limits(cost_usd: float | None, tokens: float | None, minutes: float | None) -> Limits:
    given = {"cost_usd": cost_usd, "tokens": tokens, "minutes": minutes}
    return Limits(**{key: float(n) for key, n in given.items() if n is not None})


def policy_of_later(config: Config, request: Request, policy: Policy) -> Policy:
    """The rules that a later run gives a batch: as configured now, its width as it was told."""
    width = request.max_concurrent or policy.max_concurrent
    return msgspec.structs.replace(policy_of(config, request), max_concurrent=width)


def batch_id() -> str:
    """A name for a new batch: when it began, and random bits."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(2)


def batch_started(area: str, plan: Plan, policy: Policy, workspaces: Workspaces) -> BatchStarted:
    """The first event of a new batch; what would hurt it is refused.

    Raises:
        GanglineError: a workspace cannot be had.
    """
    workspaces.prepare_batch([issue.key for issue in plan.issues])
    return BatchStarted(
        format=FORMAT_VERSION,
        area=area,
        batch_id=batch_id(),
        agent=plan.agent,
        issues=tuple(planned(issue) for issue in plan.issues),
        policy=policy,
        source=plan.source,
        base_commit=workspaces.base_commit() or None,
    )


def planned(issue: IssueSpec) -> PlannedIssue:
    """What the journal keeps of an issue."""
    return PlannedIssue(
        id=issue.id,
        title=issue.title,
        depends_on=tuple(dict.fromkeys(edge.id for edge in issue.depends_on)),
        agent=COMMAND_AGENT if issue.run else issue.agent,
    )


def config_path(top: str) -> str:
    """Where gangline.toml is or would be."""
    return os.path.join(top, "gangline.toml")
