"""What the next `gangline run` is going to do, and why; nothing is changed by asking.

The rules are not told twice: core.reconcile itself decides here, on a batch that is loaded, folded
on in memory and thrown away, from the same probe that an orchestrator uses. What an effect would
bring (a fence that wins, processes that end) is imagined, and the function is asked again, until it
has nothing more to decide. What can fail only at the launch (a workspace, a missing program) is not
foreseen.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import msgspec

from gangline.agents.registry import COMMAND_AGENT, find_agent
from gangline.app.archiving import check_archivable
from gangline.app.launching import subject_of
from gangline.app.planning import Request, policy_of_later
from gangline.app.reading import read_state
from gangline.app.recovery_rules import Before, Rule, Step, is_parked, rule_of
from gangline.app.recovery_words import (
    action_words,
    evidence_words,
    limits_of,
    notes_of,
    waiting_words,
)
from gangline.app.resuming import SessionPlan, last_that_ran, plan_session
from gangline.app.views import until_words
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.core.events import (
    Configured,
    Dispatched,
    IssueEvent,
    OrchestratorStarted,
    Unblocked,
)
from gangline.core.evidence import Answer, Claim, Evidence, ExitRecord, verdict
from gangline.core.issue import IssueState
from gangline.core.model import TERMINAL, IssueId, Status, check_area
from gangline.core.reconcile import (
    Effect,
    Look,
    Now,
    Reap,
    Start,
    Terminate,
    Void,
    reconcile,
    retry_charge,
)
from gangline.errors import GanglineError, MachineError, StateError
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.clock import SystemClock
from gangline.hosts.local import LocalHost
from gangline.hosts.tmux_control import TmuxError
from gangline.hosts.wakes import Unwatched
from gangline.store.area import AreaPaths
from gangline.store.locks import lock_is_held, read_holder

_PASSES_MAX = 1000  # each pass decides something; reconcile settles in a handful


class IssuePlan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One issue that something is to be done or said about.

    Attributes:
        id: As in the source.
        title: Untrusted.
        status, held, wish, retry_count: As recorded.
        verdict: What the evidence of its open attempt means; None without one.
        evidence: What was seen, or what is recorded, a sentence each.
        rule: What decides.
        action: What the next run does.
        expected_status, expected_retry_count: After that, before anything else happens; None where
            it is not for the next run to decide (a living orchestrator, a state to be mended).
    """

    id: IssueId
    title: str
    status: str
    held: bool
    wish: str | None
    retry_count: int
    verdict: str | None
    evidence: list[str]
    rule: Rule
    action: str
    expected_status: str | None
    expected_retry_count: int | None


class Problem(msgspec.Struct, frozen=True):
    """Why the state needs a person: with it `gangline run` stops and changes nothing."""

    message: str
    place: str | None
    causes: list[str]
    hint: str | None


class OrchestratorSeen(msgspec.Struct, frozen=True):
    """Whether one lives (None: nobody can tell), and what it says of itself."""

    alive: bool | None
    holder: str | None


class RecoveryPlan(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The plan of one area. Its JSON form, and that of what it holds, is stable: the camelCase
    names of these attributes; keys are only ever added.

    Attributes:
        area: The area.
        batch_id: None if nothing of the batch can be read.
        revision: The number of the last event that can be read.
        orchestrator: A living one decides by itself, and a second run is refused.
        counts: Issues by status, as recorded.
        over: Nothing is open: the next run prints the summary, archives, starts nothing.
        notes: What else the next run does or meets, a sentence each.
        problems: What a person has to mend first.
        issues: The open ones, and the terminal ones whose dependents are still to be unblocked, in
            the order of the batch.
    """

    area: str
    batch_id: str | None
    revision: int
    orchestrator: OrchestratorSeen
    counts: dict[str, int]
    over: bool
    notes: list[str]
    problems: list[Problem]
    issues: list[IssuePlan]


def make_recovery_plan(area: str) -> RecoveryPlan:
    """Look and foresee; read-only.

    Raises:
        UsageError: there is no such batch.
    """
    check_area(area)
    project = Project()
    paths = project.paths(area)
    state = read_state(project, area)
    batch, problems, notes = state.batch, list(state.problems), list(state.notes)
    now = SystemClock().now()
    evidence = _probe(project, paths, batch)
    alive = lock_is_held(paths.orchestrator_lock)
    holder = (read_holder(paths.orchestrator_lock) or None) if alive else None
    if alive:
        notes = [f"an orchestrator lives ({holder or 'it does not say which'}): that one decides"]
    elif alive is None:
        notes.append("nobody can tell whether an orchestrator lives: its lock cannot be probed")
    counts, revision, over = batch.counts(), batch.seq, batch.is_over
    if over and not alive and not problems:
        notes.append("the batch is over: the next run prints its summary, archives it and starts")
        notes[-1] += " nothing"
        problems += _trouble(lambda: check_archivable(batch))
    if not alive:
        notes += notes_of(batch, takes_idle_panes=project.config.batch.panes == "idle")
        _start(batch, project)
    issues = plan_issues(batch, evidence, now, lambda issue: _session_of(project, batch, issue))
    if not alive and any(i.expected_status == Status.DISPATCHED and not i.verdict for i in issues):
        problems += _trouble(state.read_texts)
    left_to = "nothing: the living orchestrator decides" if alive else ""
    return RecoveryPlan(
        area=area,
        batch_id=batch.batch_id or None,
        revision=revision,
        orchestrator=OrchestratorSeen(alive, holder),
        counts=counts,
        over=over,
        notes=notes,
        problems=[Problem(p.message, p.place, list(p.causes), p.hint) for p in problems],
        issues=[_left(i, left_to, broken=bool(state.problems)) for i in issues],
    )


def _trouble(check: Callable[[], object]) -> list[GanglineError]:
    try:
        check()
    except StateError as error:
        return [error]
    return []


def _left(issue: IssuePlan, left_to: str, *, broken: bool) -> IssuePlan:
    """The plan of an issue that the next run does not come to decide over."""
    if not left_to and not broken:
        return issue
    action = left_to or f"nothing until the state is mended; as it can be read: {issue.action}"
    return msgspec.structs.replace(
        issue, action=action, expected_status=None, expected_retry_count=None
    )


def _probe(project: Project, paths: AreaPaths, batch: Batch) -> dict[str, Evidence]:
    """One look at every open attempt, as the first look of a start."""
    subjects = [subject_of(batch, batch.issues[key]) for key in batch.dispatched]
    if not subjects:
        return {}
    tmux = project.tmux()
    folders = AttemptFolders(paths.folder, paths.wake)
    host = LocalHost(folders, tmux, "", project.owner(paths.area), Unwatched())
    try:
        server = tmux.server()  # asks, and starts none
        host.server = server.text if server else None
    except (TmuxError, MachineError):
        host.server = None
    return host.probe(subjects)


# -- foreseeing --------------------------------------------------------------------------------


def _start(batch: Batch, project: Project) -> None:
    """Fold what a start records first: gangline.toml as it is now, and the new orchestrator."""
    if not batch.batch_id or batch.is_over:
        return
    policy = policy_of_later(project.config, Request(), batch.policy)
    if policy != batch.policy:
        batch.fold(Configured(policy=policy))
    batch.fold(OrchestratorStarted(pid=os.getpid()))


def _session_of(project: Project, batch: Batch, issue: IssueState) -> SessionPlan | None:
    """Whether its next attempt goes on with a session; None where there is nothing to say."""
    before = last_that_ran(issue)
    name = issue.agent or batch.agent
    if before is None or name is None or before.agent == COMMAND_AGENT:
        return None
    try:
        agent = find_agent(name, project.config.agents, "gangline.toml").as_it_runs()
    except GanglineError:  # said when it is to be dispatched
        return None
    return plan_session(issue, agent)


Sessions = Callable[[IssueState], SessionPlan | None]


def plan_issues(
    batch: Batch,
    evidence: Mapping[str, Evidence],
    now: Now,
    sessions: Sessions = lambda issue: None,
) -> list[IssuePlan]:
    """The plan of each issue that is open, or whose dependents are still to be unblocked.

    Args:
        batch: As a start finds it; folded on to where the decisions lead.
        evidence: Of the open attempts.
        now: See reconcile.
        sessions: What the next attempt of an issue does about its agent's session.
    """
    owing = {d for key in batch.unblockable for d in batch.issues[key].depends_on}
    begun: dict[str, tuple[Before, IssuePlan]] = {}
    for key, issue in batch.issues.items():
        if issue.status not in TERMINAL or key in owing:
            begun[key] = _before(batch, issue, evidence.get(key), now)
    steps = foresee(batch, evidence, now, sessions)
    limits = limits_of(batch, now)
    ranks = {key: rank for rank, key in enumerate(batch.ready(len(batch.issues)), 1)}
    plans = []
    for key, (before, plan) in begun.items():
        freed = [k for k in batch.dependents[key] if _unblocked(steps[k])]
        issue = batch.issues[key]
        attempt = issue.attempt if is_parked(before, batch) else None
        limit = limits.get(attempt.account if attempt else batch.account_of(issue))
        if attempt is not None and limit is None:
            limit = until_words(attempt.until, now.epoch_seconds)
        decided = before, steps[key], batch
        plans.append(
            msgspec.structs.replace(
                plan,
                rule=rule_of(*decided, limit),
                action=action_words(*decided, ranks.get(key), freed, limit),
                expected_status=issue.status.value,
                expected_retry_count=issue.retry_count,
            )
        )
    return plans


def _unblocked(steps: Sequence[Step]) -> bool:
    return any(isinstance(step, Unblocked) for step in steps)


def _before(
    batch: Batch, issue: IssueState, seen: Evidence | None, now: Now
) -> tuple[Before, IssuePlan]:
    attempt = issue.attempt
    if issue.status is not Status.DISPATCHED or attempt is None:
        seen = None
    kill = attempt.kill if seen and attempt else None
    found = verdict(seen, kill_ordered=kill is not None) if seen else None
    before = Before(issue.key, issue.status, len(issue.attempts), issue.wish, kill, found, seen)
    plan = IssuePlan(
        id=issue.id,
        title=issue.title,
        status=issue.status.value,
        held=issue.held,
        wish=issue.wish.value if issue.wish else None,
        retry_count=issue.retry_count,
        verdict=found.value if found else None,
        evidence=evidence_words(issue, seen, now) if seen else waiting_words(batch, issue),
        rule=Rule("", ""),
        action="",
        expected_status=None,
        expected_retry_count=None,
    )
    return before, plan


def foresee(
    batch: Batch, evidence: Mapping[str, Evidence], now: Now, sessions: Sessions
) -> defaultdict[str, list[Step]]:
    """Let reconcile decide until nothing is left to decide; what it decides, in order, by issue."""
    seen = dict(evidence)
    steps: defaultdict[str, list[Step]] = defaultdict(list)
    for _ in range(_PASSES_MAX):
        decision = reconcile(batch, seen, now)
        for event in decision.events:
            batch.fold(event)
            if isinstance(event, IssueEvent):
                steps[event.issue].append(event)
        if decision.events:
            continue
        moved = [_imagine(batch, seen, each, steps, now, sessions) for each in decision.effects]
        if not any(moved):
            break
    return steps


def _imagine(
    batch: Batch,
    seen: dict[str, Evidence],
    effect: Effect,
    steps: defaultdict[str, list[Step]],
    now: Now,
    sessions: Sessions,
) -> bool:
    """Note the effect and show what it would bring; False if it brings nothing new."""
    key = effect.issue
    if isinstance(effect, Start):
        intent = _intent(batch.issues[key], now, sessions(batch.issues[key]))
        batch.fold(intent)
        steps[key].append(intent)
        return True
    acted = steps[key] and isinstance(steps[key][-1], Reap | Terminate)
    known = any(type(step) is type(effect) and step == effect for step in steps[key])
    if known or (isinstance(effect, Look) and acted):  # to see what the act before it did
        return False
    steps[key].append(effect)
    match effect:
        case Void():
            seen[key] = msgspec.structs.replace(seen[key], claim=Claim.VOID)
        case Reap():
            seen[key] = msgspec.structs.replace(seen[key], survivors=Answer.NO)
        case Terminate():
            seen[key] = msgspec.structs.replace(
                seen[key],
                lock=Answer.NO,
                starting=Answer.YES,
                has_exit=Answer.YES,
                exit=ExitRecord(signal=15),
            )
        case Look():
            if not effect.confirm or seen[key].confirmed:
                return False
            seen[key] = msgspec.structs.replace(seen[key], confirmed=True)
    return True


def _intent(issue: IssueState, now: Now, plan: SessionPlan | None) -> Dispatched:
    """The next dispatch of the issue, as it would be recorded."""
    return Dispatched(
        issue=issue.key,
        attempt=issue.attempt.number + 1 if issue.attempt else 0,
        mark="",
        retry=retry_charge(issue),
        boot_id=now.boot_id,
        boot_seconds=now.boot_seconds,
        resumed=plan is not None and plan.resumed,
        afresh=plan.afresh if plan is not None else None,
        messages=len(issue.messages),
    )
