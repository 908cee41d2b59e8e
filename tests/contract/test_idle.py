"""Idle panes: real interactive shells in real tmux servers on private sockets.

Each shell has an empty home of its own. Programs and start-up files wait for pipes that a test
opens, so nothing here is decided by time.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys

import pytest
from attempt_stage import comes_true, wait_until_gone

from gangline.core.evidence import Verdict
from gangline.errors import ConfigError
from gangline.hosts import idle as idle_module
from gangline.hosts import processes
from gangline.hosts.attempt_folder import MARK_VARIABLE
from gangline.hosts.idle import (
    LAPSE_SECONDS,
    LINE_BYTES_MAX,
    PANE_OPTION,
    IdlePanes,
    PaneLook,
    launch_line,
)
from gangline.hosts.shells import has_children, reads_terminal
from gangline.hosts.tmux import ServerId, Tmux, TmuxError, TmuxUnknownError

OWNER = "/repository\tuser"
SHELLS = ["bash", "zsh", "fish", "dash"]
READY = "ready:"
PROMPTS = dict.fromkeys(SHELLS, f"PS1='{READY} '\n")
PROMPTS["fish"] = f"function fish_prompt; echo -n '{READY} '; end\n"
RC_FILES = {"bash": ".bashrc", "zsh": ".zshrc", "fish": "fish/config.fish", "dash": "dashrc"}
HELD = 'echo "$$ on" >"$1"\nread line <"$2"\n'
# One of each that a shell could take for itself, in a name that is a folder's.
NASTY_FOLDER = " ~a b=~'\"$HOME$(id)`id`!1!!{a,b}[c]?*#&;|<>^%1@+,:\\n\\ é日本 -"

each_shell = pytest.mark.parametrize("shell", SHELLS)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="made with /proc")


class Desk:
    """A session of a user's with panes, one of them the orchestrator's."""

    def __init__(self, stage, tmux):
        self.stage = stage
        self.tmux = tmux
        self.session = tmux.ensure_session("user", OWNER)
        tmux.connect(self.session)
        self.homes = itertools.count()
        self.own = self.open("bash", find_too=False).pane
        self.idle = IdlePanes(tmux, self.own)

    def open(self, shell, *arguments, session=None, rc="", argv=None, find_too=True):
        """A window with an interactive shell, at its prompt if `find_too`."""
        program = shutil.which(shell)
        assert program, f"this test needs the shell {shell}: install it"
        home = self.stage.folder / f"home-{next(self.homes)}"
        # Without the last, a fish that is new to its user reads every manual page of the machine.
        for folder in ("fish", "data/fish/generated_completions"):
            (home / folder).mkdir(parents=True)
        (home / RC_FILES[shell]).write_text(PROMPTS[shell] + rc)
        env = {name: str(home) for name in ("HOME", "ZDOTDIR", "XDG_CONFIG_HOME")}
        env |= {"XDG_DATA_HOME": str(home / "data"), "ENV": "./dashrc"}
        # dash expands what ENV holds, so the folder's name must not be in it.
        env |= {"LC_ALL": "C.UTF-8", "EDITOR": ""}
        argv = argv or ["env", program, *arguments]
        pane = self.tmux.new_window(session or self.session, shell, argv, env, str(home))
        if find_too:
            # Between the programs of its start a shell can look idle for longer than two looks.
            assert comes_true(lambda: READY in self.screen(pane.pane)), self.screen(pane.pane)
            self.wait_until_idle(pane.pane)
        return pane

    def wait_until_idle(self, pane):
        assert comes_true(lambda: pane in self.idle.find()), self.screen(pane)

    def type(self, pane, text):
        self.tmux.send_line(pane, text)

    def keys(self, pane, *keys):
        self.tmux.command("send-keys", "-t", pane, *keys)

    def screen(self, pane):
        return "\n".join(self.tmux.command("capture-pane", "-p", "-J", "-t", pane))

    def option(self, pane):
        return "".join(self.tmux.command("show-options", "-p", "-v", "-q", "-t", pane, PANE_OPTION))

    def launch(self, pane, launch, **spec):
        """Prepare an attempt and type it into a pane that is taken for it."""
        self.stage.prepare(launch, idlePane=True, **spec)
        assert self.idle.take(pane, launch.mark)
        self.idle.type_launch(pane, launch.mark, self.stage.folders.path(launch.attempt_id))

    def finished(self, launch):
        return comes_true(lambda: self.stage.verdict(launch) is Verdict.FINISHED)


@pytest.fixture
def desk(stage, private_tmux):
    return Desk(stage, private_tmux())


@pytest.fixture
def foreign(desk, tmp_path):
    """A pane with a bash at its prompt."""
    return desk.open("bash").pane


def waits_for(stage, *, word="on"):
    """A command for any shell that reports that it runs, and waits for the gate."""
    script = f'echo {word} >"$1"; read line <"$2"'
    return f"sh -c '{script}' - {stage.reports} {stage.gate}"


def begin(desk, stage, pane):
    """Have a command run in the pane, until the gate is opened."""
    desk.type(pane, waits_for(stage))
    assert stage.report() == "on"


# -- what is idle ----------------------------------------------------------------------------------


@each_shell
def test_shell_at_its_prompt_is_found_idle(desk, shell):
    pane = desk.open(shell)
    assert desk.idle.find() == [pane.pane]
    assert desk.idle.look(pane.pane)[0] is PaneLook.IDLE


@each_shell
def test_command_in_the_foreground_keeps_a_pane_busy_until_it_ends(desk, stage, shell):
    pane = desk.open(shell).pane
    begin(desk, stage, pane)
    assert desk.idle.find() == []
    assert desk.idle.look(pane)[0] is PaneLook.BUSY
    stage.open_gate()
    desk.wait_until_idle(pane)


@each_shell
def test_background_job_keeps_a_pane_busy(desk, stage, shell):
    pane = desk.open(shell).pane
    desk.type(pane, f"{waits_for(stage, word='$$')} &")
    job = int(stage.report())
    assert desk.idle.find() == []
    stage.open_gate()
    wait_until_gone(job)
    desk.type(pane, "")  # dash collects its jobs only before a prompt
    desk.wait_until_idle(pane)


def test_stopped_job_keeps_a_pane_busy(desk, stage, foreign):
    begin(desk, stage, foreign)
    desk.keys(foreign, "C-z")
    assert comes_true(lambda: "Stopped" in desk.screen(foreign))
    assert desk.idle.find() == []


@each_shell
def test_shell_that_runs_a_script_is_busy_also_where_it_has_no_child(desk, stage, shell):
    script = f"echo on >{stage.reports}; read line\n"
    path = stage.folder / "script"
    path.write_text(script)
    desk.open(shell, str(path), find_too=False)
    assert stage.report() == "on"
    desk.open(shell, "-c", script, find_too=False)
    assert stage.report() == "on"
    assert desk.idle.find() == []


def test_script_of_an_interactive_shell_is_busy(desk, stage, foreign):
    path = stage.folder / "a script"
    path.write_text(f"#!/bin/bash\necho on >{stage.reports}; read line\n")
    path.chmod(0o755)
    desk.type(foreign, str(path).replace(" ", "\\ "))
    assert stage.report() == "on"
    assert desk.idle.find() == []


def test_shell_that_reads_something_else_than_its_terminal_is_busy(desk, stage):
    argv = ["sh", "-c", 'exec bash <>"$1"', "-", str(stage.gate)]
    pane = desk.open("bash", argv=argv, find_too=False).pane
    state = lambda: processes.stat_fields(_pid(desk, pane))[0]  # noqa: E731
    # It is a bash, of no script, that waits for its input.
    assert comes_true(lambda: _command_line(desk, pane) == b"bash\0" and state() == b"S")
    assert desk.idle.look(pane)[0] is PaneLook.BUSY


def test_login_shell_is_a_shell(desk):
    start = "import os, sys; os.execv(sys.argv[1], ['-bash'])"
    argv = [sys.executable, "-c", start, shutil.which("bash")]
    pane = desk.open("bash", argv=argv, find_too=False).pane
    desk.wait_until_idle(pane)
    assert desk.idle.find() == [pane]


def test_shell_that_was_started_from_another_is_the_one_that_counts(desk, stage, foreign):
    desk.type(foreign, "bash --norc")
    desk.wait_until_idle(foreign)
    begin(desk, stage, foreign)
    assert desk.idle.find() == []
    stage.open_gate()
    desk.wait_until_idle(foreign)


@on_linux
def test_shell_in_another_root_is_not_ours_to_use(desk, monkeypatch):
    pane = desk.open("bash").pane
    samefile = os.path.samefile
    other = f"/proc/{_pid(desk, pane)}/root"
    monkeypatch.setattr(os.path, "samefile", lambda one, two: one != other and samefile(one, two))
    assert desk.idle.find() == []


def test_pane_of_a_program_that_is_no_shell_is_busy(desk):
    pane = desk.tmux.new_window(desk.session, "job", ["cat", "-"], {}, "/").pane
    assert desk.idle.look(pane)[0] is PaneLook.BUSY
    assert desk.idle.find() == []


def test_panes_come_in_the_order_of_windows_and_panes(desk):
    first, second, third = (desk.open("dash").pane for _ in range(3))
    assert desk.idle.find() == [first, second, third]
    desk.tmux.command("swap-window", "-d", "-s", first, "-t", third)
    desk.tmux.command("join-pane", "-d", "-s", first, "-t", second)
    assert comes_true(lambda: desk.idle.find() == [third, second, first])


def test_own_pane_is_never_found(desk):
    other = desk.open("bash").pane
    assert desk.idle.find() == [other]
    assert IdlePanes(desk.tmux, other).find() == [desk.own]


def test_pane_of_another_session_is_never_found(desk):
    there = desk.tmux.ensure_session("other", "/another")
    pane = desk.open("bash", session=there, find_too=False).pane
    assert comes_true(lambda: desk.idle.look(pane)[0] is PaneLook.IDLE)
    assert desk.idle.find() == []


def test_pane_whose_input_is_turned_off_is_not_found(desk, foreign):
    desk.tmux.command("select-pane", "-d", "-t", foreign)
    assert desk.idle.find() == []


def test_nothing_is_found_without_an_own_pane(desk, foreign, private_tmux):
    assert IdlePanes(desk.tmux, None).find() == []
    assert IdlePanes(desk.tmux, "%999").find() == []
    assert IdlePanes(private_tmux(), desk.own).find() == []


def test_pane_that_is_busy_at_the_second_look_is_not_found(desk, stage, foreign, monkeypatch):
    monkeypatch.setattr(idle_module.time, "sleep", lambda seconds: begin(desk, stage, foreign))
    assert desk.idle.find() == []


def test_pane_that_is_busy_at_the_second_look_is_busy(desk, stage, foreign, monkeypatch):
    monkeypatch.setattr(idle_module.time, "sleep", lambda seconds: begin(desk, stage, foreign))
    assert desk.idle.look(foreign)[0] is PaneLook.BUSY


def test_shell_that_computes_without_a_child_is_busy(desk, foreign):
    desk.type(foreign, "while :; do :; done")
    assert comes_true(lambda: desk.idle.look(foreign)[0] is PaneLook.BUSY)
    assert [desk.idle.find() for _ in range(3)] == [[], [], []]


@on_linux
def test_look_that_cannot_be_taken_is_unknown_and_never_idle(desk, foreign, monkeypatch):
    def exhausted(pid):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(processes, "stat_fields", exhausted)
    with pytest.raises(TmuxUnknownError):
        desk.idle.find()
    assert desk.idle.look(foreign)[0] is PaneLook.UNKNOWN


@on_linux
def test_children_are_seen_also_on_a_kernel_that_does_not_list_them(monkeypatch):
    real = os.listdir

    def without_tasks(path):
        if str(path).endswith("/task"):
            raise FileNotFoundError(path)
        return real(path)

    monkeypatch.setattr(os, "listdir", without_tasks)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert has_children(os.getpid())
        assert not has_children(child.pid)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-bash", True),
        ("bash -il", True),
        ("bash --rcfile F -i", True),
        ("bash --init-file F", True),
        ("bash -O extglob +O nullglob -o vi", True),
        ("bash -s a b", True),
        ("bash --login --", True),
        ("zsh --emulate sh", True),
        ("fish -C date --init-command date", True),
        ("fish --init-command=date", True),
        ("fish --private", True),
        ("dash -", True),
        ("bash script", False),
        ("bash -i script", False),
        ("bash -x -- script", False),
        ("bash -ic true", False),
        ("bash --rcfile F script", False),
        ("bash -C script", False),
        ("zsh -oerr_exit script", False),
        ("fish -c true", False),
        ("fish --command=true", False),
        ("fish -Cdate script", False),
        ("sh - script", False),
    ],
)
def test_command_line_tells_a_prompt_from_a_script(line, expected):
    argv = line.split()
    assert reads_terminal(argv[0].removeprefix("-"), argv) is expected


def _pid(desk, pane):
    return next(each.pid for each in desk.tmux.panes() if each.pane == pane)


def _command_line(desk, pane):
    with open(f"/proc/{_pid(desk, pane)}/cmdline", "rb") as file:
        return file.read()


# -- taking ----------------------------------------------------------------------------------------


def test_of_two_takers_one_wins_and_the_pane_is_no_longer_found(desk, foreign):
    second = Tmux(desk.tmux.socket, timeout_seconds=desk.tmux.timeout_seconds)
    others = IdlePanes(second, desk.own)
    assert [desk.idle.take(foreign, "m-1"), others.take(foreign, "m-2")] == [True, False]
    assert desk.option(foreign).startswith("m-1@")
    assert desk.idle.find() == others.find() == []


def test_takers_that_have_both_seen_a_free_pane_are_told_apart(desk, foreign, monkeypatch):
    second = Tmux(desk.tmux.socket, timeout_seconds=desk.tmux.timeout_seconds)
    others = IdlePanes(second, desk.own)
    free = others._panes()
    assert desk.idle.take(foreign, "m-1")
    monkeypatch.setattr(others, "_panes", lambda: free)
    assert not others.take(foreign, "m-2")
    assert desk.option(foreign).startswith("m-1@")


def set_taken(desk, pane, value):
    desk.tmux.command("set-option", "-p", "-t", pane, PANE_OPTION, value)


@pytest.mark.parametrize("age", [LAPSE_SECONDS + 1, -3600])
def test_pane_that_was_taken_long_ago_or_in_another_boot_is_offered_again(
    desk, foreign, monkeypatch, age
):
    monkeypatch.setattr(processes, "boot_seconds", lambda: 10_000.5)
    set_taken(desk, foreign, f"m-old@{10_000 - age}")
    assert desk.idle.find() == [foreign]
    assert desk.idle.take(foreign, "m-new")
    assert desk.option(foreign) == "m-new@10000"


@pytest.mark.parametrize("age", [LAPSE_SECONDS + 1, -3600])
def test_of_two_takers_of_a_lapsed_pane_one_wins(desk, foreign, monkeypatch, age):
    monkeypatch.setattr(processes, "boot_seconds", lambda: 10_000.5)
    set_taken(desk, foreign, f"m-old@{10_000 - age}")
    second = Tmux(desk.tmux.socket, timeout_seconds=desk.tmux.timeout_seconds)
    others = IdlePanes(second, desk.own)
    lapsed = others._panes()
    assert desk.idle.take(foreign, "m-1")
    monkeypatch.setattr(others, "_panes", lambda: lapsed)  # it looked before
    assert not others.take(foreign, "m-2")
    assert desk.option(foreign) == "m-1@10000"


def test_lapsed_pane_that_is_busy_is_neither_offered_nor_taken(desk, stage, foreign, monkeypatch):
    monkeypatch.setattr(processes, "boot_seconds", lambda: 10_000.5)
    set_taken(desk, foreign, "m-old@1")
    begin(desk, stage, foreign)
    assert desk.idle.find() == []
    assert not desk.idle.take(foreign, "m-new")
    assert desk.option(foreign) == "m-old@1"


@pytest.mark.parametrize(
    "value", ["mine", "m-1@", "m-1@-5", "m 1@5", "m@5@x", "#{pane_id}@1", "@1"]
)
def test_option_that_gangline_did_not_write_is_somebody_elses(desk, foreign, value):
    set_taken(desk, foreign, value)
    assert desk.idle.find() == []
    assert not desk.idle.take(foreign, "m-1")
    desk.idle.release(foreign, "m")
    assert desk.option(foreign) == value


def test_released_pane_is_found_again_and_bears_nothing(desk, foreign):
    assert desk.idle.take(foreign, "m-1")
    desk.idle.release(foreign, "m-1")
    assert desk.tmux.command("show-options", "-p", "-t", foreign) == []
    assert desk.idle.find() == [foreign]


@pytest.mark.parametrize("mark", ["m", "m-10", "m-", "M-1", "m.1"])
def test_pane_of_another_attempt_is_not_released(desk, foreign, mark):
    assert desk.idle.take(foreign, "m-1")
    desk.idle.release(foreign, mark)
    assert desk.option(foreign).startswith("m-1@")


def test_pane_that_is_gone_is_not_taken_and_released_without_error(desk, foreign, private_tmux):
    desk.tmux.kill_pane(foreign)
    assert not desk.idle.take(foreign, "m-1")
    desk.idle.release(foreign, "m-1")
    nowhere = IdlePanes(private_tmux(), "%0")
    nowhere.release("%1", "m-1")
    with pytest.raises(TmuxError):
        nowhere.take("%1", "m-1")


@pytest.mark.parametrize("mark", ["", "a b", "a;b", "#{x}", "a\n", "a@1", "a*"])
def test_what_is_no_mark_reaches_neither_tmux_nor_a_shell(desk, foreign, mark):
    for ask in (desk.idle.take, desk.idle.release):
        with pytest.raises(ValueError, match="mark"):
            ask(foreign, mark)
    with pytest.raises(ValueError, match="mark"):
        launch_line(mark, "/folder")


def test_pane_holds_the_attempt_it_was_taken_for_in_the_same_life_of_the_server(desk, foreign):
    server = desk.tmux.server()
    assert desk.idle.take(foreign, "m-1")
    assert desk.idle.pane_holds(foreign, server, "m-1") is True
    assert desk.idle.pane_holds(foreign, server, "m") is False
    assert desk.idle.pane_holds(desk.own, server, "m-1") is False
    assert desk.idle.pane_holds("%999", server, "m-1") is False
    assert desk.idle.pane_holds(foreign, ServerId(server.pid, 1), "m-1") is False


# -- looking at a pane of somebody else's attempt --------------------------------------------------


def test_look_tells_since_when_the_server_lives(desk, foreign):
    started = float(desk.tmux.server().start_time)
    assert desk.idle.look(foreign)[1].server_started == started
    assert desk.idle.look("%999") == (PaneLook.ABSENT, (started,))


def test_nothing_runs_in_a_pane_whose_program_has_ended(desk, foreign):
    desk.tmux.set_remain(foreign, True)
    desk.type(foreign, "exit")
    assert comes_true(lambda: next(p.dead for p in desk.tmux.panes() if p.pane == foreign))
    assert desk.idle.look(foreign)[0] is PaneLook.IDLE
    assert desk.idle.find() == []


def test_pane_of_a_dead_server_is_absent(desk, foreign, private_tmux):
    server = desk.tmux.server()
    os.kill(server.pid, signal.SIGKILL)
    wait_until_gone(server.pid)
    assert desk.idle.look(foreign) == (PaneLook.ABSENT, None)
    assert desk.idle.pane_holds(foreign, server, "m-1") is False
    assert IdlePanes(private_tmux(), None).look("%0") == (PaneLook.ABSENT, None)


@pytest.mark.parametrize("pane", ["", "0", "user:0.0", "%", "%1\n"])
def test_pane_that_is_named_by_no_id_is_never_absent(desk, pane):
    assert desk.idle.look(pane) == (PaneLook.UNKNOWN, None)


def test_look_without_tmux_is_unknown(desk, monkeypatch):
    desk.tmux.close()
    with monkeypatch.context() as here:
        here.setenv("PATH", "/nonexistent")
        assert desk.idle.look(desk.own) == (PaneLook.UNKNOWN, None)
        assert desk.idle.pane_holds(desk.own, ServerId(1, 1), "m") is None


def test_pane_of_a_hanging_server_is_unknown(desk, foreign, stopped):
    server = desk.tmux.server()
    hasty = IdlePanes(Tmux(desk.tmux.socket, timeout_seconds=0.1), desk.own)
    stopped(server.pid)
    assert hasty.look(foreign) == (PaneLook.UNKNOWN, None)
    assert hasty.pane_holds(foreign, server, "m-1") is None
    with pytest.raises(TmuxUnknownError):
        hasty.find()


# -- typing ----------------------------------------------------------------------------------------


@each_shell
def test_typed_line_runs_the_attempt_and_the_shell_is_idle_again(tmp_path, private_tmux, shell):
    from attempt_stage import Stage

    folder = tmp_path / NASTY_FOLDER
    folder.mkdir()
    stage = Stage(folder)
    try:
        desk = Desk(stage, private_tmux())
        pane = desk.open(shell).pane
        launch = stage.launch(HELD, keep_failed=False)
        desk.launch(pane, launch)
        assert stage.report().endswith(" on"), desk.screen(pane)
        assert stage.verdict(launch) is Verdict.RUNNING
        assert desk.idle.look(pane)[0] is PaneLook.BUSY
        stage.open_gate()
        assert desk.finished(launch)
        assert stage.record(launch)["code"] == 0
        desk.idle.release(pane, launch.mark)
        desk.wait_until_idle(pane)
        assert "[gangline] #1: exit code 0. Log: " in desk.screen(pane)
        remain = desk.tmux.command("show-options", "-p", "-t", pane)
        assert remain == []
        assert stage.no_report()
    finally:
        stage.close()


@each_shell
def test_line_typed_while_the_start_up_file_runs_is_read_afterwards(desk, stage, shell):
    pane = desk.open(shell, rc=waits_for(stage) + "\n", find_too=False).pane
    assert stage.report() == "on"
    assert desk.idle.find() == []
    launch = stage.launch('echo ran >"$1"\n')
    desk.launch(pane, launch)
    assert stage.verdict(launch) is Verdict.NOT_STARTED
    stage.open_gate()
    assert stage.report() == "ran", desk.screen(pane)
    assert desk.finished(launch)
    desk.idle.release(pane, launch.mark)
    desk.wait_until_idle(pane)
    assert stage.no_report()


@each_shell
def test_half_typed_text_is_not_run(desk, stage, shell):
    pane = desk.open(shell).pane
    poison = stage.folder / "poison"
    desk.keys(pane, "-l", f"touch {poison} poison")
    assert comes_true(lambda: "poison poison" in desk.screen(pane).replace("\n", ""))
    if shell != "dash":  # it has no line editor, so no way to the left
        desk.keys(pane, "Left", "Left")
    launch = stage.launch('echo ran >"$1"\n')
    desk.launch(pane, launch)
    assert stage.report() == "ran", desk.screen(pane)
    assert desk.finished(launch)
    desk.idle.release(pane, launch.mark)
    desk.wait_until_idle(pane)
    assert not poison.exists()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_half_typed_text_is_not_run_in_an_editor_like_vi(desk, stage, shell):
    pane = desk.open(shell, "-o", "vi").pane
    poison = stage.folder / "poison"
    desk.keys(pane, "-l", f"touch {poison}")
    assert comes_true(lambda: "poison" in desk.screen(pane).replace("\n", ""))
    launch = stage.launch('echo ran >"$1"\n')
    desk.launch(pane, launch)
    assert stage.report() == "ran", desk.screen(pane)
    assert desk.finished(launch)
    assert not poison.exists()


@each_shell
def test_ctrl_z_does_not_stop_an_attempt(desk, stage, shell):
    pane = desk.open(shell).pane
    launch = stage.launch(HELD)
    desk.launch(pane, launch)
    assert stage.report().endswith(" on")
    desk.keys(pane, "C-z")
    runner = stage.evidence(launch).runner
    assert comes_true(lambda: "^Z" in desk.screen(pane))  # the terminal has dealt with it
    assert processes.stat_fields(runner.pid)[0] != b"T"
    stage.open_gate()
    assert desk.finished(launch)
    desk.idle.release(pane, launch.mark)
    desk.wait_until_idle(pane)


def test_agent_has_the_default_of_every_signal_that_the_runner_ignores(stage):
    launch = stage.launch('grep SigIgn: /proc/self/status >"$1"\n')
    stage.prepare(launch)
    stage.finish(stage.start(launch))
    ignored = int(stage.report().split()[1], 16)
    stops = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGPIPE)
    assert not [each for each in stops if ignored >> (each - 1) & 1]


def test_line_that_a_reader_swallowed_leaves_the_attempt_unclaimed(desk, stage, foreign):
    desk.type(foreign, "read x")
    desk.wait_until_idle(foreign)  # nothing tells it from a prompt
    launch = stage.launch()
    desk.launch(foreign, launch)
    desk.type(foreign, f"echo swallowed >{stage.reports}")
    assert stage.report() == "swallowed"
    assert stage.verdict(launch) is Verdict.NOT_STARTED


def test_second_line_for_the_same_attempt_runs_nothing(desk, stage, foreign):
    launch = stage.launch('echo ran >"$1"\n')
    desk.launch(foreign, launch)
    assert stage.report() == "ran"
    assert desk.finished(launch)
    desk.idle.type_launch(foreign, launch.mark, stage.folders.path(launch.attempt_id))
    desk.type(foreign, f"echo after >{stage.reports}")
    assert stage.report() == "after"
    assert stage.no_report()


@pytest.mark.parametrize("ending", ["failed", "told to end"])
def test_last_words_are_always_said_in_an_idle_pane(desk, stage, foreign, ending):
    launch = stage.launch("exit 3\n" if ending == "failed" else HELD, keep_failed=False)
    desk.launch(foreign, launch)
    if ending != "failed":
        assert stage.report().endswith(" on")
        os.kill(stage.evidence(launch).runner.pid, signal.SIGTERM)
    assert comes_true(lambda: stage.has(launch, "exit.json"))
    desk.idle.release(foreign, launch.mark)
    desk.wait_until_idle(foreign)
    assert "[gangline] #1: " in desk.screen(foreign)


# -- the line --------------------------------------------------------------------------------------


def test_line_is_one_plain_line_that_history_leaves_out(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    line = launch_line("b1-1-a0.ff", "/a b/é~")
    assert line.startswith(f" env {MARK_VARIABLE}=b1-1-a0.ff /usr/bin/python3 -I -S /")
    assert line.endswith("/hosts/launch.py /a\\ b/é\\~")


@pytest.mark.parametrize("name", ["a\nb", "\x1b", "\t", "\x7f", "\x9b", "\udcff", "\u2028", "\xa0"])
def test_path_that_cannot_be_typed_is_refused_with_a_hint(name):
    with pytest.raises(ConfigError) as caught:
        launch_line("m", f"/folder/{name}")
    assert 'panes = "managed"' in caught.value.hint


def test_line_that_a_terminal_would_cut_is_refused():
    longest = "/" + "x" * (LINE_BYTES_MAX - len(launch_line("m", "/")))
    assert len(launch_line("m", longest)) == LINE_BYTES_MAX
    with pytest.raises(ConfigError):
        launch_line("m", f"{longest}x")
