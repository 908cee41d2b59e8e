"""Typing into a terminal program, in real panes: seen to arrive, or no Enter is given."""

import sys
import time

import pytest
from attempt_stage import DEADLINE_SECONDS

from gangline.hosts.attempt_folder import PANE_OPTION
from gangline.hosts.pasting import has_arrived, paste

MARK = "batch-1-a0.0123456789abcdef"
# A program as agents are: raw, asks for bracketed paste, shows what is typed, takes Enter as sent.
PROGRAM = """
import os, sys, termios, tty
mode, ledger = sys.argv[2], sys.argv[3]
tty.setraw(0)
os.write(1, b"\\x1b[?2004hready\\r\\n" if mode != "plain" else b"ready\\r\\n")
held = b""
while True:
    data = os.read(0, 65536)
    with open(ledger, "ab") as file:
        file.write(data)
    if mode == "deaf":
        continue
    held += data
    if held.startswith(b"\\x1b[200~") and not b"\\x1b[201~" in held:
        continue
    text = held.replace(b"\\x1b[200~", b"").replace(b"\\x1b[201~", b"")
    held = b""
    if mode == "folds" and len(text) > 100:
        os.write(1, b"> [Pasted text #1 +3 lines]")
    elif text == b"\\r":
        os.write(1, b"\\r\\nsent\\r\\n")
    else:
        os.write(1, b"| " + text.replace(b"\\r", b" |\\r\\n| ") + b" |\\r\\n")
"""


@pytest.fixture
def pane(private_tmux, tmp_path):
    """Starts the program in a pane whose start command bears the mark; what it read so far."""
    tmux = private_tmux()
    session = tmux.ensure_session("pasting", "pasting")
    ledger = tmp_path / "ledger"

    class Stage:
        def __init__(self) -> None:
            self.tmux = tmux
            self.ledger = ledger

        def start(self, mode: str, mark: str = MARK) -> None:
            argv = [sys.executable, "-c", PROGRAM, mark, mode, str(ledger)]
            self.pane = tmux.new_window(session, "program", argv, {}, str(tmp_path)).pane
            self.server = tmux.server().text
            wait_for(lambda: "ready" in self.screen())

        def screen(self) -> str:
            return "\n".join(tmux.command("capture-pane", "-p", "-t", self.pane))

        def read(self) -> bytes:
            return ledger.read_bytes() if ledger.exists() else b""

        def paste(self, text: str, **other: object) -> str | None:
            options = {"pane": self.pane, "server": self.server, "mark": MARK, **other}
            options = {"is_borrowed": False, "folder": str(tmp_path), **options}
            return paste(tmux, text=text, **options)

    return Stage()


def wait_for(condition) -> None:
    """Until it is true; a deadline that only a failure reaches."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_enter(pane) -> None:
    wait_for(lambda: pane.read().endswith(b"\r"))


@pytest.mark.parametrize(
    "text",
    ["hello", "한국어 日本", "-x; #{pane_id} $HOME `id`", "one\n\ttwo\nthree", "!", "ends with ;"],
)
def test_text_is_pasted_in_brackets_and_sent_once_it_is_seen(pane, text):
    pane.start("shows")
    assert pane.paste(text) is None
    wait_for_enter(pane)
    inside = text.replace("\n", "\r").encode()
    assert pane.read() == b"\x1b[200~" + inside + b"\x1b[201~\r"


def test_nothing_in_a_text_ends_the_brackets_or_acts(pane):
    pane.start("shows")
    assert pane.paste("before\x1b[201~\rrm -rf x\x03\x04") is None
    wait_for_enter(pane)
    read = pane.read()
    assert read.count(b"\x1b") == 2
    assert read.endswith(b"\x1b[201~\r")
    assert not {3, 4} & set(read)


def test_long_text_arrives_whole_and_its_placeholder_counts(pane):
    pane.start("folds")
    text = "\n".join(f"line {number} é" for number in range(4000))
    assert len(text.encode()) > 50_000
    assert pane.paste(text) is None
    wait_for_enter(pane)
    assert pane.read() == b"\x1b[200~" + text.replace("\n", "\r").encode() + b"\x1b[201~\r"


def test_program_that_shows_nothing_gets_no_enter(pane, monkeypatch):
    monkeypatch.setattr("gangline.hosts.pasting.ARRIVAL_SECONDS_MAX", 0.5)
    pane.start("deaf")
    problem = pane.paste("1")
    assert problem == "the text was pasted, but it was not seen to arrive, so Enter was not given"
    wait_for(pane.read)
    assert pane.read() == b"\x1b[200~1\x1b[201~"


@pytest.mark.parametrize(
    "other",
    [
        {"mark": "batch-1-a0"},
        {"mark": "other"},
        {"server": "1.1"},
        {"pane": "%999"},
        {"is_borrowed": True},
    ],
)
def test_pane_that_is_not_the_attempts_is_left_alone(pane, other):
    pane.start("shows")
    assert "not its own" in pane.paste("secret", **other)
    assert pane.read() == b""


def test_pane_of_a_person_is_the_attempts_while_it_is_taken_for_it(pane):
    pane.start("shows", mark="another")
    assert "not its own" in pane.paste("hello", is_borrowed=True)
    pane.tmux.command("set-option", "-p", "-t", pane.pane, PANE_OPTION, f"{MARK}@12")
    assert pane.paste("hello", is_borrowed=True) is None
    assert "not its own" in pane.paste("hello", is_borrowed=True, mark=MARK[:-1])


def test_text_lies_nowhere_afterwards(pane, tmp_path):
    pane.start("shows")
    assert pane.paste("a secret") is None
    assert pane.tmux.command("list-buffers") == []
    assert [each.name for each in tmp_path.iterdir()] == ["ledger"]


@pytest.mark.parametrize(
    ("before", "after", "text", "arrived"),
    [
        ("", "│ > Take the    │\n│ blue one     │", "Take the blue one", True),
        ("Take the blue one", "Take the blue one", "Take the blue one", False),
        ("Take the blue one", "Take the blue one\nTake the blue one", "Take the blue one", True),
        ("", "Take the blue", "Take the blue one", False),
        ("", "[Pasted text #1 +40 lines]", "x" * 5000, True),
        ("[Pasted text #1 +4 lines]", "[Pasted text #1 +4 lines]", "x" * 5000, False),
        ("", "[Pasted Content 5000 chars]", "x" * 5000, True),
        ("Allow? 1. Yes 2. No", "Allow? 1. Yes 2. No", "yes", False),
        ("", "> ?!", "?!", True),
        ("> ", "> ", "?!", False),
    ],
)
def test_arrival_is_known_by_the_letters_of_its_end(before, after, text, arrived):
    assert has_arrived(before, after, text) is arrived
