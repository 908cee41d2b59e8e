"""Every row and sentence of orchestrator-recovery.md, on batches of Gangline's own.

The batches are begun by the shell or by `gangline run`, and asked about through the shims or the
command line. docs/specification.md says which test holds which sentence. (A state that the
specification's own shell wrote is taken over in tests/acceptance/test_adoption.py.)
"""

import json
import os
import signal
from collections.abc import Callable

import pytest
from document import runnable
from team import AREA, CYCLE, Team, init

CHAIN = {1: [], 2: [1]}
READ = runnable("Read State 1", AREA)
RECONCILE = runnable("Reconcile Dispatched Issues 1", AREA)
STALE = runnable("Stale State 1", AREA)
INTEGRITY = runnable("DAG Integrity 1", AREA)
INCREMENT = runnable("Auto-Retry Policy 2", AREA)
RESUME = f"{READ}\n{RECONCILE}\ntrue"  # the last command of step 2 may be a test that says no


@pytest.fixture(params=["shell", "run"])
def begun(request: pytest.FixtureRequest, team: Team) -> Callable[[dict[int, list[int]]], Team]:
    """Begins a batch by the shell or by `gangline run`; nobody orchestrates it afterwards."""

    def begin(dag: dict[int, list[int]]) -> Team:
        if request.param == "shell":
            team.begin_by_shell(dag)
        else:
            run_and_crash(team, dag)
        return team

    return begin


def run_and_crash(team: Team, dag: dict[int, list[int]]) -> None:
    """A batch begun by `gangline run`, which is killed when the agents and their panes are up."""
    issues = [{"id": n, "title": f"issue {n}", "depends_on": after} for n, after in dag.items()]
    team.plan(issues)
    orchestrator = team.start("run", AREA, "--from", "plan.json", "--agent", "worker")
    first = [n for n, after in dag.items() if not after]
    team.wait_for_starts(len(first))
    for issue in first:
        team.pane(issue)
    team.kill_orchestrator(orchestrator)


def statuses(team: Team) -> dict[str, str]:
    found: dict[str, str] = team.state()["status"]
    return found


def finish(team: Team, *issues: int) -> None:
    """Let these end, and the shell's cycle record it and go on, until nothing is open."""
    team.let(*issues)
    while {"pending", "blocked", "dispatched"} & set(statuses(team).values()):
        team.wait_for_exit(*map(int, team.state()["dispatched"]))
        team.shell(CYCLE)


def kill_and_wait(team: Team, issue: int) -> str:
    """Kill -9 an agent's runner and pane; a free pane is there for the next attempt."""
    pane = team.kill_agent(issue)
    team.wait_for_idle(team.open_pane())
    return pane


# -- the opening, and Entry ----------------------------------------------------------------


def test_batch_resumes_from_its_state_file_alone(team: Team):
    """`Resume from batch.state.json when the orchestrator crashes or is restarted.`"""
    team.begin_by_shell(CHAIN)
    (team.area() / "batch.journal.jsonl").unlink()
    team.let(1)
    team.wait_for_exit(1)
    team.shell(RESUME)
    finish(team, 2)
    assert statuses(team) == {"1": "completed", "2": "completed"}
    assert team.started() == {"1": 1, "2": 1}


def test_state_that_is_found_is_resumed_and_not_begun_again(begun):
    """`If found: read state, resume based on current issue statuses.`"""
    team = begun(CHAIN)
    refused = team.shell(init(CHAIN), check=None)
    assert refused.code != 0
    assert "area work has a batch already" in refused.err
    assert statuses(team) == {"1": "dispatched", "2": "blocked"}
    finish(team, 1, 2)
    assert team.started() == {"1": 1, "2": 1}


# -- Per-Status Recovery -------------------------------------------------------------------


def test_pending_waits_for_an_idle_pane_and_is_then_dispatched(make_team):
    """`pending`: No action, will be dispatched when idle pane available."""
    team = make_team(panes=1)
    team.begin_by_shell({1: [], 2: []})
    assert statuses(team) == {"1": "dispatched", "2": "pending"}
    team.shell(RESUME)
    team.shell(CYCLE)
    assert statuses(team) == {"1": "dispatched", "2": "pending"}
    team.wait_for_idle(team.open_pane())
    team.shell(CYCLE)
    assert statuses(team) == {"1": "dispatched", "2": "dispatched"}
    team.wait_for_agents()
    assert team.started() == {"1": 1, "2": 1}


def test_blocked_waits_for_its_dependencies(team: Team):
    """`blocked`: No action, waiting for deps to complete."""
    team.begin_by_shell(CHAIN)
    team.shell(f"{RESUME}\norch_unblock $AREA 2\n{CYCLE}")
    assert statuses(team) == {"1": "dispatched", "2": "blocked"}
    assert team.started() == {"1": 1}
    finish(team, 1, 2)
    assert team.out_of_order(CHAIN) == []


def test_dispatched_whose_pane_is_dead_is_dispatched_again(begun):
    """`dispatched`: Check completion; if pane dead, re-dispatch."""
    team = begun(CHAIN)
    pane = team.kill_agent(1)
    told = team.shell(RESUME)
    assert told.out == f"[recovery] Pane {pane} for #1 is dead; re-dispatching\n"
    team.wait_for_agents()
    assert [(line.attempt, line.before) for line in team.starts(1)] == [(0, 0), (1, 0)]
    assert team.state()["dispatched"]["1"]["retryCount"] == 1


def test_dispatched_that_has_completed_is_recorded_and_what_waits_is_unblocked(begun):
    """`dispatched`: Check completion."""
    team = begun(CHAIN)
    team.let(1)
    team.wait_for_exit(1)
    team.shell(RESUME)
    assert statuses(team) == {"1": "completed", "2": "pending"}


def test_dispatched_that_lives_is_left_alone(begun):
    team = begun(CHAIN)
    before = team.state()["dispatched"]
    assert team.shell(RESUME).out == ""
    assert team.state()["dispatched"] == before
    assert team.started() == {"1": 1}


@pytest.mark.parametrize("code", [0, 3], ids=["completed", "failed"])
def test_terminal_issue_unblocks_its_dependents_however_often_it_is_told(team: Team, code: int):
    """`completed`, `failed`: Re-run `orch_unblock` (idempotent; failed ones unblock, too)."""
    team.begin_by_shell(CHAIN)
    team.let(1, code=code)
    team.wait_for_exit(1)
    word = "failed" if code else "completed"
    team.shell(f"orch_status_set $AREA 1 {word}")
    unblock = 'orch_unblock "$AREA" 1'
    team.shell(unblock)
    assert statuses(team) == {"1": word, "2": "pending"}
    seq = team.state()["seq"]
    team.shell(f"{unblock}\n{unblock}")
    assert team.state()["seq"] == seq
    finish(team, 2)
    assert statuses(team) == {"1": word, "2": "completed"}


# -- Recovery Steps, the words around the blocks -------------------------------------------


def test_orchestrators_pane_is_the_new_one_after_a_resume_by_the_shell(begun):
    """`Update orchestratorPane to the new pane (session may have changed).`"""
    team = begun(CHAIN)
    old = team.state()["orchestratorPane"]
    resumed = team.script([READ, CYCLE], name="resumed")
    resumed.wait()
    assert team.state()["orchestratorPane"] == resumed.pane != old


def test_orchestrators_pane_is_the_new_one_after_a_resume_by_run(team: Team):
    team.begin_by_shell(CHAIN)
    pane = team.open_pane("gangline", "run", AREA)
    team.wait_for(lambda: team.state()["orchestratorPane"] == pane, "its pane is recorded")


def test_each_dispatched_issue_is_reconciled_and_no_other(team: Team):
    """`For each issue with status dispatched.`"""
    team.begin_by_shell({1: [], 2: [], 3: [1]})
    team.shell(RESUME)
    assert [words[1] for words in team.calls("check-completion")] == ["1", "2"]


def test_after_reconciliation_the_normal_cycle_goes_on(team: Team):
    """`After reconciliation, resume the normal poll loop.`"""
    team.begin_by_shell(CHAIN)
    team.kill_agent(1)
    team.shell(RESUME)
    finish(team, 1, 2)
    assert statuses(team) == {"1": "completed", "2": "completed"}
    assert team.started() == {"1": 2, "2": 1}


# -- Stale State ---------------------------------------------------------------------------


def test_stale_state_is_summed_up_archived_and_removed(begun):
    """`If the batch is already complete (all completed or failed) but state file remains.`"""
    team = begun(CHAIN)
    team.let(2, code=3)
    finish(team, 1)
    assert statuses(team) == {"1": "completed", "2": "failed"}
    told = team.shell(STALE)
    assert told.out.startswith("Summary of work, batch ")
    assert told.out.endswith("[recovery] Stale state cleaned up.\n")
    assert not team.area().exists()
    assert [state["status"] for state in team.archived()] == [{"1": "completed", "2": "failed"}]


def test_stale_state_is_summed_up_and_archived_by_run_which_starts_nothing(team: Team):
    team.begin_by_shell({1: []})
    finish(team, 1)
    told = team.run("run", AREA, check=0)
    assert "Summary of work, batch " in told.stdout
    assert not team.area().exists()
    assert len(team.archived()) == 1
    assert team.started() == {"1": 1}


def test_state_that_is_removed_beside_living_agents_is_not_begun_over(team: Team):
    """`rm -rf` too early: what still runs is not run a second time (erratum 6)."""
    team.begin_by_shell(CHAIN)
    team.shell('rm -rf ".workspace/orchestrate/$AREA/"')
    refused = team.shell(init(CHAIN), check=None)
    assert refused.code != 0
    assert "still run" in refused.err
    assert team.started() == {"1": 1}


# -- DAG Integrity -------------------------------------------------------------------------


def test_graph_is_fine_after_a_crash(team: Team):
    """`After crash, re-validate DAG (no new cycles introduced).`"""
    team.begin_by_shell(CHAIN)
    told = team.shell(INTEGRITY)
    assert (told.out, told.err) == ("", "")


def test_cycle_is_named_with_the_commands_that_break_it(team: Team):
    """`If cycle found: abort and ask user` (erratum 8)."""
    team.shell(init(CHAIN))
    check = 'bash scripts/parse-dependencies.sh --check-cycles "[1, 2]" \'{"1": [2], "2": [1]}\''
    told = team.shell(check, check=1)
    assert "cycle: 1 -> 2 -> 1" in told.err
    commands = [line.partition("remove that: ")[2] for line in told.err.splitlines()]
    commands = [line for line in commands if line]
    assert len(commands) == 2
    for command in commands:  # each is one that can be run as it stands
        assert team.shell(command.strip()).err == ""


def test_edit_that_makes_a_cycle_is_refused_and_the_true_state_put_back(team: Team):
    team.begin_by_shell(CHAIN)
    before = team.state()
    refused = team.shell('orch_state_update "$AREA" ".dag[\\"1\\"] = [2]"', check=None)
    assert refused.code != 0
    assert "1 -> 2 -> 1" in refused.err
    assert team.state() == before
    path = team.area() / "batch.state.json"
    path.write_text(json.dumps({**before, "dag": {"1": [2], "2": [1]}}))
    refused = team.run("run", AREA, check=4)
    assert "1 -> 2 -> 1" in refused.stderr
    assert team.state()["dag"] == before["dag"]
    kept = [each for each in team.area().iterdir() if each.name.startswith("batch.state.json.")]
    assert ['"dag": {"1": [2], "2": [1]}' in each.read_text() for each in kept] == [True]


# -- Auto-Retry Policy ---------------------------------------------------------------------


def test_second_death_is_failed_reported_and_not_tried_a_third_time(begun):
    """`If retryCount >= 1 and pane dies again: mark failed, report to user.`

    And `Maximum 1 automatic re-dispatch per issue`, `Do not retry a third time automatically.`
    """
    team = begun({1: []})
    kill_and_wait(team, 1)
    team.shell(RESUME)
    team.wait_for_agents()
    kill_and_wait(team, 1)
    told = team.shell(f'orch_check_completion 1 "$AREA_DIR"\n{RESUME}')
    assert told.out == "failed\n"
    assert statuses(team) == {"1": "failed"}
    assert "died again" in told.err
    assert "not retried by itself any more" in told.err
    team.shell(f'{CYCLE}\norch_dispatch 1 {team.panes[0]} "$AREA_DIR" worker', check=1)
    summary = team.shell('orch_print_summary "$AREA" "$AREA_DIR"')
    assert "died again" in summary.out
    assert team.started() == {"1": 2}


def test_second_death_under_run_is_failed_and_reported_as_well(team: Team):
    team.begin_by_shell({1: []})
    kill_and_wait(team, 1)
    orchestrator = team.start("run", AREA)
    team.wait_for_starts(2)
    team.pane(1)
    team.kill_agent(1)
    assert team.wait_for_end(orchestrator) == 1
    assert "died again" in orchestrator.text()
    assert team.started() == {"1": 2}


def test_retry_count_is_in_the_state_before_the_agent_starts(team: Team):
    """`Track retry count in state`: charged in the commit of the re-dispatch (erratum 5)."""
    team.begin_by_shell({1: []})
    assert team.state()["dispatched"]["1"]["retryCount"] == 0
    kill_and_wait(team, 1)
    team.shell(RESUME)
    journal = (team.area() / "batch.journal.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in journal]
    charged = [e["retry"] for e in events if e["type"] == "dispatched"]
    assert charged == [0, 1]
    assert team.state()["dispatched"]["1"]["retryCount"] == 1


def test_retry_count_that_a_script_raised_counts_as_the_one_retry(team: Team):
    """`orch_state_update … retryCount = …`: the next death is the last."""
    team.begin_by_shell({1: []})
    team.shell(f"ISSUE=1\n{INCREMENT}")
    assert team.state()["dispatched"]["1"]["retryCount"] == 1
    kill_and_wait(team, 1)
    told = team.shell(RESUME)
    assert statuses(team) == {"1": "failed"}
    assert "re-dispatching" not in told.out
    assert team.started() == {"1": 1}


# -- errata that no block shows ------------------------------------------------------------


def test_kill_between_dispatch_and_record_does_not_run_the_issue_twice(team: Team):
    """Erratum 2: then the whole of step 2 again."""
    team.shell(init({1: []}))
    team.shell(f'orch_dispatch 1 {team.panes[0]} "$AREA_DIR" worker; kill -9 $$', check=-1)
    team.wait_for_agents()
    assert team.state()["dispatched"]["1"]["pane"] == team.panes[0]
    told = team.shell(RESUME)
    assert told.out == ""
    again = team.shell(f'orch_dispatch 1 {team.panes[1]} "$AREA_DIR" worker', check=1)
    assert "dispatched already" in again.err
    team.let(1)
    team.wait_for_exit(1)
    team.shell(CYCLE)
    assert team.started() == {"1": 1}


def test_pane_number_of_another_life_of_the_server_is_not_this_attempts(team: Team):
    """Erratum 3: after a restart of tmux the same number is somebody else's pane."""
    team.begin_by_shell({1: []})
    pane = team.state()["dispatched"]["1"]["pane"]
    (team.room / f"gone-{team.attempt_id(1)}").touch()
    team.tmux("kill-server")
    team.wait_for_exit(1)
    team.open_session()
    others = [team.open_pane() for _ in range(3)]
    assert pane in others
    team.wait_for_idle(others[-1])
    told = team.shell(f'orch_pane_alive "{pane}"; echo $?\n{RESUME}')
    assert told.out == f"1\n[recovery] Pane {pane} for #1 is dead; re-dispatching\n"
    team.wait_for_agents()
    assert team.started() == {"1": 2}


def test_living_pane_with_a_dead_agent_is_not_taken_for_life(team: Team):
    """Erratum 3, its second half: the runner is killed, its pane is back at the prompt."""
    team.begin_by_shell({1: []})
    pane = team.state()["dispatched"]["1"]["pane"]
    claim = team.area() / "attempts" / team.attempt_id(1) / "claim"
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    team.wait_for_idle(pane)
    told = team.shell(f'orch_pane_alive "{pane}"; echo $?\n{RESUME}')
    assert told.out == f"1\n[recovery] Pane {pane} for #1 is dead; re-dispatching\n"
    team.wait_for_agents()
    assert [line.before for line in team.starts(1)] == [0, 0]


def test_step_2_on_a_state_that_changed_since_it_was_read_does_no_harm(team: Team):
    """Erratum 4: `$STATE` names an issue as dispatched that is finished by then."""
    team.begin_by_shell(CHAIN)
    team.let(1)
    team.wait_for_exit(1)
    told = team.shell(f"{READ}\n{CYCLE}\n{RECONCILE}")
    assert told.out == ""
    team.wait_for_agents()
    assert statuses(team) == {"1": "completed", "2": "dispatched"}
    assert team.started() == {"1": 1, "2": 1}


def test_update_that_cannot_be_written_leaves_the_state_whole(team: Team):
    """Erratum 7: it is never rewritten in place."""
    team.shell(init(CHAIN))
    before = team.state()
    refused = team.run_shell("ulimit -f 0; gangline shell state-update work '.mine = 1'")
    assert refused.returncode != 0
    assert team.state() == before
    team.shell('orch_state_update "$AREA" ".mine = 1"')
    assert team.state()["mine"] == 1
