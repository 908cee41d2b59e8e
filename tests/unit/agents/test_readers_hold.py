"""A reader never raises and never grows, and what it knows does not depend on how output arrives.

It runs beside a living agent: if it fails, the agent's work is at stake.
"""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reader_streams import FORMATS, STREAMS, strict_reader

from gangline.agents.readers import NAMES, reader
from gangline.agents.readers.reading import LINE_BYTES_MAX

MODEST = settings(
    derandomize=True, deadline=None, max_examples=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
NOW = 1795866360.0
UNCHANGED = {"plain", "aider-text"}  # they are text already, and shown as they are
FIRST_STREAM: dict[str, bytes] = {}
for param in STREAMS:
    FIRST_STREAM.setdefault(*param.values)
STREAM = pytest.mark.parametrize(("name", "stream"), STREAMS)
ONE_STREAM = pytest.mark.parametrize(("name", "stream"), FIRST_STREAM.items(), ids=FIRST_STREAM)


def read(name: str, pieces, code: int | None = 0):
    made = strict_reader(name, clock=lambda: NOW)
    shown = b"".join(made.feed(piece) for piece in pieces) + made.finish(code)
    return made.progress.as_dict(), shown


@STREAM
def test_byte_by_byte_is_the_same(name, stream):
    assert read(name, [bytes([byte]) for byte in stream]) == read(name, [stream])


@ONE_STREAM
@MODEST
@given(data=st.data())
def test_pieces_of_any_size_are_the_same(name, stream, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert read(name, pieces) == read(name, [stream])


@STREAM
def test_a_stream_that_is_cut_off_anywhere_is_read(name, stream):
    whole, _ = read(name, [stream])
    for end in range(0, len(stream), 97):
        for code in (None, 0, 1):
            known, shown = read(name, [stream[:end]], code)
            assert known["events"] <= whole["events"] + (name == "plain")
            shown.decode() if name not in UNCHANGED else None  # it is UTF-8


@ONE_STREAM
@MODEST
@given(data=st.data())
def test_lines_of_anything_in_between_hide_no_event(name, stream, data):
    if name in UNCHANGED:
        pytest.skip("every line counts there")
    lines = stream.splitlines(keepends=True)
    garbage = st.binary(max_size=60).map(lambda line: b"#" + line.replace(b"\n", b"") + b"\n")
    for at, line in data.draw(st.lists(st.tuples(st.integers(0, len(lines)), garbage))):
        if not any(inside(lines, at)):
            lines.insert(at, line)
    whole, _ = read(name, [stream], None)
    known, _ = read(name, [b"".join(lines)], None)
    assert {**known, "needs": ""} == {**whole, "needs": ""}


def inside(lines, at):
    """Whether line `at` is in the middle of an indented object."""
    before = [line for line in lines[:at] if line in {b"{\n", b"}\n"}]
    yield bool(before) and before[-1] == b"{\n"


@ONE_STREAM
@MODEST
@given(data=st.data())
def test_a_field_of_another_type_is_as_good_as_none(name, stream, data):
    if name in UNCHANGED:
        pytest.skip("it has no fields")
    events = [json.loads(line) for line in stream.splitlines() if line.startswith(b'{"')]
    for _ in range(data.draw(st.integers(1, 4))):
        spoil(data.draw(st.sampled_from(events)), data) if events else None
    text = b"".join(json.dumps(event).encode() + b"\n" for event in events)
    for code in (None, 0, 1):
        known, shown = read(name, [text], code)
        json.dumps(known, allow_nan=False, ensure_ascii=False).encode()
        shown.decode()  # it is UTF-8


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.just("\ud800\u2028\n"), st.text(),
    st.just([]), st.just({}), st.just([None, 1, "a", {}, []]), st.just({"type": "text", "text": 3}),
    st.just(10**400), st.just("API Error: resets 5pm"), st.just({"a": {"tokens": [1]}}),
)  # fmt: skip


def spoil(event, data):
    """Put a wrong value somewhere into an event."""
    while True:
        keys = list(event) if isinstance(event, dict) else list(range(len(event)))
        keys = [key for key in keys if key != "type"] or keys
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(event[key], dict | list) and event[key] and data.draw(st.booleans()):
            event = event[key]
        else:
            event[key] = copy.deepcopy(data.draw(VALUES))
            return


JSON = st.recursive(VALUES, lambda inner: st.dictionaries(st.text(max_size=8), inner, max_size=4))


@pytest.mark.parametrize("name", NAMES)
@MODEST
@given(data=st.data())
def test_any_object_is_read(name, data):
    kinds = sorted({event for stream, event in FORMATS if stream == name} | {"", "x"})
    made = strict_reader(name, clock=lambda: NOW)
    for _ in range(5):
        event = {"type": data.draw(st.sampled_from(kinds)), **data.draw(JSON.filter(is_object))}
        made.feed(json.dumps(event).encode() + b"\n")
    made.finish(0)
    json.dumps(made.progress.as_dict(), allow_nan=False, ensure_ascii=False).encode()


def is_object(value):
    return isinstance(value, dict)


@pytest.mark.parametrize("name", NAMES)
def test_objects_too_deep_and_numbers_too_long_are_text(name):
    made = strict_reader(name)
    made.feed(b'{"a":' * 100_000 + b"\n")
    made.feed(b'{"type":' + b"9" * 10_000 + b"}\n")
    made.feed(b'{"type":"result"' + b"\n")
    made.finish(0)


@pytest.mark.parametrize("name", FIRST_STREAM)
def test_a_line_of_any_length_takes_no_more_than_its_limit(name):
    made = strict_reader(name)
    shown = 0
    for _ in range(40):
        shown += len(made.feed(b"a" * 100_000))
        assert len(made._line) <= LINE_BYTES_MAX
    made.feed(b"\n")
    made.feed(FIRST_STREAM[name])
    made.finish(0)
    assert made.progress.events > 0
    assert shown == (4_000_000 if name in UNCHANGED else 0)


@pytest.mark.parametrize("name", FIRST_STREAM)
def test_what_is_known_is_bounded(name):
    made = strict_reader(name)
    long = "x" * 900_000
    for line in FIRST_STREAM[name].splitlines():
        event = json.loads(line) if line.startswith(b'{"') else line.decode("utf-8", "replace")
        made.feed(json.dumps(lengthen(event, long)).encode() + b"\n")
        made.feed(json.dumps(lengthen(event, long[:200_000])).encode() + b"\n")
    made.finish(1)
    assert len(json.dumps(made.progress.as_dict())) < 6_000


def lengthen(value, long, key=""):
    """The same event with its first free text made long."""
    if isinstance(value, dict):
        return {name: lengthen(inner, long, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [lengthen(inner, long) for inner in value]
    free = {"text", "content", "command", "message", "result", "session_id", "thread_id", "error"}
    return long if isinstance(value, str) and key in {*free, ""} else value


def test_an_unknown_name_is_a_key_error():
    with pytest.raises(KeyError):
        reader("nonesuch")


def test_every_name_makes_a_reader():
    assert all(reader(name).progress.events == 0 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_in_the_runner_it_imports_next_to_nothing(name):
    source = str(Path(__file__).resolve().parents[3] / "src")
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules)\n"
        "from gangline.agents.readers import reader; reader(sys.argv[2])\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    argv = [sys.executable, "-I", "-S", "-c", script, source, name]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    readers = {module for module in found if module.startswith("gangline.agents.readers.")}
    own = {"reading", "account", "causes", "fields"}
    formats = {module.rpartition(".")[2] for module in readers} - own
    assert len(formats) <= (2 if name == "qwen-stream-json" else 1)
    heavy = {"typing", "dataclasses", "msgspec", "contextlib", "asyncio", "datetime", "inspect"}
    assert not found & heavy
