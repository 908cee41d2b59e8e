"""`gangline recover AREA --plan` foretells what `gangline run` then does, and touches nothing."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, Started, assert_harmless

from gangline.core.digest import with_crc, with_digest
from gangline.store.locks import lock_is_held

# An agent that notes its process, and runs until it is let go; its exit code is what is in `let`.
AGENT = """\
echo $$ >>"$0/pid-$1"
while [ ! -s "$0/let-$1" ]; do sleep 0.02; done
exit $(cat "$0/let-$1")
"""


class Work:
    """A project in a shared folder with agents that can be steered one by one."""

    def __init__(self, project: Project) -> None:
        self.project = project
        project.settings("[workspace]\nkind = 'shared'\n")

    def issue(self, number: int, *after: int) -> dict:
        argv = ["sh", "-c", AGENT, str(self.project.room), str(number)]
        return {"id": number, "title": f"Issue {number}", "depends_on": after, "run": argv}

    def begin(self, *issues: dict, width: int, running: int) -> Started:
        """Start an orchestrator; so many agents run, in recorded panes, when it returns."""
        source = self.project.plan(issues)
        started = self.project.start(
            "run", "work", "--from", source, "--max-concurrent", str(width)
        )
        self.project.wait_for(lambda: started.text().count("runs in pane") >= running, "panes")
        for number in range(1, running + 1):
            self.project.wait_for(lambda n=number: self.pids(n), f"agent {number} runs")
        return started

    def pids(self, number: int) -> list[int]:
        path = self.project.room / f"pid-{number}"
        return [int(line) for line in path.read_text().splitlines()] if path.exists() else []

    def let(self, number: int, code: int = 0) -> None:
        (self.project.room / f"let-{number}").write_text(f"{code}\n")

    def runner(self, number: int) -> int:
        last = max(self.attempts(number), key=lambda path: int(path.name.rpartition("-a")[2]))
        pid: int = json.loads((last / "claim").read_text())["pid"]
        return pid

    def attempts(self, number: int) -> list[Path]:
        return list((self.project.area() / "attempts").glob(f"*-{number}-a*"))

    def gone(self, pid: int) -> None:
        self.project.wait_for(lambda: pid not in self.project.processes(), f"{pid} has ended")

    def kill(self, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            self.gone(pid)

    def end(self, number: int, code: int = 0) -> None:
        """Let the agent end, and wait until nothing of its attempt is left."""
        runner = self.runner(number)
        self.let(number, code)
        self.gone(runner)

    def plan(self, *, check: int = 0) -> dict:
        """The plan as JSON; asking for it, in both forms, changes nothing."""
        text, _ = self.ask(as_json=False, check=check)
        assert_harmless(text)
        return json.loads(self.ask(as_json=True, check=check)[0])

    def runners_have_said_all(self) -> bool:
        """Whether no living runner is about to write which session it has started, or its log."""
        return not any(
            (path.stat().st_size == 0 or not (path.parent / "output.log").exists())
            and lock_is_held(str(path.parent / "lock"))
            for path in self.project.area().glob("attempts/*/starting")
        )

    def ask(self, *, as_json: bool, check: int, area: str = "work") -> tuple[str, str]:
        project = self.project
        project.wait_for(self.runners_have_said_all, "runners have noted what they started")
        before, programs = project.snapshot(), self.programs()
        locks = self.locks()
        panes = project.tmux("list-panes", "-a").stdout
        form = ["--json"] if as_json else []
        done = project.run("recover", area, "--plan", *form, check=check)
        assert project.snapshot() == before
        assert self.locks() == locks
        assert self.programs() <= programs
        assert project.tmux("list-panes", "-a").stdout == panes
        return done.stdout, done.stderr

    def locks(self) -> list[str]:
        folder = self.project.folder / ".workspace" / "orchestrate" / ".locks"
        return sorted(os.listdir(folder)) if folder.exists() else []

    def programs(self) -> set[str]:
        """What runs below the project, but for the short sleeps of the agents."""
        words = self.project.processes().values()
        return {each for each in words if each and not each.startswith("sleep")}

    def recorded(self) -> dict[str, tuple[str, int]]:
        return {
            str(one["id"]): (one["status"], one["retryCount"])
            for one in self.project.status()["issues"]
        }


@pytest.fixture
def work(project: Project) -> Iterator[Work]:
    return Work(project)


def by_id(plan: dict) -> dict[int, dict]:
    return {issue["id"]: issue for issue in plan["issues"]}


def actions(plan: dict) -> dict[int, str]:
    return {issue["id"]: issue["action"] for issue in plan["issues"]}


def foretold(plan: dict) -> dict[str, tuple[str, int]]:
    return {
        str(one["id"]): (one["expectedStatus"], one["expectedRetryCount"]) for one in plan["issues"]
    }


def comes_true(work: Work, plan: dict) -> Started:
    """Run until each issue stands as it was foretold, and still does when the run has let go."""
    expected = foretold(plan)
    resumed = work.project.start("run", "work")

    def stands() -> bool:
        return {key: work.recorded()[key] for key in expected} == expected

    def has_begun() -> bool:
        orchestrates = work.project.status()["orchestrator"]["pid"] == resumed.pid
        return orchestrates or resumed.poll() is not None

    work.project.wait_for(has_begun, "the run has the batch")
    work.project.wait_for(stands, f"{expected} comes about")
    resumed.send_signal(signal.SIGINT)  # taken only between two passes
    work.project.wait_for(lambda: resumed.poll() is not None, "the run lets go")
    assert stands(), work.recorded()
    return resumed


# -- what run then does ------------------------------------------------------------------------


def test_each_prediction_after_kill_9_comes_true(work: Work) -> None:
    issues = [work.issue(n) for n in range(1, 8)]
    issues += [work.issue(8, 2), work.issue(9, 1), work.issue(10)]
    orchestrator = work.begin(*issues, width=7, running=7)
    work.kill(orchestrator.pid)
    orchestrator.wait()
    work.end(2)  # completed while nobody looked
    work.end(3, code=3)  # failed
    runner = work.runner(4)
    work.kill(work.pids(4)[0])  # its runner writes down that it was killed
    work.gone(runner)
    work.kill(work.runner(5))  # the agent lives on, or goes with its runner
    plan = work.plan()
    found = by_id(plan)

    assert {n: found[n]["verdict"] for n in range(1, 8)} == {
        **dict.fromkeys((1, 6, 7), "running"),
        **dict.fromkeys((2, 3), "finished"),
        **dict.fromkeys((4, 5), "died"),
    }
    said = actions(plan)
    assert said[1] == "nothing: it runs"
    assert said[2] == "completed is recorded, then #8 is unblocked"
    assert said[3] == "marked failed: exit code 3"
    assert said[4].startswith("died is recorded: the agent was killed by signal 9")
    assert "its runner was killed" in said[5]
    assert said[9] == "waits for #1"
    assert f"claim: its runner, process {work.runner(1)}" in found[1]["evidence"]
    assert "exit.json: exit code 3" in found[3]["evidence"]
    charged = "re-dispatched, charged as its one retry"
    assert [said[n].endswith(charged) for n in (4, 5)] == [True, True]
    assert found[4]["rule"]["source"] == "orchestrator-recovery.md, Auto-Retry Policy"

    comes_true(work, plan)
    assert work.recorded()["4"] == ("dispatched", 1)
    assert len(work.attempts(1)) == 1


def test_second_death_is_foretold_as_failed_and_comes_true(work: Work) -> None:
    orchestrator = work.begin(work.issue(1), work.issue(2, 1), width=1, running=1)
    work.kill(work.pids(1)[0])
    work.project.wait_for(lambda: len(work.pids(1)) == 2, "it is re-dispatched")
    work.kill(orchestrator.pid)
    orchestrator.wait()
    runner = work.runner(1)
    work.kill(work.pids(1)[1])
    work.gone(runner)
    plan = work.plan()
    assert actions(plan) == {
        1: "marked failed: died again: the agent was killed by signal 9; not retried by itself "
        "any more, then #2 is unblocked",
        2: "unblocked, then dispatched",
    }
    comes_true(work, plan)


def test_lost_tmux_server_is_named_and_the_prediction_comes_true(work: Work) -> None:
    orchestrator = work.begin(*(work.issue(n) for n in (1, 2, 3, 4)), width=3, running=3)
    work.kill(orchestrator.pid)
    orchestrator.wait()
    assert work.project.tmux("kill-server").returncode == 0
    work.project.wait_for(lambda: not work.project.processes(), "everything has ended")
    plan = work.plan()
    for number in (1, 2, 3):
        issue = by_id(plan)[number]
        assert any(w.startswith("tmux server ") and w.endswith(": gone") for w in issue["evidence"])
        assert issue["verdict"] == "died"
    assert sum(one["expectedRetryCount"] for one in plan["issues"]) == 3
    comes_true(work, plan)


def test_wish_hold_and_pause_are_told_and_come_true(work: Work) -> None:
    orchestrator = work.begin(*(work.issue(n) for n in (1, 2, 3)), width=2, running=2)
    work.kill(orchestrator.pid)
    orchestrator.wait()
    for argv in (("cancel", "work", "1"), ("hold", "work", "3")):
        work.project.run(*argv, check=0)
    plan = work.plan()
    assert actions(plan) == {
        1: "its agent is ended on request, then cancelled is recorded: cancelled on request",
        2: "nothing: it runs",
        3: "not dispatched: it is held until gangline release work 3",
    }
    assert by_id(plan)[1]["wish"] == "cancel"
    work.project.run("pause", "work", check=0)
    assert plan["notes"] == []
    assert work.plan()["notes"] == ["the batch is paused; dispatch again: gangline resume work"]
    comes_true(work, plan)


def test_settings_that_changed_meanwhile_count_as_the_run_will_count_them(work: Work) -> None:
    orchestrator = work.begin(work.issue(1), width=1, running=1)
    work.kill(orchestrator.pid)
    orchestrator.wait()
    runner = work.runner(1)
    work.kill(work.pids(1)[0])
    work.gone(runner)
    work.project.settings("[workspace]\nkind = 'shared'\n[retry]\nmax = 0\n")
    plan = work.plan()
    assert foretold(plan) == {"1": ("failed", 0)}
    assert comes_true(work, plan).returncode == 1


def test_living_orchestrator_decides_and_is_named(work: Work) -> None:
    orchestrator = work.begin(work.issue(1), work.issue(2), width=1, running=1)
    plan = work.plan()
    assert plan["orchestrator"]["alive"] is True
    holder = plan["orchestrator"]["holder"]
    assert holder.startswith(f"process {orchestrator.pid}")
    assert plan["notes"] == [f"an orchestrator lives ({holder}): that one decides"]
    assert set(actions(plan).values()) == {"nothing: the living orchestrator decides"}
    assert foretold(plan) == {"1": (None, None), "2": (None, None)}
    assert by_id(plan)[1]["verdict"] == "running"


def test_batch_that_is_over_is_said_to_be_archived_next(work: Work) -> None:
    work.let(1)
    work.project.run("run", "work", "--from", work.project.plan([work.issue(1)]), check=0)
    plan = work.plan()
    assert plan["over"] is True
    assert plan["issues"] == []
    assert plan["notes"] == [
        "the batch is over: the next run prints its summary, archives it and starts nothing"
    ]
    assert "nothing was started" in work.project.run("run", "work", check=0).stdout


def test_unknown_area_is_refused_with_did_you_mean(work: Work) -> None:
    work.let(1)
    work.project.run("run", "work", "--from", work.project.plan([work.issue(1)]), check=0)
    said, error = work.ask(as_json=False, check=2, area="wrok")
    assert said == ""
    assert "area wrok has no batch" in error
    assert "did you mean work?" in error


def test_json_has_the_promised_keys(work: Work) -> None:
    work.begin(work.issue(1), width=1, running=1)
    plan = work.plan()
    assert plan.keys() == {
        *("area", "batchId", "revision", "orchestrator", "counts", "over", "notes", "problems"),
        "issues",
    }
    assert plan["issues"][0].keys() == {
        *("id", "title", "status", "held", "wish", "retryCount", "verdict", "evidence", "rule"),
        *("action", "expectedStatus", "expectedRetryCount"),
    }
    assert plan["issues"][0]["rule"].keys() == {"text", "source"}


def test_state_of_the_specifications_shell_is_told_by_its_panes_and_comes_true(work: Work) -> None:
    """Issue 1 was in a pane that is gone, 2 had used up its retry, 3 waits for both."""
    issues = [work.issue(1), work.issue(2), work.issue(3, 1)]
    work.project.settings(
        f"[workspace]\nkind = 'shared'\n[batch]\nfrom = '{work.project.plan(issues)}'\n"
    )
    found = {
        "area": "work",
        "batchId": "b1",
        "issues": [1, 2, 3],
        "dag": {"3": [1]},
        "status": {"1": "dispatched", "2": "dispatched", "3": "blocked"},
        "dispatched": {"1": {"pane": "%97"}, "2": {"pane": "%98", "retryCount": 1}},
        "agent": None,
        "orchestratorPane": "%0",
        **dict.fromkeys(("createdAt", "updatedAt"), "2026-01-01T00:00:00Z"),
    }
    work.project.write(".workspace/orchestrate/work/batch.state.json", json.dumps(found))
    (work.project.folder / ".workspace").chmod(0o700)
    plan = work.plan()
    assert plan["notes"] == ["the state file of the specification's shell is adopted"]
    assert by_id(plan)[1]["evidence"] == ["pane %97: gone", "signal file issue-1.exit: none"]
    assert {n: one["verdict"] for n, one in by_id(plan).items()} == {1: "died", 2: "died", 3: None}
    assert foretold(plan) == {"1": ("dispatched", 1), "2": ("failed", 1), "3": ("blocked", 0)}
    comes_true(work, plan)


# -- broken states -----------------------------------------------------------------------------


@pytest.fixture
def left(work: Work) -> Work:
    """A batch whose orchestrator was killed: #1 runs, #2 waits for a place, #3 for #1."""
    orchestrator = work.begin(work.issue(1), work.issue(2), work.issue(3, 1), width=1, running=1)
    work.kill(orchestrator.pid)
    orchestrator.wait()
    return work


def journal(work: Work) -> Path:
    return work.project.area() / "batch.journal.jsonl"


def state(work: Work) -> Path:
    return work.project.area() / "batch.state.json"


def test_damage_in_the_middle_is_said_and_what_stands_before_it_is_shown(left: Work) -> None:
    lines = journal(left).read_bytes().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if b'"type":"launched"' in line)
    whole = lines[at]
    lines[at] = whole.replace(b'"at":"2', b'"at":"3', 1)
    # Something committed after it, so that it is no torn tail.
    after = with_crc(b'{"seq":%d,"at":"2026-01-01T00:00:00.000Z","type":"paused"' % (at + 2))
    journal(left).write_bytes(b"".join([*lines[: at + 1], after]))
    plan = left.plan(check=4)
    (problem,) = plan["problems"]
    byte = sum(map(len, lines[:at]))
    assert f"damaged at line {at + 1}, byte {byte}: its checksum" in problem["message"]
    assert problem["hint"].endswith(".damaged'")
    assert plan["revision"] == at
    assert plan["notes"][0] == f"only the {at} events before the damage can be read here"
    assert "is whole" in plan["notes"][1]
    one = by_id(plan)[1]
    assert one["verdict"] == "running"
    assert one["action"] == "nothing until the state is mended; as it can be read: nothing: it runs"
    assert one["expectedStatus"] is None
    said, error = left.ask(as_json=False, check=4)
    assert "#1 Issue 1" in said
    assert "state error: the journal is damaged at line" in error


def test_torn_tail_is_said_to_be_dropped_and_the_rest_comes_true(left: Work) -> None:
    with journal(left).open("ab") as file:
        file.write(b'{"seq":99,"at":"2026')
    plan = left.plan()
    assert plan["problems"] == []
    assert "was cut short by a crash and is dropped (20 bytes" in plan["notes"][0]
    comes_true(left, plan)


def test_missing_state_file_is_said_to_be_made_anew(left: Work) -> None:
    state(left).unlink()
    plan = left.plan()
    assert plan["notes"] == ["the state file is missing: it is made anew from the journal"]
    comes_true(left, plan)
    assert state(left).exists()


def test_state_file_that_lags_is_said_to_be_made_anew(left: Work) -> None:
    old = state(left).read_bytes()
    left.project.run("hold", "work", "2", check=0)
    state(left).write_bytes(old)
    plan = left.plan()
    assert plan["notes"] == ["the state file lags 1 event behind the journal: it is made anew"]
    assert "held" in actions(plan)[2]


def test_edited_state_file_is_said_to_be_changed_by_hand(left: Work) -> None:
    state(left).write_bytes(state(left).read_bytes().replace(b"Issue 2", b"Other 2"))
    assert left.plan()["notes"][0].startswith("the state file was changed by hand")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"issues":[1,', b'"issues":[1,,', "it is no JSON"),
        (b'"1":[]', b'"1":[3]', "the dependencies form a cycle: 1 -> 3 -> 1"),
        (b'"2":"pending"', b'"2":"asleep"', "the status of issue '2' is 'asleep'"),
        (b'"3":[1]', b'"3":[9]', "issue '3' depends on '9', which is not in this batch"),
    ],
)
def test_edit_that_cannot_be_taken_is_foretold_and_the_true_batch_shown(
    left: Work, old: bytes, new: bytes, reason: str
) -> None:
    edited = state(left).read_bytes().replace(old, new)
    assert new in edited
    state(left).write_bytes(edited)
    plan = left.plan(check=4)
    (problem,) = plan["problems"]
    assert reason in problem["message"]
    (note,) = plan["notes"]
    assert note == "the state file was changed by hand; the next start refuses the change"
    foretold = "the next start keeps the changed text beside it and puts the true state back"
    assert problem["causes"][-1] == foretold
    assert by_id(plan)[1]["verdict"] == "running"
    assert {i: one["status"] for i, one in by_id(plan).items()} == {
        1: "dispatched",
        2: "pending",
        3: "blocked",
    }
    said, error = left.ask(as_json=False, check=4)
    assert "#1 Issue 1" in said
    assert reason in error
    assert state(left).read_bytes() == edited  # it was only said


def test_lines_are_folded_at_a_terminals_width_and_nothing_of_them_is_lost(left: Work) -> None:
    piped, _ = left.ask(as_json=False, check=0)
    code, shown = left.project.run_in_terminal("recover", "work", "--plan")
    assert code == 0
    assert max(len(line) for line in piped.splitlines()) > 80
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert shown.split() == piped.split()
    assert all(
        line.startswith("  ") for line in shown.splitlines()[3:] if line[0:1] not in ("", "#")
    )


def test_lost_journal_is_said_to_be_begun_anew_and_the_rest_comes_true(left: Work) -> None:
    journal(left).unlink()
    plan = left.plan()
    assert plan["notes"] == ["the journal was lost; it is begun anew from the state file"]
    assert actions(plan)[1] == "nothing: it runs"
    comes_true(left, plan)


def test_newer_format_is_said_and_nothing_of_it_is_guessed(left: Work) -> None:
    first, _, rest = journal(left).read_bytes().partition(b"\n")
    head = first[: first.rindex(b',"crc":')].replace(b'"format":1', b'"format":2')
    journal(left).write_bytes(with_crc(head) + rest)
    plan = left.plan(check=4)
    assert "format version 2" in plan["problems"][0]["message"]
    assert plan["batchId"] is None
    assert plan["issues"] == []


def test_cycle_of_a_state_without_journal_is_named_and_the_rest_is_shown(left: Work) -> None:
    journal(left).unlink()
    text = state(left).read_bytes()
    head = text[: text.rindex(b',\n"digest":')]
    assert head.count(b'"dag":{"1":[]') == 1
    state(left).write_bytes(with_digest(head.replace(b'"dag":{"1":[]', b'"dag":{"1":["3"]')))
    plan = left.plan(check=4)
    said = " ".join(p["message"] + " ".join(p["causes"]) for p in plan["problems"])
    assert "cycle" in said
    assert "1" in said
    assert "3" in said
    assert by_id(plan)[1]["verdict"] == "running"


def test_journal_that_cannot_be_read_is_said(left: Work) -> None:
    journal(left).rename(left.project.room / "aside")
    journal(left).mkdir()
    (journal(left) / "file").touch()
    plan = left.plan(check=4)
    assert str(journal(left)) in plan["problems"][0]["place"]


def test_lost_texts_of_issues_that_would_be_dispatched_need_a_person(left: Work) -> None:
    (left.project.area() / "batch.issues.json").unlink()
    assert left.plan()["problems"] == []  # nothing would be dispatched now
    left.end(1)
    plan = left.plan(check=4)
    assert "the issues' texts cannot be read" in plan["problems"][0]["message"]
    left.project.run("run", "work", check=4)
