"""The `gangline` command itself and what its commands share."""

from collections.abc import Callable
from typing import Any

import click

from gangline import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="gangline %(version)s")
def cli() -> None:
    """Run a batch of issues on coding agents in tmux panes and git worktrees.

    Whatever dies, the next `gangline run` resumes exactly: nothing is lost, nothing runs twice.
    """


AREA = click.argument("area")
ISSUE = click.argument("issue")


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--assignee", metavar="LOGIN", help="GitHub: only issues of this login; @me is you."
        ),
        click.option(
            "--label", "labels", metavar="NAME", multiple=True, help="GitHub: only with this label."
        ),
        click.option("--only", metavar="ID,...", help="Only these issues and what they depend on."),
        click.option(
            "--max-concurrent", type=click.IntRange(1, 1000), metavar="N", help="Agents at once."
        ),
        click.option("--agent", metavar="NAME", help="The agent of issues that name none."),
        click.option(
            "--from", "source", metavar="SRC", help="Folder, plan file, or github[:owner/repo]."
        ),
    ):
        command = option(command)
    return command
