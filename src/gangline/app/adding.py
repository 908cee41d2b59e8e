"""`gangline add`: issues join a batch that is not over, checked and journalled like an edit.

What is in the batch already stays as it is. The new issues may depend on those, and are checked
with them as one graph; their texts are durable before the event that names them.
"""

from collections.abc import Sequence

import msgspec

from gangline.app.dispatch import check_agents
from gangline.app.planning import Request, only, planned
from gangline.app.running import no_batch
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.core.edit import check_edit
from gangline.core.events import Edited
from gangline.core.graph import check_graph
from gangline.core.model import Dependency, IssueSpec, check_area, check_specs
from gangline.errors import UsageError
from gangline.hosts.processes import wall_time
from gangline.hosts.wakes import hint
from gangline.sources.loading import load
from gangline.store.locks import lock_is_held


class Added(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        batch: As it is now.
        event: What was recorded; None if every issue of the source was in the batch already.
        alive: Whether an orchestrator lives, which dispatches them.
        warnings: What the source's reader found odd; untrusted.
    """

    batch: Batch
    event: Edited | None
    alive: bool
    warnings: tuple[str, ...]


def add_issues(area: str, request: Request) -> Added:
    """Read the source and add what the batch does not have.

    Raises:
        UsageError: there is no batch, or it is over.
        GanglineError: the issues do not fit the batch; nothing was changed.
    """
    check_area(area)
    project = Project()
    store = project.store(area)
    if not store.exists() or not store.load(repair=True):
        raise no_batch(project, area)
    _refuse_over(store.batch)
    source = request.source or project.config.batch.source
    if source is None:
        raise UsageError(
            "no issues are named", place="--from", hint="say where they are: --from SRC"
        )
    loaded = load(source, project.top, labels=request.labels, assignee=request.assignee)
    known = store.read_issues()
    new = [issue for issue in only(loaded.issues, request.only) if issue.key not in known]
    paths = store.paths
    if not new:
        return Added(store.batch, None, bool(lock_is_held(paths.orchestrator_lock)), ())
    _check(project, store.batch, list(known.values()), new)
    event = None
    with store.transaction(wall_time()) as moment:
        _refuse_over(moment.batch)
        new = [issue for issue in new if issue.key not in moment.batch.issues]
        if new:
            event = Edited(by="add", issues=tuple(map(planned, new)))
            check_edit(moment.batch, event)
            store.write_issues([*store.read_issues().values(), *new])
            moment.record(event)
    hint(paths.wake)
    alive = bool(lock_is_held(paths.orchestrator_lock))
    return Added(store.batch, event, alive, loaded.warnings)


def _refuse_over(batch: Batch) -> None:
    if batch.is_over:
        raise UsageError(
            f"the batch of area {batch.area} is over",
            hint=f"begin another with these issues: gangline run {batch.area} --from SRC --new",
        )


def _check(
    project: Project, batch: Batch, known: Sequence[IssueSpec], new: Sequence[IssueSpec]
) -> None:
    """Refuse ids, dependencies, agents and branches that do not fit what is there."""
    standing = [msgspec.structs.replace(spec, depends_on=_edges(batch, spec.key)) for spec in known]
    check_specs([*standing, *new])
    check_graph([*standing, *new])
    check_agents(project.config, batch.agent or project.config.batch.agent, new)
    project.workspaces(batch.area).prepare_batch([issue.key for issue in new])


def _edges(batch: Batch, key: str) -> tuple[Dependency, ...]:
    """What an issue of the batch waits for, as the batch says; its source may have changed."""
    there = batch.issues[key].depends_on if key in batch.issues else ()
    return tuple(Dependency(id=other, place=f"batch.state.json: dag.{key}") for other in there)
