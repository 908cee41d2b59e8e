"""`--detach` and `attach`: the orchestrator in a tmux window of its own, and the way to windows."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project
from test_live import Terminal, issue, let_go

ONE = {"id": 1, "title": "One", "run": ["true"]}


@pytest.fixture
def waiting(project: Project) -> Iterator[Project]:
    """A project in a shared folder whose issues wait for the file `go`."""
    project.settings("[workspace]\nkind = 'shared'\n")
    yield project
    let_go(project)


def detach(project: Project, *issues: dict) -> str:
    """Begin a batch with --detach; the pane of its orchestrator."""
    source = project.plan(issues or [issue(project, 1), issue(project, 2)])
    said = project.run("run", "work", "--detach", "--from", source, check=0)
    assert said.stderr == ""
    pane = re.search(r"runs in tmux pane (%\d+)\.", said.stdout)
    assert pane, said.stdout
    return pane[1]


def shown(project: Project, pane: str) -> str:
    return project.tmux("capture-pane", "-p", "-S", "-", "-t", pane).stdout


def wait_for_end(project: Project) -> None:
    project.wait_for(lambda: not project.status()["orchestrator"]["alive"], "it has ended")


def panes(project: Project, form: str) -> list[str]:
    return project.tmux("list-panes", "-a", "-F", form).stdout.splitlines()


def test_detached_orchestrator_lives_in_its_own_window_and_is_the_only_one(waiting):
    pane = detach(waiting)
    orchestrator = waiting.status()["orchestrator"]
    assert orchestrator["alive"]
    assert orchestrator["pane"] == pane
    assert f"{pane} gangline-work gangline run work" in panes(
        waiting, "#{pane_id} #{session_name} #{window_name}"
    )
    for option in ((), ("--detach",)):
        busy = waiting.run("run", "work", *option, check=3)
        assert "busy error: another orchestrator has area work" in busy.stderr
        assert "gangline stop work" in busy.stderr
    waiting.wait_for(lambda: "works on 2" in shown(waiting, pane), "the live view in its window")
    said = waiting.run("stop", "work", check=0).stdout
    assert said == "2 agents run on. Come back with: gangline run work\n"
    assert not waiting.status()["orchestrator"]["alive"]
    assert waiting.statuses() == {"1": "dispatched", "2": "dispatched"}


def test_summary_can_be_read_in_the_window_until_the_next_run(waiting):
    pane = detach(waiting, issue(waiting, 1), {**ONE, "id": 2, "run": ["false"]})
    let_go(waiting)
    waiting.wait_for(lambda: "Next:" in shown(waiting, pane), "the summary in the window")
    wait_for_end(waiting)
    waiting.wait_for(lambda: f"{pane} 1" in panes(waiting, "#{pane_id} #{pane_dead}"), "it is dead")
    assert "#2 failed: gangline logs work 2" in shown(waiting, pane)
    waiting.run("retry", "work", "2", check=0)
    waiting.run("run", "work", "--detach", check=0)
    assert pane not in panes(waiting, "#{pane_id}")
    wait_for_end(waiting)


def test_short_batch_may_be_over_before_its_window_is_looked_at(waiting):
    pane = detach(waiting, ONE)
    wait_for_end(waiting)
    assert waiting.statuses() == {"1": "completed"}
    waiting.wait_for(lambda: "Summary of work" in shown(waiting, pane), "the summary")


def test_detached_orchestrator_survives_the_terminal_it_was_started_from(waiting):
    source = waiting.plan([issue(waiting, 1)])
    terminal = Terminal(waiting)
    terminal.gangline("run", "work", "--detach", "--from", source)
    terminal.wait_for("runs in tmux pane", "code=0")
    terminal.tmux("kill-server")
    let_go(waiting)
    waiting.wait_for(lambda: waiting.statuses() == {"1": "completed"}, "it has gone on")


def test_wrong_input_is_refused_in_the_foreground_and_nothing_is_started(waiting):
    assert "nowhere.json" in waiting.refusal("run", "work", "--detach", "--from", "nowhere.json")
    source = waiting.plan([{**ONE, "run": ["no-such-program-here"]}])
    said = waiting.refusal("run", "work", "--detach", "--from", source)
    assert "no-such-program-here" in said


def test_batch_that_is_over_is_shown_and_archived_in_the_foreground(waiting):
    waiting.run("run", "work", "--from", waiting.plan([ONE]), check=0)
    said = waiting.run("run", "work", "--detach", check=0).stdout
    assert "Summary of work" in said
    assert "nothing was started. It is archived in" in said
    assert not waiting.area().exists()
    assert not any("gangline-work" in name for name in panes(waiting, "#{session_name}"))


def test_window_gets_the_environment_and_what_has_no_room_is_named(waiting):
    source = waiting.plan([issue(waiting, 1)])
    words = {"WORD": "two words; 'quoted' $HOME #{pid}", "BASH_FUNC_f%%": "() {  echo\n}"}
    waiting.tmux("new-session", "-d")  # a server that was started without them
    env = {**words, "TOO_LONG": "x" * 13_000}
    said = waiting.run("run", "work", "--detach", "--from", source, env=env, check=0)
    assert said.stderr == (
        "gangline: too long to be passed on, so as the tmux server has it: TOO_LONG\n"
    )
    pid = waiting.status()["orchestrator"]["pid"]
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    found = dict(pair.split("=", 1) for pair in pairs if pair)
    assert {name: found.get(name) for name in words} == words
    assert found["PATH"] == waiting.environment["PATH"]
    assert "TOO_LONG" not in found


def test_repository_with_a_module_named_gangline_does_not_run_it(waiting):
    waiting.write("gangline.py", "raise SystemExit(9)")
    (waiting.folder / "inside").mkdir()
    source = str(waiting.folder / waiting.plan([ONE]))
    argv = ("run", "work", "--detach", "--from", source)
    waiting.run(*argv, cwd=waiting.folder / "inside", check=0)
    # The window runs at the top, where the module is.
    waiting.wait_for(
        lambda: '"completed"' in (waiting.area() / "batch.state.json").read_text(), "it ran"
    )


def test_without_a_setting_the_server_it_was_started_in_is_used(waiting):
    waiting.write("gangline.toml", "[workspace]\nkind = 'shared'\n")
    waiting.tmux("new-session", "-d", "-s", "mine")
    server = waiting.tmux("display-message", "-p", "#{socket_path},#{pid},0").stdout.strip()
    source = waiting.plan([issue(waiting, 1)])
    env = {"TMUX": server, "TMUX_PANE": "%0"}
    waiting.run("run", "work", "--detach", "--from", source, env=env, check=0)
    assert "gangline-work gangline run work" in panes(waiting, "#{session_name} #{window_name}")
    waiting.run("stop", "work", env=env, check=0)


# -- attach ------------------------------------------------------------------------------------


def test_attach_outside_tmux_shows_the_window_of_the_issue_or_the_orchestrator(waiting):
    detach(waiting)
    terminal = Terminal(waiting)
    for argv, words in (
        (("attach", "work", "1"), "works on 1"),
        (("attach", "work", "#2"), "works on 2"),
        (("attach", "work"), "0/2 done, 2 running"),
    ):
        terminal.gangline(*argv)
        terminal.wait_for(words, "[gangline-")
        waiting.tmux("detach-client", "-s", "=gangline-work")
        terminal.wait_for("code=0", "[detached")


def test_attach_without_a_detached_orchestrator_shows_what_runs(waiting):
    waiting.start("run", "work", "--from", waiting.plan([issue(waiting, 1)]))
    waiting.wait_for(lambda: "%1" in panes(waiting, "#{pane_id}"), "the agent's pane")
    terminal = Terminal(waiting)
    terminal.gangline("attach", "work")
    terminal.wait_for("works on 1")


def test_attach_within_the_same_server_switches_the_client(waiting):
    detach(waiting)
    terminal = Terminal(waiting)
    terminal.type(f"tmux -u -S {waiting.socket} new-session -s mine bash --norc --noprofile")
    waiting.wait_for(
        lambda: "mine" in waiting.tmux("list-clients", "-F", "#{session_name}").stdout, "a client"
    )
    terminal.gangline("attach", "work", "1")
    terminal.wait_for("works on 1", history=False)
    clients = waiting.tmux("list-clients", "-F", "#{session_name} #{client_control_mode}").stdout
    assert [line for line in clients.splitlines() if line.endswith(" 0")] == ["gangline-work 0"]
    current = waiting.tmux("display-message", "-p", "-t", "=gangline-work:", "#{window_name}")
    assert current.stdout.startswith("#1 ")


def test_attach_within_another_server_shows_the_session_in_the_pane(waiting):
    detach(waiting)
    terminal = Terminal(waiting)
    inside = terminal.tmux("display-message", "-p", "#{socket_path},#{pid},0").strip()
    terminal.gangline("attach", "work", "2", env={"TMUX": inside, "TMUX_PANE": "%0"})
    terminal.wait_for("works on 2", "[gangline-")


def test_attach_that_cannot_be_is_refused_with_what_to_do_instead(waiting):
    waiting.run("run", "work", "--from", waiting.plan([ONE]), check=0)
    said = waiting.refusal("attach", "work", "1")
    assert "#1 has no window now; it is completed" in said
    assert "hint: what it printed: gangline logs work 1" in said
    said = waiting.refusal("attach", "work")
    assert "area work has no tmux session now" in said
    assert "hint: gangline status work" in said
    detach_other = waiting.plan([issue(waiting, 5)], "other.json")
    waiting.run("run", "other", "--detach", "--from", detach_other, check=0)
    said = waiting.run("attach", "other", check=2).stderr
    assert "there is no terminal to show the window in" in said


def test_window_of_another_life_of_the_server_is_not_taken_for_the_issues(waiting):
    source = waiting.plan([issue(waiting, 1)])
    started = waiting.start("run", "work", "--from", source)
    waiting.wait_for(
        lambda: waiting.area().exists() and waiting.status()["issues"][0]["attempts"], "an attempt"
    )
    waiting.wait_for(lambda: waiting.status()["issues"][0]["attempts"][0]["pane"], "its pane")
    started.kill()
    started.wait()
    waiting.tmux("kill-server")
    waiting.wait_for(lambda: not waiting.socket.exists() or not panes(waiting, "x"), "it is gone")
    waiting.tmux("-f", os.devnull, "new-session", "-d", "-s", "mine")
    waiting.tmux("new-window", "-d")  # %1 again
    assert "#1 has no window now" in waiting.run("attach", "work", "1", check=2).stderr
