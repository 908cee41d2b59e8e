"""The time at which a usage limit ends, from each way in which an agent says it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gangline.agents.readers.reset import parse_reset

NOW = datetime(2026, 11, 28, 9, 0, tzinfo=UTC)  # a Saturday
HOUR = 3600


def told(text: str, local_offset: float = 0, now: datetime = NOW) -> datetime | None:
    found = parse_reset(text, now.timestamp(), local_offset)
    return None if found is None else datetime.fromtimestamp(found, UTC)


@pytest.mark.parametrize(
    ("text", "month", "day", "hour", "minute"),
    [
        ("You've hit your session limit · resets 11:25am (UTC)", 11, 28, 11, 25),
        ("You've hit your 5-hour limit · resets 1pm (UTC)", 11, 28, 13, 0),
        ("5-hour limit reached ∙ resets 12am (UTC)", 11, 29, 0, 0),
        ("Weekly limit reached ∙ resets Dec 1, 3pm (UTC)", 12, 1, 15, 0),
        ("resets Nov 30 at 9am (America/New_York)", 11, 30, 14, 0),
        ("resets 2pm (Asia/Shanghai)", 11, 29, 6, 0),
        ("resets Monday 3pm (UTC)", 11, 30, 15, 0),
        ("resets Sat 10am (UTC)", 11, 28, 10, 0),
        ("resets Sat 8am (UTC)", 12, 5, 8, 0),
        ("or try again at 11:26 AM.", 11, 28, 11, 26),
        ("or try again at 11:26\u202fAM.", 11, 28, 11, 26),
        ("or try again at Dec 29th, 2026 10:15 PM.", 12, 29, 22, 15),
        ("Please try again in 2 hours 5 minutes.", 11, 28, 11, 5),
        ("try again in 3 days 2 hours", 12, 1, 11, 0),
        ("Your quota will reset after 5h32m0s.", 11, 28, 14, 32),
        ("limit reset at 2026-11-28T12:30:00Z", 11, 28, 12, 30),
        ("limit reset at 2026-11-28 12:30:00+02:00", 11, 28, 10, 30),
    ],
)
def test_each_way_of_saying_it(text, month, day, hour, minute):
    assert told(text) == datetime(2026, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize("mark", ["|1795866360", "|1795866360000", " resets 1795866360"])
def test_an_epoch_in_the_text_is_taken_as_it_is(mark):
    found = parse_reset(f"Claude AI usage limit reached{mark}", NOW.timestamp(), 5 * HOUR)
    assert found == 1795866360


def test_no_zone_is_the_local_one():
    assert told("try again at 11:26 AM.", 2 * HOUR) == datetime(2026, 11, 28, 9, 26, tzinfo=UTC)


def test_an_unknown_zone_is_the_local_one():
    assert told("resets 11:26am (Moon/Base)", 2 * HOUR) == told("resets 11:26am", 2 * HOUR)


def test_a_time_that_has_passed_today_is_tomorrows():
    assert told("try again at 8:30 AM.") == datetime(2026, 11, 29, 8, 30, tzinfo=UTC)


def test_today_is_the_day_of_the_zone_not_of_utc():
    late = datetime(2026, 11, 28, 23, 30, tzinfo=UTC)  # 08:30 of the 29th in Seoul
    assert told("resets 9am", 9 * HOUR, late) == datetime(2026, 11, 29, 0, 0, tzinfo=UTC)


def test_a_time_that_has_just_passed_is_now_and_not_tomorrow():
    read = NOW + timedelta(seconds=40)
    assert told("try again at 9:00 AM.", now=read) == NOW


def test_a_date_without_a_year_that_is_long_past_is_next_years():
    assert told("resets Jan 2, 3pm (UTC)") == datetime(2027, 1, 2, 15, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "", "usage limit reached", "3 failed in 5 files", "try again at some time",
        "resets Feb 30, 3pm", "resets 25:61", "resets 5", "limit reset at 2026-13-40T99:00:00Z",
        "try again at 99:99 PM",
    ],
)  # fmt: skip
def test_what_names_no_time_gives_none(text):
    assert told(text) is None


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from([
            "resets ", "try again at ", "in ", "11:25", "am", " PM", "(UTC)", " Dec 29th, ",
            "2026 ", "|", "9" * 13, "99", "h", " days", "/", "-", "T", ":", "Mon ", "(a/b)",
            "\u0130", "\x00",
        ])
    )
)  # fmt: skip
def test_no_text_raises(parts):
    found = parse_reset("".join(parts), NOW.timestamp(), 0)
    assert found is None or found > 0


def test_the_longest_text_takes_no_time():
    for part in ("resets ", "in 5 days ", "1 ", "try again at again at ", "9"):
        told(part * 100_000)
