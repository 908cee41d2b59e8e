"""The DAG: what is wrong with it, its waves, its critical path.

A dependency graph here is a mapping from an issue's key to the keys it depends on, in the order of
the source. A refused graph names every edge involved and where it was declared (erratum 8).
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from gangline.core.model import IssueSpec
from gangline.errors import InputError

Dag = Mapping[str, Sequence[str]]
_EDGES_TO_NAME_MAX = 10


def dag_of(issues: Iterable[IssueSpec]) -> dict[str, tuple[str, ...]]:
    """The dependency graph that the issues declare, duplicates of an edge dropped."""
    return {
        issue.key: tuple(dict.fromkeys(edge.id for edge in issue.depends_on)) for issue in issues
    }


def find_cycle(dag: Dag) -> list[str] | None:
    """One whole cycle as `[a, b, c, a]`, each depending on the next; None if there is none."""
    try:
        TopologicalSorter(dag).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        # graphlib lists each node before the one that depends on it; people read it the other way.
        return cycle[::-1]
    return None


def check_graph(issues: Sequence[IssueSpec]) -> None:
    """Refuse unknown dependencies, self-edges and cycles.

    Raises:
        InputError: with the place of every edge involved.
    """
    known = {issue.key for issue in issues}
    places: dict[tuple[str, str], str] = {}
    for issue in issues:
        for edge in issue.depends_on:
            places.setdefault((issue.key, edge.id), edge.place)
            if edge.id == issue.key:
                raise InputError(
                    f"issue {issue.key!r} depends on itself",
                    place=edge.place,
                    hint="remove that dependency",
                )
            if edge.id not in known:
                raise _unknown_dependency(issue.key, edge.id, edge.place, known)
    cycle = find_cycle(dag_of(issues))
    if cycle:
        edges = list(pairwise(cycle))
        raise InputError(
            f"the dependencies form a cycle: {' -> '.join(cycle)}",
            place=places[edges[0]],
            causes=[f"{a} depends on {b}: {places[a, b]}" for a, b in edges],
            hint="remove one of these dependencies",
        )


def check_edges(dag: Dag, area: str, standing: Dag | None = None) -> None:
    """Refuse dangling ids, self-edges and cycles of the graph in an area's state.

    Args:
        dag: The graph; its keys are checked ids.
        area: Whose it is.
        standing: The true one, where `dag` is what a change would make of it.

    Raises:
        InputError: naming the whole cycle and its edges, with what mends it (erratum 8).
    """
    for key, edges in dag.items():
        for other in edges:
            if other == key:
                raise InputError(
                    f"issue {key!r} depends on itself",
                    hint=_mend(area, dag, [(key, other)], standing),
                )
            if other not in dag:
                raise _unknown_dependency(key, other, "dag", set(dag))
    cycle = find_cycle(dag)
    if cycle:
        edges_of_cycle = list(pairwise(cycle))
        raise InputError(
            f"the dependencies form a cycle: {' -> '.join(cycle)}",
            causes=[f"{a} depends on {b}: dag[{json_text(a)}]" for a, b in edges_of_cycle],
            hint=_mend(area, dag, edges_of_cycle, standing),
        )


def _mend(area: str, dag: Dag, edges: Sequence[tuple[str, str]], standing: Dag | None) -> str:
    """What mends a graph that is refused for these edges, if possible a command to copy.

    A state without a journal is taken by a command only as a whole, so the command has to mend all
    that is wrong. A change that is refused has mended itself: there it makes room for it.
    """
    if standing is not None:
        there = [(key, other) for key, other in edges if other in standing.get(key, ())]
        leave = "leave one of these dependencies out of the change"
        room = f", or first take out one that is there: {_without(area, there[:1])}"
        return leave + (room if there else "")
    wrong = _edges_in_the_way(dag)
    if len(wrong) > _EDGES_TO_NAME_MAX:
        return "take them out of dag in the state file: there are many of them"
    return f"take one of each cycle out, for example: {_without(area, wrong)}"


def _edges_in_the_way(dag: Dag) -> list[tuple[str, str]]:
    """Edges without which the graph has no cycle; of a great many only the first."""
    left = {key: list(edges) for key, edges in dag.items()}
    found: list[tuple[str, str]] = []
    while (cycle := find_cycle(left)) and len(found) <= _EDGES_TO_NAME_MAX:
        key, other = cycle[:2]
        left[key] = [edge for edge in left[key] if edge != other]
        found.append((key, other))
    return found


def _without(area: str, edges: Iterable[tuple[str, str]]) -> str:
    """The command that takes edges out of a state, whether ids are numbers or strings."""
    text = " | ".join(filter_without(key, other) for key, other in edges)
    return f"gangline shell state-update {area} '{text}'"


def filter_without(issue: str, other: str) -> str:
    """The jq filter that takes an edge out of a state, whether ids are numbers or strings."""
    return f".dag[{json_text(issue)}] |= map(select(tostring != {json_text(other)}))"


def json_text(key: str) -> str:
    """An id as jq and JSON write a string; ids hold nothing that would have to be escaped."""
    return f'"{key}"'


def _unknown_dependency(issue: str, wanted: str, place: str, known: set[str]) -> InputError:
    near = get_close_matches(wanted[:100], known, n=1)
    return InputError(
        f"issue {issue!r} depends on {wanted[:100]!r}, which is not in this batch",
        place=place,
        hint=f"did you mean {near[0]!r}?" if near else "add that issue or remove the dependency",
    )


def waves(dag: Dag) -> list[list[str]]:
    """The issues by earliest possible start: wave 0 has no dependencies; order kept within a wave.

    The graph must be free of cycles.
    """
    depth = _depths(dag)
    result: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for issue in dag:
        result[depth[issue]].append(issue)
    return result


def _depths(dag: Dag) -> dict[str, int]:
    depth: dict[str, int] = {}
    for issue in TopologicalSorter(dag).static_order():
        depth[issue] = 1 + max((depth[other] for other in dag.get(issue, ())), default=-1)
    return depth


def heights(dag: Dag) -> dict[str, int]:
    """How many issues stand on the longest path from each issue to an end that waits for it.

    The scheduler starts the highest first: what the most work waits for.
    """
    height = dict.fromkeys(dag, 1)
    for issue in reversed(list(TopologicalSorter(dag).static_order())):
        for other in dag.get(issue, ()):
            height[other] = max(height[other], height[issue] + 1)
    return height


def critical_path(dag: Dag) -> list[str]:
    """The longest chain, by number of issues, from a start to an end; the first one in order."""
    height = heights(dag)
    dependents: dict[str, list[str]] = {issue: [] for issue in dag}
    for issue, needs in dag.items():
        for other in needs:
            dependents[other].append(issue)
    path: list[str] = []
    candidates = [issue for issue in dag if not dag[issue]]
    while candidates:
        best = max(candidates, key=lambda issue: height[issue])
        path.append(best)
        candidates = dependents[best]
    return path
