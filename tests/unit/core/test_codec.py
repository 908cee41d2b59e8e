"""Bytes and back: every event through a journal line, the batch through its state file."""

import types
import typing
from enum import Enum

import msgspec
import pytest
from core_builders import DIED, STEADY, Story, exited, snapshot, started
from hypothesis import given
from hypothesis import strategies as st

from gangline.core.codec import (
    BadLineError,
    StateEncoder,
    check_line,
    decode_event,
    decode_state,
    encode_event,
    format_of,
    line_seq,
    replay,
)
from gangline.core.digest import digest_matches
from gangline.core.events import (
    AnyEvent,
    BatchRestored,
    Draining,
    Held,
    OrchestratorStarted,
    Paused,
    Wish,
    Wished,
)

EVENT_TYPES = typing.get_args(AnyEvent)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
PLAIN = {
    int: st.integers(0, 2**40),
    str: st.text(max_size=20),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    type(None): st.none(),
}


def values(kind):
    """A strategy for a field of this type."""
    if kind in PLAIN:
        return PLAIN[kind]
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return st.one_of(*map(values, parts))
    if origin is tuple and parts[-1] is not Ellipsis:
        return st.tuples(*map(values, parts))
    if origin is tuple:
        return st.lists(values(parts[0]), max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), values(parts[1]), max_size=3)
    if kind is typing.Any:
        return JSON
    if issubclass(kind, Enum):
        return st.sampled_from(kind)
    return structs(kind)


def structs(kind):
    hints = typing.get_type_hints(kind)
    fixed = {"seq": st.integers(1, 2**40), "at": st.just("2026-01-01T00:00:00.000Z")}
    fields = {
        field.name: fixed[field.name] if field.name in fixed else values(hints[field.name])
        for field in msgspec.structs.fields(kind)
    }
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__struct_config__.tag)
def test_every_event_comes_back_from_its_line(kind):
    @STEADY
    @given(structs(kind))
    def check(event):
        line = encode_event(event)
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        check_line(line[:-1])
        assert line_seq(line) == event.seq
        assert decode_event(line[:-1]) == event

    check()


def test_the_tags_of_the_events_are_distinct():
    assert len({kind.__struct_config__.tag for kind in EVENT_TYPES}) == len(EVENT_TYPES) > 20


@pytest.mark.parametrize("line", [b"", b"{}", b'{"seq":1}', b'{"seq":1,"crc":"00000000"}', b"\0"])
def test_what_is_no_journal_line_is_refused(line):
    with pytest.raises(BadLineError):
        check_line(line)


def test_every_single_byte_change_of_a_line_is_seen():
    line = encode_event(Held(issue="1", seq=7, at="2026-01-01T00:00:00.000Z"))[:-1]
    for place, byte in enumerate(line):
        for change in (1, 0x20, 0x80, byte):  # the last one makes it NUL
            broken = bytearray(line)
            broken[place] ^= change
            with pytest.raises(BadLineError):
                check_line(bytes(broken))


def test_an_event_of_a_type_that_is_not_known_is_refused_by_name():
    with pytest.raises(BadLineError, match=r"no event this version knows.*teleported"):
        decode_event(b'{"seq":1,"at":"","type":"teleported","crc":"00000000"}')


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"format":7}', 7),
        (b'{"\xff":1}', None),
        (b"{}", None),
        (b"[]", None),
        (b"torn{", None),
        (b'{"format":"x"}', None),
    ],
)
def test_the_format_version_is_read_even_of_an_unknown_format(line, expected):
    assert format_of(line) == expected


def lived_story() -> Story:
    """A batch with something in every field that the state file has to keep."""
    story = Story({"2": (), "1": (), "3": ("1", "2"), "4": ("3",)})
    story.record(OrchestratorStarted(pid=5, pane="%3"))
    story.dispatch("1")
    story.ends("1", **exited(2))
    story.dispatch("2")
    story.ends("2", **DIED)
    story.dispatch("2")
    story.record(Wished(issue="2", wish=Wish.FAIL, reason="no"), Held(issue="4"), Paused())
    return story


class TestStateFile:
    def test_it_comes_back_whole(self):
        story = lived_story()
        assert snapshot(decode_state(snapshot(story.batch))) == snapshot(story.batch)
        decoded = decode_state(snapshot(story.batch))
        assert decoded.issues == story.batch.issues
        assert (decoded.paused, decoded.orchestrator_pane) == (True, "%3")

    def test_it_has_every_key_of_the_specification(self):
        raw = msgspec.json.decode(snapshot(lived_story().batch))
        assert {
            "area", "batchId", "issues", "dag", "status", "dispatched", "agent",
            "orchestratorPane", "createdAt", "updatedAt",
        } <= set(raw)  # fmt: skip
        assert raw["dispatched"]["2"]["retryCount"] == 1
        assert set(raw["dispatched"]) == {"2"}
        assert raw["dispatched"]["2"]["pane"] is None

    def test_dispatched_keeps_the_order_of_dispatch(self):
        story = Story({"1": (), "2": (), "3": ()})
        story.dispatch("3", "1", "2")
        assert list(decode_state(snapshot(story.batch)).dispatched) == ["3", "1", "2"]

    def test_the_same_batch_is_the_same_bytes_however_it_came_to_be(self):
        story = lived_story()
        encoder = StateEncoder(story.batch)
        encoder.encode()
        story.record(Draining())
        story.dispatch("3")
        assert encoder.encode() == snapshot(story.batch)
        assert encoder.encode() == encoder.encode()

    def test_unknown_keys_are_kept(self):
        story = lived_story()
        raw = msgspec.json.decode(snapshot(story.batch))
        raw["note"] = {"of": ["a", "person", 1.5, None]}
        batch = decode_state(msgspec.json.encode(raw))
        again = msgspec.json.decode(snapshot(batch))
        assert again["note"] == raw["note"]
        assert digest_matches(snapshot(batch))

    def test_the_digest_is_true_for_ours_and_false_for_any_change_of_a_byte(self):
        data = snapshot(lived_story().batch)
        assert digest_matches(data)
        for place in range(len(data)):
            broken = bytearray(data)
            broken[place] ^= 1
            assert not digest_matches(bytes(broken)), place
        for cut in range(len(data)):
            assert not digest_matches(data[:cut]), cut

    @pytest.mark.parametrize(
        "edit",
        [
            {"dag": {"1": ["77"]}},
            {"dag": {"3": ["4"], "4": ["3"]}},
            {"status": {"1": "asleep"}},
            {"format": 2},
            {"issues": "all"},
        ],
        ids=lambda edit: next(iter(edit)),
    )
    def test_a_shape_that_is_none_of_ours_is_refused_with_its_path(self, edit):
        raw = msgspec.json.decode(snapshot(lived_story().batch)) | edit
        with pytest.raises(msgspec.DecodeError, match=f"\\$.{next(iter(edit))}"):
            decode_state(msgspec.json.encode(raw))

    @pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"torn{", b"\0", b'{"area":"\xff"}'])
    def test_what_is_no_state_file_is_refused(self, data):
        with pytest.raises(msgspec.DecodeError):
            decode_state(data)

    def test_a_restored_batch_is_the_state_taken_over_whole(self):
        story = lived_story()
        raw = msgspec.json.decode(snapshot(story.batch))
        event = BatchRestored(
            seq=1,
            at=story.batch.updated_at,
            format=1,
            area=story.batch.area,
            batch_id=story.batch.batch_id,
            state=raw,
        )
        restored = replay(Story().batch, decode_event(encode_event(event)[:-1]))
        assert restored.seq == 1
        assert restored.issues == story.batch.issues

    def test_a_second_batch_in_the_same_journal_is_refused(self):
        story = Story()
        with pytest.raises(BadLineError, match="a second batch"):
            replay(story.batch, started({"1": ()}))
