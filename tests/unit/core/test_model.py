"""Ids, areas and texts are checked once, before anything is built on them."""

import pytest
from core_builders import STEADY
from hypothesis import given
from hypothesis import strategies as st

from gangline.core.model import (
    BODY_BYTES_MAX,
    ID_LENGTH_MAX,
    TITLE_LENGTH_MAX,
    IssueSpec,
    check_area,
    check_issue_id,
    check_specs,
)
from gangline.errors import InputError


@pytest.mark.parametrize("text", ["1", "007", "a", "parser-2", "v1.2_x", "A" * ID_LENGTH_MAX])
def test_usable_ids(text):
    check_issue_id(text, "plan.toml")
    check_area(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "-1", "_a", "a..b", "a.", "a.lock", "a/b", "a b", "a\n", "é", "a\0", "#1",
     "../x", "$(x)", "a;b", "A" * (ID_LENGTH_MAX + 1)],
)  # fmt: skip
def test_an_id_that_cannot_be_a_path_or_branch_is_refused_with_its_place(text):
    with pytest.raises(InputError) as caught:
        check_issue_id(text, "plan.toml: issues[2]")
    assert caught.value.place == "plan.toml: issues[2]"
    assert caught.value.hint
    with pytest.raises(InputError):
        check_area(text)


@STEADY
@given(st.text())
def test_an_id_that_is_accepted_is_a_plain_file_name(text):
    try:
        check_issue_id(text, "here")
    except InputError:
        return
    assert text.isascii()
    assert not set(text) & set("/\\ \t\n\0~^:?*[@{")
    assert text not in (".", "..")
    assert text[0] not in "-."


def spec(issue_id: int | str, place: str, **fields: str) -> IssueSpec:
    return IssueSpec(id=issue_id, title=fields.pop("title", ""), place=place, **fields)


@pytest.mark.parametrize(("first", "second"), [("a", "a"), (1, "1"), ("Parser", "parser")])
def test_an_id_used_twice_is_refused_naming_both_places(first, second):
    with pytest.raises(InputError) as caught:
        check_specs([spec(first, "one.md"), spec(second, "two.md")])
    assert caught.value.place == "two.md"
    assert any("one.md" in cause for cause in caught.value.causes)


def test_ids_that_differ_only_in_case_are_told_so():
    with pytest.raises(InputError, match="differ only in case"):
        check_specs([spec("A", "one.md"), spec("a", "two.md")])


def test_a_body_over_the_limit_is_refused_by_bytes():
    check_specs([spec(1, "one.md", body="é" * (BODY_BYTES_MAX // 2))])
    with pytest.raises(InputError, match="the limit is"):
        check_specs([spec(1, "one.md", body="é" * (BODY_BYTES_MAX // 2) + "x")])


def test_a_title_over_the_limit_is_refused():
    check_specs([spec(1, "one.md", title="x" * TITLE_LENGTH_MAX)])
    with pytest.raises(InputError, match="title"):
        check_specs([spec(1, "one.md", title="x" * (TITLE_LENGTH_MAX + 1))])
