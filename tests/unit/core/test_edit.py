"""Edits of the state file: what they change, what they may not, and that nothing else happens."""

import copy
import json
import random

import msgspec
import pytest
from core_builders import DIED, STEADY, Story, exited, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_indexes import check_indexes, check_ready_order, check_round_trip

from gangline.core.adopt import adopted
from gangline.core.codec import NESTING_MAX, decode_event, decode_state, encode_event, replay
from gangline.core.edit import check_edit, difference, state_of
from gangline.core.events import (
    Edited,
    Held,
    Launched,
    OrchestratorStarted,
    PlannedIssue,
    Policy,
    Retried,
    Wish,
    Wished,
)
from gangline.core.model import TERMINAL, Status
from gangline.errors import InputError

AT = "2026-01-02T00:00:00.000Z"
SETTABLE = [status for status in Status if status is not Status.DISPATCHED]


def lived(**keys):
    """1 completed, 2 failed, 3 dispatched once, 4 dispatched again, 5 waits for 3, 6 is pending."""
    story = Story({"1": (), "2": (), "3": (), "4": (), "5": ("1", "3"), "6": ()})
    story.record(OrchestratorStarted(pid=5, pane="%3"))
    story.dispatch("1", "2", "3", "4")
    story.record(Launched(issue="3", attempt=0, pane="%7", server="s"))
    story.ends("1", **exited(0))
    story.ends("2", **exited(2))
    story.ends("4", **DIED)
    story.dispatch("4")
    if keys:
        story.record(Edited(by="filter", extra=keys))
    return story


def foreign():
    """The batch of the specification's shell: 1 runs in a pane of its own."""
    text = {
        "issues": [1, 2],
        "dag": {"2": [1]},
        "status": {"1": "dispatched", "2": "blocked"},
        "dispatched": {"1": {"pane": "%3", "retryCount": 0, "lastCommitSha": "abc"}},
    }
    story = Story()
    story.batch = adopted(json.dumps(text).encode(), "client", Policy())
    return story


def take(story, state, base=None):
    """Take an edit as the store does; the event, or None if nothing was changed."""
    edit = difference(base or story.batch, state, by="file")
    if edit is not None:
        check_edit(story.batch, edit, base)
        story.record(edit)
    return edit


def refusal(story, state, base=None):
    """Why it is refused, whole: the batch stays as it was to the byte."""
    before = snapshot(story.batch)
    with pytest.raises(InputError) as caught:
        take(story, state, base)
    assert snapshot(story.batch) == before
    return caught.value


def edited(story, change):
    """The state after a change of it in place."""
    state = state_of(story.batch)
    change(state)
    return state


def put(*path, value):
    """A change: set what is at the path."""

    def change(state):
        for key in path[:-1]:
            state = state[key]
        state[path[-1]] = value

    return change


def drop(*path):
    """A change: delete what is at the path."""

    def change(state):
        for key in path[:-1]:
            state = state[key]
        del state[path[-1]]

    return change


# -- strategies ---------------------------------------------------------------------------------

WORDS = st.text(alphabet=st.characters(codec="utf-8"), max_size=5)


def json_values(largest):
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-largest, largest)
        | st.floats(allow_nan=False, allow_infinity=False)
        | WORDS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
        max_leaves=6,
    )


JSON = json_values(1000)
ANY_JSON = json_values(2**70)  # also what only few programs can write again
FREE_KEYS = st.sampled_from(["note", "é", "", "x y", "team"])
ENTRIES = st.dictionaries(st.sampled_from(["lastActivity", "lastCommitSha", "é"]), JSON, max_size=3)


@st.composite
def stories(draw):
    """A batch somewhere in its life, with unknown keys in it."""
    count = draw(st.integers(1, 5))
    dag = {
        str(n): tuple(str(m) for m in range(n) if draw(st.integers(0, 2)) == 0)
        for n in range(count)
    }
    story = Story(dag)
    for _ in range(draw(st.integers(0, 8))):
        _happens(draw, story)
    extra = draw(st.dictionaries(FREE_KEYS, ANY_JSON, max_size=2))
    entries = {key: draw(ENTRIES) for key in story.batch.dispatched}
    story.record(Edited(by="filter", extra=extra, entries=entries))
    return story


def _happens(draw, story):
    ready = story.batch.ready(1)
    running = list(story.batch.dispatched)
    what = draw(st.sampled_from(["start", "end", "die", "hold", "wish", "retry"]))
    if what == "start" and ready:
        story.dispatch(*ready)
    elif what == "end" and running:
        story.ends(draw(st.sampled_from(running)), **exited(draw(st.sampled_from([0, 1]))))
    elif what == "die" and running:
        story.ends(draw(st.sampled_from(running)), **DIED)
    elif what == "hold":
        key = draw(st.sampled_from(list(story.batch.issues)))
        if story.issue(key).status not in TERMINAL:
            story.record(Held(issue=key))
    elif what == "wish" and running:
        key = draw(st.sampled_from(running))
        story.record(Wished(issue=key, wish=draw(st.sampled_from(Wish)), reason="so"))
    elif what == "retry" and story.batch.by_status[Status.FAILED]:
        story.record(Retried(issue=next(iter(story.batch.by_status[Status.FAILED]))))
    story.settle()


@st.composite
def legal_changes(draw, state):
    """The state after some edits that are allowed."""
    state = copy.deepcopy(state)
    for _ in range(draw(st.integers(1, 5))):
        _change_legally(draw, state)
    return state


def _change_legally(draw, state):
    keys = list(map(str, state["issues"]))
    key = draw(st.sampled_from(keys))
    open_entries = [k for k in state["dispatched"] if k in keys]
    match draw(st.sampled_from(["status", "edges", "join", "entry", "detail", "batch", "free"])):
        case "status":
            state["status"][key] = draw(st.sampled_from(SETTABLE)).value
        case "edges":
            before = keys[: keys.index(key)]  # only on earlier ones: no cycle
            state["dag"][key] = draw(st.lists(st.sampled_from(before))) if before else []
        case "join":
            new = len(state["issues"]) + 100
            state["issues"].append(draw(st.sampled_from([new, str(new)])))
            state["dag"][str(new)] = draw(st.lists(st.sampled_from(keys), max_size=2))
            if draw(st.booleans()):
                state["status"][str(new)] = draw(st.sampled_from(SETTABLE)).value
            if draw(st.booleans()):
                state["detail"][str(new)] = {"title": "T", "agent": "a", "held": True}
        case "entry" if open_entries:
            entry = state["dispatched"][draw(st.sampled_from(open_entries))]
            entry["retryCount"] += draw(st.integers(0, 2))
            entry |= draw(ENTRIES)
        case "detail":
            name = draw(st.sampled_from(["title", "agent", "held"]))
            value = draw({"title": st.text("ab é\n"), "agent": st.none() | st.just("b")}.get(
                name, st.booleans()
            ))  # fmt: skip
            state["detail"].setdefault(key, {})[name] = value
        case "batch":
            state |= draw(
                st.fixed_dictionaries(
                    {
                        "agent": st.sampled_from([None, "demo", "other"]),
                        "orchestratorPane": st.sampled_from([None, "%3", "%12"]),
                        "paused": st.booleans(),
                    }
                )
            )
        case "free":
            name = draw(FREE_KEYS)
            if name in state and draw(st.booleans()):
                del state[name]
            else:
                state[name] = draw(JSON)


def rewritten(draw, state, *, as_doubles=False):
    """The same state as another program would write it; jq reads every number as a double."""
    order = random.Random(draw(st.integers(0, 99)))

    def shuffled(value):
        if isinstance(value, dict):
            items = list(value.items())
            order.shuffle(items)
            return {key: shuffled(inner) for key, inner in items}
        if isinstance(value, list):
            return [shuffled(inner) for inner in value]
        if as_doubles and type(value) in (int, float) and float(value).is_integer():
            return int(float(value))
        return value

    indent = draw(st.sampled_from([None, 2, "\t"]))
    text = json.dumps(shuffled(state), indent=indent, ensure_ascii=draw(st.booleans()))
    return msgspec.json.decode(text.encode())


class TestProperties:
    @settings(STEADY, max_examples=150)
    @given(st.data())
    def test_untouched_state_rewritten_by_any_program_is_no_edit(self, data):
        story = data.draw(stories())
        state = rewritten(data.draw, state_of(story.batch), as_doubles=data.draw(st.booleans()))
        assert difference(story.batch, state, by="file") is None

    @settings(STEADY, max_examples=300)
    @given(st.data())
    def test_legal_edit_gives_what_was_asked_for_and_replays_to_the_same(self, data):
        story = data.draw(stories())
        before = state_of(story.batch)
        asked = data.draw(legal_changes(before))
        copied = decode_state(snapshot(story.batch))
        edit = take(story, rewritten(data.draw, asked))
        if edit is None:
            assert snapshot(copied) == snapshot(story.batch)
            return
        check_fulfilled(before, asked, state_of(story.batch))
        check_indexes(story.batch)
        check_ready_order(story.batch)
        check_round_trip(story.batch)
        stamped = msgspec.structs.replace(
            edit, seq=story.batch.seq, at=f"2026-01-01T00:00:00.{story.batch.seq - 1:03}Z"
        )
        assert snapshot(replay(copied, decode_event(encode_event(stamped)[:-1]))) == snapshot(
            story.batch
        )
        assert difference(story.batch, rewritten(data.draw, state_of(story.batch)), by="x") is None

    @settings(STEADY, max_examples=400)
    @given(st.data())
    def test_any_change_is_taken_whole_or_refused_whole(self, data):
        story = data.draw(stories())
        kept = snapshot(story.batch)
        state = state_of(story.batch)
        for _ in range(data.draw(st.integers(1, 3))):
            vandalize(data.draw, state)
        try:
            edit = take(story, state)
        except InputError:
            assert snapshot(story.batch) == kept
            return
        if edit is None:
            assert snapshot(story.batch) == kept
        check_indexes(story.batch)
        check_round_trip(story.batch)

    @settings(STEADY, max_examples=150)
    @given(st.data())
    def test_edit_of_an_older_text_is_rebased_or_refused_whole(self, data):
        story = data.draw(stories())
        base = decode_state(snapshot(story.batch))
        asked = data.draw(legal_changes(state_of(base)))
        assert difference(base, state_of(base), by="file") is None  # lag alone is no edit
        for _ in range(data.draw(st.integers(1, 4))):
            _happens(data.draw, story)
        kept = snapshot(story.batch)
        try:
            edit = take(story, asked, base)
        except InputError:
            assert snapshot(story.batch) == kept
            return
        if edit is None:
            assert snapshot(story.batch) == kept
            return
        now = state_of(story.batch)
        changed = {key for key in asked if asked[key] != state_of(base).get(key)}
        for key in changed - {"issues", "dag", "status", "dispatched", "detail"}:
            assert now[key] == asked[key]
        for key in edit.depends_on:
            assert now["dag"][key] == list(dict.fromkeys(asked["dag"][key]))
        check_indexes(story.batch)
        check_round_trip(story.batch)


def check_fulfilled(before, asked, now):
    """The state has what was asked for; a living attempt's status is asked for as a wish."""
    assert list(map(str, now["issues"])) == list(map(str, asked["issues"]))
    for key in map(str, asked["issues"]):
        assert now["dag"][key] == list(dict.fromkeys(asked["dag"][key])), key
        was, wanted = before["status"].get(key), asked["status"].get(key, "pending")
        if was is None and wanted == "pending" and now["dag"][key]:
            wanted = "blocked"  # as a batch begins: nothing waits for less than it needs
        if was == "dispatched":
            assert now["status"][key] == "dispatched"
            wish = now["detail"][key].get("wish")
            if wanted != "dispatched":
                assert wish == WISHES[wanted]
            else:
                assert wish == before["detail"][key].get("wish")
        else:
            assert now["status"][key] == wanted
        for name, default in (("title", ""), ("agent", None), ("held", False)):
            detail = asked["detail"].get(key, {})
            assert now["detail"][key].get(name, default) == detail.get(name, default)
    assert now["dispatched"] == asked["dispatched"]
    assert list(now["dispatched"]) == list(before["dispatched"])  # oldest first
    for key in asked.keys() | now.keys():
        if key not in ("issues", "dag", "status", "dispatched", "detail", "seq", "updatedAt"):
            assert key == "digest" or now[key] == asked[key], key


WISHES = {
    "pending": "retry",
    "blocked": "retry",
    "completed": "complete",
    "failed": "fail",
    "skipped": "skip",
    "cancelled": "cancel",
}


def vandalize(draw, state):
    """Put anything anywhere, or take anything away."""
    here = state
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return
        key = draw(st.sampled_from(keys))
        if isinstance(here[key], dict | list) and here[key] and draw(st.integers(0, 3)):
            here = here[key]
            continue
        words = st.sampled_from(
            ["pending", "blocked", "dispatched", "failed", "asleep", "0", "1", 0, 1, ["0"], ["1"]]
        )
        match draw(st.sampled_from(["put", "word", "drop", "add"])):
            case "put":
                here[key] = draw(JSON)
            case "word":
                here[key] = draw(words)
            case "drop":
                del here[key]
            case "add" if isinstance(here, dict):
                here[draw(st.sampled_from(["0", "9", "../x", "note"]))] = draw(JSON | words)
            case "add":
                here.append(draw(JSON | words))
        return


class TestStatuses:
    @pytest.mark.parametrize("word", [s.value for s in SETTABLE])
    def test_status_of_a_living_issue_is_a_wish(self, word):
        story = lived()
        edit = take(story, edited(story, put("status", "3", value=word)))
        assert edit.wishes == {"3": WISHES[word]}
        assert story.issue("3").status is Status.DISPATCHED
        assert story.issue("3").wish == WISHES[word]

    def test_wish_counts_when_the_attempt_has_ended(self):
        story = lived()
        take(story, edited(story, put("status", "3", value="failed")))
        story.ends("3", **exited(0))
        assert story.issue("3").status is Status.FAILED

    def test_entry_taken_away_together_with_a_new_status_is_a_wish_as_well(self):
        story = lived()
        state = edited(story, put("status", "3", value="completed"))
        del state["dispatched"]["3"]
        assert take(story, state).wishes == {"3": Wish.COMPLETE}
        assert "3" in state_of(story.batch)["dispatched"]

    @pytest.mark.parametrize("word", ["pending", "blocked"])
    @pytest.mark.parametrize("key", ["1", "2"])
    def test_terminal_issue_set_to_open_gets_a_new_budget(self, word, key):
        story = lived()
        story.issue(key).spent, story.issue(key).voids = 1, 2
        take(story, edited(story, put("status", key, value=word)))
        issue = story.issue(key)
        assert (issue.status.value, issue.spent, issue.voids, issue.reason) == (word, 0, 0, None)
        assert key in story.starts()

    def test_failed_issue_set_to_completed_is_completed(self):
        story = lived()
        take(story, edited(story, put("status", "2", value="completed")))
        assert story.issue("2").status is Status.COMPLETED
        assert story.issue("2").reason == "set to completed by hand"

    def test_dependents_of_an_issue_that_was_completed_by_hand_are_unblocked(self):
        story = lived()
        story.ends("3", **exited(1))
        take(story, edited(story, put("status", "1", value="pending")))
        story.settle()
        assert story.issue("5").status is Status.BLOCKED
        take(story, edited(story, put("status", "1", value="completed")))
        assert "5" in story.starts()

    def test_pending_issue_that_gets_an_open_dependency_is_blocked(self):
        story = lived()
        take(story, edited(story, put("dag", "6", value=[3])))
        assert "6" not in story.starts()
        assert story.issue("6").status is Status.BLOCKED

    @pytest.mark.parametrize("key", ["1", "6"])
    def test_dispatched_set_by_hand_is_refused(self, key):
        story = lived()
        error = refusal(story, edited(story, put("status", key, value="dispatched")))
        assert error.message == f"issue '{key}' was set to dispatched; only a dispatch does that"
        assert "gangline run client" in error.hint

    def test_unknown_status_is_refused_and_the_known_are_named(self):
        story = lived()
        error = refusal(story, edited(story, put("status", "6", value="asleep")))
        assert error.message == "the status of issue '6' is 'asleep'"
        assert "pending, blocked, dispatched, completed" in error.hint

    def test_status_taken_away_is_refused(self):
        story = lived()
        assert (
            "status of issue '6' is missing"
            in refusal(story, edited(story, drop("status", "6"))).message
        )


class TestGraph:
    def test_edit_that_makes_a_cycle_names_all_of_it_and_what_makes_room(self):
        story = lived()
        error = refusal(story, edited(story, put("dag", "1", value=[5])))
        assert error.message == "the dependencies form a cycle: 1 -> 5 -> 1"
        assert error.causes == ('1 depends on 5: dag["1"]', '5 depends on 1: dag["5"]')
        command = (
            """gangline shell state-update client '.dag["5"] |= map(select(tostring != "1"))'"""
        )
        assert error.hint.endswith(f"first take out one that is there: {command}")

    def test_cycle_of_new_edges_alone_has_no_command_that_would_do_nothing(self):
        story = lived()
        state = edited(story, put("dag", "1", value=[6]))
        state["dag"]["6"] = [1]
        assert refusal(story, state).hint == "leave one of these dependencies out of the change"

    def test_long_cycle_is_named_whole(self):
        story = Story({str(n): (str(n - 1),) if n else () for n in range(30)})
        error = refusal(story, edited(story, put("dag", "0", value=["29"])))
        named = error.message.removeprefix("the dependencies form a cycle: ").split(" -> ")
        assert len(named) == 31
        assert len(error.causes) == 30

    def test_edge_of_an_issue_to_itself_is_refused(self):
        story = lived()
        error = refusal(story, edited(story, put("dag", "6", value=["6"])))
        assert error.message == "issue '6' depends on itself"
        assert "state-update" not in error.hint

    def test_cycle_through_an_issue_that_joins_is_refused(self):
        story = lived()
        state = edited(story, put("dag", "7", value=[6]))
        state["issues"].append(7)
        state["dag"]["6"] = [7]
        assert "cycle: 7 -> 6 -> 7" in refusal(story, state).message.replace(
            "6 -> 7 -> 6", "7 -> 6 -> 7"
        )

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (
                put("dag", "6", value=["99"]),
                "issue '6' depends on '99', which is not in this batch",
            ),
            (put("dag", "99", value=[]), "dag has issue '99', which is not in issues"),
            (put("status", "99", value="pending"), "status has issue '99', which is not in issues"),
            (put("detail", "99", value={}), "detail has issue '99', which is not in issues"),
            (
                put("dispatched", "99", value={}),
                "dispatched has issue '99', which is not dispatched",
            ),
            (put("dispatched", "6", value={}), "dispatched has issue '6', which is not dispatched"),
        ],
    )
    def test_dangling_id_is_refused(self, change, words):
        story = lived()
        assert refusal(story, edited(story, change)).message == words

    def test_duplicate_edges_and_ids_in_another_form_are_no_difference(self):
        story = lived()
        state = edited(story, put("dag", "5", value=[1, "3", 1]))
        state["issues"] = [int(key) for key in state["issues"]]
        assert take(story, state) is None

    def test_edge_left_out_of_dag_is_taken_out(self):
        story = lived()
        assert take(story, edited(story, drop("dag", "5"))).depends_on == {"5": ()}
        assert "5" in story.starts()


class TestIssues:
    def test_issue_joins_with_its_edges_title_agent_and_mark(self):
        story = lived()
        state = edited(story, put("dag", "new.1", value=["6", 1]))
        state["issues"].append("new.1")
        state["detail"]["new.1"] = {"title": "New", "agent": "demo", "held": True}
        edit = take(story, state)
        assert edit.issues == (
            PlannedIssue(id="new.1", title="New", depends_on=("6", "1"), agent="demo"),
        )
        issue = story.issue("new.1")
        assert (issue.status, issue.held) == (Status.BLOCKED, True)

    def test_issue_that_waits_for_nothing_is_ready_as_soon_as_it_joins(self):
        story = lived()
        take(story, edited(story, lambda state: state["issues"].append(7)))
        assert "7" in story.starts()

    def test_issue_may_join_as_completed(self):
        story = lived()
        state = edited(story, lambda state: state["issues"].append(7))
        state["status"]["7"] = "completed"
        take(story, state)
        assert story.issue("7").status is Status.COMPLETED

    @pytest.mark.parametrize("detail", [{"spent": 3}, {"title": 5}, {"held": "yes"}, {"agent": 1}])
    def test_issue_that_joins_with_what_it_cannot_have_is_refused(self, detail):
        story = lived()
        state = edited(story, lambda state: state["issues"].append(7))
        state["detail"]["7"] = detail
        assert f"detail.7.{next(iter(detail))}" in refusal(story, state).message

    def test_issue_taken_out_is_refused_with_what_does_that(self):
        story = lived()
        error = refusal(story, edited(story, lambda state: state["issues"].remove("6")))
        assert "an issue never leaves its batch" in error.message
        assert error.hint == "gangline cancel client 6"

    @pytest.mark.parametrize(
        ("ids", "words"),
        [
            (["6"], "issues names '6' twice"),
            ([6], "issues names '6' twice"),
            (["a", "A"], "issues names 'a' and 'A', which differ only in case"),
            (["../x"], "issue id '../x' may hold only letters"),
            (["-1"], "issue id '-1' may hold only letters"),
            ([-1], "issue id '-1' may hold only letters"),
            ([""], "issue id '' may hold only letters"),
            (["a.lock"], "issue id 'a.lock' may not end in '.' or '.lock'"),
            ([1.5], "Expected `int | str`, got `float` - at `$.issues[6]`"),
            ([None], "Expected `int | str`, got `null` - at `$.issues[6]`"),
            ([True], "Expected `int | str`, got `bool` - at `$.issues[6]`"),
        ],
    )
    def test_id_that_can_be_none_is_refused(self, ids, words):
        story = lived()
        error = refusal(story, edited(story, lambda state: state["issues"].extend(ids)))
        assert words in error.message


class TestDispatched:
    def test_retry_count_raised_is_spent(self):
        story = lived()
        take(story, edited(story, put("dispatched", "3", "retryCount", value=1)))
        assert state_of(story.batch)["dispatched"]["3"]["retryCount"] == 1
        story.ends("3", **DIED)
        assert story.issue("3").status is Status.FAILED

    @pytest.mark.parametrize("count", [0, -1, None, "2", 1.5, True, [], 0.0])
    def test_retry_count_lowered_or_no_count_is_refused_with_the_command(self, count):
        story = lived()
        change = put("dispatched", "4", "retryCount", value=count)
        if count is True:  # which Python takes for 1
            change = put("dispatched", "3", "retryCount", value=count)
        error = refusal(story, edited(story, change))
        assert "a count that never falls" in error.message
        assert "gangline retry client" in error.hint

    def test_retry_count_left_out_is_refused(self):
        story = lived()
        error = refusal(story, edited(story, drop("dispatched", "4", "retryCount")))
        assert "was changed from 1 to None" in error.message

    @pytest.mark.parametrize("pane", ["%8", None, "x"])
    def test_pane_of_an_attempt_of_ours_is_where_it_is(self, pane):
        story = lived()
        error = refusal(story, edited(story, put("dispatched", "3", "pane", value=pane)))
        assert error.message == "dispatched.3.pane was changed; it is where the attempt is"

    def test_pane_of_an_attempt_that_the_shell_started_may_be_corrected(self):
        story = foreign()
        take(story, edited(story, put("dispatched", "1", "pane", value="%9")))
        assert story.issue("1").attempts[-1].pane == "%9"

    @pytest.mark.parametrize("pane", ["9", "%", "%9 ; rm", "%9\n", 9])
    def test_pane_that_is_none_is_refused(self, pane):
        story = foreign()
        error = refusal(story, edited(story, put("dispatched", "1", "pane", value=pane)))
        assert "a tmux pane is written %3" in error.message

    @pytest.mark.parametrize(("name", "value"), [("attempt", 1), ("dispatchedAt", "now")])
    def test_what_is_ours_in_an_entry_is_refused(self, name, value):
        story = lived()
        error = refusal(story, edited(story, put("dispatched", "3", name, value=value)))
        assert error.message == f"dispatched.3.{name} was changed, which is Gangline's own"

    def test_entry_taken_away_from_an_issue_that_stays_dispatched_is_refused(self):
        story = lived()
        error = refusal(story, edited(story, drop("dispatched", "3")))
        assert error.message == "issue '3' is dispatched and has no entry in dispatched"

    def test_unknown_keys_of_an_entry_are_kept_changed_and_dropped_as_asked(self):
        story = lived()
        take(story, edited(story, put("dispatched", "3", "lastActivity", value=1)))
        take(story, edited(story, put("dispatched", "3", "note", value={"a": [True]})))
        assert story.issue("3").entry == {"lastActivity": 1, "note": {"a": [True]}}
        take(story, edited(story, drop("dispatched", "3", "lastActivity")))
        assert state_of(story.batch)["dispatched"]["3"]["note"] == {"a": [True]}
        assert "lastActivity" not in state_of(story.batch)["dispatched"]["3"]

    def test_edit_leaves_the_order_of_dispatch_as_it_is(self):
        story = Story({"1": (), "2": (), "3": ()})
        story.dispatch("3", "1", "2")
        take(story, edited(story, put("paused", value=True)))
        assert list(story.batch.dispatched) == ["3", "1", "2"]


OURS = ["area", "batchId", "policy", "format", "createdAt", "orchestratorPid", "source"]
OURS += ["baseCommit", "stoppedReason", "draining", "stop"]


class TestBatchAndDetail:
    @pytest.mark.parametrize("key", OURS)
    def test_key_of_ours_changed_or_taken_away_is_refused(self, key):
        story = lived()
        error = refusal(story, edited(story, put(key, value="other")))
        assert error.message == f"{key} was changed, which is Gangline's own"
        assert refusal(story, edited(story, drop(key))).message == f"{key} is missing"

    def test_policy_changed_says_where_the_rules_come_from(self):
        story = lived()
        error = refusal(story, edited(story, put("policy", "maxConcurrent", value=9)))
        assert "gangline.toml and the flags of run" in error.hint

    @pytest.mark.parametrize("key", ["issues", "dag", "status", "dispatched", "detail"])
    def test_part_of_the_specification_taken_away_is_refused(self, key):
        story = lived()
        assert f"missing required field `{key}`" in refusal(story, edited(story, drop(key))).message

    @pytest.mark.parametrize("key", ["seq", "updatedAt", "digest"])
    def test_what_is_written_anew_each_time_means_nothing(self, key):
        story = lived()
        assert take(story, edited(story, put(key, value="x"))) is None
        assert take(story, edited(story, drop(key))) is None

    @pytest.mark.parametrize(
        ("key", "value"), [("agent", None), ("orchestratorPane", None), ("paused", False)]
    )
    def test_key_of_the_batch_taken_away_is_taken_back(self, key, value):
        story = lived()
        take(story, edited(story, put("paused", value=True)))
        assert take(story, edited(story, drop(key))).batch == {key: value}
        assert state_of(story.batch)[key] == value

    @pytest.mark.parametrize(
        ("key", "value"),
        [("agent", 3), ("paused", "yes"), ("paused", 1), ("paused", None), ("orchestratorPane", 3)],
    )
    def test_value_of_another_kind_is_refused_with_its_path(self, key, value):
        story = lived()
        assert f"`$.{key}`" in refusal(story, edited(story, put(key, value=value))).message

    @pytest.mark.parametrize("pane", ["", "3", "%3;", "%3\n", "=x"])
    def test_orchestrator_pane_that_is_none_is_refused(self, pane):
        story = lived()
        error = refusal(story, edited(story, put("orchestratorPane", value=pane)))
        assert "a tmux pane is written %3" in error.message

    @pytest.mark.parametrize("name", ["attempts", "spent", "voids", "wish", "reason", "entry", "x"])
    def test_what_is_ours_in_a_detail_is_refused(self, name):
        story = lived()
        error = refusal(story, edited(story, put("detail", "4", name, value=["x"])))
        assert error.message == f"detail.4.{name} was changed, which is Gangline's own"

    def test_title_longer_than_any_source_may_have_is_refused(self):
        story = lived()
        error = refusal(story, edited(story, put("detail", "4", "title", value="x" * 10_001)))
        assert error.message.startswith("detail.4.title cannot be 'xxx")
        assert len(error.message) < 200

    @pytest.mark.parametrize("state", [None, [], "x", 3, True])
    def test_what_is_no_object_is_refused(self, state):
        assert refusal(lived(), state).message == "it is no JSON object"


class TestUnknownKeys:
    def test_true_and_1_are_not_the_same(self):
        story = lived(flag=1, deep={"a": [True]})
        take(story, edited(story, put("flag", value=True)))
        assert story.batch.extra["flag"] is True
        take(story, edited(story, put("deep", "a", value=[1])))
        assert story.batch.extra["deep"] == {"a": [1]}
        assert story.batch.extra["deep"]["a"][0] is not True

    def test_number_that_jq_only_rounded_is_kept_as_it_was(self):
        story = lived(big=12345678901234567890, whole=2.0)
        state = edited(story, put("big", value=12345678901234567168))
        state["whole"] = 2
        assert take(story, state) is None
        assert story.batch.extra == {"big": 12345678901234567890, "whole": 2.0}

    def test_they_come_and_go_as_asked(self):
        story = lived(note="x")
        take(story, edited(story, put("other", value=None)))
        assert story.batch.extra == {"note": "x", "other": None}
        take(story, edited(story, drop("note")))
        assert story.batch.extra == {"other": None}

    def test_they_outlive_everything_that_happens(self):
        story = lived(note={"mine": [1, "é"]})
        take(story, edited(story, put("dispatched", "3", "lastActivity", value="t")))
        story.ends("4", **DIED)
        story.batch = decode_state(snapshot(story.batch))
        story.dispatch("6")
        state = state_of(story.batch)
        assert state["note"] == {"mine": [1, "é"]}
        assert state["dispatched"]["3"]["lastActivity"] == "t"

    @pytest.mark.parametrize("kind", ["list", "object"])
    def test_nesting_deeper_than_can_be_read_again_is_refused(self, kind):
        def nested(levels):
            value = 1
            for _ in range(levels):
                value = [value] if kind == "list" else {"a": value}
            return value

        story = lived()
        error = refusal(story, edited(story, put("note", value=nested(NESTING_MAX))))
        assert error.message == f"it is nested more than {NESTING_MAX} levels deep"
        assert refusal(story, edited(story, put("note", value=nested(50_000)))).message
        edit = take(story, edited(story, put("note", value=nested(NESTING_MAX - 1))))
        stamped = msgspec.structs.replace(edit, seq=3, at=AT)
        assert decode_event(encode_event(stamped)[:-1]) == stamped


class TestOlderText:
    def later(self, *events):
        """A batch, what it was before these events, and its state then."""
        story = lived(note=1, gone=2)
        base = decode_state(snapshot(story.batch))
        story.record(*events)
        return story, base, state_of(base)

    def test_lag_is_no_edit(self):
        story, base, state = self.later(Held(issue="6"))
        assert take(story, state, base) is None
        assert story.issue("6").held

    def test_difference_is_put_onto_the_newest(self):
        story, base, state = self.later(Held(issue="6"), Edited(by="filter", extra={"theirs": 1}))
        state["mine"] = 2
        state["detail"]["6"]["title"] = "Six"
        take(story, state, base)
        assert story.batch.extra == {"note": 1, "gone": 2, "theirs": 1, "mine": 2}
        assert (story.issue("6").held, story.issue("6").title) == (True, "Six")

    @pytest.mark.parametrize(
        ("event", "change", "words"),
        [
            (
                Edited(by="filter", statuses={"6": Status.CANCELLED}),
                put("status", "6", value="completed"),
                "issue '6' was pending when it was edited and is cancelled by now",
            ),
            (
                Edited(by="filter", depends_on={"6": ("1",)}),
                put("dag", "6", value=["2"]),
                "the dependencies of issue '6' have changed since",
            ),
            (
                Edited(by="filter", details={"6": {"title": "theirs"}}),
                put("detail", "6", "title", value="mine"),
                "detail.6.title has changed since it was edited",
            ),
            (
                Edited(by="filter", entries={"3": {"a": 1}}),
                put("dispatched", "3", "a", value=2),
                "the dispatch of issue '3' has changed since it was edited",
            ),
            (Edited(by="filter", extra={"note": 5}), put("note", value=6), "note has changed"),
            (Edited(by="filter", dropped=("note",)), put("note", value=6), "note has changed"),
            (Edited(by="filter", extra={"new": None}), put("new", value=6), "new has changed"),
            (Edited(by="filter", extra={"gone": 5}), drop("gone"), "gone has changed"),
            (
                Edited(by="filter", batch={"agent": "theirs"}),
                put("agent", value="mine"),
                "agent has changed since it was edited",
            ),
            (
                Edited(by="add", issues=(PlannedIssue(id=7),)),
                lambda state: state["issues"].append("7"),
                "issue '7' has joined the batch meanwhile",
            ),
            (
                Edited(by="filter", depends_on={"1": ("6",)}),
                put("dag", "6", value=["1"]),
                "the dependencies form a cycle",
            ),
        ],
    )
    def test_conflict_is_refused_whole(self, event, change, words):
        story, base, state = self.later(event)
        change(state)
        state["harmless"] = 1
        assert words in refusal(story, state, base).message

    def test_status_of_an_attempt_that_ended_meanwhile_is_a_conflict(self):
        story, base, state = self.later()
        story.ends("3", **exited(0))
        state["status"]["3"] = "failed"
        error = refusal(story, state, base)
        assert (
            error.message == "issue '3' was dispatched when it was edited and is completed by now"
        )

    def test_issue_that_joins_keeps_its_mark_although_the_text_is_old(self):
        story, base, state = self.later(Held(issue="6"))
        state["issues"].append(7)
        state["detail"]["7"] = {"held": True}
        take(story, state, base)
        assert story.issue("7").held
