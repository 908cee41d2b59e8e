"""What kind of failure an error text speaks of, and whether it is the service's usage limit.

Only texts that an agent gives as errors are looked at, never what it says of its work: an agent
that repairs a rate limiter speaks of limits all day.
"""

# Each group is tried in order; the first whose any phrase is in the text names the kind. Phrases
# are lower case, with straight apostrophes. Their sources are the programs' own messages.
_KINDS = (
    ("session-in-use", ("already in use", "session_held_by_background")),
    (
        "no-session",
        (
            "no conversation found", "no rollout found", "session not found", "no saved session",
            "no session found", "thread not found", "invalid session", "unknown session",
            "error resuming session",
        ),
    ),
    (
        "auth",
        (
            "authentication", "unauthorized", "not authenticated", "invalid api key",
            "incorrect api key", "api key is", "api_key", "please run /login", "not logged in",
            "log in again", "please login", "please log in", "invalid bearer token",
            "oauth token", "auth method", "no auth", "not able to authenticate",
            "could not refresh your access token", "could not resolve authentication",
        ),
    ),
    (
        "permission",
        (
            "permission denied by", "rejected permission", "denied permission", "tool call denied",
            "requested permissions", "auto-rejecting", "requires approval", "declined by",
        ),
    ),
    (
        "api",
        (
            "api error", "apierror", "overloaded", "rate limit", "ratelimit", "too many requests",
            "internal server error", "unexpected status", "bad gateway", "service unavailable",
            "stream disconnected", "stream error", "connection error", "connection refused",
            "econnrefused", "econnreset", "fetch failed", "network error", "timed out", "timeout",
            "credit balance", "insufficient_quota", "exceeded your current quota", "api provider",
            "unable to connect", "error sending request", "status code", "exceeded retry limit",
            "at capacity", "high demand",
        ),
    ),
)  # fmt: skip
_AUTH_STATUSES = ("401", "403")
_LOGIN_PHRASES = (
    "visit the following url", "enter the authorization code", "login/device",
    "open this url", "waiting for authorization", "to authenticate, visit",
)  # fmt: skip
_LOOKED_AT = 4000


def kind_of(text: str) -> str:
    """The kind of failure that an error text speaks of; `error` where it names none."""
    text = _plain(text)
    if is_usage_limit(text):
        return "limit"
    numbers = "".join(letter if letter.isalnum() else " " for letter in text).split()
    for kind, phrases in _KINDS:
        if kind == "auth" and any(status in numbers for status in _AUTH_STATUSES):
            return kind
        if any(phrase in text for phrase in phrases):
            return kind
    return "error"


def kind_of_status(status: int) -> str:
    """The kind of failure that an HTTP status of the model's service stands for."""
    return "auth" if status in {401, 403} else "api" if status >= 400 else "error"


def is_usage_limit(text: str) -> bool:
    """Whether an error text says that the account's allowance is used up for a time.

    A 429 that only says "too many requests" is not it: that passes by itself in seconds.
    """
    text = _plain(text)
    if "usage limit" in text or "usage_limit_reached" in text:
        return True
    if "limit" in text and ("hit your" in text or "reached your" in text):
        return True
    if "limit reached" in text and "reset" in text:
        return True
    if "out of extra usage" in text or "free daily quota" in text or "daily limit" in text:
        return True
    ends = ("will reset", "resets", "daily", "weekly", "monthly")
    return "quota" in text and any(word in text for word in ends)


def asks_for_login(text: str) -> bool:
    """Whether a line asks a person to log in, and will wait for it."""
    text = _plain(text)
    return any(phrase in text for phrase in _LOGIN_PHRASES)


def _plain(text: str) -> str:
    return text[:_LOOKED_AT].replace("\u2019", "'").lower()
