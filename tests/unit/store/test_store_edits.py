"""The state file as an interface: whatever is found in it is taken, put right or kept aside."""

import json
import os
import signal
import subprocess
import sys

import msgspec
import pytest
from store_builders import (
    AT,
    begin,
    completed,
    contents,
    dispatched,
    load,
    read,
    record,
    short_story,
    write,
)

from gangline.core.events import Edited, Held, Paused, Released, Resumed
from gangline.core.model import Status
from gangline.errors import EXIT_STATE, InputError, StateError
from gangline.store.batches import Store

# One commit, killed when it is about to replace the state file.
DIES = """
import os, signal, sys
from gangline.core.codec import decode_event
from gangline.store.area import AreaPaths
from gangline.store.batches import Store
store = Store(AreaPaths(sys.argv[1], "client"))
replace = os.replace
def die(source, target):
    if target == store.paths.state:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = die
store.load(repair=True)
with store.transaction("2026-01-01T00:00:01.000Z") as moment:
    if len(sys.argv) > 2:
        moment.record(decode_event(sys.argv[2].encode()))
"""


@pytest.fixture
def store(tmp_path):
    """1 is completed, 2 pending and held; loaded and up to date."""
    store = short_story(tmp_path)
    yield store
    store.close()


def state(store: Store) -> dict:
    return json.loads(read(store.paths.state))


def rejected(store: Store) -> list[str]:
    names = os.listdir(store.paths.folder)
    return sorted(name for name in names if ".rejected-" in name)


def edits(store: Store) -> list[Edited]:
    return [event for event in store.last_events() if isinstance(event, Edited)]


def again(store: Store) -> Store:
    """What a new process finds, mending what there is to mend."""
    found = load(store.paths)
    found.close()
    return found


def refused_at_start(store: Store) -> StateError:
    started = Store(store.paths)
    with pytest.raises(StateError) as caught:
        started.load(repair=True)
    started.close()
    assert caught.value.exit_code == EXIT_STATE
    return caught.value


def moved_into_place(path: str, data: bytes) -> None:
    write(f"{path}.tmp", data)
    os.rename(f"{path}.tmp", path)


def written_in_place(path: str, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate()


def as_vim_does(path: str, data: bytes) -> None:
    os.rename(path, f"{path}~")
    write(path, data)
    os.unlink(f"{path}~")


def through_a_link(path: str, data: bytes) -> None:
    os.symlink(path, f"{path}.link")
    write(f"{path}.link", data)
    os.unlink(f"{path}.link")


WAYS = [moved_into_place, written_in_place, as_vim_does, through_a_link]
FORMS = {
    "jq": ["jq", "."],
    "jq sorted": ["jq", "-S", "--tab", "."],
    "jq in one line": ["jq", "-c", "."],
    "jq without the last newline": ["jq", "-j", "."],
    "python": [sys.executable, "-m", "json.tool"],
}


class TestUntouched:
    @pytest.mark.parametrize("form", FORMS)
    def test_state_that_a_program_only_wrote_anew_is_no_edit(self, store, form):
        record(store, Edited(by="filter", extra={"n": [1.0, 2**60 + 1, 1e30, "é", None]}))
        before = read(store.paths.state), read(store.paths.journal)
        done = subprocess.run(FORMS[form], input=before[0], capture_output=True, check=True)
        assert done.stdout != before[0]
        write(store.paths.state, done.stdout)
        started = again(store)
        assert (read(store.paths.state), read(store.paths.journal)) == before
        assert (started.reports, rejected(store)) == ([], [])

    def test_touched_file_is_left_alone(self, store):
        os.utime(store.paths.state, ns=(1, 1))
        inode = os.stat(store.paths.state).st_ino
        with store.transaction(AT) as moment:
            assert moment.events == []
        assert os.stat(store.paths.state).st_ino == inode


class TestTaken:
    @pytest.mark.parametrize("way", WAYS)
    def test_however_it_was_written_the_next_start_takes_and_records_it(self, store, way):
        way(store.paths.state, json.dumps(state(store) | {"note": 1}, indent=1).encode())
        started = again(store)
        assert started.batch.extra == {"note": 1}
        assert [edit.extra for edit in edits(store)] == [{"note": 1}]
        assert read(store.paths.state) == contents(started.batch)
        assert again(store).reports == []

    @pytest.mark.parametrize("way", WAYS)
    def test_living_store_takes_it_before_it_decides_anything(self, store, way):
        way(store.paths.state, json.dumps(state(store) | {"paused": True}).encode())
        with store.transaction(AT) as moment:
            assert moment.batch.paused
            moment.record(Resumed())
        assert [type(event) for event in store.last_events()[-2:]] == [Edited, Resumed]
        assert not state(store)["paused"]

    def test_edit_alone_is_committed_by_a_transaction_that_records_nothing(self, store):
        write(store.paths.state, json.dumps(state(store) | {"paused": True}).encode())
        with store.transaction(AT):
            pass
        assert again(store).batch.paused
        assert read(store.paths.state) == contents(store.batch)

    def test_two_edits_one_after_the_other_are_both_taken(self, store):
        for key in ("a", "b"):
            write(store.paths.state, json.dumps(state(store) | {key: 1}).encode())
            with store.transaction(AT):
                pass
        assert store.batch.extra == {"a": 1, "b": 1}
        assert len(edits(store)) == 2

    def test_edit_of_a_text_that_the_journal_has_left_behind_is_put_onto_the_newest(self, store):
        old = state(store)
        record(store, Paused(), Edited(by="filter", extra={"theirs": 1}))
        write(store.paths.state, json.dumps(old | {"mine": 2}).encode())
        found = again(store).batch
        assert (found.extra, found.paused) == ({"theirs": 1, "mine": 2}, True)

    def test_reader_that_mends_nothing_tells_the_truth_and_leaves_the_edit(self, store):
        text = json.dumps(state(store) | {"paused": True}).encode()
        write(store.paths.state, text)
        reader = load(store.paths, repair=False)
        reader.close()
        assert not reader.batch.paused
        assert read(store.paths.state) == text

    def test_issue_that_joins_has_a_text_of_its_own(self, store):
        edited = state(store)
        edited["issues"].append(7)
        edited["detail"]["7"] = {"title": "Seven"}
        write(store.paths.state, json.dumps(edited).encode())
        texts = again(store).read_issues()
        assert list(texts) == ["1", "2", "7"]
        assert (texts["7"].title, texts["1"].title) == ("Seven", "Title 1")

    def test_lost_texts_do_not_stop_an_issue_from_joining(self, store):
        os.unlink(store.paths.issues)
        edited = state(store)
        edited["issues"].append(7)
        write(store.paths.state, json.dumps(edited).encode())
        assert "7" in again(store).batch.issues
        assert not os.path.exists(store.paths.issues)

    def test_unknown_keys_outlive_commits_restarts_and_the_loss_of_either_file(self, store):
        record(store, Released(issue="2"), dispatched("2"))
        edited = state(store) | {"note": {"mine": [1, "é", 2**60 + 1]}}
        edited["dispatched"]["2"]["lastActivity"] = "noon"
        write(store.paths.state, json.dumps(edited).encode())
        for number in range(8):
            found = load(store.paths)
            record(found, Paused() if number % 2 else Resumed())
            found.close()
            if number % 3 == 2:
                os.unlink(store.paths.journal if number == 2 else store.paths.state)
        now = json.loads(contents(again(store).batch))
        assert now["note"] == {"mine": [1, "é", 2**60 + 1]}
        assert now["dispatched"]["2"]["lastActivity"] == "noon"
        assert now["paused"]


CYCLE = '{"1":["2"],"2":["1"]}'


def refuse_agent(edit: Edited) -> None:
    """As the settings do."""
    if "agent" in edit.batch:
        raise InputError("no such agent", hint="one of demo")


class TestRefused:
    def bad(self, store: Store, **keys: object) -> bytes:
        data = json.dumps(state(store) | keys, indent=3).encode()
        write(store.paths.state, data)
        return data

    def test_start_stops_keeps_the_text_and_puts_the_true_state_back(self, store):
        before = read(store.paths.state), read(store.paths.journal)
        data = self.bad(store, dag=json.loads(CYCLE), paused=True)
        error = refused_at_start(store)
        assert "the dependencies form a cycle: 1 -> 2 -> 1" in error.message
        assert "kept as batch.state.json.rejected-1, the true state is put back" in error.causes[-1]
        assert read(f"{store.paths.state}.rejected-1") == data
        assert (read(store.paths.state), read(store.paths.journal)) == before
        assert again(store).reports == []

    def test_living_store_puts_it_back_says_why_and_goes_on(self, store):
        data = self.bad(store, status={"1": "asleep", "2": "pending"})
        record(store, Paused())
        assert read(f"{store.paths.state}.rejected-1") == data
        [report] = store.reports
        assert "the status of issue '1' is 'asleep'" in report
        assert "rejected-1" in report
        assert read(store.paths.state) == contents(store.batch)
        assert store.batch.paused
        assert edits(store) == []
        assert again(store).reports == []

    def test_what_the_settings_refuse_is_refused_as_well(self, store):
        self.bad(store, agent="nobody")
        living = Store(store.paths, refuse_agent)
        with pytest.raises(StateError) as caught:
            living.load(repair=True)
        living.close()
        assert "no such agent" in caught.value.message
        assert caught.value.hint == "one of demo"

    def test_conflict_with_what_others_recorded_is_refused_whole(self, store):
        old = state(store)
        record(store, Released(issue="2"), dispatched("2"))
        old["status"]["2"] = "cancelled"
        write(store.paths.state, json.dumps(old | {"note": 1}).encode())
        assert "was pending when it was edited and is dispatched" in refused_at_start(store).message
        assert again(store).batch.extra == {}

    @pytest.mark.parametrize("seq", [0, 99, -1, None, True, "1", 1.5])
    def test_seq_that_the_journal_does_not_have_is_refused(self, store, seq):
        self.bad(store, seq=seq, note=1)
        assert "the journal has events 1 to" in refused_at_start(store).message

    def test_edited_text_of_another_batch_is_refused(self, store):
        self.bad(store, batchId="b2")
        assert "it is of batch 'b2', not of b1" in refused_at_start(store).message

    @pytest.mark.parametrize("open_with", [b"[", b'{"a":'])
    @pytest.mark.parametrize("levels", [150, 900, 100_000])
    def test_text_that_is_nested_without_end_is_refused_with_a_reason(
        self, store, open_with, levels
    ):
        close_with = b"]" if open_with == b"[" else b"}"
        deep = b'"deep":' + open_with * levels + b"1" + close_with * levels
        data = read(store.paths.state).rstrip().removesuffix(b"}") + b"," + deep + b"}"
        write(store.paths.state, data)
        error = refused_at_start(store)
        assert "nested" in error.message
        assert read(f"{store.paths.state}.rejected-1") == data
        again(store)

    def test_text_that_is_nested_without_end_and_has_no_journal_is_left_alone(self, store):
        os.unlink(store.paths.journal)
        data = b"[" * 100_000
        write(store.paths.state, data)
        refused_at_start(store)
        assert read(store.paths.state) == data

    def test_half_a_text_that_an_editor_is_still_writing_is_not_lost(self, store):
        text = json.dumps(state(store) | {"note": "x" * 100}).encode()
        with open(store.paths.state, "r+b") as editor:
            editor.truncate()
            editor.write(text[:300])
            editor.flush()
            record(store, Paused())
            assert store.reports
            editor.write(text[300:])
        assert read(f"{store.paths.state}.rejected-1") == text
        assert read(store.paths.state) == contents(store.batch)

    def test_empty_file_of_an_editor_that_is_about_to_write_is_waited_for(self, store):
        text = json.dumps(state(store) | {"note": 1}).encode()
        with open(store.paths.state, "r+b") as editor:
            editor.truncate()
            with store.transaction(AT):
                pass
            editor.write(text)
        with store.transaction(AT):
            pass
        assert store.batch.extra == {"note": 1}

    def test_edit_in_the_very_moment_of_a_commit_is_kept_and_said(self, store, monkeypatch):
        text = json.dumps(state(store) | {"note": 1}).encode()
        real_open = os.open

        def edit_now(path: str, *arguments: int) -> int:
            if path.endswith(".part"):
                moved_into_place(store.paths.state, text)
            return real_open(path, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr("gangline.store.batches.os.open", edit_now)
            record(store, Paused())
        assert read(f"{store.paths.state}.rejected-1") == text
        [report] = store.reports
        assert "changed while it was being written: the change is not taken" in report
        assert read(store.paths.state) == contents(store.batch)
        assert again(store).batch.extra == {}


class TestTorn:
    def test_every_prefix_of_our_own_text_is_rebuilt_in_silence(self, store):
        whole = read(store.paths.state)
        for cut in [*range(0, len(whole) - 1, 7), len(whole) - 2, len(whole) - 1]:
            write(store.paths.state, whole[:cut])
            started = again(store)
            assert (read(store.paths.state), started.reports) == (whole, []), cut
        assert rejected(store) == edits(store) == []

    @pytest.mark.parametrize("cut", [0, 10, 512, -1])
    def test_blocks_of_nuls_are_rebuilt_in_silence(self, store, cut):
        whole = read(store.paths.state)
        write(store.paths.state, whole[:cut].ljust(len(whole), b"\0"))
        started = again(store)
        assert (read(store.paths.state), started.reports, rejected(store)) == (whole, [], [])

    @pytest.mark.parametrize("cut", [10, 200, -3])
    def test_prefix_of_an_older_text_is_rebuilt_too_also_under_a_living_store(self, store, cut):
        old = read(store.paths.state)
        record(store, Released(issue="2"), dispatched("2"))
        write(store.paths.state, old[:cut])
        assert again(store).reports == []
        write(store.paths.state, old[:cut])
        with store.transaction(AT):
            pass
        assert (store.reports, rejected(store), edits(store)) == ([], [], [])
        assert read(store.paths.state) == contents(store.batch)

    def test_prefix_of_an_edited_text_is_no_torn_text_of_ours(self, store):
        text = read(store.paths.state).replace(b'"paused":false', b'"paused":true')
        write(store.paths.state, text[:-100])
        assert "it is no JSON" in refused_at_start(store).message
        assert read(f"{store.paths.state}.rejected-1") == text[:-100]


class TestCrash:
    """kill -9 between the commit and the replacement of the state file."""

    def dies(self, store: Store, *event: str) -> None:
        workspace = os.path.dirname(store.paths.root)
        done = subprocess.run([sys.executable, "-c", DIES, workspace, *event], check=False)
        assert done.returncode == -signal.SIGKILL

    @pytest.mark.parametrize(
        "event",
        [
            '{"type":"paused"}',
            '{"type":"released","issue":"2"}',
            '{"type":"edited","by":"filter","extra":{"note":1}}',
            '{"type":"edited","by":"add","issues":[{"id":7,"title":"Seven"}]}',
            '{"type":"edited","by":"command","statuses":{"1":"pending"}}',
        ],
    )
    def test_file_that_lags_is_never_an_edit(self, store, event):
        lagging = read(store.paths.state)
        self.dies(store, event)
        assert read(store.paths.state) == lagging
        before = read(store.paths.journal)
        started = again(store)
        assert started.batch.seq == store.batch.seq + 1
        assert (read(store.paths.journal), started.reports, rejected(store)) == (before, [], [])
        assert read(store.paths.state) == contents(started.batch)

    @pytest.mark.parametrize(
        "change",
        [
            {"note": 1},
            {"paused": True},
            {"status": {"1": "pending", "2": "cancelled"}},
            {"dag": {"1": [], "2": []}},
            {"issues": ["1", "2", 7]},
            {"big": [2**63, 1e300, True, None, {"a": "é"}]},
        ],
    )
    def test_edit_that_was_recorded_is_not_taken_twice_nor_refused(self, store, change):
        write(store.paths.state, json.dumps(state(store) | change).encode())
        self.dies(store)
        before = read(store.paths.journal)
        started = again(store)
        assert len(edits(store)) == 1
        assert (read(store.paths.journal), started.reports, rejected(store)) == (before, [], [])
        assert read(store.paths.state) == contents(started.batch)

    def test_edit_that_was_recorded_is_not_refused_after_others_went_on(self, store):
        text = json.dumps(state(store) | {"note": 1}).encode()
        write(store.paths.state, text)
        with store.transaction(AT) as moment:
            moment.record(Edited(by="filter", extra={"note": 2}))
        write(store.paths.state, text)  # as a crash before the replacement would have left it
        assert again(store).batch.extra == {"note": 2}
        assert rejected(store) == []

    def test_edit_of_a_file_that_lags_is_put_onto_the_newest(self, store):
        lagging = state(store)
        self.dies(store, '{"type":"paused"}')
        write(store.paths.state, json.dumps(lagging | {"note": 1}).encode())
        found = again(store).batch
        assert (found.paused, found.extra) == (True, {"note": 1})

    def test_living_store_that_finds_a_lagging_file_takes_no_edit_from_it(self, store):
        lagging = read(store.paths.state)
        record(store, Released(issue="2"), dispatched("2"), completed("2"))
        moved_into_place(store.paths.state, lagging)
        record(store, Paused())
        assert edits(store) == []
        assert read(store.paths.state) == contents(store.batch)


class TestWithoutJournal:
    def test_cycle_is_named_with_the_command_that_mends_it(self, store):
        os.unlink(store.paths.journal)
        data = json.dumps(state(store) | {"dag": json.loads(CYCLE)}).encode()
        write(store.paths.state, data)
        error = refused_at_start(store)
        assert "the dependencies form a cycle: 1 -> 2 -> 1" in error.causes
        assert 'state-update client \'.dag["1"] |= map(' in error.hint
        assert read(store.paths.state) == data

    @pytest.mark.parametrize("ids", [["1", "1", "2"], ["1", "2", "../x"], ["1", "2", "x;rm"]])
    def test_ids_that_can_be_none_are_refused_before_they_get_into_a_command(self, store, ids):
        os.unlink(store.paths.journal)
        write(store.paths.state, json.dumps(state(store) | {"issues": ids}).encode())
        error = refused_at_start(store)
        assert "state-update" not in (error.hint or "")

    def test_edited_file_begins_the_journal_with_what_it_says(self, store):
        os.unlink(store.paths.journal)
        write(store.paths.state, json.dumps(state(store) | {"paused": True}, indent=1).encode())
        found = again(store)
        assert found.batch.paused
        assert read(store.paths.state) == contents(found.batch)


def test_state_of_a_batch_that_only_began_can_be_edited_as_well(tmp_path):
    store = begin(tmp_path)
    write(
        store.paths.state,
        json.dumps(state(store) | {"status": {"1": "skipped", "2": "pending"}}).encode(),
    )
    record(store, Held(issue="2"))
    store.close()
    assert store.batch.issues["1"].status is Status.SKIPPED
    assert msgspec.json.decode(read(store.paths.state))["status"]["1"] == "skipped"
