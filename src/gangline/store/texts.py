"""batch.issues.json: the issues as their source gave them, titles and bodies included.

The journal keeps what decides; the texts, which may be large and never change, are beside it.
"""

from collections.abc import Sequence

import msgspec

from gangline.core.events import AnyEvent, Edited, PlannedIssue
from gangline.core.model import Dependency, IssueSpec
from gangline.durable import replace_durably
from gangline.errors import StateError


def read_texts(path: str, area: str) -> dict[str, IssueSpec]:
    """The issues by key.

    Raises:
        StateError: the file is gone or broken.
    """
    try:
        with open(path, "rb") as file:
            found = msgspec.json.decode(file.read(), type=list[IssueSpec])
    except (OSError, msgspec.DecodeError) as error:
        raise StateError(
            "the issues' texts cannot be read",
            place=path,
            causes=[str(error)],
            hint=f"read them anew from the source: gangline run {area} --from SRC",
        ) from error
    return {issue.key: issue for issue in found}


def write_texts(path: str, issues: Sequence[IssueSpec]) -> None:
    """Replace the file, durably."""
    replace_durably(path, msgspec.json.encode(list(issues)))


def keep_joined(path: str, area: str, events: Sequence[AnyEvent]) -> None:
    """Give a text to issues that join by these events without one: an edit knows only titles.

    Where the texts are lost nothing is written: what reads them anew is said when one is needed.
    """
    joined = [issue for event in events if isinstance(event, Edited) for issue in event.issues]
    if not joined:
        return
    try:
        texts = read_texts(path, area)
    except StateError:
        return
    missing = [_text_of(issue) for issue in joined if str(issue.id) not in texts]
    if missing:
        write_texts(path, [*texts.values(), *missing])


def _text_of(issue: PlannedIssue) -> IssueSpec:
    place = "batch.state.json"
    edges = tuple(Dependency(id=other, place=place) for other in issue.depends_on)
    return IssueSpec(
        id=issue.id, title=issue.title, place=place, depends_on=edges, agent=issue.agent
    )
