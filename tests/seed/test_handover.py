"""Shell and `gangline run` are one engine: a batch goes from one to the other and loses nothing.

And what the shims answer, where the document's use of them implies it.
"""

import json
import os
import signal
from collections.abc import Callable

import pytest
from document import runnable
from team import AREA, CYCLE, ORCH_PANE, Script, Team, init

from gangline.hosts.attempt_folder import PANE_OPTION

LOOP = runnable("Resume Poll Cycle 1", AREA)
READ = runnable("Read State 1", AREA)
DIAMOND = {1: [], 2: [], 3: [1], 4: [1, 2], 5: [3, 4]}


def begin_loop(team: Team) -> Script:
    begin = f"source scripts/orchestrate-helpers.sh\n{ORCH_PANE}AGENT=worker\n{init(DIAMOND)}"
    return team.script([begin, LOOP], name="begin")


def finished_once_in_order(team: Team, state: dict) -> None:
    assert state["status"] == dict.fromkeys(map(str, DIAMOND), "completed")
    assert team.started() == dict.fromkeys(map(str, DIAMOND), 1)
    assert team.out_of_order(DIAMOND) == []


# -- from one to the other -----------------------------------------------------------------


@pytest.mark.parametrize("at", ["naps", "dispatches"])
def test_batch_of_the_shell_loop_that_was_killed_is_finished_by_run(team: Team, at: str):
    loop = begin_loop(team)
    if at == "naps":
        team.wait_for_starts(2)
    else:  # in the middle of its cycle
        team.wait_for(lambda: team.calls("poll-cycle"), "the first cycle has begun")
    loop.kill()
    assert "none; no run of Gangline has led this batch yet" in team.run("doctor", AREA).stdout
    team.let(1)
    orchestrator = team.start("run", AREA)
    team.let(2, 3, 4, 5)
    assert team.wait_for_end(orchestrator) == 0, orchestrator.text()
    assert "of work: no run of Gangline has led it yet, last recorded " in orchestrator.text()
    finished_once_in_order(team, team.state())


def test_batch_of_run_that_was_killed_is_finished_by_the_shell_loop(team: Team):
    team.plan([{"id": n, "title": f"issue {n}", "depends_on": d} for n, d in DIAMOND.items()])
    orchestrator = team.start("run", AREA, "--from", "plan.json", "--agent", "worker")
    team.wait_for_starts(2)
    team.kill_orchestrator(orchestrator)
    team.let(1, 2, 3, 4, 5)
    loop = team.script([READ, LOOP], name="loop")
    assert loop.wait() == 0, loop.text()
    finished_once_in_order(team, team.state())


def test_batch_goes_to_and_fro_and_every_issue_runs_once(team: Team):
    loop = begin_loop(team)
    team.wait_for_starts(2)
    loop.kill()
    orchestrator = team.start("run", AREA)
    team.let(1)
    team.wait_for_starts(3)
    team.kill_orchestrator(orchestrator)
    team.let(2, 3, 4, 5)
    loop = team.script([READ, LOOP], name="again")
    assert loop.wait() == 0, loop.text()
    finished_once_in_order(team, team.state())


def test_batch_whose_issues_bring_their_commands_is_finished_by_the_shell_loop(team: Team):
    """There is no agent in such a state: `jq -r .agent` makes the word `null` of it."""
    team.plan([team.issue(1), team.issue(2, after=[1])])
    orchestrator = team.start("run", AREA, "--from", "plan.json")
    team.wait_for_starts(1)
    team.kill_orchestrator(orchestrator)
    assert team.state()["agent"] is None
    team.let(1, 2)
    loop = team.script([READ, LOOP], name="loop")
    assert loop.wait() == 0, loop.text()
    assert team.state()["status"] == {"1": "completed", "2": "completed"}
    assert team.state()["agent"] is None
    assert team.started() == {"1": 1, "2": 1}


# -- while an orchestrator lives -----------------------------------------------------------


def test_cycle_of_the_shell_does_nothing_while_an_orchestrator_lives_and_says_so(team: Team):
    team.shell(init({1: [], 2: []}))
    orchestrator = team.start("run", AREA)
    team.wait_for_starts(2)
    for issue in (1, 2):
        team.pane(issue)
    team.wait_for(lambda: team.state()["orchestratorPid"] == orchestrator.pid, "it is recorded")
    before = team.state()
    told = team.shell(CYCLE)
    assert told.out == ""
    assert "this cycle does nothing: another orchestrator has area work" in told.err
    assert f"process {orchestrator.pid}" in told.err
    assert team.state() == before
    refused = team.shell(f'orch_dispatch 1 {team.panes[0]} "$AREA_DIR" worker', check=None)
    assert refused.code != 0
    assert team.state() == before
    team.let(1, 2)
    assert team.wait_for_end(orchestrator) == 0
    assert team.started() == {"1": 1, "2": 1}


# -- what the shims answer -----------------------------------------------------------------


def answers(team: Team, *calls: str) -> list[tuple[str, int]]:
    """What each call prints and returns."""
    lines = [f'said=$({call} 2>/dev/null); echo "$? $said"' for call in calls]
    told = team.shell("\n".join(lines)).out.splitlines()
    return [(line.partition(" ")[2], int(line.partition(" ")[0])) for line in told]


def completion(team: Team, *issues: int) -> list[tuple[str, int]]:
    return answers(team, *(f'orch_check_completion {issue} "$AREA_DIR"' for issue in issues))


def test_completion_is_one_of_four_words_and_terminal_is_0(make_team: Callable[..., Team]):
    team = make_team(panes=4)
    team.begin_by_shell({1: [], 2: [], 3: [], 4: [], 5: [1]})
    team.let(1)
    team.let(2, code=3)
    team.kill_agent(3)
    team.wait_for_exit(1, 2)
    words = [("completed", 0), ("failed", 0), ("died", 1), ("running", 1), ("running", 1)]
    seq = team.state()["seq"]
    assert completion(team, 1, 2, 3, 4, 5) == words
    assert team.state()["seq"] == seq  # it looks, and records nothing
    team.shell(CYCLE)
    team.wait_for_agents()
    words[2] = ("running", 1)  # dispatched again
    assert completion(team, 1, 2, 3, 4) == words[:4]
    team.kill_agent(3)
    words[2] = ("failed", 0)  # its one retry is spent
    assert completion(team, 1, 2, 3, 4) == words[:4]


def test_area_dir_names_the_area_by_its_last_part_or_is_the_repositorys_top(team: Team):
    for area in (AREA, "workspace"):
        team.shell(f"AREA={area}; {init({1: []})}")
    calls = [f'orch_check_completion 1 "{d}"' for d in (".", "$PWD", "src/work/", "$PWD/work")]
    assert answers(team, *calls) == [("running", 1)] * 4
    assert answers(team, 'orch_check_completion 1 "$PWD/other"') == [("", 2)]


def test_life_of_a_pane_is_looked_for_in_every_area(team: Team):
    team.begin_by_shell({1: []})
    pane = team.state()["dispatched"]["1"]["pane"]
    other = "AREA=other; AREA_DIR=other"
    team.shell(f"{other}; {init({1: []})}\n{CYCLE}")
    theirs = team.folder / ".workspace/orchestrate/other/batch.state.json"
    second = json.loads(theirs.read_text())["dispatched"]["1"]["pane"]
    assert second not in (None, pane)
    calls = [f"orch_pane_alive {each}" for each in (pane, second, team.panes[2], "%999")]
    assert [code for _, code in answers(team, *calls)] == [0, 0, 0, 1]
    team.wait_for_starts(2)
    (runner,) = team.folder.glob(".workspace/orchestrate/other/attempts/*/claim")
    os.kill(json.loads(runner.read_text())["pid"], signal.SIGKILL)
    team.wait_for_idle(second)
    assert [code for _, code in answers(team, *calls)] == [0, 1, 0, 1]


def test_life_of_a_pane_does_not_hang_on_which_area_is_read_first(team: Team):
    """A pane that a dead attempt is recorded in holds another area's by now; one is damaged."""
    team.begin_by_shell({1: []})
    pane = team.state()["dispatched"]["1"]["pane"]
    claim = team.area() / "attempts" / team.attempt_id(1) / "claim"
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    team.wait_for_idle(pane)
    assert [code for _, code in answers(team, f"orch_pane_alive {pane}")] == [1]
    team.tmux("set-option", "-p", "-u", "-t", pane, PANE_OPTION)  # as if it had lapsed
    team.shell(f"AREA=zoo; AREA_DIR=zoo; {init({1: []})}\norch_dispatch 1 {pane} zoo worker")
    team.wait_for_starts(2)
    damaged = team.folder / ".workspace/orchestrate/damaged"
    damaged.mkdir()
    (damaged / "batch.state.json").write_text("{")
    assert [code for _, code in answers(team, f"orch_pane_alive {pane}")] == [0]


def test_idle_panes_are_those_of_the_session_but_never_the_own_one(team: Team):
    assert team.shell('orch_find_idle_panes "$ORCH_PANE"').out.split() == team.panes
    own = team.panes[0]
    told = team.shell(f"orch_find_idle_panes {own}").out.split()
    assert told == team.panes[1:]
    team.begin_by_shell({1: []})
    busy = team.state()["dispatched"]["1"]["pane"]
    told = team.shell('orch_find_idle_panes "$ORCH_PANE"').out.split()
    assert told == [pane for pane in team.panes if pane != busy]


def test_dispatch_into_a_busy_pane_fails_and_runs_nothing(team: Team):
    team.shell(init({1: []}))
    busy = team.open_pane("cat")
    dispatch = f'orch_dispatch 1 {busy} "$AREA_DIR" worker'
    refused = team.shell(dispatch, check=1)
    assert f"pane {busy} is busy, not idle" in refused.err
    assert team.state()["status"] == {"1": "pending"}
    own = team.shell('orch_dispatch 1 "$ORCH_PANE" "$AREA_DIR" worker', check=1)
    assert "is the orchestrator's own" in own.err
    assert team.started() == {}


def test_second_dispatch_of_a_running_issue_fails_and_runs_nothing(team: Team):
    team.begin_by_shell({1: []})
    free = next(p for p in team.panes if p != team.state()["dispatched"]["1"]["pane"])
    refused = team.shell(f'orch_dispatch 1 {free} "$AREA_DIR" worker', check=1)
    assert "#1 is dispatched already" in refused.err
    assert team.state()["dispatched"]["1"]["attempt"] == 0
    assert free in team.shell('orch_find_idle_panes "$ORCH_PANE"').out.split()
    assert team.started() == {"1": 1}


def test_record_of_a_dispatch_records_nothing_and_fails_where_there_was_none(team: Team):
    team.begin_by_shell({1: [], 2: [1]})
    seq = team.state()["seq"]
    pane = team.state()["dispatched"]["1"]["pane"]
    assert [c for _, c in answers(team, f'orch_record_dispatch "$AREA" 1 {pane}')] == [0]
    assert [c for _, c in answers(team, f'orch_record_dispatch "$AREA" 2 {pane}')] == [1]
    assert team.state()["seq"] == seq


def test_launch_that_was_just_typed_is_not_given_up_by_the_next_cycle(team: Team):
    """It has not started: the start-up file of the pane's shell reads the line that is typed."""
    team.shell(init({1: []}))
    rc = team.room / "rc"
    rc.write_text("read -r line; read -r more\n")
    pane = team.open_pane("bash", "--rcfile", str(rc), "-i")
    team.wait_for_idle(pane)
    team.shell(f'orch_dispatch 1 {pane} "$AREA_DIR" worker\n{CYCLE}')
    assert team.state()["status"] == {"1": "dispatched"}
    assert (team.state()["dispatched"]["1"]["attempt"], team.started()) == (0, {})
    (folder,) = (team.area() / "attempts").iterdir()
    assert not (folder / "claim").exists()  # neither a runner's nor void


def test_summary_in_the_middle_of_a_batch_archives_nothing(team: Team):
    team.begin_by_shell({1: [], 2: [1]})
    before = team.state()
    told = team.shell('orch_print_summary "$AREA" "$AREA_DIR"')
    assert told.out.startswith("Summary of work, batch ")
    assert "archived" not in told.err
    assert team.state() == before
    assert team.archived() == []
