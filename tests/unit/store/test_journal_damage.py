"""The journal cut, flipped and filled at every byte: healed where a crash did it, else refused."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_builders import contents, load, paths_in, read, record, short_story, write

from gangline.core.batch import Batch
from gangline.core.codec import decode_event, encode_event, replay
from gangline.core.events import Paused
from gangline.errors import EXIT_STATE, StateError
from gangline.store.batches import Store
from gangline.store.journal import check_lines

STEADY = settings(derandomize=True, deadline=None)
CHANGES = {
    "lowest bit": lambda byte: byte ^ 0x01,
    "letter case": lambda byte: byte ^ 0x20,
    "highest bit": lambda byte: byte ^ 0x80,
    "NUL": lambda byte: 0,
    "newline": lambda byte: ord("\n"),
}


@pytest.fixture
def journal(tmp_path):
    """The bytes of a small real journal; its folder then holds nothing else of the state."""
    store = short_story(tmp_path)
    store.close()
    return read(store.paths.journal)


@pytest.fixture
def refill(tmp_path):
    """Puts these bytes in the place of the journal, without a state file."""
    paths = paths_in(tmp_path)

    def put(data: bytes, state: bytes | None = None):
        for file in (paths.journal, paths.state):
            write(file, b"")
        write(paths.journal, data)
        if state is not None:
            write(paths.state, state)
        return paths

    return put


def fold(lines: list[bytes]) -> Batch:
    batch = Batch()
    for line in lines:
        batch = replay(batch, decode_event(line))
    return batch


def refusal(paths) -> StateError:
    store = Store(paths)
    with pytest.raises(StateError) as caught:
        store.load(repair=True)
    store.close()
    assert caught.value.exit_code == EXIT_STATE
    return caught.value


class TestTruncation:
    def test_cut_at_every_byte_it_holds_exactly_the_whole_lines_before(self, journal, refill):
        lines = journal.split(b"\n")[:-1]
        for cut in range(1, len(journal)):
            whole = lines[: journal[: cut + 1].count(b"\n")]  # a line lacks but its newline: whole
            paths = refill(journal[:cut])
            store = Store(paths)
            assert store.load(repair=True) == bool(whole), cut
            assert contents(store.batch) == contents(fold(whole)), cut
            told = any("cut short" in report for report in store.reports)
            torn = not journal[:cut].endswith(b"\n") and journal[cut : cut + 1] != b"\n"
            assert told == torn, cut
            store.close()

    def test_cut_at_every_byte_it_can_be_appended_to(self, journal, refill):
        first = journal.index(b"\n")
        for cut in range(first, len(journal)):
            paths = refill(journal[:cut])
            store = load(paths)
            record(store, Paused())
            expected = contents(store.batch)
            store.close()
            assert read(paths.journal).count(b"\n") == store.batch.seq, cut
            again = load(paths)
            assert again.reports == []
            assert contents(again.batch) == expected, cut
            again.close()

    def test_cut_inside_its_first_line_the_area_is_free_for_a_batch(self, journal, refill):
        for cut in (1, 10, journal.index(b"\n") - 1):
            paths = refill(journal[:cut])
            store = Store(paths)
            assert not store.load(repair=True)
            store.close()
            assert not store.exists() or read(paths.state) == b""

    def test_a_reader_changes_nothing(self, journal, refill):
        for cut in (len(journal) - 1, len(journal) - 5):
            paths = refill(journal[:cut])
            store = Store(paths)
            store.load()
            store.close()
            assert read(paths.journal) == journal[:cut]
            assert read(paths.state) == b""

    @pytest.mark.parametrize("healed_by_another", [False, True])
    def test_a_reader_that_then_writes_puts_the_missing_newline_first(
        self, journal, refill, healed_by_another
    ):
        paths = refill(journal[:-1])
        store = load(paths, repair=False)
        if healed_by_another:
            load(paths).close()
        record(store, Paused())
        store.close()
        assert read(paths.journal).startswith(journal)
        again = load(paths)
        assert contents(again.batch) == contents(store.batch)
        again.close()


class TestFlips:
    @pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
    def test_every_changed_byte_is_found_and_nothing_is_touched(self, journal, refill, change):
        for place in range(len(journal) - 1):
            data = bytearray(journal)
            data[place] = change(data[place])
            if bytes(data) == journal:
                continue
            paths = refill(bytes(data))
            error = refusal(paths)
            line = journal.count(b"\n", 0, place) + 1
            start = journal.rfind(b"\n", 0, place) + 1
            if "format version" not in error.message:
                assert f"line {line}, byte {start}:" in error.message, place
            assert error.place == paths.journal
            assert "mv " in error.hint or "update" in error.hint
            assert read(paths.journal) == bytes(data)

    @pytest.mark.parametrize("byte", [b"\0", b"\x0b", b"x"])
    def test_a_changed_last_newline_is_healed(self, journal, refill, byte):
        paths = refill(journal[:-1] + byte)
        store = load(paths)
        assert store.reports == []
        store.close()
        assert read(paths.journal) == journal

    @STEADY
    @given(data=st.data())
    def test_lines_swapped_lost_or_doubled_are_found(self, data):
        events = [encode_event(Paused(seq=n, at="x")) for n in range(1, 6)]
        order = data.draw(st.lists(st.sampled_from(range(5)), min_size=1, max_size=6))
        text = b"".join(events[n] for n in order)
        if order == list(range(len(order))):
            assert len(check_lines(text, offset=0, first_seq=1, path="j").lines) == len(order)
            return
        wrong = next(place for place, n in enumerate(order) if n != place)
        with pytest.raises(StateError, match=f"line {wrong + 1}, .*it has number"):
            check_lines(text, offset=0, first_seq=1, path="j")

    def test_the_hint_moves_the_damaged_file_aside_and_that_mends_it(self, tmp_path, journal):
        paths = paths_in(tmp_path)
        whole = load(paths)
        expected = whole.batch.issues
        whole.close()
        write(paths.journal, journal.replace(b'"type":"held"', b'"type":"hald"'))
        assert f"mv '{paths.journal}' '{paths.journal}.damaged'" in refusal(paths).hint
        os.rename(paths.journal, f"{paths.journal}.damaged")
        mended = load(paths)
        assert mended.batch.issues == expected
        mended.close()


class TestUnfilledBlocks:
    @pytest.mark.parametrize("count", [1, 2, 511, 5000])
    def test_nuls_after_the_last_line_are_cut_off_and_reported(self, journal, refill, count):
        paths = refill(journal + b"\0" * count)
        store = load(paths)
        assert any("cut short" in report for report in store.reports)
        record(store, Paused())
        store.close()
        assert read(paths.journal).startswith(journal)
        assert b"\0" not in read(paths.journal)

    def test_a_hole_in_what_was_being_written_is_cut_off(self, journal, refill):
        """A commit over several disk blocks, of which only a later one reached the disk."""
        hole = b"\0" * (512 - len(journal) % 512)
        paths = refill(journal + hole + b'er":"m"}\n{"seq":')
        store = load(paths)
        assert any("cut short" in report for report in store.reports)
        store.close()
        assert read(paths.journal) == journal

    def test_one_nul_at_the_end_of_a_block_is_damage_of_a_committed_line(self, tmp_path, journal):
        store = load(paths_in(tmp_path))
        while len(journal) // 512 == (start := journal.rindex(b"\n", 0, -1)) // 512:
            record(store, Paused())
            journal = read(store.paths.journal)
        store.close()
        end = len(journal) // 512 * 512
        assert start < end - 1 < len(journal) - 1
        write(store.paths.journal, journal[: end - 1] + b"\0" + journal[end:])
        assert "damaged" in refusal(store.paths).message

    def test_a_hole_before_a_whole_line_is_damage(self, journal, refill):
        start = journal.index(b"\n") + 5
        hole = b"\0" * (512 - start % 512)
        data = journal[:start] + hole + b"\n" + journal[start:].split(b"\n", 1)[1]
        assert "line 2, byte" in refusal(refill(data)).message


def test_a_newer_format_stops_with_exit_code_4_and_is_not_touched(journal, refill):
    data = journal.replace(b'"format":1', b'"format":2', 1)
    paths = refill(data)
    error = refusal(paths)
    assert "format version 2" in error.message
    assert "update Gangline" in error.hint
    assert read(paths.journal) == data
