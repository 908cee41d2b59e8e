"""Plan files: three formats with one meaning, and nothing in them guessed."""

import json

import pytest

from gangline.core.model import Dependency
from gangline.errors import InputError
from gangline.sources.loading import load

TOML = """\
[[issues]]
id = 1
title = "One"

[[issues]]
id = "parser"
body = "Depends on #9 in words only"
depends_on = [1, "lexer"]
agent = "codex"
labels = ["a", "b"]
run = ["make", "all"]
"""
JSON = """\
{"issues": [
  {"id": 1, "title": "One"},
  {"id": "parser", "body": "Depends on #9 in words only", "depends_on": [1, "lexer"],
   "agent": "codex", "labels": ["a", "b"], "run": ["make", "all"]}
]}
"""
YAML = """\
issues:
  - id: 1
    title: One
  - id: parser
    body: 'Depends on #9 in words only'
    depends_on:
      - 1
      - lexer
    agent: codex
    labels: [a, b]
    run: [make, all]
"""


@pytest.fixture
def plan(tmp_path):
    def write(name, text):
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(name, str(tmp_path))

    return write


def refused(plan, name, text):
    with pytest.raises(InputError) as caught:
        plan(name, text)
    return caught.value


@pytest.mark.parametrize(
    ("name", "text"), [("p.toml", TOML), ("p.json", JSON), ("p.yaml", YAML), ("p.yml", YAML)]
)
def test_the_formats_mean_the_same(plan, name, text):
    loaded = plan(name, text)
    one, parser = loaded.issues
    assert (one.id, one.title, one.depends_on, one.run) == (1, "One", (), None)
    assert (parser.id, parser.title) == ("parser", "parser")
    assert parser.body == "Depends on #9 in words only"
    assert [edge.id for edge in parser.depends_on] == ["1", "lexer"]
    assert (parser.agent, parser.labels, parser.run) == ("codex", ("a", "b"), ("make", "all"))
    assert loaded.description == f"plan file {name}"
    assert loaded.warnings == ()


def test_places_name_the_key_and_in_yaml_the_line(plan):
    _, parser = plan("p.toml", TOML).issues
    assert parser.place == "p.toml: issues[1]"
    assert parser.depends_on[1] == Dependency("lexer", "p.toml: issues[1].depends_on[1]")
    _, parser = plan("p.yaml", YAML).issues
    assert parser.place == "p.yaml:4: issues[1]"
    assert parser.depends_on[1] == Dependency("lexer", "p.yaml:8: issues[1].depends_on[1]")


@pytest.mark.parametrize("written", ["1.10", "no", "007", "0x1", "1e2"])
def test_yaml_ids_are_as_written(plan, written):
    (issue,) = plan("p.yaml", f"issues: [{{id: {written}, depends_on: {written}}}]").issues
    assert issue.id == written
    assert issue.depends_on[0].id == written


def test_toml_and_json_ids_keep_their_type(plan):
    first, second = plan("p.json", '{"issues": [{"id": 3}, {"id": "4", "depends_on": 3}]}').issues
    assert (first.id, second.id) == (3, "4")
    assert second.depends_on[0].id == "3"


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("issues = [{id = 1.10}]", "p.toml: issues[0].id", "not a number with a fraction"),
        ("issues = [{id = true}]", "p.toml: issues[0].id", "not true or false"),
        ("issues = [{id = 2024-01-05}]", "p.toml: issues[0].id", "not a date or time"),
        ('issues = [{title = "x"}]', "p.toml: issues[0]", "has no id"),
        ("issues = [3]", "p.toml: issues[0]", "must be keys with values"),
        ("issues = [{id = 1, title = 2}]", "p.toml: issues[0].title", "must be a text"),
        (
            "issues = [{id = 1, depends_on = [1.5]}]",
            "p.toml: issues[0].depends_on[0]",
            "whole number",
        ),
        (
            'issues = [{id = 1, depends_on = ["1 2"]}]',
            "p.toml: issues[0].depends_on[0]",
            "no issue id",
        ),
        ("issues = [{id = 1, labels = [1]}]", "p.toml: issues[0].labels[0]", "must be a text"),
        ('issues = [{id = 1, run = "make"}]', "p.toml: issues[0].run", "must be a list"),
        ('issues = [{id = 1, run = ["sleep", 1]}]', "p.toml: issues[0].run[1]", "must be a text"),
        ('issues = [{id = 1, run = ["a\\u0000b"]}]', "p.toml: issues[0].run[0]", "NUL"),
        ('issues = [{id = 1, agent = ""}]', "p.toml: issues[0].agent", "empty"),
        ("issues = {}", "p.toml: issues", "no list"),
        ("issues = []", "p.toml: issues", "no issue"),
        ("", "p.toml: issues", "no list"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key(plan, text, place, said):
    error = refused(plan, "p.toml", text)
    assert error.place == place
    assert said in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("depend_on", "did you mean 'depends_on'?"),
        ("needs", "did you mean 'depends_on'?"),
        ("Title", "did you mean 'title'?"),
        ("zzz", "known keys: id, title, body, depends_on, agent, labels, run"),
    ],
)
def test_an_unknown_key_is_refused_with_what_was_meant(plan, key, hint):
    text = json.dumps({"issues": [{"id": 1}, {"id": 2}, {"id": 3, key: 1}]})
    error = refused(plan, "p.json", text)
    assert error.place == f"p.json: issues[2].{key}"
    assert error.hint == hint


def test_an_unknown_top_level_key_is_refused(plan):
    error = refused(plan, "p.toml", "[[issue]]\nid = 1\n")
    assert (error.place, error.hint) == ("p.toml: issue", "did you mean 'issues'?")
    assert "bare list" in refused(plan, "p.json", '[{"id": 1}]').message


@pytest.mark.parametrize(
    ("name", "text", "place"),
    [
        ("p.toml", "a = 1\nb = = 2\n", "p.toml:2:5"),
        ("p.toml", "a = 1\na = 2\n", "p.toml:2:6"),
        ("p.toml", "a = [", "p.toml:1"),
        ("p.json", '{"issues":\n [,]}', "p.json:2:3"),
        ("p.json", "", "p.json:1:1"),
        ("p.yaml", "issues:\n  - id: 1\n   title: x\n", "p.yaml:3"),
        ("p.yaml", "a: 1\n---\nb: 1\n", "p.yaml:2"),
        ("p.yaml", b"a: 1\nb\xff: 2\n", "p.yaml:2"),
    ],
)
def test_wrong_syntax_is_refused_with_line_and_column(plan, name, text, place):
    error = refused(plan, name, text)
    # The two parsers of PyYAML name different columns of the same line.
    assert error.place == place or (name == "p.yaml" and error.place.startswith(f"{place}:"))
    assert error.hint


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "p.json",
            '{"issues": [{"id": 7, "title": "a", "title": "b"}]}',
            "'title' stands twice in the object with id 7",
        ),
        (
            "p.yaml",
            "issues:\n- id: 7\n  title: a\n  title: b\n",
            "'title' stands twice (first in line 3)",
        ),
    ],
)
def test_duplicate_keys_are_refused(plan, name, text, said):
    assert said in refused(plan, name, text).message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", "[" * 100_000),
        ("p.json", '{"issues": ' + "[" * 60 + "]" * 60 + "}"),
        ("p.toml", "a = " + "[" * 100_000),
        ("p.yaml", "[" * 100_000),
        ("p.yaml", "a: " + "{a: " * 100_000),
        ("p.json", '{"issues": [{"id": NaN}]}'),
        ("p.json", '{"issues": [{"id": ' + "9" * 5000 + "}]}"),
        ("p.json", '{"issues": [{"id": "\\ud800"}]}'),
    ],
)
def test_hostile_files_are_refused_in_words(plan, name, text):
    assert refused(plan, name, text).place.startswith(name)


def test_a_thousand_issues_in_yaml_come_back_in_order(plan):
    text = "issues:\n" + "".join(f"- {{id: {n}, depends_on: [{n + 1}]}}\n" for n in range(1000))
    assert [issue.id for issue in plan("p.yaml", text).issues] == list(range(1000))
