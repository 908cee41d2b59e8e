"""`gangline history`: the batches that are over and put away.

A damaged one is named with what is wrong and does not hide the others.
"""

import msgspec

from gangline.app.history import (
    Archived,
    ArchivedBatch,
    archived_batch,
    archived_batches,
    archived_view,
)
from gangline.cli.failing import print_error
from gangline.cli.lines import say, say_json
from gangline.cli.show import summary_text
from gangline.cli.table import prepare_output, table, terminal_width
from gangline.errors import EXIT_OK, StateError, UsageError
from gangline.hosts.processes import wall_time
from gangline.workspaces.repository import locate, workspace_folder


def show_history(area: str | None, batch: str | None, *, as_json: bool) -> int:
    """Print the archived batches, newest last, or one of them; the exit code.

    Args:
        area: Only this area's; None for every area's.
        batch: The name of one batch's folder, as the list shows it.
        as_json: Without `batch` a list of `app.history.ArchivedBatch`; with it the view of
            `status --json` with `name`, `folder`, `outcome` and `error` added.

    Returns:
        0; 4 if one that is shown is damaged.

    Raises:
        UsageError: there is no such area or batch.
    """
    prepare_output()
    workspace = workspace_folder(locate("."))
    if batch is None:
        return _show_list(archived_batches(workspace, area), as_json=as_json)
    if area is None:
        raise UsageError("a batch is named without its area", hint="gangline history AREA BATCH")
    return _show_one(archived_batch(workspace, area, batch), as_json=as_json)


def _show_list(found: list[Archived], *, as_json: bool) -> int:
    if as_json:
        say_json([msgspec.to_builtins(one.summary) for one in found])
    elif not found:
        say("no batch has been archived yet")
    else:
        heads = ("area", "batch", "began", "ended", "issues", "outcome")
        rows = [_row(one.summary) for one in found]
        say(table(heads, rows, flexible=(4,), optional=(3, 2, 4), width=terminal_width()))
    return _tell_damage(found)


def _show_one(found: Archived, *, as_json: bool) -> int:
    if not found.batch.batch_id:
        if as_json:
            say_json(msgspec.to_builtins(found.summary))
        return _tell_damage([found])
    view = archived_view(found)
    if as_json:
        summary = found.summary
        more = {key: getattr(summary, key) for key in ("name", "folder", "outcome", "error")}
        issues = view.pop("issues")
        say_json({**view, **more, "issues": issues})
    else:
        if found.problem:
            say(f"As far as its journal can be read, {found.batch.seq} events:")
        say(summary_text(view, now=wall_time()))
        say(f"Its folder: {found.summary.folder}")
        say(f"What its agents printed: {found.paths.attempts}/ATTEMPT/output.log")
    return _tell_damage([found])


def _row(one: ArchivedBatch) -> list[str]:
    counts = ", ".join(f"{n} {status}" for status, n in (one.counts or {}).items() if n)
    moments = (_moment(one.created_at), _moment(one.ended_at))
    return [one.area, one.name, *moments, counts, one.outcome]


def _moment(at: str | None) -> str:
    """A time of the journal (UTC) as calendar and clock show it here."""
    if not at:
        return ""
    from datetime import datetime  # noqa: PLC0415 - not for --json

    return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d %H:%M")


def _tell_damage(found: list[Archived]) -> int:
    problems = [one.problem for one in found if one.problem]
    for problem in problems:
        print_error(problem)
    return StateError.exit_code if problems else EXIT_OK
