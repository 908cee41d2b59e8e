"""What the specification's `parse-dependencies.sh` answers: an issue's dependencies, and cycles.

Both print for a script to read: ids, which are checked first because they end up on command lines.
A cycle is an answer here (exit code 1), and the text says which commands break it (erratum 8).
"""

import os
import sys
from difflib import get_close_matches
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec

from gangline.core import graph
from gangline.core.model import Dependency, IssueId, IssueSpec, check_issue_id, check_specs, key
from gangline.core.text import harmless
from gangline.errors import EXIT_OK, EXIT_UNFINISHED, InputError, UsageError

if TYPE_CHECKING:
    from gangline.sources.loaded import Loaded

ISSUES = "ISSUES_JSON"
DAG = "DAG_JSON"


class CycleFoundError(InputError):
    """The dependencies form a cycle; the exit code is the one the specification's script has."""

    exit_code = EXIT_UNFINISHED


def dependencies(args: list[str]) -> int:
    """`dependencies ISSUE [DIR]`: print the ids an issue depends on, as declared, one a line.

    DIR is a folder of Markdown issues, or a project whose gangline.toml says where its issues are;
    without it that is the current project. On stderr: what is odd about this issue.

    Raises:
        UsageError: no such folder, no source, no such issue.
        GanglineError: the source cannot be read, or holds ids that are none.
    """
    loaded = _load(args[1] if len(args) > 1 else None)
    check_specs(loaded.issues)
    issues = {issue.key: issue for issue in loaded.issues}
    issue = issues.get(args[0])
    if issue is None:
        near = get_close_matches(args[0][:100], issues, n=1)
        raise UsageError(
            f"there is no issue {args[0][:100]!r} in this source",
            place=loaded.description,
            hint=f"did you mean {near[0]!r}?" if near else f"it has {_some(list(issues))}",
        )
    odd = [text for text in loaded.warnings if text.startswith(f"{issue.place}:")]
    for edge in issue.depends_on:
        check_issue_id(edge.id, edge.place)
        if edge.id not in issues:
            odd.append(f"{edge.place}: {edge.id} is not in this source")
    for text in odd:
        print(harmless(f"gangline: {text}"), file=sys.stderr)
    for wanted in graph.dag_of([issue])[issue.key]:
        print(wanted)
    return EXIT_OK


def _load(folder: str | None) -> "Loaded":
    from gangline.app.config import CONFIG_NAME, load_config  # noqa: PLC0415 - not for cycles
    from gangline.sources.loading import load  # noqa: PLC0415 - not for cycles
    from gangline.workspaces.repository import locate  # noqa: PLC0415 - not for cycles

    if folder is None:
        top = locate(".").top
    elif not os.path.isdir(folder):
        raise UsageError(
            f"there is no folder {folder!r}" if folder else "DIR is empty",
            place="DIR",
            hint="name a folder of Markdown issues, or a project with a gangline.toml",
        )
    elif os.path.lexists(os.path.join(folder, CONFIG_NAME)):
        top = os.path.abspath(folder)
    elif os.path.lexists(os.path.join(folder, ".git")):
        top = locate(folder).top
    elif _has_markdown(folder):
        return load(os.path.abspath(folder), os.getcwd())  # as a path: `github` is a folder here
    else:
        raise UsageError(
            "this folder holds no Markdown issues and is not the top of a project",
            place=folder,
            hint=f"name the folder of the issues, or the project with the {CONFIG_NAME}",
        )
    source = load_config(top).batch.source
    if source is None:
        raise UsageError(
            "no issues are named",
            place=f"{os.path.join(top, CONFIG_NAME)}: batch.from",
            hint='set from = "issues" under [batch] there, or name the folder: '
            "parse-dependencies.sh ISSUE issues",
        )
    return load(source, top)


def _has_markdown(folder: str) -> bool:
    try:
        return any(name.lower().endswith(".md") for name in os.listdir(folder))
    except OSError:
        return True  # the reader says why it cannot read it


def check_cycles(args: list[str]) -> int:
    """`check-cycles ISSUES_JSON DAG_JSON`: nothing where all is well.

    Raises:
        CycleFoundError: naming the whole cycle, and for each edge the command that removes it.
        InputError: as `parse_graph`.
    """
    cycle = graph.find_cycle(graph.dag_of(parse_graph(args[0], args[1])))
    if cycle is None:
        return EXIT_OK
    raise CycleFoundError(
        f"the dependencies form a cycle: {' -> '.join(cycle)}",
        causes=[
            f'{a} depends on {b}; to remove that: orch_state_update "$AREA" '
            # Right whether the state holds this id as a number or as a string.
            f'\'.dag["{a}"] |= map(select(tostring != "{b}"))\''
            for a, b in pairwise(cycle)
        ],
        hint="remove one of these dependencies, then check again",
    )


def parse_graph(issues_json: str, dag_json: str) -> list[IssueSpec]:
    """The issues of a batch and what they depend on, from the JSON texts of the specification.

    Cycles are left to `core.graph`.

    Args:
        issues_json: A list of ids, each a number or a string: `[3, "parser"]`.
        dag_json: An object from an id to the list of ids it depends on; a missing key depends on
            nothing, and `null` is an empty object.

    Returns:
        One spec an id, in the order of the list, with no title.

    Raises:
        InputError: it is not such JSON, an id is none or there twice, or the DAG names an id that
            is not in the list; with the place in the JSON.
    """
    ids: list[IssueId] = _decode(
        issues_json, list[IssueId], ISSUES, "a list of ids, such as [3, 5]"
    )
    shape = 'an object of lists of ids, such as {"5": [3]}'
    dag: dict[str, list[IssueId]] = (
        _decode(dag_json, dict[str, list[IssueId]] | None, DAG, shape) or {}
    )
    known = {key(each) for each in ids}
    for issue, needs in dag.items():
        _check_known(issue, known, DAG)
        for index, wanted in enumerate(needs):
            _check_known(key(wanted), known, _edge_place(issue, index))
    specs = [
        IssueSpec(
            id=each,
            title="",
            place=f"{ISSUES}[{index}]",
            depends_on=tuple(
                Dependency(key(wanted), _edge_place(key(each), number))
                for number, wanted in enumerate(dag.get(key(each), ()))
            ),
        )
        for index, each in enumerate(ids)
    ]
    check_specs(specs)
    return specs


def _edge_place(issue: str, index: int) -> str:
    return f'{DAG}["{issue}"][{index}]'


def _decode(text: str, kind: Any, place: str, shape: str) -> Any:
    try:
        return msgspec.json.decode(os.fsencode(text), type=kind)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InputError(
            "this is not the JSON that is needed here",
            place=place,
            causes=[str(error) if text.strip() else "it is empty"],
            hint=f"give {shape}",
        ) from error


def _check_known(name: str, known: set[str], place: str) -> None:
    if name in known:
        return
    near = get_close_matches(name[:100], known, n=1)
    raise InputError(
        f"{DAG} names the issue {name[:100]!r}, which is not in {ISSUES}",
        place=place,
        hint=f"did you mean {near[0]!r}?" if near else f"add it to {ISSUES}, or remove it",
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
