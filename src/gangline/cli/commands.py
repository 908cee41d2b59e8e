"""The command line (DESIGN.md section 8): options in, text and exit codes out, nothing decided."""

import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import click

from gangline import __version__
from gangline.app import commands, running
from gangline.app.config_template import template
from gangline.app.planning import Request, config_path, make_plan, policy_of
from gangline.app.truth import branches_to_merge, load_store
from gangline.app.wiring import Project
from gangline.cli.lines import Lines, beginning, come_back, describe, say, warn
from gangline.cli.show import advice_text, graph_text, list_text, plan_text, summary_text
from gangline.cli.status import show_status, view_of, view_of_batch
from gangline.cli.table import prepare_output
from gangline.core.batch import Batch
from gangline.core.events import AnyEvent
from gangline.core.model import Status, check_area
from gangline.core.text import harmless_json
from gangline.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    AreaBusyError,
    ConfigError,
    GanglineError,
    UsageError,
)
from gangline.hosts.processes import wall_time
from gangline.store.area import areas
from gangline.store.locks import lock_is_held

_LIST_KEYS = ("area", "batchId", "revision", "orchestrator", "counts")


def dispatch(argv: Sequence[str]) -> int:
    """Run a command line; its exit code."""
    prepare_output()
    try:
        code = cli.main(args=list(argv), prog_name="gangline", standalone_mode=False)
    except click.ClickException as error:
        words = io.StringIO()  # click repeats what was typed as it is
        error.show(words)
        warn(words.getvalue().rstrip("\n"))
        return EXIT_USAGE
    except click.Abort:
        return EXIT_INTERRUPTED
    return code if isinstance(code, int) else EXIT_OK


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="gangline %(version)s")
def cli() -> None:
    """Run a batch of issues on coding agents in tmux panes and git worktrees.

    Whatever dies, the next `gangline run` resumes exactly: nothing is lost, nothing runs twice.
    """


_AREA = click.argument("area")
_ISSUE = click.argument("issue")


def _source_options(command: Callable[..., Any]) -> Callable[..., Any]:
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


def _say_json(value: Any) -> None:
    say(harmless_json(json.dumps(value, ensure_ascii=False, indent=2)))


def _request(options: dict[str, Any]) -> Request:
    for option, key in (("--from", "source"), ("--agent", "agent")):
        if options[key] == "":  # a script's variable that is not set
            raise UsageError(f"{option} is empty", place=option, hint="leave it out, or name one")
    only = tuple(part.strip() for part in (options["only"] or "").split(",") if part.strip())
    if options["only"] is not None and not only:
        raise UsageError(
            "--only names no issue", place="--only", hint="leave it out to take every issue"
        )
    return Request(
        source=options["source"],
        agent=options["agent"],
        max_concurrent=options["max_concurrent"],
        only=only,
        labels=options["labels"],
        assignee=options["assignee"],
    )


@cli.command()
def init() -> int:
    """Write a commented gangline.toml and check the machine."""
    from gangline.app.machine import check_machine  # noqa: PLC0415 - only here

    path = config_path(Project().top)
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError as error:
        raise ConfigError(
            "there is a gangline.toml already", place=path, hint="edit that one"
        ) from error
    except OSError as error:
        raise ConfigError(f"it cannot be written: {error.strerror}", place=path) from error
    say(f"wrote {path}")
    for line in check_machine():
        say(line)
    say("next: put issues into issues/*.md, then gangline plan work --from issues")
    return EXIT_OK


@cli.command()
@_AREA
@_source_options
def plan(area: str, **options: Any) -> int:
    """Show waves, critical path and warnings; start nothing."""
    check_area(area)
    project = Project()
    request = _request(options)
    made = make_plan(project.top, project.config, request)
    project.workspaces(area).prepare_batch([issue.key for issue in made.issues])
    say(plan_text(area, made, policy_of(project.config, request)))
    return EXIT_OK


@cli.command()
@_AREA
@_source_options
@click.option("--new", is_flag=True, help="Archive a batch that is over and begin another.")
@click.option("--detach", is_flag=True, help="Run in a tmux window of its own.")
def run(area: str, *, new: bool, detach: bool, **options: Any) -> int:
    """Resume the area's batch, or begin one.

    Exit code 0: all completed; 1: over, with issues failed, skipped or cancelled; 2: wrong input;
    3: another orchestrator has the area; 4: the state needs a person; 130: interrupted, the agents
    run on.
    """
    session = running.open_session(area, _request(options), new=new)
    for report in session.store.reports:
        warn(f"gangline: {report}")
    if session.beginning is running.Beginning.OVER:
        return _show_over(session)
    say(beginning(session.store.batch, new=session.beginning is running.Beginning.NEW))
    for warning in session.plan.warnings if session.plan else ():
        warn(f"gangline: {warning}")
    if detach:
        return _detach(session)
    code = _watch(session)
    batch = session.store.batch
    _say_summary(batch, archived=False)
    if code == EXIT_INTERRUPTED:
        say(come_back(area, len(batch.by_status[Status.DISPATCHED])))
    return code


def _detach(session: running.Session) -> int:
    from gangline.app.detaching import detach  # noqa: PLC0415 - only here

    area = session.store.batch.area
    started = detach(session)
    if started.dropped:
        names = ", ".join(sorted(started.dropped))
        warn(f"gangline: too long to be passed on, so as the tmux server has it: {names}")
    say(f"The orchestrator runs in tmux pane {started.pane}.")
    say(f"Look at it: gangline attach {area}, gangline status {area}")
    say(f"End it: gangline stop {area}")
    return EXIT_OK


def _watch(session: running.Session) -> int:
    """Orchestrate with a live view on a terminal, plain lines elsewhere."""
    from gangline.cli.live import LiveView, can_draw  # noqa: PLC0415 - only here

    if not can_draw():
        return running.orchestrate(session, Lines())
    with LiveView(session.store.paths.attempts) as view:
        return running.orchestrate(session, view)


def _show_over(session: running.Session) -> int:
    batch = session.store.batch
    _say_summary(batch, archived=True)
    code, path = running.archive(session)
    say(f"This batch was over: nothing was started. It is archived in {path}")
    say(f"Begin another: gangline run {batch.area}")
    return code


def _say_summary(batch: Batch, *, archived: bool) -> None:
    view = view_of_batch(batch)
    say(summary_text(view, now=wall_time()))
    advice = advice_text(view, branches_to_merge(batch), archived=archived)
    if advice:
        say(advice)


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
        _say_json(views)
    else:
        say(list_text(views) if views else "no area has a batch")
    return code


@cli.command()
@_AREA
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
        _say_json({"area": view["area"], "issues": nodes})
    else:
        say(graph_text(view, form))
    return EXIT_OK


@cli.command()
@_AREA
@_ISSUE
@click.option("-f", "--follow", is_flag=True, help="Go on as it grows, until the attempt ends.")
@click.option(
    "--attempt", type=click.IntRange(0), metavar="N", help="This attempt, not the newest."
)
def logs(area: str, issue: str, *, follow: bool, attempt: int | None) -> int:
    """Print what an issue's agent printed."""
    from gangline.cli.logs import print_log  # noqa: PLC0415 - only here

    return print_log(area, issue, follow=follow, number=attempt)


@cli.command()
@_AREA
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


_HELP = {
    "cancel": "Give an issue up; its agent is ended first.",
    "skip": "Pass an issue over; its dependents do not wait for it.",
    "retry": "Try an issue again.\n\nWhat was skipped because of it waits for it again.",
    "hold": "Keep an issue from being dispatched; a running agent goes on.",
    "release": "Let a held issue be dispatched again.",
    "pause": "Dispatch nothing new; what runs goes on.",
    "resume": "Dispatch again, after pause or drain.",
    "drain": "Dispatch nothing new; the run ends with what is running.",
}


def _issue_command(name: str, decide: Callable[[Batch, str], list[AnyEvent]]) -> None:
    @cli.command(name=name, help=_HELP[name])
    @_AREA
    @_ISSUE
    def command(area: str, issue: str) -> int:
        return _change(area, lambda batch: decide(batch, issue))


def _batch_command(name: str, decide: Callable[[Batch], list[AnyEvent]]) -> None:
    @cli.command(name=name, help=_HELP[name])
    @_AREA
    def command(area: str) -> int:
        return _change(area, decide)


for _name, _decide in commands.ISSUE_COMMANDS.items():
    _issue_command(_name, _decide)
for _name, _decide_batch in commands.BATCH_COMMANDS.items():
    _batch_command(_name, _decide_batch)


def _change(area: str, decide: Callable[[Batch], list[AnyEvent]]) -> int:
    batch, events, alive = running.change(area, decide)
    for event in events:
        words = describe(batch, event)
        if words:
            say(words.partition(" ")[2])
    if not events:
        say("nothing to change")
    elif not alive:
        say(f"no orchestrator is running; it goes on with: gangline run {area}")
    return EXIT_OK


@cli.command()
@_AREA
@click.option("--kill", is_flag=True, help="End the agents too; their issues go back to pending.")
def stop(area: str, *, kill: bool) -> int:
    """End the orchestrator; agents run on unless --kill."""
    lock = Project().paths(area).orchestrator_lock
    load_store(area)
    if not lock_is_held(lock):
        if not kill:
            say("no orchestrator is running")
            return EXIT_OK
        with suppress(AreaBusyError):  # one that came to life meanwhile is asked
            running.stop_without_orchestrator(area, Lines())
            return EXIT_OK
    running.change(area, lambda batch: commands.stop(batch, kill=kill))
    running.wait_until_stopped(area, kill=kill)
    say(come_back(area, len(load_store(area).batch.by_status[Status.DISPATCHED])))
    return EXIT_OK


@cli.command()
@click.option("--keep", is_flag=True, help="Keep the folder, to look around in it.")
def demo(*, keep: bool) -> int:
    """See a batch killed with -9, and resumed, in a scratch folder."""
    from gangline.demo.play import play  # noqa: PLC0415 - only here

    return play(keep=keep)
