"""The runner and an interactive agent, on the terminal of a real tmux pane (DESIGN.md section 4).

The agent is a small TUI that does what its keyboard says: it tells its hooks what Claude Code would
tell them, and reports what happens to it.
"""

import json
import os
import shlex
import sys
from pathlib import Path

import pytest
from attempt_stage import PYTHON, Stage, changed, comes_true, is_gone, wait_until_gone

from gangline.agents import hooks, hooks_file
from gangline.core.evidence import Verdict
from gangline.hosts import launch as launcher
from gangline.hosts import processes, runner_interactive
from gangline.hosts.attempt_folder import MARK_VARIABLE, Attempt
from gangline.hosts.runner_interactive import Turn
from gangline.hosts.runner_pane_log import for_tmux_shell

FOR_EVER = 1000.0

TUI = """
import json, os, signal, subprocess, sys, termios, tty
reports, settings = sys.argv[1], sys.argv[3]
def report(text):
    with open(reports, "w") as file:
        file.write(f"{text}\\n")
def hook(name, **fields):
    event = {"session_id": "S", "hook_event_name": name} | fields
    with open(settings) as file:
        line = json.load(file)["hooks"][name][0]["hooks"][0]["command"]
    subprocess.run(["/bin/sh", "-c", line], input=json.dumps(event).encode(), check=True)
    report(f"told {name}")
lingers = False
def terminated(number, frame):
    report("terminated")
    if lingers:
        with open(sys.argv[2]) as gate:
            gate.readline()
    os._exit(143)
signal.signal(signal.SIGINT, lambda number, frame: report("interrupted"))
signal.signal(signal.SIGCONT, lambda number, frame: report("continued"))
signal.signal(signal.SIGTERM, terminated)
tty.setcbreak(0, termios.TCSANOW)
os.write(1, b"\\x1b[?1049h\\x1b[?25lhello from the TUI\\r\\n")
report("on")
line = b""
while True:
    line += os.read(0, 1)
    if line[-1:] not in (b"\\n", b"\\r"):
        continue
    word, _, rest = line.decode().strip().partition(" ")
    line = b""
    if word == "hook":
        hook(*rest.split(" ", 1)[:1], **json.loads(rest.partition(" ")[2] or "{}"))
    elif word == "linger":
        lingers = True
        report("lingers")
    elif word == "exit":
        os._exit(int(rest))
    elif word == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif word == "print":
        os.write(1, b"x" * int(rest) + b"\\r\\n")
        report("printed")
    elif word == "where":
        fds = [os.ttyname(fd) for fd in range(3)]
        report(json.dumps({
            "ttys": fds, "pid": os.getpid(), "group": os.getpgrp(), "session": os.getsid(0),
            "foreground": os.tcgetpgrp(0), "environment": dict(os.environ),
            "descriptors": [n for n in range(3, 100) if os.path.exists(f"/proc/self/fd/{n}")],
        }))
    else:
        report(f"typed {word} {rest}")
"""


class Pane:
    """A pane in which an interactive attempt runs, and its keyboard."""

    def __init__(self, stage, tmux, grace_seconds=FOR_EVER, **changes):
        self.stage, self.tmux = stage, tmux
        self.launch = self._launch(changes)
        stage.prepare(self.launch, grace_seconds=30.0, turnGraceSeconds=grace_seconds)
        for name, data in self.files.items():
            stage.path(self.launch, name).write_bytes(data)
        self.session = tmux.ensure_session("client", "owner")

    def _launch(self, changes):
        launch = self.stage.launch(TUI, interpreter=PYTHON, interactive=True, **changes)
        folder = str(self.stage.path(launch))
        (_, settings), self.files = hooks.prepare("claude", folder)
        names = {"GANGLINE_AREA": "client", "GANGLINE_ISSUE": launch.issue}
        return changed(
            launch, argv=(*launch.argv, settings), environment=launch.environment | names
        )

    def open(self, argv=None):
        argv = argv or self.stage.runner_argv(self.launch)
        self.opened = self.tmux.new_window(self.session, "job", argv, {}, "/")
        self.pane = self.opened.pane
        assert self.stage.report() == "on"
        return self

    def type(self, text):
        self.tmux.command("send-keys", "-t", self.pane, "-l", text)
        self.press("Enter")

    def press(self, key):
        self.tmux.command("send-keys", "-t", self.pane, key)

    def tell(self, name, **fields):
        self.type(f"hook {name} {json.dumps(fields)}")
        assert self.stage.report() == f"told {name}"

    def tell_the_end(self, name, **fields):
        """Tell what ends the attempt; the agent may be asked to end while its hook still runs.

        It is continued, in case it was stopped, and then asked to end.
        """
        self.type(f"hook {name} {json.dumps(fields)}")
        assert self.stage.report() in ("continued", "terminated", f"told {name}")

    def shows(self, text):
        return comes_true(lambda: text in "\n".join(self.screen()))

    def screen(self):
        return self.tmux.command("capture-pane", "-p", "-t", self.pane)

    def progress(self):
        return json.loads(self.stage.path(self.launch, "progress.json").read_bytes())

    def ended(self):
        """Wait for the runner's end; its record."""
        wait_until_gone(self.opened.pid)
        return self.stage.record(self.launch)


@pytest.fixture
def make(stage, private_tmux):
    def made(*arguments, **options):
        return Pane(stage, private_tmux(), *arguments, **options)

    return made


# -- the terminal ----------------------------------------------------------------------------------


def test_agent_is_alone_in_the_foreground_of_the_panes_own_terminal(stage, make):
    pane = make().open()
    pane.type("where")
    found = json.loads(stage.report())
    tty, term = pane.tmux.pane_table(["#{pane_tty}", "#{pane_id}"])[-1][0], "TERM"
    assert found["ttys"] == [tty] * 3
    assert found["pid"] == found["group"] == found["foreground"]
    assert found["session"] == pane.opened.pid
    assert found["descriptors"] == []
    environment = found["environment"]
    (name,) = pane.tmux.command("show-options", "-gv", "default-terminal")
    assert environment.pop(term) == name
    for added in ("PWD", "SHLVL", "_", "OLDPWD", "LC_CTYPE"):  # by sh and Python on the way
        environment.pop(added, None)
    assert environment == pane.launch.environment
    assert stage.lock_is_held(pane.launch)
    pane.type("exit 0")
    assert pane.ended()["code"] == 0


def test_runner_of_an_interactive_agent_stays_below_15_mb(stage, make):
    pane = make().open()
    pane.type("print 1000000")
    assert stage.report() == "printed"
    pane.tell("PreToolUse", tool_name="Bash", tool_use_id="1")
    status = Path(f"/proc/{pane.opened.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    pane.type("exit 0")
    pane.ended()
    assert len(stage.log(pane.launch)) > 1_000_000
    assert int(peak.split()[1]) <= 15 * 1024, peak


def test_agent_that_ends_by_itself_is_recorded_as_it_ended(stage, make):
    pane = make().open()
    pane.type("exit 3")
    record = pane.ended()
    assert record["code"] == 3
    assert "turn" not in record
    assert stage.hint() == "1"
    assert stage.verdict(pane.launch) is Verdict.FINISHED


def test_without_a_terminal_an_interactive_agent_is_refused(stage):
    launch = stage.launch('echo ran >"$1"\n', interactive=True)
    record = stage.run(launch)
    assert "its pane's terminal" in record["refused"]
    assert not stage.has(launch, "starting")
    assert stage.verdict(launch) is Verdict.REFUSED
    assert stage.no_report()


def test_program_that_cannot_be_executed_is_a_reason_also_on_a_terminal(stage, make, private_tmux):
    pane = make()
    bad = stage.program("no shebang\n", "")
    spec = json.loads(stage.path(pane.launch, "spec.json").read_bytes()) | {"program": bad}
    stage.path(pane.launch, "spec.json").write_text(json.dumps(spec))
    argv = stage.runner_argv(pane.launch)
    pane.opened = pane.tmux.new_window(pane.session, "job", argv, {}, "/")
    assert "Exec format error" in pane.ended()["refused"]
    assert not stage.has(pane.launch, "pane")
    assert not stage.has(pane.launch, "poke")


def test_interrupt_reaches_the_agent_only(stage, make):
    pane = make().open()
    pane.press("C-c")
    assert stage.report() == "interrupted"
    pane.type("hello there")
    assert stage.report() == "typed hello there"  # once: the runner did not pass it on again
    pane.type("exit 0")
    record = pane.ended()
    assert record["code"] == 0
    assert "runnerSignal" not in record


def test_agent_that_the_terminal_stopped_goes_on_by_itself(stage, make):
    pane = make().open()
    for _ in range(3):
        pane.press("C-z")
        assert stage.report() == "continued"
    pane.type("still here")
    assert stage.report() == "typed still here"
    pane.type("exit 0")
    assert pane.ended()["code"] == 0


def test_agent_that_stopped_itself_is_shown_and_goes_on_at_enter(stage, make):
    pane = make().open()
    pane.type("stop")
    assert pane.shows("the agent is stopped; Enter lets it go on")
    pane.press("Enter")
    assert stage.report() == "continued"
    pane.type("still here")
    assert stage.report() == "typed still here"
    pane.type("exit 0")
    assert pane.ended()["code"] == 0


def test_agent_that_somebody_else_continues_has_the_terminal_again(stage, make):
    pane = make().open()
    pane.type("where")
    agent = json.loads(stage.report())["pid"]
    pane.type("stop")
    assert pane.shows("the agent is stopped")
    os.kill(agent, 18)
    assert stage.report() == "continued"
    pane.type("still here")
    while (said := stage.report()) == "continued":
        pass  # it read before it had the terminal again, was stopped for that, and goes on
    assert said == "typed still here"
    pane.type("exit 0")
    pane.ended()


def test_stopped_agent_is_ended_politely_as_well(stage, make):
    pane = make().open()
    pane.type("stop")
    assert pane.shows("the agent is stopped")
    os.kill(pane.opened.pid, 15)
    while (said := stage.report()) == "continued":
        pass  # or it saw TERM first
    assert said == "terminated"
    record = pane.ended()
    assert (record["code"], record["runnerSignal"]) == (143, 15)


def test_terminal_and_screen_of_a_killed_agent_are_given_back_as_they_were(stage, make):
    pane = make()
    runner = shlex.join(stage.runner_argv(pane.launch))
    script = stage.program(
        f'stty -g >"$1/before"\n{runner}\nstty -g >"$1/after"\n'
        'ps -o pgid=,tpgid= -p $$ >"$1/groups"\n'
        'read line\necho "$line" >"$1/line"\n'
    )
    pane.open([script, str(stage.work)])
    pane.type("where")
    agent = json.loads(stage.report())["pid"]
    os.kill(agent, 9)
    assert stage.hint() == "1"
    assert comes_true((stage.work / "groups").exists)
    states = pane.tmux.pane_table(["#{pane_id}", "#{alternate_on}", "#{cursor_flag}"])
    assert [pane.pane, "0", "1"] in states
    pane.type("to the shell")
    wait_until_gone(pane.opened.pid)
    assert stage.record(pane.launch)["signal"] == 9
    assert (stage.work / "after").read_text() == (stage.work / "before").read_text()
    group, foreground = (stage.work / "groups").read_text().split()
    assert group == foreground
    assert (stage.work / "line").read_text() == "to the shell\n"


@pytest.mark.parametrize("way", ["kill-pane", "kill-server"])
def test_agent_of_a_closed_pane_is_ended_and_recorded(stage, make, way):
    pane = make().open()
    pane.type("where")
    agent = json.loads(stage.report())["pid"]
    pane.tmux.command(way, *(["-t", pane.pane] if way == "kill-pane" else []))
    record = pane.ended()
    assert is_gone(agent)
    assert record["runnerSignal"] == 1
    assert stage.verdict(pane.launch) is Verdict.DIED


def test_agent_of_a_killed_runner_is_found_by_its_group(stage, make):
    """Its runner led the session; whatever outlives the hang-up is known by its group."""
    source = (
        "import os, signal, sys\n"
        "for number in (signal.SIGHUP, signal.SIGTERM):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        "    with open(sys.argv[1], 'w') as file:\n"
        "        file.write(f'{os.getpid()}\\n')\n"
        "    os.execve('/bin/sleep', ['sleep', '1000'], {})\n"
        "signal.pause()\n"
    )
    pane = make()
    program = stage.program(source, PYTHON)
    spec = json.loads(stage.path(pane.launch, "spec.json").read_bytes())
    stage.path(pane.launch, "spec.json").write_text(json.dumps(spec | {"program": program}))
    argv = stage.runner_argv(pane.launch)
    pane.opened = pane.tmux.new_window(pane.session, "job", argv, {}, "/")
    unmarked = int(stage.report())
    agent, started = stage.folders.session(stage.subject(pane.launch))
    os.kill(pane.opened.pid, 9)
    wait_until_gone(pane.opened.pid)
    assert not is_gone(unmarked)
    assert set(processes.session_members(agent, started)) == {agent, unmarked}
    processes.signal_session(agent, started, 9)
    wait_until_gone(unmarked)
    assert comes_true(lambda: is_gone(agent))


# -- in a person's own pane ------------------------------------------------------------------------


def test_idle_pane_is_its_shells_again_when_the_agent_has_ended(stage, make):
    pane = make()
    shell = pane.tmux.new_window(pane.session, "own", ["bash", "--norc", "-i"], {}, "/")
    pane.pane = shell.pane
    pane.type(f"echo ready >{shlex.quote(str(stage.reports))}")
    assert stage.report() == "ready"
    mark = f"{MARK_VARIABLE}={pane.launch.mark}"
    runner = [sys.executable, "-I", "-S", launcher.__file__, str(stage.path(pane.launch))]
    pane.type(shlex.join(["env", mark, *runner]))
    assert stage.report() == "on"
    pane.press("C-z")
    assert stage.report() == "continued"
    pane.press("C-c")
    assert stage.report() == "interrupted"
    pane.type("exit 0")
    assert stage.hint() == "1"
    pane.type(f"echo $? $- >{shlex.quote(str(stage.reports))}")
    status, flags = stage.report().split()
    assert (status, "i" in flags) == ("0", True)
    assert stage.record(pane.launch)["code"] == 0
    shown = "#{pane_id} #{pane_pipe}"
    assert [f"{pane.pane} 0"] in pane.tmux.pane_table([shown])


# -- the log ---------------------------------------------------------------------------------------


def test_log_is_what_the_pane_showed(stage, make):
    pane = make().open()
    pane.type("print 5000")
    assert stage.report() == "printed"
    pane.type("exit 0")
    pane.ended()
    log = stage.log(pane.launch)
    assert b"hello from the TUI" in log
    assert b"x" * 5000 in log
    assert not stage.has(pane.launch, "pane")  # the pipes are for a living runner only
    assert not stage.has(pane.launch, "poke")


def test_log_is_capped_like_any_other(stage, make):
    pane = make(log_bytes=3000).open()
    pane.type("print 10000")
    assert stage.report() == "printed"
    pane.type("exit 0")
    assert pane.ended()["logCut"] is True
    kept, _, rest = stage.log(pane.launch).partition(b"\n[gangline] cut here")
    assert len(kept) == 3000
    assert rest


def test_log_is_found_below_any_path(tmp_path, private_tmux):
    folder = tmp_path / "a #{pane_id} #(touch x) %H 'b' \"c\" $(touch y) `z` \\ é"
    folder.mkdir()
    stage = Stage(folder)
    try:
        pane = Pane(stage, private_tmux()).open()
        pane.type("exit 0")
        pane.ended()
        assert b"hello from the TUI" in stage.log(pane.launch)
    finally:
        stage.close()


def test_word_for_the_shell_of_tmux_is_one_word():
    assert for_tmux_shell("/a b") == "'/a b'"
    assert for_tmux_shell("/a'#{x}%H") == "'/a'\\''##{x}%%H'"


def test_pane_that_somebody_pipes_is_left_to_them(stage, make):
    pane = make()
    taken = stage.folder / "taken"
    gate = shlex.quote(str(stage.gate))
    script = stage.program(
        f"read line <{gate}\nexec {shlex.join(stage.runner_argv(pane.launch))}\n"
    )
    pane.opened = pane.tmux.new_window(pane.session, "job", ["/bin/sh", script], {}, "/")
    pane.pane = pane.opened.pane
    line = f"exec cat >{for_tmux_shell(str(taken))}"
    pane.tmux.command("pipe-pane", "-O", "-t", pane.pane, line)
    stage.open_gate()
    assert stage.report() == "on"
    pane.type("exit 0")
    pane.ended()
    assert stage.log(pane.launch) == b""
    assert comes_true(lambda: b"hello from the TUI" in taken.read_bytes())


# -- the turn --------------------------------------------------------------------------------------


def test_end_of_the_turn_ends_the_attempt_as_a_success(stage, make):
    pane = make(grace_seconds=0.0).open()
    pane.tell_the_end("Stop", last_assistant_message="Done.")
    record = pane.ended()
    assert (record["code"], record["turn"]) == (0, True)
    assert pane.progress()["lastWords"] == "Done."
    assert pane.progress()["session"] == "S"
    assert stage.verdict(pane.launch) is Verdict.FINISHED
    assert stage.evidence(pane.launch).exit.code == 0


def test_hang_up_after_the_turn_makes_its_success_no_death(stage, make):
    pane = make(grace_seconds=0.0).open()
    pane.type("linger")
    assert stage.report() == "lingers"
    pane.type("hook Stop {}")
    while stage.report() != "terminated":
        pass  # its hook may have been cut off, or not
    os.kill(pane.opened.pid, 15)
    stage.open_gate()
    record = pane.ended()
    assert (record["code"], record["turn"]) == (0, True)
    assert stage.verdict(pane.launch) is Verdict.FINISHED


def test_turn_that_failed_ends_the_attempt_as_a_failure(stage, make):
    pane = make(grace_seconds=0.0).open()
    said = "Invalid API key"
    pane.tell_the_end("StopFailure", error="authentication_failed", last_assistant_message=said)
    record = pane.ended()
    assert (record["code"], record["turn"]) == (1, True)
    assert pane.progress()["failureKind"] == "auth"


def test_open_question_keeps_an_agent_whose_turn_has_ended(stage, make):
    pane = make(grace_seconds=0.0).open()
    hooks_file.open_question(str(stage.path(pane.launch)))
    pane.tell("Stop")
    pane.tell("UserPromptSubmit", prompt="the left one")
    pane.tell("PreToolUse", tool_name="Bash", tool_use_id="1")
    pane.tell("PostToolUse", tool_name="Bash", tool_use_id="1")
    pane.tell_the_end("Stop")
    assert pane.ended()["turn"] is True
    assert pane.progress()["turns"] == 2


def test_permission_that_it_asks_for_wakes_the_orchestrator(stage, make):
    pane = make().open()
    pane.tell("PermissionRequest", tool_name="Bash", tool_input={"command": "make"})
    hints = [stage.hint()]
    assert hints == ["1"]
    needs = "asks for permission: Bash: make (to answer: gangline attach client 1)"
    assert pane.progress()["needs"] == needs
    pane.tell("PostToolUse", tool_name="Bash")
    assert "needs" not in pane.progress()
    pane.type("exit 0")
    assert pane.ended()["code"] == 0


THREAD = "01a22238-dd42-72f0-9480-21b9c3bff7d7"
HOLDING = """
import os, sys
held = open(sys.argv[3])
with open(sys.argv[1], "w") as file:
    file.write("on\\n")
os.read(0, 1)
"""


@pytest.mark.parametrize(("told", "found"), [(None, THREAD), ("known before", None)])
def test_session_of_codex_is_on_record_while_its_first_turn_runs(stage, make, told, found):
    rollout = stage.folder / f"rollout-2026-11-28T12-54-41-{THREAD}.jsonl"
    rollout.write_text(json.dumps({"payload": {"source": "cli", "cwd": "/"}}) + "\n")
    pane = make()
    program = stage.program(HOLDING, PYTHON)
    spec = stage.path(pane.launch, "spec.json")
    argv = [program, str(stage.reports), "", str(rollout)]
    spec.write_text(json.dumps(json.loads(spec.read_bytes()) | {"program": program, "argv": argv}))
    _, files = hooks.prepare("codex", str(stage.path(pane.launch)), told)
    for name, data in files.items():
        stage.path(pane.launch, name).write_bytes(data)
    pane.open()
    if found:
        assert stage.hint() == "1"
        assert pane.progress() == {"session": THREAD}
    pane.press("Enter")
    pane.ended()
    assert stage.has(pane.launch, "progress.json") is bool(found)


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands; the test moves it."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(runner_interactive, "time", made)
    return made


class Told:
    """A Turn, and the progress.json that it reads."""

    def __init__(self, stage, grace_seconds=5.0):
        self.path = stage.area / "progress.json"
        self.turn = Turn(Attempt(str(stage.area)), grace_seconds)

    def tell(self, **known):
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(known))
        part.rename(self.path)
        return self.turn.look()


def test_new_prompt_in_the_grace_cancels_the_end(stage, clock):
    told = Told(stage)
    told.tell(turnEnded=True, turns=1)
    clock.now += 4.0
    assert not told.turn.is_over()
    told.tell(turns=1)
    clock.now += 100.0
    assert not told.turn.is_over()


def test_turn_that_ends_again_has_a_whole_grace_again(stage, clock):
    told = Told(stage)
    told.tell(turnEnded=True, turns=1)
    clock.now += 4.0
    told.tell(turnEnded=True, turns=2)
    clock.now += 4.0
    assert not told.turn.is_over()
    assert told.turn.patience_ms() <= 1001
    told.tell(turnEnded=True, turns=2, inputTokens=5)
    clock.now += 1.0
    assert told.turn.is_over()


def test_turn_that_shows_in_the_agents_own_file_cancels_the_end(stage, clock):
    told = Told(stage)
    path = stage.folder / "conversation"
    path.write_text("begin; end;")
    told.tell(turnEnded=True, turns=1, again={"path": str(path), "from": 6, "text": "begin"})
    clock.now += 4.0
    path.write_text("begin; end; said later; begin;")
    clock.now += 1.0
    assert not told.turn.is_over()
    path.write_text("begin; end; said later; begin; end;")
    again = {"path": str(path), "from": 31, "text": "begin"}
    told.tell(turnEnded=True, turns=2, again=again)
    clock.now += 5.0
    assert told.turn.is_over()


@pytest.mark.parametrize(
    "again", [None, 3, [], {}, {"path": "/nonexistent", "from": 0}, {"path": 3}]
)
def test_what_cannot_be_looked_at_keeps_no_turn_open(stage, clock, again):
    told = Told(stage)
    told.tell(turnEnded=True, again=again)
    clock.now += 5.0
    assert told.turn.is_over()


@pytest.mark.parametrize(
    ("known", "code"),
    [({}, 0), ({"failure": "no"}, 1), ({"limited": True}, 1), ({"needs": "asks"}, 0)],
)
def test_code_of_a_turn_says_whether_it_failed(stage, clock, known, code):
    told = Told(stage)
    told.tell(turnEnded=True, **known)
    assert told.turn.code == code


def test_only_what_decides_something_is_a_hint(stage, clock):
    told = Told(stage)
    assert told.tell(session="S")
    assert not told.tell(session="S", inputTokens=3, lastWords="so far")
    assert told.tell(session="S", needs="asks")
    assert not told.turn.look()


@pytest.mark.parametrize("data", [b"", b"{", b"[1]", b"\xff"])
def test_progress_that_cannot_be_read_tells_nothing(stage, clock, data):
    told = Told(stage)
    told.path.write_bytes(data)
    assert not told.turn.look()
    clock.now += 1000.0
    assert not told.turn.is_over()
