"""Whether an attempt goes on with a session, and what its agent is told."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "core"))

from core_builders import DIED, VOID, Story, exited

from gangline.agents.registry import Agent, AgentConfig, command_agent, find_agent
from gangline.app.resuming import SessionPlan, plan_session, prompt_of
from gangline.core.events import Dispatched, Sent
from gangline.core.evidence import Progress

FIRST = "Title\n\nDo it.\n"


def agent(name: str = "claude") -> Agent:
    return find_agent(name, {}, "test")


def dispatched(story: Story, name: str = "claude", **more: object) -> None:
    number = len(story.issue().attempts)
    story.record(
        Dispatched(
            issue="1",
            attempt=number,
            mark=f"m{number}",
            retry=0,
            boot_id=story.now.boot_id,
            boot_seconds=story.now.boot_seconds,
            agent=name,
            **more,
        )
    )


def after(seen: dict, name: str = "claude", session: str | None = "abc", **more: object) -> Story:
    story = Story()
    dispatched(story, name, session=session)
    story.ends(**seen, **more)
    return story


def test_first_attempt_has_a_session_of_ours_where_the_agent_takes_one():
    story = Story()
    plan = plan_session(story.issue(), agent())
    assert (len(plan.session), plan.resumed, plan.afresh) == (36, False, None)
    assert plan_session(story.issue(), agent("codex")).session == ""
    assert prompt_of(story.issue(), plan, FIRST) == FIRST


def test_death_is_gone_on_from_in_its_session_with_a_warning_to_look_first():
    story = after(DIED, progress=Progress(session="abc"))
    plan = plan_session(story.issue(), agent())
    assert (plan.session, plan.resumed) == ("abc", True)
    told = prompt_of(story.issue(), plan, FIRST)
    assert "You were cut off: its runner was killed" in told
    assert "git status" in told
    assert FIRST.strip() not in told, "the session has the issue's text"


@pytest.mark.parametrize(
    ("before", "now", "why"),
    [
        ("codex", "claude", "its agent was codex"),
        ("aider", "aider", "aider cannot go on with a session"),
        ("gemini", "gemini", "gemini cannot go on with a session"),
    ],
)
def test_where_it_cannot_go_on_it_starts_afresh_and_says_why(before, now, why):
    story = after(DIED, before)
    plan = plan_session(story.issue(), agent(now))
    assert (plan.resumed, plan.afresh) == (False, why)
    told = prompt_of(story.issue(), plan, FIRST)
    assert told.startswith(FIRST.strip())
    assert "An earlier attempt at this issue has ended" in told


def test_session_that_was_never_seen_is_not_gone_on_with():
    story = after(DIED, "codex", None, progress=Progress())
    assert (
        plan_session(story.issue(), agent("codex")).afresh == "the id of its session was never seen"
    )
    story = after(DIED, "claude", "abc", progress=Progress())
    assert plan_session(story.issue(), agent()).afresh == "the id of its session was never seen"


@pytest.mark.parametrize("session", ["-rf", "a b", "x" * 500])
def test_session_that_could_be_an_option_is_none(session):
    story = after(DIED, "codex", None, progress=Progress(session=session))
    plan = plan_session(story.issue(), agent("codex"))
    assert (plan.resumed, plan.afresh) == (False, "the id of its session cannot be used")


def test_what_a_person_said_goes_with_the_next_turn_of_the_session():
    story = Story()
    dispatched(story, session="abc")
    story.record(Sent(issue="1", text="Use tabs."))
    story.ends(**exited(0), progress=Progress(session="abc"))
    plan = plan_session(story.issue(), agent())
    assert plan.resumed
    told = prompt_of(story.issue(), plan, FIRST)
    assert told.startswith("A person says:\n\nUse tabs.")
    assert "cut off" not in told


def test_what_was_said_before_the_first_attempt_goes_with_its_prompt():
    story = Story()
    story.record(Sent(issue="1", text="Use tabs."))
    told = prompt_of(story.issue(), plan_session(story.issue(), agent()), FIRST)
    assert told == "Title\n\nDo it.\n\nA person says:\n\nUse tabs.\n"


def test_failure_that_is_tried_again_starts_anew():
    story = after(exited(1), progress=Progress(session="abc"))
    plan = plan_session(story.issue(), agent())
    assert (plan.session == "abc", plan.resumed, plan.afresh) == (False, False, None)


def test_plain_command_has_no_session_and_nothing_to_say_of_it():
    story = after(DIED, "command", None)
    plan = plan_session(story.issue(), command_agent(("make",)))
    assert plan == ("", False, None)


def test_own_agent_with_a_session_in_its_command_is_resumed():
    own = {"mine": AgentConfig(start=("m", "{session}"), resume=("m", "-c", "{session}"))}
    story = after(DIED, "mine", "abc")
    assert plan_session(story.issue(), find_agent("mine", own, "test")).resumed


def test_session_that_was_gone_is_not_tried_again_whatever_is_said_since():
    story = Story()
    dispatched(story, session="abc", resumed=True)
    gone = Progress(failure="gone", failure_kind="no-session", session="abc")
    story.ends(**exited(1), progress=gone)
    story.record(Sent(issue="1", text="mind the gap"))
    plan = plan_session(story.issue(), agent())
    assert not plan.resumed
    assert plan.afresh == "its session is not there any more"


@pytest.mark.parametrize(
    ("seen", "is_told_again"),
    [
        (DIED, True),
        (DIED | {"progress": Progress()}, None),  # it has no session to go on with
        (DIED | {"progress": Progress(session="abc")}, False),
        (exited(1), False),
    ],
)
def test_what_was_said_to_one_that_was_never_heard_of_is_said_again(seen, is_told_again):
    story = Story()
    dispatched(story, session="abc")
    story.record(Sent(issue="1", text="Use tabs."))
    story.ends(**exited(0), progress=Progress(session="abc"))
    dispatched(story, session="abc", resumed=True, messages=1)
    story.record(Sent(issue="1", text="No, spaces."))
    story.ends(**seen)
    plan = plan_session(story.issue(), agent())
    told = prompt_of(story.issue(), plan, FIRST)
    assert plan.resumed is (is_told_again is not None)
    assert ("Use tabs." in told) is (is_told_again is not False)
    assert told.count("No, spaces.") == 1
    assert told.find("Use tabs.") < told.find("No, spaces.")


def test_all_that_was_said_in_vain_is_said_again_up_to_the_last_that_was_heard_of():
    story = Story()
    story.record(Sent(issue="1", text="say a"))
    for following, seen in (("b", exited(0)), ("c", DIED), ("d", DIED)):
        dispatched(story, session="abc", resumed=following != "b", messages=1)
        story.record(Sent(issue="1", text=f"say {following}"))
        story.ends(**seen)
        dispatched(story, session="abc", resumed=True)
        story.ends(**VOID)  # never ran, and is passed over
    told = prompt_of(story.issue(), SessionPlan("abc", True, None), FIRST)
    assert [text for text in "abcd" if f"say {text}" in told] == ["b", "c", "d"]


def test_whoever_starts_afresh_is_told_what_was_said_to_those_before():
    story = Story()
    story.record(Sent(issue="1", text="mind the gap"))
    dispatched(story, "aider", messages=1)
    story.ends(**DIED)
    assert "mind the gap" in prompt_of(story.issue(), SessionPlan("", False, None), FIRST)
    assert "mind the gap" not in prompt_of(story.issue(), SessionPlan("s", True, None), FIRST)
