"""Processes of this machine, with real ones: who lives, who belongs, and that no other is hit."""

import os
import signal
import subprocess
import sys
import uuid

import pytest
from attempt_stage import Lines, is_gone, readable, wait_until_gone

from gangline.hosts import processes
from gangline.hosts.processes import (
    end_marked,
    kill_marked,
    living_marks,
    marked_processes,
    signal_marked,
    signal_process,
    start_ticks,
)

LOOKS = 500


@pytest.fixture
def mark():
    return f"gangline-test-{uuid.uuid4().hex}"


@pytest.fixture
def start():
    """Starts programs that bear a mark; ends them."""
    started = []

    def run(argv, mark=None, **options):
        environment = {"PATH": os.environ["PATH"]} | ({"GANGLINE_MARK": mark} if mark else {})
        started.append(subprocess.Popen(argv, env=environment, start_new_session=True, **options))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


def sleeper(start, mark=None):
    return start(["sleep", "1000"], mark)


def stubborn(start, mark):
    """Ignores TERM, and has said so."""
    source = "trap '' TERM HUP; echo ready; exec sleep 1000"
    process = start(["sh", "-c", source], mark, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


# -- identity --------------------------------------------------------------------------------------


def test_living_process_has_a_start_time_that_stays(start):
    process = sleeper(start)
    assert start_ticks(process.pid) == start_ticks(process.pid) is not None


def test_zombie_and_dead_process_have_no_start_time(start):
    process = start(["true"])
    wait_until_gone(process.pid)  # and nobody has waited for it: a zombie
    with open(f"/proc/{process.pid}/stat") as file:
        assert file.read().rpartition(")")[2].split()[0] == "Z"
    assert start_ticks(process.pid) is None
    process.wait()
    assert start_ticks(process.pid) is None


def test_process_with_a_hostile_name_is_read(start, tmp_path):
    name = tmp_path / ") Z 1 2 ("
    os.symlink("/bin/sleep", name)
    process = start([str(name), "1000"])
    assert start_ticks(process.pid) is not None


def test_identity_of_this_process_is_its_own():
    assert processes.own_identity() == (start_ticks(os.getpid()), processes.boot_id())


def test_wrong_start_time_is_another_process_and_is_not_signalled(start):
    process = sleeper(start)
    started = start_ticks(process.pid)
    assert signal_process(process.pid, started + 1, signal.SIGKILL) is False
    assert start_ticks(process.pid) == started
    assert signal_process(process.pid, started, signal.SIGKILL) is True
    assert process.wait() == -signal.SIGKILL


def test_signal_to_a_dead_process_says_so(start):
    process = sleeper(start)
    started = start_ticks(process.pid)
    process.kill()
    wait_until_gone(process.pid)
    assert signal_process(process.pid, started, signal.SIGKILL) is False  # a zombie
    process.wait()
    assert signal_process(process.pid, started, signal.SIGKILL) is False


# -- whose it is -----------------------------------------------------------------------------------


def test_mark_is_matched_whole(start, mark):
    marks = [mark, f"{mark}2", f"a{mark}", mark[:-1]]
    found = {each: sleeper(start, each) for each in marks}
    for each in marks:
        pid = found[each].pid
        assert marked_processes(each) == {pid: start_ticks(pid)}
    assert living_marks([*marks, "nobody"]) == set(marks)
    kill_marked(mark)
    wait_until_gone(found[mark].pid)
    assert living_marks(marks) == set(marks[1:])


def test_mark_is_a_variable_and_not_a_part_of_one(start, mark):
    variables = [f"OTHER=GANGLINE_MARK={mark}", f"XGANGLINE_MARK={mark}"]
    process = start(
        ["env", *variables, "sh", "-c", "echo on; exec sleep 1000", f"GANGLINE_MARK={mark}"],
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"on\n"
    assert not is_gone(process.pid)
    assert marked_processes(mark) == {}


def test_looking_process_is_never_found(mark):
    code = (
        "import sys;sys.path.insert(0,sys.argv[1]);from gangline.hosts import processes as p;"
        "print(p.marked_processes(sys.argv[2]), p.end_marked(sys.argv[2]))"
    )
    folder = os.path.dirname(os.path.dirname(os.path.dirname(processes.__file__)))
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, folder, mark],
        env={"GANGLINE_MARK": mark},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "{} 0\n"


def test_member_of_the_session_belongs_without_a_mark(start, mark):
    process = sleeper(start)
    assert marked_processes(mark, session=process.pid).keys() >= {process.pid}
    assert process.pid not in marked_processes(mark)


def test_zombie_bears_no_mark(start, mark):
    process = start(["true"], mark)
    wait_until_gone(process.pid)
    assert marked_processes(mark, session=process.pid) == {}
    assert living_marks({mark}) == set()


def test_process_is_seen_also_in_the_middle_of_an_execve(start, mark, tmp_path):
    # There it has no environment: a look in thirty missed a program that does little else.
    script = tmp_path / "again"
    # It ends with this process, even if that is killed.
    script.write_text(f'#!/bin/sh\n[ -d /proc/{os.getpid()} ] && exec "$0"\n')
    script.chmod(0o755)
    start([str(script)], mark)
    assert [living_marks({mark}) for _ in range(LOOKS)] == [{mark}] * LOOKS


# It ends with the process whose id it is given, even if that is killed.
CHAIN = (
    "import os, sys\n"
    "while os.path.exists(f'/proc/{sys.argv[1]}'):\n"
    "    if os.fork():\n"
    "        os._exit(0)\n"
)


def test_process_that_hands_over_to_a_child_all_the_time_is_seen(start, mark):
    start([sys.executable, "-I", "-S", "-c", CHAIN, str(os.getpid())], mark).wait()
    try:
        looks = [living_marks({mark}) for _ in range(5)]
    finally:
        end_marked(mark, grace_seconds=0)
    assert looks == [{mark}] * 5
    assert living_marks({mark}) == set()


# -- ending ----------------------------------------------------------------------------------------


def test_polite_and_stubborn_are_ended_and_counted(start, mark):
    polite, hard = sleeper(start, mark), stubborn(start, mark)
    assert end_marked(mark, grace_seconds=0.1) == 2
    assert polite.wait() == -signal.SIGTERM
    assert hard.wait() == -signal.SIGKILL


def test_without_grace_nobody_is_asked(start, mark):
    process = sleeper(start, mark)
    assert end_marked(mark, grace_seconds=0) == 1
    assert process.wait() == -signal.SIGKILL


def test_nothing_to_end_is_none(mark):
    assert end_marked(mark) == 0


def test_stopped_process_is_ended(start, mark):
    process = sleeper(start, mark)
    process.send_signal(signal.SIGSTOP)
    assert end_marked(mark, grace_seconds=0.05) == 1
    assert process.wait() < 0


def test_signal_once_leaves_who_ignores_it(start, mark):
    polite, hard = sleeper(start, mark), stubborn(start, mark)
    signal_marked(mark, signal.SIGTERM)
    wait_until_gone(polite.pid)
    assert not is_gone(hard.pid)
    assert marked_processes(mark).keys() == {hard.pid}


def test_process_that_may_not_be_signalled_is_left_and_not_waited_for(start, mark, monkeypatch):
    forbidden, other = sleeper(start, mark), sleeper(start, mark)
    real = processes.signal_process

    def as_another_user(pid, started, number):
        if pid == forbidden.pid:
            raise PermissionError
        return real(pid, started, number)

    monkeypatch.setattr(processes, "signal_process", as_another_user)
    assert end_marked(mark, grace_seconds=0.1) == 2
    assert other.wait() == -signal.SIGTERM
    assert not is_gone(forbidden.pid)


EXHAUSTED = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from gangline.hosts import processes
os.listdir("/proc")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
opened = []
try:
    while True:
        opened.append(os.open(os.devnull, os.O_RDONLY))
except OSError:
    pass
if sys.argv[3] == "one":
    os.close(opened.pop())
    # Room to list, none to look at anything: /proc stays open.
    opened.append(os.open("/proc", os.O_RDONLY))
    os.listdir = lambda path, fd=opened[-1], real=os.listdir: [sys.argv[4]]
for ask in (lambda: processes.living_marks({sys.argv[2]}),
            lambda: processes.marked_processes(sys.argv[2]),
            lambda: processes.start_ticks(int(sys.argv[4]))):
    try:
        print(ask())
    except OSError as error:
        print("unknown", error.errno)
"""


@pytest.mark.parametrize("left", ["none", "one"])
def test_asker_without_descriptors_does_not_take_the_living_for_dead(start, mark, left):
    process = sleeper(start, mark)
    folder = os.path.dirname(os.path.dirname(os.path.dirname(processes.__file__)))
    arguments = [folder, mark, left, str(process.pid)]
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout == "unknown 24\n" * 3


def test_orphans_are_given_to_the_subreaper(mark):
    code = (
        "import os,sys;sys.path.insert(0,sys.argv[1])\n"
        "from gangline.hosts.processes import set_subreaper\n"
        "set_subreaper()\n"
        "middle = os.fork()\n"
        "if middle == 0:\n"
        "    if os.fork() == 0:\n"
        "        os.read(0, 1)\n"
        "    os._exit(0)\n"
        "os.waitpid(middle, 0)\n"
        "print('alone', flush=True)\n"
        "print(os.wait()[0] > 0, flush=True)\n"
    )
    folder = os.path.dirname(os.path.dirname(os.path.dirname(processes.__file__)))
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code, folder, ""],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        lines = Lines(child.stdout.fileno())
        assert lines.next() == "alone"
        child.stdin.write(b"x")
        child.stdin.flush()
        assert readable(child.stdout.fileno())
        assert lines.next() == "True"
