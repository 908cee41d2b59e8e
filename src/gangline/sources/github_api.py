"""What is asked of GitHub, and the shape of its answers.

The query texts are constants: whatever a person or an issue wrote travels as a GraphQL variable
(`-f name=value`), so no name or label can change what is asked. Only numbers go as `-F`, which
would read a file for a value that starts with `@`.
"""

import re
from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from gangline.errors import InputError, MachineError
from gangline.sources.gh import NO_DATA, ApiError, Reply, failure, graphql, run_gh, unreadable

Shape = TypeVar("Shape")

PAGES_MAX = 100
LOOKUP_MAX = 100  # issues asked for in one query; GitHub refuses queries of unbounded cost
NUMBER_MAX = 2**31 - 1  # GraphQL's Int

_RELATIONS = (
    "blockedBy(first: 50) { nodes { number state repository { nameWithOwner } }"
    " pageInfo { hasNextPage } }"
)
_UNKNOWN_FIELD = re.compile(r"'blockedBy'.*(?:doesn't|does not) exist", re.DOTALL)


class Repository(msgspec.Struct, frozen=True):
    """A repository, by what gh needs to address it.

    Attributes:
        name: `owner/repo`.
        host: Its GitHub host if that is not gh's default.
    """

    name: str
    host: str | None = None

    @property
    def place(self) -> str:
        return f"github:{self.name}"

    def arguments(self) -> list[str]:
        owner, _, name = self.name.partition("/")
        host = ["--hostname", self.host] if self.host else []
        return [*host, "-f", f"owner={owner}", "-f", f"name={name}"]


class _Camel(msgspec.Struct, frozen=True, rename="camel"):
    pass


class _Name(_Camel, frozen=True):
    name: str


class _Login(_Camel, frozen=True):
    login: str


class _NameWithOwner(_Camel, frozen=True):
    name_with_owner: str


class Blocker(_Camel, frozen=True):
    number: int
    state: str
    repository: _NameWithOwner


class _PageInfo(_Camel, frozen=True):
    has_next_page: bool
    end_cursor: str | None = None


class _Names(_Camel, frozen=True):
    nodes: tuple[_Name | None, ...]


class _Logins(_Camel, frozen=True):
    nodes: tuple[_Login | None, ...]


class Blockers(_Camel, frozen=True):
    nodes: tuple[Blocker | None, ...]
    page_info: _PageInfo


class Issue(_Camel, frozen=True):
    """An open issue; `blocked_by` is None where the server has no relations or hides them."""

    number: int
    title: str
    body: str | None
    labels: _Names | None
    assignees: _Logins
    blocked_by: Blockers | None = None


class _Issues(_Camel, frozen=True):
    page_info: _PageInfo
    nodes: tuple[Issue | None, ...]


class _Found(_Camel, frozen=True):
    name_with_owner: str
    issues: _Issues


class _Page(_Camel, frozen=True):
    repository: _Found
    viewer: _Login | None = None


class Listing(msgspec.Struct, frozen=True):
    """All open issues that were asked for.

    Attributes:
        name: The repository's name as GitHub writes it.
        viewer: Who is logged in, if that was asked.
        issues: Each once, by number.
        relations: Whether the server knows issue dependencies.
    """

    name: str
    viewer: str | None
    issues: tuple[Issue, ...]
    relations: bool


class Subject(msgspec.Struct, frozen=True):
    """What a number stands for: an issue or a pull request, open or not."""

    kind: str
    open: bool


class _View(_Camel, frozen=True):
    name_with_owner: str
    url: str = ""


def own_repository(folder: str) -> Repository:
    """The repository that gh says the folder belongs to.

    Raises:
        GanglineError: It cannot tell, or gh failed.
    """
    ended = run_gh(["repo", "view", "--json", "nameWithOwner,url"], folder)
    if ended.exit_code != 0:
        raise failure(ended.exit_code, ended.complaint, (), folder, "github")
    try:
        view = msgspec.json.decode(ended.output, type=_View)
    except msgspec.DecodeError as error:
        raise unreadable(ended.output, str(error), "github") from error
    host = view.url.removeprefix("https://").partition("/")[0]
    # gh asks its default host unless told; a remote on another host must be asked there.
    return Repository(view.name_with_owner, host if host not in {"", "github.com"} else None)


def list_issues(
    repository: Repository, folder: str, *, label: str | None, assignee: str | None, viewer: bool
) -> Listing:
    """Read all open issues, a hundred a call; without relations if the server knows none.

    Args:
        repository: Where.
        folder: Where gh runs.
        label: One label that every issue must have.
        assignee: One login that every issue must be assigned to.
        viewer: Whether to ask who is logged in.

    Raises:
        GanglineError: gh failed, or its answer is not what was asked for.
    """
    filters = ["-f", f"label={label}"] if label is not None else []
    filters += ["-f", f"assignee={assignee}"] if assignee is not None else []
    relations = True
    cursor: str | None = None
    pages: list[_Page] = []
    while len(pages) < PAGES_MAX:
        query = _list_query(
            relations=relations,
            label=label is not None,
            assignee=assignee is not None,
            viewer=viewer,
        )
        after = ["-f", f"endCursor={cursor}"] if cursor is not None else []
        arguments = ["-f", f"query={query}", *repository.arguments(), *filters, *after]
        reply = graphql(arguments, folder, repository.place)
        if relations and any(_is_unknown_field(error) for error in reply.errors):
            relations = False
            continue
        pages.append(_page(reply, folder, repository))
        info = pages[-1].repository.issues.page_info
        if not info.has_next_page:
            return _listing(pages, relations=relations)
        if info.end_cursor is None or info.end_cursor == cursor:
            raise MachineError(
                "GitHub says there are more issues but not where", place=repository.place
            )
        cursor = info.end_cursor
    raise InputError(
        f"the repository has more than {PAGES_MAX * 100:,} open issues",
        place=repository.place,
        hint="choose some: --label NAME",
    )


def look_up(
    repository: Repository, folder: str, numbers: Sequence[int]
) -> dict[int, Subject | None]:
    """What issues outside the listing are: open, closed, a pull request, or None: nothing.

    Raises:
        GanglineError: gh failed, or its answer is not what was asked for.
    """
    found: dict[int, Subject | None] = {}
    for start in range(0, len(numbers), LOOKUP_MAX):
        part = numbers[start : start + LOOKUP_MAX]
        values = [
            word for index, number in enumerate(part) for word in ("-F", f"n{index}={number}")
        ]
        arguments = ["-f", f"query={_look_up_query(len(part))}", *repository.arguments(), *values]
        reply = graphql(arguments, folder, repository.place)
        serious = [error for error in reply.errors if not _is_missing_number(error)]
        if serious or reply.data == NO_DATA:
            raise failure(1, "", serious or reply.errors, folder, repository.place)
        answers = _decode(reply.data, _Answers, repository).repository
        for index, number in enumerate(part):
            answer = answers.get(f"a{index}")
            found[number] = Subject(answer.kind, answer.state == "OPEN") if answer else None
    return found


class _Answer(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="__typename")
    issue_state: str | None = msgspec.field(name="issueState", default=None)
    pull_state: str | None = msgspec.field(name="pullState", default=None)

    @property
    def state(self) -> str | None:
        return self.issue_state or self.pull_state


class _Answers(msgspec.Struct, frozen=True):
    repository: dict[str, _Answer | None]


def _list_query(*, relations: bool, label: bool, assignee: bool, viewer: bool) -> str:
    """The query for one page; every part of it is a constant."""
    declared = "$owner: String!, $name: String!, $endCursor: String"
    declared += ", $label: String!" if label else ""
    declared += ", $assignee: String!" if assignee else ""
    chosen = "first: 100, after: $endCursor, states: [OPEN]"
    chosen += ", orderBy: {field: CREATED_AT, direction: ASC}"
    chosen += ", labels: [$label]" if label else ""
    chosen += ", filterBy: {assignee: $assignee}" if assignee else ""
    return f"""query({declared}) {{
  {"viewer { login }" if viewer else ""}
  repository(owner: $owner, name: $name) {{
    nameWithOwner
    issues({chosen}) {{
      pageInfo {{ hasNextPage endCursor }}
      nodes {{
        number title body state
        labels(first: 50) {{ nodes {{ name }} }}
        assignees(first: 50) {{ nodes {{ login }} }}
        {_RELATIONS if relations else ""}
      }}
    }}
  }}
}}"""


def _look_up_query(count: int) -> str:
    numbers = "".join(f", $n{index}: Int!" for index in range(count))
    fields = "\n".join(
        f"    a{index}: issueOrPullRequest(number: $n{index}) {{ __typename"
        " ... on Issue { issueState: state } ... on PullRequest { pullState: state } }"
        for index in range(count)
    )
    return f"""query($owner: String!, $name: String!{numbers}) {{
  repository(owner: $owner, name: $name) {{
{fields}
  }}
}}"""


def _page(reply: Reply, folder: str, repository: Repository) -> _Page:
    """The page in a reply; only a relation may be missing from it, never an issue."""
    serious = [error for error in reply.errors if not _concerns_relation(error)]
    if serious or reply.data == NO_DATA:
        raise failure(1, "", serious or reply.errors, folder, repository.place)
    page = _decode(reply.data, _Page, repository)
    if None in page.repository.issues.nodes:
        # An error inside an issue can take the whole issue out of the answer.
        errors = reply.errors or (ApiError("the answer leaves an issue out"),)
        raise failure(1, "", errors, folder, repository.place)
    return page


def _listing(pages: list[_Page], *, relations: bool) -> Listing:
    # An issue opened while the pages were read can shift another onto two of them.
    issues = {issue.number: issue for issue in _nodes(pages)}
    last = pages[-1]
    return Listing(
        name=last.repository.name_with_owner,
        viewer=last.viewer.login if last.viewer else None,
        issues=tuple(issues[number] for number in sorted(issues)),
        relations=relations,
    )


def _nodes(pages: list[_Page]) -> Iterator[Issue]:
    for page in pages:
        yield from (issue for issue in page.repository.issues.nodes if issue is not None)


def _is_unknown_field(error: ApiError) -> bool:
    extensions = error.extensions or {}
    named = extensions.get("code") == "undefinedField"
    return (named and extensions.get("fieldName") == "blockedBy") or bool(
        _UNKNOWN_FIELD.search(error.message)
    )


def _concerns_relation(error: ApiError) -> bool:
    """Whether only a relation could not be read, say an issue of a private repository."""
    return error.path is not None and "blockedBy" in error.path


def _is_missing_number(error: ApiError) -> bool:
    # The path tells `no such issue` (repository, a0) from `no such repository` (repository).
    return error.type == "NOT_FOUND" and error.path is not None and len(error.path) > 1


def _decode(data: msgspec.Raw, shape: type[Shape], repository: Repository) -> Shape:
    try:
        return msgspec.json.decode(data, type=shape)
    except msgspec.DecodeError as error:
        raise unreadable(bytes(data), str(error), repository.place) from error
