"""What wakes the loop, with real pipes, processes and signals."""

import os
import signal
import subprocess
import time

import pytest
from attempt_stage import DEADLINE_SECONDS, wait_until_gone

from gangline.hosts.wakes import Wakes, hint

NOTHING = (set(), False, None)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "wake")


@pytest.fixture
def wakes(path):
    made = Wakes(path)
    yield made
    made.close()


@pytest.fixture
def process():
    """One that ends when its input is closed."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as made:
        yield made
        made.kill()


@pytest.fixture
def caught(wakes):
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    wakes.catch_signals()
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def write(path, data):
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, data)
    os.close(fd)


def test_hint_that_another_orchestrator_took_first_is_no_fault(wakes, path, monkeypatch):
    """Both were told that the pipe is readable; one was quicker."""
    other = Wakes(path)
    select = wakes._selector.select

    def select_and_be_late(timeout):
        ready = select(timeout)
        assert other.wait(DEADLINE_SECONDS).journal
        return ready

    monkeypatch.setattr(wakes._selector, "select", select_and_be_late)
    hint(path)
    assert wait(wakes) == NOTHING
    other.close()


def wait(wakes):
    """Whatever woke it; a wait that nothing ends is a failure."""
    started = time.monotonic()
    found = wakes.wait(DEADLINE_SECONDS)
    assert time.monotonic() - started < DEADLINE_SECONDS, "nothing woke it"
    return found


def open_descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_nothing_wakes_when_nothing_happens(wakes):
    assert wakes.wait(0) == NOTHING
    assert wakes.wait(-1) == NOTHING


def test_line_of_a_runner_wakes_with_its_issue(wakes, path):
    write(path, b"1\n")
    write(path, b"parser-2\n")
    assert wait(wakes) == ({"1", "parser-2"}, False, None)
    assert wakes.wait(0) == NOTHING


def test_empty_line_means_the_journal(wakes, path):
    hint(path)
    assert wait(wakes) == (set(), True, None)


def test_issue_and_journal_may_come_together(wakes, path):
    write(path, b"1\n\n2\n")
    assert wait(wakes) == ({"1", "2"}, True, None)


def test_line_of_an_issue_is_not_taken_for_the_journal_s(wakes, path):
    write(path, b"\n")
    write(path, b"7\n")
    assert wait(wakes) == ({"7"}, True, None)
    write(path, b"7\n")
    assert wait(wakes) == ({"7"}, False, None)


def test_bytes_that_are_no_text_wake_and_do_not_crash(wakes, path):
    write(path, b"\xff\xfe\x1b[2J\n")
    assert len(wait(wakes).issues) == 1


def test_hint_without_a_listener_or_a_pipe_is_no_error(tmp_path, path):
    hint(path)
    os.mkfifo(path)
    hint(path)
    assert os.listdir(tmp_path) == ["wake"]


def test_hints_before_the_start_of_the_next_orchestrator_do_not_break_it(wakes, path):
    second = Wakes(path)
    try:
        write(path, b"1\n")
        assert wait(second).issues == {"1"}
    finally:
        second.close()


# -- processes -------------------------------------------------------------------------------------


def test_end_of_a_watched_process_wakes_once_with_its_issue(wakes, process):
    wakes.watch("1", process.pid)
    assert wakes.wait(0) == NOTHING
    process.stdin.close()
    assert wait(wakes).issues == {"1"}
    assert wakes.wait(0) == NOTHING


def test_process_that_has_ended_wakes_at_once_and_once(wakes, process):
    process.stdin.close()
    process.wait()
    wakes.watch("1", process.pid)
    assert wait(wakes).issues == {"1"}
    wakes.watch("1", process.pid)  # the next look at the same attempt: no loop without a pause
    assert wakes.wait(0) == NOTHING


def test_zombie_wakes_at_once(wakes, process):
    process.stdin.close()
    wait_until_gone(process.pid)
    wakes.watch("1", process.pid)
    assert wait(wakes).issues == {"1"}


def test_next_attempt_of_an_issue_is_watched_instead_of_the_last(wakes, process):
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as last:
        before = open_descriptors()
        wakes.watch("1", last.pid)
        wakes.watch("1", last.pid)
        wakes.watch("1", process.pid)
        assert open_descriptors() == before + 1
        last.stdin.close()
        wait_until_gone(last.pid)
        assert wakes.wait(0) == NOTHING
    process.stdin.close()
    assert wait(wakes).issues == {"1"}


def test_issue_that_is_no_longer_watched_wakes_nobody(wakes, process):
    wakes.watch("1", process.pid)
    wakes.unwatch("1")
    wakes.unwatch("1")
    process.stdin.close()
    wait_until_gone(process.pid)
    assert wakes.wait(0) == NOTHING


def test_dead_process_that_is_no_longer_watched_wakes_nobody(wakes, process):
    process.stdin.close()
    process.wait()
    wakes.watch("1", process.pid)
    wakes.unwatch("1")
    assert wakes.wait(0) == NOTHING


# -- signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_wakes_instead_of_ending(wakes, caught, number):
    os.kill(os.getpid(), number)
    assert wait(wakes) == (set(), False, number)


def test_first_signal_is_remembered(wakes, caught):
    os.kill(os.getpid(), signal.SIGTERM)
    assert wait(wakes).signal == signal.SIGTERM
    os.kill(os.getpid(), signal.SIGINT)
    assert wait(wakes).signal == signal.SIGTERM
    assert wakes.wait(0).signal == signal.SIGTERM


# -- the tmux connection ---------------------------------------------------------------------------


class Connection:
    """A pipe in the place of the tmux connection; `drained` is what was read of it."""

    def __init__(self):
        self.read, self.write = os.pipe()
        self.drained = b""

    def drain(self):
        self.drained += os.read(self.read, 100)

    def close(self):
        os.close(self.read)
        os.close(self.write)


@pytest.fixture
def connection():
    made = Connection()
    yield made
    made.close()


def test_connection_that_has_something_to_say_is_drained_and_is_no_news(wakes, connection):
    wakes.watch_descriptor(connection.read, None, connection.drain)
    os.write(connection.write, b"x")
    assert wait(wakes) == NOTHING
    assert connection.drained == b"x"
    wakes.watch_descriptor(None, connection.read, connection.drain)
    os.write(connection.write, b"y")
    assert wakes.wait(0) == NOTHING
    assert connection.drained == b"x"


def test_new_connection_under_the_number_of_the_old_one_is_drained(wakes, connection):
    wakes.watch_descriptor(connection.read, None, connection.drain)
    new_read, new_write = os.pipe()
    os.dup2(new_read, connection.read)  # closes the old one; the kernel forgets it
    wakes.watch_descriptor(connection.read, connection.read, connection.drain)
    os.write(new_write, b"x")
    assert wait(wakes) == NOTHING
    assert connection.drained == b"x"
    wakes.watch_descriptor(None, connection.read, connection.drain)
    os.close(new_read)
    os.close(new_write)


def test_number_of_a_closed_connection_may_be_given_to_a_process(wakes, process):
    read, write_end = os.pipe()
    wakes.watch_descriptor(read, None, pytest.fail)
    os.close(read)
    wakes.watch_descriptor(None, read, pytest.fail)
    wakes.watch("1", process.pid)
    process.stdin.close()
    assert wait(wakes).issues == {"1"}
    os.close(write_end)


# -- the end ---------------------------------------------------------------------------------------


def test_close_leaves_no_descriptor(path, process):
    before = open_descriptors()
    wakes = Wakes(path)
    wakes.watch("1", process.pid)
    wakes.watch("2", os.getpid())
    wakes.wait(0)
    wakes.close()
    assert open_descriptors() == before
