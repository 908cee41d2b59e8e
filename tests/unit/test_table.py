"""Tables of the command line: cells, not characters; readable on the narrowest terminal."""

import io
import time
from types import SimpleNamespace

import pytest

from gangline.cli import table as module
from gangline.cli.table import cells, clock, cut, duration, prepare_output, seconds_between, table

HEADS = ("issue", "status", "branch", "why", "title")
ROWS = [
    ["#1", "completed", "gangline/work/issue-1", "", "Write the parser of the settings file"],
    ["#2", "failed", "gangline/work/issue-2", "exit code 3", "한국어 제목이 여기에 온다"],
    ["#3", "skipped", "", "dependency 2 did not complete", "T" * 500],
]
OPTIONS = {"flexible": (3, 4), "optional": (4, 2)}


def heads(text: str) -> list[str]:
    return text.split("\n", maxsplit=1)[0].split()


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("plain", 5),
        ("제목", 4),
        ("日本語", 6),
        ("e\u0301", 1),
        ("กี่", 1),
        ("\U0001f680", 2),
        ("\u2764\ufe0f", 1),
        ("a\u200db", 2),
    ],
)
def test_cells_are_counted_as_terminals_do(text, width):
    assert cells(text) == width


@pytest.mark.parametrize("text", ["plain text", "한국어 제목", "日本語のタイトル", "e\u0301" * 9])
def test_cut_text_fits_and_says_that_it_was_cut(text):
    for width in range(1, 25):
        short = cut(text, width)
        assert cells(short) <= width
        assert short == text or (short.endswith("…") and text.startswith(short[:-1]))
    assert cut(text, 100) == text
    assert cut(text, 0) == ""


@pytest.mark.parametrize("width", range(20, 200))
def test_no_line_is_wider_than_the_terminal_and_columns_line_up(width):
    lines = table(HEADS, ROWS, width=width, **OPTIONS).split("\n")
    assert len(lines) == 4
    assert max(map(cells, lines)) <= width
    for line in lines[1:]:
        assert line[:7] in {"#1     ", "#2     ", "#3     "}
    assert {"issue", "status", "why"} <= set(heads("\n".join(lines))) or width < 24


@pytest.mark.parametrize(
    ("width", "left"),
    [
        (200, "issue status branch why title"),
        (90, "issue status branch why title"),
        (70, "issue status branch why"),
        (50, "issue status why"),
        (40, "issue status why"),
    ],
)
def test_columns_that_say_least_go_first(width, left):
    assert " ".join(heads(table(HEADS, ROWS, width=width, **OPTIONS))) == left


def test_short_texts_stay_whole_while_long_ones_are_cut():
    text = table(("a", "b"), [["short text", "x" * 100]], flexible=(0, 1), width=40)
    assert "short text" in text
    assert "x…" in text
    narrow = table(("after", "title"), [["#2", "x" * 100]], flexible=(0, 1), width=20)
    assert narrow.split("\n")[0] == "after  title"


def test_nothing_is_cut_where_there_is_no_terminal():
    text = table(HEADS, ROWS, width=0, **OPTIONS)
    assert "T" * 500 in text


def test_columns_without_any_text_are_left_out():
    assert table(("a", "b", "c"), [["1", "", "3"]], flexible=(2,)) == "a  c\n1  3"
    assert table(("a", "b"), [], flexible=(1,)) == "a  b"


def test_untrusted_text_cannot_act_and_stays_on_its_line():
    rows = [["\x1b[31mred\n\nnext\x07", "a\u202eb\x9b"]]
    assert table(("a", "b"), rows, flexible=(1,)).split("\n")[1] == "␛[31mred next␇  a\ufffdb\ufffd"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0s"), (0.9, "0s"), (59, "59s"), (187, "3m07s"), (3599, "59m59s"), (90061, "25h01m")],
)
def test_durations_read_as_people_say_them(seconds, text):
    assert duration(seconds) == text


def test_times_of_the_journal_are_subtracted_and_shown_as_the_clock_here(monkeypatch):
    assert seconds_between("2026-01-01T23:59:58.500Z", "2026-01-02T00:00:01.000Z") == 2.5
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    try:
        assert clock("2026-01-01T10:00:00.000Z") == "15:30:00"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"? ??"), ("utf-8", "… 제목".encode())])
def test_output_that_cannot_show_a_character_shows_a_question_mark(monkeypatch, encoding, shown):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    monkeypatch.setattr(module, "sys", SimpleNamespace())
    module.sys.stdout = module.sys.stderr = stream
    prepare_output()
    stream.write("… 제목")
    stream.flush()
    assert raw.getvalue() == shown
