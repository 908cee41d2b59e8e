"""`issue-{N}.exit`: an agent or a hook says that the work is over, and is believed only rightly."""

import json
import os
import signal
from pathlib import Path

import pytest
from project import Project, Started

SETTINGS = "\n[batch]\npoll_seconds = 0.1\n[workspace]\nkind = 'shared'\n"
# It keeps a ledger in $0, says $2 in its signal file, and lives on until it is told to end. The
# `sleep` shares its process group, so `wait` comes back at once.
LIVES_ON = """\
trap 'echo told to end >>"$0/ledger"; exit 7' TERM
echo $$ >"$0/pid"
echo started >>"$0/ledger"
signal=$GANGLINE_ATTEMPT_DIR/../../issue-$GANGLINE_ISSUE.exit
[ "$1" = - ] || printf "$1" "$GANGLINE_ATTEMPT" >"$signal"
sleep 100000 & wait
"""
# It says $1 in its signal file, and ends with the exit code $2.
ENDS = """\
echo started >>"$0/ledger"
signal=$GANGLINE_ATTEMPT_DIR/../../issue-$GANGLINE_ISSUE.exit
[ "$1" = - ] || printf "$1" "$GANGLINE_ATTEMPT" >"$signal"
exit "$2"
"""
DEAF = """\
trap 'echo told to end >>"$0/ledger"' TERM
echo started >>"$0/ledger"
echo ok >"$GANGLINE_ATTEMPT_DIR/../../issue-$GANGLINE_ISSUE.exit"
while :; do sleep 100000 & wait; done
"""


class Work:
    """One issue, and what its agent and its signal file do."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.path = project.area() / "issue-1.exit"
        project.settings(SETTINGS)

    def source(self, script: str, *words: str) -> str:
        argv = ["sh", "-c", script, str(self.project.room), *words]
        return self.project.plan([{"id": 1, "title": "One", "run": argv}])

    def run(self, script: str, *words: str, check: int) -> str:
        source = self.source(script, *words)
        return self.project.run("run", "work", "--from", source, check=check).stdout

    def start(self, script: str, *words: str) -> Started:
        started = self.project.start("run", "work", "--from", self.source(script, *words))
        self.project.wait_for(self.ledger, "the agent runs")
        return started

    def ledger(self) -> list[str]:
        path = self.project.room / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def issue(self) -> dict:
        (issue,) = self.project.status()["issues"]
        return issue

    def outcomes(self) -> list[str]:
        return [attempt["outcome"] for attempt in self.issue()["attempts"]]

    def agents(self) -> list[int]:
        words = self.project.processes().items()
        return [pid for pid, line in words if line.startswith(("sh -c", "sleep 100000"))]

    def folder(self, number: int = 0) -> Path:
        (found,) = self.project.area().glob(f"attempts/*-1-a{number}")
        return found


@pytest.fixture
def work(project: Project) -> Work:
    return Work(project)


# -- of an agent that lives on ---------------------------------------------------------------------


@pytest.mark.parametrize("words", ["ok", "ok\n", " ok \r\n", "ok %s\n"])
def test_ok_is_completed_after_the_agent_was_asked_to_end_and_has_ended(work, words):
    text = work.run(LIVES_ON, words, check=0)
    assert work.ledger() == ["started", "told to end"]
    assert work.outcomes() == ["completed"]
    assert "its signal file says its work is over" in text
    assert work.agents() == []


@pytest.mark.parametrize("words", ["failed", "\n", "OK", "okay", "ok then", "not ok %s", "\\0"])
def test_anything_else_is_failed(work, words):
    text = work.run(LIVES_ON, words, check=1)
    assert work.ledger() == ["started", "told to end"]
    assert work.outcomes() == ["failed"]
    assert "the agent's signal file says it failed" in text
    assert work.agents() == []


def test_a_hook_may_write_it_while_the_agent_works(work):
    started = work.start(LIVES_ON, "-")
    work.path.write_text("ok\n")
    assert started.wait(60) == 0
    assert work.ledger() == ["started", "told to end"]


def test_agent_that_does_not_heed_is_killed_after_its_grace_and_the_signal_decides(work):
    work.run(DEAF, check=0)
    assert work.ledger() == ["started", "told to end"]
    assert work.issue()["attempts"][0]["exitCode"] is None
    assert json.loads((work.folder() / "exit.json").read_text())["signal"] == signal.SIGKILL
    assert work.outcomes() == ["completed"]
    assert work.agents() == []


def test_it_counts_where_no_orchestrator_lived_and_the_runner_died(work):
    started = work.start(LIVES_ON, "-")
    started.kill()
    started.wait()
    work.path.write_text("ok\n")
    runner = json.loads((work.folder() / "claim").read_text())["pid"]
    os.kill(runner, signal.SIGKILL)
    work.project.run("run", "work", check=0)
    assert work.outcomes() == ["completed"]
    assert work.ledger().count("started") == 1
    assert work.agents() == []


# -- of an agent that ends by itself ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "exit_code", "outcome"),
    [
        ("ok", "3", "completed"),
        ("ok %s", "3", "completed"),
        ("no", "0", "failed"),
        ("-", "0", "completed"),
        ("-", "3", "failed"),
    ],
)
def test_it_outranks_the_exit_code(work, words, exit_code, outcome):
    work.run(ENDS, words, exit_code, check=0 if outcome == "completed" else 1)
    assert work.outcomes() == [outcome]
    assert work.ledger() == ["started"]


@pytest.mark.parametrize(("exit_code", "outcome"), [("0", "completed"), ("3", "failed")])
@pytest.mark.parametrize("words", ["ok other-1-a0", "no other-1-a0", "ok work-1-a9"])
def test_one_that_names_another_attempt_is_ignored(work, words, exit_code, outcome):
    text = work.run(ENDS, words, exit_code, check=0 if outcome == "completed" else 1)
    assert work.outcomes() == [outcome]
    assert "signal file" not in text


# -- of another time -------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["ok\n", "failed\n"])
def test_one_from_before_the_dispatch_is_put_away(work, words):
    work.path.parent.mkdir(parents=True)
    work.path.write_text(words)
    work.run(ENDS, "-", "3" if words == "ok\n" else "0", check=1 if words == "ok\n" else 0)
    assert work.outcomes() == ["failed" if words == "ok\n" else "completed"]
    assert not work.path.exists()
    assert work.path.with_suffix(".exit.stale").read_text() == words


def test_one_of_the_attempt_before_is_kept_with_it_and_does_not_speak_for_the_next(work):
    script = '[ "$GANGLINE_ATTEMPT" = "${GANGLINE_ATTEMPT%a0}a0" ] || set -- - 0\n' + ENDS
    work.run(script, "broken", "0", check=1)
    work.project.run("retry", "work", "1", check=0)
    work.project.run("run", "work", check=0)
    assert work.outcomes() == ["failed", "completed"]
    assert (work.folder(0) / "signal").read_text() == "broken"
    assert not work.path.exists()


# -- what is no file -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_directory_or_pipe_in_its_place_is_not_ok_and_holds_nothing_up(work, make):
    started = work.start(LIVES_ON, "-")
    make(work.path)
    assert started.wait(60) == 1
    assert work.outcomes() == ["failed"]
    assert work.ledger() == ["started", "told to end"]
    work.project.run("retry", "work", "1", check=0)
    again = work.project.start("run", "work")
    work.project.wait_for(lambda: work.ledger().count("started") == 2, "it runs again")
    assert not os.path.lexists(work.path)
    work.path.write_text("ok\n")
    assert again.wait(60) == 0


def test_one_that_cannot_be_read_decides_nothing_until_it_can(work):
    started = work.start(LIVES_ON, "-")
    made = work.project.room / "pipe"
    os.mkfifo(made)
    pipe = os.open(made, os.O_RDWR | os.O_NONBLOCK)  # nothing is in it, but it has a writer
    try:
        made.rename(work.path)
        os.kill(int((work.project.room / "pid").read_text()), signal.SIGTERM)
        work.project.wait_for(lambda: work.issue()["condition"] == "needs-input", "it is asked")
        assert "its signal file" in work.issue()["question"]
        assert work.outcomes() == [None]
        os.unlink(work.path)
    finally:
        os.close(pipe)
    assert started.wait(60) == 1
    assert work.issue()["attempts"][0]["exitCode"] == 7


def test_dangling_link_in_its_place_says_nothing(work):
    work.path.parent.mkdir(parents=True)
    work.path.symlink_to(work.project.room / "nothing")
    work.run(ENDS, "-", "0", check=0)
    assert not os.path.lexists(work.path)
    assert work.outcomes() == ["completed"]
