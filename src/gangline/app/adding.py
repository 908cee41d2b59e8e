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
from gangline.core.issue import IssueState
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
    batch, paths = store.batch, store.paths
    new = [issue for issue in only(loaded.issues, request.only) if issue.key not in batch.issues]
    if not new:
        alive = bool(lock_is_held(paths.orchestrator_lock))
        return Added(batch, None, alive, loaded.warnings)
    _check(project, batch, new)
    event = None
    with store.transaction(wall_time()) as moment:
        _refuse_over(moment.batch)
        new = [issue for issue in new if issue.key not in moment.batch.issues]
        if new:
            event = Edited(by="add", issues=tuple(map(planned, new)))
            check_edit(moment.batch, event)
            # A crash in between leaves texts that no issue has: replaced when they join after all.
            texts = store.read_issues() | {issue.key: issue for issue in new}
            store.write_issues(list(texts.values()))
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


def _check(project: Project, batch: Batch, new: Sequence[IssueSpec]) -> None:
    """Refuse ids, dependencies, agents and branches that do not fit what is there."""
    standing = [_standing(issue) for issue in batch.issues.values()]
    check_specs([*standing, *new])
    check_graph([*standing, *new])
    check_agents(project.config, batch.agent or project.config.batch.agent, new)
    project.workspaces(batch.area).prepare_batch([issue.key for issue in new])


def _standing(issue: IssueState) -> IssueSpec:
    """An issue of the batch with what it waits for as the batch says; its source may differ."""
    place = f"batch.state.json: dag.{issue.key}"
    edges = tuple(Dependency(id=other, place=place) for other in issue.depends_on)
    return IssueSpec(id=issue.id, title="", place="batch.state.json", depends_on=edges)
