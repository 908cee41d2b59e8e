"""`panes = "idle"`: a batch in the shells that a person has open beside the orchestrator."""

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from idle_stage import IdleStage
from test_live import Terminal

from gangline.app import launching, orchestrate
from gangline.app.decision_log import DecisionLog
from gangline.core.events import BatchStarted, OrchestratorStarted, PlannedIssue, Policy
from gangline.core.model import IssueSpec
from gangline.core.reconcile import Now
from gangline.errors import EXIT_INTERRUPTED
from gangline.ports import Wake
from gangline.store.area import AreaPaths
from gangline.store.batches import Store

SHELLS = ("bash", "zsh", "fish", "dash")
NASTY_NAME = 'it\'s a "b" $HOME `id` é日本;&|* #~!'
AT = "2026-01-01T00:00:00.000Z"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[IdleStage]:
    """A project, and a session with the orchestrator's pane; everything is ended afterwards."""
    made = IdleStage(tmp_path)
    yield made
    made.close()


def recorded(stage: IdleStage, kind: str) -> list[dict]:
    """The events of this type in the journal, in order."""
    lines = (stage.area() / "batch.journal.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["type"] == kind]


# -- where agents go -------------------------------------------------------------------------------


def test_shells_of_every_kind_are_used_at_once_and_left_as_they_were(tmp_path):
    stage = IdleStage(tmp_path, name=NASTY_NAME, workspace="worktree")
    try:
        panes = [stage.open(shell) for shell in SHELLS]
        other = stage.room / "a folder"
        other.mkdir()
        for shell, pane in zip(SHELLS, panes, strict=True):
            stage.type(pane, f"cd {shlex.quote(str(other))}")
            stage.type(pane, "set -gx KEPT yes" if shell == "fish" else "export KEPT=yes")
        stage.begin([stage.issue(number) for number in range(1, 6)])
        stage.wait_for_starts(4)
        assert {stage.pane_of(number) for number in (1, 2, 3, 4)} == set(panes)
        stage.let(1)
        stage.wait_for_starts(5)
        stage.let(2, 3, 4, 5)
        stage.wait_for_code(0)
        stage.assert_given_back(*panes, stage.own)
        for pane in panes:
            assert stage.tell(pane, 'echo "$PWD $KEPT"') == f"{other} yes"
        assert "GANGLINE_MARK" not in stage.tell(panes[0], "history")
        assert len(stage.starts()) == 5
        assert not any(line.beside for line in stage.ledger())
    finally:
        stage.close()


def test_without_an_idle_pane_issues_wait_and_one_that_comes_later_is_used(stage):
    """Neither the own pane, though it looks idle, nor another session's, nor a busy one is used."""
    stage.new_session("another")
    typed, gate = stage.room / "typed", stage.room / "gate"
    os.mkfifo(gate)
    busy, slow = stage.open(), stage.room / "slow.rc"
    stage.type(busy, f"cat >{shlex.quote(str(typed))}")
    stage.wait_for(typed.exists, "a busy pane")
    slow.write_text(f"read line < <(exec cat {shlex.quote(str(gate))})\nPS1='ready: '\n")
    rc_runs = stage.open_without_prompt("bash", "--rcfile", str(slow))
    stage.type(stage.own, f"({stage.run_line([stage.issue(1), stage.issue(2)])} &)")
    stage.wait_for(lambda: "no other pane of this tmux session is idle" in stage.said(), "a word")
    assert stage.statuses() == {"1": "pending", "2": "pending"}
    assert stage.screen(stage.own).endswith("ready:")
    gate.write_text("go on\n")
    stage.wait_for_starts(1)
    assert stage.pane_of(1) == rc_runs
    assert stage.statuses() == {"1": "dispatched", "2": "pending"}
    later = stage.open("zsh")
    stage.wait_for_starts(2)
    assert stage.pane_of(2) == later
    stage.let(1, 2)
    stage.wait_for_code(0)
    assert stage.said().count("is idle") == 1
    stage.ask("send-keys", "-t", busy, "C-d")
    stage.assert_given_back(busy, rc_runs, later, stage.own)
    assert typed.read_text() == ""
    assert [len(stage.attempts(number)) for number in (1, 2)] == [1, 1]


def test_max_concurrent_holds_although_more_panes_are_idle(stage):
    for _ in range(3):
        stage.open("dash")
    issues = [stage.issue(number, let=number > 2) for number in range(1, 6)]
    stage.begin(issues, "--max-concurrent", "2")
    stage.wait_for_starts(2)
    stage.let(1, 2)
    stage.wait_for_code(0)
    running = most = 0
    for line in stage.ledger():
        running += 1 if line.what == "start" else -1
        most = max(most, running)
    assert (most, len(stage.starts())) == (2, 5)


def test_two_orchestrators_of_one_session_share_its_panes(stage):
    own, gate = stage.open(), stage.room / "gate"
    os.mkfifo(gate)
    more = stage.run_line(
        [stage.issue(number, area="more", let=True) for number in (1, 2, 3)], area="more"
    )
    stage.type(own, f"cat {shlex.quote(str(gate))}; {more}")
    stage.wait_for(lambda: not stage.screen(own).endswith("ready:"), "its pane is busy")
    panes = {stage.open(), stage.open("fish")}
    stage.begin([stage.issue(number) for number in (1, 2, 3)])
    stage.wait_for_starts(2)
    gate.write_text("go on\n")
    stage.wait_for(lambda: "is idle" in stage.said(), "the second waits")
    stage.let(1, 2, 3)
    stage.wait_for_code(0)
    stage.wait_for_code(0, area="more")
    used = {
        (area, number): attempt["pane"]
        for area in ("work", "more")
        for number in (1, 2, 3)
        for attempt in stage.attempts(number, area)
    }
    assert {pane for (area, _), pane in used.items() if area == "work"} <= panes
    assert set(used.values()) <= {*panes, stage.own}  # this one was idle when its run was over
    taken: set[str] = set()
    for line in stage.ledger():
        pane = used[line.area, line.issue]
        assert (pane in taken) == (line.what == "end"), stage.ledger()
        taken ^= {pane}
    assert len(stage.starts()) == 6
    stage.assert_given_back(own, stage.own, *panes)


# -- typing ----------------------------------------------------------------------------------------


def type_keys(stage: IdleStage, pane: str, *keys: str) -> None:
    """Press keys one by one: Escape and what follows at once would be another key."""
    look = lambda: stage.ask("display-message", "-p", "-t", pane, "#{cursor_x}")  # noqa: E731
    for key in keys:
        before = look()
        stage.ask("send-keys", "-t", pane, key)
        stage.wait_for(lambda before=before: look() != before, "the cursor has moved")


def test_half_typed_text_is_not_run_whatever_the_mode_of_an_editor_like_vi(stage):
    """With the cursor in the middle of it, inserting; after what was typed first; commanding."""
    modes = (("Escape", "0", "e", "a"), ("Escape", "a"), ("Escape",))
    panes, poison = [], stage.room / "poison"
    begun = f"true; touch {poison}"
    for shell in (("bash", "-o", "vi"), ("zsh", "-o", "vi"), ("fish",)):
        for keys in modes:
            pane = stage.open(*shell, env={"VI_KEYS": "1"})
            panes.append(pane)
            stage.ask("send-keys", "-l", "-t", pane, begun)
            stage.wait_for(lambda pane=pane: stage.screen(pane).endswith(begun), "it is shown")
            type_keys(stage, pane, *keys)
    numbers = range(1, len(panes) + 1)
    stage.begin([stage.issue(number) for number in numbers], "--max-concurrent", "9")
    stage.wait_for_starts(len(panes))
    stage.let(*numbers)
    stage.wait_for_code(0)
    stage.assert_given_back(*panes)
    assert not poison.exists()


def test_launch_that_was_swallowed_goes_elsewhere_uncharged_and_a_busy_pane_is_not_typed_into(
    stage,
):
    """One pane reads lines without a child, as a prompt does; in one a program starts just then.

    The third issue comes when the one whose launch was swallowed has ended: it goes elsewhere too.
    """
    swallowed, typed, begun = (stage.room / name for name in ("swallowed", "typed", "begun"))
    os.mkfifo(begun)
    reader = stage.open()
    stage.type(reader, f'while read -r x; do echo "$x" >>{shlex.quote(str(swallowed))}; done')
    stage.wait_for(lambda: not stage.screen(reader).endswith("ready:"), "it reads lines")
    quick, *others = [stage.open() for _ in range(3)]
    program = f"sh -c 'echo on >{begun}; exec cat >{typed}'"
    stage.program(
        "tmux",
        'PATH=${PATH#*:}; export PATH\ntmux "$@" || exit $?\n'
        f'case "$*" in *" set-option -p -o -t {quick} "*)\n'
        f'tmux -S "$3" send-keys -t {quick} "{program}" Enter; read x <{begun};; esac',
    )
    issues = [stage.issue(number, let=True) for number in (1, 2, 3)]
    issues[2]["depends_on"] = [1]
    stage.begin(issues)
    stage.wait_for_code(0)
    first, second, third = (stage.attempts(number) for number in (1, 2, 3))
    assert [each["outcome"] for each in first] == ["void", "completed"]
    assert [each["outcome"] for each in second] == ["void", "completed"]
    assert [each["outcome"] for each in third] == ["completed"]
    assert {first[1]["pane"], second[1]["pane"], third[0]["pane"]} <= set(others)
    assert [issue["retryCount"] for issue in stage.status()["issues"]] == [0, 0, 0]
    assert [line.retry for line in stage.starts()] == [0, 0, 0]
    [line] = swallowed.read_text().splitlines()
    assert f"GANGLINE_MARK={first[0]['id']}." in line
    assert "is no longer idle; nothing was typed" in stage.said()
    stage.ask("send-keys", "-t", quick, "C-d")
    stage.ask("send-keys", "-t", reader, "C-c")
    stage.assert_given_back(reader, quick, *others)
    assert typed.read_text() == ""
    assert stage.tell(reader, f"({line}); echo ran") == "ran"  # too late it runs nothing
    assert len(stage.starts()) == 3


# -- what happens to them --------------------------------------------------------------------------


def test_killed_orchestrator_is_resumed_and_nothing_runs_twice(stage):
    panes = [stage.open(), stage.open("fish"), stage.open("dash")]
    stage.begin([stage.issue(number) for number in range(1, 6)], "--max-concurrent", "3")
    stage.wait_for_starts(3)
    homes = [stage.pane_of(number) for number in (1, 2, 3)]
    assert set(homes) == set(panes)
    stage.kill_orchestrator()
    stage.let(1)
    stage.assert_given_back(homes[0])  # nobody else was there to do it
    assert all(stage.option(pane) for pane in homes[1:])
    stage.resume()
    stage.wait_for_starts(4)
    stage.kill_orchestrator()
    stage.let(2, 3, 4, 5)
    stage.resume()
    stage.wait_for_code(0)
    assert sorted(line.issue for line in stage.starts()) == [1, 2, 3, 4, 5]
    assert not any(line.beside or line.retry for line in stage.ledger())
    stage.assert_given_back(*panes)


def test_agent_whose_pane_is_closed_died_and_goes_to_another_pane_charged(stage):
    closed, left = stage.open(), stage.open("zsh")
    stage.begin([stage.issue(1)])
    stage.wait_for_starts(1)
    assert stage.pane_of(1) == closed
    stage.ask("kill-pane", "-t", closed)
    stage.wait_for_starts(2)
    stage.let(1)
    stage.wait_for_code(0)
    died, second = stage.attempts(1)
    assert (died["outcome"], second["outcome"], second["pane"]) == ("died", "completed", left)
    assert [(line.retry, line.beside) for line in stage.starts()] == [(0, 0), (1, 0)]
    assert "its pane was closed or told to end" in stage.said()
    stage.assert_given_back(left)


def test_agents_of_a_tmux_server_that_was_killed_died_of_that(stage):
    for _ in range(3):
        stage.open("dash")
    stage.begin([stage.issue(number) for number in (1, 2, 3)])
    stage.wait_for_starts(3)
    for number in (1, 2, 3):
        stage.pane_of(number)
    stage.kill_orchestrator()
    left = set(stage.processes())
    stage.ask("kill-server")
    stage.wait_for(lambda: not left & set(stage.processes()), "everything of it has ended")
    stage.own = stage.new_session("user")
    panes = [stage.open("dash") for _ in range(3)]
    stage.resume()
    stage.wait_for_starts(6)
    stage.let(1, 2, 3)
    stage.wait_for_code(0)
    deaths = [event for event in recorded(stage, "ended") if event["outcome"] == "died"]
    assert [event["reason"] for event in deaths] == ["its tmux server is gone"] * 3
    assert sorted((line.issue, line.retry) for line in stage.starts()) == [
        *((1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)),
    ]
    stage.assert_given_back(*panes)


def test_interrupt_goes_to_the_agent_and_a_retry_to_an_idle_pane(stage):
    pane = stage.open("zsh")
    stage.begin([stage.issue(1), stage.issue(2)], "--max-concurrent", "1")
    stage.wait_for_starts(1)
    stage.pane_of(1)
    stage.ask("send-keys", "-t", pane, "C-c")
    stage.wait_for_starts(2)
    assert [line.what for line in stage.ledger()] == ["start", "interrupt", "start"]
    stage.run("retry", "work", "1", check=0)
    stage.let(1, 2)
    stage.wait_for_code(0)
    interrupted, again = stage.attempts(1)
    assert (interrupted["outcome"], interrupted["exitCode"]) == ("failed", 7)
    assert (again["outcome"], again["pane"]) == ("completed", pane)
    stage.assert_given_back(pane)  # with no remain-on-exit of ours


def test_pane_that_has_gone_on_to_something_else_is_not_advised_to_be_looked_at(stage):
    pane = stage.open()
    stage.begin([stage.issue(1)])
    stage.wait_for_starts(1)
    assert stage.pane_of(1) == pane
    stage.ask("send-keys", "-t", pane, "C-c")
    stage.wait_for_code(1)
    assert "#1 failed: gangline logs work 1\n" in stage.said()


def test_commands_reach_attempts_in_idle_panes_and_leave_the_panes(stage):
    first, second = stage.open(), stage.open("fish")
    split = stage.ask("split-window", "-d", "-P", "-F", "#{pane_id}", "-t", first, "bash")
    stage.wait_for_prompt(split)
    stage.begin([stage.issue(number) for number in (1, 2, 3)])
    stage.wait_for_starts(3)
    homes = {stage.pane_of(number): number for number in (1, 2, 3)}
    assert set(homes) == {first, split, second}
    for pane, number in homes.items():
        assert stage.attempts(number)[0]["pane"] == pane
        stage.wait_for(
            lambda number=number: (
                f"agent of {number} works" in stage.run("logs", "work", str(number), check=0).stdout
            ),
            "its log",
        )
    terminal = Terminal(stage)
    terminal.gangline("attach", "work", str(homes[split]))
    terminal.wait_for(f"agent of {homes[split]} works", "[user]")
    assert stage.ask("display-message", "-p", "-t", "=user:", "#{pane_id}") == split
    stage.run("cancel", "work", str(homes[split]), check=0)
    stage.assert_given_back(split)
    stage.run("stop", "work", "--kill", check=0)
    stage.wait_for_code(130)
    stage.assert_given_back(first, second, split)
    assert stage.statuses() == {
        str(number): "cancelled" if pane == split else "pending" for pane, number in homes.items()
    }
    assert [line.what for line in stage.ledger()] == ["start"] * 3


def test_agents_in_idle_panes_are_ended_also_without_an_orchestrator_and_outside_tmux(stage):
    pane = stage.open()
    stage.begin([stage.issue(1)])
    stage.wait_for_starts(1)
    stage.pane_of(1)
    stage.kill_orchestrator()
    stage.run("stop", "work", "--kill", check=0)
    stage.assert_given_back(pane)
    assert stage.statuses() == {"1": "pending"}
    assert len(stage.starts()) == 1


# -- what is refused -------------------------------------------------------------------------------


def test_idle_panes_are_refused_where_the_orchestrator_has_no_session_of_its_own(stage):
    source = stage.plan([stage.issue(1)])
    begin = ("run", "work", "--from", source)
    server = stage.ask("display-message", "-p", "#{pid}")
    inside = {"TMUX": f"{stage.socket},{server},0", "TMUX_PANE": stage.own}
    said = stage.refusal(*begin)
    assert "usage error: idle panes are those of the orchestrator's own tmux session" in said
    assert "at: gangline.toml: batch.panes" in said
    assert 'panes = "managed"' in said
    another_server = {**inside, "TMUX": f"{stage.socket},{os.getpid()},0"}
    for env in (another_server, {**inside, "TMUX_PANE": "%999"}):
        assert "is not on the tmux server that was chosen" in stage.refusal(*begin, env=env)
    said = stage.refusal(*begin, "--detach", env=inside)
    assert "a detached orchestrator has a tmux session of its own" in said
    assert "hint: in a pane of your session: gangline run work" in said


def test_path_that_cannot_be_typed_is_refused_before_anything(tmp_path):
    stage = IdleStage(tmp_path, name="two\nlines")
    try:
        server = stage.ask("display-message", "-p", "#{pid}")
        inside = {"TMUX": f"{stage.socket},{server},0", "TMUX_PANE": stage.own}
        source = stage.plan([stage.issue(1)])
        said = stage.refusal("run", "work", "--from", source, env=inside)
        assert "holds a character that cannot be typed" in said
        assert "rename the folder" in said
    finally:
        stage.close()


# -- waiting costs nothing -------------------------------------------------------------------------


class Wasteland:
    """A machine without idle panes, whose clock is moved by waiting alone."""

    refresh_seconds = None
    takes_idle_panes = True
    server = "1.1"

    def __init__(self, seconds_max: float) -> None:
        self.seconds = 1000.0
        self.end = self.seconds + seconds_max
        self.looks = self.waits = 0
        self.notes: list[str] = []

    def idle_panes(self):
        self.looks += 1
        return []

    def probe(self, subjects):
        return {}

    def tidy(self):
        pass

    def now(self):
        return Now(boot_id="boot", boot_seconds=self.seconds)

    def wall(self):
        return AT

    def wait(self, timeout_seconds):
        self.waits += 1
        assert self.waits < 1000, "it spins"
        self.seconds += timeout_seconds
        return Wake(set(), journal=False, signal=2 if self.seconds >= self.end else None)

    def happened(self, batch, events, *, away=False):
        pass

    def note(self, text):
        self.notes.append(text)

    def refresh(self, batch):
        pass


def test_waiting_for_a_pane_is_one_look_every_two_seconds_and_one_word(tmp_path, monkeypatch):
    paths = AreaPaths(str(tmp_path / ".workspace"), "work")
    store = Store(paths)
    ids = [str(number) for number in range(1, 9)]
    planned = tuple(PlannedIssue(id=each) for each in ids)
    batch = BatchStarted(
        format=1, area="work", batch_id="b1", agent="demo", issues=planned, policy=Policy()
    )
    store.create(batch, [IssueSpec(id=each, title=each, place="plan") for each in ids], AT)
    machine = Wasteland(seconds_max=60.0)
    for module in (launching, orchestrate):
        monkeypatch.setattr(module.time, "monotonic", lambda: machine.seconds)
    loop = orchestrate.Orchestrator(
        *(store, machine, machine, machine, machine, machine, DecisionLog(paths.log)),
        numbers={},
        poll_seconds=30.0,
    )
    assert loop.run(OrchestratorStarted(pid=1, boot_id="boot")) == EXIT_INTERRUPTED
    assert machine.looks <= 31
    assert machine.waits <= machine.looks + 4  # the slow timer, and before the first look
    assert machine.notes == ["no other pane of this tmux session is idle: open one to go on"]
