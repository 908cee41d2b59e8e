"""Journal and state file: either alone rebuilds the other, and what is not ours is kept aside."""

import os

import msgspec
import pytest
from store_builders import (
    AT,
    begin,
    completed,
    contents,
    dispatched,
    load,
    paths_in,
    read,
    record,
    short_story,
    write,
)

from gangline.core.digest import digest_matches
from gangline.core.events import Edited, Paused, Resumed
from gangline.core.model import IssueSpec, Status
from gangline.errors import EXIT_STATE, StateError
from gangline.store.area import areas
from gangline.store.batches import Store


@pytest.fixture
def store(tmp_path):
    """A small batch, loaded and up to date."""
    store = short_story(tmp_path)
    yield store
    store.close()


def reload(store: Store) -> Store:
    """What a new process reads of the same area, mending what there is to mend."""
    again = load(store.paths)
    again.close()
    return again


def rejected(store: Store) -> list[str]:
    names = os.listdir(store.paths.folder)
    return sorted(name for name in names if ".rejected-" in name)


class TestAgreement:
    def test_the_state_file_is_the_fold_after_every_commit(self, tmp_path):
        store = begin(tmp_path)
        for event in (dispatched("1"), completed("1"), Paused()):
            record(store, event)
            assert read(store.paths.state) == contents(store.batch)
            assert digest_matches(read(store.paths.state))
        store.close()

    def test_loading_changes_no_byte_of_files_that_agree(self, store):
        before = read(store.paths.journal), read(store.paths.state)
        again = reload(store)
        assert (read(store.paths.journal), read(store.paths.state)) == before
        assert contents(again.batch) == contents(store.batch)
        assert again.reports == []

    def test_a_state_file_read_back_is_written_on_as_if_it_had_never_been_closed(self, store):
        again = load(store.paths)
        record(again, dispatched("2"))
        again.close()
        assert read(store.paths.state) == contents(again.batch)

    def test_there_is_no_batch_where_there_is_no_file(self, tmp_path):
        store = Store(paths_in(tmp_path))
        assert not store.exists()
        assert not store.load(repair=True)
        assert not os.path.exists(store.paths.folder)

    def test_load_can_be_called_again_on_the_same_store(self, store):
        expected = contents(store.batch)
        assert store.load(repair=True)
        assert store.load()
        assert contents(store.batch) == expected
        assert rejected(store) == []
        record(store, Paused())

    def test_a_batch_is_not_begun_over_another(self, store):
        before = read(store.paths.journal)
        with pytest.raises(StateError, match="has a batch already"):
            begin(os.path.dirname(os.path.dirname(store.paths.root)))
        assert read(store.paths.journal) == before

    def test_what_a_crash_left_before_the_first_event_does_not_stop_a_new_batch(self, tmp_path):
        paths = paths_in(tmp_path)
        os.makedirs(paths.folder)
        write(paths.journal, b"")
        begin(tmp_path).close()
        assert load(paths).batch.batch_id == "b1"


class TestStateFileLost:
    @pytest.mark.parametrize("left", [None, b"", b"{", b"\0" * 700])
    def test_the_journal_rebuilds_it(self, store, left):
        expected = read(store.paths.state)
        os.unlink(store.paths.state)
        if left is not None:
            write(store.paths.state, left)
        again = reload(store)
        assert contents(again.batch) == contents(store.batch)
        assert read(store.paths.state) == expected

    def test_a_state_file_that_lags_is_folded_on(self, store):
        old = read(store.paths.state)
        record(store, dispatched("2"), Paused())
        expected = read(store.paths.state)
        write(store.paths.state, old)
        again = reload(store)
        assert contents(again.batch) == expected
        assert read(store.paths.state) == expected
        assert (again.reports, rejected(store)) == ([], [])

    def test_a_reader_folds_a_lagging_file_on_without_writing(self, store):
        old = read(store.paths.state)
        record(store, Paused())
        write(store.paths.state, old)
        reader = load(store.paths, repair=False)
        reader.close()
        assert reader.batch.paused
        assert read(store.paths.state) == old


class TestStateFileEdited:
    def edit(self, store: Store) -> bytes:
        text = read(store.paths.state).replace(b'"1":"completed"', b'"1":"pending"')
        assert text != read(store.paths.state)
        write(store.paths.state, text)
        return text

    def test_the_change_is_taken_and_recorded_and_the_file_is_the_fold_again(self, store):
        self.edit(store)
        again = reload(store)
        assert again.batch.issues["1"].status is Status.PENDING
        assert rejected(store) == []
        assert read(store.paths.state) == contents(again.batch)
        assert any("by hand" in report for report in again.reports)
        [edited] = [e for e in again.last_events() if isinstance(e, Edited)]
        assert edited.by == "file"

    @pytest.mark.parametrize("broken", [b"\xff\xfe", b"[]", b"null", b'{"seq":1', b"{}"])
    def test_what_is_no_state_is_kept_beside_and_the_true_state_put_back(self, store, broken):
        expected = read(store.paths.state)
        for number in (1, 2):
            write(store.paths.state, broken)
            again = Store(store.paths)
            with pytest.raises(StateError) as caught:
                again.load(repair=True)
            again.close()
            assert caught.value.exit_code == EXIT_STATE
            assert f"batch.state.json.rejected-{number}" in caught.value.causes[-1]
            assert read(f"{store.paths.state}.rejected-{number}") == broken
            assert read(store.paths.state) == expected
        assert load(store.paths).batch.seq == store.batch.seq

    def test_a_state_file_of_another_batch_is_kept_aside(self, store, tmp_path):
        other = begin(tmp_path / "elsewhere", batch_id="b2")
        other.close()
        foreign = read(other.paths.state)
        write(store.paths.state, foreign)
        again = reload(store)
        assert again.batch.batch_id == "b1"
        assert read(f"{store.paths.state}.rejected-1") == foreign
        assert any("not of this journal" in report for report in again.reports)

    def test_a_state_file_that_tells_of_lost_events_is_kept_aside_and_said(self, store):
        newer = read(store.paths.state)
        lines = read(store.paths.journal).splitlines(keepends=True)
        write(store.paths.journal, b"".join(lines[:-1]))
        again = reload(store)
        assert again.batch.seq == len(lines) - 1
        assert read(f"{store.paths.state}.rejected-1") == newer
        assert any("events that the journal has lost" in report for report in again.reports)


class TestJournalLost:
    @pytest.mark.parametrize("left", [None, b"", b'{"seq":1,"at', b"\0" * 900])
    def test_the_state_file_begins_a_new_one_that_is_equal(self, store, left):
        os.unlink(store.paths.journal)
        if left is not None:
            write(store.paths.journal, left)
        again = load(store.paths)
        assert again.batch.issues == store.batch.issues
        assert any("begun anew from the state file" in report for report in again.reports)
        record(again, dispatched("2"))
        again.close()
        os.unlink(store.paths.state)
        rebuilt = reload(store)
        assert contents(rebuilt.batch) == contents(again.batch)

    def test_its_state_file_that_a_power_cut_brings_back_is_not_taken_for_the_new_one_s(
        self, store
    ):
        old = read(store.paths.state)
        os.unlink(store.paths.journal)
        again = load(store.paths)
        while again.batch.seq < store.batch.seq:
            with again.transaction(f"2026-02-02T00:00:00.{again.batch.seq:03d}Z") as moment:
                moment.record(Resumed() if again.batch.paused else Paused())
        again.close()
        write(store.paths.state, old)
        assert contents(reload(store).batch) == contents(again.batch)
        assert rejected(store) == []

    def test_unknown_keys_of_the_state_file_are_kept(self, store):
        raw = msgspec.json.decode(read(store.paths.state))
        write(store.paths.state, msgspec.json.encode(raw | {"note": {"mine": [1, "é"]}}))
        os.unlink(store.paths.journal)
        load(store.paths).close()
        os.unlink(store.paths.state)
        assert load(store.paths).batch.extra == {"note": {"mine": [1, "é"]}}
        assert msgspec.json.decode(read(store.paths.state))["note"] == {"mine": [1, "é"]}

    def test_a_reader_makes_no_journal(self, store):
        os.unlink(store.paths.journal)
        load(store.paths, repair=False).close()
        assert not os.path.exists(store.paths.journal)

    @pytest.mark.parametrize(
        "edit",
        [
            {"batchId": "../../etc"},
            {"area": "server"},
            {"area": "a/b"},
            {"issues": ["1", "2", "../x"]},
            {"dag": {"1": ["99"]}},
            {"dag": {"2": ["1"], "1": ["2"]}, "status": {}},
            {"status": {"1": "asleep"}},
            {"status": {"1": "dispatched"}},
            {"format": 9},
        ],
    )
    def test_a_state_file_that_cannot_be_used_is_refused_and_never_written_over(self, store, edit):
        raw = msgspec.json.decode(read(store.paths.state))
        bad = msgspec.json.encode(raw | edit)
        self.refused(store, bad)

    @pytest.mark.parametrize("bad", [b"{", b"\0" * 50, b'{"area":"\xff"}', b"[]"])
    def test_bytes_that_are_no_state_are_refused_and_never_written_over(self, store, bad):
        self.refused(store, bad)

    def refused(self, store: Store, bad: bytes) -> None:
        write(store.paths.state, bad)
        os.unlink(store.paths.journal)
        again = Store(store.paths)
        with pytest.raises(StateError) as caught:
            again.load(repair=True)
        again.close()
        assert caught.value.exit_code == EXIT_STATE
        assert caught.value.place == store.paths.state
        assert caught.value.causes
        assert read(store.paths.state) == bad
        assert not os.path.exists(store.paths.journal)


class TestIssueTexts:
    def test_they_are_read_back_by_key(self, store):
        assert store.read_issues()["2"].title == "Title 2"
        store.write_issues([IssueSpec(id=7, title="t", place="p", body="b\0é")])
        assert store.read_issues()["7"].body == "b\0é"

    @pytest.mark.parametrize("left", [None, b"", b"{}"])
    def test_lost_or_broken_texts_name_the_command_that_reads_them_anew(self, store, left):
        os.unlink(store.paths.issues)
        if left is not None:
            write(store.paths.issues, left)
        with pytest.raises(StateError) as caught:
            store.read_issues()
        assert "gangline run client --from" in caught.value.hint


class TestArchive:
    def test_the_folder_moves_whole_and_the_area_is_free(self, store):
        journal = read(store.paths.journal)
        target = store.archive()
        assert target == os.path.join(store.paths.archive, "b1")
        assert read(os.path.join(target, "batch.journal.jsonl")) == journal
        assert not store.exists()
        assert os.path.exists(store.paths.journal_lock)

    def test_what_another_recorded_meanwhile_is_not_archived_away(self, store):
        record(load(store.paths), Paused())
        with pytest.raises(StateError, match="was changed while it was being archived") as caught:
            store.archive()
        assert "gangline run client" in caught.value.hint
        assert load(store.paths).batch.paused

    def test_a_batch_id_that_is_there_already_is_not_written_over(self, store, tmp_path):
        first = store.archive()
        again = begin(tmp_path)
        assert again.archive() != first
        assert len(os.listdir(store.paths.archive)) == 2


class TestAreas:
    def test_areas_with_a_batch_are_listed_and_nothing_else(self, tmp_path, store):
        workspace = os.path.dirname(store.paths.root)
        assert areas(str(tmp_path / "nowhere")) == []
        begin(tmp_path, area="another").close()
        os.makedirs(paths_in(tmp_path, "empty").folder)
        only_state = paths_in(tmp_path, "shell")
        os.makedirs(only_state.folder)
        write(only_state.state, b"{}")
        assert areas(workspace) == ["another", "client", "shell"]
        store.archive()
        assert areas(workspace) == ["another", "shell"]


def test_events_carry_the_time_of_their_transaction(store):
    assert store.batch.created_at == AT
    assert [event.seq for event in store.last_events()] == [1, 2, 3, 4, 5]
