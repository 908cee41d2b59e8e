"""The DAG: refused whole with every edge's place; waves, heights, critical path of what is left."""

from itertools import pairwise

import pytest
from core_builders import STEADY
from hypothesis import given
from hypothesis import strategies as st

from gangline.core.graph import check_graph, critical_path, dag_of, find_cycle, heights, waves
from gangline.core.model import Dependency, IssueSpec
from gangline.errors import EXIT_USAGE, InputError


def specs(**needs: list[str]) -> list[IssueSpec]:
    return [
        IssueSpec(
            id=key,
            title=key,
            place=f"issues/{key}.md",
            depends_on=tuple(Dependency(other, f"issues/{key}.md:{other}") for other in others),
        )
        for key, others in needs.items()
    ]


def refusal(**needs: list[str]) -> InputError:
    with pytest.raises(InputError) as caught:
        check_graph(specs(**needs))
    assert caught.value.exit_code == EXIT_USAGE
    return caught.value


def test_a_cycle_is_named_whole_with_the_place_of_every_edge():
    error = refusal(a=["b"], b=["c"], c=["a"], d=["a"], e=[])
    assert error.message.startswith("the dependencies form a cycle: ")
    path = error.message.removeprefix("the dependencies form a cycle: ").split(" -> ")
    assert path[0] == path[-1]
    assert sorted(path[:-1]) == ["a", "b", "c"]
    assert error.place == f"issues/{path[0]}.md:{path[1]}"
    assert sorted(error.causes) == [
        "a depends on b: issues/a.md:b",
        "b depends on c: issues/b.md:c",
        "c depends on a: issues/c.md:a",
    ]
    assert error.hint


def test_an_issue_that_depends_on_itself_is_refused_with_its_place():
    error = refusal(a=[], b=["a", "b"])
    assert (error.message, error.place) == ("issue 'b' depends on itself", "issues/b.md:b")


def test_an_unknown_dependency_is_refused_and_the_nearest_id_offered():
    error = refusal(parser=[], printer=["parsr"])
    assert "'parsr'" in error.message
    assert (error.place, error.hint) == ("issues/printer.md:parsr", "did you mean 'parser'?")


def test_an_unknown_dependency_without_a_near_id_says_what_to_do():
    assert "did you mean" not in (refusal(a=["zzzz9"]).hint or "")


def test_an_edge_declared_twice_counts_once():
    issues = specs(a=[], b=["a", "a"])
    check_graph(issues)
    assert dag_of(issues) == {"a": (), "b": ("a",)}


def test_waves_are_the_earliest_starts_in_source_order():
    dag = {"d": ("b", "c"), "a": (), "b": ("a",), "c": ("a",), "z": ()}
    assert waves(dag) == [["a", "z"], ["b", "c"], ["d"]]


def test_heights_count_what_waits_and_the_critical_path_follows_them():
    dag = {"a": (), "b": (), "c": ("b",), "d": ("c",), "e": ("a", "d"), "f": ("a",)}
    assert heights(dag) == {"a": 2, "b": 4, "c": 3, "d": 2, "e": 1, "f": 1}
    assert critical_path(dag) == ["b", "c", "d", "e"]


def test_an_empty_graph_has_no_waves_no_cycle_and_no_path():
    assert (waves({}), find_cycle({}), critical_path({})) == ([], None, [])


def test_a_chain_of_ten_thousand_does_not_recurse():
    names = [str(n) for n in range(10_000)]
    dag = {name: (names[n - 1],) if n else () for n, name in enumerate(names)}
    assert find_cycle(dag) is None
    assert len(waves(dag)) == len(critical_path(dag)) == heights(dag)["0"] == 10_000
    ring = {**dag, "0": ("9999",)}
    cycle = find_cycle(ring)
    assert cycle is not None
    assert len(cycle) == 10_001


@st.composite
def acyclic(draw):
    count = draw(st.integers(0, 8))
    return {str(n): tuple(str(m) for m in range(n) if draw(st.booleans())) for n in range(count)}


@STEADY
@given(acyclic())
def test_every_issue_is_in_one_wave_after_all_it_depends_on(dag):
    wave_of = {key: n for n, wave in enumerate(waves(dag)) for key in wave}
    assert set(wave_of) == set(dag)
    for key, needs in dag.items():
        assert wave_of[key] == 1 + max((wave_of[other] for other in needs), default=-1)
    assert len(critical_path(dag)) == len(waves(dag)) == max(heights(dag).values(), default=0)


@STEADY
@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdef")), min_size=1))
def test_a_cycle_that_is_named_is_one(needs):
    dag = {key: tuple(sorted(others & set(needs))) for key, others in needs.items()}
    cycle = find_cycle(dag)
    if cycle is None:
        waves(dag)  # would raise if one had been overlooked
        return
    assert cycle[0] == cycle[-1]
    assert all(b in dag[a] for a, b in pairwise(cycle))
