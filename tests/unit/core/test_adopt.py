"""A state file of the specification's shell, in every shape its text shows: what it means."""

import copy
import json
import string
from typing import Any

import pytest
from core_builders import STEADY, snapshot
from hypothesis import given
from hypothesis import strategies as st

from gangline.core.adopt import adopted, is_bare
from gangline.core.batch import Batch
from gangline.core.codec import KNOWN_KEYS, decode_event, decode_state, encode_event, replay
from gangline.core.edit import difference, state_of
from gangline.core.events import Dispatched, Policy, Retried, Unblocked
from gangline.core.model import TERMINAL, Status
from gangline.errors import InputError
from gangline.hosts.processes import epoch_seconds
from gangline.store.restoring import Restorable

ENTRY = {
    "pane": "%3",
    "retryCount": 1,
    "dispatchedAt": "2026-01-01T10:00:00Z",
    "lastActivity": "2026-01-01T10:05:00Z",
    "lastCommitSha": "0123abc",
}


def bare(**keys: object) -> dict[str, Any]:
    """A state as the recovery document shows it; a key given as `...` is left out."""
    state: dict[str, Any] = {
        "area": "client",
        "batchId": "client-1",
        "issues": [1, 2, 5],
        "dag": {"1": [], "2": [1], "5": []},
        "status": {"1": "completed", "2": "blocked", "5": "dispatched"},
        "dispatched": {"5": dict(ENTRY)},
        "agent": "claude",
        "orchestratorPane": "%0",
        "createdAt": "2026-01-01T09:00:00Z",
        "updatedAt": "2026-01-01T10:05:00Z",
    }
    return {key: value for key, value in {**state, **keys}.items() if value is not ...}


def taken(state: object, policy: Policy | None = None) -> Batch:
    data = json.dumps(state).encode()
    assert is_bare(data)
    return adopted(data, "client", policy or Policy())


def entry(**keys: object) -> dict[str, object]:
    return {"5": {key: value for key, value in {**ENTRY, **keys}.items() if value is not ...}}


def refusal(state: object) -> InputError:
    with pytest.raises(InputError) as caught:
        taken(state)
    return caught.value


def restored(batch: Batch) -> Batch:
    """The batch as it is read from the journal that was begun from it."""
    event = Restorable(batch, bare=True).event(__file__)
    return replay(Batch(), decode_event(encode_event(event).rstrip(b"\n")))


class TestWhatItMeans:
    def test_every_key_of_the_specification_is_taken(self):
        policy = Policy(max_concurrent=2)
        batch = taken(bare(), policy)
        assert (batch.area, batch.batch_id, batch.agent) == ("client", "client-1", "claude")
        assert (batch.orchestrator_pane, batch.policy) == ("%0", policy)
        assert batch.created_at == "2026-01-01T09:00:00Z"
        assert batch.updated_at == "2026-01-01T10:05:00Z"
        assert {key: issue.status for key, issue in batch.issues.items()} == {
            "1": Status.COMPLETED,
            "2": Status.BLOCKED,
            "5": Status.DISPATCHED,
        }
        assert batch.issues["2"].depends_on == ("1",)

    def test_a_dispatched_issue_has_a_foreign_attempt(self):
        issue = taken(bare()).issues["5"]
        (attempt,) = issue.attempts
        assert attempt.foreign
        assert (attempt.number, attempt.mark, attempt.outcome) == (0, "", None)
        assert (attempt.pane, attempt.retry, issue.spent) == ("%3", 1, 1)
        assert attempt.started_at == "2026-01-01T10:00:00Z"

    @pytest.mark.parametrize(
        ("count", "spent"),
        [(..., 0), (None, 0), (0, 0), (1, 1), ("1", 1), ("", 0), (1.0, 1), (2, 2), ("07", 7)],
    )
    def test_retry_count_is_what_was_spent_however_it_is_written(self, count, spent):
        issue = taken(bare(dispatched=entry(retryCount=count))).issues["5"]
        assert (issue.spent, issue.retry_count) == (spent, spent)

    @pytest.mark.parametrize("count", [-1, 1.5, "one", "-1", True, [], {}, 10**7, "9" * 5000])
    def test_a_retry_count_that_is_no_count_is_refused(self, count):
        assert (
            "dispatched.5.retryCount is"
            in refusal(bare(dispatched=entry(retryCount=count))).message
        )

    @pytest.mark.parametrize("ids", [[1, 2, 5], ["1", "2", "5"], [1.0, 2.0, 5.0], [1, "2", 5.0]])
    def test_ids_are_numbers_or_strings(self, ids):
        batch = taken(bare(issues=ids))
        assert list(batch.issues) == ["1", "2", "5"]
        assert [type(issue.id) for issue in batch.issues.values()] == [
            str if isinstance(each, str) else int for each in ids
        ]

    @pytest.mark.parametrize("others", [[1], ["1"], [1.0], [1, "1", 1.0]])
    def test_dependencies_are_numbers_or_strings(self, others):
        assert taken(bare(dag={"2": others})).issues["2"].depends_on == ("1",)

    @pytest.mark.parametrize("dag", [..., None, {}, {"2": None}, {"1": [], "2": [], "5": []}])
    def test_a_missing_or_empty_graph_is_no_dependencies(self, dag):
        assert all(not issue.depends_on for issue in taken(bare(dag=dag)).issues.values())

    @pytest.mark.parametrize("status", [..., None, {}, {"1": "pending"}])
    def test_a_missing_status_is_pending(self, status):
        batch = taken(bare(status=status, dispatched={}))
        assert {issue.status for issue in batch.issues.values()} == {Status.PENDING}
        assert list(batch.misplaced) == ["2"]  # it is blocked by the first decision

    @pytest.mark.parametrize("word", ["pending", "blocked", ...])
    def test_an_entry_is_a_dispatch_that_may_have_happened_whatever_the_status_says(self, word):
        status = {} if word is ... else {"5": word}
        issue = taken(bare(status=status)).issues["5"]
        assert (issue.status, issue.attempt.pane) == (Status.DISPATCHED, "%3")

    @pytest.mark.parametrize("dispatched", [..., None, {}, {"5": None}, {"5": {}}])
    def test_dispatched_without_an_entry_is_an_attempt_of_an_unknown_pane(self, dispatched):
        issue = taken(bare(dispatched=dispatched)).issues["5"]
        assert issue.status is Status.DISPATCHED
        assert (issue.attempt.foreign, issue.attempt.pane, issue.spent) == (True, None, 0)

    def test_an_entry_that_is_null_is_none(self):
        assert taken(bare(status={}, dispatched={"5": None})).issues["5"].attempts == []

    @pytest.mark.parametrize("pane", [..., None, "", "null", "main:0.1", "%", "%3x", "3"])
    def test_a_pane_that_is_no_pane_id_is_unknown(self, pane):
        issue = taken(bare(dispatched=entry(pane=pane))).issues["5"]
        assert issue.attempt.pane is None
        assert issue.entry.get("pane", ...) == pane

    @pytest.mark.parametrize("word", sorted(TERMINAL))
    def test_an_entry_of_a_finished_issue_is_kept_and_dispatches_nothing(self, word):
        issue = taken(bare(status={"5": word})).issues["5"]
        assert (issue.status, issue.attempts, issue.entry) == (Status(word), [], ENTRY)

    def test_an_entry_of_a_finished_issue_never_speaks_for_a_later_attempt(self):
        batch = taken(bare(status={"5": "failed"}, dispatched=entry(attempt="x")))
        for event in (
            Retried(issue="5"),
            Unblocked(issue="5"),
            Dispatched(issue="5", attempt=0, mark="m", retry=0, boot_id="b", boot_seconds=1.0),
        ):
            batch.fold(event)
        found = json.loads(snapshot(batch))["dispatched"]["5"]
        assert (found["pane"], found["retryCount"], found["attempt"]) == (None, 0, 0)
        assert found["lastCommitSha"] == "0123abc"
        assert next(iter(found)) == "pane"
        decode_state(snapshot(batch))
        assert difference(batch, state_of(batch), by="file") is None

    def test_unknown_keys_are_kept_at_the_top_and_in_entries(self):
        extra = {"team": {"a": [1, None]}, "Größe": "ß", "pollCount": 12}
        batch = restored(taken(bare(**extra, dispatched=entry(note={"x": 1}))))
        found = json.loads(snapshot(batch))
        assert {key: found[key] for key in extra} == extra
        assert found["dispatched"]["5"].items() >= {**ENTRY, "note": {"x": 1}}.items()

    def test_an_entry_with_names_of_ours_is_read_again(self):
        batch = restored(taken(bare(dispatched=entry(attempt="first"))))
        assert json.loads(snapshot(batch))["dispatched"]["5"]["attempt"] == 0
        assert batch.issues["5"].entry["attempt"] == "first"
        decode_state(snapshot(batch))

    @pytest.mark.parametrize(
        ("written", "seconds"),
        [
            ("2026-01-01T10:00:00Z", 1767261600.0),
            ("2026-01-01T19:00:00+09:00", 1767261600.0),
            (1767261600, 1767261600.0),
            ("1767261600", 1767261600.0),
            ("yesterday", 0.0),
            (None, 0.0),
        ],
    )
    def test_the_time_of_a_dispatch_is_read_as_date_writes_it(self, written, seconds):
        issue = taken(bare(dispatched=entry(dispatchedAt=written))).issues["5"]
        assert epoch_seconds(issue.attempt.started_at) == seconds


class TestNames:
    @pytest.mark.parametrize(("found", "name"), [("client-1", "client-1"), (20260101, "20260101")])
    def test_the_batch_keeps_its_id(self, found, name):
        assert taken(bare(batchId=found)).batch_id == name

    @pytest.mark.parametrize("missing", [..., None, ""])
    def test_a_batch_without_an_id_has_one_that_is_the_same_for_the_same_file(self, missing):
        state = bare(batchId=missing)
        name = taken(state).batch_id
        assert name.startswith("adopted-")
        assert taken(state).batch_id == name
        assert taken(bare(batchId=missing, agent="codex")).batch_id != name

    @pytest.mark.parametrize("name", ["../../etc", "a/b", "2026-01-01T10:00:00Z", "-x", "a" * 200])
    def test_a_batch_id_that_can_be_no_folder_is_refused_with_what_mends_it(self, name):
        error = refusal(bare(batchId=name))
        assert error.message.startswith(f"batchId {name[:100]!r} cannot be")
        assert error.hint == "take another: gangline shell state-update client 'del(.batchId)'"

    @pytest.mark.parametrize("area", [..., None, "client"])
    def test_the_area_is_that_of_the_folder(self, area):
        assert taken(bare(area=area)).area == "client"

    @pytest.mark.parametrize("agent", [..., None, ""])
    def test_no_agent_is_none(self, agent):
        assert taken(bare(agent=agent)).agent is None


REFUSED = {
    "another area": (bare(area="server"), "it is the state of area 'server'"),
    "no issues": (bare(issues=...), "missing required field `issues`"),
    "issues are no list": (bare(issues={"1": 1}), "Expected `array`"),
    "an id that is no name": (bare(issues=["a/b"]), "issue id 'a/b'"),
    "an id that is a fraction": (bare(issues=[1.5]), "1.5, which is no id"),
    "an id twice": (bare(issues=[1, "1", 2, 5]), "issues names '1' twice"),
    "ids that differ in case": (bare(issues=[1, 2, 5, "a", "A"]), "differ only in case"),
    "a negative id": (bare(issues=[-1]), "issue id '-1'"),
    "an unknown status": (bare(status={"1": "done"}), "the status of issue '1' is 'done'"),
    "a status of no issue": (bare(status={"9": "pending"}), "status has issue '9'"),
    "edges of no issue": (bare(dag={"9": []}), "dag has issue '9'"),
    "an edge to no issue": (bare(dag={"2": [9]}), "'9'"),
    "a null entry of no issue": (bare(dispatched={"9": None}), "dispatched has issue '9'"),
    "an entry of no issue": (bare(dispatched={"9": {}}), "dispatched has issue '9'"),
    "a pane that is a number": (bare(dispatched=entry(pane=3)), "a tmux pane is written %3"),
    "an issue that waits for itself": (bare(dag={"2": [2]}), "depends on itself"),
    "a cycle": (
        bare(dag={"1": [5], "2": [1], "5": [2]}),
        "the dependencies form a cycle: ",
    ),
}


@pytest.mark.parametrize(("state", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_a_state_that_does_not_hold_together_is_refused(state, words):
    assert words in refusal(state).message


def test_a_cycle_is_named_whole_with_the_command_that_mends_it():
    error = refusal(bare(dag={"1": [5], "2": ["1"], "5": [2]}))
    named = error.message.rpartition(": ")[2].split(" -> ")
    assert named[0] == named[-1]
    assert set(named) == {"1", "2", "5"}
    assert error.hint
    assert "gangline shell state-update client" in error.hint


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b'"x"', b'{"format": 1}', b"\0" * 9])
def test_what_is_no_json_object_or_ours_is_not_the_shells(data):
    assert not is_bare(data)


@pytest.mark.parametrize("said", [..., None, "", "now", 'a"b', "ä", 1767261600, "2026-01-01"])
def test_an_unusable_time_of_its_own_never_harms_the_journal(said):
    batch = taken(bare(updatedAt=said, createdAt=said))
    again = restored(batch)
    assert snapshot(again) == snapshot(batch)
    assert again.updated_at.endswith("Z")


# -- whatever it holds -----------------------------------------------------------------------------

IDS = st.one_of(
    st.integers(-1, 12),
    st.integers(0, 12).map(float),
    st.integers(0, 12).map(str),
    st.sampled_from(["a", "A", "b.c", "x/y", "", 1.5, 2**70, 1e30, 1e300, True, None]),
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
NAMES = st.text(string.ascii_letters + 'é"\\\n', min_size=1, max_size=8)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "pane": st.sampled_from(["%3", "%12", None, "", "x"]),
        "retryCount": st.sampled_from([0, 1, "1", 2.0, None, 3]),
        "dispatchedAt": st.just("2026-01-01T10:00:00Z") | VALUES,
        "attempt": VALUES,
        "lastActivity": VALUES,
        "outcome": VALUES,
    },
).flatmap(lambda known: st.dictionaries(NAMES, VALUES, max_size=2).map(lambda e: e | known))
WRONG = st.sampled_from(
    [
        {"issues": [1.5]},
        {"issues": ["a", "A"]},
        {"dag": {"1": [1]}},
        {"status": {"1": "done"}},
        {"area": "server"},
        {"batchId": "a/b"},
        {"dispatched": {"1": {"pane": 3}}},
        {"dispatched": {"1": {"retryCount": -1}}},
    ]
)


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """A bare state; mostly one that holds together, sometimes with something wrong in it."""
    ids = draw(st.lists(st.integers(1, 9), unique=True, min_size=1, max_size=5))
    written = [draw(st.sampled_from([each, str(each), float(each)])) for each in ids]
    wide = st.lists(IDS, max_size=3) if draw(st.integers(0, 5)) == 0 else st.just([])
    written += draw(wide)
    keys = [str(each) for each in ids]
    dag = {
        key: draw(st.lists(st.sampled_from(ids[:at]), max_size=2)) if at else None
        for at, key in enumerate(keys)
    }
    status = {key: draw(st.sampled_from([None, "dispatched", "pending", *Status])) for key in keys}
    entries = {key: draw(st.none() | ENTRIES) for key in keys}
    state: dict[str, Any] = {
        "issues": written,
        "dag": dag,
        "status": {key: word for key, word in status.items() if word},
        "dispatched": {key: each for key, each in entries.items() if draw(st.booleans())},
        "area": draw(st.sampled_from([None, "client"])),
        "batchId": draw(st.sampled_from([None, "", "b-1", 7])),
        "agent": draw(st.sampled_from([None, "", "claude"])),
        "orchestratorPane": draw(st.sampled_from([None, "", "%0"])),
        "createdAt": draw(st.none() | st.integers(0, 9) | st.text(max_size=5)),
        "updatedAt": draw(st.none() | st.integers(0, 9) | st.text(max_size=5)),
    }
    for key in draw(st.lists(st.sampled_from(list(state)[1:]), max_size=3)):
        state.pop(key, None)
    if draw(st.integers(0, 5)) == 0:
        state |= draw(WRONG)
    return {**draw(st.dictionaries(NAMES, VALUES, max_size=3)), **state}


def test_the_examples_below_hold_many_states_that_are_taken():
    counts = {"taken": 0, "dispatched": 0, "kept": 0}

    @STEADY
    @given(states())
    def count(state):
        try:
            batch = taken(state)
        except InputError:
            return
        counts["taken"] += 1
        counts["dispatched"] += bool(list(batch.dispatched))
        counts["kept"] += any(issue.entry for issue in batch.issues.values())

    count()
    assert counts["taken"] >= 20, counts
    assert min(counts.values()) >= 5, counts


@STEADY
@given(states())
def test_any_state_is_refused_or_becomes_a_batch_that_survives_and_loses_no_key(state):
    if "format" in state:
        return
    before = copy.deepcopy(state)
    try:
        batch = taken(state)
    except InputError:
        return
    again = restored(batch)
    assert snapshot(again) == snapshot(batch)
    assert snapshot(decode_state(snapshot(batch))) == snapshot(batch)
    assert difference(again, state_of(again), by="file") is None
    found = json.loads(snapshot(again))
    assert found.keys() >= before.keys()
    for key in before.keys() - KNOWN_KEYS:
        assert found[key] == before[key]
    for key, kept in (before.get("dispatched") or {}).items():
        issue = again.issues[key]
        if kept is None:
            continue
        assert (issue.status in TERMINAL) != (key in found["dispatched"])
        assert (found["dispatched"].get(key) or issue.entry).keys() >= kept.keys()
        for name in kept.keys() - {"pane", "retryCount", "dispatchedAt"}:
            assert issue.entry[name] == kept[name]
