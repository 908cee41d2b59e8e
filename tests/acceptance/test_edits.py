"""The state as an interface: jq, editors, orch_state_update; with an orchestrator and without."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from project import Project, Started, assert_harmless

HELPERS = Path(__file__).resolve().parents[2] / "scripts" / "orchestrate-helpers.sh"
# Says in the ledger what it was told, and goes on as soon as its file is there.
WORKER = """\
[ "$GANGLINE_ISSUE" ] || exit  # asked for its version
read -r prompt
echo "$GANGLINE_ISSUE retry=$GANGLINE_RETRY $prompt" >>{room}/ledger
while [ -e {room}/busy-$GANGLINE_ISSUE ]; do sleep 0.02; done
"""
SETTINGS = """
[batch]
agent = "worker"
[workspace]
kind = "shared"
[agents.worker]
start = ["worker"]
"""


class Desk:
    """A project with the helpers of the specification's shell, and what a person does with them."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.file = project.area() / "batch.state.json"
        self.journal = project.area() / "batch.journal.jsonl"
        self.ledger = project.room / "ledger"
        project.settings(SETTINGS)
        project.program("worker", WORKER.format(room=shlex.quote(str(project.room))))
        project.program("gangline", f'exec {shlex.quote(sys.executable)} -m gangline "$@"')

    def bash(
        self, script: str, *arguments: str, code: int | None = 0
    ) -> "subprocess.CompletedProcess[str]":
        """Run lines of bash that have the helpers; its arguments are $1 and so on."""
        done = subprocess.run(
            ["bash", "-c", f". {shlex.quote(str(HELPERS))}\n{script}", "bash", *arguments],
            cwd=self.project.folder,
            env=self.project.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert_harmless(done.stderr)
        if code is not None:
            assert done.returncode == code, done.stderr
        return done

    def begin(self, issues: str = "[1,2,3]", dag: str = '{"2":[1]}') -> None:
        self.bash('orch_init work "$1" "$2" worker', issues, dag)

    def update(self, text: str, code: int = 0) -> str:
        """orch_state_update; what it says on standard error."""
        return self.bash('orch_state_update work "$1"', text, code=code).stderr

    def refused(self, text: str, code: int = 2) -> str:
        """The same, which has to be refused and to change nothing."""
        before = self.snapshot()
        said = self.update(text, code)
        assert self.snapshot() == before
        return said

    def stopped(self) -> str:
        """What a start says that stops for a person and changes nothing."""
        before = self.snapshot()
        said = self.project.run("run", "work", check=4).stderr
        assert self.snapshot() == before
        assert_harmless(said)
        return said

    def snapshot(self) -> dict[str, tuple[int, bytes]]:
        """Every path of the project but the lock files and what git excludes."""
        found = self.project.snapshot()
        unlike = ("/.locks", ".git/info")
        return {path: what for path, what in found.items() if not any(x in path for x in unlike)}

    @property
    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def edit(self, text: str) -> None:
        """An edit by hand: jq to a temporary file, which is moved into place."""
        self.bash(f"jq {shlex.quote(text)} $1 >$1.tmp && mv $1.tmp $1", str(self.file))

    def edits(self) -> list[dict[str, Any]]:
        """The edits in the journal."""
        events = map(json.loads, self.journal.read_text().splitlines())
        return [event for event in events if event["type"] == "edited"]

    def bare(self, **keys: object) -> None:
        """A state as the specification's shell writes it."""
        state = {
            "area": "work",
            "batchId": "shell-1",
            "issues": [1, 2, 3],
            "dag": {"2": [1], "3": [2]},
            "status": {"1": "pending", "2": "blocked", "3": "blocked"},
            "dispatched": {},
            "agent": "worker",
            "orchestratorPane": "%0",
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": "2026-01-01T00:00:00Z",
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps(state | keys))

    def busy(self, *issues: int) -> None:
        for issue in issues:
            (self.project.room / f"busy-{issue}").touch()

    def free(self, issue: int) -> None:
        (self.project.room / f"busy-{issue}").unlink(missing_ok=True)

    def live(self, *issues: int) -> Started:
        """An orchestrator whose agents of these issues run on until they are freed."""
        self.busy(*issues)
        run = self.project.start("run", "work")

        def all_run() -> bool:
            assert run.poll() is None, run.text()
            return all(f"#{issue} runs in pane" in run.text() for issue in issues)

        self.project.wait_for(all_run, "the agents run")
        return run


@pytest.fixture
def desk(project: Project) -> Iterator[Desk]:
    desk = Desk(project)
    yield desk
    for issue in range(10):
        desk.free(issue)


class TestFilter:
    def test_every_filter_of_the_recovery_document_does_what_it_says(self, desk):
        entry = {"pane": "%3", "dispatchedAt": "2026-01-01T00:00:00Z"}
        desk.bare(status={"1": "dispatched", "2": "blocked"}, dispatched={"1": entry})
        desk.bash(
            """set -euo pipefail
            AREA=work ISSUE=1 ORCH_PANE=%7
            orch_state_update "$AREA" ".orchestratorPane = \\"$ORCH_PANE\\""
            for _ in 1 2; do
                orch_state_update "$AREA" ".dispatched[\\"$ISSUE\\"].retryCount = ((.dispatched[\\"$ISSUE\\"].retryCount // 0) + 1)"
            done"""  # noqa: E501 - as the document writes it
        )
        assert desk.state["orchestratorPane"] == "%7"
        assert desk.state["dispatched"]["1"]["retryCount"] == 2
        assert [edit["retries"] for edit in desk.edits()] == [{"1": 1}, {"1": 2}]

    def test_change_is_journalled_as_edited_by_a_filter(self, desk):
        desk.begin()
        desk.update('.note = {"by": "me"} | .status["3"] = "cancelled" | .paused = true')
        [edit] = desk.edits()
        assert edit["by"] == "filter"
        assert (edit["extra"], edit["statuses"], edit["batch"]) == (
            {"note": {"by": "me"}},
            {"3": "cancelled"},
            {"paused": True},
        )
        desk.update("del(.note)")
        assert "note" not in desk.state
        assert desk.project.status()["paused"]

    def test_filter_that_changes_nothing_records_nothing(self, desk):
        desk.begin()
        before = desk.journal.read_bytes()
        for text in (".", '.seq = 77 | .paused = false | .dag["2"] = [1, "1"]'):
            desk.update(text)
        assert desk.journal.read_bytes() == before

    def test_issue_that_joins_with_its_edge_is_run_after_what_it_waits_for(self, desk):
        desk.begin("[1]", "{}")
        desk.update('.issues += [9] | .dag["9"] = [1] | .detail["9"].title = "Nine"')
        desk.update('.issues += ["ten"]')
        desk.project.run("run", "work", check=0)
        assert desk.project.statuses() == {"1": "completed", "9": "completed", "ten": "completed"}
        said = desk.ledger.read_text().splitlines()
        assert {"1 retry=0 /dev-pipeline work #1", "ten retry=0 /dev-pipeline work #ten"} < set(
            said
        )
        assert [line.split()[0] for line in said if line[0] in "19"] == ["1", "9"]

    def test_edge_taken_out_no_longer_holds_back(self, desk):
        desk.begin("[1,2]", '{"2":[1]}')
        desk.update('.dag["2"] |= map(select(tostring != "1"))')
        run = desk.live(1)
        desk.project.wait_for(lambda: "#2 completed" in run.text(), "2 runs beside 1")
        desk.free(1)
        assert run.wait(60) == 0

    def test_other_than_one_state_is_refused_even_without_end(self, desk):
        desk.begin()
        for text in (".a, .b", "while(true; .)"):
            said = desk.refused(text)
            assert "the jq filter gives more than one value; a state is one" in said, text
        for text in ("empty", "halt"):
            assert "the jq filter gives no value; a state is one" in desk.refused(text), text
        for text in ("null", ".status"):
            assert "gangline: input error: " in desk.refused(text), text

    def test_filter_that_is_wrong_is_refused_with_what_jq_says(self, desk):
        desk.begin()
        for text, cause in (
            (".a =", "syntax error"),
            (".a | nosuch(1)", "nosuch/1 is not defined"),
            ('error("why")', "why"),
            (".issues + 1", "cannot be added"),
            ('.a = "\x1b]0;x\x07" |', "syntax error"),
        ):
            said = desk.refused(text)
            assert "gangline: input error: the jq filter cannot be applied" in said, text
            assert cause in said, text

    def test_value_that_is_nested_without_end_is_refused(self, desk):
        desk.begin()
        for levels in (150, 5000):
            assert "gangline: input error" in desk.refused(
                f".note = reduce range({levels}) as $n (1; [.])"
            )

    def test_cycle_is_refused_whole_and_the_command_makes_room_for_it(self, desk):
        desk.begin("[1,2,3]", '{"2":[1],"3":[2]}')
        wanted = '.dag["1"] = [3] | .note = 1'
        said = desk.refused(wanted)
        assert "the dependencies form a cycle: " in said
        for edge in ("1 depends on 3", "2 depends on 1", "3 depends on 2"):
            assert f"cause: {edge}: dag[" in said
        command = said[said.index("gangline shell state-update") :].splitlines()[0]
        desk.bash(command)
        desk.update(wanted)
        assert desk.state["dag"]["1"] == [3]
        assert desk.state["note"] == 1

    def test_what_cannot_be_is_refused_with_the_reason(self, desk):
        desk.begin()
        for text, words in (
            ('.status["1"] = "asleep"', "the status of issue '1' is 'asleep'"),
            ('.dag["1"] = ["99"]', "depends on '99', which is not in this batch"),
            ('.detail["1"].agent = "nobody"', "nobody"),
            ('.issues += [7] | .detail["7"] = {"agent": "nobody"}', "nobody"),
            (".issues -= [3]", "an issue never leaves its batch"),
            ("del(.policy)", "policy is missing"),
        ):
            assert words in desk.refused(text), text

    def test_key_of_the_batch_taken_away_is_no_crash(self, desk):
        desk.begin()
        desk.update("del(.agent) | del(.paused) | del(.orchestratorPane)")
        assert (desk.state["agent"], desk.state["paused"]) == (None, False)

    def test_area_without_a_batch_is_said(self, desk):
        desk.begin()
        done = desk.bash("orch_state_update wrok .", code=2)
        assert "area wrok has no batch" in done.stderr
        assert "did you mean work?" in done.stderr

    def test_filter_without_end_blocks_nobody_and_ends_by_ctrl_c(self, desk):
        desk.begin()
        script = f". {shlex.quote(str(HELPERS))}; orch_state_update work 'def f: f; f'"
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=desk.project.folder,
            env=desk.project.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            desk.project.wait_for(lambda: is_filtering(desk.project), "the filter runs")
            desk.update(".note = 1")
            desk.project.run("pause", "work", check=0)
            assert is_filtering(desk.project)
            os.killpg(shell.pid, signal.SIGINT)
            assert shell.wait(60) == -signal.SIGINT
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait()
        assert desk.state["note"] == 1

    @pytest.mark.parametrize(("kind", "count"), [("ours", 20), ("bare", 8)])
    def test_increments_at_the_same_time_all_count(self, desk, kind, count):
        if kind == "ours":
            desk.begin()
        else:
            desk.bare()
        done = desk.bash(
            f"""for _ in $(seq {count}); do orch_state_update work '.n += 1' & done
            failed=0
            for job in $(jobs -p); do wait "$job" || failed=$((failed + 1)); done
            echo "failed=$failed" """
        )
        assert done.stdout == "failed=0\n"
        assert desk.state["n"] == count

    def test_living_orchestrator_heeds_a_filter_at_once(self, desk):
        desk.begin("[1,2]", '{"2":[1]}')
        run = desk.live(1)
        desk.update('.status["1"] = "cancelled" | .issues += [3] | .note = "kept"')
        assert run.wait(60) == 1
        assert desk.project.statuses() == {"1": "cancelled", "2": "completed", "3": "completed"}
        assert desk.state["note"] == "kept"


def is_filtering(project: Project) -> bool:
    """Whether a process of the project is inside jq, where Ctrl-C ends it at once."""
    for pid, words in project.processes().items():
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if "state-update" in words and "/jq" in maps and not caught >> (signal.SIGINT - 1) & 1:
            return True
    return False


class TestByHand:
    def test_edit_without_an_orchestrator_is_taken_by_the_next_run(self, desk):
        desk.begin("[1,2,3]", '{"2":[1]}')
        desk.edit('.status["3"] = "cancelled" | .dag["2"] = [] | .note = [1, 2]')
        done = desk.project.run("run", "work", check=1)
        said = done.stdout + done.stderr
        assert said.count("the state file was changed by hand: the change is taken") == 1
        assert desk.project.statuses() == {"1": "completed", "2": "completed", "3": "cancelled"}
        [edit] = desk.edits()
        assert (edit["by"], edit["statuses"]) == ("file", {"3": "cancelled"})
        assert desk.state["note"] == [1, 2]

    def test_issue_that_a_person_set_to_failed_is_not_said_to_have_been_unable_to_start(self, desk):
        desk.begin("[1,2]", "{}")
        desk.edit('.status["2"] = "failed"')
        said = desk.project.run("run", "work", check=1).stdout
        assert "  #2 failed and was never run: set to failed by hand\n" in said
        assert "could not be started" not in said

    def test_edit_without_an_orchestrator_is_taken_by_any_command(self, desk):
        desk.begin()
        text = desk.file.read_text().replace('"paused":false', '"paused":true')
        with desk.file.open("r+") as file:  # as an editor that writes in place
            file.write(text)
            file.truncate()
        assert not desk.project.status()["paused"]  # a look changes nothing
        desk.project.run("hold", "work", "3", check=0)
        view = desk.project.status()
        assert view["paused"]
        assert view["issues"][2]["held"]
        assert len(desk.edits()) == 1

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ('.dag["1"] = [2]', "the dependencies form a cycle: "),
            ('.status["1"] = "asleep"', "the status of issue '1' is 'asleep'"),
            ('.status["77"] = "pending"', "status has issue '77', which is not in issues"),
            ('.agent = "nobody"', "nobody"),
        ],
    )
    def test_edit_that_cannot_be_taken_stops_one_start_and_only_one(self, desk, text, reason):
        desk.begin("[1,2]", '{"2":[1]}')
        before = desk.file.read_bytes()
        desk.edit(f"{text} | .note = 1")
        edited = desk.file.read_bytes()
        done = desk.project.run("run", "work", check=4)
        assert "gangline: state error: the state file was changed, and the change cannot be" in (
            done.stderr
        )
        assert reason in done.stderr
        assert_harmless(done.stderr)
        assert Path(f"{desk.file}.rejected-1").read_bytes() == edited
        assert desk.file.read_bytes() == before
        assert not desk.ledger.exists()
        desk.project.run("run", "work", check=0)
        assert "note" not in desk.state

    def test_broken_json_stops_one_start_and_only_one(self, desk):
        desk.begin("[1]", "{}")
        broken = desk.file.read_bytes().replace(b'"issues":[1],', b'"issues":[1,],')
        desk.file.write_bytes(broken)
        assert "it is no JSON" in desk.project.run("run", "work", check=4).stderr
        assert Path(f"{desk.file}.rejected-1").read_bytes() == broken
        desk.project.run("run", "work", check=0)

    def test_living_orchestrator_takes_an_edit_when_it_wakes(self, desk):
        desk.begin("[1,2,3]", '{"2":[1],"3":[1]}')
        run = desk.live(1)
        desk.edit('.status["3"] = "cancelled" | .dispatched["1"].lastActivity = "noon"')
        desk.free(1)
        assert run.wait(60) == 1
        assert "the state file was changed by hand: #3 cancelled" in run.text()
        assert desk.project.statuses() == {"1": "completed", "2": "completed", "3": "cancelled"}
        assert [edit["by"] for edit in desk.edits()] == ["file"]

    def test_living_orchestrator_takes_an_edit_that_any_command_wakes_it_for(self, desk):
        desk.begin("[1,2]", '{"2":[1]}')
        run = desk.live(1)
        desk.edit('.status["1"] = "completed"')
        desk.project.run("resume", "work", check=0)
        assert run.wait(60) == 0
        assert desk.project.statuses() == {"1": "completed", "2": "completed"}

    def test_living_orchestrator_refuses_an_edit_says_why_and_runs_on(self, desk):
        desk.begin("[1,2]", '{"2":[1]}')
        run = desk.live(1)
        desk.busy(2)
        desk.edit('.dag["1"] = [2] | .paused = true')
        edited = desk.file.read_bytes()
        desk.free(1)
        desk.project.wait_for(lambda: "#2 runs in pane" in run.text(), "it goes on")
        assert "the change cannot be taken: the dependencies form a cycle: " in run.text()
        assert "batch.state.json.rejected-1, the true state is put back" in run.text()
        assert Path(f"{desk.file}.rejected-1").read_bytes() == edited
        assert desk.state["dag"] == {"1": [], "2": [1]}
        desk.free(2)
        assert run.wait(60) == 0
        assert desk.edits() == []


def hint_of(said: str) -> str:
    """The command of the hint, as a person copies it."""
    return said[said.index("gangline shell state-update") :].splitlines()[0]


class TestGraphOfAStateWithoutJournal:
    CYCLES: Mapping[str, dict[str, list[object]]] = {
        "one": {"1": [3], "2": [1], "3": [2]},
        "ids as text": {"1": ["3"], "2": ["1"], "3": ["2"]},
        "several": {"1": [2], "2": [1, 2, 3], "3": [2, 3]},
    }

    @pytest.mark.parametrize("name", CYCLES)
    def test_cycle_stops_a_start_and_the_printed_command_mends_it(self, desk, name):
        desk.bare(dag=self.CYCLES[name])
        said = desk.stopped()
        assert "cycle: " in said or "depends on itself" in said
        desk.bash(hint_of(said))
        desk.project.run("run", "work", check=0)
        assert set(desk.project.statuses().values()) == {"completed"}

    def test_whole_cycle_is_named_with_every_edge(self, desk):
        desk.bare(dag=self.CYCLES["one"])
        said = desk.stopped()
        assert "cause: the dependencies form a cycle: " in said
        for edge in ("1 depends on 3", "2 depends on 1", "3 depends on 2"):
            assert f"cause: {edge}: dag[" in said

    def test_the_text_before_the_mend_is_kept(self, desk):
        desk.bare(dag=self.CYCLES["one"])
        before = desk.file.read_bytes()
        desk.bash(hint_of(desk.stopped()))
        assert Path(f"{desk.file}.adopted").read_bytes() == before

    def test_state_of_ours_whose_journal_was_lost_is_mended_the_same_way(self, desk):
        desk.begin("[1,2]", '{"2":[1]}')
        desk.edit('.dag["1"] = ["2"] | .note = 1')
        desk.journal.unlink()
        before = desk.file.read_bytes()
        said = desk.stopped()
        assert "the dependencies form a cycle: 1 -> 2 -> 1" in said
        desk.bash(hint_of(said))
        assert Path(f"{desk.file}.rejected-1").read_bytes() == before
        desk.project.run("run", "work", check=0)
        assert desk.state["note"] == 1

    def test_filter_that_does_not_mend_all_of_it_is_refused(self, desk):
        desk.bare(dag=self.CYCLES["one"])
        assert "form a cycle" in desk.refused(".note = 1", code=4)
