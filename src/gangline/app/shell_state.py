"""What the specification's shell asks of the state: read it, change it, judge how an issue stands.

Nothing here starts or ends anything; where a status is set, what has happened meanwhile is settled
first by the loop itself (app/shell_cycle.py).
"""

import os
import time
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from gangline.agents.registry import find_agent
from gangline.app.commands import find_issue
from gangline.app.launching import subject_of
from gangline.app.orchestrate import Observer
from gangline.app.planning import Request, batch_id, planned, policy_of
from gangline.app.running import no_batch, refuse_forgotten_agents
from gangline.app.shell_cycle import settle
from gangline.app.shell_sources import parse_graph
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.core.codec import StateEncoder
from gangline.core.edit import check_edit, difference, state_of, with_statuses
from gangline.core.events import FORMAT_VERSION, BatchStarted, Edited, Ended, Voided
from gangline.core.evidence import Claim, Evidence, Verdict, verdict
from gangline.core.graph import check_graph
from gangline.core.model import (
    TERMINAL,
    IssueSpec,
    Status,
    check_area,
    check_specs,
    read_statuses,
)
from gangline.core.policy import LAUNCH_TIMEOUT_SECONDS
from gangline.core.reconcile import reconcile, waiting_events
from gangline.errors import AreaBusyError, GanglineError, InputError, StateError
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.clock import SystemClock
from gangline.hosts.idle import IdlePanes, PaneLook
from gangline.hosts.local import LocalHost
from gangline.hosts.processes import epoch_seconds, wall_time
from gangline.hosts.wakes import Unwatched, hint
from gangline.sources.loading import load
from gangline.store.area import areas
from gangline.store.batches import Store
from gangline.store.restoring import replace_text, text_without_journal

_UPDATE_TRIES_MAX = 1000  # each in vain only because another was not
_STARTUP_LOOK_SECONDS = 0.02


class Standing(NamedTuple):
    """How an issue stands, in the specification's words: completed, failed, running or died."""

    word: str
    terminal: bool


def open_store(project: Project, area: str) -> Store:
    """The area's store, loaded: an edit is taken, a bare state adopted.

    Raises:
        UsageError: there is no batch.
        StateError: the state needs a person.
    """
    check_area(area)
    store = project.store(area)
    if not store.exists() or not store.load(repair=True):
        raise no_batch(project, area)
    return store


def init_batch(area: str, issues: str, dag: str, agent: str | None, pane: str | None) -> None:
    """Begin a batch of ids and dependencies, as the specification's shell does; starts nothing.

    Raises:
        InputError: the graph cannot be used, or the agent is none.
        StateError: the area has a batch.
    """
    check_area(area)
    project = Project()
    store = project.store(area)
    if store.exists():  # before its living agents are taken for those of a batch that was deleted
        raise StateError(
            f"area {area} has a batch already",
            hint=f"go on with it: gangline run {area}; if it is over: orch_print_summary {area}",
        )
    specs = parse_graph(issues, dag)
    check_specs(specs)
    check_graph(specs)
    name = agent or project.config.batch.agent
    if name is not None:
        find_agent(name, project.config.agents, "AGENT")
    source = project.config.batch.source
    specs = _with_texts(project, source, specs)
    workspaces = project.workspaces(area)
    workspaces.prepare_batch([spec.key for spec in specs])
    refuse_forgotten_agents(project, area)
    project.create_workspace()
    event = BatchStarted(
        format=FORMAT_VERSION,
        area=area,
        batch_id=batch_id(),
        agent=name,
        issues=tuple(map(planned, specs)),
        policy=policy_of(project.config, Request()),
        source=source,
        base_commit=workspaces.base_commit() or None,
    )
    store.create(event, specs, wall_time())
    if pane:
        with store.transaction(wall_time()) as moment:
            moment.record(Edited(by="command", batch={"orchestratorPane": pane}))


def _with_texts(project: Project, source: str | None, specs: list[IssueSpec]) -> list[IssueSpec]:
    """Titles and texts of the issues as far as the source has them; the graph stays as it is."""
    if source is None:
        return specs
    found = {issue.key: issue for issue in load(source, project.top).issues}
    return [
        msgspec.structs.replace(found[spec.key], id=spec.id, depends_on=spec.depends_on)
        if spec.key in found
        else spec
        for spec in specs
    ]


def read_state(area: str) -> bytes:
    """The state file's contents, true to the journal."""
    return StateEncoder(open_store(Project(), area).batch).encode()


def is_dispatched(area: str, issue_text: str) -> bool:
    """Whether an attempt of the issue is open."""
    return find_issue(open_store(Project(), area).batch, issue_text).status is Status.DISPATCHED


def update_state(area: str, text: str) -> None:
    """Apply a jq filter to the state and journal what it changes.

    The filter runs without the journal's lock; if others wrote meanwhile it is run again on what
    they left.

    Raises:
        InputError: the filter is wrong, or what it gives is no state; nothing was changed.
    """
    check_area(area)
    project = Project()
    store = project.store(area)
    while (before := text_without_journal(store.paths)) is not None:
        changed = apply_filter(text, msgspec.json.decode(before))
        if replace_text(store.paths, before, changed):
            store.load(repair=True)
            return
    store = open_store(project, area)
    for _ in range(_UPDATE_TRIES_MAX):
        seq = store.batch.seq
        changed = apply_filter(text, state_of(store.batch))
        with store.transaction(wall_time()) as moment:
            if moment.batch.seq != seq:
                continue
            edit = difference(moment.batch, changed, by="filter")
            if edit is None:
                return
            check_edit(moment.batch, edit)
            project.check_edit(edit)
            moment.record(edit)
        hint(store.paths.wake)
        return
    raise StateError(
        f"the state of area {area} changed each time that the filter was run on it",
        hint="run it again",
    )


def apply_filter(text: str, state: Any) -> Any:
    """What a jq filter makes of a state.

    Raises:
        InputError: it does not compile, fails, or gives other than one value.
    """
    import signal  # noqa: PLC0415 - only for filters

    import jq  # noqa: PLC0415 - same

    previous = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends a filter that does not
    try:
        # One more than there may be: a filter can give values without end.
        results = list(islice(jq.compile(text).input_value(state), 2))
    except (ValueError, RecursionError) as error:
        raise InputError(
            "the jq filter cannot be applied", place=text[:200], causes=[str(error)]
        ) from error
    finally:
        signal.signal(signal.SIGINT, previous)
    if len(results) != 1:
        raise InputError(
            f"the jq filter gives {'more than one value' if results else 'no value'}; a state is "
            "one",
            place=text[:200],
            hint="a change is written like .paused = true, several with | between them",
        )
    return results[0]


def set_status(area: str, issue_text: str, word: str, observer: Observer) -> str | None:
    """Set a status, after what has happened was settled; what a person should know, or None.

    Raises:
        InputError: it is no status that can be set.
    """
    project = Project()
    key = find_issue(open_store(project, area).batch, issue_text).key
    status = read_statuses({key: word})[key]
    with suppress(AreaBusyError):  # that one settles it
        settle(area, observer)
    store = open_store(project, area)
    with store.transaction(wall_time()) as moment:
        issue = moment.batch.issues[key]
        if issue.status is status:
            return None
        if status is Status.DISPATCHED:
            raise InputError(
                f"issue {key!r} cannot be set to dispatched; only a dispatch does that",
                hint=f"orch_dispatch {key} PANE {area}",
            )
        moment.record(with_statuses(Edited(by="command"), [(issue, status)]))
        waits = issue.status is Status.DISPATCHED
    hint(store.paths.wake)
    return f"#{key} still lives: {word} counts when its attempt has ended" if waits else None


def unblock(area: str, issue_text: str) -> None:
    """Record what can be unblocked, now that the issue is over; idempotent."""
    store = open_store(Project(), area)
    find_issue(store.batch, issue_text)
    with store.transaction(wall_time()) as moment:
        while events := waiting_events(moment.batch):
            for event in events:
                moment.record(event)
    hint(store.paths.wake)


def standing(area: str, issue_text: str) -> Standing:
    """How an issue stands, by its status or by the evidence of its attempt; changes nothing."""
    store = open_store(Project(), area)
    issue = find_issue(store.batch, issue_text)
    if issue.status in TERMINAL:
        word = "completed" if issue.status is Status.COMPLETED else "failed"
        return Standing(word, terminal=True)
    if issue.status is not Status.DISPATCHED:
        return Standing("running", terminal=False)
    seen = _look(store, [issue.key])[issue.key]
    return _foreseen(store.batch, issue.key, seen)


def _foreseen(batch: Batch, key: str, seen: Evidence) -> Standing:
    """What the loop is going to record of this evidence."""
    issue = batch.issues[key]
    for event in reconcile(batch, {key: seen}, SystemClock().now()).events:
        if isinstance(event, Ended | Voided) and event.issue == key:
            if event.to in TERMINAL:
                word = "completed" if event.to is Status.COMPLETED else "failed"
                return Standing(word, terminal=True)
            return Standing("died", terminal=False)
    if verdict(seen, kill_ordered=issue.attempts[-1].kill is not None) is not Verdict.DIED:
        return Standing("running", terminal=False)
    # It left processes that have to be ended first; then its budget decides.
    spent = issue.spent + 1 > batch.policy.retry_max
    return Standing("failed", terminal=True) if spent else Standing("died", terminal=False)


def _look(store: Store, keys: list[str]) -> dict[str, Evidence]:
    """The evidence of the newest attempts of these issues; nothing is changed by it."""
    project = Project()
    folders = AttemptFolders(store.paths.folder, store.paths.wake)
    area = store.batch.area
    host = LocalHost(folders, project.tmux(), f"gangline-{area}", project.owner(area), Unwatched())
    return host.probe([subject_of(store.batch, store.batch.issues[key]) for key in keys])


def pane_lives(pane: str) -> bool:
    """Whether an attempt lives whose pane this was, in any area; else whether the pane is there.

    A pane id alone proves nothing (erratum 3): where an area's dispatched entry names the pane, the
    attempt's own evidence decides. An area that cannot be read tells nothing.
    """
    project = Project()
    is_named = False
    for area in areas(project.workspace):
        store = project.store(area)
        try:
            if not store.load():
                continue
        except (GanglineError, OSError):
            continue
        named = [
            key
            for key in store.batch.dispatched
            if pane in (store.batch.issues[key].attempts[-1].pane, _plan(store.batch, key))
        ]
        for key, seen in _look(store, named).items():
            killed = store.batch.issues[key].attempts[-1].kill is not None
            lost = (Verdict.DIED, Verdict.NEVER_RAN, Verdict.FINISHED, Verdict.REFUSED)
            if verdict(seen, kill_ordered=killed) not in lost:
                return True
        is_named |= bool(named)
    if is_named:
        return False
    look, _ = IdlePanes(project.tmux(), None).look(pane)
    return look is not PaneLook.ABSENT


def _plan(batch: Batch, key: str) -> str | None:
    return batch.issues[key].attempts[-1].plan


def note_activity(area: str, issue_text: str) -> None:
    """Keep when the issue's agent last printed or committed anything, where that is news."""
    store = open_store(Project(), area)
    issue = find_issue(store.batch, issue_text)
    if issue.status is not Status.DISPATCHED:
        return
    commit = _last_commit(store, issue.key)
    printed = _printed_at(store, issue.key)
    known = issue.entry.get("lastActivity")
    same = commit == issue.entry.get("lastCommitSha")
    if same and isinstance(known, str) and epoch_seconds(known) >= printed:
        return
    entry = {**issue.entry, "lastActivity": wall_time()}
    if commit:
        entry["lastCommitSha"] = commit
    with store.transaction(wall_time()) as moment:
        if moment.batch.issues[issue.key].status is Status.DISPATCHED:
            moment.record(Edited(by="command", entries={issue.key: entry}))


def is_stalled(area: str, issue_text: str, minutes: float | None) -> bool:
    """Whether the issue's agent lives and has neither printed nor committed for so many minutes."""
    project = Project()
    store = open_store(project, area)
    issue = find_issue(store.batch, issue_text)
    if issue.status is not Status.DISPATCHED:
        return False
    seen = _look(store, [issue.key])[issue.key]
    if verdict(seen, kill_ordered=False) is not Verdict.RUNNING:
        return False
    known = issue.entry.get("lastActivity")
    times = [
        epoch_seconds(issue.attempts[-1].started_at),
        epoch_seconds(known) if isinstance(known, str) else 0.0,
        _printed_at(store, issue.key),
    ]
    limit = project.config.batch.stall_minutes if minutes is None else minutes
    return time.time() - max(times) >= limit * 60


def _printed_at(store: Store, key: str) -> float:
    batch = store.batch
    attempt_id = batch.attempt_id(key, batch.issues[key].attempts[-1].number)
    try:
        return os.stat(os.path.join(store.paths.attempts, attempt_id, "output.log")).st_mtime
    except OSError:
        return 0.0


def _last_commit(store: Store, key: str) -> str | None:
    """The commit that the issue's branch is at; None where there is no worktree."""
    from gangline.workspaces.git import run_git  # noqa: PLC0415 - only here

    folder = os.path.join(store.paths.worktrees, f"issue-{key}")
    if not os.path.isdir(folder):
        return None
    answer = run_git(["rev-parse", "--verify", "HEAD"], folder)
    return answer.output.strip() if answer.code == 0 else None


def wait_for_startup(area: str, issue_text: str) -> bool:
    """Whether the issue's agent has been started; waits as long as a launch may take."""
    store = open_store(Project(), area)
    issue = find_issue(store.batch, issue_text)
    if issue.attempt is None:
        return False
    folders = AttemptFolders(store.paths.folder, store.paths.wake)
    subject = subject_of(store.batch, issue)
    deadline = time.monotonic() + LAUNCH_TIMEOUT_SECONDS
    while (claim := folders.read(subject).claim) is Claim.NONE and time.monotonic() < deadline:
        time.sleep(_STARTUP_LOOK_SECONDS)
    return claim is Claim.RUNNER
