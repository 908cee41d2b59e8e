"""What a later `run` changes of a batch: what its flags and gangline.toml say; all else stays.

A batch that was adopted from the specification's shell has ids only; its titles and texts come from
the source that the flags or `[batch] from` name, as far as they are there.
"""

from collections.abc import Sequence

from gangline.app.dispatch import check_agents
from gangline.app.planning import Request, make_plan, policy_of_later
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.core.events import AnyEvent, Configured, Edited
from gangline.core.model import IssueSpec, check_specs
from gangline.errors import StateError, UsageError
from gangline.hosts.processes import wall_time
from gangline.sources.loading import load
from gangline.store.batches import Store


def reconfigure(project: Project, request: Request, store: Store) -> None:
    """Take over what the flags and gangline.toml say now; what the batch was told stays.

    Raises:
        GanglineError: they do not fit the batch; nothing was changed.
    """
    batch = store.batch
    if request.only:
        raise UsageError(
            "--only chooses the issues of a new batch",
            hint=f"to keep others from being dispatched: gangline hold {batch.area} ISSUE",
        )
    policy = policy_of_later(project.config, request, batch.policy)
    configured = project.config.batch
    agent = request.agent or batch.agent or configured.agent
    source = request.source or batch.source or configured.source
    told: list[AnyEvent] = []
    anew = request.source is not None and (source != batch.source or not _has_texts(store))
    if batch.source is None:
        texts = _texts_of_adopted(project, source, store)
        check_agents(project.config, agent, texts)
        told = _titles(store, texts)
    elif anew or request.agent:
        issues = _read_anew(project, request, store) if anew else store.read_issues().values()
        check_agents(project.config, agent, list(issues))
    base = base_commit_of(project, batch)
    news = Configured(policy=policy, agent=agent, source=source, base_commit=base)
    if news != Configured(
        policy=batch.policy, agent=batch.agent, source=batch.source, base_commit=batch.base_commit
    ):
        told.append(news)
    if told:
        with store.transaction(wall_time()) as moment:
            for event in told:
                moment.record(event)


def base_commit_of(project: Project, batch: Batch) -> str | None:
    """Where the batch starts from; one that was adopted starts from where the repository is now.

    Raises:
        InputError: there is no such commit.
    """
    return batch.base_commit or project.workspaces(batch.area).base_commit() or None


def _texts_of_adopted(project: Project, source: str | None, store: Store) -> list[IssueSpec]:
    """The texts of an adopted batch, as far as its source has them; the state's graph stays."""
    there = store.batch.issues  # the texts may know more, if a crash cut an addition short
    kept = {key: spec for key, spec in store.read_issues().items() if key in there}
    if source is None:
        return list(kept.values())
    loaded = load(source, project.top)
    check_specs(loaded.issues)
    texts = {issue.key: issue for issue in loaded.issues if issue.key in kept}
    for key in kept.keys() - texts.keys():
        store.reports.append(f"{source} does not have issue {key}: it has no title and no text")
    found = [texts.get(key, spec) for key, spec in kept.items()]
    store.write_issues(found)
    return found


def _titles(store: Store, texts: Sequence[IssueSpec]) -> list[AnyEvent]:
    """What the state learns of its issues from their texts."""
    issues = store.batch.issues
    titles = {spec.key: {"title": spec.title} for spec in texts if spec.title}
    new = {key: title for key, title in titles.items() if issues[key].title != title["title"]}
    return [Edited(by="source", details=new)] if new else []


def _has_texts(store: Store) -> bool:
    """Whether the issues' texts, as they were read when the batch began, are there."""
    try:
        return bool(store.read_issues())
    except StateError:
        return False


def _read_anew(project: Project, request: Request, store: Store) -> Sequence[IssueSpec]:
    """The texts of the batch's issues, from another source, or because they were lost."""
    plan = make_plan(project.top, project.config, request)
    texts = {issue.key: issue for issue in plan.issues}
    missing = [key for key in store.batch.issues if key not in texts]
    if missing:
        raise UsageError(
            f"{request.source} does not have issue {missing[0]!r} of the running batch",
            place="--from",
            hint="name the source that the batch was begun from",
        )
    kept = [texts[key] for key in store.batch.issues]
    store.write_issues(kept)
    return kept
