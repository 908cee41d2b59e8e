"""What agents say (`done`, `fail`, `ask`) and what is said to them (`send`)."""

import os
import sys
from typing import NoReturn

import click

from gangline.cli.group import AREA, ISSUE, cli
from gangline.cli.lines import say
from gangline.core.policy import DONE_GRACE_SECONDS
from gangline.errors import EXIT_OK, UsageError

# What an agent asks may begin with a dash; it is no option of ours.
_FREE_TEXT = {"ignore_unknown_options": True}
_END_NOW = f"end your work now: what still runs in {DONE_GRACE_SECONDS:.0f} s is ended"


@cli.command()
def done() -> int:
    """Say, as an agent, that the issue is done."""
    from gangline.app import commands, telling  # noqa: PLC0415 - only for these
    from gangline.hosts.clock import SystemClock  # noqa: PLC0415 - same

    by, now = telling.speaker(os.environ), SystemClock().now()
    telling.say_of_itself(by, lambda b: commands.agent_done(b, by.issue, by.attempt_id, now))
    say(f"recorded: #{by.issue} is done; {_END_NOW}")
    return EXIT_OK


@cli.command(context_settings=_FREE_TEXT)
@click.argument("reason", nargs=-1, required=True)
def fail(reason: tuple[str, ...]) -> int:
    """Say, as an agent, that the issue cannot be done, and why."""
    from gangline.app import commands, telling  # noqa: PLC0415 - only for these
    from gangline.hosts.clock import SystemClock  # noqa: PLC0415 - same

    text = " ".join(reason)
    by, now = telling.speaker(os.environ), SystemClock().now()
    telling.say_of_itself(
        by, lambda b: commands.agent_failed(b, by.issue, by.attempt_id, text, now)
    )
    say(f"recorded: #{by.issue} has failed; {_END_NOW}")
    return EXIT_OK


@cli.command(context_settings=_FREE_TEXT)
@click.argument("question", nargs=-1, required=True)
def ask(question: tuple[str, ...]) -> int:
    """Ask a person something, as an agent; nothing is stopped by it."""
    from gangline.app import telling  # noqa: PLC0415 - only for these

    telling.ask(telling.speaker(os.environ), " ".join(question))
    say(
        "the question is shown to the person; you may go on with what does not depend on it. "
        "The answer comes as your next turn"
    )
    return EXIT_OK


@cli.command(context_settings=_FREE_TEXT)
@AREA
@ISSUE
@click.argument("text", nargs=-1, required=True)
def send(area: str, issue: str, text: tuple[str, ...]) -> int:
    """Say something to an issue's agent.

    It is typed where the agent has a terminal of its own; else it is the agent's next turn. TEXT -
    is read from standard input.
    """
    from gangline.app.commands import TEXT_BYTES_MAX  # noqa: PLC0415 - only here
    from gangline.app.telling import tell  # noqa: PLC0415 - only here

    words = _standard_input(TEXT_BYTES_MAX) if text == ("-",) else " ".join(text)
    told = tell(area, issue, words)
    key = told.issue.key
    if told.pane is not None:
        say(f"typed into pane {told.pane} of #{key}")
        return EXIT_OK
    if told.issue.status.value == "dispatched":
        way = "it goes with its next turn, when the present one has ended"
    else:
        way = f"it goes with its {'next' if told.issue.attempts else 'first'} prompt"
    say(f"recorded for #{key}: {way}")
    if not told.alive:
        say(f"no orchestrator is running; it goes on with: gangline run {area}")
    return EXIT_OK


def _standard_input(limit: int) -> str:
    data = sys.stdin.buffer.read(limit + 1)
    if len(data) > limit:
        _refuse(f"the message has more than {limit:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        _refuse("the message is not UTF-8 text")


def _refuse(message: str) -> NoReturn:
    raise UsageError(message, place="standard input")
