"""What agents use up, and the limits on it: tokens, money, minutes.

Figures come from what an agent says of itself, so an agent that says nothing is held by its minutes
alone. They are added up over the attempts of an issue, and over the issues of a batch.
"""

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """What was used up.

    Attributes:
        input_tokens: Tokens read by the model, those from a cache among them.
        output_tokens: Tokens written by it.
        cost_usd: US dollars, as the agent says it; None if it does not say.
        seconds: How long the attempt lived, by the boot clock.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    seconds: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        costs = [cost for cost in (self.cost_usd, other.cost_usd) if cost is not None]
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cost_usd=sum(costs) if costs else None,
            seconds=self.seconds + other.seconds,
        )


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """How much may be used up; None is no limit. Tokens are those read and written together."""

    cost_usd: float | None = None
    tokens: float | None = None
    minutes: float | None = None


NO_LIMITS = Limits()


def used_up(usage: Usage, limits: Limits) -> str | None:
    """What of the limits is used up, in words; None while nothing is."""
    tokens = usage.input_tokens + usage.output_tokens
    if limits.cost_usd is not None and (usage.cost_usd or 0.0) >= limits.cost_usd:
        return f"${usage.cost_usd or 0.0:.2f} of ${limits.cost_usd:.2f}"
    if limits.tokens is not None and tokens >= limits.tokens:
        return f"{tokens:,} of {limits.tokens:,.0f} tokens"
    if limits.minutes is not None and usage.seconds >= limits.minutes * 60:
        return f"{usage.seconds / 60:.0f} of {limits.minutes:g} minutes"
    return None
