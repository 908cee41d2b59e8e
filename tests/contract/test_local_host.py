"""This machine as a host: real tmux servers on private sockets, real runners, real agents."""

import os
import signal
import subprocess
import sys
import time

import pytest
from attempt_stage import (
    DEADLINE_SECONDS,
    PYTHON,
    changed,
    comes_true,
    is_gone,
    readable,
    wait_until_gone,
    write_file,
)

from gangline.core.evidence import Answer, Claim, Verdict, verdict
from gangline.hosts import processes
from gangline.hosts.clock import SystemClock
from gangline.hosts.local import LocalHost
from gangline.hosts.wakes import Wakes
from gangline.ports import LaunchUnknownError

OWNER = "/repository\tclient"
HELD = 'echo "$$ on" >"$1"\nread line <"$2"\n'
POLITE = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda number, frame: os._exit(7))
with open(sys.argv[1], "w") as file:
    file.write(f"{os.getpid()} on\\n")
while True:
    signal.pause()
"""


class Machine:
    """A host with what a test asks of it."""

    def __init__(self, stage, tmux):
        self.stage = stage
        self.tmux = tmux
        self.wakes = Wakes(str(stage.wake))
        self.host = LocalHost(stage.folders, tmux, "client", OWNER, self.wakes)

    def start(self, launch):
        """Prepare and launch; (pane, server)."""
        self.stage.prepare(launch)
        return self.host.launch(launch)

    def evidence(self, launch, server=None):
        return self.host.probe([self.stage.subject(launch, server=server)])[launch.issue]

    def wait_for(self, launch, expected):
        """Sleep on the wakes, as the loop does, until the attempt is what is expected."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (seen := verdict(self.evidence(launch), kill_ordered=False)) is not expected:
            assert time.monotonic() < deadline, f"it is {seen}"
            self.wakes.wait(1.0)

    def panes(self):
        return {pane.pane: pane for pane in self.tmux.panes()}

    def kill_server(self):
        """The server dies, and the connection to it is seen to be lost."""
        server = self.tmux.server()
        os.kill(server.pid, signal.SIGKILL)
        wait_until_gone(server.pid)
        fd = self.tmux.fileno()
        poll_until_lost(fd)
        return server


def poll_until_lost(fd):
    while readable(fd):
        if not os.read(fd, 65_536):
            return
    pytest.fail("the connection was not lost")


@pytest.fixture
def machine(stage, private_tmux):
    made = Machine(stage, private_tmux())
    yield made
    made.wakes.close()


@pytest.fixture
def free_number():
    """Makes this descriptor number, if it is free, the next that is given out."""
    fillers = []

    def make(wanted):
        while (fd := os.open(os.devnull, os.O_RDONLY)) < wanted:
            fillers.append(fd)
        os.close(fd)
        assert fd == wanted, "the connection is still open"

    yield make
    for fd in fillers:
        os.close(fd)


def held(stage, **changes):
    return stage.launch(HELD, **changes)


def agent_of(stage):
    pid, word = stage.report().split()
    assert word == "on"
    return int(pid)


# -- launching and probing -------------------------------------------------------------------------


def test_launched_attempt_runs_is_seen_and_finishes(stage, machine):
    launch = held(stage)
    pane, server = machine.start(launch)
    agent_of(stage)
    assert pane in machine.panes()
    assert server == machine.host.server == machine.tmux.server().text
    seen = machine.evidence(launch, server)
    assert (seen.claim, seen.lock) == (Claim.RUNNER, Answer.YES)
    stage.open_gate()
    machine.wait_for(launch, Verdict.FINISHED)
    assert machine.evidence(launch).exit.code == 0


def test_end_of_an_attempt_wakes_with_its_issue(stage, machine):
    launch = held(stage, issue="parser-2")
    machine.start(launch)
    agent_of(stage)
    stage.open_gate()
    while "parser-2" not in machine.wakes.wait(DEADLINE_SECONDS).issues:
        assert not stage.has(launch, "exit.json")


def test_attempt_launched_twice_runs_once(stage, machine):
    launch = held(stage)
    machine.start(launch)
    agent_of(stage)
    machine.host.launch(launch)
    assert comes_true(lambda: len(machine.panes()) == 2)  # the keeper's, and one
    stage.open_gate()
    machine.wait_for(launch, Verdict.FINISHED)
    assert stage.no_report()


def test_agent_has_nothing_of_the_server_s_environment(stage, machine, monkeypatch):
    monkeypatch.setenv("CLAUDE_SECRET", "of the user")
    launch = stage.launch('tr "\\0" "\\n" </proc/self/environ\n')
    machine.start(launch)
    machine.wait_for(launch, Verdict.FINISHED)
    names = {line.split(b"=")[0] for line in stage.log(launch).splitlines()}
    assert names <= {b"GANGLINE_MARK", b"PATH", b"PWD", b"OLDPWD", b"_", b"SHLVL"}


def test_launch_after_the_server_died_makes_a_new_one(stage, machine):
    first, second = held(stage), held(stage, issue="2")
    machine.start(first)
    agent_of(stage)
    dead = machine.kill_server()
    _, server = machine.start(second)
    agent_of(stage)
    assert server != dead.text
    assert machine.tmux.server().text == server
    assert machine.evidence(second, server).lock is Answer.YES


def test_launch_after_the_session_was_closed_makes_a_new_one(stage, machine):
    other = machine.tmux.ensure_session("other", "someone else")
    machine.host.open_session()
    machine.tmux.command("kill-session", "-t", f"={machine.host.session}")
    launch = held(stage)
    machine.start(launch)
    agent_of(stage)
    assert machine.host.session == "client"
    assert {pane.session for pane in machine.panes().values()} == {other, "client"}


def test_launch_on_a_hanging_server_is_unknown_and_the_host_goes_on(
    stage, private_tmux, stopped, process, free_number
):
    machine = Machine(stage, private_tmux(timeout_seconds=0.5))
    machine.host.open_session()
    connection = machine.tmux.fileno()
    server = machine.tmux.server()
    launch = held(stage)
    stopped(server.pid)
    started = time.monotonic()
    with pytest.raises(LaunchUnknownError):
        machine.start(launch)
    assert time.monotonic() - started < DEADLINE_SECONDS
    free_number(connection)  # of the lost connection; it is given to the next
    machine.wakes.watch("7", process.pid)
    process.kill()
    while "7" not in machine.wakes.wait(DEADLINE_SECONDS).issues:
        assert not is_gone(server.pid)
    # The fence decides what the launch could not say.
    machine.host.void(launch.attempt_id)
    processes.signal_process(server.pid, processes.start_ticks(server.pid), signal.SIGCONT)
    seen = machine.evidence(launch)
    assert (seen.claim, seen.starting) == (Claim.VOID, Answer.NO)
    machine.tmux.timeout_seconds = DEADLINE_SECONDS
    machine.start(held(stage, number=1))
    agent_of(stage)
    assert stage.no_report()
    machine.wakes.close()


@pytest.fixture
def process():
    with subprocess.Popen(["sleep", "1000"]) as made:
        yield made
        made.kill()


TITLES = [
    "#{pane_id}",
    "#(touch hijacked)",
    "; kill-server",
    "kill-server ;",
    "'\"`$HOME`\"'",
    "two\nlines\tand\x1b[2J\x1b]0;title\x07",
    "-t --",
    "é 日本 😀",
    "#[fg=red]",
    "x" * 200,
]


@pytest.mark.parametrize("title", TITLES)
def test_title_is_shown_and_does_nothing(stage, machine, title):
    launch = held(stage, title=title)
    pane, _ = machine.start(launch)
    agent_of(stage)
    shown = machine.panes()[pane].window_name
    line = "".join(character if character.isprintable() else " " for character in title)
    expected = f"#1 {line}"[:60].replace("#[", "##[")
    assert shown == expected
    assert shown.isprintable()
    assert len(machine.panes()) == 2
    assert not (stage.work / "hijacked").exists()


# -- deaths ----------------------------------------------------------------------------------------


def test_survivors_of_a_killed_runner_are_seen_and_reaped(stage, machine):
    launch = held(stage)
    _, server = machine.start(launch)
    agent = agent_of(stage)
    runner = machine.evidence(launch).runner
    os.kill(runner.pid, signal.SIGKILL)
    while "1" not in machine.wakes.wait(DEADLINE_SECONDS).issues:
        assert not stage.has(launch, "exit.json")
    machine.wait_for(launch, Verdict.DIED)
    seen = machine.evidence(launch, server)
    assert (seen.survivors, seen.server_gone) == (Answer.YES, Answer.NO)
    machine.host.reap(stage.subject(launch), hard=True)
    wait_until_gone(agent)
    assert machine.evidence(launch, server).survivors is Answer.NO


def test_survivor_that_emptied_its_environment_is_seen_and_reaped(stage, machine):
    launch = stage.launch(f'exec env -i sh -c \'{HELD}\' sh "$1" "$2"\n')
    _, server = machine.start(launch)
    agent = agent_of(stage)
    assert not processes.marked_processes(launch.mark).keys() & {agent}
    os.kill(machine.evidence(launch).runner.pid, signal.SIGKILL)
    machine.wait_for(launch, Verdict.DIED)
    assert machine.evidence(launch, server).survivors is Answer.YES
    machine.host.reap(stage.subject(launch), hard=False)
    machine.host.reap(stage.subject(launch), hard=True)
    wait_until_gone(agent)
    assert machine.evidence(launch, server).survivors is Answer.NO


def test_session_whose_number_was_given_to_another_is_left_alone(stage, machine, process):
    launch = held(stage)
    stage.prepare(launch)
    started = processes.start_ticks(process.pid)
    text = f'{{"pid":{process.pid},"startTicks":{started - 1}}}'
    write_file(stage.path(launch, "starting"), text)
    write_file(stage.path(launch, "lock"), "")
    assert machine.evidence(launch).survivors is Answer.NO
    machine.host.reap(stage.subject(launch), hard=True)
    assert processes.start_ticks(process.pid) == started


def test_server_is_gone_only_if_its_process_is(stage, machine):
    launch = held(stage)
    stage.prepare(launch)
    assert machine.evidence(launch, None).server_gone is Answer.UNKNOWN
    machine.host.open_session()
    server = machine.host.server
    assert machine.evidence(launch, server).server_gone is Answer.NO
    # The number lives, but is it that server, or another that was given its number?
    assert machine.evidence(launch, f"{server.split('.')[0]}.1").server_gone is Answer.UNKNOWN
    machine.kill_server()
    assert machine.evidence(launch, server).server_gone is Answer.YES


def test_death_of_the_server_is_told_of_a_hang_up_and_of_a_void_too(stage, machine):
    hung_up, fenced = held(stage), held(stage, issue="2")
    _, server = machine.start(hung_up)
    agent_of(stage)
    stage.prepare(fenced)
    machine.host.void(fenced.attempt_id)
    machine.kill_server()
    machine.wait_for(hung_up, Verdict.DIED)
    seen = machine.evidence(hung_up, server)
    assert (seen.exit.runner_signal, seen.server_gone) == (signal.SIGHUP, Answer.YES)
    assert machine.evidence(fenced, server).server_gone is Answer.YES


def test_housekeeping_survives_the_death_of_the_server(stage, machine):
    machine.host.open_session()
    machine.kill_server()
    machine.host.tidy()
    machine.host.tidy()
    assert machine.host.session is None
    machine.start(held(stage))
    agent_of(stage)


EXHAUSTED = """
import os, resource, sys
from gangline.core.evidence import Answer
from gangline.hosts.attempts import AttemptFolders
from gangline.hosts.local import LocalHost
from gangline.hosts.tmux import Socket, Tmux
from gangline.hosts.wakes import Wakes
from gangline.ports import Subject
area, attempt, mark, server = sys.argv[1:]
tmux = Tmux(Socket("name", "gangline-nobody"), config="/dev/null")
host = LocalHost(AttemptFolders(area, "none"), tmux, "s", "o", Wakes(area + "/own"))
subject = Subject(
    attempt_id=attempt, issue="1", number=0, mark=mark,
    server=server,
)
before = host.probe([subject])["1"]
assert before.survivors is Answer.YES and before.server_gone is Answer.UNKNOWN, before
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
try:
    while True:
        os.open(os.devnull, os.O_RDONLY)
except OSError:
    pass
seen = host.probe([subject])["1"]
print(seen.lock.value, seen.survivors.value, seen.server_gone.value)
host.terminate(subject, hard=True)
host.reap(subject, hard=True)
"""


def test_probe_without_descriptors_knows_nothing_and_does_not_raise(stage, machine):
    launch = held(stage)
    _, server = machine.start(launch)
    agent_of(stage)
    os.kill(machine.evidence(launch).runner.pid, signal.SIGKILL)
    machine.wait_for(launch, Verdict.DIED)
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED, stage.area, launch.attempt_id, launch.mark, server],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("unknown unknown unknown\n", "")


# -- ending ----------------------------------------------------------------------------------------


def test_polite_end_goes_through_the_runner_which_records_it(stage, machine):
    launch = stage.launch(POLITE, interpreter=PYTHON)
    machine.start(launch)
    agent = agent_of(stage)
    machine.host.terminate(stage.subject(launch), hard=False)
    machine.wait_for(launch, Verdict.DIED)
    record = stage.record(launch)
    assert (record["code"], record["runnerSignal"]) == (7, signal.SIGTERM)
    assert is_gone(agent)


def test_hard_end_takes_runner_and_agent_at_once(stage, machine):
    launch = stage.launch(POLITE, interpreter=PYTHON)
    machine.start(launch)
    agent = agent_of(stage)
    runner = machine.evidence(launch).runner
    machine.host.terminate(stage.subject(launch), hard=True)
    wait_until_gone(agent)
    wait_until_gone(runner.pid)
    assert not stage.has(launch, "exit.json")
    assert stage.verdict(launch) is Verdict.DIED


@pytest.mark.parametrize("wrong", ["startTicks", "bootId"])
@pytest.mark.parametrize("hard", [True, False])
def test_process_that_was_given_the_runner_s_number_is_not_hit(
    stage, machine, process, wrong, hard
):
    launch = stage.launch()
    stage.prepare(launch)
    ticks = processes.start_ticks(process.pid) + (wrong == "startTicks")
    boot = "another" if wrong == "bootId" else processes.boot_id()
    claim = f'{{"by":"runner","pid":{process.pid},"startTicks":{ticks},"bootId":"{boot}"}}'
    write_file(stage.path(launch, "claim"), claim)
    write_file(stage.path(launch, "lock"), "")
    machine.host.terminate(stage.subject(launch), hard=hard)
    assert not is_gone(process.pid)
    assert process.poll() is None


# -- panes afterwards ------------------------------------------------------------------------------


def test_pane_of_a_failure_stays_with_the_last_words_until_it_is_retired(stage, machine):
    launch = stage.launch("echo oh no; exit 3\n")
    pane, _ = machine.start(launch)
    machine.wait_for(launch, Verdict.FINISHED)
    assert comes_true(lambda: machine.panes()[pane].dead)
    # With its history: tmux scrolls by a line to say that the pane is dead.
    shown = machine.tmux.command("capture-pane", "-p", "-J", "-S", "-", "-t", pane)
    assert shown[0] == "oh no"
    log = stage.path(launch, "output.log")
    assert any(line.startswith(f"[gangline] #1: exit code 3. Log: {log}") for line in shown)
    machine.host.retire(stage.subject(launch), pane)
    assert pane not in machine.panes()


@pytest.mark.parametrize("kept", [False, True])
def test_pane_of_a_success_closes_unless_it_is_to_be_kept(stage, machine, kept):
    launch = stage.launch(keep_completed=kept)
    machine.host.open_session()
    pane, _ = machine.start(launch)
    machine.wait_for(launch, Verdict.FINISHED)
    if kept:
        assert comes_true(lambda: machine.panes()[pane].dead)
    else:
        assert comes_true(lambda: pane not in machine.panes())


def test_pane_with_the_same_id_on_a_later_server_is_not_closed(stage, machine):
    first, second = held(stage), held(stage, issue="2")
    pane, server = machine.start(first)
    agent_of(stage)
    machine.kill_server()
    machine.wait_for(first, Verdict.DIED)
    again, _ = machine.start(second)
    agent_of(stage)
    assert again == pane
    machine.host.retire(stage.subject(first, server=server), pane)
    assert pane in machine.panes()
    assert machine.evidence(second).lock is Answer.YES
    machine.host.retire(stage.subject(second), pane)
    assert pane not in machine.panes()


def test_pane_of_an_attempt_whose_mark_begins_alike_is_not_closed(stage, machine):
    launch = held(stage)
    pane, _ = machine.start(launch)
    agent_of(stage)
    machine.host.retire(stage.subject(launch, mark=launch.mark[:-1]), pane)
    assert pane in machine.panes()


def test_retiring_without_a_server_is_no_error_and_frees_the_connection(
    stage, machine, process, free_number
):
    launch = held(stage)
    pane, _ = machine.start(launch)
    agent_of(stage)
    machine.kill_server()
    connection = machine.tmux.fileno()
    machine.host.retire(stage.subject(launch), pane)
    free_number(connection)
    machine.wakes.watch("7", process.pid)
    process.kill()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while "7" not in machine.wakes.wait(DEADLINE_SECONDS).issues:
        assert time.monotonic() < deadline


def test_session_is_closed_only_when_nothing_is_to_be_read_in_it(stage, machine):
    launch = stage.launch("exit 3\n")
    pane, _ = machine.start(launch)
    machine.wait_for(launch, Verdict.FINISHED)
    assert comes_true(lambda: machine.panes()[pane].dead)
    machine.host.close_session(everything=False)
    assert pane in machine.panes()
    machine.host.open_session()
    machine.host.close_session(everything=True)
    assert comes_true(lambda: machine.tmux.server() is None)


def test_clock_is_the_machine_s():
    clock = SystemClock()
    first, second = clock.now(), clock.now()
    assert first.boot_id == second.boot_id == processes.boot_id()
    assert first.boot_seconds <= second.boot_seconds
    assert len(clock.wall()) == len("2001-02-03T04:05:06.789Z")


def test_refused_attempt_says_why_in_its_pane(stage, machine):
    launch = changed(stage.launch(), cwd=str(stage.folder / "nothing"))
    pane, _ = machine.start(launch)
    machine.wait_for(launch, Verdict.REFUSED)
    assert comes_true(lambda: machine.panes()[pane].dead)
    shown = "".join(machine.tmux.command("capture-pane", "-p", "-J", "-t", pane))
    assert "its folder cannot be entered" in shown
