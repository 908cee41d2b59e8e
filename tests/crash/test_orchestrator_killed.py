"""kill -9 of the orchestrator is a normal way to stop it: nothing is lost, nothing runs twice."""

import random
import time

import pytest
from crew import Crew

ISSUES = 40
KILLS = 20


def random_dag(seed: int) -> dict[int, list[int]]:
    """Issue -> the earlier issues it depends on."""
    dice = random.Random(seed)
    return {
        n: sorted(dice.sample(range(1, n), k=min(n - 1, dice.choice([0, 0, 1, 1, 2]))))
        for n in range(1, ISSUES + 1)
    }


def test_forty_issues_and_twenty_kills_run_each_issue_exactly_once_in_order(crew: Crew) -> None:
    dice = random.Random(20261122)
    dag = random_dag(7)
    seconds = {n: f"{dice.uniform(1, 3):.2f}" for n in dag}
    orchestrator = crew.begin(
        [crew.issue(n, after=dag[n], seconds=seconds[n]) for n in dag], width=8
    )
    crew.wait_for_starts(1)
    for _ in range(KILLS):
        # A random moment: that is what is tested; nothing is expected of it.
        time.sleep(dice.uniform(0.0, 0.7))
        assert orchestrator.poll() is None, f"the batch ended too early:\n{orchestrator.text()}"
        crew.kill_orchestrator(orchestrator)
        orchestrator = crew.resume()
    assert crew.wait_for_end(orchestrator) == 0, orchestrator.text()

    ledger = crew.ledger()
    starts = [line.issue for line in ledger if line.what == "start"]
    ends = [line.issue for line in ledger if line.what == "end"]
    assert sorted(starts, key=int) == [str(n) for n in dag]
    assert sorted(ends, key=int) == [str(n) for n in dag]
    order = {(line.what, int(line.issue)): place for place, line in enumerate(ledger)}
    early = [(n, d) for n in dag for d in dag[n] if order["start", n] < order["end", d]]
    assert early == []
    view = crew.status()
    assert view["counts"]["completed"] == ISSUES
    assert [issue["retryCount"] for issue in view["issues"]] == [0] * ISSUES


def test_agents_finish_while_nobody_watches_and_the_next_start_records_it(crew: Crew) -> None:
    orchestrator = crew.begin(
        [crew.issue(1), crew.issue(2), crew.issue(3, after=[1]), crew.issue(4, after=[2])], width=4
    )
    crew.wait_for_starts(2)
    crew.pane(1)
    crew.pane(2)
    crew.kill_orchestrator(orchestrator)
    crew.let(1)
    crew.let(2, code=3)
    exits = crew.area() / "attempts"
    crew.wait_for(lambda: len(list(exits.glob("*/exit.json"))) == 2, "both agents have ended")

    view = {issue["id"]: issue for issue in crew.status()["issues"]}
    assert view[1]["status"] == "dispatched"  # what is recorded
    assert view[1]["verdict"] == "finished"  # what is true
    assert "exit code 0" in view[1]["seen"]
    assert "exit code 3" in view[2]["seen"]
    text = crew.run("status", "work", check=0).stdout
    assert "no orchestrator" in text
    assert "not yet recorded" in text

    resumed = crew.resume()
    crew.let(3, 4)
    assert crew.wait_for_end(resumed) == 1, resumed.text()
    assert crew.statuses() == {"1": "completed", "2": "failed", "3": "completed", "4": "completed"}
    assert len(crew.starts()) == 4
    assert "died, last recorded" in resumed.text()
    told = resumed.text().split("While no orchestrator lived:")[1]
    assert "#1 completed" in told
    assert "#2 failed: exit code 3" in told


@pytest.mark.parametrize("number", [1, 2, 15], ids=["HUP", "INT", "TERM"])
def test_a_signal_leaves_the_agents_running_and_says_how_to_come_back(
    crew: Crew, number: int
) -> None:
    orchestrator = crew.begin([crew.issue(1), crew.issue(2, after=[1])], width=2)
    crew.wait_for_starts(1)
    orchestrator.send_signal(number)
    assert crew.wait_for_end(orchestrator) == 130
    assert "gangline run work" in orchestrator.text()
    assert "1 agent runs on" in orchestrator.text()
    crew.let(1, 2)
    assert crew.wait_for_end(crew.resume()) == 0
    assert [line.issue for line in crew.starts()] == ["1", "2"]


def test_of_two_orchestrators_one_runs_and_the_other_exits_3_and_names_it(crew: Crew) -> None:
    first = crew.begin([crew.issue(1)], width=1)
    crew.wait_for_starts(1)
    second = crew.run("run", "work", check=3)
    assert str(first.pid) in second.stderr
    crew.let(1)
    assert crew.wait_for_end(first) == 0
    assert len(crew.starts()) == 1


def test_two_orchestrators_at_the_same_instant_begin_one_batch(crew: Crew) -> None:
    crew.plan([crew.issue(1), crew.issue(2)])
    both = [crew.start("run", "work", "--from", "plan.json") for _ in range(2)]
    crew.wait_for_starts(2)
    crew.wait_for(lambda: any(one.poll() is not None for one in both), "one has given up")
    crew.let(1, 2)
    codes = sorted(crew.wait_for_end(one) for one in both)
    assert codes == [0, 3], [one.text() for one in both]
    assert len(crew.starts()) == 2


def test_a_batch_that_is_over_is_shown_archived_and_not_run_again(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1, seconds="0")], width=1)
    assert crew.wait_for_end(orchestrator) == 0
    again = crew.run("run", "work", check=0)
    assert "nothing was started" in again.stdout
    assert "#1     completed" in again.stdout
    assert not crew.area().exists()
    archived = crew.folder / ".workspace" / "orchestrate" / ".archive" / "work"
    assert len(list(archived.glob("*/batch.journal.jsonl"))) == 1
    assert len(crew.starts()) == 1


def test_panes_kept_after_a_failure_go_when_their_batch_is_archived(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1)], width=1)
    crew.wait_for_starts(1)
    pane = crew.pane(1)
    crew.let(1, code=4)
    assert crew.wait_for_end(orchestrator) == 1
    assert "exit code 4" in crew.tmux("capture-pane", "-p", "-t", pane).stdout
    crew.run("run", "work", check=1)
    assert crew.tmux("list-panes", "-a").stdout == ""
