"""The commands that only look: status, list, logs, attach, recover, agents, doctor, history …"""

import os
import sys

import click

from gangline.app.wiring import Project
from gangline.cli.group import AREA, ISSUE, cli
from gangline.cli.lines import say, say_json
from gangline.cli.show import graph_text, list_text
from gangline.cli.status import show_status, view_of
from gangline.errors import EXIT_OK, GanglineError, UsageError
from gangline.store.area import areas

_LIST_KEYS = ("area", "batchId", "revision", "orchestrator", "counts")


@cli.command()
@click.argument("area", required=False)
@click.option("--json", "as_json", is_flag=True, help="Stable, for scripts.")
def status(area: str | None, *, as_json: bool) -> int:
    """Show a batch: each issue, its attempts, what it waits for."""
    if area is None:
        known = areas(Project().workspace)
        if len(known) != 1:
            raise UsageError(
                "no area is named",
                hint=f"gangline status {known[0]}" if known else "gangline run AREA --from SRC",
            )
        area = known[0]
    return show_status(area, as_json=as_json)


@cli.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Stable, for scripts.")
def list_areas(*, as_json: bool) -> int:
    """Show every area that has a batch."""
    code, views = EXIT_OK, []
    for area in areas(Project().workspace):
        try:
            view = view_of(area)
            views.append({key: view[key] for key in _LIST_KEYS})
        except GanglineError as error:  # one that is damaged does not hide the others
            code = error.exit_code
            views.append({"area": area, "error": error.message})
    if as_json:
        say_json(views)
    else:
        say(list_text(views) if views else "no area has a batch")
    return code


@cli.command()
@AREA
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "dot", "json"]),
    default="text",
    help="For a terminal (the default), a Markdown page, Graphviz or a script.",
)
def graph(area: str, form: str) -> int:
    """Show the dependencies of a batch."""
    view = view_of(area)
    if form == "json":
        nodes = [{k: i[k] for k in ("id", "title", "status", "dependsOn")} for i in view["issues"]]
        say_json({"area": view["area"], "issues": nodes})
    else:
        say(graph_text(view, form))
    return EXIT_OK


@cli.command()
@AREA
@ISSUE
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows, until the attempt ends.")
@click.option(
    "--attempt", type=click.IntRange(0), metavar="N", help="This attempt, not the newest."
)
def logs(area: str, issue: str, *, follow: bool, attempt: int | None) -> int:
    """Print what an issue's agent printed."""
    from gangline.cli.logs import print_log  # noqa: PLC0415 - only here

    return print_log(area, issue, follow=follow, number=attempt)


@cli.command()
@AREA
@click.argument("issue", required=False)
def attach(area: str, issue: str | None) -> int:
    """Go to the tmux window of an issue, or to the area's session."""
    from gangline.app.detaching import attach_command  # noqa: PLC0415 - only here

    argv, environment = attach_command(area, issue)
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal to show the window in",
            hint=f"gangline logs {area} {issue}" if issue else f"gangline status {area}",
        )
    os.execvpe(argv[0], argv, environment)


@cli.command()
@AREA
@click.option("--plan", is_flag=True, help="Required: nothing is done, only said.")
@click.option("--json", "as_json", is_flag=True, help="Stable, for scripts.")
def recover(area: str, *, plan: bool, as_json: bool) -> int:
    """Say how each open issue stands and what a run would do.

    To do it: gangline run AREA.
    """
    from gangline.cli.recover import show_plan  # noqa: PLC0415 - only here

    if not plan:
        raise UsageError(
            "recover only says what a run would do",
            hint=f"gangline recover {area} --plan; to do it: gangline run {area}",
        )
    return show_plan(area, as_json=as_json)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Stable, for scripts.")
def agents(*, as_json: bool) -> int:
    """Show the agents that are installed, and what each can do."""
    from gangline.cli.agents import show_agents  # noqa: PLC0415 - only here

    return show_agents(as_json=as_json)


@cli.command()
@click.argument("area", required=False)
@click.option("--json", "as_json", is_flag=True, help="Stable, for scripts.")
def doctor(area: str | None, *, as_json: bool) -> int:
    """Check machine, settings and state; name what was left behind."""
    from gangline.cli.doctor import show_doctor  # noqa: PLC0415 - only here

    return show_doctor(area, as_json=as_json)


@cli.command()
@click.argument("area", required=False)
@click.argument("batch", required=False)
@click.option("--json", "as_json", is_flag=True, help="Stable, for scripts.")
def history(area: str | None, batch: str | None, *, as_json: bool) -> int:
    """List archived batches, or show one."""
    from gangline.cli.history import show_history  # noqa: PLC0415 - only here

    return show_history(area, batch, as_json=as_json)
