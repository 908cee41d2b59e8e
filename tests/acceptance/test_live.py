"""The live view of `run`, looked at in a real terminal: a pane of another private tmux server."""

import os
import pty
import re
import shlex
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from project import Project, assert_harmless

from gangline.cli import live
from gangline.core.batch import Batch
from gangline.core.events import BatchStarted, Dispatched, PlannedIssue, Policy

HEAD = "issue  pane"
NASTY = "\x1b]0;pwned\x07\x1b[2J\x1b[31mred\x9b2J\u202e" + "x" * 5000


class Terminal:
    """A terminal of a given size: a pane whose program is a shell that waits for commands."""

    def __init__(self, project: Project, columns: int = 80, lines: int = 24) -> None:
        self.project = project
        self.socket = project.socket.with_name("screen")
        self.tmux(
            *("-f", os.devnull, "new-session", "-d", "-x", str(columns), "-y", str(lines)),
            *("-c", str(project.folder), "--", "env", "-u", "TMUX", "-u", "TMUX_PANE"),
            *("PS1=ready$ ", "bash", "--norc", "--noprofile", "-i"),
        )
        self.tmux("set-option", "-g", "status", "off")
        self.wait_for("ready$")

    def tmux(self, *argv: str) -> str:
        here, self.project.socket = self.project.socket, self.socket
        try:
            done = self.project.tmux(*argv)
        finally:
            self.project.socket = here
        assert done.returncode == 0, done.stderr
        return done.stdout

    def type(self, line: str) -> None:
        """Type a line and Enter."""
        self.tmux("send-keys", "-l", "--", line)
        self.tmux("send-keys", "Enter")

    def gangline(self, *argv: str, env: Mapping[str, str] | None = None) -> None:
        """Type a gangline command; its exit code is shown as `code=N`."""
        words = [f"{name}={value}" for name, value in (env or {}).items()]
        command = shlex.join(["env", *words, *self.project.command(*argv)])
        self.tmux("send-keys", "-l", "--", f"clear; {command}; echo code=$?")
        self.tmux("send-keys", "Enter")

    def key(self, name: str) -> None:
        self.tmux("send-keys", name)

    def resize(self, columns: int, lines: int) -> None:
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def screen(self, *, styles: bool = False, history: bool = True) -> str:
        """What is on the screen, and what has scrolled off it."""
        options = [*(["-e"] if styles else []), *(["-S", "-"] if history else [])]
        return self.tmux("capture-pane", "-p", *options)

    def wait_for(self, *texts: str, history: bool = True) -> str:
        """The screen as soon as all these texts are on it."""

        def look() -> str | None:
            screen = self.screen(history=history)
            return screen if all(text in screen for text in texts) else None

        try:
            found: str = self.project.wait_for(look, f"{texts} on the screen")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.screen()}") from None
        return found


@pytest.fixture
def waiting(project: Project) -> Iterator[Project]:
    """A project whose issues wait for the file `go`."""
    yield project
    let_go(project)


def let_go(project: Project) -> None:
    (project.room / "go").touch()


def issue(project: Project, number: int, title: str = "", words: str = "") -> dict[str, Any]:
    """An issue that prints something and waits for `go`."""
    script = 'printf "%b\\n" "$1"; until [ -e "$2" ]; do sleep 0.05; done'
    run = ["sh", "-c", script, "agent", words or f"works on {number}", str(project.room / "go")]
    return {"id": number, "title": title or f"Title of {number}", "run": run}


def begin(project: Project, issues: list[dict[str, Any]], settings: str = "") -> list[str]:
    project.settings(f"[workspace]\nkind = 'shared'\n[batch]\nmax_concurrent = 40\n{settings}")
    return ["run", "work", "--from", project.plan(issues)]


def test_view_shows_progress_and_every_running_issue(waiting):
    done = {"id": 3, "title": "Done", "run": ["true"]}
    command = begin(waiting, [issue(waiting, 1), issue(waiting, 2), done])
    terminal = Terminal(waiting)
    terminal.gangline(*command)
    screen = terminal.wait_for("works on 1", "works on 2", "1/3 done, 2 running", "%2")
    rows = [line for line in screen.splitlines() if re.match(r"#\d", line)]
    assert len(rows) == 2
    for number, row in enumerate(rows, 1):
        assert re.fullmatch(
            rf"#{number} +%\d +1 +\d+s +Title of {number} +works on {number} *", row
        )
    lines = screen[: screen.index(HEAD)]
    assert "#1 dispatched: Title of 1" in lines
    assert "#3 completed" in lines


def test_nothing_of_the_view_is_left_at_the_end(waiting):
    terminal = Terminal(waiting)
    terminal.gangline(*begin(waiting, [issue(waiting, 1), issue(waiting, 2)]))
    terminal.wait_for("works on 1", "works on 2")
    let_go(waiting)
    screen = terminal.wait_for("code=0")
    assert HEAD not in screen
    assert "─" not in screen
    assert "━" not in screen
    told = [line for line in screen.splitlines() if line.strip()]
    words = [line for line in told if re.match(r"\d\d:\d\d:\d\d #", line)]
    assert len(words) == 6, screen  # dispatched, runs in pane, completed
    assert told[told.index(words[-1]) + 1].startswith("Summary of work")
    assert told[-2].startswith("code=0")


def test_ctrl_c_gives_the_terminal_back_and_says_how_to_come_back(waiting):
    terminal = Terminal(waiting)
    terminal.gangline(*begin(waiting, [issue(waiting, 1), issue(waiting, 2)]))
    terminal.wait_for("works on 1", "works on 2")
    terminal.key("C-c")
    screen = terminal.wait_for("2 agents run on. Come back with: gangline run work", "code=130")
    assert HEAD not in screen
    assert "the orchestrator stops (Ctrl-C)" in screen
    assert terminal.tmux("display-message", "-p", "#{cursor_flag}") == "1\n"
    terminal.type("stty -a")
    assert re.search(r"(?<!-)\becho\b", terminal.wait_for("echoke", "stty -a"))
    assert waiting.statuses() == {"1": "dispatched", "2": "dispatched"}


def test_view_fits_a_terminal_that_changes_its_size(waiting):
    terminal = Terminal(waiting, 120, 30)
    terminal.gangline(*begin(waiting, [issue(waiting, n, "T" * 200) for n in (1, 2)]))
    terminal.wait_for("works on 1", "works on 2")
    for columns, lines in ((60, 20), (40, 20), (100, 12), (30, 24)):
        terminal.resize(columns, lines)

        def is_drawn(columns: int = columns) -> bool:
            # What tmux itself pushes into the history while it wraps cannot be taken back.
            screen = terminal.screen(history=False)
            view = [line for line in screen.splitlines() if line.strip()][-4:]
            form = r"work .*0/2 done, 2 running\n(issue .*)\n(#1 .*)\n(#2 .*)"
            whole = re.fullmatch(form, "\n".join(view)) and max(map(len, view)) <= columns
            return bool(whole) and screen.count("issue  ") == screen.count("done, 2") == 1

        waiting.wait_for(is_drawn, f"one view of {columns} columns")


def test_forty_columns_show_what_matters_on_one_line_each(waiting):
    terminal = Terminal(waiting, 40, 20)
    terminal.gangline(*begin(waiting, [issue(waiting, 1, "한국어 제목 " * 9, "작업 중 " * 9)]))
    screen = terminal.wait_for("작업 중", "0/1 done, 1 running")
    assert "issue  pane  try  time  last line" in screen
    assert [line[:6] for line in screen.splitlines() if line.startswith("#")] == ["#1    "]


def test_more_running_issues_than_lines_are_counted(waiting):
    terminal = Terminal(waiting, 80, 12)
    terminal.gangline(*begin(waiting, [issue(waiting, number) for number in range(1, 11)]))
    screen = terminal.wait_for("10 running", "works on 8", "and 2 more", history=False)
    assert sum(bool(re.match(r"#\d", line)) for line in screen.splitlines()) == 8
    terminal.resize(80, 24)
    terminal.wait_for("works on 10", history=False)
    assert "more" not in terminal.screen(history=False)


@pytest.mark.parametrize("columns", [80, 40])
def test_hostile_titles_and_last_lines_are_shown_and_obeyed_by_nobody(waiting, columns):
    words = "\\033]0;pwned\\007\\033[31mred \\033[2J\\233\\001\\033[5n words"
    terminal = Terminal(waiting, columns, 24)
    terminal.tmux("select-pane", "-T", "mine")
    terminal.gangline(*begin(waiting, [issue(waiting, 1, NASTY, words), issue(waiting, 2)]))
    screen = terminal.wait_for("works on 2", "red", "2 running")
    assert_harmless(screen)
    assert terminal.tmux("display-message", "-p", "#{pane_title}") == "mine\n"
    assert "␛]0;pwned␇" in screen  # of the title, in the line above
    assert sum(bool(re.match(r"#\d", line)) for line in screen.splitlines()) == 2
    assert "#1 dispatched" in screen  # nothing was cleared
    assert "\x1b[31m" not in terminal.screen(styles=True)


def test_no_color_means_no_styles_and_otherwise_there_are_some(waiting):
    begun = begin(waiting, [issue(waiting, 1)])
    terminal = Terminal(waiting)
    for command, env in ((begun, {}), (["run", "work"], {"NO_COLOR": "1"})):
        terminal.gangline(*command, env=env)
        terminal.wait_for("works on 1")
        assert ("\x1b[" in terminal.screen(styles=True, history=False)) == (not env)
        terminal.key("C-c")
        terminal.wait_for("code=130")


def test_dumb_terminal_gets_plain_lines(waiting):
    terminal = Terminal(waiting)
    let_go(waiting)
    terminal.gangline(*begin(waiting, [issue(waiting, 1)]), env={"TERM": "dumb"})
    screen = terminal.wait_for("code=0", "#1 completed")
    assert HEAD not in screen
    assert "\x1b[" not in terminal.screen(styles=True)


def test_run_in_the_background_of_a_shell_does_not_draw(waiting):
    terminal = Terminal(waiting)
    argv = shlex.join(waiting.command(*begin(waiting, [issue(waiting, 1)])))
    terminal.type(f"clear; {argv} &")
    terminal.wait_for("#1 runs in pane")
    terminal.type("jobs")
    screen = terminal.wait_for("Running")
    assert HEAD not in screen
    let_go(waiting)
    terminal.wait_for("Summary of work")


def test_what_is_typed_does_not_disturb_the_view(waiting):
    terminal = Terminal(waiting)
    terminal.gangline(*begin(waiting, [issue(waiting, 1), issue(waiting, 2)]))
    terminal.wait_for("works on 1", "works on 2")
    for _ in range(5):
        terminal.type(":typed")
    let_go(waiting)
    screen = terminal.wait_for("code=0")
    before = screen[: screen.index("Summary")]
    assert "typed" not in before
    assert HEAD not in before


def test_suspended_run_goes_on_with_one_view(waiting):
    terminal = Terminal(waiting)
    terminal.gangline(*begin(waiting, [issue(waiting, 1), issue(waiting, 2)]))
    terminal.wait_for("works on 1", "works on 2")
    terminal.key("C-z")
    terminal.wait_for("Stopped")
    terminal.type("clear; echo still-$((40 + 2))")
    terminal.wait_for("still-42")
    terminal.type("fg")
    terminal.wait_for("works on 1", "works on 2", history=False)
    let_go(waiting)
    screen = terminal.wait_for("Summary of work")
    assert "still-42" in screen
    assert "─" not in screen[screen.index("still-42") :]


def test_terminal_that_goes_away_stops_the_orchestrator_in_order(waiting):
    terminal = Terminal(waiting)
    terminal.tmux("set-option", "-g", "exit-empty", "off")
    terminal.gangline(*begin(waiting, [issue(waiting, 1)]))
    terminal.wait_for("works on 1")
    terminal.tmux("kill-pane")
    waiting.wait_for(lambda: not waiting.status()["orchestrator"]["alive"], "it has stopped")
    journal = (waiting.area() / "batch.journal.jsonl").read_text()
    assert '"reason":"signal 1"' in journal
    assert waiting.statuses() == {"1": "dispatched"}


def test_batch_that_waits_for_a_person_says_for_what(waiting):
    terminal = Terminal(waiting)
    begin(waiting, [])
    second = {"id": 2, "title": "Later", "depends_on": [1], "run": ["true"]}
    terminal.gangline("run", "work", "--from", waiting.plan([issue(waiting, 1), second]))
    terminal.wait_for("works on 1")
    waiting.run("hold", "work", "2", check=0)
    let_go(waiting)
    terminal.wait_for("nothing runs while #2 is held: gangline release work 2")
    waiting.run("pause", "work", check=0)
    terminal.wait_for("nothing runs while the batch is paused: gangline resume work", "1/2 done")
    waiting.run("resume", "work", check=0)
    waiting.run("release", "work", "2", check=0)
    terminal.wait_for("code=0")


# -- how often it draws ------------------------------------------------------------------------


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, Clock]]:
    """A pseudo-terminal in the place of stdout, and a clock: where to read what is drawn."""
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    clock = Clock()
    with os.fdopen(slave, "w") as stream:
        monkeypatch.setattr(live, "sys", SimpleNamespace(stdout=stream))
        monkeypatch.setattr(live, "time", clock)
        monkeypatch.setattr(live, "wall_time", lambda: "2026-01-01T00:01:40.000Z")
        yield master, clock
        monkeypatch.undo()
    os.close(master)


def output(master: int) -> str:
    try:
        return os.read(master, 65536).decode()
    except BlockingIOError:
        return ""


def batch_of_one(*, dispatched: bool) -> Batch:
    batch = Batch()
    issues = (PlannedIssue(id=1, title="One"),)
    started = {"format": 1, "area": "work", "batch_id": "b", "agent": None, "policy": Policy()}
    batch.fold(BatchStarted(seq=1, at="2026-01-01T00:00:00.000Z", issues=issues, **started))
    if dispatched:
        intent = {"attempt": 0, "mark": "m", "retry": 0, "boot_id": "b", "boot_seconds": 1.0}
        batch.fold(Dispatched(seq=2, at="2026-01-01T00:00:00.000Z", issue="1", **intent))
    return batch


def test_view_is_drawn_at_most_twice_a_second_whatever_happens(drawn, tmp_path):
    master, clock = drawn
    batch = batch_of_one(dispatched=True)
    with live.LiveView(str(tmp_path)) as view:
        pieces = []
        for number in range(100):
            view.say(f"line {number}")
            view.refresh(batch)
            assert view.refresh_seconds in (0.5, 1.0)
            pieces.append(output(master))
            clock.seconds += 0.125
        assert sum(bool(piece) for piece in pieces) == 25
    assert "".join(pieces).count("line ") + output(master).count("line ") == 100


def test_view_that_has_nothing_new_writes_nothing(drawn, tmp_path):
    master, clock = drawn
    with live.LiveView(str(tmp_path)) as view:
        view.refresh(batch_of_one(dispatched=True))
        assert "1m40s" in output(master)
        for _ in range(10):
            clock.seconds += 60
            view.refresh(batch_of_one(dispatched=True))
            assert output(master) == ""


def test_batch_with_nothing_running_is_not_woken_to_draw(drawn, tmp_path):
    _, clock = drawn
    with live.LiveView(str(tmp_path)) as view:
        view.refresh(batch_of_one(dispatched=True))
        assert view.refresh_seconds == 1.0
        clock.seconds += 60
        view.refresh(batch_of_one(dispatched=False))
        assert view.refresh_seconds is None


def test_last_line_is_the_last_that_says_anything(drawn, tmp_path):
    master, clock = drawn
    folder = tmp_path / "b-1-a0"
    folder.mkdir()
    with live.LiveView(str(tmp_path)) as view:
        for text, shown in (
            (b"first\nsecond\n\n  \n", "second"),
            (b"10 %\r20 %\r", "20 %"),
            (b"\x1b[1;32mgreen\x1b[0m\x1b[K \x1b]8;;x\x1b\\link\n", "green link"),
            (b"cut \xe2\x82", "cut \ufffd"),
            (b"x" * 5000 + b"\n" + b"y" * 5000, "yyy"),
        ):
            (folder / "output.log").write_bytes(text)
            clock.seconds += 1
            view.refresh(batch_of_one(dispatched=True))
            assert shown in output(master)
