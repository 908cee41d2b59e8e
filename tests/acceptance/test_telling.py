"""What agents say (`done`, `fail`, `ask`) and what is said to them (`send`), in real panes.

The agents are shell scripts that keep a ledger in the room of the test: what they were told is read
from there, and what came of it from the command line.
"""

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, Started, assert_harmless

from gangline.agents import hooks_file

SETTINGS = "[batch]\npoll_seconds = 0.1\n[workspace]\nkind = 'shared'\n"
UNTIL_GO = 'until [ -e "$0/go" ]; do sleep 0.02; done\n'
ASKS = f'gangline ask "Which colour?" >>"$0/ledger"\n{UNTIL_GO}echo went on >>"$0/ledger"\n'
DONE = "gangline done\n"


class Work:
    """One issue and its agent, a shell script whose `$0` is the room of the test."""

    def __init__(self, project: Project) -> None:
        self.project = project
        project.settings(SETTINGS)
        project.program("gangline", f'exec {shlex.quote(sys.executable)} -m gangline "$@"')

    def source(self, script: str) -> str:
        argv = ["sh", "-c", script, str(self.project.room)]
        return self.project.plan([{"id": 1, "title": "One", "run": argv}])

    def run(self, script: str, check: int) -> str:
        source = self.source(script)
        return self.project.run("run", "work", "--from", source, check=check).stdout

    def start(self, script: str) -> Started:
        """Start an orchestrator; its agent has written into its ledger when this returns."""
        started = self.project.start("run", "work", "--from", self.source(script))
        self.project.wait_for(self.ledger, "the agent runs")
        return started

    def go(self) -> None:
        (self.project.room / "go").touch()

    def end(self, started: Started) -> int:
        self.project.wait_for(lambda: started.poll() is not None, "the run has ended")
        return started.returncode

    def kill(self, started: Started) -> None:
        """The orchestrator; its agent runs on."""
        started.send_signal(signal.SIGKILL)
        self.end(started)

    def ledger(self) -> list[str]:
        path = self.project.room / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def issue(self) -> dict:
        (found,) = self.project.status()["issues"]
        return found

    def status_text(self) -> str:
        return self.project.run("status", "work", check=0).stdout

    def as_agent(self, attempt: int = 0) -> dict[str, str]:
        """The variables of the issue's attempt."""
        attempt_id = f"{self.project.status()['batchId']}-1-a{attempt}"
        return {
            "GANGLINE_AREA": "work",
            "GANGLINE_ISSUE": "1",
            "GANGLINE_ATTEMPT": attempt_id,
            "GANGLINE_ATTEMPT_DIR": str(self.project.area() / "attempts" / attempt_id),
        }


@pytest.fixture
def work(project: Project) -> Iterator[Work]:
    made = Work(project)
    yield made
    made.go()


# -- done and fail -----------------------------------------------------------------------------


def test_done_counts_whatever_the_exit_code_is(work):
    said = work.run('gangline done >>"$0/ledger"; exit 3', check=0)
    assert work.ledger() == [
        "recorded: #1 is done; end your work now: what still runs in 60 s is ended"
    ]
    assert "#1 says that it is done" in said
    assert "is being ended" not in said  # it had its time to end by itself
    assert work.issue()["status"] == "completed"


def test_fail_counts_with_its_reason_whatever_the_exit_code_is(work):
    said = work.run("gangline fail the tests need a database", check=1)
    assert "#1 says that it has failed: the tests need a database" in said
    issue = work.issue()
    assert (issue["status"], issue["reason"]) == ("failed", "the tests need a database")
    assert len(issue["attempts"]) == 1


def test_what_the_agent_says_last_counts(work):
    work.run('gangline fail "no way"; gangline done; gangline done', check=0)
    assert work.issue()["status"] == "completed"


def test_done_that_is_said_while_no_orchestrator_lives_counts_at_the_next_start(work):
    started = work.start(f'echo started >>"$0/ledger"\n{UNTIL_GO}gangline done\nexit 9')
    work.kill(started)
    work.go()
    work.project.wait_for(lambda: work.issue()["wish"] == "complete", "it is recorded")
    assert "While no orchestrator lived:" in work.project.run("run", "work", check=0).stdout
    assert work.issue()["status"] == "completed"


def test_cancel_of_a_person_outranks_a_done_that_comes_later(work):
    script = f'echo started >>"$0/ledger"\n{UNTIL_GO}gangline done 2>>"$0/ledger"\n'
    work.kill(work.start(script))
    work.project.run("cancel", "work", "1", check=0)
    work.go()
    work.project.wait_for(lambda: len(work.ledger()) > 1, "it was refused")
    assert "a person has asked for this already: cancel #1" in work.ledger()[1]
    work.project.run("run", "work", check=1)
    assert work.issue()["status"] == "cancelled"


# -- where it is said --------------------------------------------------------------------------


@pytest.mark.parametrize("folder", [".", "/", "other", "worktree/deep"])
def test_agent_is_known_wherever_it_has_gone(work, folder):
    if folder == "other":  # a repository of its own
        other = work.project.room / "other"
        other.mkdir()
        work.project.git("init", "--quiet", str(other))
        folder = str(other)
    if folder == "worktree/deep":
        work.project.settings("[batch]\npoll_seconds = 0.1\n")
        work.project.write(".gitignore", "/plan.json\n/gangline.toml\n")
        work.project.commit()
        folder = "deep"
    script = f'mkdir -p deep; cd {shlex.quote(folder)}; gangline fail "from $PWD"'
    work.run(script, check=1)
    assert work.issue()["reason"].startswith("from /")


def test_agent_is_known_in_a_folder_without_git(folder_without_git):
    work = Work(folder_without_git)
    work.run('mkdir deep; cd deep; gangline fail "from ${PWD##*/}"', check=1)
    assert work.issue()["reason"] == "from deep"


@pytest.mark.parametrize("words", [["done"], ["fail", "why"], ["ask", "what?"]])
def test_said_outside_of_an_attempt_is_refused_with_what_to_do(work, words):
    work.run("true", check=0)
    said = work.project.refusal(*words)
    assert "only an agent says this, from inside its attempt: GANGLINE_AREA is not set" in said
    assert "hint: a person decides with gangline skip" in said


@pytest.mark.parametrize("words", [["done"], ["fail", "why"], ["ask", "what?"]])
def test_attempt_that_is_over_has_nothing_more_to_say(work, words):
    work.run("true", check=0)
    said = work.project.refusal(*words, env=work.as_agent())
    assert re.search(r"attempt \S+-1-a0 is over: #1 is completed", said)
    assert "hint: end without changing anything more" in said


def test_attempt_whose_successor_works_has_nothing_more_to_say(work):
    dies = '[ -e "$0/died" ] || { touch "$0/died"; kill -9 $PPID; }'
    started = work.start(f'echo started >>"$0/ledger"\n{dies}\n{UNTIL_GO}')
    work.project.wait_for(lambda: len(work.ledger()) == 2, "it was dispatched again")
    said = work.project.run("done", env=work.as_agent(0), check=2).stderr
    assert "is not the one that #1 is at now" in said
    assert work.issue()["wish"] is None
    work.go()
    assert work.end(started) == 0


def test_variables_that_do_not_belong_together_are_refused(work):
    work.run("true", check=0)
    elsewhere = {**work.as_agent(), "GANGLINE_ATTEMPT_DIR": str(work.project.room)}
    assert "is not the folder of attempt" in work.project.refusal("done", env=elsewhere)


# -- ask ---------------------------------------------------------------------------------------


def test_question_is_shown_in_full_with_its_answer_and_stops_nothing(work):
    started = work.start(ASKS + DONE)
    issue = work.issue()
    assert (issue["condition"], issue["question"]) == ("needs-input", "Which colour?")
    assert issue["asked"] is True
    text = work.status_text()
    assert re.search(r"^#1 +needs-input .* asks: Which colour\?$", text, re.MULTILINE)
    assert "\n#1 asks: Which colour?\n    gangline send work 1 " in text
    assert "gangline attach work 1" in text
    (told,) = work.ledger()
    assert told == (
        "the question is shown to the person; you may go on with what does not depend on it. "
        "The answer comes as your next turn"
    )
    wanted = '#1 asks: Which colour? (answer: gangline send work 1 "…")'
    work.project.wait_for(lambda: wanted in started.text(), "the run says it")
    work.go()
    assert work.end(started) == 0
    assert work.ledger()[1] == "went on"
    assert work.issue()["condition"] is None


def test_question_of_many_lines_is_shown_whole_and_harmless(work):
    words = r"printf 'One\033[2J\ntwo\n\nthree'"
    script = f'gangline ask "$({words})" >>"$0/ledger"\n{UNTIL_GO}{DONE}'
    started = work.start(script)
    text = work.status_text()
    assert_harmless(text)
    assert "\n#1 asks: One␛[2J\n    two\n    \n    three\n" in text
    work.go()
    assert work.end(started) == 0


def test_question_may_begin_with_a_dash_and_needs_no_quotes(work):
    started = work.start(f'gangline ask --all or --none? >>"$0/ledger"\n{UNTIL_GO}{DONE}')
    assert work.issue()["question"] == "--all or --none?"
    work.go()
    assert work.end(started) == 0


def test_question_that_was_asked_while_no_orchestrator_lived_is_still_asked(work):
    started = work.start(f'echo started >>"$0/ledger"\n{ASKS}{DONE}')
    work.project.wait_for(lambda: len(work.ledger()) == 2, "it has asked")
    work.kill(started)
    assert work.issue()["condition"] == "needs-input"  # though nobody watches
    again = work.project.start("run", "work")
    work.project.wait_for(lambda: "Resuming" in again.text(), "another watches")
    assert work.issue()["question"] == "Which colour?"
    work.go()
    assert work.end(again) == 0


def test_question_that_is_open_at_the_end_of_the_turn_waits_for_its_answer(work):
    """Also through a kill of the orchestrator; and it keeps no other issue from its place."""
    script = 'echo "turn $GANGLINE_RETRY" >>"$0/ledger"\ncat "$GANGLINE_ATTEMPT_DIR/prompt.md"\n'
    first = 'case $GANGLINE_ATTEMPT in *-a0) gangline ask "Which colour?";; esac\n'
    started = work.start(script + first)
    journal = work.project.area() / "batch.journal.jsonl"
    work.project.wait_for(lambda: '"waits":true' in journal.read_text(), "it waits")
    work.kill(started)
    assert work.issue()["condition"] == "needs-input"
    again = work.project.start("run", "work")
    work.project.wait_for(lambda: "Resuming" in again.text(), "another watches")
    assert work.ledger() == ["turn 0"]
    work.project.run("send", "work", "1", "blue", check=0)
    assert work.end(again) == 0
    assert work.ledger() == ["turn 0", "turn 0"], "a turn more, and no retry"
    (log,) = work.project.area().glob("attempts/*-1-a1/output.log")
    assert "A person says:\n\nblue" in log.read_text()


# -- send --------------------------------------------------------------------------------------


def test_answer_is_the_next_turn_of_the_agent_that_asked(work):
    """The agent ends its first turn well, and yet is not over: there is something it must hear."""
    turn = 'cp "$GANGLINE_ATTEMPT_DIR/prompt.md" "$0/prompt.$(wc -l <"$0/ledger")"\n'
    started = work.start(f'echo turn >>"$0/ledger"\n{turn}[ -e "$0/go" ] && exit\n{ASKS}')
    work.project.wait_for(lambda: work.issue()["asked"], "it has asked")
    said = work.project.run("send", "work", "1", "Blue,\nplease", check=0).stdout
    assert said == "recorded for #1: it goes with its next turn, when the present one has ended\n"
    issue = work.issue()
    assert issue["messages"] == 1
    assert (issue["condition"], issue["asked"]) == ("working", False)  # it has its answer
    assert "1 message of yours to go" in work.status_text()
    work.go()
    assert work.end(started) == 0
    assert [line for line in work.ledger() if line in ("turn", "went on")] == [
        *("turn", "went on", "turn")
    ]
    first, second = sorted(work.project.room.glob("prompt.*"))
    assert "Blue" not in first.read_text()
    assert "A person says:\n\nBlue,\nplease\n" in second.read_text()
    text = started.text()
    assert "#1 is told (goes with its next prompt): Blue, please" in text
    assert "#1 dispatched, again (with 1 message of yours)" in text
    issue = work.issue()
    assert (issue["status"], issue["messages"], issue["retryCount"]) == ("completed", 0, 0)
    assert len(issue["attempts"]) == 2


@pytest.mark.parametrize("is_heard", [False, True])
def test_message_of_one_that_was_cut_off_is_told_again_if_it_was_never_heard_of(work, is_heard):
    """The second turn kills its runner with -9, before its output told of its session or after."""
    says = """echo '{"type":"system","subtype":"init","session_id":"of-mine"}'\n"""
    until_read = 'until grep -q of-mine "$GANGLINE_ATTEMPT_DIR/progress.json"; do sleep .1; done\n'
    dies = "kill -9 $PPID; sleep 1000"
    turn = work.project.room / "turn.sh"
    turn.write_text(
        f'cd {shlex.quote(str(work.project.room))}; set -- "$(cat ledger | wc -l)"; echo >>ledger\n'
        'cp "$GANGLINE_ATTEMPT_DIR/prompt.md" prompt.$1\n'
        f"case $1 in\n0) {says}until [ -e go ]; do sleep 0.02; done;;\n"
        f"1) {says + until_read if is_heard else ''}{dies};;\nesac\n"
    )
    own = "[agents.mine]\nstart = ['sh', '{0}']\nresume = ['sh', '{0}', '{{session}}']\n"
    own += "reader = 'claude-stream-json'\n"
    work.project.settings(SETTINGS + own.format(turn))
    source = work.project.plan([{"id": 1, "title": "One", "agent": "mine"}])
    started = work.project.start("run", "work", "--from", source)
    work.project.wait_for(work.ledger, "the agent runs")
    work.project.run("send", "work", "1", "Mind the gap", check=0)
    work.go()
    assert work.end(started) == 0
    told = [path.read_text() for path in sorted(work.project.room.glob("prompt.*"))]
    assert ["Mind the gap" in text for text in told] == [False, True, not is_heard]
    assert "You were cut off" in told[2]
    assert [each["resumed"] for each in work.issue()["attempts"]] == [False, True, True]


def test_message_that_is_said_before_the_start_goes_with_the_first_prompt(work):
    work.run("false", check=1)
    work.project.run("retry", "work", "1", check=0)
    work.project.run("send", "work", "1", "Mind the gap", check=0)
    work.project.run("run", "work", check=1)  # `false` again; but it was told
    attempts = work.project.area() / "attempts"
    batch = work.project.status()["batchId"]
    told = [(attempts / f"{batch}-1-a{n}" / "prompt.md").read_text() for n in (0, 1)]
    assert ["Mind the gap" in text for text in told] == [False, True]


def test_done_is_refused_while_a_message_waits(work):
    script = f'echo started >>"$0/ledger"\n{UNTIL_GO}gangline done 2>>"$0/ledger"\nsleep 1000\n'
    work.kill(work.start(script))
    said = work.project.run("send", "work", "#1", "-", input="Wait:\nthere is more", check=0)
    assert "no orchestrator is running" in said.stdout
    work.go()
    work.project.wait_for(lambda: len(work.ledger()) > 1, "it was refused")
    assert (
        "a person has said something about #1 that you have not been told yet" in work.ledger()[1]
    )


@pytest.mark.parametrize(
    ("words", "given", "why"),
    [
        (["work", "1", ""], None, "the message is empty"),
        (["work", "1", " \n "], None, "the message is empty"),
        (["work", "1", "-"], "a\0b", "NUL"),
        (["work", "1", "-"], "x" * 65_537, "more than 65,536 bytes"),
        (["work", "1", "é" * 32_769], None, "65,538 bytes; the limit is 65,536"),
        (["work", "1", "-"], "\udcff", "not UTF-8"),
        (["work", "1", "\udcff"], None, "not UTF-8"),
        (["work", "2", "x"], None, "there is no issue '2'"),
        (["none", "1", "x"], None, "area none has no batch"),
    ],
)
def test_message_that_cannot_be_given_is_refused_whole(work, words, given, why):
    work.run("false", check=1)
    work.project.run("retry", "work", "1", check=0)
    done = work.project.run("send", *words, input=given, check=2)
    assert why in done.stderr
    assert "Traceback" not in done.stderr
    assert work.issue()["messages"] == 0


def test_terminal_issue_is_told_nothing_until_it_is_retried(work):
    work.run("false", check=1)
    said = work.project.refusal("send", "work", "1", "again")
    assert "#1 is failed; nobody is left to be told" in said
    assert 'hint: gangline retry work 1 && gangline send work 1 "…"' in said
    work.project.run("retry", "work", "1", check=0)
    told = work.project.run("send", "work", "1", "again", check=0).stdout
    assert "recorded for #1: it goes with its next prompt\n" in told
    assert work.issue()["messages"] == 1


def test_completed_issue_is_told_nothing(work):
    work.run("true", check=0)
    assert "#1 is completed; nobody is left to be told" in work.project.refusal(
        "send", "work", "1", "more"
    )


def test_only_so_many_messages_wait_for_one_turn(work):
    work.run("false", check=1)
    work.project.run("retry", "work", "1", check=0)
    for number in range(20):
        work.project.run("send", "work", "1", str(number), check=0)
    said = work.project.run("send", "work", "1", "one more", check=2).stderr
    assert "20 messages wait for the next turn of #1 already" in said


# It reads a line of its terminal, as a person or Gangline types it.
READS = """\
echo ready; read -r line; echo "$line" >>"$0/ledger"
until [ -e "$0/go" ]; do sleep 0.02; done
gangline done
"""


def interactive(room: Path, script: str = READS) -> str:
    argv = json.dumps(["sh", "-c", script, str(room), "{prompt}"])
    return (
        f'{SETTINGS}[agents.mine]\nstart = ["false"]\nmode = "interactive"\ninteractive = {argv}\n'
    )


def test_message_to_an_agent_in_a_terminal_is_typed_there(work):
    work.project.settings(interactive(work.project.room))
    source = work.project.plan([{"id": 1, "title": "One", "body": "Do it", "agent": "mine"}])
    started = work.project.start("run", "work", "--from", source)

    work.project.wait_for(lambda: "runs in pane" in started.text(), "it has a pane")

    def screen() -> str:
        pane = work.issue()["attempts"][0]["pane"] if work.issue()["attempts"] else None
        return work.project.tmux("capture-pane", "-p", "-t", pane).stdout if pane else ""

    work.project.wait_for(lambda: "ready" in screen(), "the agent runs")
    said = work.project.run("send", "work", "1", "Take the blue one", check=0).stdout
    pane = work.issue()["attempts"][0]["pane"]
    assert said == f"typed into pane {pane} of #1\n"
    work.project.wait_for(lambda: work.ledger() == ["Take the blue one"], "the agent reads it")
    assert work.issue()["messages"] == 0
    wanted = "#1 is told (typed into its pane): Take the blue one"
    work.project.wait_for(lambda: wanted in started.text(), "the run says it")
    work.go()
    assert work.end(started) == 0
    assert len(work.issue()["attempts"]) == 1


def test_question_keeps_an_agent_in_a_terminal_until_its_answer_is_typed(work):
    """Its hooks would end the attempt with its turn: they leave it while this file is there."""
    script = f'gangline ask "Which?" >>"$0/ledger"\n{READS}'
    work.project.settings(interactive(work.project.room, script))
    source = work.project.plan([{"id": 1, "title": "One", "body": "Do it", "agent": "mine"}])
    started = work.project.start("run", "work", "--from", source)
    work.project.wait_for(work.ledger, "it has asked")
    folder = Path(work.as_agent()["GANGLINE_ATTEMPT_DIR"])
    assert hooks_file.has_question(str(folder))
    work.project.wait_for(lambda: work.issue()["condition"] == "needs-input", "it is shown")
    work.project.run("send", "work", "1", "this one", check=0)
    assert not hooks_file.has_question(str(folder))
    work.project.wait_for(lambda: work.ledger()[-1] == "this one", "the agent reads it")
    work.go()
    assert work.end(started) == 0


def test_message_is_typed_into_no_pane_that_is_not_the_attempts_own(work):
    work.project.settings(interactive(work.project.room))
    source = work.project.plan([{"id": 1, "title": "One", "body": "Do it", "agent": "mine"}])
    started = work.project.start("run", "work", "--from", source)
    work.project.wait_for(lambda: "runs in pane" in started.text(), "the agent runs")
    work.kill(started)
    pane = work.issue()["attempts"][0]["pane"]
    work.project.tmux("respawn-pane", "-k", "-t", pane, "sh", "-c", "exec cat")
    done = work.project.run("send", "work", "1", "secret", check=2)
    assert "its pane is not its own any more" in done.stderr
    assert "nothing is recorded" in done.stderr
    assert "secret" not in work.project.tmux("capture-pane", "-p", "-t", pane).stdout


# -- what is known of a living attempt ---------------------------------------------------------


def test_usage_and_tool_of_a_living_attempt_are_read_from_its_progress(work):
    progress = {
        "session": "s-1",
        "inputTokens": 41_200,
        "outputTokens": 3_100,
        "costUsd": 0.84,
        "tool": "Bash: make test",
    }
    text = json.dumps(progress)
    script = f'echo {shlex.quote(text)} >"$GANGLINE_ATTEMPT_DIR/progress.json"\n'
    started = work.start(f'{script}echo started >>"$0/ledger"\n{UNTIL_GO}')
    issue = work.issue()
    wanted = {"inputTokens": 41_200, "outputTokens": 3_100, "costUsd": 0.84, "seconds": 0}
    assert issue["usage"] == issue["attempts"][0]["usage"] == wanted
    assert work.project.status()["usage"] == wanted
    assert issue["attempts"][0]["tool"] == "Bash: make test"
    assert issue["attempts"][0]["session"] == "s-1"
    assert "41.2k in, 3.1k out, $0.84" in work.status_text()
    work.go()
    assert work.end(started) == 0
    assert work.issue()["attempts"][0]["usage"]["seconds"] > 0


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"inputTokens": "x", "costUsd": [1], "tool": 3}', b"[" * 60_000],
)
def test_progress_that_cannot_be_read_costs_a_status_nothing(work, content):
    started = work.start(f'echo started >>"$0/ledger"\n{UNTIL_GO}')
    folder = Path(work.as_agent()["GANGLINE_ATTEMPT_DIR"])
    (folder / "progress.json").write_bytes(content)
    assert work.issue()["attempts"][0]["usage"]["inputTokens"] == 0
    assert re.search(r"^#1 +dispatched", work.status_text(), re.MULTILINE)
    os.unlink(folder / "progress.json")
    os.mkfifo(folder / "progress.json")
    assert work.issue()["attempts"][0]["tool"] is None
    os.unlink(folder / "progress.json")
    work.go()
    assert work.end(started) == 0


def test_usage_is_a_sum_of_every_attempt_and_every_issue():
    from gangline.app.views import _sum_of

    one = {"inputTokens": 1, "outputTokens": 2, "costUsd": 0.1, "seconds": 1.5}
    free = {**one, "inputTokens": 0, "outputTokens": 0, "costUsd": None, "seconds": 1}
    assert _sum_of([one, free, one]) == {
        "inputTokens": 2,
        "outputTokens": 4,
        "costUsd": 0.2,
        "seconds": 4.0,
    }
    assert _sum_of([free, free])["costUsd"] is None
