"""Dialogs that no hook tells of, seen by the runner on the screen of its real tmux pane."""

import json

import pytest
from attempt_stage import PYTHON, comes_true
from test_runner_interactive import Pane

from gangline.agents import hooks_file
from gangline.agents.registry import presets
from gangline.hosts.runner_dialogs import find_dialog, note

WORDS, ASKS = "Do you trust it?", "asks whether you trust it"
# Shows each line that is typed in place of the screen; reports that it did.
SHOWS = """
import os, sys, tty
tty.setcbreak(0)
def report(text):
    with open(sys.argv[1], "w") as file:
        file.write(f"{text}\\n")
report("on")
for line in open(0, closefd=False):
    os.write(1, b"\\x1b[2J\\x1b[H" + line.encode())
    report("shown")
"""


class Screen(Pane):
    """A pane whose agent has one dialog."""

    def _launch(self, changes):
        launch = self.stage.launch(SHOWS, interpreter=PYTHON, interactive=True, **changes)
        self.files = {hooks_file.DIALOGS: json.dumps({WORDS: ASKS}).encode()}
        return launch

    def show(self, text):
        self.type(text)
        assert self.stage.report() == "shown"

    def needs(self):
        path = self.stage.path(self.launch, "progress.json")
        return json.loads(path.read_bytes()).get("needs") if path.exists() else None


@pytest.fixture
def screen(stage, private_tmux):
    return Screen(stage, private_tmux()).open()


def test_dialog_on_the_screen_is_noted_and_gone_with_it(screen):
    screen.show(f"Welcome.  {WORDS}  Yes / No")
    assert comes_true(lambda: screen.needs() == ASKS)
    screen.show("Working")
    assert comes_true(lambda: screen.needs() is None)


@pytest.mark.parametrize(
    ("told", "found", "before", "then"),
    [
        (None, ASKS, None, ASKS),
        (ASKS, None, ASKS, None),
        ("a hook's words", ASKS, None, "a hook's words"),
        ("a hook's words", None, ASKS, "a hook's words"),
    ],
)
def test_what_a_hook_has_told_is_left_alone(told, found, before, then):
    known = {"needs": told}
    note(known, found, before)
    assert known == {"needs": then}


def test_words_are_found_wherever_their_line_breaks():
    assert find_dialog("Do you\n   trust it?\n", {WORDS: ASKS}) == ASKS
    assert find_dialog("Do you trust them?", {WORDS: ASKS}) is None


def test_presets_say_what_is_asked_as_a_sentence_about_the_agent():
    said = [asks for preset in presets().values() for asks in preset.dialogs.values()]
    assert said
    for asks in said:
        assert asks.startswith(("asks ", "is run for the first time and asks ")), asks
