"""`gangline doctor`: what is not well is named, what is told mends it, nothing is changed."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from project import Project, assert_harmless

from gangline.app.agents_found import Question
from gangline.app.machine import ask_versions
from gangline.cli.doctor import show_doctor
from gangline.core.digest import with_crc, with_digest

SHARED = "[workspace]\nkind = 'shared'\n"
SLEEPS = {"id": 1, "title": "Sleeps", "run": ["sleep", "100000"]}
ENDS = [
    {"id": 1, "title": "One", "run": ["true"]},
    {"id": 2, "title": "Two", "run": ["false"], "depends_on": [1]},
]
LEFT_BEHIND = {"process", "session", "pane", "worktree", "attempt-folder", "kept-file",
               "part-file", "lock-file"}  # fmt: skip


# The doctor as a command of its own, as long as the command line has none.
class Examined(Project):
    """A project that is examined by the doctor."""

    def doctor(self, *argv: str, check: int | None = 0) -> list[dict]:
        """The findings; the doctor has to change nothing."""
        before, processes, server = self.snapshot(), set(self.processes()), self.socket.exists()
        locks = self.area().parent / ".locks"
        had = sorted(os.listdir(locks)) if locks.exists() else None
        done = self.run("doctor", *argv, "--json", check=check)
        assert done.stderr == ""
        assert self.snapshot() == before
        assert (sorted(os.listdir(locks)) if locks.exists() else None) == had
        assert set(self.processes()) <= processes
        assert self.socket.exists() == server
        found = json.loads(done.stdout)
        assert_harmless(done.stdout)
        for each in found:
            assert {"check", "level", "message"} <= each.keys() <= KEYS
            assert each["level"] in ("ok", "note", "wrong")
        return found

    def ill(self, *argv: str, check: int | None = 0) -> dict[str, list[dict]]:
        """By check, what is not ok of area and leavings (machines differ in their programs)."""
        found: dict[str, list[dict]] = {}
        for each in self.doctor(*argv, check=check):
            if each["level"] != "ok" and each["check"] not in ("program", "agent", "space"):
                found.setdefault(each["check"], []).append(each)
        return found

    def follow(self, finding: dict) -> None:
        """Type the command that a finding tells."""
        done = self.run_shell(f"{{ {finding['command']}\n}} 2>&1")
        assert done.returncode == 0, (finding, done.stdout)

    def begin(self, *issues: dict) -> int:
        """An orchestrator whose issues run; its process."""
        run = self.start("run", "work", "--from", self.plan(issues))
        self.wait_for(
            lambda: run.text().count("runs in pane") >= len(issues) and self.agents(),
            "the agents run",
        )
        return run.pid

    def agents(self) -> list[int]:
        return [pid for pid, words in self.processes().items() if words == "sleep 100000"]


KEYS = {"check", "area", "level", "message", "command"}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Examined]:
    made = Examined(tmp_path)
    yield made
    made.close()


@pytest.fixture
def ended(project: Examined) -> Examined:
    """A project whose batch has ended with a failure, in a shared folder."""
    project.settings(SHARED)
    project.run("run", "work", "--from", project.plan(ENDS), check=1)
    return project


def one(found: dict[str, list[dict]], check: str) -> dict:
    assert len(found[check]) == 1, found[check]
    return found[check][0]


def is_gone(process: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True


# -- the machine -------------------------------------------------------------------------------


def test_healthy_project_has_nothing_wrong_and_gets_no_workspace(project):
    assert project.ill() == {}
    assert not (project.folder / ".workspace").exists()
    found = {each["check"] for each in project.doctor()}
    assert found >= {"program", "file-system", "space", "clock", "boot", "settings", "tmux"}


def test_programs_are_named_with_their_versions(project):
    project.program("gh", "printf 'gh version 2.40.1 (2023)\\nhttps://example.invalid\\n'")
    project.program("claude", "printf '\\033]0;x\\0072.1.330 (Claude \\033[31mCode)\\n'")
    project.program("mine", "echo 'no number here'")
    project.settings("[agents.me]\nstart = ['mine', '{prompt}']\n[agents.rel]\nstart = ['./x']\n")
    said = {e["message"]: e["level"] for e in project.doctor() if e["check"] in PROGRAMS}
    assert said.pop("gh: 2.40.1 (issues from GitHub; https://cli.github.com has it)") == "ok"
    assert said.pop("agent claude: 2.1.330") == "ok"
    assert said.pop("agent me: found, but it does not tell its version (mine)") == "ok"
    assert said.pop("agent rel: ./x in the worktree") == "ok"
    assert any(line.startswith("tmux: 3.") for line in said)
    assert any(line.startswith("git: 2.") for line in said)
    assert any(line.startswith("python: 3.") for line in said)


PROGRAMS = ("program", "agent")


def test_missing_agent_is_a_note_and_wrong_only_where_it_is_the_default(project):
    env = project.only_programs("git", "tmux")
    done = project.run("doctor", env=env, check=0)
    assert "  note   agent claude: not found\n" in done.stdout
    assert "         $ npm install --global @anthropic-ai/claude-code" in done.stdout
    project.settings("[batch]\nagent = 'claude'\n")
    done = project.run("doctor", env=env, check=2)
    assert (
        "  wrong  agent claude: not found; [batch] agent of gangline.toml names it" in done.stdout
    )


@pytest.mark.parametrize("version", ["tmux 2.9", "tmux \x1b[31m", ""])
def test_old_tmux_is_wrong(project, version):
    project.program("tmux", f"printf '%s\\n' '{version}'")
    found = [e for e in project.doctor(check=2) if e["level"] == "wrong"]
    assert any("tmux 3.2a or later is needed" in each["message"] for each in found)


def test_old_git_is_wrong_only_where_there_are_worktrees(project):
    project.program("git", "echo git version 2.20.1")
    assert any("git is too old" in e["message"] for e in project.doctor(check=2))
    project.settings(SHARED)
    levels = {e["level"] for e in project.doctor(check=0) if "git is too old" in e["message"]}
    assert levels == {"note"}


def test_programs_that_never_answer_are_ended_together_with_what_they_started(tmp_path):
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\nsleep 100000 &\necho $! >> {tmp_path}/children\nwait\n")
    script.chmod(0o755)
    start = time.monotonic()
    slow = Question([str(script)], dict(os.environ))
    said = ask_versions(dict.fromkeys(map(str, range(5)), slow), str(tmp_path), seconds=2.0)
    assert time.monotonic() - start < 6  # one after the other would be 10
    assert set(said.values()) == {"found, but it did not tell its version within 2 s"}
    children = [int(line) for line in (tmp_path / "children").read_text().split()]
    assert len(children) == 5
    deadline = time.monotonic() + 60
    while not all(map(is_gone, children)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_program_that_says_too_much_is_cut_off(tmp_path):
    start = time.monotonic()
    endless = Question(["yes", "1.2.3"], dict(os.environ))
    said = ask_versions({"yes": endless}, str(tmp_path), seconds=30.0)
    assert said == {"yes": "1.2.3"}
    assert time.monotonic() - start < 15


def test_network_file_system_is_wrong(project, monkeypatch, capsys):
    monkeypatch.chdir(project.folder)
    monkeypatch.setattr("gangline.app.doctor.file_system_type", lambda path: "nfs4")
    assert show_doctor(None, as_json=False) == 2
    assert "wrong  nfs4: locks and links cannot be relied on there" in capsys.readouterr().out


def test_scarce_room_is_a_note(project, monkeypatch, capsys):
    monkeypatch.chdir(project.folder)
    real = os.statvfs(project.folder)
    scarce = os.statvfs_result((1024, 1024, 10**9, 10**5, 10**5, 10**6, 99, 99, 0, real[9]))
    monkeypatch.setattr("gangline.app.doctor.os.statvfs", lambda path: scarce)
    assert show_doctor(None, as_json=False) == 0
    said = capsys.readouterr().out
    assert "note   only 102 MB are free; only 99 more files can be made" in said


@pytest.mark.parametrize("program", ["git", "tmux"])
def test_missing_program_is_wrong_and_the_rest_is_looked_at(project, program):
    project.run("run", "work", "--from", project.plan(ENDS[:1]), check=0)
    project.run("run", "work", check=0)
    there = {"git", "tmux"} - {program}
    done = project.run("doctor", env=project.only_programs(*there), check=2)
    assert f"  wrong  {program}" in done.stdout
    assert "the worktree issue-1 of area work" in done.stdout
    assert "Traceback" not in done.stderr


# -- settings ----------------------------------------------------------------------------------


def test_broken_settings_are_a_finding_and_the_rest_is_still_looked_at(ended):
    ended.write("gangline.toml", '[batch]\nmax_concurrent = "many\\u202e"\n')
    found = ended.ill(check=2)
    assert "gangline.toml: batch.max_concurrent" in one(found, "settings")["message"]
    assert "gangline.toml would say which server" in one(found, "tmux")["message"]
    journal = [e for e in ended.doctor(check=2) if e["check"] == "journal"]
    assert [e["level"] for e in journal] == ["ok"]


def test_unsafe_workspace_folder_is_wrong_with_what_mends_it(ended):
    (ended.folder / ".workspace").chmod(0o777)
    found = one(ended.ill(check=2), "workspace")
    assert "is writable by other users" in found["message"]
    assert f"chmod 700 {ended.folder}/.workspace" in found["message"]


def test_deleted_folder_is_a_finding(project):
    gone = project.room / "gone"
    gone.mkdir()
    line = f'cd {gone} && rmdir {gone} && exec "$0" -m gangline doctor'
    done = project.run_shell(line)
    assert done.returncode == 2, done.stderr
    assert "wrong  the current folder has been deleted" in done.stdout


# -- the state ---------------------------------------------------------------------------------


def test_batch_that_is_over_is_well(ended):
    assert ended.ill() == {}
    assert ended.ill("work") == {}
    said = [e["message"] for e in ended.doctor() if e.get("area") == "work"]
    assert "none; the batch is over" in said
    assert "agrees with the journal" in said


def test_damaged_journal_is_wrong_with_its_line_and_the_command_mends_it(ended):
    path = ended.area() / "batch.journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"at":"2', b'"at":"3', 1)
    path.write_bytes(b"".join(lines))
    (ended.area() / "batch.journal.jsonl.damaged-1").touch()  # is not written over
    found = one(ended.ill(check=4), "journal")
    assert found["level"] == "wrong"
    assert "damaged at line 3, byte" in found["message"]
    ended.follow(found)
    ended.run("pause", "work", check=0)  # what writes begins the journal anew
    assert "journal" not in ended.ill()
    kept = [each["message"] for each in ended.ill()["kept-file"]]
    assert any("batch.journal.jsonl.damaged-2" in each for each in kept)


def test_damaged_journal_with_a_broken_state_file_has_no_command(ended):
    (ended.area() / "batch.journal.jsonl").write_bytes(b"nothing\n" * 3)
    (ended.area() / "batch.state.json").write_bytes(b"{}")
    found = one(ended.ill(check=4), "journal")
    assert "damaged at line 1" in found["message"]
    assert "command" not in found


def test_newer_format_is_wrong_and_nothing_is_to_be_put_aside(ended):
    path = ended.area() / "batch.journal.jsonl"
    first, _, rest = path.read_bytes().partition(b"\n")
    newer = first[: first.rindex(b',"crc":')].replace(b'"format":1', b'"format":2')
    path.write_bytes(with_crc(newer) + rest)
    found = one(ended.ill(check=4), "journal")
    assert "format version 2" in found["message"]
    assert "update Gangline" in found["message"]
    assert "command" not in found


def test_torn_tail_is_a_note(ended):
    with (ended.area() / "batch.journal.jsonl").open("ab") as file:
        file.write(b'{"seq":99,"at":"2')
    assert "17 bytes of one that a crash cut short" in one(ended.ill(), "journal")["message"]


def test_folder_in_the_place_of_the_journal_is_wrong(ended):
    path = ended.area() / "batch.journal.jsonl"
    path.unlink()
    path.mkdir()
    assert str(path) in one(ended.ill(check=4), "journal")["message"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "missing or empty"),
        (b"", "missing or empty"),
        (b"\0\0\0", "broken"),
        (b"[]", "broken"),
        ("edited", "edited by hand"),
        ("lagging", "the next start brings it up"),
        ("ahead", "of another batch"),
    ],
)
def test_state_file_that_a_start_puts_right_is_a_note(ended, content, words):
    path = ended.area() / "batch.state.json"
    true = path.read_bytes()
    head = true[: true.rindex(b',\n"digest":')]
    seq = json.loads(true)["seq"]
    match content:
        case None:
            path.unlink()
        case "edited":
            path.write_bytes(true.replace(b'"paused":false', b'"paused":true'))
        case "lagging":
            ended.run("retry", "work", "2", check=0)
            path.write_bytes(true)
        case "ahead":
            text = head.replace(b'"seq":%d' % seq, b'"seq":%d' % (seq + 9), 1)
            path.write_bytes(with_digest(text))
        case _:
            path.write_bytes(content)
    found = one(ended.ill(), "state-file")
    assert (found["level"], words in found["message"]) == ("note", True), found
    if content == "lagging":  # by a retry: the others are over, and a run would archive them
        assert found["command"] == "gangline run work"
    else:
        assert "command" not in found


def test_sealed_state_file_that_contradicts_the_journal_is_wrong_and_can_be_put_aside(ended):
    path = ended.area() / "batch.state.json"
    true = path.read_bytes()
    head = true[: true.rindex(b',\n"digest":')]
    path.write_bytes(with_digest(head.replace(b'"2":"failed"', b'"2":"completed"')))
    found = one(ended.ill(check=4), "state-file")
    assert "it does not say what the journal says" in found["message"]
    ended.follow(found)
    assert ended.statuses() == {"1": "completed", "2": "failed"}
    assert one(ended.ill(), "state-file")["level"] == "note"


def test_broken_state_file_without_a_journal_is_wrong_and_can_be_put_aside(ended):
    (ended.area() / "batch.journal.jsonl").unlink()
    (ended.area() / "batch.state.json").write_bytes(b"{")
    found = one(ended.ill(check=4), "state-file")
    assert "there is no journal to rebuild it from" in found["message"]
    ended.follow(found)
    assert "state-file" not in ended.ill()


def test_clock_that_stepped_back_is_a_note(ended):
    path = ended.area() / "batch.journal.jsonl"
    lines = path.read_bytes().splitlines()
    last = lines[-1][: lines[-1].rindex(b',"crc":')].replace(b'"at":"2', b'"at":"9', 1)
    path.write_bytes(b"\n".join(lines[:-1]) + b"\n" + with_crc(last))
    (ended.area() / "batch.state.json").unlink()
    found = one(ended.ill(), "clock")
    assert found["level"] == "note"
    assert "the clock stepped back" in found["message"]


def test_living_orchestrator_and_its_attempts_are_well(project):
    project.settings(SHARED)
    orchestrator = project.begin(SLEEPS)
    assert project.ill() == {}
    said = [e["message"] for e in project.doctor("work")]
    assert any(f"alive: process {orchestrator}" in each for each in said)
    assert "1 runs" in said


def test_dead_orchestrator_and_dead_agent_are_notes_with_the_run_that_goes_on(project):
    project.settings(SHARED)
    orchestrator = project.begin(SLEEPS)
    os.kill(orchestrator, signal.SIGKILL)
    project.wait_for(lambda: is_gone(orchestrator), "it is dead")
    found = project.ill()
    assert found.keys() == {"orchestrator"}
    assert one(found, "orchestrator")["command"] == "gangline run work"
    assert "died" in one(found, "orchestrator")["message"]
    for process in project.processes():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    project.wait_for(lambda: not project.processes(), "all is dead")
    found = project.ill()
    assert found.keys() == {"orchestrator", "attempt"}
    assert "-1-a0, dispatched " in one(found, "attempt")["message"]
    assert one(found, "attempt")["message"].endswith(": it died")


def test_orchestrator_that_stopped_is_a_note_which_says_why_in_words(project):
    project.settings(SHARED)
    orchestrator = project.begin(SLEEPS)
    os.kill(orchestrator, signal.SIGINT)
    project.wait_for(lambda: is_gone(orchestrator), "it has stopped")
    said = one(project.ill(), "orchestrator")
    assert said["message"] == "stopped (Ctrl-C); the next start resumes the batch"
    assert said["command"] == "gangline run work"


# -- what is left behind -----------------------------------------------------------------------


def test_killed_run_whose_area_was_deleted_is_told_and_cleaned_up_by_what_is_told(project):
    orchestrator = project.begin(SLEEPS)
    os.kill(orchestrator, signal.SIGKILL)
    project.wait_for(lambda: is_gone(orchestrator), "it is dead")
    agent = project.agents()
    shutil.rmtree(project.area())
    found = project.ill(check=4)
    assert found.keys() == {"process", "session", "worktree", "lock-file"}
    process = one(found, "process")
    assert process["level"] == "wrong"
    assert process["command"] == f"kill {agent[0]}"
    assert one(found, "session")["command"] == (
        f"tmux -S {project.socket} kill-session -t =gangline-work"
    )
    worktree = one(found, "worktree")
    assert "issue-1 of area work, on branch gangline/work/issue-1," in worktree["message"]
    named = project.ill("work", check=4)
    assert one(named, "area")["message"] == "it has no batch"
    assert named == {**found, "area": named["area"]}
    assert project.ill("other").keys() == {"area"}
    for each in ("process", "session", "worktree", "lock-file"):
        project.follow(one(found, each))
        project.wait_for(lambda: not any(map(is_alive, agent)), "the agent is gone")
    project.wait_for(lambda: not project.processes(), "its runner is gone")
    assert project.ill() == {}
    assert "gangline/work/issue-1" in project.git("branch", "--list", "--all")


def is_alive(process: int) -> bool:
    return not is_gone(process)


def test_worktree_with_work_is_never_removed_by_force_and_keeps_what_is_in_it(project):
    commits = "echo new > kept && git add kept && git commit --quiet -m Work && echo more > dirty"
    issues = [{"id": "a.b", "title": "Works", "run": ["sh", "-c", commits]}]
    project.run("run", "work", "--from", project.plan(issues), check=0)
    assert project.ill() == {}
    project.run("run", "work", check=0)  # archives it: the area has no batch any more
    found = one(project.ill(), "worktree")
    assert "1 commit that the base lacks and uncommitted changes" in found["message"]
    assert "force" not in found["command"]
    project.follow(found)
    assert "worktree" not in project.ill()
    assert not (project.folder / ".workspace/worktrees/work/issue-a.b").exists()
    assert project.git("show", "gangline/work/issue-a.b:kept") == "new"
    assert project.git("show", "stash@{0}^3:dirty") == "more"


def test_worktree_of_an_issue_that_is_in_the_batch_is_well_and_another_is_not(project):
    project.run("run", "work", "--from", project.plan(ENDS[:1]), check=0)
    path = project.folder / ".workspace/worktrees/work/issue-99"
    project.git("worktree", "add", "--quiet", "--detach", str(path))
    found = one(project.ill(), "worktree")
    assert "issue-99 of area work is of no batch" in found["message"]
    project.follow(found)
    assert project.ill() == {}


def test_registered_worktree_without_its_folder_is_pruned(project):
    project.run("run", "work", "--from", project.plan(ENDS[:1]), check=0)
    shutil.rmtree(project.folder / ".workspace/worktrees/work/issue-1")
    found = one(project.ill(), "worktree")
    assert found["command"] == f"git -C {project.folder} worktree prune"
    others = project.room / "other's"
    project.git("worktree", "add", "--quiet", "--detach", str(others))
    others.rename(project.room / "unplugged")
    found = one(project.ill(), "worktree")  # one that is not ours may come back
    assert "worktree remove" in found["command"]
    project.follow(found)
    assert project.ill() == {}
    assert "other's" in project.git("worktree", "list")


def test_folder_among_the_worktrees_that_is_none_is_to_be_looked_at(project):
    trees = project.folder / ".workspace/worktrees/work"
    (trees / "issue-1.broken-1").mkdir(parents=True)
    (trees / "issue-1.broken-1/work").write_text("mine")
    (trees / "issue-2").mkdir()
    (trees / "issue-3.making").touch()
    found = {each["message"].split()[0]: each for each in project.ill()["worktree"]}
    assert found["issue-1.broken-1"]["command"].startswith("ls -lA -- ")
    for each in ("issue-2", "issue-3.making"):
        project.follow(found[each])
    assert [e["message"].split()[0] for e in project.ill()["worktree"]] == ["issue-1.broken-1"]


def test_attempt_folders_without_a_batch_go_by_what_is_told(ended):
    for name in ("batch.journal.jsonl", "batch.state.json"):
        (ended.area() / name).unlink()
    found = ended.ill()
    assert found.keys() == {"session", "attempt-folder", "lock-file"}  # a failed pane is kept
    assert (
        "2 attempt folders are of no batch of area work" in one(found, "attempt-folder")["message"]
    )
    for each in found:
        ended.follow(one(found, each))
    assert ended.ill() == {}


def test_attempt_folder_of_another_batch_is_told_and_those_of_this_are_kept(ended):
    attempts = ended.area() / "attempts"
    (attempts / "20000101-000000-abcd-1-a0").mkdir()
    before = sorted(os.listdir(attempts))
    ended.follow(one(ended.ill(), "attempt-folder"))
    assert [name for name in before if not name.startswith("2000")] == sorted(os.listdir(attempts))
    assert ended.ill() == {}


def test_files_that_were_kept_and_parts_that_were_left_are_told(ended):
    area = ended.area()
    (area / "batch.state.json.rejected-1").touch()
    (area / "batch.state.json.part").touch()
    (area / "batch.issues.json.999999999.part").touch()
    mine = area / f"batch.issues.json.{os.getpid()}.part"
    mine.touch()
    found = ended.ill()
    assert found.keys() == {"kept-file", "part-file"}
    for each in (*found["kept-file"], *found["part-file"]):
        ended.follow(each)
    assert ended.ill() == {}
    assert mine.exists()  # its writer lives


def test_pane_that_is_kept_for_an_attempt_which_is_not_open_is_given_back(project):
    project.settings(SHARED)
    project.begin(SLEEPS)
    attempt = project.status()["issues"][0]["attempts"][0]["id"]
    mark = json.loads((project.area() / "batch.state.json").read_text())["detail"]["1"]
    marks = {
        "open": f"{mark['attempts'][0]['mark']}@123",
        "over": f"{attempt[:-1]}7.0123456789abcdef@123",
        "gone": "20000101-000000-abcd-1-a0.0123456789abcdef@123",
        "others": "20000101-000000-abcd-1-a0.0123456789abcdef@123",
    }
    panes = {}
    for name, value in marks.items():
        folder = "/" if name == "others" else str(project.folder)
        made = ("new-session", "-d", "-P", "-F", "#{pane_id}", "-s", name, "-c", folder)
        panes[name] = project.tmux(*made, "cat", "-").stdout.strip()
        project.tmux("set-option", "-p", "-t", panes[name], "@gangline_attempt", value)
    found = project.ill()["pane"]
    assert {each["command"].split()[-2] for each in found} == {panes["over"], panes["gone"]}
    for each in found:
        project.follow(each)
    assert project.ill() == {}
    shown = project.tmux("show-options", "-p", "-t", panes["open"], "@gangline_attempt").stdout
    assert marks["open"] in shown


def test_nothing_of_a_batch_that_runs_and_ends_meanwhile_is_taken_for_left_behind(project):
    argv = ["sh", "-c", "git commit --quiet --allow-empty -m Work"]
    plan = project.plan([{"id": n, "title": "Work", "run": argv} for n in range(30)])
    run = project.start("run", "work", "--from", plan, "--max-concurrent", "4")
    project.wait_for((project.area() / "batch.state.json").exists, "it has begun")
    looks = 0
    while run.poll() is None:
        found = json.loads(project.run("doctor", "--json", check=0).stdout)
        told = [e for e in found if e["level"] != "ok" and e["check"] not in PROGRAMS]
        assert told == []
        looks += 1
    assert looks
    assert run.returncode == 0


def test_area_that_cannot_be_read_has_no_orphans(project):
    orchestrator = project.begin(SLEEPS)
    os.kill(orchestrator, signal.SIGKILL)
    project.wait_for(lambda: is_gone(orchestrator), "it is dead")
    path = project.area() / "batch.journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"at":"2', b'"at":"3', 1))
    assert not LEFT_BEHIND & project.ill(check=4).keys()


# -- output ------------------------------------------------------------------------------------


def test_commands_work_for_a_path_that_no_terminal_can_show(tmp_path):
    name = 'it\'s a "pro ject" $(touch pwned) `touch pwned` \x1b[31m\n-x'
    project = Examined(tmp_path, name=name)
    try:
        orchestrator = project.begin(SLEEPS)
        os.kill(orchestrator, signal.SIGKILL)
        project.wait_for(lambda: is_gone(orchestrator), "it is dead")
        shutil.rmtree(project.area())
        shown = project.run("doctor", check=4).stdout
        assert_harmless(shown)
        commands = [line[11:] for line in shown.splitlines() if line.startswith(" " * 9 + "$ ")]
        ours = [each for each in commands if not each.startswith(("npm ", "pipx "))]
        assert len(ours) == 4
        for each in ours:
            done = project.run_shell(f"exec bash -c {quoted(each)}")
            assert done.returncode == 0, (each, done.stderr)
            project.wait_for(lambda: not project.agents(), "the agent is gone")
        project.wait_for(lambda: not project.processes(), "its runner is gone")
        assert project.ill() == {}
        assert not list(tmp_path.rglob("pwned"))
    finally:
        project.close()


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def test_lines_fit_a_terminal_and_commands_are_whole(ended):
    ended.run("retry", "work", "2", check=0)
    (ended.area() / "batch.state.json").unlink()
    with (ended.area() / "batch.journal.jsonl").open("ab") as file:
        file.write(b'{"seq":99,"at":"2')
    code, shown = ended.run_in_terminal("doctor")
    assert code == 0
    lines = shown.splitlines()
    told = [line for line in lines if not line.startswith(" " * 9 + "$ ")]
    assert max(len(line) for line in told if str(ended.folder) not in line) <= 80
    assert "         $ gangline run work" in lines
    assert "area work" in lines
    assert "notes" in lines[-1] or "note" in lines[-1]
    piped = ended.run("doctor", check=0).stdout
    assert "it was never committed, and the next start drops it" in piped


def test_named_area_without_a_batch_is_said_with_what_was_probably_meant(ended):
    found = one(ended.ill("wrok"), "area")
    assert (found["level"], found["message"]) == ("note", "it has no batch; did you mean work?")
    assert found["area"] == "wrok"


def test_batch_in_a_folder_that_can_be_no_area_is_wrong(ended):
    strange = ended.area("wo rk\x1b")
    strange.mkdir()
    shutil.copy(ended.area() / "batch.journal.jsonl", strange)
    found = ended.ill(check=4)["area"][0]
    assert found["level"] == "wrong"
    assert "is not a usable name" in found["message"]
    assert ended.ill("work") == {}
