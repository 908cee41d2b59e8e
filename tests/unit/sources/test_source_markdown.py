"""A folder of Markdown issues: ids, titles, edges with their places, and what is refused."""

import os

import pytest

from gangline.core.model import Dependency, check_specs
from gangline.errors import InputError
from gangline.sources.loading import load


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "issues").mkdir()

    def write(**files):
        for name, text in files.items():
            data = text if isinstance(text, bytes) else text.encode()
            (tmp_path / "issues" / name).write_bytes(data)
        return load("issues", str(tmp_path))

    write.path = tmp_path / "issues"
    return write


def refused(folder, **texts):
    with pytest.raises(InputError) as caught:
        folder(**texts)
    assert caught.value.place
    return caught.value


def test_an_issue_is_read_with_all_its_fields(folder):
    text = (
        "---\nid: parser\ntitle: 'The  parser: rewritten'\ndepends_on: [1, lexer]\nagent: codex\n"
        "labels:\n  - core\n  - fast\nrun: [make, '-j', 4]\n---\n\nBody.\n\nDepends on #1, #2\n"
    )
    (issue,) = folder(**{"3.md": text}).issues
    assert issue.id == "parser"
    assert issue.title == "The parser: rewritten"
    assert issue.body == "Body.\n\nDepends on #1, #2"
    assert issue.agent == "codex"
    assert issue.labels == ("core", "fast")
    assert issue.run == ("make", "-j", "4")
    assert issue.place == "issues/3.md"
    assert issue.depends_on == (
        Dependency("1", "issues/3.md:4"),  # the front matter's place, not the body's
        Dependency("lexer", "issues/3.md:4"),
        Dependency("2", "issues/3.md:14"),
    )


def test_files_come_in_natural_order(folder):
    names = ["10-a.md", "2-b.md", "1-c.md", "002-a.md"]
    loaded = folder(
        **{name: f"---\nid: x{i}\n---\n" for i, name in enumerate(names)},
        **{"z.md": "---\nid: z\n---\n"},
    )
    places = [issue.place for issue in loaded.issues]
    assert places == [
        f"issues/{name}" for name in ["1-c.md", "002-a.md", "2-b.md", "10-a.md", "z.md"]
    ]


@pytest.mark.parametrize(
    "written", ["1.10", "no", "007", "1e3", "0x10", "on", "2024-01-05", "1_0", "0o7", "+1"]
)
def test_an_id_is_the_text_as_written(folder, written):
    (issue,) = folder(**{"3.md": f"---\nid: {written}\ndepends_on: [{written}]\n---\n"}).issues
    assert issue.id == written
    assert [edge.id for edge in issue.depends_on] == [written]


@pytest.mark.parametrize(("written", "expected"), [("0", 0), ("7", 7), ("120", 120)])
def test_a_canonical_integer_is_an_int(folder, written, expected):
    (issue,) = folder(**{"x.md": f"---\nid: {written}\n---\n"}).issues
    assert issue.id == expected
    assert type(issue.id) is int


def test_a_number_too_long_for_other_programs_stays_text(folder):
    (issue,) = folder(**{"x.md": f"---\nid: {'9' * 5000}\n---\n"}).issues
    assert issue.id == "9" * 5000


@pytest.mark.parametrize(
    ("name", "expected"),
    [("3-parser.md", 3), ("003_x.md", 3), ("12.md", 12), ("0.md", 0), ("7 x.MD", 7)],
)
def test_without_id_the_file_names_number_counts(folder, name, expected):
    (issue,) = folder(**{name: "text"}).issues
    assert issue.id == expected


def test_zeros_that_sort_file_names_are_not_part_of_an_id(folder):
    loaded = folder(
        **{
            "01-a.md": "a",
            "02-b.md": "---\ndepends_on: 01\n---\nDepends on #1",
            "03-c.md": "---\nid: '003'\n---\n",
            "04-d.md": "Depends on #003",
        }
    )
    edges = {issue.key: [edge.id for edge in issue.depends_on] for issue in loaded.issues}
    assert edges == {"1": [], "2": ["1"], "003": [], "4": ["003"]}


@pytest.mark.parametrize("name", ["parser.md", "3rd-party.md", "issue-3.md"])
def test_an_issue_without_any_id_is_refused_with_a_way_out(folder, name):
    error = refused(folder, **{name: "text"})
    assert error.place == f"issues/{name}"
    assert f"1-{name}" in error.hint


def test_a_readme_is_an_issue_only_with_an_id(folder):
    assert len(folder(**{"1.md": "", "README.md": "# About\n"}).issues) == 1
    assert len(folder(**{"README.md": "---\nid: 9\n---\n"}).issues) == 2


def test_the_title_falls_back_to_the_heading_and_then_to_the_file_name(folder):
    loaded = folder(
        **{
            "1-a.md": "```\n# no\n```\n# The `parser` \n",
            "2-b.md": "## low\n",
            "3-c.md": "---\ntitle:\n---\n",
        }
    )
    assert [issue.title for issue in loaded.issues] == ["The `parser`", "2-b", "3-c"]


def test_one_dependency_may_stand_without_a_list(folder):
    loaded = folder(
        **{"1.md": "", "2.md": "---\ndepends_on: 1\n---\n", "3.md": "---\ndepends_on: '#1'\n---\n"}
    )
    assert [[edge.id for edge in issue.depends_on] for issue in loaded.issues] == [[], ["1"], ["1"]]


@pytest.mark.parametrize("empty", ["", "~", "null", "[]", "# nothing yet"])
def test_no_dependency_can_be_written_out(folder, empty):
    (issue,) = folder(**{"1.md": f"---\ndepends_on: {empty}\n---\n"}).issues
    assert issue.depends_on == ()


@pytest.mark.parametrize(
    "lost", ["depends_on: #3", "depends_on:\n  - #3", "depends_on: [#3]", "depends_on: # 3"]
)
def test_a_dependency_that_yaml_takes_for_a_comment_is_refused_not_lost(folder, lost):
    assert refused(folder, **{"1.md": f"---\n{lost}\n---\n"}).hint


def test_unknown_keys_are_warned_of_with_the_line_and_what_was_meant(folder):
    loaded = folder(
        **{"1.md": "---\nid: 1\nstatus: open\ndepend_on: [2]\nblocked_by: 3\ndepends-on: 4\n---\n"}
    )
    assert loaded.warnings == (
        "issues/1.md:3: unknown key 'status' in the front matter",
        "issues/1.md:4: unknown key 'depend_on' in the front matter; did you mean 'depends_on'?",
        "issues/1.md:5: unknown key 'blocked_by' in the front matter; did you mean 'depends_on'?",
        "issues/1.md:6: unknown key 'depends-on' in the front matter; did you mean 'depends_on'?",
    )


def test_an_issue_of_another_repository_is_warned_of_and_no_edge(folder):
    loaded = folder(**{"1.md": "---\nid: 1\n---\nDepends on o/r#7\n"})
    assert loaded.issues[0].depends_on == ()
    assert loaded.warnings == (
        "issues/1.md:4: o/r#7 is an issue of another repository; it is not waited for",
    )


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("---\nid: 1\n\nno end\n", 1, "not closed"),
        ("---\ntitle: a: b\n---\n", 2, "YAML"),
        ("---\nid: 1\nlabels: [a\n---\n", None, "YAML"),
        ("---\nid: 1\nid: 2\n---\n", 3, "twice"),
        ("---\n- 1\n---\n", 2, "keys with values"),
        ("---\njust text\n---\n", 2, "keys with values"),
        ("---\nid: [1]\n---\n", 2, "id must be"),
        ("---\nid:\n---\n", 2, "id must be"),
        ("---\nid: ''\n---\n", 2, "empty"),
        ("---\ntitle: {a: b}\n---\n", 2, "title must be"),
        ("---\ndepends_on: {a: b}\n---\n", 2, "depends_on must be"),
        ("---\ndepends_on:\n - 1\n - [2]\n---\n", 4, "depends_on[1] must be"),
        ("---\ndepends_on: 1, 2\n---\n", 2, "no issue id"),
        ("---\nrun: make all\n---\n", 2, "run must be a list"),
        ("---\nrun: []\n---\n", 2, "no program"),
        ("---\nrun: [a, ~]\n---\n", 2, "run[1] must be"),
        ("---\nagent: [a]\n---\n", 2, "agent must be"),
        ("---\na: *x\n---\n", 2, "alias"),
        ('---\ntitle: "a\\0b"\n---\n', 2, "NUL"),
        ("---\ntitle: a\x07b\n---\n", 2, "U+0007"),
        ("---\na: " + "[" * 500 + "\n---\n", 2, "nested"),
        ("---\n? [a]\n: b\n---\n", 2, "key"),
    ],
)
def test_a_broken_front_matter_is_refused_with_file_and_line(folder, text, line, said):
    error = refused(folder, **{"1.md": text})
    assert said in error.message
    assert error.place.startswith("issues/1.md:")
    assert line is None or error.place.split(":")[1] == str(line)
    assert error.hint


def test_yaml_tags_are_never_acted_upon(folder):
    text = "---\ntitle: !!python/object/apply:os.abort []\n---\n"
    assert "title must be a text, not a list" in refused(folder, **{"1.md": text}).message


def test_aliases_cost_no_more_than_they_are_written(folder):
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    text = "\n".join(["---", *lines, "labels: *a59", "---", ""])
    assert "labels[0] must be a text" in refused(folder, **{"1.md": text}).message


def test_windows_line_ends_and_a_byte_order_mark_change_nothing(folder):
    text = "---\r\nid: 5\r\ndepends_on: [6]\r\n---\r\n# T\r\n\r\nBlocked by #7\r\n"
    (issue,) = folder(**{"1.md": b"\xef\xbb\xbf" + text.encode()}).issues
    assert (issue.id, issue.title, issue.body) == (5, "T", "# T\n\nBlocked by #7")
    assert [edge.place for edge in issue.depends_on] == ["issues/1.md:3", "issues/1.md:7"]


def test_a_file_that_is_not_utf_8_is_refused_with_the_byte(folder):
    error = refused(folder, **{"1.md": b"ab\nc\xff"})
    assert "0xff at offset 4" in error.message
    assert error.place == "issues/1.md:2"
    assert "NUL" in refused(folder, **{"1.md": "x".encode("utf-16")}).message


def test_a_huge_file_is_refused_without_being_read(folder):
    path = folder.path / "1.md"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # sparse: reading it would not end
    assert "the limit is" in refused(folder).message


def test_symlinks_are_followed_folders_left_out_and_pipes_refused(folder, tmp_path):
    (tmp_path / "real.txt").write_text("# Linked\n")
    os.symlink("../real.txt", folder.path / "1.md")
    (folder.path / "2.md").mkdir()
    (folder.path / ".3.md").write_bytes(b"\xff")
    loaded = folder()
    assert [issue.title for issue in loaded.issues] == ["Linked"]
    assert loaded.warnings == ("issues/2.md: is a folder and was left out",)
    os.mkfifo(folder.path / "4.md")
    assert "regular" in refused(folder).message


def test_a_broken_symlink_is_refused(folder):
    os.symlink("nowhere", folder.path / "1.md")
    os.symlink("2.md", folder.path / "2.md")
    error = refused(folder)
    assert (error.place, error.causes) == ("issues/1.md", ("No such file or directory",))


def test_a_name_that_is_not_utf_8_can_still_be_printed_and_stored(folder):
    with open(os.path.join(os.fsencode(folder.path), b"1-\xff.md"), "wb"):
        pass
    (issue,) = folder().issues
    assert (issue.title, issue.place) == ("1-\\xff", "issues/1-\\xff.md")


def test_an_empty_folder_is_refused(folder):
    assert "no issue" in refused(folder).message
    assert "no issue" in refused(folder, **{"README.md": "x", "notes.txt": "y"}).message


def test_judging_is_left_to_the_core(folder):
    loaded = folder(**{"1-a.md": "Depends on #1, #99", "1-b.md": ""})
    assert [edge.id for edge in loaded.issues[0].depends_on] == ["1", "99"]
    with pytest.raises(InputError, match="used twice"):
        check_specs(loaded.issues)
