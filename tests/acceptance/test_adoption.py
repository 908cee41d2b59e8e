"""A state of the specification's shell goes on under `gangline run`: row by row, in real panes."""

import json
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from project import Project, Started, assert_harmless

# An agent that says in the ledger that it runs, and runs as long as its `busy` file is there.
WORKER = """\
[ "$GANGLINE_ISSUE" ] || exit  # asked for its version
read -r prompt
echo "$GANGLINE_ISSUE retry=$GANGLINE_RETRY $prompt" >>{room}/ledger
while [ -e {room}/busy-$GANGLINE_ISSUE ]; do sleep 0.02; done
exit $(cat {room}/code-$GANGLINE_ISSUE 2>/dev/null || echo 0)
"""
SETTINGS = """
[batch]
poll_seconds = 0.1
agent = "worker"
[workspace]
kind = "shared"
[agents.worker]
start = ["worker"]
"""
PROMPT = "/dev-pipeline work #{}"


def ago(**amount: float) -> str:
    """A time in the past, as the document's shell writes it."""
    return (datetime.now(UTC) - timedelta(**amount)).strftime("%Y-%m-%dT%H:%M:%SZ")


class Team:
    """A repository in which the document's shell has been at work, and has died."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.room = project.room
        self.folder = project.area()
        self.file = self.folder / "batch.state.json"
        project.settings(SETTINGS)
        project.program("worker", WORKER.format(room=shlex.quote(str(self.room))))

    # -- what the shell left -----------------------------------------------------------------

    def state(
        self,
        statuses: Mapping[int, str],
        entries: Mapping[int, Mapping[str, object]] | None = None,
        dag: Mapping[int, list[int]] | None = None,
        **more: object,
    ) -> dict[str, Any]:
        """Write batch.state.json; a key given as `...` is left out."""
        state: dict[str, Any] = {
            "area": "work",
            "batchId": "shell-1",
            "issues": list(statuses),
            "dag": {str(key): others for key, others in (dag or {}).items()},
            "status": {str(key): word for key, word in statuses.items()},
            "dispatched": {str(key): entry for key, entry in (entries or {}).items()},
            "agent": "worker",
            "orchestratorPane": "%0",
            "createdAt": ago(hours=2),
            "updatedAt": ago(minutes=5),
        }
        state = {key: value for key, value in {**state, **more}.items() if value is not ...}
        self.write(json.dumps(state))
        return state

    def write(self, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text)

    def pane(self, command: str = "sh") -> str:
        """A pane with this command; by default a shell at its prompt, seen to be idle."""
        begin = ("new-window", "-d") if self.has_server() else ("new-session", "-d", "-s", "team")
        done = self.project.tmux(*begin, "-P", "-F", "#{pane_id}", command)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def has_server(self) -> bool:
        return self.project.tmux("list-sessions").returncode == 0

    def busy_pane(self, issue: int) -> str:
        """A pane whose program runs as long as the issue's `old` file is there; then it is gone."""
        path = self.room / f"old-{issue}"
        path.touch()
        return self.pane(f"while [ -e {shlex.quote(str(path))} ]; do sleep 0.02; done")

    def panes(self) -> list[str]:
        return self.project.tmux("list-panes", "-a", "-F", "#{pane_id}").stdout.split()

    # -- what Gangline does ------------------------------------------------------------------

    def run(self, *more: str, check: int) -> str:
        done = self.project.run("run", "work", *more, check=check)
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def refusal(self, *argv: str) -> str:
        """Exit code 4; what the shell left is as it was. Locks of ours may have been made."""
        before = {path: path.read_bytes() for path in self.folder.rglob("*")}
        done = self.project.run(*argv, check=4)
        assert {path: path.read_bytes() for path in self.folder.rglob("*")} == before
        assert "Traceback" not in done.stderr
        assert_harmless(done.stderr)
        assert self.ledger() == []
        return done.stderr

    def start(self) -> Started:
        return self.project.start("run", "work")

    def looks(self, issue: int, how: str) -> int:
        """How often the orchestrator has written that this is what it saw of the issue."""
        log = self.folder / "orchestrator.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return sum(f'"{issue}"' in line and how in line for line in lines)

    def ledger(self) -> list[str]:
        path = self.room / "ledger"
        return sorted(path.read_text().splitlines()) if path.exists() else []

    def busy(self, issue: int) -> Path:
        path = self.room / f"busy-{issue}"
        path.touch()
        return path

    def issue(self, number: int) -> dict[str, Any]:
        return next(one for one in self.project.status()["issues"] if one["id"] == number)

    def settled(self, started: Started, *statuses: str) -> None:
        """Wait until the issues stand so, while the orchestrator lives on."""
        self.project.wait_for(
            lambda: tuple(self.project.statuses().values()) == statuses, f"{statuses}"
        )
        assert started.poll() is None, started.text()


def said(issue: int, retry: int = 0, prompt: str = PROMPT) -> str:
    """A line of the ledger."""
    return f"{issue} retry={retry} {prompt.format(issue)}"


@pytest.fixture
def team(project: Project) -> Iterator[Team]:
    return Team(project)


# -- "Per-Status Recovery", row by row -------------------------------------------------------------


def test_pending_is_dispatched(team):
    team.state({1: "pending"})
    text = team.run(check=0)
    assert team.ledger() == [said(1)]
    assert "the state file of the specification's shell is adopted" in text


def test_blocked_waits_for_its_dependencies(team):
    team.state({1: "pending", 2: "blocked", 3: "blocked"}, dag={2: [1], 3: [1, 2]})
    held = team.busy(1)
    started = team.start()
    team.project.wait_for(team.ledger, "the first runs")
    team.settled(started, "dispatched", "blocked", "blocked")
    assert team.ledger() == [said(1)]
    held.unlink()
    assert started.wait(60) == 0
    assert team.ledger() == [said(1), said(2), said(3)]


def test_dispatched_in_a_living_pane_is_left_alone_until_it_ends(team):
    entry = {"pane": team.busy_pane(1), "dispatchedAt": ago(seconds=0)}
    team.state({1: "dispatched", 2: "pending", 3: "blocked"}, {1: entry}, {3: [1]})
    started = team.start()
    team.settled(started, "dispatched", "completed", "blocked")
    assert team.ledger() == [said(2)]
    assert entry["pane"] in team.panes()
    (team.room / "old-1").unlink()
    assert started.wait(60) == 0
    assert team.ledger() == [said(1, retry=1), said(2), said(3)]


def test_dispatched_in_a_dead_pane_is_redispatched_once_and_charged(team):
    team.pane()
    team.state({1: "dispatched"}, {1: {"pane": "%77", "dispatchedAt": ago(minutes=9)}})
    text = team.run(check=0)
    assert team.ledger() == [said(1, retry=1)]
    assert "its pane %77 is gone; it is dispatched again" in text
    (first, second) = team.issue(1)["attempts"]
    assert (first["outcome"], first["retry"], second["retry"]) == ("died", 0, 1)


def test_completed_reruns_unblock(team):
    team.state({1: "completed", 2: "blocked"}, dag={2: [1]})
    team.run(check=0)
    assert team.ledger() == [said(2)]


def test_failed_still_unblocks_its_dependents(team):
    team.state({1: "failed", 2: "blocked"}, dag={2: [1]})
    team.run(check=1)
    assert team.ledger() == [said(2)]
    assert team.project.statuses() == {"1": "failed", "2": "completed"}


def test_dispatched_whose_work_is_done_is_completed_and_unblocks(team):
    pane = team.busy_pane(1)
    team.state({1: "dispatched", 2: "blocked"}, {1: {"pane": pane}}, {2: [1]})
    (team.folder / "issue-1.exit").write_text("ok\n")
    team.run(check=0)
    assert team.ledger() == [said(2)]
    assert pane in team.panes()


# -- "Auto-Retry Policy" ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, "1", 2])
def test_second_death_is_failed_and_reported_and_never_a_third(team, count):
    team.pane()
    team.state({1: "dispatched"}, {1: {"pane": "%77", "retryCount": count}})
    text = team.run(check=1)
    assert team.ledger() == []
    assert "died again: its pane %77 is gone; not retried by itself any more" in text
    assert team.project.statuses() == {"1": "failed"}


def test_death_of_the_redispatch_is_the_second(team):
    team.state({1: "dispatched"}, {1: {"pane": "%77"}})
    team.busy(1)
    started = team.start()
    team.project.wait_for(lambda: team.ledger() == [said(1, retry=1)], "it runs again")
    (claim,) = team.folder.glob("attempts/shell-1-1-a1/claim")
    os.kill(json.loads(claim.read_text())["pid"], signal.SIGKILL)
    assert started.wait(60) == 1
    assert team.ledger() == [said(1, retry=1)]


# -- what a pane tells -----------------------------------------------------------------------------


def test_no_tmux_server_is_a_death_and_charged(team):
    entries = {1: {"pane": "%3", "dispatchedAt": ago(hours=1)}, 2: {"pane": None}}
    team.state({1: "dispatched", 2: "dispatched"}, entries)
    assert not team.has_server()
    text = team.run(check=0)
    assert team.ledger() == [said(1, retry=1), said(2, retry=1)]
    assert "its pane %3 is gone" in text
    assert "there is no tmux server it could be in" in text


def test_pane_that_is_back_at_its_shell_is_a_death(team):
    pane = team.pane()
    team.state({1: "dispatched"}, {1: {"pane": pane, "dispatchedAt": ago(seconds=0)}})
    text = team.run(check=0)
    assert f"its pane {pane} is back at its shell, and it left no word" in text
    assert team.ledger() == [said(1, retry=1)]
    assert pane in team.panes()


def test_program_that_ends_in_a_shell_dies_then_and_never_runs_twice(team):
    pane = team.pane()
    path = team.room / "old-1"
    path.touch()
    loop = f"while [ -e {shlex.quote(str(path))} ]; do sleep 0.02; done"
    team.project.tmux("send-keys", "-t", pane, "-l", loop)
    team.project.tmux("send-keys", "-t", pane, "Enter")
    team.project.wait_for(
        lambda: "sleep 0.02" in team.project.processes().values(), "the program runs"
    )
    team.state({1: "dispatched", 2: "pending"}, {1: {"pane": pane}})
    started = team.start()
    team.settled(started, "dispatched", "completed")
    assert team.ledger() == [said(2)]
    path.unlink()
    assert started.wait(60) == 0
    assert team.ledger() == [said(1, retry=1), said(2)]
    assert pane in team.panes()


def in_doubt(team: Team, **entry: object) -> str:
    """A pane of a server that was started after the dispatch, busy with somebody's program."""
    pane = team.busy_pane(1)
    found = {"pane": pane, "dispatchedAt": ago(hours=1), **entry}
    team.state({1: "dispatched", 2: "pending", 3: "blocked"}, {1: found}, {3: [1]})
    return pane


@pytest.mark.parametrize("pane", ["the same id", None, "main:0.1"])
def test_pane_of_doubtful_identity_needs_a_person_and_nothing_is_ended(team, pane):
    other = in_doubt(team, **({} if pane == "the same id" else {"pane": pane}))
    started = team.start()
    team.settled(started, "dispatched", "completed", "blocked")
    team.project.wait_for(lambda: team.issue(1)["condition"] == "needs-input", "it is asked")
    issue = team.issue(1)
    assert "gangline retry work 1" in issue["question"]
    plan = json.loads(team.project.run("recover", "work", "--plan", "--json", check=0).stdout)
    (planned,) = [one for one in plan["issues"] if one["id"] == 1]
    assert planned["verdict"] == "unknown"
    team.project.run("stop", "work", check=0)
    assert started.wait(60) == 130
    assert team.issue(1)["condition"] == "needs-input"  # also when nobody watches
    assert team.issue(1)["question"] == issue["question"]
    text = team.project.run("recover", "work", "--plan", check=0).stdout
    assert "nobody can tell" in text
    assert_harmless(text)
    assert other in team.panes()
    assert team.ledger() == [said(2)]


@pytest.mark.parametrize(
    ("verb", "code", "lines"),
    [
        ("retry", 0, [said(1), said(2), said(3)]),
        ("cancel", 1, [said(2), said(3)]),
        ("skip", 1, [said(2), said(3)]),
    ],
)
def test_person_decides_over_a_doubtful_pane(team, verb, code, lines):
    pane = in_doubt(team)
    started = team.start()
    team.project.wait_for(lambda: "gangline retry work 1" in started.text(), "it is asked")
    told = team.project.run(verb, "work", "1", check=0).stdout
    assert "what runs in its pane is yours to end" in told
    assert started.wait(60) == code
    assert team.ledger() == lines
    assert pane in team.panes()


def test_person_decides_before_anything_was_adopted(team):
    in_doubt(team)
    team.project.run("retry", "work", "1", check=0)
    team.run(check=0)
    assert team.ledger() == [said(1), said(2), said(3)]


def test_cancel_of_one_that_runs_counts_when_it_has_ended(team):
    pane = team.busy_pane(1)
    team.state({1: "dispatched", 2: "pending"}, {1: {"pane": pane}})
    started = team.start()
    team.settled(started, "dispatched", "completed")
    team.project.run("cancel", "work", "1", check=0)
    team.settled(started, "dispatched", "completed")
    assert pane in team.panes()
    (team.room / "old-1").unlink()
    assert started.wait(60) == 1
    assert team.project.statuses() == {"1": "cancelled", "2": "completed"}
    assert team.ledger() == [said(2)]


@pytest.mark.parametrize("living", [True, False], ids=["orchestrator", "none"])
def test_stop_that_kills_leaves_what_the_shell_started_and_says_so(team, living):
    pane = team.busy_pane(1)
    team.state({1: "dispatched", 2: "pending"}, {1: {"pane": pane}})
    team.busy(2)
    started = team.start()
    team.project.wait_for(lambda: team.ledger() == [said(2)], "our agent runs")
    if not living:
        started.kill()
        started.wait()
    done = team.project.run("stop", "work", "--kill", check=0)
    if living:
        assert started.wait(60) == 130
        assert "1 agent runs on." in done.stdout
    text = started.text() if living else done.stdout
    assert "every agent has been ended but #1, in panes of your own" in text
    assert team.project.statuses() == {"1": "dispatched", "2": "pending"}
    assert pane in team.panes()
    assert team.issue(1)["condition"] == "working"
    assert team.issue(2)["retryCount"] == 0


# -- the signal file of what the shell started -----------------------------------------------------


@pytest.mark.parametrize(("words", "status"), [("ok", "completed"), ("tests red\n", "failed")])
def test_signal_file_decides_over_a_pane_that_is_gone(team, words, status):
    team.pane()
    team.state({1: "dispatched"}, {1: {"pane": "%77", "dispatchedAt": ago(hours=1)}})
    (team.folder / "issue-1.exit").write_text(words)
    team.run(check=0 if status == "completed" else 1)
    assert team.project.statuses() == {"1": status}
    assert team.ledger() == []


@pytest.mark.parametrize("form", ["iso", "epoch"])
def test_signal_file_from_before_the_dispatch_is_ignored_and_put_away(team, form):
    since = ago(minutes=5)
    if form == "epoch":
        since = str(int(datetime.fromisoformat(since).timestamp()))
    team.state({1: "dispatched"}, {1: {"pane": "%77", "dispatchedAt": since}})
    path = team.folder / "issue-1.exit"
    path.write_text("ok\n")
    old = datetime.now(UTC).timestamp() - 3600
    os.utime(path, (old, old))
    team.run(check=0)
    assert team.ledger() == [said(1, retry=1)]
    assert not path.exists()
    assert (team.folder / "issue-1.exit.stale").read_text() == "ok\n"


# -- texts -----------------------------------------------------------------------------------------


def test_titles_and_texts_come_from_the_source_of_the_settings(team):
    team.project.settings(SETTINGS.replace("[batch]", "[batch]\nfrom = 'issues'"))
    team.project.write("issues/1.md", "---\ntitle: Parse it\n---\nBody.\n")
    team.project.write("issues/9.md", "---\ntitle: Another\n---\n")
    team.state({1: "pending", 2: "pending"})
    text = team.run(check=0)
    assert team.ledger() == [said(1, prompt="Parse it"), said(2)]
    assert [issue["title"] for issue in team.project.status()["issues"]] == ["Parse it", ""]
    assert "issues does not have issue 2" in text


# -- what is kept ----------------------------------------------------------------------------------


def test_original_is_kept_and_unknown_keys_go_on(team):
    entry = {"pane": "%77", "lastActivity": ago(hours=1), "lastCommitSha": "0123abc", "x": [1]}
    left = {"pane": "%5", "retryCount": 0}
    state = team.state({1: "dispatched", 2: "completed"}, {1: entry, 2: left}, team={"a": 1})
    before = team.file.read_bytes()
    team.project.tmux("new-session", "-d", "-s", "team", "sh")
    team.busy(1)
    started = team.start()
    team.project.wait_for(lambda: team.ledger() == [said(1, retry=1)], "it runs")
    assert (team.folder / "batch.state.json.adopted").read_bytes() == before
    found = json.loads(team.file.read_text())
    assert found.keys() >= state.keys()
    assert found["team"] == {"a": 1}
    assert found["createdAt"] == state["createdAt"]
    now = found["dispatched"]["1"]
    assert {key: now[key] for key in ("lastActivity", "lastCommitSha", "x")} == {
        key: entry[key] for key in ("lastActivity", "lastCommitSha", "x")
    }
    assert now["retryCount"] == 1
    assert list(found["dispatched"]) == ["1"]
    (team.room / "busy-1").unlink()
    assert started.wait(60) == 0
    assert "%77" not in json.loads(team.file.read_text())["dispatched"]


def test_entry_left_over_on_a_finished_issue_is_never_dispatched(team):
    words = {1: "completed", 2: "failed", 3: "pending"}
    team.state(words, {1: {"pane": "%77", "retryCount": 0}, 2: {"pane": None, "retryCount": 1}})
    team.run(check=1)
    assert team.ledger() == [said(3)]


def test_ids_as_strings_and_fractions_of_an_old_jq(team):
    team.state({1: "completed"}, issues=[1, "2", 3.0], dag={"2": ["1"], "3": [2.0]}, status=...)
    team.run(check=0)
    assert team.ledger() == [said(1), said(2), said(3)]


def test_no_status_and_no_batch_id_begin_at_the_beginning(team):
    team.write('{"issues": [1], "agent": null}')
    team.run(check=0)
    assert team.ledger() == [said(1)]
    assert team.project.status()["batchId"].startswith("adopted-")


def test_worktrees_are_made_for_a_batch_that_knows_no_base_commit(team):
    team.project.settings(SETTINGS.replace('"shared"', '"worktree"'))
    team.state({1: "pending"})
    team.run(check=0)
    assert team.ledger() == [said(1)]
    assert team.issue(1)["attempts"][0]["branch"] == "gangline/work/issue-1"
    assert json.loads(team.file.read_text())["baseCommit"] == team.project.git("rev-parse", "HEAD")
    assert team.project.git("status", "--porcelain", "--", ".workspace") == ""


# -- a batch that was over: "Stale State" ----------------------------------------------------------


def test_stale_state_is_shown_archived_and_starts_nothing(team):
    own = team.pane()
    left = {1: {"pane": own, "retryCount": 0}}
    team.state({1: "completed", 2: "failed"}, left)
    text = team.run(check=1)
    assert "Summary of work, batch shell-1: 1 completed, 1 failed" in text
    assert "nothing was started" in text
    assert team.ledger() == []
    assert not team.folder.exists()
    kept = team.folder.parent / ".archive" / "work" / "shell-1" / "batch.state.json.adopted"
    assert json.loads(kept.read_text())["batchId"] == "shell-1"
    assert own in team.panes()


def test_archiving_closes_no_pane_of_a_person(team):
    own = team.busy_pane(1)
    team.state({1: "dispatched"}, {1: {"pane": own, "dispatchedAt": ago(seconds=0)}})
    (team.folder / "issue-1.exit").write_text("ok\n")
    team.run(check=0)
    assert "archived" in team.run(check=0)
    assert own in team.panes()


# -- looking changes nothing -----------------------------------------------------------------------


def test_looking_at_a_bare_state_changes_nothing(team):
    pane = team.busy_pane(1)
    entries = {1: {"pane": pane}, 2: {"pane": "%77", "dispatchedAt": "yesterday"}}
    team.state({1: "dispatched", 2: "dispatched", 3: "blocked"}, entries, {3: [1]}, createdAt=7)
    before, panes = team.project.snapshot(), team.panes()
    for argv in (
        ("status", "work"),
        ("status", "work", "--json"),
        ("list",),
        ("list", "--json"),
        ("graph", "work"),
        ("recover", "work", "--plan"),
        ("recover", "work", "--plan", "--json"),
        ("doctor", "work"),
    ):
        done = team.project.run(*argv)
        assert done.returncode in (0, 1), (argv, done.stderr)
        assert "Traceback" not in done.stderr
        assert_harmless(done.stdout)
        assert team.project.snapshot() == before, argv
    assert team.panes() == panes
    found = {issue["id"]: issue for issue in team.project.status()["issues"]}
    assert [found[key]["verdict"] for key in (1, 2)] == ["running", "died"]
    assert [found[key]["condition"] for key in (1, 2)] == ["working", None]
    assert team.ledger() == []


# -- what is refused -------------------------------------------------------------------------------


def test_unknown_agent_is_refused_with_a_hint_and_nothing_is_lost(team):
    team.state({1: "pending"}, agent="cluade")
    before = json.loads(team.file.read_text())
    text = team.run(check=2)
    assert "did you mean" in text
    assert team.ledger() == []
    found = json.loads(team.file.read_text())
    assert {key: found[key] for key in before.keys() - {"updatedAt"}} == {
        key: before[key] for key in before.keys() - {"updatedAt", "dag"}
    } | {"dag": found["dag"]}
    team.run("--agent", "worker", check=0)
    assert team.ledger() == [said(1)]


@pytest.mark.parametrize("agent", [..., None, ""])
def test_no_agent_anywhere_is_refused_with_a_hint_and_nothing_is_lost(team, agent):
    team.project.settings(SETTINGS.replace('agent = "worker"\n', ""))
    team.state({1: "pending"}, agent=agent)
    text = team.run(check=2)
    assert "no agent is named" in text
    assert "gangline run" in text
    assert team.project.statuses() == {"1": "pending"}
    team.run("--agent", "worker", check=0)
    assert team.ledger() == [said(1)]


BROKEN = {
    "empty": ("", "Input data was truncated"),
    "cut short": ('{"issues": [1], "sta', "Input data was truncated"),
    "a cycle": ('{"issues": [1, 2], "dag": {"1": [2], "2": [1]}}', "cycle: "),
    "a dangling id": ('{"issues": [1], "dag": {"1": [9]}}', "'9'"),
    "an unknown status": ('{"issues": [1], "status": {"1": "done"}}', "'done'"),
    "another area": ('{"issues": [1], "area": "server"}', "area 'server'"),
    "an unusable batch id": ('{"issues": [1], "batchId": "../x"}', "batchId '../x'"),
}


@pytest.mark.parametrize(("text", "words"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_state_is_refused_and_never_written_over(team, text, words):
    team.write(text)
    for argv in (("run", "work", "--from", team.project.plan([{"id": 1}])), ("status", "work")):
        told = team.refusal(*argv)
        assert words in told
        assert "hint: " in told


def test_cycle_is_named_and_its_hint_mends_it(team):
    team.state({1: "pending", 2: "blocked"}, dag={1: [2], 2: [1]})
    told = team.refusal("run", "work")
    assert "cycle: 1 -> 2 -> 1" in told
    (hint,) = [line for line in told.splitlines() if "gangline shell state-update" in line]
    _, *argv = shlex.split(hint[hint.index("gangline shell") :])
    team.project.run(*argv, check=0)
    team.run(check=0)
    assert team.ledger() == [said(1), said(2)]


# -- a crash at the adoption -----------------------------------------------------------------------


def adopt(team: Team) -> bytes:
    """Adopt the state and do nothing else; the journal's one line."""
    team.project.run("hold", "work", "no-such-issue", check=2)
    journal = (team.folder / "batch.journal.jsonl").read_bytes()
    assert journal.count(b"\n") == 1
    return journal


POINTS = ["the journal is empty", "its first line is torn", "the state file is still the shell's"]


@pytest.mark.parametrize("point", POINTS)
def test_crash_at_the_adoption_loses_nothing(team, point):
    team.state({1: "dispatched", 2: "completed"}, {1: {"pane": "%77", "retryCount": 0}}, team=1)
    before = team.file.read_bytes()
    line = adopt(team)
    left = {POINTS[0]: b"", POINTS[1]: line[: len(line) // 2], POINTS[2]: line}[point]
    (team.folder / "batch.journal.jsonl").write_bytes(left)
    team.write(before.decode())
    assert team.project.statuses() == {"1": "dispatched", "2": "completed"}
    text = team.run(check=0)
    assert "cannot be taken" not in text
    assert team.ledger() == [said(1, retry=1)]
    assert (team.folder / "batch.state.json.adopted").read_bytes() == before
    assert json.loads(team.file.read_text())["team"] == 1
    assert not list(team.folder.glob("*.rejected*"))


def test_edit_of_the_shells_file_after_its_adoption_is_not_overlooked(team):
    state = team.state({1: "pending", 2: "pending"})
    adopt(team)
    team.write(json.dumps({**state, "status": {"1": "completed", "2": "pending"}}))
    text = team.run(check=4)
    assert "the change cannot be taken" in text
    (kept,) = team.folder.glob("*.rejected*")
    assert json.loads(kept.read_text())["status"]["1"] == "completed"


KILLING = "--inject={call}:signal=SIGKILL:when={number}"


@pytest.mark.skipif(shutil.which("strace") is None, reason="it kills at system calls by strace")
@pytest.mark.parametrize("call", ["fsync", "link", "rename"])
def test_adoption_killed_at_every_step_that_counts_is_finished_by_the_next(team, call):
    state = {"area": "work", "issues": [1, 2], "status": {"1": "completed"}, "kept": [1]}
    number = 0
    while True:
        number += 1
        shutil.rmtree(team.folder, ignore_errors=True)
        team.write(json.dumps(state))
        inject = KILLING.format(call=call, number=number)
        argv = ["strace", "-f", "-qq", "-e", f"trace={call}", inject, "-o", os.devnull]
        done = subprocess.run(
            [*argv, *team.project.command("hold", "work", "no-such-issue")],
            cwd=team.project.folder,
            env=team.project.environment,
            capture_output=True,
            check=False,
        )
        assert team.project.statuses() == {"1": "completed", "2": "pending"}
        adopted = adopt(team)
        assert b'"type":"batch-restored"' in adopted
        found = json.loads(team.file.read_text())
        assert (found["kept"], found["status"]) == ([1], {"1": "completed", "2": "pending"})
        assert json.loads((team.folder / "batch.state.json.adopted").read_text()) == state
        if done.returncode == 2:  # it was not killed any more
            break
        assert done.returncode == -signal.SIGKILL
    assert number > 1
