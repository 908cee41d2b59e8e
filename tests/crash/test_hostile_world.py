"""Who deletes what Gangline lives on gets no agent that runs twice at once, and nothing hangs."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from crew import Crew

from gangline.app.running import wait_until_stopped
from gangline.app.wiring import Project as Area
from gangline.core.events import StopRequested
from gangline.core.evidence import Answer, Verdict, verdict
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.local import LocalHost
from gangline.hosts.tmux import Socket, Tmux
from gangline.hosts.wakes import Wakes
from gangline.ports import Subject
from gangline.store.locks import read_holder

MARK = "20260101-000000-0000-1-a0.0123456789abcdef"


def agent(crew: Crew, script: str) -> dict:
    """An issue whose agent waits to be let, and then does this."""
    waits = f"while [ ! -e {crew.room}/let-1 ]; do sleep 0.02; done"
    line = f'echo "start 1 0 $$ 0 0" >> {crew.ledger_path}; {waits}; {script}'
    return {"id": 1, "title": "one", "run": ["sh", "-c", line]}


def delete(crew: Crew, folder: Path) -> None:
    """Delete a folder that a living runner writes into."""

    def is_gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    crew.wait_for(is_gone, f"{folder} is gone")


@pytest.fixture
def host(tmp_path):
    """A host of an area whose folder has no attempts (any more)."""
    wakes = Wakes(str(tmp_path / "wake"))
    folders = AttemptFolders(str(tmp_path), str(tmp_path / "wake"))
    tmux = Tmux(Socket("path", str(tmp_path / "none")))
    yield LocalHost(folders, tmux, "session", "owner", wakes)
    wakes.close()


@pytest.mark.parametrize(
    ("launched", "afterwards"), [(True, Verdict.DIED), (False, Verdict.NOT_STARTED)]
)
def test_attempt_whose_folder_was_deleted_runs_while_a_process_of_it_lives(
    host, launched, afterwards
):
    subject = Subject(
        attempt_id="20260101-000000-0000-1-a0",
        issue="1",
        number=0,
        mark=MARK,
        server=None,
        launched=launched,
    )
    argv = [sys.executable, "-c", "print(flush=True); input()"]
    process = subprocess.Popen(
        argv, env={"GANGLINE_MARK": MARK}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        process.stdout.readline()
        seen = host.probe([subject])["1"]
        assert verdict(seen, kill_ordered=False) is Verdict.RUNNING
        host.terminate(subject, hard=False)  # and it can be ended
        assert process.wait(60) == -signal.SIGTERM
    finally:
        process.kill()
        process.communicate()
    seen = host.probe([subject])["1"]
    assert verdict(seen, kill_ordered=False) is afterwards
    assert (seen.survivors is Answer.NO) == launched


def test_agent_that_deletes_its_own_attempt_is_retried_once_and_failed(crew: Crew) -> None:
    orchestrator = crew.begin([agent(crew, 'rm -rf "$GANGLINE_ATTEMPT_DIR"')], width=1)
    crew.wait_for_starts(1)
    crew.pane(1)
    crew.let(1)
    assert crew.wait_for_end(orchestrator) == 1, orchestrator.text()
    assert crew.statuses() == {"1": "failed"}
    assert len(crew.starts()) <= 2


def test_cancel_ends_an_agent_whose_attempt_folder_was_deleted(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1)], width=1)
    crew.wait_for_starts(1)
    crew.pane(1)
    delete(crew, crew.area() / "attempts")
    crew.run("cancel", "work", "1", check=0)
    assert crew.wait_for_end(orchestrator) == 1, orchestrator.text()
    assert crew.statuses() == {"1": "cancelled"}
    assert crew.agent_pid(1) not in crew.processes()
    assert len(crew.starts()) == 1


def test_new_batch_is_refused_beside_the_agents_of_one_that_was_deleted(crew: Crew) -> None:
    orchestrator = crew.begin([crew.issue(1)], width=1)
    crew.wait_for_starts(1)
    crew.kill_orchestrator(orchestrator)
    delete(crew, crew.folder / ".workspace")
    said = crew.run("run", "work", "--from", "plan.json", check=4).stderr
    assert "agents of a batch of area work that was deleted still run" in said
    assert str(crew.agent_pid(1)) in said.partition("kill ")[2].split()
    assert len(crew.starts()) == 1
    crew.let(1)
    crew.wait_for(
        lambda: not any("gangline.hosts.runner" in words for words in crew.processes().values()),
        "the runner, which has nowhere to record the end, has ended",
    )
    crew.run("run", "work", "--from", "plan.json", check=0)
    assert len(crew.starts()) == 2


@pytest.mark.parametrize("command", ["mkdir", "mkfifo"])
def test_signal_that_is_no_file_counts_as_a_failure(crew: Crew, command: str) -> None:
    orchestrator = crew.begin(
        [agent(crew, f'{command} "$GANGLINE_ATTEMPT_DIR/../../issue-1.exit"')], width=1
    )
    crew.let(1)
    assert crew.wait_for_end(orchestrator) == 1, orchestrator.text()
    assert crew.statuses() == {"1": "failed"}
    assert "signal file says it failed" in orchestrator.text()


@pytest.mark.parametrize("kill", [False, True], ids=["leave", "kill"])
def test_stop_reaches_an_orchestrator_that_was_just_starting(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, kill: bool
) -> None:
    orchestrator = crew.begin([crew.issue(1)], width=1)
    crew.wait_for_starts(1)
    crew.kill_orchestrator(orchestrator)
    store = Area(str(crew.folder)).store("work")
    lock = store.paths.orchestrator_lock
    store.load()
    with store.transaction("2026-01-01T00:00:00.000Z") as moment:
        orchestrator = crew.resume()
        crew.wait_for(lambda: read_holder(lock).endswith(f" {orchestrator.pid}"), "it holds")
        moment.record(StopRequested(kill=kill))  # before it has recorded that it lives
    monkeypatch.chdir(crew.folder)
    wait_until_stopped("work", kill=kill)
    assert crew.wait_for_end(orchestrator) == 130, orchestrator.text()
    assert crew.statuses() == {"1": "pending" if kill else "dispatched"}
    assert len(crew.starts()) == 1
