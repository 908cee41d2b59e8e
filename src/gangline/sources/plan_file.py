"""Reads a plan file: the whole batch in one TOML, YAML or JSON file (DESIGN.md section 8).

A plan is written by programs and in haste, so nothing in it is guessed: an unknown key is an
error, and only `depends_on` makes an edge. What a body says in words is for the agent alone.
"""

import msgspec

from gangline.core.model import IssueSpec
from gangline.errors import InputError
from gangline.sources.documents import (
    Document,
    Value,
    parse_json,
    parse_toml,
    parse_yaml,
    read_text,
)
from gangline.sources.fields import Fields, mapping, read_fields, suggestion
from gangline.sources.loaded import Loaded

PLAN_BYTES_MAX = 32 * 1024 * 1024
_PARSERS = {"toml": parse_toml, "json": parse_json, "yaml": parse_yaml, "yml": parse_yaml}


def load_plan(path: str, name: str) -> Loaded:
    """Read a plan file.

    Args:
        path: The file; its suffix says what it is.
        name: The file as messages name it.

    Raises:
        InputError: Wrong syntax (file, line, column), a duplicate or unknown key, a wrong type
            (`plan.toml: issues[2].run`), or no issue at all.
    """
    document = Document(name)
    text = read_text(path, name, PLAN_BYTES_MAX)
    root = _PARSERS[path.lower().rpartition(".")[2]](text, document)
    if isinstance(root.data, tuple):
        raise InputError(
            "a plan is not a bare list",
            place=document.place(root.line),
            hint="put the list under a key `issues`",
        )
    keys = {} if root.data is None else mapping(root, document, what="a plan")
    _refuse_unknown(keys, ("issues",), document, "")
    issues = keys.get("issues", Value(None))
    if not isinstance(issues.data, tuple):
        raise InputError(
            "the plan has no list of issues",
            place=document.place(issues.line, "issues"),
            hint='write [[issues]] in TOML, "issues": [...] in JSON, issues: in YAML',
        )
    if not issues.data:
        raise InputError(
            "the plan holds no issue",
            place=document.place(issues.line, "issues"),
            hint="add one with an id and a title",
        )
    specs = tuple(
        _issue(value, document, f"issues[{index}]") for index, value in enumerate(issues.data)
    )
    return Loaded(specs, (), f"plan file {name}")


def _issue(value: Value, document: Document, path: str) -> IssueSpec:
    keys = mapping(value, document, path)
    known = [field.name for field in msgspec.structs.fields(Fields)]
    _refuse_unknown(keys, known, document, path)
    fields = read_fields(keys, document, path)
    if fields.id is None:
        raise InputError(
            f"{path} has no id",
            place=document.place(value.line, path),
            hint="give it an id: a number, or a word such as parser-2",
        )
    return IssueSpec(
        id=fields.id,
        title=fields.title or str(fields.id),
        place=document.place(value.line, path),
        body=fields.body or "",
        depends_on=fields.depends_on,
        agent=fields.agent,
        labels=fields.labels,
        run=fields.run,
    )


def _refuse_unknown(
    keys: dict[str, Value], known: list[str] | tuple[str, ...], document: Document, path: str
) -> None:
    for key, value in keys.items():
        if key in known:
            continue
        meant = suggestion(key, known)
        raise InputError(
            f"unknown key {key[:100]!r}",
            place=document.place(value.line, f"{path}.{key[:100]}" if path else key[:100]),
            hint=f"did you mean {meant!r}?" if meant else f"known keys: {', '.join(known)}",
        )
