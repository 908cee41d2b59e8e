"""What a body says of dependencies: what counts, what never does, and that no text is too much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gangline.sources.blocks import blocks
from gangline.sources.bodies import first_title, read_body


def numbers(body):
    return [reference.id for reference in read_body(body, words=False).references]


def words(body):
    return [reference.id for reference in read_body(body, words=True).references]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Depends on #3", ["3"]),
        ("depends ON #3.", ["3"]),
        ("Blocked by #3", ["3"]),
        ("This is blocked by #3 for now.", ["3"]),
        ("Depends on: #3, #4 and #5", ["3", "4", "5"]),
        ("Depends on #3, and #4; #5 & #6 / #7 + #8", ["3", "4", "5", "6", "7", "8"]),
        ("Depends on #3 #4", ["3", "4"]),
        ("Depends on issue #3", ["3"]),
        ("Depends on issues: #3, #4", ["3", "4"]),
        ("- [ ] Depends on #3\n- [x] blocked by #4", ["3", "4"]),
        ("1. Depends on #3", ["3"]),
        ("**Depends on:** #3", ["3"]),
        ("_Depends on #3_", ["3"]),
        ("Depends on [#3](https://example.com/x), #4", ["3", "4"]),
        ("(Depends on #3)", ["3"]),
        ("Depends on\n#3", ["3"]),
        ("## Depends on #3", ["3"]),
        ("text\n    Depends on #3", ["3"]),  # continues the paragraph
        ("- item\n\n    Depends on #3", ["3"]),  # a paragraph of the item
        ("> quoted\n\nDepends on #3", ["3"]),
        ("```\ncode\n```\nDepends on #3", ["3"]),
        ("<!-- hidden --> Depends on #3", ["3"]),
        ("`code` Depends on #3", ["3"]),
        ("Depends on <!-- why --> #3", ["3"]),
        ("a ` b\n\nDepends on #3 `", ["3"]),  # code does not span paragraphs
        ("- ~~~\n  code\nDepends on #3\n\nDepends on #4", ["3", "4"]),  # it ends with its item
        ("Depends on #3\r\nDepends on #4\r\n", ["3", "4"]),
        ("Depends on #3 and on #4, blocked by #5 and by #6", ["3", "4", "5", "6"]),
        ("Depends on #3, but #4 is done", ["3"]),
        ("Depends on both #3 and #4", ["3", "4"]),
        ("Depends on:\n\n- #3\n- #4: the lexer\n\nLater:\n\n- #5", ["3", "4"]),
        ("- Depends on:\n  - #3\n- #9 is related", ["3"]),
    ],
)
def test_a_sentence_declares_its_issues(body, expected):
    assert numbers(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        "See #3",
        "#3",
        "- #3",
        "Depends on nothing. #3 is nice",
        "Depends on 3",
        "Depends on #3rd",
        "depends on#x",
        "It is not blocked by #3",
        "It isn't blocked by #3",
        "It isn\u2019t blocked by #3",
        "No longer blocked by #3",
        "codepends on #3",
        "co-depends on #3",
        "Depends on \\#3",
        "```\nDepends on #3\n```",
        "~~~ python\nDepends on #3\n~~~",
        "```\nDepends on #3",
        "````\n```\nDepends on #3\n````",
        "  ```\n  Depends on #3\n  ```",
        "- ```\n  Depends on #3\n  ```",
        "```\n~~~\nDepends on #3\n```",
        "    Depends on #3",
        "\tDepends on #3",
        "text\n\n    Depends on #3",
        "- item\n\n      Depends on #3",
        "`Depends on #3`",
        "Depends on `#3`",
        "``Depends ` on #3``",
        "`Depends\non #3`",
        "<code>Depends on #3</code>",
        "> Depends on #3",
        "> quoted\nDepends on #3",  # a lazy line is still the quotation
        "- > Depends on #3",
        ">Depends on #3",
        "<!-- Depends on #3 -->",
        "<!--\n\nDepends on #3\n\n-->",
        "text <!-- Depends on #3 --> text",
        "<!-- ```\n-->\n<!-- Depends on #3 -->",
        "<pre>\n\nDepends on #3\n</pre>",
        "<BLOCKQUOTE>\nDepends on #3\n</BLOCKQUOTE>",
        "## Dependencies\n```\n- #3\n```",
        "## Dependencies\n<!-- - #3 -->",
        "## Dependencies\n> - #3",
    ],
)
def test_what_is_no_declaration_yields_no_edge(body):
    assert numbers(body) == []
    if "#3" in body and "#3rd" not in body:
        assert "3" not in words(body)


@pytest.mark.parametrize(
    "heading",
    [
        "## Dependencies",
        "# dependencies:",
        "###### Dependencies ##",
        "## **Dependencies**",
        "Dependencies\n---",
        "Dependencies\n===",
        "## 의존성",
        "## 🔗 Dependencies",
        "## Blocked by",
    ],
)
def test_a_list_under_a_dependencies_heading_counts_up_to_the_next_heading(heading):
    body = f"{heading}\n\n- #3\n- 4\n* #5 the title\n+ [x] #6\n1. [ ] #7, #8\n\n# Next\n\n- #9\n"
    assert numbers(body) == ["3", "4", "5", "6", "7", "8"]


@pytest.mark.parametrize(
    "nothing",
    ["none", "None.", "N/A", "n/a", "없음", "- none", "* N/A", "- _none_", "- 없음", "", "-"],
)
def test_none_under_the_heading_is_none_and_not_worth_a_warning(nothing):
    for allowed in (True, False):
        found = read_body(f"## Dependencies\n{nothing}\n", words=allowed)
        assert found.references == ()
        assert found.unread == ()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("- parser", ["parser"]),
        ("- **parser**: the new one", ["parser"]),
        ("- parser, lexer and ast", ["parser", "lexer", "ast"]),
        ("- parser, which is new", ["parser"]),
        ("- Depends on #3", ["3"]),
        ("- depends on parser", ["parser"]),
        ("- 1.10", ["1.10"]),
        ("- 007", ["007"]),
        ("- #parser-2.", ["parser-2"]),
        ("parser is nice", []),
        ("#3, #4", ["3", "4"]),
        ("3\n4", ["3", "4"]),
        ("- 3 4-core machines", ["3"]),
        ("- #3\n  - details of it", ["3"]),
    ],
)
def test_a_folders_ids_may_be_words_under_the_heading(body, expected):
    assert words(f"## Dependencies\n{body}\n") == expected


def test_a_word_in_a_sentence_needs_its_number_sign():
    assert words("Depends on parser") == []
    assert words("Depends on #parser and #1.10.") == ["parser", "1.10"]
    assert numbers("Depends on #parser") == []


def test_on_github_an_item_that_names_no_number_is_handed_back():
    found = read_body("## Dependencies\n\n- `numpy`\n- The parser (#3)\n", words=False)
    assert [each.id for each in found.references] == ["3"]
    assert found.unread == ((3, "`numpy`"),)


def test_references_to_repositories_keep_their_repository():
    body = "Depends on o/r#3, https://github.com/o/r/issues/4 and https://ghe.example/a/b/pull/5#x."
    found = read_body(body, words=False).references
    assert [each.shown() for each in found] == ["o/r#3", "o/r#4", "a/b#5"]


def test_lines_are_those_of_the_reference():
    body = "one\n\n<!-- a\nb -->\nDepends on\n#3,\n#4\n\n## Dependencies\n- x\n- #5\n"
    found = read_body(body, words=False)
    assert [(each.id, each.line) for each in found.references] == [("3", 6), ("4", 7), ("5", 11)]
    assert found.unread == ((10, "x"),)


def test_a_reference_counts_once_with_its_first_line():
    found = read_body("Depends on #3\n\nBlocked by #3\n\n## Dependencies\n- #3", words=False)
    assert [(each.id, each.line) for each in found.references] == [("3", 1)]


@pytest.mark.parametrize(
    ("body", "title"),
    [
        ("# The `parser` #\n", "The `parser`"),
        ("text\n\nParser\n===\n", "Parser"),
        ("```\n# no\n```\n## no\n# yes", "yes"),
        ("#no\n", None),
        ("", None),
    ],
)
def test_the_title_is_the_first_heading_of_level_one(body, title):
    assert first_title(body) == title


MARKDOWN = st.text(st.sampled_from("ab 3#`~>-*+=_<!/[]().,:\\\n\t\r1")) | st.lists(
    st.sampled_from(
        ["Depends on #1", "\n", "```", "~~~", "> ", "- ", "    ", "<!--", "-->", "`", "#2", " ",
         "## Dependencies", "none", "1. ", "---", "<pre>", "</pre>", "o/r#4", "\u2028", "\0", "İ"]
    )
).map("".join)  # fmt: skip


@given(st.text() | MARKDOWN, st.booleans())
def test_no_text_is_refused_and_every_line_exists(body, allowed):
    found = read_body(body, words=allowed)
    lines = body.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    for reference in found.references:
        assert reference.id in lines[reference.line - 1]
    assert len({each.shown().casefold() for each in found.references}) <= len(found.references)
    for line, item in found.unread:
        assert item.split()[0] in lines[line - 1].expandtabs(4)


@given(MARKDOWN, MARKDOWN, st.sampled_from(["```", "~~~~", "   ```"]), st.booleans())
def test_text_in_a_fence_never_yields_an_edge(before, inside, fence, allowed):
    inside = "".join(mark for mark in inside if mark not in "`~").replace("\r", "\n")
    marked = f"{inside}\nDepends on #777\n\n## Dependencies\n- #777\n"
    quiet = before.replace("<", "").replace("\r", "\n").replace("`", "").replace("~", "")
    body = f"{quiet}\n\n# Code\n\n{fence}\n{marked}{fence.strip()}\n\nDepends on #888\n"
    found = [each.id for each in read_body(body, words=allowed).references]
    assert "777" not in found
    assert "888" in found


@given(MARKDOWN, st.booleans())
def test_a_quotation_never_yields_an_edge(inside, allowed):
    quoted = "\n".join("> " + line for line in inside.replace("\r", "\n").split("\n"))
    assert read_body(quoted, words=allowed).references == ()


@given(MARKDOWN)
def test_a_plain_sentence_after_a_heading_is_always_found(before):
    quiet = "".join(mark for mark in before if mark not in "`~<")
    assert "888" in numbers(f"{quiet}\n\n# Next\n\nDepends on #888\n")


@pytest.mark.parametrize(
    "body",
    [
        "- + " * 60_000,
        "`" * 100_000 + "x" + "\\`" * 50_000,
        "<!--" * 50_000,
        "Depends on " + "#3 " * 60_000,
        "Depends on" + " " * 200_000 + "x",
        "\n".join("`" * length for length in range(600)),
        "> " * 100_000,
        "<!-- x --> " * 20_000,
    ],
)
def test_hostile_text_is_read_in_linear_steps(body):
    """A quadratic reader would need minutes for these, and the suite's limit would find it."""
    assert len(list(blocks(body))) <= len(body)
    assert len(read_body(body, words=True).references) <= 1
