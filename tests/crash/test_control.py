"""Control commands: effective now with an orchestrator, at the next start without one."""

import pytest
from crew import Crew


def events(crew: Crew) -> str:
    return (crew.area() / "batch.journal.jsonl").read_text()


def wait_for_status(crew: Crew, number: int, status: str) -> None:
    crew.wait_for(lambda: crew.statuses()[str(number)] == status, f"#{number} is {status}")


def test_cancel_of_a_running_issue_ends_its_agent_and_charges_nothing(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1), crew.issue(2)], width=2)
    crew.wait_for_starts(2)
    crew.run("cancel", "work", "1", check=0)
    wait_for_status(crew, 1, "cancelled")
    crew.let(2)
    assert crew.wait_for_end(orchestrator) == 1
    assert crew.issue_view(1)["retryCount"] == 0
    assert [line.issue for line in crew.ledger() if line.what == "end"] == ["2"]
    assert events(crew).index('"kill-ordered"') < events(crew).index('"outcome":"killed"')


def test_cancel_without_an_orchestrator_outranks_a_success_that_is_read_later(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1), crew.issue(2, after=[1])], width=2)
    crew.wait_for_starts(1)
    crew.pane(1)
    crew.kill_orchestrator(orchestrator)
    assert "no orchestrator" in crew.run("cancel", "work", "#1", check=0).stdout
    crew.let(1, 2)
    crew.wait_for(lambda: [x for x in crew.ledger() if x.what == "end"], "agent 1 has ended")
    resumed = crew.resume()
    assert crew.wait_for_end(resumed) == 1
    assert crew.statuses() == {"1": "cancelled", "2": "completed"}
    assert "cancel asked for" in resumed.text().split("While no orchestrator lived:")[1]


@pytest.mark.parametrize("alive", [True, False], ids=["orchestrator", "no-orchestrator"])
def test_cancel_skip_and_hold_of_waiting_issues_take_effect(crew: Crew, alive: bool) -> None:
    issues = [crew.issue(1), *(crew.issue(n, after=[1]) for n in (2, 3, 4))]
    orchestrator = crew.begin(issues, width=4)
    crew.wait_for_starts(1)
    crew.pane(1)
    if not alive:
        crew.kill_orchestrator(orchestrator)
    crew.run("cancel", "work", "2", check=0)
    crew.run("skip", "work", "3", check=0)
    crew.run("hold", "work", "4", check=0)
    if not alive:
        orchestrator = crew.resume()
    crew.let(1, 2, 3, 4)
    wait_for_status(crew, 1, "completed")
    wait_for_status(crew, 4, "pending")
    assert crew.issue_view(4)["held"]
    assert [line.issue for line in crew.starts()] == ["1"]
    crew.run("release", "work", "4", check=0)
    assert crew.wait_for_end(orchestrator) == 1
    assert crew.statuses() == {"1": "completed", "2": "cancelled", "3": "skipped", "4": "completed"}
    assert [line.issue for line in crew.starts()] == ["1", "4"]


def test_pause_starts_nothing_new_until_resume(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1), crew.issue(2, after=[1])], width=2)
    crew.wait_for_starts(1)
    crew.run("pause", "work", check=0)
    crew.let(1, 2)
    wait_for_status(crew, 2, "pending")
    assert len(crew.starts()) == 1
    crew.run("resume", "work", check=0)
    assert crew.wait_for_end(orchestrator) == 0
    assert len(crew.starts()) == 2


def test_drain_ends_the_run_with_what_is_running_and_the_next_run_goes_on(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1), crew.issue(2, after=[1])], width=2)
    crew.wait_for_starts(1)
    crew.run("drain", "work", check=0)
    crew.let(1, 2)
    assert crew.wait_for_end(orchestrator) == 130
    assert crew.statuses() == {"1": "completed", "2": "pending"}
    assert crew.wait_for_end(crew.resume()) == 0


def test_stop_leaves_agents_running_and_the_next_run_adopts_them(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1), crew.issue(2)], width=2)
    crew.wait_for_starts(2)
    said = crew.run("stop", "work", check=0).stdout
    assert "2 agents run on" in said
    assert crew.wait_for_end(orchestrator) == 130
    resumed = crew.resume()
    crew.let(1, 2)
    assert crew.wait_for_end(resumed) == 0
    assert len(crew.starts()) == 2


@pytest.mark.parametrize("alive", [True, False], ids=["orchestrator", "no-orchestrator"])
def test_stop_kill_ends_the_agents_uncharged_and_their_issues_go_back_to_pending(
    crew: Crew, alive: bool
) -> None:
    orchestrator = crew.begin([crew.issue(1), crew.issue(2)], width=2)
    crew.wait_for_starts(2)
    crew.pane(1)
    crew.pane(2)
    if not alive:
        crew.kill_orchestrator(orchestrator)
    crew.run("stop", "work", "--kill", check=0)
    if alive:
        assert crew.wait_for_end(orchestrator) == 130
    assert crew.statuses() == {"1": "pending", "2": "pending"}
    assert not [line for line in crew.processes().values() if "agent.sh" in line]
    resumed = crew.resume()
    crew.wait_for_starts(4)
    assert {line.retry for line in crew.starts()} == {0}
    crew.let(1, 2)
    assert crew.wait_for_end(resumed) == 0
    assert {issue["retryCount"] for issue in crew.status()["issues"]} == {0}


def test_an_interrupted_stop_kill_is_finished_by_the_next_start(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1)], width=1)
    crew.wait_for_starts(1)
    crew.pane(1)
    # The orchestrator hangs while the stop is asked for, and dies before it could act on it.
    orchestrator.send_signal(19)
    stop = crew.start("stop", "work", "--kill")
    crew.wait_for(lambda: '"stop-requested"' in events(crew), "the stop is recorded")
    crew.kill_orchestrator(orchestrator)
    crew.wait_for_end(stop)
    resumed = crew.resume()
    crew.wait_for_starts(2)
    assert crew.starts(1)[1].before == 0
    assert crew.starts(1)[1].retry == 0
    crew.let(1)
    assert crew.wait_for_end(resumed) == 0


def test_retry_opens_a_new_budget_for_a_failed_issue(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1)], width=1)
    crew.wait_for_starts(1)
    crew.let(1, code=5)
    assert crew.wait_for_end(orchestrator) == 1
    crew.run("retry", "work", "1", check=0)
    (crew.room / "code-1").write_text("0")
    assert crew.wait_for_end(crew.resume()) == 0
    assert [a["outcome"] for a in crew.issue_view(1)["attempts"]] == ["failed", "completed"]
    assert crew.issue_view(1)["retryCount"] == 0


def test_retry_of_a_failed_dependency_brings_back_what_was_skipped(crew: Crew) -> None:
    crew.settings('[batch]\non_failed_dependency = "skip"\n')
    issues = [crew.issue(1), crew.issue(2, after=[1]), crew.issue(3, after=[2])]
    orchestrator = crew.begin(issues, width=2)
    crew.wait_for_starts(1)
    crew.let(1, code=5)
    assert crew.wait_for_end(orchestrator) == 1
    assert crew.statuses() == {"1": "failed", "2": "skipped", "3": "skipped"}
    crew.run("retry", "work", "1", check=0)
    (crew.room / "code-1").write_text("0")
    crew.let(2, 3)
    assert crew.wait_for_end(crew.resume()) == 0


def test_attempt_minutes_ends_an_attempt_as_failed_with_that_reason(crew: Crew) -> None:
    crew.settings("[batch]\nattempt_minutes = 0.02\n")
    orchestrator = crew.begin([crew.issue(1)], width=1)
    assert crew.wait_for_end(orchestrator) == 1
    assert crew.statuses() == {"1": "failed"}
    assert "0.02 minutes" in crew.issue_view(1)["reason"]
    assert len(crew.starts()) == 1


def test_log_mb_caps_the_log_with_a_mark_where_it_was_cut(crew: Crew) -> None:
    crew.settings("[batch]\nlog_mb = 1\n")
    issue = {"id": 1, "title": "loud", "run": ["sh", "-c", "seq 1 300000"]}
    assert crew.wait_for_end(crew.begin([issue], width=1)) == 0
    log = next((crew.area() / "attempts").glob("*/output.log")).read_bytes()
    assert log.startswith(b"1\n2\n3\n")
    assert len(log) < 1_000_200
    assert b"log_mb" in log[1_000_000:]


def test_a_signal_file_ends_the_agent_and_decides(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1), crew.issue(2)], width=2)
    crew.wait_for_starts(2)
    (crew.area() / "issue-1.exit").write_text("ok\n")
    (crew.area() / "issue-2.exit").write_text("no\n")
    crew.run("hold", "work", "1", check=0)  # any command wakes it; else the slow timer would
    crew.run("hold", "work", "2", check=0)
    assert crew.wait_for_end(orchestrator) == 1
    assert crew.statuses() == {"1": "completed", "2": "failed"}
    assert not [line for line in crew.ledger() if line.what == "end"]


def test_a_state_file_edited_under_a_living_orchestrator_is_taken(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1), crew.issue(2, after=[1])], width=2)
    crew.wait_for_starts(1)
    crew.pane(1)
    state = crew.area() / "batch.state.json"
    edited = state.read_text().replace('"2":"blocked"', '"2":"completed"')
    state.write_text(edited)
    crew.let(1, 2)
    assert crew.wait_for_end(orchestrator) == 0
    assert "the state file was changed by hand: #2 completed" in orchestrator.text()
    assert [line.issue for line in crew.starts()] == ["1"]
    assert crew.statuses() == {"1": "completed", "2": "completed"}
