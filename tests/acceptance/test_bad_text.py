"""Untrusted text, odd names, narrow terminals, closed pipes: shown harmless, never a crash."""

import json
import os
import subprocess

import pytest
from project import Project, assert_harmless

HOSTILE = "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b31m\u202egnp\x7f\b\t% #{pid} #[fg=red] $(id) `id`"
SHARED = "[workspace]\nkind = 'shared'\n"
VIEWS = [
    ("status", "work"),
    ("list",),
    *(("graph", "work", "--format", form) for form in ("text", "mermaid", "dot")),
]


def finished(project, issues):
    """A batch of these issues that has been run to its end."""
    project.settings(SHARED)
    return project.run("run", "work", "--from", project.plan(issues), check=0)


def test_escapes_in_titles_are_shown_harmless_everywhere(project):
    issues = [{"id": number, "title": HOSTILE, "run": ["true"]} for number in (1, 2)]
    issues[1]["depends_on"] = [1]
    said = finished(project, issues)
    views = [project.run(*argv, check=0) for argv in VIEWS]
    planned = project.run("plan", "work", "--from", "plan.json", check=0)
    for done in (said, planned, *views):
        assert_harmless(done.stdout + done.stderr)
    for done in (said, planned, views[0]):
        assert "␛]0;owned␇" in done.stdout


def test_json_holds_the_title_as_it_is_and_acts_on_no_terminal(project):
    finished(project, [{"id": 1, "title": HOSTILE, "run": ["true"]}])
    title = " ".join(HOSTILE.split())
    for argv in (("status", "work", "--json"), ("graph", "work", "--format", "json")):
        text = project.run(*argv, check=0).stdout
        assert_harmless(text)
        assert json.loads(text)["issues"][0]["title"] == title
    assert_harmless(project.run("list", "--json", check=0).stdout)


def test_escapes_in_file_names_and_markdown_are_shown_harmless(project):
    project.settings(SHARED)
    name = "issues/1-\x1b[31m\u202e.md"
    project.write(name, f"---\ntitel: x\nrun: ['true']\n---\n# {HOSTILE}\n")
    planned = project.run("plan", "work", "--from", "issues", check=0)
    assert "warning: " in planned.stdout
    done = project.run("run", "work", "--from", "issues", check=0)
    assert "unknown key 'titel'" in done.stderr
    for text in (planned.stdout, planned.stderr, done.stdout, done.stderr):
        assert_harmless(text)
    project.write(name, "---\nid: [\n")
    assert "the front matter is not closed" in project.refusal("plan", "x", "--from", "issues")


def test_what_an_agent_printed_is_harmless_on_a_terminal(project):
    script = "printf 'a\\033]0;owned\\007b\\033[2J\\033[31mred\\033[0m\\n'"
    finished(project, [{"id": 1, "title": "One", "run": ["sh", "-c", script]}])
    code, shown = project.run_in_terminal("logs", "work", "1")
    assert code == 0
    assert "owned" in shown
    assert_harmless(shown.replace("\x1b[31m", "").replace("\x1b[0m", ""))  # colours may stay


def test_title_of_5000_characters_is_accepted_and_shown_cut(project):
    done = finished(project, [{"id": 1, "title": "x" * 5000, "run": ["true"]}])
    for text in (done.stdout, *(project.run(*argv, check=0).stdout for argv in VIEWS)):
        assert all(len(line) < 400 for line in text.splitlines())
    assert "x…" in done.stdout
    assert len(project.status()["issues"][0]["title"]) == 5000


def test_ids_are_kept_as_they_were_written(project):
    project.settings(SHARED)
    lines = [f"- {{id: {each}, run: ['true']}}" for each in ("7", "007", "1.10", "no", "parser-2")]
    project.write("plan.yaml", "\n".join(["issues:", *lines]))
    project.run("run", "work", "--from", "plan.yaml", check=0)
    issues = project.status()["issues"]
    assert [issue["id"] for issue in issues] == [7, "007", "1.10", "no", "parser-2"]
    assert {issue["status"] for issue in issues} == {"completed"}
    assert "completed" in project.refusal("cancel", "work", "1.10")


@pytest.mark.parametrize("name", ['it\'s "odd" $HOME #{pid} ;', "-ünï 한국 %s\\n"])
def test_odd_path_of_the_repository_serves_for_a_whole_run(tmp_path, name):
    project = Project(tmp_path, name=name)
    try:
        script = "echo done > file && git add file && git commit --quiet --message done"
        issues = [
            {"id": 1, "title": "One", "run": ["sh", "-c", script]},
            {"id": "b", "title": "Two", "run": ["git", "log", "-1"], "depends_on": [1]},
        ]
        project.run("run", "work", "--from", project.plan(issues), check=0)
        assert project.statuses() == {"1": "completed", "b": "completed"}
        assert project.git("show", "gangline/work/issue-1:file") == "done"
        assert project.run("plan", "new", "--from", "plan.json", check=0).stderr == ""
    finally:
        project.close()


def test_narrow_terminal_shows_whole_rows(project):
    title = "한국어 제목 and a long one " * 5
    finished(project, [{"id": n, "title": title, "run": ["true"]} for n in (1, "a-long-id")])
    for argv in (("status", "work"), ("plan", "new", "--from", "plan.json"), ("graph", "work")):
        for columns in (40, 1):
            code, shown = project.run_in_terminal(*argv, columns=columns)
            assert code == 0, shown
            assert_harmless(shown)
            rows = [line for line in shown.splitlines() if "#1 " in line or "#a-long" in line]
            assert len(rows) >= 2
            if columns == 40:
                table_rows = [row for row in rows if not row.startswith("Critical")]
                assert all(len(row) <= 40 for row in table_rows), table_rows


def closed_pipe(project, *argv):
    """Run a command whose reader has gone; its exit code and what it says on stderr."""
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            project.command(*argv),
            cwd=project.folder,
            env=project.environment,
            stdin=subprocess.DEVNULL,
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    return done


def test_closed_pipe_prints_no_traceback(project):
    script = "yes | head -c 200000"
    finished(project, [{"id": 1, "title": "One", "run": ["sh", "-c", script]}])
    views = [*VIEWS, ("status", "work", "--json"), ("logs", "work", "1"), ("--help",)]
    for argv in (*views, ("plan", "new", "--from", "plan.json")):
        assert closed_pipe(project, *argv).stderr == "", argv


def test_run_whose_reader_has_gone_ends_quietly_and_is_resumed(project):
    project.settings(SHARED)
    source = project.plan([{"id": 1, "title": "One", "run": ["true"]}])
    assert closed_pipe(project, "run", "work", "--from", source).stderr == ""
    project.run("run", "work", check=0)
    assert project.statuses() == {"1": "completed"}


def test_closed_stdout_is_no_crash(project):
    project.settings(SHARED)
    source = project.plan([{"id": 1, "title": "One", "run": ["true"]}])
    for command in (f"plan new --from {source}", f"run work --from {source}", "status work"):
        done = project.run_shell(f'exec "$0" -m gangline {command} >&- </dev/null')
        assert (done.returncode, done.stderr) == (0, "")
    assert project.statuses() == {"1": "completed"}


def test_terminal_that_cannot_show_a_character_shows_the_rest(project):
    env = {"PYTHONIOENCODING": "ascii"}
    source = project.plan([{"id": 1, "title": "Größe → 한", "run": ["true"]}])
    project.settings(SHARED)
    for argv in (("plan", "work", "--from", source), ("run", "work", "--from", source)):
        said = project.run(*argv, check=0, env=env).stdout
        assert "#1" in said
        assert " Gr" in said
        assert said.isascii()
    for argv in VIEWS:
        assert project.run(*argv, check=0, env=env).stdout.isascii()
