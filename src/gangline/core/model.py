"""The words of the design as types: issues, statuses, attempts, settings.

Ids are compared in their text form (`key`), kept in the form the source wrote them. They become
file names, branch names and tmux arguments, so they are checked here once, before anything is
built on them (DESIGN.md section 2).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from gangline.errors import InputError

IssueId = int | str

ID_LENGTH_MAX = 100
TITLE_LENGTH_MAX = 10_000
BODY_BYTES_MAX = 256 * 1024

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_AREA = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")


class Status(StrEnum):
    """The specification's five statuses and our two terminal ones (DESIGN.md section 2)."""

    PENDING = "pending"
    BLOCKED = "blocked"
    DISPATCHED = "dispatched"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


_STATUS_WORDS = frozenset(map(str, Status))
TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.SKIPPED, Status.CANCELLED})


class Dependency(msgspec.Struct, frozen=True):
    """One edge of the DAG: the text form of the id depended on, and where the edge was declared."""

    id: str
    place: str


class IssueSpec(msgspec.Struct, frozen=True, kw_only=True):
    """An issue as its source gives it.

    Attributes:
        id: As the source wrote it; `key(id)` is what everything compares.
        title: One line; untrusted.
        body: Markdown; untrusted; at most BODY_BYTES_MAX bytes in UTF-8.
        depends_on: Edges, each with the place that declared it.
        agent: The agent named by the issue itself, if any.
        run: A command that is the issue's agent (plan files and front matter only).
        place: Where it is written, for error messages: `issues/3.md`, `plan.toml: issues[2]`.
    """

    id: IssueId
    title: str
    place: str
    body: str = ""
    depends_on: tuple[Dependency, ...] = ()
    agent: str | None = None
    labels: tuple[str, ...] = ()
    run: tuple[str, ...] | None = None

    @property
    def key(self) -> str:
        """The text form of the id."""
        return str(self.id)


def key(issue_id: IssueId) -> str:
    """The text form of an id: what maps, file names and comparisons use."""
    return str(issue_id)


def check_issue_id(text: str, place: str) -> None:
    """Refuse an id that cannot be a file name and part of a branch name.

    Raises:
        InputError: naming the place and the rule that the id breaks.
    """
    if len(text) > ID_LENGTH_MAX:
        problem = f"is longer than {ID_LENGTH_MAX} characters"
    elif not _ID.match(text):
        problem = (
            "may hold only letters, digits, '.', '_' and '-', and starts with a letter or digit"
        )
    elif ".." in text:
        problem = "may not hold '..'"
    elif text.endswith((".", ".lock")):
        problem = "may not end in '.' or '.lock' (git refuses such a branch)"
    else:
        return
    raise InputError(
        f"issue id {text[:ID_LENGTH_MAX]!r} {problem}",
        place=place,
        hint="give the issue another id: a number, or a word such as parser-2",
    )


def check_ids(ids: Sequence[IssueId]) -> set[str]:
    """The text forms of the ids of a state file.

    Raises:
        InputError: one is unusable, named twice, or differs from another only in case.
    """
    seen: dict[str, str] = {}
    for key in map(str, ids):
        check_issue_id(key, "issues")
        other = seen.get(key.casefold())
        if other == key:
            raise InputError(f"issues names {key!r} twice")
        if other is not None:
            raise InputError(f"issues names {other!r} and {key!r}, which differ only in case")
        seen[key.casefold()] = key
    return set(seen.values())


def read_statuses(words: Mapping[str, str]) -> dict[str, Status]:
    """The statuses of a state file, by issue.

    Raises:
        InputError: naming the issue and the word that is no status.
    """
    for key, word in words.items():
        if word not in _STATUS_WORDS:
            raise InputError(
                f"the status of issue {key!r} is {word!r}",
                hint=f"one of {', '.join(Status)}",
            )
    return {key: Status(word) for key, word in words.items()}


def check_area(text: str) -> None:
    """Refuse an area name that cannot be a folder, a tmux session and part of a branch name.

    Raises:
        InputError: naming the rule.
    """
    if (
        _AREA.match(text)
        and len(text) <= ID_LENGTH_MAX
        and ".." not in text
        and not text.endswith((".", ".lock"))
    ):
        return
    raise InputError(
        f"area {text[:ID_LENGTH_MAX]!r} is not a usable name",
        causes=["an area may hold only letters, digits, '.', '_' and '-'"],
        hint="choose a name such as client or server-2",
    )


def check_specs(issues: Iterable[IssueSpec]) -> None:
    """Refuse ids that are unusable, used twice, or differ only in case; and bodies over the limit.

    Raises:
        InputError: naming both places for a duplicate.
    """
    seen: dict[str, IssueSpec] = {}
    for issue in issues:
        check_issue_id(issue.key, issue.place)
        other = seen.setdefault(issue.key.casefold(), issue)
        if other is not issue:
            differ = "" if other.key == issue.key else " (they differ only in case)"
            raise InputError(
                f"issue id {issue.key!r} is used twice{differ}",
                place=issue.place,
                causes=[f"first used as {other.key!r} in {other.place}"],
                hint="give one of them another id",
            )
        size = len(issue.body.encode("utf-8", "surrogatepass"))
        if size > BODY_BYTES_MAX:
            raise InputError(
                f"the body of issue {issue.key!r} has {size:,} bytes; the limit is "
                f"{BODY_BYTES_MAX:,}",
                place=issue.place,
                hint="put the long part into a file of the repository and name it in the body",
            )
        if len(issue.title) > TITLE_LENGTH_MAX:
            raise InputError(
                f"the title of issue {issue.key!r} has {len(issue.title):,} characters; the "
                f"limit is {TITLE_LENGTH_MAX:,}",
                place=issue.place,
                hint="put the long part into the body",
            )
