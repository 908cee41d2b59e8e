"""`gangline doctor`: what of the machine, the settings, the state and the leavings is not well.

It changes nothing, not even a lock file, and stops at nothing: what cannot be looked at is a
finding, and the rest is looked at as far as it can be. Each check is the code that the other
commands run, so that what is called well here is what they accept. The commands that mend are told,
not run.
"""

import os

from gangline.app.doctor_area import AreaReport, examine_area
from gangline.app.doctor_findings import (
    Finding,
    Level,
    of_error,
    of_system_error,
    shell_line,
)
from gangline.app.doctor_orphans import Judge, look_around
from gangline.app.doctor_tmux import TmuxSight, look_at_tmux, orphaned_panes, orphaned_sessions
from gangline.app.machine import check_programs
from gangline.app.settings import Config
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.core.model import check_area
from gangline.errors import ConfigError, GanglineError, InputError
from gangline.hosts.processes import boot_id, wall_time
from gangline.store.area import AreaPaths, areas
from gangline.store.filesystem import file_system_type, is_unfit
from gangline.workspaces.repository import (
    check_repository,
    check_workspace_folder,
    locate,
    workspace_folder,
)

_FREE_BYTES_MIN = 1_000_000_000
_FREE_FILES_MIN = 0.01


class _AnyProject(Project):
    """The project, also where gangline.toml is wrong: then with every default, and that error."""

    settings_error: ConfigError | None = None

    def __init__(self) -> None:
        try:
            super().__init__()
        except ConfigError as error:
            self.settings_error = error
            self.place = locate(".")
            self.top = self.place.top
            self.config = Config()
            self.workspace = workspace_folder(self.place)


def examine(area: str | None) -> list[Finding]:
    """Every finding, of every area or of this one; see GROUPS for the order they are shown in.

    Raises:
        InputError: `area` can be the name of none.
    """
    if area is not None:
        check_area(area)
    try:
        project = _AnyProject()
    except GanglineError as error:  # without a place there is nothing but the machine
        folder = os.path.sep
        programs = check_programs(Config(), folder, needs_git=False)
        return [*programs, of_error("repository", error)]
    needs_git = project.place.git_dir is not None and project.config.workspace.kind != "shared"
    findings = check_programs(project.config, project.top, needs_git=needs_git)
    findings += _file_system(project)
    findings += _settings(project, needs_git=needs_git)
    return findings + _state(project, area)


def _finding(
    check: str, level: Level, message: str, area: str | None = None, command: str | None = None
) -> Finding:
    return Finding(check=check, level=level, message=message, area=area, command=command)


# -- the machine -------------------------------------------------------------------------------


def _file_system(project: Project) -> list[Finding]:
    kind = file_system_type(project.workspace)
    if kind is None:
        findings = [_finding("file-system", Level.NOTE, "its type cannot be told on this machine")]
    elif is_unfit(kind):
        message = f"{kind}: locks and links cannot be relied on there; use a clone on a local disk"
        findings = [_finding("file-system", Level.WRONG, message)]
    else:
        findings = [_finding("file-system", Level.OK, f"{kind}: fit for locks and links")]
    try:
        found = os.statvfs(project.top)
    except OSError as error:
        return [*findings, of_system_error("space", error)]
    free, scarce = found.f_bavail * found.f_frsize, []
    if free < _FREE_BYTES_MIN:
        scarce.append(f"only {free / 1e6:,.0f} MB are free")
    if found.f_files and found.f_favail < found.f_files * _FREE_FILES_MIN:
        scarce.append(f"only {found.f_favail:,} more files can be made")
    if scarce:
        return [*findings, _finding("space", Level.NOTE, "; ".join(scarce))]
    return [*findings, _finding("space", Level.OK, f"{free / 1e9:,.0f} GB free")]


def _settings(project: _AnyProject, *, needs_git: bool) -> list[Finding]:
    findings = []
    git_dir = project.place.git_dir
    try:
        if needs_git:
            check_repository(project.place)
        words = "git repository" if git_dir else "no git repository, so issues share the folder"
        findings.append(_finding("repository", Level.OK, f"{project.top}: {words}"))
    except GanglineError as error:
        findings.append(of_error("repository", error))
    except OSError as error:
        findings.append(of_system_error("repository", error))
    findings += _workspace(project)
    if project.settings_error is not None:
        return [*findings, of_error("settings", project.settings_error)]
    try:
        project.workspaces("area")
    except InputError as error:
        return [*findings, of_error("settings", error)]
    has_file = os.path.exists(os.path.join(project.top, "gangline.toml"))
    words = "gangline.toml can be used" if has_file else "no gangline.toml: all defaults"
    return [*findings, _finding("settings", Level.OK, words)]


def _workspace(project: Project) -> list[Finding]:
    """Whether the folder of everything may be used, if it is there."""
    try:
        check_workspace_folder(project.workspace)
    except FileNotFoundError:
        return [_finding("workspace", Level.OK, "no .workspace yet; the first run makes it")]
    except InputError as error:
        return [of_error("workspace", error)]
    except OSError as error:
        return [of_system_error("workspace", error)]
    return [_finding("workspace", Level.OK, f"{project.workspace} is ours alone")]


def _clock(batches: list[Batch]) -> list[Finding]:
    try:
        findings = [_finding("boot", Level.OK, f"boot {boot_id()}")]
    except OSError as error:
        findings = [of_system_error("boot", error)]
    now = wall_time()
    newest = max(batches, key=lambda batch: batch.updated_at, default=None)
    if newest is not None and newest.updated_at > now:
        message = (
            f"it is {now}, and the journal of area {newest.area} was written {newest.updated_at}: "
            "the clock stepped back; times that are shown may be wrong, nothing is decided by them"
        )
        return [*findings, _finding("clock", Level.NOTE, message)]
    return [*findings, _finding("clock", Level.OK, f"{now}, after every recorded event")]


# -- the state ---------------------------------------------------------------------------------


def _state(project: _AnyProject, only: str | None) -> list[Finding]:
    """Areas and orphans. What is there is listed first and judged last (doctor_orphans.py)."""
    try:
        sight = look_around(project)
    except OSError as error:
        return [*_clock([]), of_system_error("orphan", error)]
    tmux = None if project.settings_error else look_at_tmux(project)
    names = areas(project.workspace)
    reports = {area: _examine(project, area) for area in names if only in (None, area)}
    batches = {area: reports[area].batch if area in reports else None for area in names}
    known = [batch for batch in batches.values() if batch is not None]
    findings = _clock(known)
    findings.append(
        tmux.finding
        if tmux
        else _finding("tmux", Level.NOTE, "not asked: gangline.toml would say which server")
    )
    for report in reports.values():
        findings += report.findings
    if only is None and not names:
        findings.append(_finding("area", Level.OK, "no area has a batch"))
    elif only is not None and only not in names:
        findings.append(_finding("area", Level.NOTE, _none(only, names), only))
    judge = Judge(project, sight, batches, only)
    if not os.path.exists("/proc/self/stat"):
        message = "processes of deleted batches cannot be looked for on this system"
        findings.append(_finding("process", Level.NOTE, message))
    try:
        left = judge.processes()
        left += _in_tmux(project, tmux, set(names), known, only) if tmux else []
        left += judge.worktrees() + judge.attempt_folders()
        for area in reports:
            left += judge.files(area)
        left += judge.locks()
    except OSError as error:
        left = [of_system_error("orphan", error)]
    return findings + (left or [_finding("orphan", Level.OK, "nothing is left behind")])


def _examine(project: Project, area: str) -> AreaReport:
    try:
        check_area(area)
    except InputError as error:
        path = project.paths(area).folder
        command = shell_line("mv", "--", path, f"{path}.aside")
        message = f"{error.message}, and {path} holds a batch"
        return AreaReport(None, [_finding("area", Level.WRONG, message, area, command)])
    return examine_area(project.paths(area))


def _none(only: str, names: list[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - for a message only

    near = get_close_matches(only, names, n=1)
    return "it has no batch" + (f"; did you mean {near[0]}?" if near else "")


def _in_tmux(
    project: Project, tmux: TmuxSight, names: set[str], known: list[Batch], only: str | None
) -> list[Finding]:
    ids = {batch.batch_id: batch.area for batch in known}
    archive = os.path.dirname(AreaPaths(project.workspace, "any").archive)
    for area in os.listdir(archive) if os.path.isdir(archive) else []:
        ids |= dict.fromkeys(os.listdir(os.path.join(archive, area)), area)
    open_marks = {
        attempt.mark
        for batch in known
        for issue in batch.issues.values()
        for attempt in issue.attempts
        if attempt.outcome is None
    }
    return orphaned_sessions(tmux, names, only) + orphaned_panes(
        tmux, project.top, ids, open_marks, only
    )
