"""What the specification's shell does to the world: look at panes, dispatch, a cycle of its loop.

Only the holder of the orchestrator lock may start or end anything; a shell helper takes it for its
call. While an orchestrator lives a cycle does nothing and says so (DESIGN.md section 3). There is
no second engine: a cycle is a pass of the same loop, on the same journal and the same attempts.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from gangline.app.commands import find_issue
from gangline.app.decision_log import DecisionLog
from gangline.app.dispatch import check_agents
from gangline.app.orchestrate import Observer, Orchestrator
from gangline.app.planning import Request, policy_of_later
from gangline.app.reconfiguring import base_commit_of
from gangline.app.running import no_batch, take_orchestrator_lock
from gangline.app.wiring import Machinery, Project
from gangline.core.batch import Batch
from gangline.core.dispatching import held_back
from gangline.core.events import AnyEvent, Configured, Edited, OrchestratorStarted
from gangline.core.issue import Attempt, IssueState
from gangline.core.model import Status, check_area
from gangline.errors import UsageError
from gangline.hosts.clock import SystemClock
from gangline.hosts.idle import IdlePanes, PaneLook, launch_line
from gangline.hosts.processes import wall_time
from gangline.hosts.tmux_control import TmuxError
from gangline.store.area import areas
from gangline.store.batches import Store

# Longer than what a dead attempt left is asked to end before it is killed (core/policy.py).
_PATIENCE_SECONDS = 4.0


def area_of(area_dir: str, project: Project) -> str:
    """The area that a folder names: its last part, or `workspace` for the repository's top.

    Raises:
        InputError: it can be none.
    """
    path = os.path.abspath(area_dir)
    same = os.path.realpath(path) == os.path.realpath(project.top)
    area = "workspace" if same else os.path.basename(path)
    check_area(area)
    return area


def find_idle_panes(own_pane: str | None) -> list[str]:
    """The idle panes of the own pane's tmux session; never the own one.

    Raises:
        UsageError: no pane is named, and this runs in none.
    """
    pane = own_pane or os.environ.get("TMUX_PANE")
    if not pane:
        raise UsageError(
            "the orchestrator's own pane is not known",
            place="orch_find_idle_panes",
            hint="name it: orch_find_idle_panes \"$(tmux display-message -p '#{pane_id}')\"",
        )
    try:
        return IdlePanes(Project().tmux(), pane).find()
    except TmuxError:
        return []


@contextmanager
def held(area: str, observer: Observer, pane: str | None = None) -> Iterator[Orchestrator]:
    """Be the orchestrator of the area for one call.

    Args:
        area: Its batch is loaded, adopted or mended.
        observer: Told what happens.
        pane: The pane that the shell runs in.

    Raises:
        AreaBusyError: another orchestrator lives.
        UsageError: there is no batch.
    """
    project = Project()
    launch_line("mark", project.paths(area).attempts)  # a path that cannot be typed is refused here
    lock = take_orchestrator_lock(project, area)
    try:
        store = project.store(area)
        if not store.exists() or not store.load(repair=True):
            raise no_batch(project, area)
        own = pane or os.environ.get("TMUX_PANE") or store.batch.orchestrator_pane or ""
        machinery = Machinery(project, area, store, shell_pane=own)
        log = DecisionLog(store.paths.log)
        try:
            yield Orchestrator(
                store,
                machinery.host,
                SystemClock(),
                machinery.wakes,
                machinery.dispatcher,
                observer,
                log,
                numbers=machinery.folders.numbers(),
                poll_seconds=project.config.batch.poll_seconds,
            )
        finally:
            machinery.host.disconnect()
            machinery.wakes.close()
            log.close()
    finally:
        lock.release()


def cycle(area: str, agent: str | None, pane: str | None, observer: Observer) -> None:
    """One cycle of the shell's loop: look, record, unblock, dispatch into idle panes.

    Raises:
        AreaBusyError: another orchestrator lives.
    """
    with held(area, observer, pane) as orchestrator:
        _take_over(orchestrator.store, agent, pane)
        if not orchestrator.store.batch.is_over:
            orchestrator.cycle(_PATIENCE_SECONDS, dispatching=True)


def settle(area: str, observer: Observer) -> None:
    """Record how the attempts stand, and start nothing.

    Raises:
        AreaBusyError: another orchestrator lives.
    """
    with held(area, observer) as orchestrator:
        orchestrator.cycle(_PATIENCE_SECONDS, dispatching=False)


def _take_over(store: Store, agent: str | None, pane: str | None) -> None:
    """Record who orchestrates now, where that has changed; what the last one was told is over."""
    batch, project = store.batch, Project()
    told: list[AnyEvent] = []
    if batch.stop is not None or batch.draining:
        told.append(OrchestratorStarted(pid=os.getpid(), pane=pane or batch.orchestrator_pane))
    elif pane and pane != batch.orchestrator_pane:
        told.append(Edited(by="command", batch={"orchestratorPane": pane}))
    named = agent if agent != "null" else None  # what `jq -r .agent` says where there is none
    agent = named or batch.agent or project.config.batch.agent
    policy = policy_of_later(project.config, Request(), batch.policy)
    if agent and agent != batch.agent:
        check_agents(project.config, agent, list(store.read_issues().values()))
    base = base_commit_of(project, batch)
    if (policy, base) != (batch.policy, batch.base_commit) or (agent and agent != batch.agent):
        told.append(Configured(policy=policy, agent=agent, base_commit=base))
    if told:
        with store.transaction(wall_time()) as moment:
            for event in told:
                moment.record(event)


def dispatch(
    issue_text: str, pane: str, area: str, agent: str | None, observer: Observer
) -> str | None:
    """Send an issue to a pane; None, or why it was not sent.

    How its last attempt stands is settled first: while that lives nothing is started, and an issue
    that died twice is not tried again.

    Raises:
        AreaBusyError: another orchestrator lives.
        UsageError: there is no such issue or batch.
    """
    with held(area, observer) as orchestrator:
        store = orchestrator.store
        key = find_issue(store.batch, issue_text).key
        _take_over(store, agent, None)
        look, _ = IdlePanes(Project().tmux(), None).look(pane)
        if pane in (os.environ.get("TMUX_PANE"), store.batch.orchestrator_pane):
            return f"pane {pane} is the orchestrator's own"
        if look is not PaneLook.IDLE:
            return f"pane {pane} is {look.value}, not idle"
        orchestrator.cycle(_PATIENCE_SECONDS, dispatching=False)
        if orchestrator.start(key, pane):
            return None
        return _why_not(store.batch, store.batch.issues[key], pane)


def _why_not(batch: Batch, issue: IssueState, pane: str) -> str:
    attempt = issue.attempt
    if issue.status is Status.DISPATCHED and attempt:
        where = f" in pane {attempt.pane}" if attempt.pane else ""
        return f"#{issue.key} is dispatched already{where}"
    if issue.status is Status.PENDING:
        why = held_back(batch, issue, SystemClock().now())
        return f"#{issue.key} is {why}" if why else f"pane {pane} is taken"
    why = f": {issue.reason}" if issue.reason else ""
    return f"#{issue.key} is {issue.status.value}{why}"


def release(area: str | None, what: str) -> str | None:
    """Give back a pane that was taken for an attempt which is over; None, or why not.

    Args:
        area: The area of an issue, or None: `what` is a pane then.
        what: An issue or a pane.
    """
    project = Project()
    idle = IdlePanes(project.tmux(), None)
    for name in [area] if area else areas(project.workspace):
        store = project.store(name)
        if not store.load():
            continue
        for issue, attempt in _attempts(store.batch):
            if what not in (attempt.plan, issue.key) or attempt.plan is None:
                continue
            if attempt.outcome is None:
                return f"the attempt of #{issue.key} in pane {attempt.plan} may still live"
            try:
                idle.release(attempt.plan, attempt.mark)
            except TmuxError as error:
                return f"tmux does not answer: {error}"
    return None


def _attempts(batch: Batch) -> list[tuple[IssueState, Attempt]]:
    return [(issue, attempt) for issue in batch.issues.values() for attempt in issue.attempts]
