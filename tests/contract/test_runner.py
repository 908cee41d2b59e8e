"""The runner against real processes, files and terminals (DESIGN.md section 4, steps 3 to 5)."""

import fcntl
import json
import os
import pty
import resource
import signal
import subprocess
import sys

import pytest
from attempt_stage import (
    PYTHON,
    Lines,
    changed,
    comes_true,
    is_gone,
    opened_the_lock,
    wait_until_gone,
    when_lock_is_free,
)

from gangline.core.evidence import Answer, Claim, Verdict
from gangline.hosts import processes
from gangline.hosts.local import _PACKAGE_FOLDER
from gangline.hosts.processes import wall_time

RACES = 100
WAIT_FOR_THE_GATE = 'read line <"$2"\n'
BRANCH = "gangline/area/issue-1"


# -- how it ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 3, 129, 255])
def test_exit_code_is_recorded(stage, code):
    launch = stage.launch(f"exit {code}\n")
    stage.prepare(launch)
    begun_at = wall_time()
    status = stage.finish(stage.start(launch))
    record = stage.record(launch)
    assert begun_at <= record.pop("endedAt") <= wall_time()  # to the ms: short jobs are no shorter
    assert record == {"code": code}
    assert status == (0 if code == 0 else 1)
    assert stage.verdict(launch) is (Verdict.DIED if code == 129 else Verdict.FINISHED)


def test_signal_that_killed_the_agent_is_recorded_and_is_a_death(stage):
    launch = stage.launch("kill -9 $$\n")
    assert stage.run(launch)["signal"] == 9
    assert "code" not in stage.record(launch)
    assert stage.verdict(launch) is Verdict.DIED
    assert stage.verdict(launch, kill_ordered=True) is Verdict.FINISHED


@pytest.mark.parametrize(
    ("contents", "reason"),
    [("no shebang\n", "Exec format error"), ("#!/nonexistent/shell\n", "No such file")],
)
def test_program_that_cannot_be_executed_is_a_reason_and_not_a_death(stage, contents, reason):
    launch = stage.launch(contents, interpreter="")
    record = stage.run(launch)
    assert reason in record["refused"]
    assert launch.program in record["refused"]
    assert stage.verdict(launch) is Verdict.FINISHED
    assert "code" not in record


def test_argument_that_no_program_can_have_is_a_reason_and_not_a_crash(stage):
    launch = stage.launch()
    launch = changed(launch, argv=(launch.program, "a\0b"))
    assert "could not be executed" in stage.run(launch)["refused"]


@pytest.mark.parametrize("kept", [True, False])
def test_last_words_are_said_if_the_pane_is_to_be_kept(stage, kept):
    launch = stage.launch("exit 3\n", keep_failed=kept)
    stage.run(launch)
    assert (b"#1: exit code 3. Log: " in stage.pane()) is kept


# -- what it refuses -------------------------------------------------------------------------------


def refused(stage, launch):
    """The reason; nothing was about to be started."""
    record = stage.run(launch)
    assert not stage.has(launch, "starting")
    assert stage.no_report()
    assert stage.verdict(launch) is Verdict.REFUSED
    return record["refused"]


def reporting(stage, **changes):
    return stage.launch('echo ran >"$1"\n', **changes)


def test_missing_program_is_refused(stage):
    launch = reporting(stage, program=str(stage.folder / "nothing"))
    assert "there is no program" in refused(stage, launch)


def test_program_that_is_not_executable_is_refused(stage):
    launch = reporting(stage)
    os.chmod(launch.program, 0o644)
    assert "there is no program" in refused(stage, launch)


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_folder_that_cannot_be_entered_is_refused(stage, kind):
    folder = stage.folder / "elsewhere"
    if kind == "file":
        folder.write_text("")
    assert "its folder cannot be entered" in refused(stage, reporting(stage, cwd=str(folder)))


def git(folder, *argv):
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
    done = subprocess.run(
        ["git", *who, *argv],
        cwd=folder,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def repository(stage, name):
    """A repository with one worktree of it; (its folder, the worktree, its private git folder)."""
    main, worktree = stage.folder / name, stage.folder / f"{name}-worktree"
    main.mkdir()
    git(main, "init", "-q")
    git(main, "commit", "-q", "--allow-empty", "-m", "first")
    git(main, "worktree", "add", "-q", "-b", BRANCH, str(worktree))
    return main, worktree, git(worktree, "rev-parse", "--absolute-git-dir")


def registered(stage, folder, git_dir):
    return reporting(stage, cwd=str(folder), git_dir=git_dir, branch=BRANCH)


def test_registered_worktree_on_its_branch_is_accepted(stage):
    _, worktree, git_dir = repository(stage, "one")
    assert stage.run(registered(stage, worktree, git_dir))["code"] == 0
    assert stage.report() == "ran"


def test_worktree_reached_through_a_symbolic_link_is_accepted(stage):
    _, worktree, git_dir = repository(stage, "one")
    (stage.folder / "link").symlink_to(worktree)
    assert stage.run(registered(stage, stage.folder / "link", git_dir))["code"] == 0


@pytest.mark.parametrize("head", ["another", "--detach"])
def test_worktree_on_another_branch_is_refused(stage, head):
    _, worktree, git_dir = repository(stage, "one")
    git(worktree, "checkout", "-q", *(["-b", head] if head == "another" else [head]))
    assert f"not on branch {BRANCH}" in refused(stage, registered(stage, worktree, git_dir))


def test_worktree_of_another_repository_is_refused(stage):
    _, _, git_dir = repository(stage, "one")
    _, other, _ = repository(stage, "two")
    reason = refused(stage, registered(stage, other, git_dir))
    assert f"not of {git_dir}" in reason


def test_main_worktree_and_plain_folder_are_refused(stage):
    main, _, git_dir = repository(stage, "one")
    for number, folder in enumerate((main, stage.work)):
        launch = changed(registered(stage, folder, git_dir), attempt_id=f"b1-1-a{number}")
        assert "not the registered worktree" in refused(stage, launch)


@pytest.mark.parametrize("place", [".git", "HEAD"])
def test_hostile_bytes_in_a_worktree_reach_neither_the_pane_nor_the_record(stage, place):
    _, worktree, git_dir = repository(stage, "one")
    path = worktree / ".git" if place == ".git" else os.path.join(git_dir, "HEAD")
    with open(path, "wb") as file:
        file.write(b"gitdir: \xff\x1b[2J\x9b31m")
    assert "␛[2J" in refused(stage, registered(stage, worktree, git_dir))
    assert b"\x1b" not in stage.pane()


# -- what the agent is given -----------------------------------------------------------------------


def test_prompt_is_read_from_stdin_byte_for_byte(stage):
    prompt = "é 日本 😀\r\n#{pane_id} `id`\tend without newline"
    launch = stage.launch("exec cat\n", stdin="prompt", prompt=prompt)
    stage.run(launch)
    assert stage.log(launch) == prompt.encode()


def test_without_a_prompt_stdin_is_empty_and_not_the_pane(stage):
    launch = stage.launch("cat; readlink /proc/self/fd/0\n", stdin="none")
    stage.run(launch)
    assert stage.log(launch) == b"/dev/null\n"


def test_agent_inherits_nothing_but_its_environment_and_three_descriptors(stage):
    source = (
        "import os, sys\n"
        "open_before = [fd for fd in range(1000) if os.path.exists(f'/proc/self/fd/{fd}')]\n"
        "print(open('/proc/self/environ').read().split('\\0')[:-1])\n"
        "print(open_before)\n"
        "print(os.getsid(0) == os.getpid(), os.getcwd(), os.path.exists(sys.argv[1]))\n"
    )
    launch = stage.launch()
    secret = stage.path(launch, "environment")
    script = stage.program(source, "")
    # Python itself ignores PIPE and XFSZ, so it is asked through `cat`, which does not.
    checker = stage.program("exec cat /proc/self/status\n")
    launch = changed(
        launch,
        program=sys.executable,  # itself: a shell on the way would add to the environment
        argv=(sys.executable, "-IS", script, str(secret)),
        environment=launch.environment | {"A": "b=c\nd", "EMPTY": ""},
        setup=(checker,),
        setup_program=checker,
        setup_done=str(stage.folder / "done"),
    )
    before = {each: signal.signal(each, signal.SIG_IGN) for each in (signal.SIGINT, signal.SIGQUIT)}
    try:
        stage.run(launch)  # as a server that a script began in the background starts it
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    status, _, rest = stage.log(launch).decode().partition("['GANGLINE")
    environment, descriptors, where = ("['GANGLINE" + rest).splitlines()
    given = [f"{name}={value}" for name, value in launch.environment.items()]
    assert environment == repr(given)
    assert descriptors == "[0, 1, 2]"
    assert where == f"True {stage.work} False"
    assert signals_of(status, "SigIgn") == signals_of(status, "SigBlk") == 0
    assert not secret.exists()


def signals_of(status, name):
    """A set of signals of /proc/PID/status, without the two that belong to the C library."""
    line = next(line for line in status.splitlines() if line.startswith(name))
    return int(line.split("\t")[1], 16) & ~(0b11 << 31)


def test_environment_is_deleted_when_the_agent_is_refused(stage):
    launch = stage.launch(program=str(stage.folder / "nothing"))
    stage.run(launch)
    assert not stage.has(launch, "environment")


# -- what it prints --------------------------------------------------------------------------------


def test_output_log_is_whole_and_byte_exact(stage):
    data = os.urandom(5_000_000) + b"\0\xff no newline at the end"
    (stage.work / "data").write_bytes(data)
    launch = stage.launch("exec cat data\n")
    assert stage.run(launch)["code"] == 0
    assert stage.log(launch) == data


def test_standard_error_is_in_the_log_in_its_order(stage):
    launch = stage.launch("echo one; echo two >&2; echo three\n")
    stage.run(launch)
    assert stage.log(launch) == b"one\ntwo\nthree\n"


def test_capped_log_is_marked_where_it_was_cut_and_the_agent_goes_on(stage):
    launch = stage.launch('head -c 5000 /dev/zero | tr "\\0" x\nexit 4\n', log_bytes=1000)
    record = stage.run(launch)
    mark = b"\n[gangline] cut here: the log has reached [batch] log_mb\n"
    assert stage.log(launch) == b"x" * 1000 + mark
    assert (record["code"], record["logCut"]) == (4, True)
    assert stage.evidence(launch).exit.log_cut


def test_log_that_just_fits_is_not_marked(stage):
    launch = stage.launch("printf 12345\n", log_bytes=5)
    assert "logCut" not in stage.run(launch)
    assert stage.log(launch) == b"12345"


def test_pane_shows_colours_and_no_other_escape(stage):
    data = b"\x1b[2J\x1b]0;title\x07\x1b[31mred\x1b[0m\x1b]52;c;aGk=\x07\x1b[6n\xc2\x9b2J\x1bPq"
    (stage.work / "data").write_bytes(data)
    launch = stage.launch("exec cat data\n")
    stage.run(launch)
    assert stage.log(launch) == data
    shown = stage.pane()
    assert b"\x1b[31mred\x1b[0m" in shown
    assert b"^[[2J^[]0;title^G" in shown
    assert shown.count(b"\x1b") == 2
    assert b"\xc2\x9b" not in shown
    assert b"\x07" not in shown


def test_agent_runs_on_without_a_log_when_there_can_be_none(stage):
    launch = stage.launch("echo shown; exit 5\n")
    stage.prepare(launch)
    stage.path(launch, "output.log").mkdir()
    stage.finish(stage.start(launch))
    record = stage.record(launch)
    assert (record["code"], record["logCut"]) == (5, True)
    assert b"there is no output.log" in stage.pane()
    assert b"shown" in stage.pane()


def test_pane_that_takes_nothing_holds_up_neither_agent_nor_runner(stage):
    master, slave = pty.openpty()
    try:
        launch = stage.launch("head -c 2000000 /dev/zero\nexit 6\n")
        stage.prepare(launch)
        runner = stage.start(launch, stdin=slave, stdout=slave, stderr=slave)
        stage.finish(runner)
        assert stage.record(launch)["code"] == 6
        assert len(stage.log(launch)) == 2_000_000
    finally:
        os.close(master)
        os.close(slave)


def test_agent_that_closes_its_output_goes_on(stage):
    launch = stage.launch(f'exec >&- 2>&-\necho on >"$1"\n{WAIT_FOR_THE_GATE}exit 8\n')
    stage.prepare(launch)
    runner = stage.start(launch)
    assert stage.report() == "on"
    assert stage.lock_is_held(launch)
    stage.open_gate()
    stage.finish(runner)
    assert stage.record(launch)["code"] == 8


# -- the setup command -----------------------------------------------------------------------------


def with_setup(stage, setup, agent='echo agent >"$1"\n'):
    program = stage.program(setup)
    return stage.launch(
        agent,
        setup=(program, str(stage.reports), str(stage.gate)),
        setup_program=program,
        setup_done=str(stage.folder / "done"),
    )


def test_setup_runs_once_before_the_agent_in_its_folder(stage):
    launch = with_setup(stage, 'echo "setup $PWD" >"$1"; echo in the log\n')
    assert stage.run(launch)["code"] == 0
    assert [stage.report(), stage.report()] == [f"setup {stage.work}", "agent"]
    assert stage.no_report()
    assert stage.log(launch) == b"in the log\n"
    assert (stage.folder / "done").exists()


def test_failed_setup_is_a_refusal_and_the_agent_never_runs(stage):
    record = stage.run(with_setup(stage, "exit 2\n"))
    assert record["refused"] == "the workspace's setup command failed"
    assert record["code"] == 2
    assert stage.no_report()
    assert not (stage.folder / "done").exists()


def test_setup_that_cannot_be_executed_is_a_refusal(stage):
    launch = with_setup(stage, "exit 0\n")
    os.chmod(launch.setup_program, 0o644)
    assert "could not be executed" in stage.run(launch)["refused"]
    assert stage.no_report()


def test_setup_that_cannot_be_marked_as_done_does_not_stop_the_agent(stage):
    launch = changed(with_setup(stage, "exit 0\n"), setup_done=str(stage.folder / "no" / "done"))
    assert stage.run(launch)["code"] == 0
    assert stage.report() == "agent"


def test_runner_told_to_end_during_setup_starts_no_agent_and_reports_no_success(stage):
    launch = with_setup(stage, f'trap "exit 0" TERM\necho on >"$1"\n{WAIT_FOR_THE_GATE}')
    stage.prepare(launch)
    runner = stage.start(launch)
    assert stage.report() == "on"
    runner.send_signal(signal.SIGTERM)
    stage.finish(runner)
    record = stage.record(launch)
    assert record["runnerSignal"] == signal.SIGTERM
    assert "code" not in record
    assert stage.no_report()


# -- the claim -------------------------------------------------------------------------------------


def test_claim_names_the_runner_completely(stage):
    launch = stage.launch(f'echo on >"$1"\n{WAIT_FOR_THE_GATE}')
    stage.prepare(launch)
    runner = stage.start(launch)
    stage.report()
    claim = json.loads(stage.path(launch, "claim").read_bytes())
    assert claim == {
        "by": "runner",
        "pid": runner.pid,
        "startTicks": processes.start_ticks(runner.pid),
        "bootId": processes.boot_id(),
    }
    names = set(os.listdir(stage.path(launch))) - {"output.log"}  # which is opened after the start
    assert names == {"claim", "lock", "prompt.md", "spec.json", "starting"}
    assert stage.verdict(launch) is Verdict.RUNNING
    stage.open_gate()
    stage.finish(runner)


def test_second_runner_runs_nothing_and_succeeds(stage):
    launch = stage.launch(f'echo ran >"$1"\n{WAIT_FOR_THE_GATE}exit 3\n')
    stage.prepare(launch)
    first = stage.start(launch)
    assert stage.report() == "ran"
    assert stage.finish(stage.start(launch)) == 0
    stage.open_gate()
    stage.finish(first)
    ended = stage.path(launch, "exit.json").read_bytes()
    assert stage.finish(stage.start(launch)) == 0
    assert stage.path(launch, "exit.json").read_bytes() == ended
    assert stage.no_report()


def test_of_twenty_runners_at_once_one_runs_the_agent(stage):
    launch = stage.launch("echo ran >>runs\n")
    stage.prepare(launch)
    runners = [stage.start(launch) for _ in range(20)]
    # They bear the mark, so the one that ran may end those that came late; they run nothing.
    assert {stage.finish(runner) for runner in runners} <= {0, -signal.SIGTERM}
    assert (stage.work / "runs").read_text() == "ran\n"
    assert stage.record(launch)["code"] == 0


def test_voided_attempt_runs_nothing(stage):
    launch = stage.launch('echo ran >"$1"\n')
    stage.prepare(launch)
    stage.folders.void(launch.attempt_id)
    assert stage.finish(stage.start(launch)) == 0
    assert stage.no_report()
    assert not stage.has(launch, "starting")
    assert stage.verdict(launch) is Verdict.NEVER_RAN


def test_of_runner_and_fence_exactly_one_wins(stage):
    for number in range(RACES):
        launch = stage.launch(f"echo ran >>runs-{number}\n", number=number)
        stage.prepare(launch)
        lock = os.open(stage.path(launch, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        runner = stage.start(launch)
        assert comes_true(lambda: opened_the_lock(runner, stage.path(launch, "lock")))  # noqa: B023
        os.close(lock)  # from here on they race
        stage.folders.void(launch.attempt_id)
        assert stage.finish(runner) == 0
        claim = stage.evidence(launch).claim
        ran = (stage.work / f"runs-{number}").exists()
        assert claim in (Claim.RUNNER, Claim.VOID)
        assert ran is (claim is Claim.RUNNER)
        assert stage.has(launch, "exit.json") is ran
        assert stage.has(launch, "starting") is ran


def test_runner_that_meets_a_probe_tries_again(stage):
    launch = stage.launch()
    stage.prepare(launch)
    probe = os.open(stage.path(launch, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(probe, fcntl.LOCK_SH)
    runner = stage.start(launch)
    assert comes_true(lambda: opened_the_lock(runner, stage.path(launch, "lock")))
    assert not stage.has(launch, "claim")
    assert not is_gone(runner.pid)
    os.close(probe)
    stage.finish(runner)
    assert stage.record(launch)["code"] == 0


# -- signals, hang-ups -----------------------------------------------------------------------------


POLITE = """
import os, signal, sys
def end(number, frame):
    os.write(1, b"x" * 1_000_000)
    os._exit(7)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, end)
with open(sys.argv[1], "w") as file:
    file.write("on\\n")
while True:
    signal.pause()
"""
# In the foreground of nothing: TERM and HUP do not reach it, KILL does.
STUBBORN = 'trap "" TERM HUP\necho on >"$1"\nexec sleep 1000\n'


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_told_to_end_the_runner_ends_the_agent_politely_and_keeps_its_last_output(stage, number):
    launch = stage.launch(POLITE, interpreter=PYTHON)
    stage.prepare(launch, grace_seconds=30.0)
    runner = stage.start(launch)
    stage.report()
    runner.send_signal(number)
    stage.finish(runner)
    record = stage.record(launch)
    assert (record["code"], record["runnerSignal"]) == (7, number)
    assert len(stage.log(launch)) == 1_000_000
    assert stage.verdict(launch) is Verdict.DIED


def test_agent_that_ignores_the_polite_way_is_killed(stage):
    launch = stage.launch(STUBBORN)
    stage.prepare(launch, grace_seconds=0.1)
    runner = stage.start(launch)
    stage.report()
    runner.send_signal(signal.SIGTERM)
    stage.finish(runner)
    record = stage.record(launch)
    assert (record["signal"], record["runnerSignal"]) == (signal.SIGKILL, signal.SIGTERM)


@pytest.mark.parametrize("way", ["kill-pane", "kill-server", "kill -9 server"])
def test_agent_of_a_closed_pane_is_ended_and_recorded(stage, private_tmux, way):
    tmux = private_tmux()
    session = tmux.ensure_session("client", "owner")
    launch = stage.launch(POLITE, interpreter=PYTHON)
    stage.prepare(launch, grace_seconds=30.0)
    pane = tmux.new_window(session, "job", stage.runner_argv(launch), {}, "/")
    assert stage.report() == "on"
    if way == "kill -9 server":
        server = tmux.server()
        os.kill(server.pid, signal.SIGKILL)
    else:
        tmux.command(way, *(["-t", pane.pane] if way == "kill-pane" else []))
    wait_until_gone(pane.pid)
    record = stage.record(launch)
    assert (record["code"], record["runnerSignal"]) == (7, signal.SIGHUP)


def test_interrupt_typed_into_the_pane_is_for_the_agent(stage):
    master, slave = pty.openpty()
    try:
        launch = stage.launch(POLITE, interpreter=PYTHON)
        stage.prepare(launch)
        runner = stage.start(
            launch,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=False,
            preexec_fn=lambda: os.login_tty(os.dup(slave)),
        )
        assert stage.report() == "on"
        os.write(master, b"\x03")
        stage.finish(runner)
        record = stage.record(launch)
        assert record["code"] == 7
        assert "runnerSignal" not in record
    finally:
        os.close(master)
        os.close(slave)


def test_agent_outlives_a_killed_runner_until_it_is_reaped(stage):
    launch = stage.launch('echo $$ >"$1"\nexec sleep 1000\n')
    stage.prepare(launch)
    runner = stage.start(launch)
    agent = int(stage.report())
    runner.kill()
    stage.finish(runner)
    assert not stage.lock_is_held(launch)
    assert not stage.has(launch, "exit.json")
    assert stage.verdict(launch) is Verdict.DIED
    assert not is_gone(agent)
    assert processes.living_marks({launch.mark, "another"}) == {launch.mark}
    assert processes.end_marked(launch.mark, grace_seconds=5) == 1
    assert is_gone(agent)
    assert processes.living_marks({launch.mark}) == set()


# -- what is left over -----------------------------------------------------------------------------


DAEMON = """
import os, sys
kind = sys.argv[3]
done, ready = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    from _signal import SIG_IGN, SIGHUP, SIGTERM, signal
    signal(SIGHUP, SIG_IGN)
    signal(SIGTERM, SIG_IGN)
    if kind == "silent":
        os.closerange(0, 3)
    with open(sys.argv[1], "w") as file:
        file.write(f"{os.getpid()}\\n")
    os.write(ready, b"x")
    os.execv("/bin/sleep", ["sleep", "1000"])
os.read(done, 1)
"""
LEFTOVERS = {
    "background child": 'sleep 1000 & echo $! >"$1"\n',
    "child in a session of its own": 'setsid sleep 1000 & echo $! >"$1"\n',
    "child that fills the pipe for ever": 'yes & echo $! >"$1"\n',
    "stopped child": 'sleep 1000 & kill -STOP $!; echo $! >"$1"\n',
    "child that replaces its program for ever": (
        'cat >self <<END\n#!/bin/sh\nexec ./self\nEND\nchmod +x self\n./self & echo $! >"$1"\n'
    ),
}


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_leftover_is_gone_before_the_end_is_recorded(stage, kind):
    launch = stage.launch(LEFTOVERS[kind])
    stage.prepare(launch, grace_seconds=0.1)
    runner = stage.start(launch)
    leftover = int(stage.report())
    stage.finish(runner)
    assert stage.record(launch)["code"] == 0
    assert is_gone(leftover)
    assert processes.living_marks({launch.mark}) == set()


@pytest.mark.parametrize("kind", ["talking", "silent"])
def test_daemon_that_ignores_every_polite_signal_is_gone_before_the_end_is_recorded(stage, kind):
    launch = stage.launch(DAEMON, interpreter=PYTHON)
    launch = changed(launch, argv=(*launch.argv, kind))
    stage.prepare(launch, grace_seconds=0.1)
    runner = stage.start(launch)
    daemon = int(stage.report())
    stage.finish(runner)
    assert stage.record(launch)["code"] == 0
    assert is_gone(daemon)


UNMARKED = """
import os, sys
runner, kind = os.getppid(), sys.argv[3]
while True:
    adopted, says = os.pipe()
    if os.fork() == 0:
        middle = os.getpid()
        if os.fork():
            os._exit(0)
        os.setsid()
        while os.getppid() == middle:
            os.sched_yield()
        if os.getppid() != runner:
            os._exit(0)
        with open(sys.argv[1], "w") as file:
            file.write(f"{os.getpid()}\\n")
        os.write(says, b"y")
        os.execve("/bin/sleep", ["sleep", "1000"], {})
    os.wait()
    os.close(says)
    if os.read(adopted, 1):
        break
    os.close(adopted)
    if kind == "chatty":
        os.write(1, b".")
"""


@pytest.mark.parametrize("kind", ["quiet", "chatty"])
def test_daemon_that_threw_its_mark_away_is_caught_as_a_child(stage, kind):
    launch = stage.launch(UNMARKED, interpreter=PYTHON)
    launch = changed(launch, argv=(*launch.argv, kind))
    stage.prepare(launch, grace_seconds=0.1)
    runner = stage.start(launch)
    daemon = int(stage.report())
    stage.finish(runner)
    assert stage.record(launch)["code"] == 0
    assert is_gone(daemon)


REPORTING_LEFTOVER = """
import os, signal, sys
def report(text):
    with open(sys.argv[1], "w") as file:
        file.write(f"{text}\\n")
signal.signal(signal.SIGTERM, lambda number, frame: report("asked"))
report(os.getpid())
while True:
    signal.pause()
"""


def test_while_a_leftover_lives_nothing_is_recorded_and_the_lock_is_held(stage):
    leftover = stage.program(REPORTING_LEFTOVER, PYTHON)
    launch = stage.launch(f'{leftover} "$1" &\n{WAIT_FOR_THE_GATE}')
    stage.prepare(launch, grace_seconds=1.0)
    runner = stage.start(launch)
    pid = int(stage.report())
    stage.open_gate()
    assert stage.report() == "asked"
    assert not is_gone(pid)
    assert not stage.has(launch, "exit.json")
    assert stage.lock_is_held(launch)
    stage.finish(runner)
    assert is_gone(pid)
    assert stage.record(launch)["code"] == 0


# -- the record ------------------------------------------------------------------------------------


def test_whenever_the_lock_is_free_the_end_is_on_record(stage):
    for number in range(10):
        launch = stage.launch(f'echo on >"$1"\n{WAIT_FOR_THE_GATE}', number=number)
        stage.prepare(launch)
        runner = stage.start(launch)
        stage.report()
        thread, found = when_lock_is_free(
            stage.path(launch, "lock"),
            lambda: stage.evidence(launch),  # noqa: B023
        )
        stage.open_gate()
        thread.join(30)
        assert [(seen.claim, seen.starting, seen.has_exit) for seen in found] == [
            (Claim.RUNNER, Answer.YES, Answer.YES)
        ]
        stage.finish(runner)


def test_orchestrator_is_woken_with_the_issue_when_all_is_recorded(stage):
    launch = stage.launch(issue="parser-2")
    stage.prepare(launch)
    runner = stage.start(launch)
    assert stage.hint() == "parser-2"
    assert stage.evidence(launch).has_exit is Answer.YES
    assert stage.evidence(launch).lock is Answer.NO
    stage.finish(runner)


def test_nobody_who_listens_is_no_error(stage):
    launch = stage.launch("exit 4\n")
    record = stage.run(launch, wake=str(stage.folder / "nothing"))
    assert record["code"] == 4
    assert b"Traceback" not in stage.pane()


# Takes the right to write files from the runner, its parent, and from itself not.
FILL_THE_DISK = """
import os, resource
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.prlimit(os.getppid(), resource.RLIMIT_FSIZE, (10, hard))
os.write(1, b"more than ten bytes\\n")
os._exit(3)
"""


def test_full_disk_cuts_the_log_and_holds_back_the_record_until_there_is_space(stage):
    launch = stage.launch(FILL_THE_DISK, interpreter=PYTHON)
    stage.prepare(launch)
    runner = stage.start(launch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    os.set_blocking(runner.stdout.fileno(), False)
    shown = Lines(runner.stdout.fileno())
    lines = [shown.next()]
    while "trying again" not in lines[-1]:
        lines.append(shown.next())
    assert any("output.log ends here: File too large" in line for line in lines)
    assert not stage.has(launch, "exit.json")
    assert stage.lock_is_held(launch)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.prlimit(runner.pid, resource.RLIMIT_FSIZE, (hard, hard))
    stage.finish(runner)
    record = stage.record(launch)
    assert (record["code"], record["logCut"]) == (3, True)
    assert stage.log(launch).startswith(b"more than ")


# -- what it costs ---------------------------------------------------------------------------------


def modules_after(statement):
    code = f"import sys;sys.path.insert(0,sys.argv[1]);{statement};print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, _PACKAGE_FOLDER],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_runner_imports_next_to_nothing_before_the_agent_runs():
    slow = {"json", "re", "typing", "subprocess", "socket", "ctypes", "enum", "signal"}
    slow |= {"contextlib", "collections", "functools", "dataclasses", "pathlib", "msgspec"}
    assert modules_after("import gangline.hosts.runner") & slow == set()


def test_a_short_agent_does_not_wait_for_slow_imports():
    slow = {"json", "re", "typing", "subprocess", "socket", "ctypes", "enum", "contextlib"}
    slow |= {"signal", "collections", "functools", "msgspec"}
    assert modules_after("import gangline.hosts.runner_watch") & slow == set()
