"""Issues that cannot be run are refused by `plan` and by `run`, with their place, and no trace."""

import pytest

ONE = {"id": 1, "title": "One", "run": ["true"]}


def issue(identity, *needs, **more):
    return {"id": identity, "title": "T", "run": ["true"], "depends_on": [*needs], **more}


def test_cycle_is_refused_with_every_edge_and_its_place(project):
    source = project.plan([issue(1, 3), issue(2, 1), issue(3, 2), issue(4)])
    for said in project.refusals("--from", source):
        assert "input error: the dependencies form a cycle: 1 -> 3 -> 2 -> 1" in said
        assert "plan.json: issues[0].depends_on[0]" in said
        assert "2 depends on 1: plan.json: issues[1].depends_on[0]" in said
        assert "hint: remove one" in said


def test_issue_that_depends_on_itself_is_refused(project):
    for said in project.refusals("--from", project.plan([issue(1, 1)])):
        assert "issue '1' depends on itself" in said
        assert "at: plan.json: issues[0].depends_on[0]" in said


def test_cycle_of_markdown_issues_is_refused_with_file_and_line(project):
    project.write("issues/1-a.md", "# A\n\nDepends on #2\n")
    project.write("issues/2-b.md", "---\ntitle: B\ndepends_on: [1]\n---\n")
    for said in project.refusals("--from", "issues", "--agent", "claude"):
        assert "cycle" in said
        assert "issues/1-a.md:3" in said
        assert "issues/2-b.md:3" in said


def test_unknown_dependency_is_refused_with_its_place_and_what_was_meant(project):
    source = project.plan([issue("parser"), issue("lexer", "parsr")])
    for said in project.refusals("--from", source):
        assert "issue 'lexer' depends on 'parsr', which is not in this batch" in said
        assert "at: plan.json: issues[1].depends_on[0]" in said
        assert "hint: did you mean 'parser'?" in said


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [(7, 7, "'7' is used twice"), ("Parser", "parser", "(they differ only in case)")],
)
def test_id_used_twice_is_refused_with_both_places(project, first, second, words):
    for said in project.refusals("--from", project.plan([issue(first), issue(second)])):
        assert words in said
        assert "at: plan.json: issues[1]" in said
        assert "plan.json: issues[0]" in said.partition("cause:")[2]
        assert "hint: give one of them another id" in said


@pytest.mark.parametrize(
    ("identity", "rule"),
    [
        ("a/b", "may hold only"),
        ("../../etc/passwd", "may hold only"),
        ("a..b", "may not hold '..'"),
        ("main.lock", "may not end in '.' or '.lock'"),
        ("a.", "may not end in '.' or '.lock'"),
        (".hidden", "starts with a letter or digit"),
        ("-rf", "starts with a letter or digit"),
        ("a b", "may hold only"),
        ("$(reboot)", "may hold only"),
        ("\x1b[31mred", "may hold only"),
        ("é", "may hold only"),
        ("x" * 101, "is longer than 100 characters"),
    ],
)
def test_id_that_is_no_name_is_refused_with_the_rule_it_breaks(project, identity, rule):
    for said in project.refusals("--from", project.plan([issue(1), issue(identity)])):
        assert "input error: issue id" in said
        assert rule in said
        assert "at: plan.json: issues[1]" in said
        assert "hint: give the issue another id" in said


def test_folder_without_issues_is_refused(project):
    project.write("issues/notes.txt", "no issue")
    for said in project.refusals("--from", "issues"):
        assert "the folder holds no issue" in said
        assert "at: issues" in said
        assert "hint: add one: a Markdown file" in said


@pytest.mark.parametrize(
    ("front", "place", "words"),
    [
        ("title: a: b\n", ":2:", "is not valid YAML"),
        ("title: A\ndepends_on: [1, 2\n", ":4:", "is not valid YAML"),
        ("id: 3\nid: 4\n", ":3", "the key 'id' stands twice (first in line 2)"),
        ("title: A\ndepends_on: #3\n", ":3", "write 3 and not #3"),
        ("title: A\nrun: make\n", ":3", "must be a list: the program and its arguments"),
        ("title: \x1b[31mred\n", ":2", "holds the control character U+001B"),
    ],
)
def test_broken_front_matter_is_refused_with_file_and_line(project, front, place, words):
    project.write("issues/3-parser.md", f"---\n{front}---\nBody\n")
    for said in project.refusals("--from", "issues", "--agent", "claude"):
        assert f"at: issues/3-parser.md{place}" in said
        assert words in said
        assert "hint: " in said


def test_front_matter_that_is_not_closed_is_refused(project):
    project.write("issues/1-a.md", "---\ntitle: A\n")
    for said in project.refusals("--from", "issues"):
        assert "the front matter is not closed" in said
        assert "at: issues/1-a.md:1" in said


def test_issue_that_is_not_utf_8_is_refused_with_file_and_line(project):
    project.write("issues/1-a.md", b"# A\n\ncaf\xe9\n")
    for said in project.refusals("--from", "issues"):
        assert "is not UTF-8: byte 0xe9" in said
        assert "at: issues/1-a.md:3" in said
        assert "iconv -t UTF-8" in said


@pytest.mark.parametrize(
    ("name", "text", "place", "words"),
    [
        ("plan.toml", '[[issues]]\nid = 1\ntitle "A"\n', "plan.toml:3:7", "is not valid TOML"),
        ("plan.json", '{"issues": [\n{"id": 1,}]}', "plan.json:2:", "is not valid JSON"),
        ("plan.yaml", "issues:\n- id: [1\n", "plan.yaml:3", "is not valid YAML"),
        ("plan.yaml", "issues:\n- id: 1\n  dependson: [2]\n", "plan.yaml:3", "did you mean"),
        ("plan.yaml", "issues: 3\n", "plan.yaml:1", "the plan has no list of issues"),
        ("plan.json", '{"issues": []}', "plan.json", "the plan holds no issue"),
        ("plan.toml", "[[issues]]\nid = 1.5\n", "issues[0].id", "must be a whole number or a text"),
        ("plan.toml", '[[issues]]\nid = 1\nrun = "a"\n', "issues[0].run", "must be a list"),
        ("plan.json", "", "plan.json:1:1", "is not valid JSON"),
        ("plan.toml", b"title = \xff\n", "plan.toml:1", "is not UTF-8"),
    ],
)
def test_broken_plan_file_is_refused_with_its_place(project, name, text, place, words):
    project.write(name, text)
    for said in project.refusals("--from", name):
        assert f"{place}" in said.partition("  at: ")[2].partition("\n")[0]
        assert words in said


def test_body_of_a_megabyte_is_refused_with_the_limit(project):
    body = "x" * 1_000_000
    project.write("issues/1-a.md", f"---\ntitle: A\n---\n{body}\n")
    in_plan = project.plan([issue(1, body=body)])
    for source, place in (("issues", "issues/1-a.md"), (in_plan, "plan.json: issues[0]")):
        for said in project.refusals("--from", source, "--agent", "claude"):
            assert "the body of issue '1' has 1,000,000 bytes; the limit is 262,144" in said
            assert f"at: {place}" in said
            assert "hint: put the long part into a file of the repository" in said


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere/", "there is no issue source 'nowhere/'"),
        ("", "--from is empty"),
        ("README.md", "a single Markdown file is not an issue source"),
        ("setup.cfg", "this file is not a plan that can be read"),
        ("github:not-a-name", "'not-a-name' is not the name of a repository"),
    ],
)
def test_source_that_is_none_is_refused(project, source, words):
    project.write("README.md", "# Project\n")
    project.write("setup.cfg", "")
    for said in project.refusals("--from", source):
        assert words in said
        assert "hint: " in said


def test_run_without_a_source_says_where_one_is_named(project):
    for said in project.refusals():
        assert "usage error: no issues are named" in said
        assert "at: gangline.toml: batch.from" in said
        assert "--from" in said


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ("9", "there is no issue '9' to be run alone"),
        ("parsr", "did you mean 'parser'?"),
        ("", "--only names no issue"),
        (" , ", "--only names no issue"),
    ],
)
def test_only_that_names_no_issue_is_refused(project, only, words):
    source = project.plan([issue(1), issue("parser")])
    for said in project.refusals("--from", source, "--only", only):
        assert "usage error" in said
        assert "at: --only" in said
        assert words in said


def test_github_options_for_another_source_are_refused(project):
    for said in project.refusals("--from", project.plan([ONE]), "--label", "bug"):
        assert "--label and --assignee choose among GitHub issues" in said


def test_detached_run_refuses_the_same_in_the_terminal_it_was_called_from(project):
    source = project.plan([issue(1, 2)])
    said = project.refusal("run", "work", "--from", source, "--detach")
    assert "depends on '2', which is not in this batch" in said
