"""The command line (DESIGN.md section 8): options in, text and exit codes out, nothing decided."""

import io
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import click

import gangline.cli.looking
import gangline.cli.telling  # noqa: F401 - the commands of both join the group
from gangline.app import commands, running
from gangline.app.archiving import archive
from gangline.app.config_template import template
from gangline.app.planning import Request, config_path, make_plan, policy_of
from gangline.app.truth import branches_to_merge, load_store
from gangline.app.wiring import Project
from gangline.cli.group import AREA, ISSUE, cli, source_options
from gangline.cli.lines import Lines, beginning, come_back, describe, edit_words, say, warn
from gangline.cli.show import advice_text, plan_text, summary_text
from gangline.cli.status import view_of_batch
from gangline.cli.table import prepare_output
from gangline.core.batch import Batch
from gangline.core.events import AnyEvent
from gangline.core.model import Status, check_area
from gangline.errors import (
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    AreaBusyError,
    ConfigError,
    UsageError,
)
from gangline.hosts.processes import wall_time
from gangline.store.locks import lock_is_held


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
@AREA
@source_options
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
@AREA
@source_options
@click.option("--new", is_flag=True, help="Archive a batch that is over and begin another.")
@click.option("--detach", is_flag=True, help="Run in a tmux window of its own.")
def run(area: str, *, new: bool, detach: bool, **options: Any) -> int:
    """Resume the area's batch, or begin one.

    Exit code 0: all completed; 1: over, with issues failed, skipped or cancelled; 2: wrong input;
    3: another orchestrator has the area; 4: the state needs a person; 130: interrupted, the agents
    run on.
    """
    session = running.open_session(area, _request(options), new=new, detached=detach)
    if detach or session.beginning is running.Beginning.OVER:  # else the orchestrator says them
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
    code, path = archive(session.project, session.store)
    session.lock.release()
    say(f"This batch was over: nothing was started. It is archived in {path}")
    say(f"Begin another: gangline run {batch.area}")
    return code


def _say_summary(batch: Batch, *, archived: bool) -> None:
    view = view_of_batch(batch)
    say(summary_text(view, now=wall_time()))
    advice = advice_text(view, branches_to_merge(batch), archived=archived)
    if advice:
        say(advice)


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
    @AREA
    @ISSUE
    def command(area: str, issue: str) -> int:
        return _change(area, lambda batch: decide(batch, issue))


def _batch_command(name: str, decide: Callable[[Batch], list[AnyEvent]]) -> None:
    @cli.command(name=name, help=_HELP[name])
    @AREA
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
@AREA
@source_options
def add(area: str, **options: Any) -> int:
    """Add issues to a batch that is not over."""
    from gangline.app.adding import add_issues  # noqa: PLC0415 - only here

    for option in ("agent", "max_concurrent"):
        if options[option]:
            raise UsageError(
                f"add takes no --{option.replace('_', '-')}", hint=f"gangline run {area} takes it"
            )
    added = add_issues(area, _request(options))
    for warning in added.warnings:
        warn(f"gangline: {warning}")
    say(edit_words(added.event) if added.event else "nothing to add: the batch has these issues")
    if added.event and not added.alive:
        say(f"no orchestrator is running; it goes on with: gangline run {area}")
    return EXIT_OK


@cli.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1)
def shell(arguments: Sequence[str]) -> int:
    """Steps for an orchestrator that is a shell script."""
    from gangline.cli.shell import run_shell  # noqa: PLC0415 - only here

    return run_shell(list(arguments))


@cli.command()
@AREA
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
