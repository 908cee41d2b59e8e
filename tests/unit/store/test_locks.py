"""Flocks: held while the holder lives, free the moment it is gone, inherited by nobody."""

import os
import subprocess
import sys

import pytest

from gangline.errors import MachineError
from gangline.store.locks import FileLock, lock_is_held, read_holder

HOLDER = """
import sys
from gangline.store.locks import FileLock
lock = FileLock(sys.argv[1])
print(lock.try_acquire(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / ".locks" / "client.journal")


@pytest.fixture
def lock(path):
    lock = FileLock(path)
    assert lock.try_acquire()
    yield lock
    lock.release()


def test_a_lock_that_is_taken_is_refused_to_another(lock, path):
    assert lock_is_held(path) is True
    assert not FileLock(path).try_acquire()
    lock.release()
    assert lock_is_held(path) is False
    assert FileLock(path).try_acquire()


def test_a_probe_of_a_lock_that_was_never_taken_says_free_and_makes_nothing(path):
    assert lock_is_held(path) is False
    assert not os.path.exists(os.path.dirname(path))


def test_a_probe_that_cannot_look_says_unknown(tmp_path):
    (tmp_path / "file").write_text("")
    assert lock_is_held(str(tmp_path / "file" / "lock")) is None


def test_the_file_outlives_the_lock(lock, path):
    lock.release()
    assert os.path.exists(path)


def test_the_holder_says_who_it_is(lock, path):
    lock.write_holder("pid 12345 in pane %7")
    lock.write_holder("pid 7")
    assert read_holder(path) == "pid 7"


def test_who_does_not_hold_it_says_nothing(path):
    FileLock(path).write_holder("me")
    assert read_holder(path) == ""


def test_a_lock_that_is_never_let_go_of_is_reported_with_its_file(lock, path, monkeypatch):
    monkeypatch.setattr("gangline.store.locks._JOURNAL_PATIENCE_SECONDS", 0.0)
    with pytest.raises(MachineError) as caught:
        FileLock(path).acquire()
    assert caught.value.place == path
    assert path in caught.value.hint


@pytest.mark.parametrize("close_fds", [True, False])
def test_a_child_does_not_inherit_the_lock(lock, path, close_fds):
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; print('here', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=close_fds,
    )
    with child:
        assert child.stdout.readline() == b"here\n"  # only then has exec closed what it must
        lock.release()
        assert lock_is_held(path) is False
        child.communicate()


def test_a_holder_that_is_killed_lets_go(path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout.readline() == b"True\n"
        assert lock_is_held(path) is True
        holder.kill()
        holder.wait()
        assert lock_is_held(path) is False
