"""How issues stand, in words: conditions, what is asked of a person, what was used up.

`status`, the live view, the lines of `run` and the summary say it alike, so it is said here. It
imports nothing that is slow: `status` is asked often.
"""

from gangline.app.views import until_words
from gangline.core.text import harmless, one_line

_TEXT_CELLS = 200

TYPE_CHECKING = False  # importing `typing` costs 3 ms
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


def count_words(count: float) -> str:
    """A number of tokens as `812`, `41.2k`, `3.10M`."""
    if count < 1000:
        return f"{count:.0f}"
    return f"{count / 1000:.1f}k" if count < 999_950 else f"{count / 1e6:.2f}M"


def usage_words(usage: "Mapping[str, Any] | None") -> str:
    """`41.2k in, 3.1k out, $0.84`, as far as an agent said; "" if none said anything.

    Args:
        usage: `usage` of a view (app/views.py).
    """
    if not usage:
        return ""
    parts = []
    if usage["inputTokens"] or usage["outputTokens"]:
        parts.append(f"{count_words(usage['inputTokens'])} in")
        parts.append(f"{count_words(usage['outputTokens'])} out")
    if usage["costUsd"] is not None:
        parts.append(f"${usage['costUsd']:.2f}")
    return ", ".join(parts)


def condition_words(
    condition: str, text: str | None, until: float | None, now: float, *, asked: bool
) -> str:
    """How a dispatched issue stands when it does not work, in one line."""
    said = one_line(text, _TEXT_CELLS) if text else ""
    if condition == "limited":
        when = until_words(until, now)
        return f"limited {when}".rstrip() + (f": {said}" if said else "")
    word = "asks" if asked else condition
    return f"{word}: {said}" if said else word


def answer_command(area: str, key: str) -> str:
    """How a person answers what an agent asks."""
    return f'gangline send {area} {key} "…"'


def stall_commands(area: str, key: str) -> list[str]:
    """What a person can do about an agent that does not move; nothing of it is done unasked."""
    return [f"gangline {verb} {area} {key}" for verb in ("attach", "logs", "retry", "skip")]


def open_questions(view: "Mapping[str, Any]") -> list[str]:
    """What is asked of a person, in full and harmless, each with the commands that answer it."""
    lines: list[str] = []
    for issue in view["issues"]:
        text, key, area = issue["question"] or "", str(issue["id"]), view["area"]
        if issue["condition"] == "stalled":
            lines += _indented(f"#{key} stalled: {text}")
            lines.append(f"    {' | '.join(stall_commands(area, key))}")
        elif issue["condition"] == "needs-input" and text:
            lines += _indented(f"#{key} {'asks' if issue['asked'] else 'needs you'}: {text}")
            look = f"gangline attach {area} {key}"
            answers = [answer_command(area, key), look] if issue["asked"] else [look]
            lines.append(f"    {' | '.join(answers)}")
    return lines


def _indented(text: str) -> list[str]:
    first, *rest = harmless(text.strip(), keep="\n").split("\n")
    return [first, *(f"    {line}" for line in rest)]


def budget_words(used: "Sequence[Mapping[str, Any]]", budget: "Mapping[str, Any]") -> str | None:
    """That the batch's budget is used up, and the setting that lets it go on; None while it is not.

    Args:
        used: `usage` of the attempts that are over.
        budget: `budget` of the view.
    """
    from gangline.core.usage import Limits, Usage, used_up  # noqa: PLC0415 - msgspec takes 20 ms

    costs = [usage["costUsd"] for usage in used if usage["costUsd"] is not None]
    total = Usage(
        input_tokens=sum(usage["inputTokens"] for usage in used),
        output_tokens=sum(usage["outputTokens"] for usage in used),
        cost_usd=sum(costs) if costs else None,
        seconds=sum(usage["seconds"] for usage in used),
    )
    for setting, limits in (
        ("batch_cost_usd", Limits(cost_usd=budget["costUsd"])),
        ("batch_tokens", Limits(tokens=budget["tokens"])),
        ("batch_minutes", Limits(minutes=budget["minutes"])),
    ):
        words = used_up(total, limits)
        if words is not None:
            return (
                f"the budget of the batch is used up ({words}), so nothing new is dispatched; "
                f"raise [budget] {setting} in gangline.toml"
            )
    return None
