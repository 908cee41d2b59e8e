"""`scripts/parse-dependencies.sh` as the specification's scripts call it, in bash and in zsh."""

import json
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from project import SAFETY_SECONDS, assert_harmless

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "parse-dependencies.sh"
THREE = "# Three\n\nDepends on #1\n\n## Dependencies\n\n- #5\n- #1\n- #4\n"


@pytest.fixture(params=["bash", "zsh"])
def parse(project, request):
    """Runs the script; its exit code, stdout and stderr."""
    shell = request.param
    assert shutil.which(shell), f"{shell} is needed by this test: `make test` installs it"
    project.program("gangline", f'exec "{sys.executable}" -m gangline "$@"')

    def call(*arguments, cwd=None):
        done = subprocess.run(
            [shell, str(SCRIPT), *arguments],
            cwd=cwd or project.folder,
            env=project.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=SAFETY_SECONDS,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert_harmless(done.stdout + done.stderr)
        return done.returncode, done.stdout, done.stderr

    return call


@pytest.fixture
def issues(project):
    """Three issues that others depend on, and 3-three.md, which depends on all of them."""
    for number in (1, 4, 5):
        project.write(f"issues/{number}-one.md", f"# Issue {number}\n")
    project.write("issues/3-three.md", THREE)
    return project.folder / "issues"


# -- ISSUE [DIR] ------------------------------------------------------------------------------


def test_dependencies_of_a_markdown_folder_are_printed_once_in_their_order(parse, issues):
    assert parse("3", "issues") == (0, "1\n5\n4\n", "")
    assert parse("3", str(issues)) == (0, "1\n5\n4\n", "")
    assert parse("3", ".", cwd=issues) == (0, "1\n5\n4\n", "")


def test_issue_without_dependencies_prints_nothing(parse, issues):
    assert parse("4", "issues") == (0, "", "")


def test_without_folder_the_project_says_where_its_issues_are(project, parse, issues):
    project.settings('[batch]\nfrom = "issues"\n')
    project.write("src/deep/code.txt", "")
    assert parse("3") == (0, "1\n5\n4\n", "")
    assert parse("3", cwd=project.folder / "src" / "deep") == (0, "1\n5\n4\n", "")


def test_project_folder_says_where_its_issues_are_from_anywhere(project, parse, issues):
    project.settings('[batch]\nfrom = "issues"\n')
    assert parse("3", str(project.folder), cwd=project.room) == (0, "1\n5\n4\n", "")


def test_markdown_beside_the_settings_of_a_project_is_not_taken_for_issues(project, parse, issues):
    project.settings('[batch]\nfrom = "issues"\n')
    project.write("3-notes.md", "Depends on #4\n")
    assert parse("3", ".") == (0, "1\n5\n4\n", "")


def test_plan_file_of_a_project_is_read_as_well(project, parse):
    project.settings('[batch]\nfrom = "plan.json"\n')
    project.plan([{"id": "a", "title": "A"}, {"id": "b", "title": "B", "depends_on": ["a"]}])
    assert parse("b") == (0, "a\n", "")


def test_folder_with_the_name_of_another_source_is_read_as_a_folder(project, parse):
    project.write("github/1-one.md", "# One\n")
    project.write("github/2-two.md", "Blocked by #1\n")
    assert parse("2", "github") == (0, "1\n", "")


def test_dependency_that_is_not_in_the_source_is_printed_and_said(project, parse, issues):
    project.write("issues/6-six.md", "# Six\n\nDepends on #9\n")
    code, printed, said = parse("6", "issues")
    assert (code, printed) == (0, "9\n")
    assert said == "gangline: issues/6-six.md:3: 9 is not in this source\n"


def test_only_what_is_odd_about_this_issue_is_said(project, parse, issues):
    project.write("issues/6-six.md", "---\ndepend_on: [1]\n---\n# Six\n")
    assert parse("3", "issues") == (0, "1\n5\n4\n", "")
    code, printed, said = parse("6", "issues")
    assert (code, printed) == (0, "")
    assert "issues/6-six.md:2: unknown key 'depend_on'" in said
    assert "did you mean 'depends_on'?" in said


def test_unknown_issue_is_refused_with_what_was_meant(parse, issues, project):
    project.write("issues/parser.md", "---\nid: parser\n---\n# Parser\n")
    code, printed, said = parse("parsr", "issues")
    assert (code, printed) == (2, "")
    assert "usage error: there is no issue 'parsr' in this source" in said
    assert "hint: did you mean 'parser'?" in said


def test_unknown_issue_like_no_other_is_refused_with_those_there_are(parse, issues):
    code, printed, said = parse("x", "issues")
    assert (code, printed) == (2, "")
    assert "hint: it has 1, 3, 4, 5" in said


@pytest.mark.parametrize("text", ["$(reboot)", "a b", "\x1b[2J", "../x"])
def test_dependency_that_is_no_id_never_reaches_the_script(project, parse, issues, text):
    project.write("issues/6-six.md", f"---\ndepends_on: [{json.dumps(text)}]\n---\n# Six\n")
    code, printed, said = parse("6", "issues")
    assert (code, printed) == (2, "")
    assert "issues/6-six.md:2" in said


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("isues", "there is no folder 'isues'"),
        ("", "DIR is empty"),
        ("empty", "this folder holds no Markdown issues and is not the top of a project"),
        (".", "no issues are named"),
    ],
)
def test_folder_without_issues_is_refused_with_a_hint(project, parse, folder, words):
    (project.folder / "empty").mkdir()
    code, printed, said = parse("3", folder)
    assert (code, printed) == (2, "")
    assert f"usage error: {words}" in said
    assert "hint: " in said


def test_project_that_names_no_issues_is_refused_with_the_key_to_set(parse, issues):
    code, printed, said = parse("3")
    assert (code, printed) == (2, "")
    assert "gangline.toml: batch.from" in said
    assert 'hint: set from = "issues" under [batch] there, or name the folder' in said


def test_repository_without_settings_is_refused_and_its_markdown_not_read(project, parse):
    (project.folder / "gangline.toml").unlink()
    project.write("3-notes.md", "Depends on #4\n")
    code, printed, said = parse("3", ".")
    assert (code, printed) == (2, "")
    assert "no issues are named" in said


def test_broken_settings_are_refused(project, parse):
    project.settings("[batch]\nfrm = 'issues'\n")
    code, printed, said = parse("3")
    assert (code, printed) == (2, "")
    assert "config error: there is no key batch.frm" in said


# -- --check-cycles ISSUES DAG ----------------------------------------------------------------

FIX = re.compile(
    r"cause: (\S+) depends on (\S+); to remove that: orch_state_update \"\$AREA\" '(.*)'\n"
)


@pytest.mark.parametrize(
    ("ids", "dag"),
    [
        ("[]", "{}"),
        ("[3, 5]", "{}"),
        ("[3, 5]", "null"),
        ("[3, 5]", '{"5": [3]}'),
        ('["3", 5, "parser"]', '{"5": ["3"], "parser": [5, 3], "3": []}'),
    ],
)
def test_graph_without_cycle_is_passed_in_silence(parse, ids, dag):
    assert parse("--check-cycles", ids, dag) == (0, "", "")


@pytest.mark.parametrize(
    ("dag", "cycles"),
    [
        ({"3": [3]}, ["3 -> 3"]),
        ({"3": [5], "5": [3]}, ["3 -> 5 -> 3", "5 -> 3 -> 5"]),
        ({"3": ["5"], "5": [4, "3"]}, ["3 -> 5 -> 3", "5 -> 3 -> 5"]),
        (
            {"parser": [4], "4": ["5"], "5": ["parser"], "3": [4]},
            ["parser -> 4 -> 5 -> parser", "4 -> 5 -> parser -> 4", "5 -> parser -> 4 -> 5"],
        ),
    ],
)
def test_whole_cycle_is_named_and_each_named_command_breaks_it(parse, dag, cycles):
    ids = json.dumps([3, "4", 5, "parser"])
    code, printed, said = parse("--check-cycles", ids, json.dumps(dag))
    assert (code, printed) == (1, "")
    named = re.search("form a cycle: (.*)\n", said)[1]
    assert named in cycles
    nodes = named.split(" -> ")
    fixes = FIX.findall(said)
    assert [(one, other) for one, other, _ in fixes] == list(pairwise(nodes))
    for _, _, jq in fixes:
        state = json.dumps({"dag": dag, "kept": 1})
        done = subprocess.run(["jq", jq], input=state, capture_output=True, text=True, check=True)
        mended = json.loads(done.stdout)
        assert mended["kept"] == 1
        assert parse("--check-cycles", ids, json.dumps(mended["dag"])) == (0, "", "")


@pytest.mark.parametrize(
    ("ids", "dag", "words"),
    [
        ("[3]", '{"3": [5]}', "DAG_JSON names the issue '5', which is not in ISSUES_JSON"),
        ("[3]", '{"5": [3]}', "DAG_JSON names the issue '5', which is not in ISSUES_JSON"),
        ('["parser"]', '{"parsr": []}', "did you mean 'parser'?"),
        ("[3, 5]", '{"3": [5], "5": [3, 9]}', 'at: DAG_JSON["5"][1]'),
        ("", "{}", "cause: it is empty"),
        ("[3", "{}", "at: ISSUES_JSON"),
        ("null", "{}", "hint: give a list of ids, such as [3, 5]"),
        ("3\n5", "{}", "at: ISSUES_JSON"),
        ("[3]", "", "at: DAG_JSON"),
        ("[3]", "[]", 'hint: give an object of lists of ids, such as {"5": [3]}'),
        ("[3]", '{"3": 3}', "at: DAG_JSON"),
        ("[3, 1.5]", "{}", "at: ISSUES_JSON"),
        ("[3, true]", "{}", "at: ISSUES_JSON"),
        ('[3, "3"]', "{}", "issue id '3' is used twice"),
        ('["\\u001b[2J"]', "{}", "may hold only letters"),
        ("[-3]", "{}", "may hold only letters"),
        ("[" * 100_000, "{}", "at: ISSUES_JSON"),
        (b'["\xff"]', "{}", "at: ISSUES_JSON"),
    ],
)
def test_what_is_no_graph_is_refused_with_its_place(parse, ids, dag, words):
    code, printed, said = parse("--check-cycles", ids, dag)
    assert (code, printed) == (2, "")
    assert said.startswith("gangline: input error: ")
    assert words in said


@pytest.mark.parametrize("arguments", [(), ("--check-cycles",), ("--check-cycles", "[]"), "123"])
def test_wrong_number_of_arguments_is_refused_with_the_usage(parse, arguments):
    code, printed, said = parse(*arguments)
    assert (code, printed) == (2, "")
    assert "usage error: " in said
    assert "hint: usage: gangline shell " in said


# The block of orchestrator-recovery.md, "DAG Integrity", with the state file read by jq.
DAG_INTEGRITY = """
set -euo pipefail
ISSUES_JSON=$(jq '.issues' batch.state.json)
DAG_JSON=$(jq '.dag' batch.state.json)
bash scripts/parse-dependencies.sh --check-cycles "$ISSUES_JSON" "$DAG_JSON"
echo sound
"""


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("dag", "code", "printed"),
    [({"3": [], "5": [3]}, 0, "sound\n"), ({"3": [5], "5": [3]}, 1, "")],
    ids=["sound", "cycle"],
)
def test_block_of_the_specification_works(project, shell, dag, code, printed):
    project.program("gangline", f'exec "{sys.executable}" -m gangline "$@"')
    project.write("batch.state.json", json.dumps({"issues": [3, 5], "dag": dag}))
    project.run("shell", "install", check=0)
    done = subprocess.run(
        [shell, "-c", DAG_INTEGRITY],
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SAFETY_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, printed)
    assert ("3 -> 5 -> 3" in done.stderr or "5 -> 3 -> 5" in done.stderr) == bool(code)
