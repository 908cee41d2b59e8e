"""Reads a folder of Markdown issues, one file an issue (DESIGN.md section 8, "Markdown issue").

The files are written by people in an editor, so the reader is lenient where nothing can be lost
(line ends, an unknown key is a warning) and strict where an edge or an id could be: a front matter
that cannot be read stops everything. It does not descend into folders and writes nothing.
"""

import os
import re

import msgspec

from gangline.core.model import Dependency, IssueId, IssueSpec
from gangline.errors import InputError
from gangline.sources.bodies import Reference, first_title, read_body
from gangline.sources.documents import Document, Value, parse_yaml, read_text
from gangline.sources.fields import (
    Fields,
    issue_id,
    mapping,
    one_line,
    read_fields,
    suggestion,
)
from gangline.sources.loaded import Loaded

# Four times the limit of a body, which core checks and words better.
FILE_BYTES_MAX = 1024 * 1024

_LEADING_NUMBER = re.compile(r"([0-9]{1,100})(?![0-9A-Za-z])")
_DIGITS = re.compile(r"([0-9]+)")
_COMMENTED_OUT = re.compile(r"\s*depends_on\s*:\s*#\s?[0-9]")
_PADDED = re.compile(r"0+([0-9]+)")
_KEYS = ("id", "title", "depends_on", "agent", "labels", "run")


class _Issue(msgspec.Struct, frozen=True):
    """One file as read: the issue without its edges, and the edges as written."""

    spec: IssueSpec
    edges: tuple[Dependency, ...]
    warnings: tuple[str, ...]


def load_folder(path: str, name: str) -> Loaded:
    """Read every `*.md` of a folder, in natural order of their names.

    Without `id` in its front matter an issue has the number that its file name starts with, and
    zeros before that number are for sorting only: `03-parser.md` is issue 3. An edge written `03`
    then means 3 where no issue has the id `03`.

    Args:
        path: The folder.
        name: The folder as messages name it.

    Raises:
        InputError: No issue; or a file that is unreadable, not UTF-8, without an id, or whose
            front matter is wrong (with file and line).
    """
    issues: list[_Issue] = []
    warnings: list[str] = []
    for file_name in _file_names(path, name):
        file_path = os.path.join(path, file_name)
        shown = os.fsencode(file_name).decode("utf-8", "backslashreplace")
        place = shown if name == os.curdir else f"{name}/{shown}"
        if os.path.isdir(file_path):
            warnings.append(f"{place}: is a folder and was left out")
            continue
        issue = _read_issue(file_path, shown, place)
        if issue is not None:
            issues.append(issue)
            warnings.extend(issue.warnings)
    if not issues:
        raise InputError(
            "the folder holds no issue",
            place=name,
            hint="add one: a Markdown file whose name starts with its number, such as 1-parser.md",
        )
    known = {issue.spec.key for issue in issues}
    specs = tuple(_with_edges(issue, known) for issue in issues)
    return Loaded(specs, tuple(warnings), f"Markdown folder {name}")


def _file_names(path: str, name: str) -> list[str]:
    try:
        names = os.listdir(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError("cannot be read", place=name, causes=[reason]) from error
    # Names with a leading dot are editors' and macOS's, not issues.
    chosen = [each for each in names if each.lower().endswith(".md") and each[0] != "."]
    return sorted(chosen, key=_natural)


def _natural(file_name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts 2-b before 10-a, numbers before words, and equal ones by their exact name."""
    parts = [part for part in _DIGITS.split(file_name.casefold()) if part]
    order = [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts]
    return order, file_name


def _read_issue(path: str, file_name: str, place: str) -> _Issue | None:
    """The issue in a file, or None for a README that is not one."""
    document = Document(place, paths=False)
    text = read_text(path, place, FILE_BYTES_MAX)
    front, body, lines_before = _split(text, document)
    keys = {} if front.data is None else mapping(front, document, what="the front matter")
    _refuse_commented_out(text, keys, document)
    fields = read_fields(keys, document)
    identity = fields.id if fields.id is not None else _number(file_name)
    if identity is None:
        if file_name.casefold() == "readme.md":
            return None
        raise InputError(
            "this issue has no id",
            place=place,
            causes=["neither `id:` in its front matter nor a number at the start of its name"],
            hint=f"rename it, for example to 1-{file_name}, or add a front matter with `id:`",
        )
    found = read_body(body, words=True)
    warnings = _unknown_keys(keys, document) + [
        f"{document.place(lines_before + entry.line)}: {entry.shown()} is an issue of another "
        "repository; it is not waited for"
        for entry in found.references
        if entry.repository is not None
    ]
    warnings += [
        f"{document.place(lines_before + line)}: {item!r} under Dependencies names no issue"
        for line, item in found.unread
    ]
    spec = _spec(identity, fields, body, file_name, place)
    edges = fields.depends_on + _edges(found.references, document, lines_before)
    return _Issue(spec, edges, tuple(warnings))


def _spec(identity: IssueId, fields: Fields, body: str, file_name: str, place: str) -> IssueSpec:
    title = fields.title or one_line(first_title(body) or "") or file_name[: -len(".md")]
    return IssueSpec(
        id=identity,
        title=title,
        place=place,
        body=body.strip("\n"),
        agent=fields.agent,
        labels=fields.labels,
        run=fields.run,
    )


def _split(text: str, document: Document) -> tuple[Value, str, int]:
    """The front matter, the body, and how many lines of the file stand before the body."""
    lines = text.split("\n")
    if lines[0].rstrip() != "---":
        return Value(None), text, 0
    for index in range(1, len(lines)):
        if lines[index].rstrip() in {"---", "..."}:
            front = parse_yaml("\n".join(lines[1:index]), document, lines_before=1)
            return front, "\n".join(lines[index + 1 :]), index + 1
    raise InputError(
        "the front matter is not closed",
        place=document.place(1),
        hint="end it with a line `---`",
    )


def _refuse_commented_out(text: str, keys: dict[str, Value], document: Document) -> None:
    """Refuse `depends_on: #3`, which YAML reads as nothing: the edge would be lost unseen."""
    value = keys.get("depends_on")
    if value is None or value.data is not None or value.line is None:
        return
    if _COMMENTED_OUT.match(text.split("\n")[value.line - 1]):
        raise InputError(
            "depends_on is empty: in YAML everything after # is a comment",
            place=document.place(value.line),
            hint="write 3 and not #3",
        )


def _unknown_keys(keys: dict[str, Value], document: Document) -> list[str]:
    warnings: list[str] = []
    for key, value in keys.items():
        if key in _KEYS:
            continue
        meant = suggestion(key, _KEYS)
        ending = f"; did you mean {meant!r}?" if meant else ""
        warnings.append(
            f"{document.place(value.line)}: unknown key {key[:100]!r} in the front matter{ending}"
        )
    return warnings


def _number(file_name: str) -> IssueId | None:
    match = _LEADING_NUMBER.match(file_name)
    return issue_id(match[1].lstrip("0") or "0") if match else None


def _edges(
    references: tuple[Reference, ...], document: Document, lines_before: int
) -> tuple[Dependency, ...]:
    return tuple(
        Dependency(entry.id, document.place(lines_before + entry.line))
        for entry in references
        if entry.repository is None
    )


def _with_edges(issue: _Issue, known: set[str]) -> IssueSpec:
    """The issue with its edges, each once: the front matter's place is kept."""
    edges: dict[str, Dependency] = {}
    for edge in issue.edges:
        padded = _PADDED.fullmatch(edge.id)
        target = edge.id
        if padded and target not in known and padded[1].lstrip("0") in known:
            target = padded[1].lstrip("0")
        edges.setdefault(target, Dependency(target, edge.place))
    return msgspec.structs.replace(issue.spec, depends_on=tuple(edges.values()))
