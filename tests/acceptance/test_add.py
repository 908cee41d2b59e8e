"""`gangline add`: issues join a batch that is not over, whole or not at all."""

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from project import Project, Started

# Keeps what it was told, and runs on as long as its file is there.
WORKER = """\
[ "$GANGLINE_ISSUE" ] || exit  # asked for its version
cat >{room}/told-$GANGLINE_ISSUE
echo "$GANGLINE_ISSUE" >>{room}/ledger
while [ -e {room}/busy-$GANGLINE_ISSUE ]; do sleep 0.02; done
"""
SETTINGS = """
agent = "worker"
[agents.worker]
start = ["worker"]
"""
SHARED = "[workspace]\nkind = 'shared'\n"
BEGUN = [
    {"id": 1, "title": "One", "body": "The body of 1."},
    {"id": 2, "title": "Two", "body": "The body of 2.", "depends_on": [1]},
]
# `gangline add`, killed when it is about to commit.
DIES = """
import os, signal, sys
from gangline.app.adding import add_issues
from gangline.app.planning import Request
from gangline.store.journal import Journal
Journal.append = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
add_issues("work", Request(source=sys.argv[1]))
"""


class Desk:
    """A project with a batch that waits, and plans to be added to it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.room = project.room
        project.settings(f"[batch]{SETTINGS}{SHARED}")
        project.program("worker", WORKER.format(room=shlex.quote(str(self.room))))

    def begin(self, settings: str = SHARED, issues: list[dict[str, Any]] | None = None) -> None:
        """A batch of issues 1 and 2 with their texts, of which nothing was started."""
        issues = issues or BEGUN
        self.project.plan(issues, "begun.json")
        dag = {str(issue["id"]): issue.get("depends_on", []) for issue in issues}
        ids = json.dumps([issue["id"] for issue in issues])
        for source in ('from = "begun.json"\n', ""):  # only the batch knows it afterwards
            self.project.settings(f"[batch]\n{source}{SETTINGS}{settings}")
            self.project.commit()
            if source:
                self.project.run("shell", "init", "work", ids, json.dumps(dag), check=0)

    def live(self, *options: str) -> Started:
        """An orchestrator whose issue 1 runs."""
        run = self.project.start("run", "work", *options)

        def it_runs() -> bool:
            assert run.poll() is None, run.text()
            return "#1 runs in pane" in run.text() and (self.room / "ledger").exists()

        self.project.wait_for(it_runs, "issue 1 runs")
        return run

    def plan(self, *issues: dict[str, Any]) -> str:
        return self.project.plan(issues)

    def add(self, *issues: dict[str, Any]) -> str:
        """Add these; what it says."""
        return self.project.run("add", "work", "--from", self.plan(*issues), check=0).stdout

    def refused(self, *issues: dict[str, Any], code: int = 2) -> str:
        """Try to add these; it has to be refused and to change nothing."""
        source = self.plan(*issues)
        return self.project.refusal("add", "work", "--from", source, code=code)

    def texts(self) -> dict[str, dict[str, Any]]:
        """The issues' texts, by id."""
        found = json.loads((self.project.area() / "batch.issues.json").read_text())
        return {str(issue["id"]): issue for issue in found}

    def told(self, issue: int | str) -> str:
        return (self.room / f"told-{issue}").read_text()

    def ran(self) -> list[str]:
        return (self.room / "ledger").read_text().split()

    def added(self) -> list[dict[str, Any]]:
        """The additions in the journal."""
        lines = (self.project.area() / "batch.journal.jsonl").read_text().splitlines()
        return [event for event in map(json.loads, lines) if event.get("by") == "add"]


@pytest.fixture
def desk(project: Project) -> Iterator[Desk]:
    desk = Desk(project)
    yield desk
    for path in desk.room.glob("busy-*"):
        path.unlink()


@pytest.fixture
def begun(desk: Desk) -> Desk:
    desk.begin()
    return desk


def issue(number: object, *depends_on: object, **more: object) -> dict[str, Any]:
    found = {"id": number, "title": f"Title {number}", "body": f"The body of {number}."}
    return {**found, "depends_on": list(depends_on), **more}


class TestJoined:
    def test_living_orchestrator_dispatches_them_with_their_own_texts(self, desk):
        (desk.room / "busy-1").touch()
        run = desk.live("--from", desk.project.plan(BEGUN, "begun.json"))
        said = desk.add(issue(3), issue(4, 1, 3), issue(5, run=["sh", "-c", "echo 5 >>../ledger"]))
        assert said == "#3 joins; #4 joins; #5 joins\n"
        desk.project.wait_for(lambda: "#3 completed" in run.text(), "3 runs beside 1")
        assert "issues were added: #3 joins; #4 joins; #5 joins" in run.text()
        (desk.room / "busy-1").unlink()
        assert run.wait(60) == 0
        assert set(desk.project.statuses().values()) == {"completed"}
        assert "The body of 3." in desk.told(3)
        assert "The body of 4." in desk.told(4)
        assert desk.ran().index("4") > desk.ran().index("1")
        assert desk.ran().count("5") == 1

    def test_without_an_orchestrator_the_next_run_does_them(self, begun):
        said = begun.add(issue(3), issue("x.1", 2, 3))
        assert "no orchestrator is running; it goes on with: gangline run work" in said
        assert begun.project.statuses()["x.1"] == "blocked"
        begun.project.run("run", "work", check=0)
        assert sorted(begun.ran()) == ["1", "2", "3", "x.1"]
        assert begun.ran()[-1] == "x.1"
        assert "The body of x.1." in begun.told("x.1")
        [event] = begun.added()
        assert [new["id"] for new in event["issues"]] == [3, "x.1"]

    def test_what_is_there_is_ignored_and_stays_as_it_is(self, begun):
        before = begun.texts()["1"]
        said = begun.add(issue(1, 3, body="another"), issue("2"), issue(3))
        assert said.splitlines()[0] == "#3 joins"
        assert begun.texts()["1"] == before
        assert begun.project.status()["issues"][0]["dependsOn"] == []
        assert begun.add(issue(3)) == "nothing to add: the batch has these issues\n"
        assert len(begun.added()) == 1

    def test_only_brings_what_it_names_and_what_that_needs(self, begun):
        source = begun.plan(issue(3), issue(4, 3), issue(5))
        begun.project.run("add", "work", "--from", source, "--only", "4", check=0)
        assert list(begun.project.statuses()) == ["1", "2", "3", "4"]

    def test_they_may_wait_for_an_issue_that_joined_by_an_edit(self, begun):
        begun.project.run("shell", "state-update", "work", ".issues += [3]", check=0)
        begun.add(issue(4, 3))
        begun.project.run("run", "work", check=0)
        assert begun.ran().index("4") > begun.ran().index("3")

    def test_they_wait_for_what_the_batch_says_and_not_for_what_the_source_said(self, begun):
        begun.project.run("shell", "state-update", "work", '.dag["2"] = []', check=0)
        begun.add(issue(3, 2), issue(4, 3))
        begun.project.run("shell", "state-update", "work", '.dag["1"] = [4]', check=0)
        begun.project.run("run", "work", check=0)
        assert begun.ran() == ["2", "3", "4", "1"]

    def test_issue_with_a_worktree_of_its_own_works_there(self, desk):
        desk.begin("[workspace]\nkind = 'worktree'\n")
        desk.add(issue(3))
        desk.project.run("run", "work", check=0)
        branches = desk.project.git("branch", "--list", "--format=%(refname:short)").split()
        assert {f"gangline/work/issue-{number}" for number in (1, 2, 3)} < set(branches)


class TestRefused:
    @pytest.mark.parametrize(
        ("issues", "words"),
        [
            ([issue(3, 4), issue(4, 3)], "the dependencies form a cycle: "),
            ([issue(3, 3)], "issue '3' depends on itself"),
            ([issue(3), issue(4, 99)], "issue '4' depends on '99', which is not in this batch"),
            ([issue(3), issue(4, agent="nobody")], "nobody"),
            ([issue(3, run=["no-such-program-here"])], "no-such-program-here"),
            ([issue(3), issue("3")], "is used twice"),
            ([issue("a"), issue("A")], "differ only in case"),
            ([issue("../x")], "may hold only letters"),
        ],
    )
    def test_what_does_not_fit_is_refused_and_nothing_is_changed(self, begun, issues, words):
        assert words in begun.refused(*issues)

    def test_id_that_differs_from_one_of_the_batch_only_in_case_is_refused(self, desk):
        desk.begin(issues=[issue(1), issue("a", 1)])
        assert "differ only in case" in desk.refused(issue(3), issue("A"))

    def test_branch_that_holds_work_is_refused(self, desk):
        desk.begin("[workspace]\nkind = 'worktree'\n")
        desk.project.git("switch", "--quiet", "--create", "gangline/work/issue-4")
        desk.project.write("work.txt", "of somebody")
        desk.project.commit()
        desk.project.git("switch", "--quiet", "main")
        assert "gangline/work/issue-4" in desk.refused(issue(3), issue(4))

    def test_batch_that_is_over_is_refused(self, begun):
        begun.project.run("run", "work", check=0)
        said = begun.refused(issue(3))
        assert "the batch of area work is over" in said
        assert "gangline run work --from SRC --new" in said

    def test_area_without_a_batch_is_refused(self, desk):
        assert "area work has no batch" in desk.refused(issue(3))

    def test_no_source_is_refused(self, begun):
        assert "no issues are named" in begun.project.refusal("add", "work")

    @pytest.mark.parametrize("option", [("--agent", "worker"), ("--max-concurrent", "3")])
    def test_what_only_a_run_can_be_told_is_refused(self, begun, option):
        source = begun.plan(issue(3))
        said = begun.project.refusal("add", "work", "--from", source, *option)
        assert f"add takes no {option[0]}" in said


class TestCrash:
    def dies(self, desk: Desk, *issues: dict[str, Any]) -> None:
        """Killed between the texts and the event."""
        done = subprocess.run(
            [sys.executable, "-c", DIES, desk.plan(*issues)],
            cwd=desk.project.folder,
            env=desk.project.environment,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
        assert set(desk.texts()) == {"1", "2", *(str(new["id"]) for new in issues)}
        assert list(desk.project.statuses()) == ["1", "2"]

    def test_the_batch_goes_on_without_them(self, begun):
        self.dies(begun, issue(3), issue(4, agent="worker"))
        begun.project.run("run", "work", check=0)
        assert begun.ran() == ["1", "2"]

    def test_they_can_be_added_again_with_another_text(self, begun):
        self.dies(begun, issue(3), issue(4))
        begun.add(issue(3, 2, body="Another body."))
        assert list(begun.project.statuses()) == ["1", "2", "3"]
        begun.project.run("run", "work", check=0)
        assert begun.ran() == ["1", "2", "3"]
        assert "Another body." in begun.told(3)

    def test_batch_of_the_specifications_shell_goes_on_without_them(self, desk):
        desk.project.run("shell", "init", "work", "[1, 2]", '{"2": [1]}', "worker", check=0)
        self.dies(desk, *BEGUN, issue(3))
        desk.project.run("run", "work", "--from", "plan.json", check=0)
        assert desk.ran() == ["1", "2"]
        assert "The body of 2." in desk.told(2)
