"""`gangline run`: resume what is there, or plan and begin; then be the orchestrator.

Everything that can be refused is refused before anything is written. Finished work is never run
again by accident: a batch that is over is shown once more and archived, and only the run after that
begins another (DESIGN.md section 3, "The end of a batch").
"""

import gc
import os
import time
from collections.abc import Callable
from difflib import get_close_matches
from enum import Enum
from typing import NamedTuple

from gangline.app.archiving import check_archivable
from gangline.app.commands import stop
from gangline.app.decision_log import DecisionLog
from gangline.app.orchestrate import Observer, Orchestrator
from gangline.app.planning import Plan, Request, batch_started, make_plan, policy_of
from gangline.app.reconfiguring import reconfigure
from gangline.app.wiring import Machinery, Project, require_own_pane
from gangline.core.batch import Batch
from gangline.core.events import (
    AnyEvent,
    BatchStarted,
    Cancelled,
    Held,
    OrchestratorStarted,
    Paused,
    Released,
    Reopened,
    Resumed,
    Retried,
    Skipped,
    StopRequested,
    Wished,
)
from gangline.core.model import Status, check_area
from gangline.errors import AreaBusyError, MachineError, StateError, UsageError
from gangline.hosts.clock import SystemClock
from gangline.hosts.processes import living_agents, wall_time
from gangline.hosts.tmux_server import require_tmux
from gangline.hosts.wakes import hint
from gangline.store.area import areas
from gangline.store.batches import Store
from gangline.store.filesystem import unfit_for_locks
from gangline.store.journal import events_from, journal_bytes
from gangline.store.locks import FileLock, lock_is_held, read_holder

_STOP_PATIENCE_SECONDS = 120.0
_STOP_LOOK_SECONDS = 0.05
_STOP_ASK_SECONDS = 0.5
_BY_PEOPLE = (Cancelled, Skipped, Retried, Reopened, Held, Released, Wished, Paused, Resumed)


class Beginning(Enum):
    """What a run found."""

    NEW = "new"
    RESUMED = "resumed"
    OVER = "over"  # it was shown, archived, and nothing was started


class Session(NamedTuple):
    """A batch that this process may orchestrate: it holds the orchestrator lock."""

    project: Project
    store: Store
    lock: FileLock
    beginning: Beginning
    plan: Plan | None
    since: int = 0  # bytes of the journal when this process reached for the lock


def open_session(
    area: str, request: Request, *, new: bool = False, detached: bool = False
) -> Session:
    """Find or begin the batch of an area and take its orchestrator lock.

    With `detached` the orchestrator itself will run in a tmux window of its own.

    Raises:
        AreaBusyError: another orchestrator has the area.
        GanglineError: anything that is wrong with the input; nothing was written then.
    """
    check_area(area)
    require_tmux()
    project = Project()
    project.tmux()  # a socket that can be none is refused here
    if project.config.batch.panes == "idle":
        require_own_pane(project, area, detached=detached)
    store = project.store(area)
    planned = None if store.exists() else _plan(project, area, request)
    since = journal_bytes(store.paths.journal)
    lock = take_orchestrator_lock(project, area)
    try:
        if not store.load(repair=True):
            return _begin(project, area, request, lock, planned)
        found = Session(project, store, lock, Beginning.OVER, None, since)
        return _go_on(found, request, new=new)
    except BaseException:
        lock.release()
        raise


def _go_on(found: Session, request: Request, *, new: bool) -> Session:
    """What to do with a batch that is there."""
    project, store, batch = found.project, found.store, found.store.batch
    if not batch.is_over:
        if new:
            raise UsageError(
                f"area {batch.area} has a batch that is not over",
                hint=f"finish it: gangline run {batch.area}, or cancel what is left of it",
            )
        reconfigure(project, request, store)
        return found._replace(beginning=Beginning.RESUMED)
    if not new:
        return found
    planned = _plan(project, batch.area, request)
    check_archivable(batch)
    store.archive()
    return _begin(project, batch.area, request, found.lock, planned)


def _plan(project: Project, area: str, request: Request) -> tuple[Plan, BatchStarted]:
    plan = make_plan(project.top, project.config, request)
    policy = policy_of(project.config, request)
    return plan, batch_started(area, plan, policy, project.workspaces(area))


def _begin(
    project: Project,
    area: str,
    request: Request,
    lock: FileLock,
    planned: tuple[Plan, BatchStarted] | None,
) -> Session:
    plan, event = planned or _plan(project, area, request)
    refuse_forgotten_agents(project, area)
    store = project.store(area)
    store.create(event, plan.issues, wall_time())
    return Session(project, store, lock, Beginning.NEW, plan)


def refuse_forgotten_agents(project: Project, area: str) -> None:
    """Refuse to begin beside agents whose batch was deleted: they still work on these issues.

    Raises:
        StateError: there are some; names them.
    """
    living = living_agents(project.paths(area).attempts)
    if living:
        pids = " ".join(map(str, sorted(living)))
        raise StateError(
            f"agents of a batch of area {area} that was deleted still run",
            causes=[f"attempt {attempt} lives" for attempt in sorted(set(living.values()))],
            hint=f"wait until they have ended, or end them: kill {pids}",
        )


def refuse_unfit_disk(project: Project) -> None:
    """Refuse a file system whose locks prove nothing: there two agents could do one issue.

    Raises:
        MachineError: names its type.
    """
    kind = unfit_for_locks(project.workspace)
    if kind is not None:
        raise MachineError(
            f"the repository is on a file system of type {kind}, whose locks cannot be relied on",
            place=project.workspace,
            hint="keep the repository on a local disk",
        )


def take_orchestrator_lock(project: Project, area: str) -> FileLock:
    """Be the one orchestrator of the area.

    Raises:
        AreaBusyError: another is; names it.
    """
    refuse_unfit_disk(project)
    project.create_workspace()
    lock = FileLock(project.paths(area).orchestrator_lock)
    if not lock.try_acquire():
        holder = read_holder(lock.path)
        raise AreaBusyError(
            f"another orchestrator has area {area}" + (f": {holder}" if holder else ""),
            hint=f"look at it: gangline status {area}; end it: gangline stop {area}",
        )
    pane = os.environ.get("TMUX_PANE")
    lock.write_holder(f"process {os.getpid()}" + (f" in pane {pane}" if pane else ""))
    return lock


def orchestrate(session: Session, observer: Observer, *, stopping: bool = False) -> int:
    """Be the orchestrator until the batch is over, stopped or drained; the exit code.

    Args:
        session: From `open_session`; its lock is let go of at the end.
        observer: Told what happens.
        stopping: This run is a `stop --kill`: it ends the agents, and then itself.
    """
    project, store = session.project, session.store
    area = store.batch.area
    told_away = _while_away(store)
    asked = events_from(store.paths.journal, session.since) if session.since else []
    if stopping:
        asked = [StopRequested(kill=True)]
    machinery = Machinery(project, area, store)
    machinery.wakes.catch_signals()
    clock = SystemClock()
    log = DecisionLog(store.paths.log)
    orchestrator = Orchestrator(
        store,
        machinery.host,
        clock,
        machinery.wakes,
        machinery.dispatcher,
        observer,
        log,
        numbers=machinery.folders.numbers(),
        poll_seconds=project.config.batch.poll_seconds,
    )
    started = OrchestratorStarted(
        pid=os.getpid(), pane=os.environ.get("TMUX_PANE"), boot_id=clock.now().boot_id
    )
    gc.freeze()
    gc.enable()  # cli.main turned it off for the start
    if told_away:
        observer.happened(store.batch, told_away, away=True)
    try:
        return orchestrator.run(started, asked)
    finally:
        if store.batch.is_over or not store.batch.by_status[Status.DISPATCHED]:
            machinery.host.close_session(everything=False)
        machinery.wakes.close()
        log.close()
        session.lock.release()


def _while_away(store: Store) -> list[AnyEvent]:
    """What people asked for since the last orchestrator recorded anything."""
    events: list[AnyEvent] = []
    for event in reversed(store.last_events()):
        if not isinstance(event, _BY_PEOPLE):
            break
        events.insert(0, event)
    return events


def stop_without_orchestrator(area: str, observer: Observer) -> None:
    """`stop --kill` where no orchestrator lives: be it for as long as it takes.

    Raises:
        AreaBusyError: one came to life in between.
    """
    project = Project()
    store = project.store(area)
    lock = take_orchestrator_lock(project, area)
    store.load(repair=True)
    if store.batch.is_over:
        lock.release()
        return
    orchestrate(Session(project, store, lock, Beginning.RESUMED, None), observer, stopping=True)


def change(
    area: str, decide: Callable[[Batch], list[AnyEvent]]
) -> tuple[Batch, list[AnyEvent], bool]:
    """Record what a command decides; the batch, the events, and whether an orchestrator lives.

    Raises:
        UsageError: there is no batch, or the command does not apply.
    """
    check_area(area)
    project = Project()
    store = project.store(area)
    if not store.exists() or not store.load(repair=True):
        raise no_batch(project, area)
    with store.transaction(wall_time()) as moment:
        for event in decide(moment.batch):
            moment.record(event)
    paths = project.paths(area)
    hint(paths.wake)
    return store.batch, moment.events, bool(lock_is_held(paths.orchestrator_lock))


def wait_until_stopped(area: str, *, kill: bool) -> None:
    """Wait for an orchestrator that has been asked to stop; ask again where that was in vain.

    Raises:
        UsageError: it has not stopped in two minutes.
    """
    project = Project()
    lock = project.paths(area).orchestrator_lock
    deadline = time.monotonic() + _STOP_PATIENCE_SECONDS
    ask_again = time.monotonic() + _STOP_ASK_SECONDS
    while lock_is_held(lock):
        moment = time.monotonic()
        if moment > deadline:
            raise UsageError("the orchestrator has not stopped yet", hint=f"gangline status {area}")
        if moment > ask_again:
            ask_again = moment + _STOP_ASK_SECONDS
            store = project.store(area)
            if store.load() and store.batch.stop is None:
                # It was only starting, and took the request for one to the orchestrator before it.
                change(area, lambda batch: stop(batch, kill=kill))
        time.sleep(_STOP_LOOK_SECONDS)


def no_batch(project: Project, area: str) -> UsageError:
    """There is nothing under that name."""
    known = areas(project.workspace)
    near = get_close_matches(area, known, n=1) or known[:1]
    return UsageError(
        f"area {area} has no batch",
        hint=f"did you mean {near[0]}?" if near else f"begin one: gangline run {area} --from SRC",
    )
