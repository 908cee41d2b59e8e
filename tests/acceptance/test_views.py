"""What a person or a script reads: lines, summary, status, list, graph, logs, help, exit codes."""

import json
import re
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, Started, assert_harmless
from test_live import Terminal, issue, let_go

ONE = {"id": 1, "title": "One", "run": ["true"]}
SHARED = "[workspace]\nkind = 'shared'\n"
NASTY = [
    'a "quoted" title',
    "brackets [x] {y} (z) <b>bold</b> | pipe",
    "line one\nline two\r\n\ttab",
    "#hash; #quot; &amp; &lt;",
    "back\\slash \\n \\N \\",
    "`code` and 'more' -- --> ---",
    "\x1b[31m\x07\u202e\x9b",
    "한국어 日本語 é",
    "end",
    "",
]
EVENT = re.compile(r"(?:  )?\d\d:\d\d:\d\d \S.*")


@pytest.fixture
def waiting(project: Project) -> Iterator[Project]:
    """A project in a shared folder whose issues wait for the file `go`."""
    project.settings(SHARED)
    yield project
    let_go(project)


def begin(project: Project, *issues: dict) -> Started:
    """Start an orchestrator; all its issues that can run have their panes when it returns."""
    started = project.start("run", "work", "--from", project.plan(issues))
    ready = sum(not one.get("depends_on") for one in issues)
    project.wait_for(lambda: started.text().count("runs in pane") >= ready, "they run")
    return started


def end(project: Project, started: Started, number: int = signal.SIGINT) -> int:
    started.send_signal(number)
    project.wait_for(lambda: started.poll() is not None, "it has ended")
    return started.returncode


def commits(number: int, **more: object) -> dict:
    argv = ["git", "commit", "--quiet", "--allow-empty", "-m", f"work {number}"]
    return {"id": number, "title": f"Commits {number}", "run": argv, **more}


def advice(text: str) -> list[str]:
    return [line.strip() for line in text.partition("\nNext:\n")[2].splitlines()]


# -- lines and summary -------------------------------------------------------------------------


def test_pipe_gets_one_plain_line_an_event(waiting):
    issues = [{**ONE, "title": "T\x1b[31m" * 900}, {**ONE, "id": 2, "depends_on": [1]}]
    said = waiting.run("run", "work", "--from", waiting.plan(issues), check=0).stdout
    assert_harmless(said)
    lines = said[: said.index("Summary")].splitlines()
    assert lines[0].startswith("Beginning batch ")
    assert all(EVENT.fullmatch(line) and len(line) <= 80 for line in lines[1:])
    words = [re.sub(r"^\S+ |:.*| in pane.*", "", line) for line in lines[1:]]
    assert words == [f"#{n} {what}" for n in (1, 2) for what in ("dispatched", "runs", "completed")]


def test_summary_tells_each_issue_and_what_to_do_about_those_that_failed(project):
    project.settings("[batch]\non_failed_dependency = 'skip'\n")
    project.commit()
    issues = [
        commits(1),
        {**ONE, "id": 2, "title": "Fails", "run": ["sh", "-c", "exit 3"]},
        {**ONE, "id": 3, "depends_on": [2]},
        {**ONE, "id": 4, "title": "Commits nothing"},
    ]
    said = project.run("run", "work", "--from", project.plan(issues), check=1).stdout
    summary = said[said.index("Summary") :]
    assert re.match(
        r"Summary of work, batch \S+: 2 completed, 1 failed, 1 skipped, in \d+s\n", summary
    )
    rows = [re.sub(r"  +", "|", line) for line in summary.splitlines()[1:6]]
    assert rows[0] == "issue|status|attempts|time|branch|why|title"
    assert re.fullmatch(r"#1\|completed\|1\|\d+s\|gangline/work/issue-1\|Commits 1", rows[1])
    assert re.fullmatch(r"#2\|failed\|1\|\d+s\|gangline/work/issue-2\|exit code 3\|Fails", rows[2])
    assert rows[3] == "#3|skipped|dependency 2 did not complete|One"
    pane = project.status()["issues"][1]["attempts"][0]["pane"]
    skipped = "(and what was skipped because of it)"
    assert advice(said) == [
        f"#2 failed: gangline logs work 2 (or pane {pane}: gangline attach work 2)",
        f"try again {skipped}: gangline retry work 2 && gangline run work",
        "merge what is done: git merge gangline/work/issue-1",
    ]
    steps = "\n".join(advice(said))
    commands = re.findall(r"(?:gangline|git) (?:logs|merge|retry) [^(&\n]*", steps)
    assert len(commands) == 3
    for command in commands:
        program, *words = command.split()
        if program == "git":
            project.git(*words)
        else:
            project.run(*words, check=0)


def test_nothing_is_advised_where_nothing_is_to_be_done(project):
    project.commit()
    said = project.run("run", "work", "--from", project.plan([ONE]), check=0).stdout
    assert "Next:" not in said
    assert "Come back" not in said


def test_many_failures_and_branches_are_named_in_few_lines(project):
    project.settings("[batch]\nmax_concurrent = 8\n")
    project.commit()
    fails = [{**ONE, "id": f"f{n}", "run": ["false"]} for n in range(5)]
    source = project.plan([*fails, *(commits(n) for n in range(5))])
    lines = advice(project.run("run", "work", "--from", source, check=1).stdout)
    assert [line.split(":")[0] for line in lines] == [
        *(f"#f{n} failed" for n in range(3)),
        "and of 2 more",
        "try again",
        "merge what is done",
    ]
    assert lines[4].endswith(
        "for i in f0 f1 f2 f3 f4; do gangline retry work $i; done; gangline run work"
    )
    merges = " && ".join(f"git merge gangline/work/issue-{n}" for n in range(3))
    assert lines[5].endswith(f"{merges}; then 2 more of: git branch --no-merged")


def test_branches_that_are_merged_are_not_advised_to_be_merged_and_archived_issues_not_retried(
    project,
):
    project.commit()
    source = project.plan([commits(1), commits(2), {**ONE, "id": 3, "run": ["false"]}])
    project.run("run", "work", "--from", source, check=1)
    project.git("merge", "--quiet", "gangline/work/issue-1")
    again = project.run("run", "work", check=1).stdout
    assert "merge what is done: git merge gangline/work/issue-2\n" in again
    assert "retry" not in again
    assert re.search(r"nothing was started\. It is archived in \S+\n", again)
    assert again.endswith("Begin another: gangline run work\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_exits_130_and_says_how_to_go_on(waiting, number):
    after = {**ONE, "depends_on": [1]}
    issues = [{**after, "id": n} for n in (2, 3, 4)]
    started = begin(waiting, issue(waiting, 1), *issues)
    waiting.run("cancel", "work", "2", check=0)
    waiting.run("skip", "work", "3", check=0)
    waiting.run("hold", "work", "4", check=0)
    waiting.run("pause", "work", check=0)
    assert end(waiting, started, number) == 130
    said = started.text()
    assert said.endswith("1 agent runs on. Come back with: gangline run work\n")
    assert advice(said)[:3] == [
        "#2, #3 put aside; to do one after all: gangline retry work 2 && gangline run work",
        "the batch is paused; dispatch again: gangline resume work",
        "#4 held; let one go: gangline release work 4",
    ]


def test_summary_can_be_read_at_forty_columns(waiting):
    terminal = Terminal(waiting, 40, 30)
    fails = {"id": 2, "title": "T" * 300, "run": ["sh", "-c", "exit 3"]}
    terminal.gangline(
        "run", "work", "--from", waiting.plan([{**ONE, "title": "제목 " * 99}, fails])
    )
    screen = terminal.wait_for("code=1")
    rows = screen[screen.index("issue  status") :].splitlines()
    assert re.fullmatch(r"#1 +completed +1? +\d+s *", rows[1])
    assert re.fullmatch(r"#2 +failed .*exit code 3", rows[2])


# -- status and list ---------------------------------------------------------------------------

ATTEMPT_KEYS = {"id", "outcome", "pane", "startedAt", "endedAt", "exitCode", "branch", "log"}
ATTEMPT_KEYS |= {"usage", "session", "resumed", "tool"}
USAGE_KEYS = {"inputTokens", "outputTokens", "costUsd", "seconds"}
ISSUE_KEYS = {"id", "title", "status", "condition", "held", "retryCount", "dependsOn", "attempts"}
ISSUE_KEYS |= {"question", "until", "asked", "usage", "messages"}
VIEW_KEYS = {"area", "batchId", "revision", "orchestrator", "counts", "issues", "usage", "budget"}
STATUSES = {"pending", "blocked", "dispatched", "completed", "failed", "skipped", "cancelled"}


def test_status_json_has_the_promised_keys(waiting):
    begin(waiting, issue(waiting, 1, "T\x1b\u202e"), {**ONE, "id": "b", "depends_on": [1]})
    text = waiting.run("status", "work", "--json", check=0).stdout
    assert_harmless(text)
    view = json.loads(text)
    assert view.keys() >= VIEW_KEYS
    assert view["orchestrator"].keys() == {"alive", "pid", "pane", "stopped"}
    assert view["orchestrator"]["alive"] is True
    assert view["counts"].keys() == STATUSES
    assert view["counts"]["dispatched"] == view["counts"]["blocked"] == 1
    assert all(one.keys() >= ISSUE_KEYS for one in view["issues"])
    first, second = view["issues"]
    assert (first["id"], second["id"]) == (1, "b")
    assert first["title"] == "T\x1b\u202e"
    assert first["condition"] == "working"
    assert second["dependsOn"] == [1]
    (attempt,) = first["attempts"]
    assert attempt.keys() >= ATTEMPT_KEYS
    assert all(one["usage"].keys() == USAGE_KEYS for one in (view, first, attempt))
    assert attempt["id"] == f"{view['batchId']}-1-a0"
    assert Path(attempt["log"]).read_text() == "works on 1\n"
    assert waiting.run("status", "work", "--json", check=0).stdout == text


def test_status_text_says_who_runs_and_how_to_go_on(waiting):
    started = begin(waiting, issue(waiting, 1), {**ONE, "id": 2, "depends_on": [1]})
    waiting.run("hold", "work", "2", check=0)
    head, columns, *rows = waiting.run("status", "work", check=0).stdout.splitlines()
    assert head == (f"work  1 blocked, 1 dispatched  (orchestrator: process {started.pid})")
    assert columns.split() == ["issue", "status", "try", "time", "pane", "title", "note"]
    assert re.fullmatch(r"#1 +dispatched +1 +\d+s +%\d+ +Title of 1", rows[0])
    assert re.fullmatch(r"#2 +blocked +One +held", rows[1])
    started.kill()
    started.wait()
    assert (
        "(no orchestrator; go on with: gangline run work)" in waiting.run("status", "work").stdout
    )
    assert re.search(r"#1 .* running\n", waiting.run("status", "work").stdout)
    let_go(waiting)
    waiting.wait_for(
        lambda: "ended with exit code 0; not yet recorded" in waiting.run("status", "work").stdout,
        "what happened since is seen",
    )


def test_status_needs_no_area_where_there_is_one(waiting):
    waiting.run("run", "work", "--from", waiting.plan([ONE]), check=0)
    assert waiting.run("status", check=0).stdout.startswith(
        "work  1 completed  (the batch is over)"
    )
    assert json.loads(waiting.run("status", "--json", check=0).stdout)["area"] == "work"
    waiting.run("run", "other", "--from", waiting.plan([ONE]), check=0)
    assert "no area is named" in waiting.refusal("status")


def test_status_loads_nothing_slow(waiting):
    waiting.run("run", "work", "--from", waiting.plan([ONE]), check=0)
    slow = {"typing", "re", "json", "click", "msgspec", "shutil", "subprocess", "enum"}
    slow |= {"contextlib", "collections", "functools"}
    script = (
        "import sys; before = set(sys.modules); from gangline.cli.main import run;"
        "code = run(['status', 'work']); new = set(sys.modules) - before;"
        f"print(code, sorted(new & {slow}))"
    )
    done = subprocess.run(
        [*waiting.command()[:1], "-I", "-c", script],
        cwd=waiting.folder,
        env=waiting.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "0 []"


def test_list_shows_every_area_also_beside_a_damaged_one(waiting):
    begin(waiting, issue(waiting, 1))
    waiting.run("run", "done", "--from", waiting.plan([ONE], "done.json"), check=0)
    lines = waiting.run("list", check=0).stdout.splitlines()
    assert [re.split(r"  +", line)[:3] for line in lines] == [
        ["area", "orchestrator", "issues"],
        ["done", "no orchestrator", "1 completed"],
        ["work", "running", "1 dispatched"],
    ]
    done, work = json.loads(waiting.run("list", "--json", check=0).stdout)
    assert done.keys() >= {"area", "batchId", "revision", "orchestrator", "counts"}
    assert work["orchestrator"]["alive"] is True
    journal = waiting.area("done") / "batch.journal.jsonl"
    journal.write_bytes(b"damaged\n" + journal.read_bytes())
    damaged = waiting.run("list", check=4)
    assert "work  running" in damaged.stdout
    done, work = json.loads(waiting.run("list", "--json", check=4).stdout)
    assert done.keys() == {"area", "error"}


# -- graph -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A batch that is over, whose titles are made to break every format."""
    made = Project(tmp_path_factory.mktemp("nasty"))
    made.settings(SHARED)
    issues = [
        {"id": f"n{n}.end-o", "title": title, "run": ["true"], "depends_on": []}
        for n, title in enumerate(NASTY)
    ]
    issues[3]["depends_on"] = ["n0.end-o", "n1.end-o"]
    made.run("run", "work", "--from", made.plan(issues), "--max-concurrent", "8", check=0)
    yield made
    made.close()


def graph(project: Project, form: str) -> str:
    said = project.run("graph", "work", "--format", form, check=0).stdout
    assert_harmless(said)
    return said


def test_graph_as_text_and_json(nasty):
    lines = graph(nasty, "text").splitlines()
    assert lines[0].split() == ["issue", "status", "after", "title"]
    assert len(lines) == 1 + len(NASTY)
    assert re.match(r"#n3\.end-o +completed +#n0\.end-o, #n1\.end-o +#hash; ", lines[4])
    found = json.loads(graph(nasty, "json"))
    shown = [" ".join(title.split()) or f"n{n}.end-o" for n, title in enumerate(NASTY)]
    assert [one["title"] for one in found["issues"]] == shown
    assert found["issues"][3]["dependsOn"] == ["n0.end-o", "n1.end-o"]


def test_graph_as_mermaid_is_read_back_as_it_was_meant(nasty):
    head, *lines = graph(nasty, "mermaid").splitlines()
    assert head == "graph TD"
    labels, edges = {}, []
    for line in lines:
        node = re.fullmatch(r'  (i\d+)\["([^"#;&<>\\`\[\]{}()|]|#\d+;)*"\]:::completed', line)
        edge = re.fullmatch(r"  (i\d+) --> (i\d+)", line)
        assert node or edge or line.startswith("  classDef completed "), line
        if node:
            label = line[line.index('"') + 1 : line.rindex('"')]
            labels[node[1]] = re.sub(r"#(\d+);", lambda code: chr(int(code[1])), label)
        elif edge:
            edges.append(edge.groups())
    assert edges == [("i0", "i3"), ("i1", "i3")]
    assert labels["i0"] == '#n0.end-o a "quoted" title'
    assert labels["i2"] == "#n2.end-o line one line two tab"
    assert labels["i3"] == "#n3.end-o #hash; #quot; &amp; &lt;"
    assert labels["i9"] == "#n9.end-o"


def test_graph_as_dot_is_read_back_as_it_was_meant(nasty):
    text = graph(nasty, "dot")
    token = re.compile(r'\s*("(?:[^"\\]|\\.)*"|->|[\[\]{};=]|[A-Za-z]+)')
    at, tokens = 0, []
    while at < len(text.rstrip()):
        found = token.match(text, at)
        assert found, text[at : at + 40]
        tokens.append(found[1])
        at = found.end()
    assert tokens[:3] == ["digraph", "gangline", "{"]
    assert tokens[-1] == "}"
    arrows = [(tokens[n - 1], tokens[n + 1]) for n, each in enumerate(tokens) if each == "->"]
    assert arrows == [('"n0.end-o"', '"n3.end-o"'), ('"n1.end-o"', '"n3.end-o"')]
    labels = {}
    for statement in filter(None, text.splitlines()[3:-1]):
        node = re.fullmatch(r'  "(\S+)" \[label="(.*)"\];', statement)
        if node:
            shown = node[2].replace("\\\\", "\0").replace("\\n", "\n").replace('\\"', '"')
            labels[node[1]] = shown.replace("\0", "\\").replace("&amp;", "&")
    assert len(labels) == len(NASTY)
    assert labels["n0.end-o"] == '#n0.end-o a "quoted" title\ncompleted'
    assert labels["n3.end-o"] == "#n3.end-o #hash; #quot; &amp; &lt;\ncompleted"
    assert labels["n4.end-o"] == "#n4.end-o back\\slash \\n \\N \\\ncompleted"


# -- logs --------------------------------------------------------------------------------------


def logs(project: Project, *argv: str) -> bytes:
    return subprocess.run(
        project.command("logs", "work", *argv),
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    ).stdout


def test_logs_are_raw_in_a_pipe_and_harmless_on_a_terminal(waiting):
    script = r"printf 'plain\n\033[31mred\n\033]0;pwned\007\033[2J\377\001last'"
    run = ["sh", "-c", script]
    waiting.run("run", "work", "--from", waiting.plan([{**ONE, "run": run}]), check=0)
    assert logs(waiting, "1") == b"plain\n\x1b[31mred\n\x1b]0;pwned\x07\x1b[2J\xff\x01last"
    terminal = Terminal(waiting)
    terminal.tmux("select-pane", "-T", "mine")
    terminal.gangline("logs", "work", "#1")
    screen = terminal.wait_for("code=0")
    assert "plain\nred\n^[]0;pwned^G^[[2J" in screen
    assert terminal.tmux("display-message", "-p", "#{pane_title}") == "mine\n"
    styled = terminal.screen(styles=True)
    assert "\x1b[31mred" in styled
    assert "\x1b[31m" not in styled[styled.index("code=0") - 10 :]  # the colour ended with the log


def test_logs_follow_until_the_attempt_ends_and_no_longer(waiting):
    started = begin(waiting, issue(waiting, 1))
    following = waiting.start("logs", "work", "1", "-f")
    waiting.wait_for(lambda: following.text() == "works on 1\n", "what is there")
    let_go(waiting)
    waiting.wait_for(lambda: following.poll() is not None, "it ends with the attempt")
    assert following.returncode == 0
    waiting.wait_for(lambda: started.poll() is not None, "the run ends")
    assert logs(waiting, "1", "--follow") == b"works on 1\n"


def test_logs_follow_ends_with_an_agent_that_died(waiting):
    started = begin(waiting, issue(waiting, 1))
    started.kill()
    started.wait()
    following = waiting.start("logs", "work", "1", "-f")
    waiting.wait_for(lambda: following.text() == "works on 1\n", "what is there")
    waiting.tmux("kill-server")
    waiting.wait_for(lambda: following.poll() is not None, "it ends with the attempt")


def test_logs_of_each_attempt_are_kept(waiting):
    count = waiting.room / "count"
    run = [
        "sh",
        "-c",
        'echo "$GANGLINE_ATTEMPT"; echo >>"$1"; [ $(wc -l <"$1") = 2 ]',
        "x",
        str(count),
    ]
    waiting.run("run", "work", "--from", waiting.plan([{**ONE, "run": run}]), check=1)
    waiting.run("retry", "work", "1", check=0)
    waiting.run("run", "work", check=0)
    assert logs(waiting, "1", "--attempt", "0").endswith(b"-a0\n")
    assert logs(waiting, "1", "--attempt", "1") == logs(waiting, "1")
    said = waiting.refusal("logs", "work", "1", "--attempt", "2")
    assert "#1 has no attempt 2" in said
    assert "hint: it has 0, 1" in said


def test_logs_that_cannot_be_are_refused_with_what_to_do(waiting):
    begin(waiting, issue(waiting, 1), {**ONE, "id": 2, "depends_on": [1]})
    assert (
        "#2 has no attempt yet; it is blocked" in waiting.run("logs", "work", "2", check=2).stderr
    )


def test_huge_log_is_not_read_into_memory(waiting):
    waiting.run("run", "work", "--from", waiting.plan([ONE]), check=0)
    log = Path(waiting.status()["issues"][0]["attempts"][0]["log"])
    with log.open("r+b") as file:
        file.truncate(400_000_000)  # sparse
    limit = 300_000_000
    done = subprocess.run(
        waiting.command("logs", "work", "1"),
        cwd=waiting.folder,
        env=waiting.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


# -- the rest ----------------------------------------------------------------------------------


def test_exit_codes_are_the_promised_ones(waiting):
    fails = {**ONE, "run": ["false"]}
    waiting.run("run", "good", "--from", waiting.plan([ONE]), check=0)
    waiting.run("run", "good", check=0)  # shown again and archived
    waiting.run("run", "bad", "--from", waiting.plan([fails]), check=1)
    waiting.run("status", "bad", check=0)
    waiting.run("run", "bad", check=1)
    waiting.run("run", "bad", check=2)  # archived: there are no issues now
    started = begin(waiting, issue(waiting, 1))
    waiting.run("run", "work", check=3)
    waiting.run("run", "work", "--new", check=3)
    assert end(waiting, started) == 130
    journal = waiting.area() / "batch.journal.jsonl"
    journal.write_bytes(b"damaged\n" + journal.read_bytes())
    waiting.run("run", "work", check=4)
    waiting.run("status", "work", check=4)


@pytest.mark.parametrize(
    "command",
    ["", "init", "plan", "run", "status", "list", "graph", "logs", "attach", "cancel", "skip",
     "retry", "hold", "release", "pause", "resume", "drain", "stop", "demo", "send", "ask", "done",
     "fail", "agents"],
)  # fmt: skip
def test_every_command_explains_itself_in_eighty_columns(project, command):
    said = project.run(*command.split(), "-h", check=0).stdout
    assert said.startswith(f"Usage: gangline {command}".rstrip())
    assert max(map(len, said.splitlines())) <= 80
    assert said == project.run(*command.split(), "--help", check=0).stdout
    summary = said.splitlines()[2].strip()
    assert summary[0].isupper()
    if not command:
        assert "..." not in said.split("Commands:")[1]


def test_version_is_said(project):
    assert re.fullmatch(r"gangline \d+\.\d+\.\d+\n", project.run("--version", check=0).stdout)


def test_output_that_can_show_only_ascii_does_not_end_the_run(waiting):
    source = waiting.plan([{**ONE, "title": "제목 …"}])
    env = {"PYTHONIOENCODING": "ascii"}
    assert "???" not in waiting.run("run", "work", "--from", source, env=env, check=0).stderr
    assert "??" in waiting.run("status", "work", env=env, check=0).stdout
