"""Several writers on one journal: each sees the others' events first, and commits whole or not."""

import errno
import os
import subprocess
import sys

import pytest
from store_builders import AT, contents, dispatched, load, read, record, short_story

from gangline.core.events import AnyEvent, Held, Paused, Released, Resumed
from gangline.core.transitions import IllegalEventError
from gangline.errors import EXIT_STATE, StateError
from gangline.store.batches import Store

TOGGLES = 20  # transactions of each of two processes
TOGGLER = """
import sys
from gangline.core.events import Held, Released
from gangline.store.area import AreaPaths
from gangline.store.batches import Store
store = Store(AreaPaths(sys.argv[1], "client"))
store.load()
for _ in range(int(sys.argv[2])):
    with store.transaction("2026-01-01T00:00:00.000Z") as moment:
        held = moment.batch.issues["2"].held
        moment.record(Released(issue="2") if held else Held(issue="2"))
"""


@pytest.fixture
def store(tmp_path):
    store = short_story(tmp_path)
    record(store, Released(issue="2"))
    yield store
    store.close()


@pytest.fixture
def other(store):
    """A second writer of the same area."""
    other = load(store.paths)
    yield other
    other.close()


class TestTwoWriters:
    def test_each_sees_what_the_other_recorded_before_it_decides(self, store, other):
        record(store, Paused())
        with other.transaction(AT) as moment:
            assert [type(event) for event in moment.fresh] == [Paused]
            assert moment.batch.paused
            moment.record(Resumed())
        with store.transaction(AT) as moment:
            assert [type(event) for event in moment.fresh] == [Resumed]
        assert contents(store.batch) == contents(other.batch) == read(store.paths.state)

    def test_an_event_that_the_others_made_illegal_is_refused(self, store, other):
        record(store, dispatched("2"))
        with pytest.raises(IllegalEventError):
            record(other, dispatched("2"))

    def test_one_does_not_wait_for_the_other_between_transactions(self, store, other):
        for number in range(6):
            writer = (store, other)[number % 2]
            record(writer, Held(issue="2") if number % 2 else Released(issue="2"))
        with store.transaction(AT):
            pass
        assert contents(store.batch) == contents(other.batch)
        assert contents(load(store.paths).batch) == contents(other.batch)

    def test_two_processes_interleave_without_losing_or_doubling_an_event(self, store):
        before = store.batch.seq
        workspace = os.path.dirname(store.paths.root)
        command = [sys.executable, "-c", TOGGLER, workspace, str(TOGGLES)]
        children = [subprocess.Popen(command) for _ in range(2)]
        assert [child.wait(timeout=60) for child in children] == [0, 0]
        with store.transaction(AT) as moment:
            kinds = [type(event) for event in moment.fresh]
        # Each looked at what was true: so the two kinds alternate strictly.
        assert kinds == [Held, Released] * TOGGLES
        assert store.batch.seq == before + 2 * TOGGLES
        assert contents(load(store.paths).batch) == contents(store.batch)


def fail_after(store: Store, *events: AnyEvent) -> None:
    """A transaction whose body raises after it recorded these."""
    with store.transaction(AT) as moment:
        for event in events:
            moment.record(event)
        raise ZeroDivisionError


class TestAllOrNothing:
    def test_a_transaction_that_raises_writes_nothing(self, store):
        before = read(store.paths.journal), read(store.paths.state)
        with pytest.raises(ZeroDivisionError):
            fail_after(store, Paused())
        assert (read(store.paths.journal), read(store.paths.state)) == before
        assert not load(store.paths).batch.paused

    def test_and_lets_go_of_the_lock(self, store, other):
        with pytest.raises(ZeroDivisionError):
            fail_after(store)
        record(other, Paused())

    def test_loaded_anew_the_store_goes_on_from_the_truth(self, store):
        expected = contents(store.batch)
        with pytest.raises(ZeroDivisionError):
            fail_after(store, Paused())
        assert store.load(repair=True)
        assert contents(store.batch) == expected
        record(store, Paused())

    def test_an_empty_transaction_writes_nothing(self, store):
        before = os.stat(store.paths.state).st_mtime_ns, read(store.paths.journal)
        with store.transaction(AT):
            pass
        assert (os.stat(store.paths.state).st_mtime_ns, read(store.paths.journal)) == before


class TestADiskThatRefuses:
    def refuse(self, monkeypatch, name: str, *, after_bytes: int = 0) -> None:
        """The system call fails with no space left; a write first takes a few bytes."""
        real_write = os.write
        taken = []

        def fail(fd: int, data: bytes = b"") -> int:
            if after_bytes and not taken:
                taken.append(real_write(fd, data[:after_bytes]))
                return taken[0]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(f"gangline.store.journal.os.{name}", fail)

    @pytest.mark.parametrize(("call", "after_bytes"), [("write", 0), ("write", 20), ("fsync", 0)])
    def test_the_journal_is_as_it_was_before(self, store, monkeypatch, call, after_bytes):
        before = read(store.paths.journal), read(store.paths.state)
        with monkeypatch.context() as patched:
            self.refuse(patched, call, after_bytes=after_bytes)
            with pytest.raises(StateError) as caught:
                record(store, Paused())
        assert caught.value.exit_code == EXIT_STATE
        assert "No space left" in caught.value.message
        assert caught.value.place == store.paths.journal
        assert caught.value.hint
        assert (read(store.paths.journal), read(store.paths.state)) == before
        assert not load(store.paths).batch.paused

    def test_half_a_line_that_could_not_be_cut_is_cut_by_the_next_start(self, store, monkeypatch):
        def refuse_to_cut(fd: int, length: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        before = read(store.paths.journal)
        with monkeypatch.context() as patched:
            self.refuse(patched, "write", after_bytes=20)
            patched.setattr("gangline.store.journal.os.ftruncate", refuse_to_cut)
            with pytest.raises(StateError):
                record(store, Paused())
        assert len(read(store.paths.journal)) == len(before) + 20
        load(store.paths).close()
        assert read(store.paths.journal) == before

    def test_a_state_file_that_cannot_be_replaced_loses_nothing(self, store, monkeypatch):
        def fail(source: str, target: str) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr("gangline.store.batches.os.replace", fail)
            with pytest.raises(StateError) as caught:
                record(store, Paused())
        assert caught.value.place == store.paths.state
        again = load(store.paths)
        assert again.batch.paused
        assert read(store.paths.state) == contents(again.batch)


class TestAJournalThatIsNotTheSame:
    def refused(self, store: Store) -> None:
        with pytest.raises(StateError, match="removed, replaced or shortened") as caught:
            record(store, Paused())
        assert caught.value.exit_code == EXIT_STATE
        assert caught.value.hint

    def test_removed(self, store):
        os.unlink(store.paths.journal)
        self.refused(store)
        assert not os.path.exists(store.paths.journal)

    def test_replaced_even_by_an_equal_one(self, store):
        data = read(store.paths.journal)
        with open(f"{store.paths.journal}.copy", "wb") as file:
            file.write(data)
        os.replace(f"{store.paths.journal}.copy", store.paths.journal)
        self.refused(store)
        assert read(store.paths.journal) == data

    def test_shortened(self, store):
        os.truncate(store.paths.journal, 10)
        self.refused(store)

    def test_archived_by_another(self, store, other):
        other.archive()
        self.refused(store)

    def test_damaged_by_another(self, store):
        with open(store.paths.journal, "ab") as file:
            file.write(b"not a line\n")
        with pytest.raises(StateError, match="is damaged at line 7, byte"):
            record(store, Paused())


def test_half_a_line_of_a_writer_that_died_is_cut_off_before_the_next_commit(store):
    with open(store.paths.journal, "ab") as file:
        file.write(b'{"seq":7,"at":"20')
    record(store, Paused())
    assert any("cut short" in report for report in store.reports)
    assert load(store.paths).batch.paused
