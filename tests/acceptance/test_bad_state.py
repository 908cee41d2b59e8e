"""A state that is taken, damaged or from the future: said with what to do, and left as it is."""

import shlex
import signal

import pytest

from gangline.core.digest import with_crc, with_digest

ISSUES = [
    {"id": 1, "title": "One", "run": ["true"]},
    {"id": 2, "title": "Two", "run": ["false"], "depends_on": [1]},
]
COMMANDS = [
    ("run", "work"),
    ("status", "work"),
    ("status", "work", "--json"),
    ("graph", "work"),
    ("logs", "work", "1"),
    ("retry", "work", "2"),
    ("pause", "work"),
    ("stop", "work"),
    ("stop", "work", "--kill"),
]


@pytest.fixture
def ended(project):
    """A project whose batch has ended with a failure."""
    project.settings("[workspace]\nkind = 'shared'\n")
    project.run("run", "work", "--from", project.plan(ISSUES), check=1)
    return project


@pytest.fixture
def living(project):
    """A project with an orchestrator that waits for its one agent; and that orchestrator."""
    project.settings("[workspace]\nkind = 'shared'\n")
    source = project.plan([{"id": 1, "title": "One", "run": ["sleep", "100000"]}])
    run = project.start("run", "work", "--from", source)

    def agent_runs():
        assert run.poll() is None, run.text()
        return "#1 runs in pane" in run.text() and agents(project)

    project.wait_for(agent_runs, "the agent runs")
    return project, run


def agents(project):
    return [pid for pid, words in project.processes().items() if words == "sleep 100000"]


def test_second_run_exits_3_and_names_the_holder(living):
    project, run = living
    for more in ([], ["--new"], ["--from", "plan.json"], ["--detach"]):
        said = project.refusal("run", "work", *more, code=3)
        assert "gangline: busy error: another orchestrator has area work" in said
        assert f"process {run.pid}" in said
        assert "gangline stop work" in said
    assert run.poll() is None
    assert len(agents(project)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_run_says_how_to_come_back_and_its_agents_run_on(living, number):
    project, run = living
    before = agents(project)
    run.send_signal(number)
    assert run.wait(60) == 130
    assert run.text().splitlines()[-1].endswith("Come back with: gangline run work")
    assert "Traceback" not in run.text()
    assert agents(project) == before
    assert project.statuses() == {"1": "dispatched"}


def test_interrupt_while_issues_are_read_leaves_no_trace(project):
    project.program("gh", f"echo $$ > {project.room}/gh.pid; exec sleep 100000")
    before = project.snapshot()
    run = project.start("run", "work", "--from", "github:owner/repo", "--agent", "claude")
    project.wait_for((project.room / "gh.pid").exists, "gh is asked")
    run.send_signal(signal.SIGINT)
    assert run.wait(60) == 130
    assert "Traceback" not in run.text()
    assert project.snapshot() == before


def test_new_batch_over_an_open_one_is_refused(living):
    project, run = living
    run.send_signal(signal.SIGINT)
    run.wait(60)
    said = project.refusal("run", "work", "--new", "--from", "plan.json")
    assert "area work has a batch that is not over" in said
    assert "finish it: gangline run work" in said
    said = project.refusal("run", "work", "--only", "1")
    assert "--only chooses the issues of a new batch" in said


def damage(project, where):
    """Damage one line of the journal; its number and the offset it starts at."""
    path = project.area() / "batch.journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    index = {"first": 0, "middle": len(lines) // 2, "last": len(lines) - 1}[where]
    lines[index] = lines[index].replace(b'"at":"2', b'"at":"3', 1)
    path.write_bytes(b"".join(lines))
    return index + 1, sum(map(len, lines[:index]))


@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_damaged_journal_stops_every_command_with_line_and_byte(ended, where):
    line, byte = damage(ended, where)
    for argv in COMMANDS if where == "middle" else COMMANDS[:3]:
        said = ended.refusal(*argv, code=4)
        assert f"state error: the journal is damaged at line {line}, byte {byte}: " in said
        assert "batch.journal.jsonl" in said.partition("  at: ")[2]
        assert "hint: " in said


def test_damaged_area_does_not_hide_the_others_from_the_list(ended):
    ended.run("run", "other", "--from", "plan.json", check=1)
    damage(ended, "middle")
    done = ended.run("list", check=4)
    other, work = done.stdout.splitlines()[1:]
    assert "1 completed, 1 failed" in other
    assert "the journal is damaged at line" in work


def test_hint_for_a_damaged_journal_mends_it(ended):
    damage(ended, "middle")
    said = ended.refusal("status", "work", code=4)
    command = shlex.split(said[said.index("mv ") :])
    assert command[0] == "mv"
    assert len(command) == 3
    assert ended.run_shell(shlex.join(command)).returncode == 0
    assert ended.statuses() == {"1": "completed", "2": "failed"}
    ended.run("retry", "work", "2", check=0)
    ended.run("run", "work", check=1)
    assert [len(issue["attempts"]) for issue in ended.status()["issues"]] == [1, 2]


def test_missing_line_of_the_journal_is_damage(ended):
    path = ended.area() / "batch.journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))
    for argv in COMMANDS[:3]:
        said = ended.refusal(*argv, code=4)
        assert f"damaged at line 4, byte {sum(map(len, lines[:3]))}: it has number 5" in said


def as_version_2(text, seal, ending):
    """A sealed text as a newer Gangline would write it: format 2, sealed anew."""
    head = text[: text.rindex(ending)]
    assert head.count(b'"format":1') == 1
    return seal(head.replace(b'"format":1', b'"format":2'))


def test_newer_format_stops_every_command_and_is_left_alone(ended):
    journal, state = ended.area() / "batch.journal.jsonl", ended.area() / "batch.state.json"
    first, _, rest = journal.read_bytes().partition(b"\n")
    journal.write_bytes(as_version_2(first, with_crc, b',"crc":') + rest)
    state.write_bytes(as_version_2(state.read_bytes(), with_digest, b',\n"digest":'))
    for argv in COMMANDS:
        said = ended.refusal(*argv, code=4)
        assert "state error: the journal has format version 2; this Gangline knows 1" in said
        assert "hint: update Gangline" in said


def test_event_that_this_version_does_not_know_stops_every_command(ended):
    journal = ended.area() / "batch.journal.jsonl"
    count = len(journal.read_bytes().splitlines())
    line = b'{"seq":%d,"at":"2026-01-01T00:00:00.000Z","type":"Teleported"' % (count + 1)
    with journal.open("ab") as file:
        file.write(with_crc(line))
    for argv in COMMANDS[:4]:
        said = ended.refusal(*argv, code=4)
        assert f"line {count + 1}" in said
        assert "no event this version knows" in said


@pytest.mark.parametrize("text", ["", "{", "[]", '{"area": "work"}', "\x00" * 100])
def test_state_file_that_is_no_state_and_has_no_journal_is_never_written_over(ended, text):
    area = ended.area()
    (area / "batch.state.json").write_text(text)
    (area / "batch.journal.jsonl").unlink()
    for argv in (("run", "work", "--from", "plan.json"), ("status", "work"), ("pause", "work")):
        said = ended.refusal(*argv, code=4)
        assert "state error: the state file cannot be used, and there is no journal" in said
        assert "batch.state.json" in said
        assert "it is never written over" in said
