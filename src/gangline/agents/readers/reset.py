"""When a usage limit ends, from the text in which an agent says it.

Used where no structured event gives the time. Imported only when a limit was hit, so it may use
what the runner otherwise goes without.
"""

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo

_MONTHS = (
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
)  # fmt: skip
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
# A time that has just passed is the reset that was meant: the text has minutes only, and reading
# it took a moment. Waiting until tomorrow would be the costly mistake.
_JUST_PASSED = timedelta(minutes=2)

_EPOCH = re.compile(r"(?:\||reset\w*\W+(?:at\W+)?)(\d{10}|\d{13})\b", re.IGNORECASE)
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[t ](\d\d):(\d\d)(?::(\d\d))?(?:\.\d+)?\s*(z|utc|[+-]\d\d:?\d\d)?",
    re.IGNORECASE,
)
_IN = re.compile(
    r"\b(?:in|after)\s+(?:about\s+)?"
    r"((?:\d+(?:\.\d+)?\s*(?:days?|hours?|hrs?|minutes?|mins?|seconds?|secs?|[dhms])\b[\s,]*(?:and\s+)?"
    r"|\d+(?:\.\d+)?[dhms])+)",
    re.IGNORECASE,
)
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms])", re.IGNORECASE)
_CLOCK = re.compile(
    r"(?:resets?|try again|retry|available|until|back)\b(?:\s+(?:again|at|on))*\s+"
    rf"(?:(?P<day>{'|'.join(_DAYS)})[a-z]*,?\s+)?"
    rf"(?:(?P<month>{'|'.join(_MONTHS)})[a-z]*\.?\s+(?P<date>\d{{1,2}})(?:st|nd|rd|th)?,?\s+"
    r"(?:(?P<year>\d{4}),?\s+)?)?"
    r"(?:at\s+)?(?P<hour>\d{1,2})(?::(?P<minute>\d\d))?(?::\d\d)?\s*(?P<half>[ap]\.?m\b)?"
    r"\.?\s*(?:\(?(?P<zone>utc|gmt|z\b|[a-z_]+/[a-z_/+-]+)\)?)?",
    re.IGNORECASE,
)  # fmt: skip


def parse_reset(text: str, now_epoch: float, local_offset: float) -> float | None:
    """The epoch second at which a limit ends, or None where the text does not say.

    Understood: `…reached|1764300000`, ISO times, `in 2 hours 5 minutes`, `after 5h32m`, and clock
    times after "resets" or "try again at", with or without a date, a year, a weekday and a zone
    (`11:25am (UTC)`, `Dec 29th, 2025 10:15 PM`). A clock time without a date that has passed
    today is tomorrow's.

    Args:
        text: What the agent printed.
        now_epoch: The time at which it was read.
        local_offset: Seconds that the local zone is ahead of UTC; used where no zone is named, and
            where the named one is not known here.
    """
    text = text[:4000].replace("\u202f", " ").replace("\xa0", " ")
    try:
        now = datetime.fromtimestamp(now_epoch, UTC)
        local = timezone(timedelta(seconds=round(local_offset)))
        found = _epoch(text) or _iso(text, local) or _span(text, now) or _clock(text, now, local)
    except (ValueError, OverflowError, OSError):  # the 31st of June, the year 9999
        return None
    return found.timestamp() if found else None


def _epoch(text: str) -> datetime | None:
    match = _EPOCH.search(text)
    if match is None:
        return None
    return datetime.fromtimestamp(int(match[1][:10]), UTC)


def _iso(text: str, local: tzinfo) -> datetime | None:
    match = _ISO.search(text)
    if match is None:
        return None
    *figures, second, zone = match.groups()
    year, month, day, hour, minute = map(int, figures)
    where: tzinfo = local
    if zone and zone[0] not in "+-":
        where = UTC
    elif zone:
        ahead = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
        where = timezone(-ahead if zone[0] == "-" else ahead)
    return datetime(year, month, day, hour, minute, int(second or 0), tzinfo=where)


def _span(text: str, now: datetime) -> datetime | None:
    match = _IN.search(text)
    if match is None:
        return None
    seconds = sum(float(number) * _UNITS[unit.lower()] for number, unit in _PART.findall(match[1]))
    return now + timedelta(seconds=seconds)


def _clock(text: str, now: datetime, local: tzinfo) -> datetime | None:
    for match in _CLOCK.finditer(text):
        if match["half"] is None and match["minute"] is None:
            continue  # a bare number is no time of day
        hour = int(match["hour"])
        if match["half"]:
            hour = hour % 12 + (12 if match["half"][0] in "pP" else 0)
        here = now.astimezone(_zone(match["zone"], local))
        found = here.replace(hour=hour, minute=int(match["minute"] or 0), second=0, microsecond=0)
        return _on_its_day(found, here, match)
    return None


def _on_its_day(found: datetime, here: datetime, match: "re.Match[str]") -> datetime:
    if match["month"]:
        found = found.replace(
            year=int(match["year"] or here.year),
            month=_MONTHS.index(match["month"].lower()) + 1,
            day=int(match["date"]),
        )
        if match["year"] is None and here - found > timedelta(days=180):
            found = found.replace(year=found.year + 1)
        return found
    if match["day"]:
        found += timedelta(days=(_DAYS.index(match["day"].lower()) - here.weekday()) % 7)
        return found if here - found <= _JUST_PASSED else found + timedelta(days=7)
    return found if here - found <= _JUST_PASSED else found + timedelta(days=1)


def _zone(name: str | None, local: tzinfo) -> tzinfo:
    if not name:
        return local
    if "/" not in name:
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - seldom needed

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return local
