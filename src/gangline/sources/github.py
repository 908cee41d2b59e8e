"""Turns a repository's open issues into a batch, with both ways GitHub users state dependencies.

GitHub's own relations ("blocked by") come first, sentences in the text second; both count, and
where they differ a warning says so. A dependency on a closed issue is met. One on an open issue
that was not selected is kept: the graph check refuses it, and its place says what is the matter.
"""

import re
from collections.abc import Iterable, Sequence

import msgspec

from gangline.core.model import Dependency, IssueSpec
from gangline.errors import InputError
from gangline.sources.bodies import Reference, read_body
from gangline.sources.fields import one_line
from gangline.sources.github_api import (
    NUMBER_MAX,
    Issue,
    Listing,
    Repository,
    Subject,
    list_issues,
    look_up,
    own_repository,
)
from gangline.sources.loaded import Loaded

_REPOSITORY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]|_){0,99}/[A-Za-z0-9._-]{1,100}")
_ME = "@me"


def load_github(
    repository: str | None, folder: str, *, labels: Sequence[str] = (), assignee: str | None = None
) -> Loaded:
    """Read the open issues of a GitHub repository, by number.

    Args:
        repository: `owner/repo`; None: the one that `folder` belongs to.
        folder: Where `gh` runs.
        labels: Labels that an issue must all have; case does not matter.
        assignee: The login it must be assigned to; `@me` is who is logged in.

    Raises:
        InputError: The name is malformed, the repository cannot be read, or no issue matches.
        MachineError: `gh` is missing, not logged in, limited, offline or does not answer.
    """
    if repository is not None and not _REPOSITORY.fullmatch(repository):
        raise InputError(
            f"{repository[:200]!r} is not the name of a repository",
            hint="write owner and name: --from github:owner/repo",
        )
    where = Repository(repository) if repository is not None else own_repository(folder)
    listing = list_issues(
        where,
        folder,
        label=labels[0] if labels else None,
        assignee=None if assignee == _ME else assignee,
        viewer=assignee == _ME,
    )
    who = listing.viewer if assignee == _ME else assignee
    issues = [issue for issue in listing.issues if _is_selected(issue, labels, who)]
    chosen = _selection(labels, assignee)
    if not issues:
        raise InputError(
            f"there is no open issue{chosen}",
            place=f"github:{listing.name}",
            hint=f"see what is there: gh issue list --repo {listing.name}",
        )
    declared = [_declared(issue, listing.name) for issue in issues]
    seen = _seen(declared, listing)
    unseen = sorted({number for each in declared for number in each.here} - set(seen))
    subjects = seen | look_up(where, folder, unseen)
    reader = _Reader(listing.name, chosen, {issue.number for issue in issues}, subjects)
    specs = tuple(reader.spec(each) for each in declared)
    return Loaded(
        specs, (*_on_relations(listing), *reader.warnings), f"GitHub {listing.name}{chosen}"
    )


class _Declared(msgspec.Struct, frozen=True):
    """An issue with what its text declares.

    Attributes:
        issue: As GitHub sent it.
        body: Its text with LF line ends.
        here: Numbers of this repository that the text names, with their lines.
        elsewhere: References to other repositories.
        unread: Lines and items under a Dependencies heading that name no issue.
    """

    issue: Issue
    body: str
    here: dict[int, int]
    elsewhere: tuple[Reference, ...]
    unread: tuple[tuple[int, str], ...]


class _Reader:
    """Makes specs of issues; `warnings` grows as it goes."""

    def __init__(
        self, name: str, chosen: str, selected: set[int], subjects: dict[int, Subject | None]
    ) -> None:
        self.name = name
        self.chosen = chosen
        self.selected = selected
        self.subjects = subjects
        self.warnings: list[str] = []

    def spec(self, declared: _Declared) -> IssueSpec:
        issue = declared.issue
        place = f"{self.name}#{issue.number}"
        edges: dict[int, str] = {}
        native = self._native(issue)
        for number, is_open in native.items():
            if is_open:
                edges[number] = f"{place} (GitHub relation)"
            else:
                self._met(issue, number)
        for number, line in declared.here.items():
            subject = self.subjects.get(number)
            if number in native:
                continue
            if number not in self.selected and subject is not None and not subject.open:
                self._met(issue, number)
            else:
                edges[number] = f"{place}, line {line} of its text"
        self._warn(declared, native)
        depends_on = [
            Dependency(str(number), source + self._trouble(number))
            for number, source in edges.items()
        ]
        return IssueSpec(
            id=issue.number,
            title=one_line(issue.title.replace("\0", "\ufffd")),
            place=place,
            body=declared.body,
            depends_on=tuple(depends_on),
            labels=_labels(issue),
        )

    def _native(self, issue: Issue) -> dict[int, bool]:
        """The numbers of this repository that GitHub's relations name, and whether each is open."""
        found: dict[int, bool] = {}
        if issue.blocked_by is None:
            return found
        for blocker in issue.blocked_by.nodes:
            if blocker is None:
                self.warnings.append(
                    f"#{issue.number}: one of its GitHub relations is hidden from this login; "
                    "it is not waited for"
                )
                continue
            is_open = blocker.state == "OPEN"
            other = blocker.repository.name_with_owner
            if other.casefold() == self.name.casefold():
                found[blocker.number] = is_open
            elif is_open:
                self._foreign(issue, f"{other}#{blocker.number}")
        if issue.blocked_by.page_info.has_next_page:
            self.warnings.append(
                f"#{issue.number}: GitHub's relations name more than "
                f"{len(issue.blocked_by.nodes)} issues; the others are not waited for"
            )
        return found

    def _warn(self, declared: _Declared, native: dict[int, bool]) -> None:
        issue = declared.issue
        for reference in declared.elsewhere:
            self._foreign(issue, reference.shown())
        for line, item in declared.unread:
            self.warnings.append(
                f"#{issue.number}, line {line} of its text: {item!r} under Dependencies names no "
                "issue"
            )
        more = [number for number in declared.here if number not in native]
        if native and more:
            self.warnings.append(
                f"#{issue.number}: GitHub's relations say {_numbers(native)}; its text also says "
                f"{_numbers(more)} (both are kept)"
            )

    def _foreign(self, issue: Issue, shown: str) -> None:
        self.warnings.append(
            f"#{issue.number}: {shown} is an issue of another repository; it is not waited for"
        )

    def _met(self, issue: Issue, number: int) -> None:
        self.warnings.append(f"#{issue.number}: its dependency #{number} is closed, so it is met")

    def _trouble(self, number: int) -> str:
        """Why a dependency is not among the selected issues; nothing where it is."""
        if number in self.selected:
            return ""
        subject = self.subjects.get(number)
        if subject is None:
            return f": {self.name} has no issue #{number}"
        if subject.kind == "PullRequest":
            return f": #{number} is a pull request that is still open"
        return f": #{number} is open but not selected{self.chosen}"


def _declared(issue: Issue, name: str) -> _Declared:
    body = (issue.body or "").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    found = read_body(body, words=False)
    here: dict[int, int] = {}
    elsewhere: list[Reference] = []
    for reference in found.references:
        if reference.repository and reference.repository.casefold() != name.casefold():
            elsewhere.append(reference)
        else:
            here.setdefault(int(reference.id), reference.line)
    return _Declared(issue, body, here, tuple(elsewhere), found.unread)


def _seen(declared: list[_Declared], listing: Listing) -> dict[int, Subject | None]:
    """What the listing itself tells: its own issues are open, its relations carry their state."""
    seen: dict[int, Subject | None] = {}
    for each in declared:
        for node in each.issue.blocked_by.nodes if each.issue.blocked_by else ():
            if node and node.repository.name_with_owner.casefold() == listing.name.casefold():
                seen[node.number] = Subject("Issue", node.state == "OPEN")
        # What is no GraphQL Int is no issue's number either, and cannot be asked for.
        seen |= {number: None for number in each.here if not 0 < number <= NUMBER_MAX}
    return seen | {issue.number: Subject("Issue", open=True) for issue in listing.issues}


def _on_relations(listing: Listing) -> list[str]:
    if listing.relations:
        return []
    return ["this GitHub server knows no issue dependencies; only the texts of the issues count"]


def _labels(issue: Issue) -> tuple[str, ...]:
    nodes = issue.labels.nodes if issue.labels else ()
    return tuple(node.name for node in nodes if node is not None)


def _is_selected(issue: Issue, labels: Sequence[str], assignee: str | None) -> bool:
    """Whether the issue has all labels and the assignee; the server filters by one label."""
    own = {label.casefold() for label in _labels(issue)}
    logins = {node.login.casefold() for node in issue.assignees.nodes if node is not None}
    return {label.casefold() for label in labels} <= own and (
        assignee is None or assignee.casefold() in logins
    )


def _selection(labels: Sequence[str], assignee: str | None) -> str:
    """The selection in words, to put after a noun; nothing where all issues are meant."""
    words = [f"label {label!r}" for label in labels]
    words += [f"assignee {assignee}"] if assignee is not None else []
    return f" with {' and '.join(words)}" if words else ""


def _numbers(numbers: Iterable[int]) -> str:
    shown = [f"#{number}" for number in numbers]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
