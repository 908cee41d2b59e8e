"""What people read of conditions, limits, sessions, messages, usage and budgets."""

import os
import time
from collections.abc import Iterator

import msgspec
import pytest

from gangline.app.views import _sum_of, status_view, until_words, wait_words
from gangline.cli.lines import describe, needs
from gangline.cli.live import LiveView
from gangline.cli.show import advice_text, status_text, summary_text
from gangline.cli.standing import count_words, usage_words
from gangline.core.batch import Batch
from gangline.core.codec import StateEncoder
from gangline.core.events import (
    AnyEvent,
    BatchStarted,
    Condition,
    ConditionChanged,
    Dispatched,
    Ended,
    KillOrdered,
    KillReason,
    OrchestratorStarted,
    OrchestratorStopped,
    Outcome,
    PlannedIssue,
    Policy,
    Sent,
    Wish,
    Wished,
)
from gangline.core.model import Status
from gangline.core.usage import Limits, Usage
from gangline.store.area import AreaPaths

AT = "2026-11-28T10:43:00.000Z"
NOW = 1_795_862_580.0  # the same moment


@pytest.fixture(autouse=True)
def _wall_clock_of_berlin(monkeypatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Tale:
    """A batch, told event by event; what is said of the last, and how it is shown."""

    def __init__(self, *issues: PlannedIssue, **policy: object) -> None:
        self.batch = Batch()
        self.said: str | None = None
        plan = issues or (PlannedIssue(id=3, title="Three"),)
        begun = BatchStarted(
            format=1, area="work", batch_id="b", agent="a", issues=plan, policy=Policy(**policy)
        )
        self.tell(begun, OrchestratorStarted(pid=7))

    def tell(self, *events: AnyEvent) -> "Tale":
        for event in events:
            stamped = msgspec.structs.replace(event, seq=self.batch.seq + 1, at=AT)
            self.batch.fold(stamped)
            self.said = describe(self.batch, stamped)
        return self

    def dispatch(self, attempt: int = 0, **fields: object) -> "Tale":
        known = {"mark": "m", "retry": 0, "boot_id": "x", "boot_seconds": 1.0, **fields}
        return self.tell(Dispatched(issue="3", attempt=attempt, **known))

    def stand(self, condition: Condition, text: str | None = None, **fields: object) -> "Tale":
        return self.tell(
            ConditionChanged(issue="3", attempt=0, condition=condition, text=text, **fields)
        )

    def end(self, outcome: Outcome, to: Status, **fields: object) -> "Tale":
        number = self.batch.issues["3"].attempts[-1].number
        return self.tell(Ended(issue="3", attempt=number, outcome=outcome, to=to, **fields))

    def view(self) -> dict:
        state = msgspec.json.decode(StateEncoder(self.batch).encode())
        return status_view(state, AreaPaths("/none", "work"), alive=True)

    def row(self) -> str:
        return status_text(self.view(), now=AT).splitlines()[2]


# -- figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0"), (812, "812"), (1000, "1.0k"), (41_234, "41.2k"), (999_949, "999.9k"),
     (999_950, "1.00M"), (3_104_000, "3.10M")],
)  # fmt: skip
def test_tokens_are_said_shortly(count, words):
    assert count_words(count) == words


def test_usage_says_only_what_is_known():
    one = {"inputTokens": 41_200, "outputTokens": 3_100, "costUsd": 0.84, "seconds": 5}
    assert usage_words(one) == "41.2k in, 3.1k out, $0.84"
    assert usage_words({**one, "costUsd": None}) == "41.2k in, 3.1k out"
    assert usage_words({**one, "inputTokens": 0, "outputTokens": 0}) == "$0.84"
    assert usage_words(_sum_of([{"seconds": 9}])) == usage_words(None) == ""


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1, "1m"), (60, "1m"), (61, "2m"), (3599, "1h00m"), (11_100, "3h05m"), (187_200, "2d04h")],
)
def test_a_wait_is_said_in_minutes_rounded_up(seconds, words):
    assert wait_words(seconds) == words


def test_end_of_a_limit_is_said_on_the_clock_here_and_in_how_long():
    assert until_words(NOW + 2520, NOW) == "until 12:25 (in 42m)"
    assert until_words(NOW + 90_000, NOW) == "until Sun 29 Nov 12:43 (in 1d01h)"
    assert until_words(NOW + 50_000, NOW) == "until Sun 29 Nov 01:36 (in 13h54m)"
    assert until_words(NOW - 60, NOW) == "until 11:42"
    assert until_words(None, NOW) == until_words(1e300, NOW) == ""


# -- lines -------------------------------------------------------------------------------------


def test_dispatch_says_what_it_is():
    assert Tale().dispatch().said == "11:43:00 #3 dispatched: Three"
    again = Tale().dispatch(1, retry=1, resumed=True)
    assert again.said == (
        "11:43:00 #3 dispatched, again (its one automatic retry; goes on with its session): Three"
    )
    afresh = Tale().dispatch(1, afresh="no id\x1b", messages=2)
    assert afresh.said == (
        "11:43:00 #3 dispatched, again (starts afresh: no id␛; with 2 messages of yours): Three"
    )


def test_conditions_are_said_with_what_can_be_done():
    limited = Tale().dispatch().stand(Condition.LIMITED, "5-hour limit", until=NOW + 2520)
    assert limited.said == "11:43:00 #3 limited until 12:25 (in 42m): 5-hour limit"
    assert limited.stand(Condition.WORKING).said == "11:43:00 #3 working"
    stalled = Tale().dispatch().stand(Condition.STALLED, "no output")
    assert stalled.said == (
        "11:43:00 #3 stalled: no output (gangline attach work 3 | gangline logs work 3 | "
        "gangline retry work 3 | gangline skip work 3)"
    )
    asks = Tale().dispatch().stand(Condition.NEEDS_INPUT, "Which\nway?", asked=True)
    assert asks.said == ('11:43:00 #3 asks: Which way? (answer: gangline send work 3 "…")')
    needs_you = Tale().dispatch().stand(Condition.NEEDS_INPUT, "log in")
    assert needs_you.said == "11:43:00 #3 needs-input: log in"


def test_every_reason_to_kill_is_said():
    for why in KillReason:
        order = KillOrdered(issue="3", attempt=0, why=why, boot_id="x", boot_seconds=1.0)
        said = Tale().dispatch().tell(order).said
        assert said is not None
        assert said.startswith("11:43:00 #3 is being ended ")


def test_every_end_is_said():
    for outcome in set(Outcome) - {Outcome.VOID}:
        said = Tale().dispatch().end(outcome, Status.PENDING, reason="why").said
        assert said is not None
        assert said.endswith(": why; it is dispatched again")
    parked = Tale().dispatch().end(Outcome.LIMITED, Status.PENDING, reason="5-hour limit")
    assert parked.said == "11:43:00 #3 was parked: 5-hour limit; it is dispatched again"


def test_words_of_agents_and_people_are_told_apart():
    own = {"boot_id": "x", "boot_seconds": 1.0}
    tale = Tale().dispatch()
    assert tale.tell(Wished(issue="3", wish=Wish.COMPLETE, **own)).said == (
        "11:43:00 #3 says that it is done"
    )
    assert tale.tell(Wished(issue="3", wish=Wish.FAIL, reason="no db", **own)).said == (
        "11:43:00 #3 says that it has failed: no db"
    )
    assert tale.tell(Wished(issue="3", wish=Wish.SKIP)).said == (
        "11:43:00 #3: skip asked for; its attempt is ended first"
    )
    assert tale.tell(Sent(issue="3", text="go\non")).said == (
        "11:43:00 #3 is told (goes with its next prompt): go on"
    )
    assert tale.tell(Sent(issue="3", text="x" * 500, typed=True)).said == (
        "11:43:00 #3 is told (typed into its pane): " + "x" * 79 + "…"
    )


@pytest.mark.parametrize(
    ("limits", "used", "words"),
    [
        (Limits(cost_usd=5), Usage(cost_usd=5.02), "($5.02 of $5.00)"),
        (
            Limits(tokens=1000),
            Usage(input_tokens=900, output_tokens=200),
            "(1,100 of 1,000 tokens)",
        ),
        (Limits(minutes=2), Usage(seconds=180), "(3 of 2 minutes)"),
    ],
)
def test_budget_that_is_used_up_is_said_with_the_setting_that_lets_it_go_on(limits, used, words):
    issues = PlannedIssue(id=3), PlannedIssue(id=4)
    tale = Tale(*issues, batch_budget=limits).dispatch()
    assert needs(tale.batch) is None
    assert "budget of the batch" not in status_text(tale.view(), now=AT)
    tale.end(Outcome.COMPLETED, Status.COMPLETED, usage=used)
    name = {"cost_usd": "batch_cost_usd", "tokens": "batch_tokens", "minutes": "batch_minutes"}
    (setting,) = [name[each] for each in name if getattr(limits, each) is not None]
    wanted = (
        f"the budget of the batch is used up {words}, so nothing new is dispatched; "
        f"raise [budget] {setting} in gangline.toml"
    )
    assert needs(tale.batch) == wanted
    assert wanted in status_text(tale.view(), now=AT)
    tale.tell(OrchestratorStopped(reason="budget"))
    assert tale.said == ("11:43:00 the orchestrator stops (the budget of the batch is used up)")
    assert wanted in advice_text(tale.view(), [], archived=False)


# -- status and summary ------------------------------------------------------------------------


def test_status_shows_the_condition_in_the_place_of_dispatched(monkeypatch):
    monkeypatch.setattr("gangline.cli.show.terminal_width", lambda: 0)
    working = Tale().dispatch()
    assert working.row().split()[1] == "dispatched"
    limited = Tale().dispatch().stand(Condition.LIMITED, "5-hour limit", until=NOW + 2520)
    assert limited.row().split()[1] == "limited"
    assert limited.row().endswith("until 12:25 (in 42m): 5-hour limit")
    stalled = Tale().dispatch().stand(Condition.STALLED, "no output")
    assert stalled.row().split()[1] == "stalled"
    shown = status_text(stalled.view(), now=AT).splitlines()
    assert shown[-2:] == [
        "#3 stalled: no output",
        *["    " + " | ".join(f"gangline {v} work 3" for v in ("attach", "logs", "retry", "skip"))],
    ]
    asks = Tale().dispatch().stand(Condition.NEEDS_INPUT, "Which\nway?", asked=True)
    assert asks.row().endswith("asks: Which way?")
    assert status_text(asks.view(), now=AT).splitlines()[-3:] == [
        "#3 asks: Which",
        "    way?",
        '    gangline send work 3 "…" | gangline attach work 3',
    ]
    dialog = Tale().dispatch().stand(Condition.NEEDS_INPUT, "log in")
    assert status_text(dialog.view(), now=AT).splitlines()[-2:] == [
        "#3 needs you: log in",
        "    gangline attach work 3",
    ]


def test_usage_is_shown_where_any_is_known_and_goes_first_on_a_narrow_terminal(monkeypatch):
    tale = Tale(PlannedIssue(id=3, title="A title that says a lot of what it is about"))
    tale.dispatch()
    monkeypatch.setattr("gangline.cli.show.terminal_width", lambda: 0)
    assert "usage" not in status_text(tale.view(), now=AT)
    used = Usage(input_tokens=41_200, output_tokens=3_100, cost_usd=0.84, seconds=60.0)
    tale.end(Outcome.COMPLETED, Status.COMPLETED, usage=used)
    for width, there in ((0, True), (110, True), (60, False)):
        monkeypatch.setattr("gangline.cli.show.terminal_width", lambda width=width: width)
        text = status_text(tale.view(), now=AT)
        assert ("41.2k in, 3.1k out, $0.84" in text) is there
        assert "A title" in text
    monkeypatch.setattr("gangline.cli.show.terminal_width", lambda: 0)
    head, *rows = summary_text(tale.view(), now=AT).splitlines()
    assert head.endswith("; used: 41.2k in, 3.1k out, $0.84")
    assert "41.2k in, 3.1k out, $0.84" in rows[-1]


def test_summary_says_nothing_of_usage_where_nothing_is_known(monkeypatch):
    monkeypatch.setattr("gangline.cli.show.terminal_width", lambda: 0)
    tale = Tale().dispatch().end(Outcome.COMPLETED, Status.COMPLETED, usage=Usage(seconds=60.0))
    text = summary_text(tale.view(), now=AT)
    assert "used" not in text
    assert "usage" not in text
    assert tale.view()["usage"]["seconds"] == 60.0


def test_views_say_the_budget_and_what_an_attempt_went_on_with():
    tale = Tale(batch_budget=Limits(cost_usd=5)).dispatch(session="s-1", resumed=True)
    view = tale.tell(Sent(issue="3", text="x")).view()
    assert view["budget"] == {"costUsd": 5, "tokens": None, "minutes": None}
    (attempt,) = view["issues"][0]["attempts"]
    assert (attempt["session"], attempt["resumed"]) == ("s-1", True)
    assert view["issues"][0]["messages"] == 1
    assert Tale().view()["budget"] is None


def test_live_view_shows_the_condition_else_what_the_agent_does(tmp_path):
    folder = tmp_path / "b-3-a0"
    folder.mkdir()
    (folder / "output.log").write_text('{"type":"assistant"}\n')
    view = LiveView(str(tmp_path))

    def last(tale: Tale) -> str:
        return view._row(tale.batch, "3", AT, title_cells=20)[-1]

    working = Tale().dispatch()
    assert last(working) == '{"type":"assistant"}'
    (folder / "progress.json").write_text('{"lastWords":"I have read it\\u001b"}')
    assert last(working) == "I have read it␛"
    (folder / "progress.json").write_text('{"lastWords":"x","tool":"Bash: make"}')
    assert last(working) == "Bash: make"
    asks = Tale().dispatch().stand(Condition.NEEDS_INPUT, "Which way?", asked=True)
    assert last(asks) == "asks: Which way?"
    limited = Tale().dispatch().stand(Condition.LIMITED, "limit", until=time.time() + 600)
    assert last(limited).startswith("limited until ")
    os.unlink(folder / "progress.json")
