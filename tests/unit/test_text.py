"""What an issue or an agent says can be read and cannot act on the terminal."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gangline.core.text import PaneFilter, harmless, one_line

STEADY = settings(derandomize=True, deadline=None)
ACTING = {*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), 0xFEFF}
ACTING |= {*range(0x2066, 0x206A), *range(0xD800, 0xE000), 0x061C, 0x200E, 0x200F}


def test_every_acting_character_becomes_a_visible_one():
    for code in ACTING:
        shown = harmless(f"a{chr(code)}b")
        assert len(shown) == 3
        assert not set(map(ord, shown)) & ACTING, hex(code)


def test_escape_is_shown_as_its_symbol():
    assert harmless("\x1b[31mred") == "␛[31mred"


def test_what_is_to_be_kept_is_kept_and_nothing_else():
    assert harmless("a\n\tb\x1b", keep="\n\t") == "a\n\tb␛"


@pytest.mark.parametrize("text", ["", "plain", "한국어 é ✓ 🐕", "a#{pane_id}b"])
def test_harmless_text_is_left_as_it_is(text):
    assert harmless(text) == text


@STEADY
@given(st.text(st.characters()))
def test_no_control_character_is_left(text):
    shown = harmless(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    assert len(shown) == len(text)


@STEADY
@given(st.text(st.characters()), st.integers(1, 30))
def test_one_line_is_one_line_of_at_most_its_width(text, width):
    line = one_line(text, width)
    assert len(line) <= width
    assert len(line.splitlines()) <= 1
    assert harmless(line) == line


def test_one_line_folds_white_space_and_marks_what_is_cut():
    assert one_line(" a\n\n b\t c ") == "a b c"
    assert one_line("abcdef", 4) == "abc…"
    assert one_line("abcd", 4) == "abcd"


def shown(*parts: bytes) -> bytes:
    pane = PaneFilter()
    return b"".join(map(pane.feed, parts))


class TestPaneFilter:
    @pytest.mark.parametrize(
        "data", [b"plain\r\n\ttext\b", b"\x1b[1;31mred\x1b[0m\x1b[38:5:1mx", "é✓한🐕".encode()]
    )
    def test_text_line_control_and_colours_pass(self, data):
        assert shown(data) == data

    @pytest.mark.parametrize(
        "data",
        [
            b"\x1b]0;title\x07",
            b"\x1b]52;c;aGk=\x07",
            b"\x1b[2J\x1b[H",
            b"\x1b[6n",
            b"\x1bP$q\x1b\\",
            b"\x1bc",
            b"\x07\x0e\x0f\x00\x7f",
            b"\xc2\x9b31m\xc2\x9d0;x",
            b"\x1b[" + b"1;" * 40 + b"H",
        ],
    )
    def test_what_acts_on_the_terminal_becomes_visible(self, data):
        result = shown(data)
        assert b"\x1b" not in result
        assert not {*range(0x20), 0x7F} & {*result}
        assert b"\xc2\x9b" not in result
        assert b"\xc2\x9d" not in result

    @pytest.mark.parametrize(
        "data", [b"a\x1b[1;31mred\x1b[0m", b"a\x1b]0;t\x07b", b"a\xc2\x9b31mb", "é\u009bx".encode()]
    )
    def test_a_cut_at_any_place_changes_nothing(self, data):
        whole = shown(data)
        for cut in range(len(data) + 1):
            assert shown(data[:cut], data[cut:]) == whole, cut

    @STEADY
    @given(
        st.lists(st.sampled_from([b"\x1b", b"[", b"3", b";", b"m", b"H", b"\xc2", b"\x9b", b"a"]))
    )
    def test_only_whole_colour_escapes_ever_reach_the_pane(self, parts):
        result = shown(*parts)
        for piece in result.split(b"\x1b")[1:]:
            assert piece.startswith(b"[")
            assert piece[1:].lstrip(b"3;")[:1] == b"m"
        assert b"\xc2\x9b" not in result
