"""What batches that are gone have left: processes, worktrees, attempt folders, locks, other files.

The order is what makes it true beside living orchestrators: first everything is listed, then the
batches are read, then it is judged. What begins in between is not on the list; what ends in between
is looked for once more. An area whose batch cannot be read has no orphans: nobody can tell.

No command told here destroys work: a worktree that is not clean is stashed first, and what git does
not take for a worktree is to be looked at by a person.
"""

import os
import re
from collections.abc import Mapping

import msgspec

from gangline.app.doctor_findings import Finding, Level, shell_line
from gangline.app.wiring import Project
from gangline.core.batch import Batch
from gangline.errors import GanglineError
from gangline.hosts.processes import living_agents, start_ticks
from gangline.store.area import AreaPaths
from gangline.store.locks import lock_is_held, read_holder
from gangline.workspaces import mending
from gangline.workspaces.git import read_pointer, run_git
from gangline.workspaces.worktrees import GitWorktrees, Workspace

_PID = re.compile(r"\.(\d+)\.part\Z")
_KEPT = re.compile(r"(\.rejected-\d+|\.damaged(-\d+)?|\.aside(-\d+)?|\.adopted|\.exit\.stale)\Z")
_LOCK = re.compile(r"(.+)\.(?:orchestrator|journal)\Z")


class Sight(msgspec.Struct, frozen=True):
    """What was there before the batches were read.

    Attributes:
        processes: By pid, the area and the attempt id that a living process names.
        attempts: By area, the names in its `attempts/`.
        worktrees: By area, the names in `worktrees/{area}/`.
        locks: The areas that have lock files.
    """

    processes: dict[int, tuple[str, str]]
    attempts: dict[str, list[str]]
    worktrees: dict[str, list[str]]
    locks: list[str]


def look_around(project: Project) -> Sight:
    """List everything that could be an orphan. Processes of other users cannot be seen."""
    root = AreaPaths(project.workspace, "").root
    attempts = {a: _names(AreaPaths(project.workspace, a).attempts) for a in _names(root)}
    trees = os.path.dirname(AreaPaths(project.workspace, "any").worktrees)
    locks = {match[1] for name in _names(f"{root}/.locks") if (match := _LOCK.match(name))}
    return Sight(
        processes=_processes(root),
        attempts={area: names for area, names in attempts.items() if names},
        worktrees={area: _names(os.path.join(trees, area)) for area in _names(trees)},
        locks=sorted(locks),
    )


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _processes(root: str) -> dict[int, tuple[str, str]]:
    """The processes whose environment names an attempt folder below this repository's areas."""
    found = {}
    for pid, path in living_agents(root).items():
        area, between, attempt = (*path.split("/"), "", "", "")[:3]
        if between == "attempts" and attempt:
            found[pid] = (area, attempt)
    return found


class Judge:
    """Tells orphans from what belongs to a batch.

    Args:
        project: The repository.
        sight: What was there before the batches were read.
        batches: By area, its batch; None where it cannot be read.
        only: The one area that is asked about, if one is.
    """

    def __init__(
        self,
        project: Project,
        sight: Sight,
        batches: Mapping[str, Batch | None],
        only: str | None,
    ) -> None:
        self._project = project
        self._sight = sight
        self._batches = batches
        self._only = only

    def _judges(self, area: str) -> bool:
        """Whether it is asked about this area, and its batch, if there is one, can be read."""
        return self._only in (None, area) and self._batches.get(area, "none") is not None

    def _finding(
        self, check: str, area: str, message: str, command: str | None, level: Level = Level.NOTE
    ) -> Finding:
        return Finding(check=check, area=area, level=level, message=message, command=command)

    # -- processes -------------------------------------------------------------------------

    def processes(self) -> list[Finding]:
        """Living processes of attempts that no batch has open: nobody watches them."""
        suspects: dict[tuple[str, str], list[int]] = {}
        for pid, (area, attempt) in self._sight.processes.items():
            if self._judges(area) and attempt not in self._open_attempts(area):
                suspects.setdefault((area, attempt), []).append(pid)
        found = []
        for (area, attempt), pids in sorted(suspects.items()):
            left = [str(pid) for pid in sorted(pids) if start_ticks(pid) is not None]
            if left:  # else it ended, and was recorded, since it was listed
                message = f"attempt {attempt} of area {area} lives, and no batch has it open"
                command = shell_line("kill", *left)
                found.append(self._finding("process", area, message, command, Level.WRONG))
        return found

    def _open_attempts(self, area: str) -> set[str]:
        batch = self._batches.get(area)
        if batch is None:
            return set()
        return {
            batch.attempt_id(issue.key, attempt.number)
            for issue in batch.issues.values()
            for attempt in issue.attempts
            if attempt.outcome is None
        }

    # -- worktrees -------------------------------------------------------------------------

    def worktrees(self) -> list[Finding]:
        """Worktrees of issues that are in no batch, and what else is in their place."""
        found = []
        for area, names in self._sight.worktrees.items():
            if not self._judges(area):
                continue
            batch = self._batches.get(area)
            issues = batch.issues if batch else {}
            kept = {f"issue-{key}{end}" for key in issues for end in ("", ".making")}
            found += [self._worktree(area, name) for name in names if name not in kept]
        return found + self._gone_worktrees()

    def _worktree(self, area: str, name: str) -> Finding:
        path = os.path.join(AreaPaths(self._project.workspace, area).worktrees, name)
        common = self._project.place.git_dir
        if name.endswith(".making") and os.path.isfile(path):
            message = f"{name} of area {area} is left of a worktree that was not made to its end"
            return self._finding("worktree", area, message, shell_line("rm", "--", path))
        standing = mending.standing_of(path, common) if common else "foreign"
        git_dir = read_pointer(os.path.join(path, ".git"))
        if standing != "linked" or git_dir is None or mending.is_initializing(git_dir):
            if os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path):
                message = f"{name} of area {area} is an empty folder"
                return self._finding("worktree", area, message, shell_line("rmdir", "--", path))
            message = (
                f"{name} of area {area} is of no batch and no worktree of this repository; it may "
                "hold work: look at it, and remove it when nothing in it is needed"
            )
            return self._finding("worktree", area, message, shell_line("ls", "-lA", "--", path))
        return self._linked_worktree(area, path, git_dir)

    def _linked_worktree(self, area: str, path: str, git_dir: str) -> Finding:
        name = os.path.basename(path)
        top = self._project.top
        remove = shell_line("git", "-C", top, "worktree", "remove", "--", path)
        branch, holds = self._work_in(area, path, git_dir)
        on = f", on branch {branch}," if branch else ""
        message = f"the worktree {name} of area {area}{on} is of no batch"
        if "uncommitted changes" in holds:
            label = f"gangline: {area} {name}"
            stash = ("stash", "push", "--quiet", "--include-untracked", "--message", label)
            remove = f"{shell_line('git', '-C', path, *stash)} && {remove}"
        if holds:
            message += f"; it holds {' and '.join(holds)}, which the command keeps"
        return self._finding("worktree", area, message, remove)

    def _work_in(self, area: str, path: str, git_dir: str) -> tuple[str | None, list[str]]:
        """The branch of a worktree, and what it holds that the base does not."""
        settings = self._project.config.workspace
        trees = GitWorktrees(self._project.place, area, settings.base, settings.branch)
        branch, holds = None, []
        try:
            head = run_git(["symbolic-ref", "--quiet", "--short", "HEAD"], path)
            if head.code == 0:
                branch = head.output.removesuffix("\n")
                ahead = trees.commits_ahead(branch, trees.base_commit())
                if ahead:
                    holds.append(f"{ahead} commit{'s' * (ahead > 1)} that the base lacks")
            if trees.is_dirty(Workspace(path=path, branch=branch, git_dir=git_dir)):
                holds.append("uncommitted changes")
        except GanglineError as error:
            holds.append(f"what git cannot tell ({error.message})")
        return branch, holds

    def _gone_worktrees(self) -> list[Finding]:
        """Worktrees of ours that git knows and whose folder is gone."""
        common = self._project.place.git_dir
        if common is None:
            return []
        trees = os.path.join(os.path.dirname(AreaPaths(self._project.workspace, "a").worktrees), "")
        gone = [os.path.dirname(entry) for _, entry in mending.claims(common)]
        gone = sorted(path for path in gone if not os.path.lexists(path))
        ours = [path for path in gone if path.startswith(trees)]
        found = []
        for path in ours:
            area = path.removeprefix(trees).partition("/")[0]
            if not self._judges(area) or os.path.lexists(mending.marker_of(path)):
                continue
            # `prune` would forget others' as well, which may be on a disk that comes back.
            alone = gone == ours
            words = ("prune",) if alone else ("remove", "--", path)
            command = shell_line("git", "-C", self._project.top, "worktree", *words)
            name = os.path.basename(path)
            message = f"git knows the worktree {name} of area {area}, and its folder is gone"
            found.append(self._finding("worktree", area, message, command))
        return found

    # -- files -----------------------------------------------------------------------------

    def attempt_folders(self) -> list[Finding]:
        """Attempt folders that are of no batch of their area."""
        found = []
        for area, names in self._sight.attempts.items():
            if area.startswith(".") or not self._judges(area):
                continue
            batch = self._batches.get(area)
            strange = [n for n in names if batch is None or not n.startswith(f"{batch.batch_id}-")]
            if not strange:
                continue
            folder = AreaPaths(self._project.workspace, area).attempts
            paths = [os.path.join(folder, name) for name in strange]
            words = (
                "1 attempt folder is"
                if len(strange) == 1
                else f"{len(strange)} attempt folders are"
            )
            message = f"{words} of no batch of area {area}: {strange[0]}"
            message += ", …" if len(strange) > 1 else ""
            lives = {a for where, a in self._sight.processes.values() if where == area}
            if lives.intersection(strange):
                message += "; agents of it live: end them first"
                command = None
            else:
                targets = [folder] if batch is None else paths
                command = shell_line("rm", "-r", "--", *targets)
            found.append(self._finding("attempt-folder", area, message, command))
        return found

    def files(self, area: str) -> list[Finding]:
        """Files beside a batch that were put aside for a person, and parts of files."""
        paths = AreaPaths(self._project.workspace, area)
        found = []
        for name in _names(paths.folder):
            path = os.path.join(paths.folder, name)
            command = shell_line("rm", "--", path)
            if _KEPT.search(name) and os.path.isfile(path):
                message = f"{name} was put aside for you to read; remove it when you have"
                found.append(self._finding("kept-file", area, message, command))
            elif name.endswith(".part") and _is_stale(path, paths):
                message = f"{name} was being written by a process that is gone"
                found.append(self._finding("part-file", area, message, command))
        return found

    def locks(self) -> list[Finding]:
        """Lock files of areas without a batch."""
        found = []
        for area in self._sight.locks:
            if area in self._batches or self._only not in (None, area):
                continue
            paths = AreaPaths(self._project.workspace, area)
            if lock_is_held(paths.orchestrator_lock) is not False:
                holder = read_holder(paths.orchestrator_lock) or "a process"
                message = f"{holder} is the orchestrator of area {area}, which has no batch now"
                found.append(self._finding("lock-file", area, message, None))
                continue
            files = [p for p in (paths.orchestrator_lock, paths.journal_lock) if os.path.lexists(p)]
            message = (
                f"lock files of area {area}, which has no batch; they cost nothing, and may be "
                "removed while no gangline runs"
            )
            command = shell_line("rm", "--", *files) if files else None
            found.append(self._finding("lock-file", area, message, command))
        return found


def _is_stale(path: str, paths: AreaPaths) -> bool:
    """Whether nobody writes the file any more; one with a pid in its name is that process's."""
    pid = _PID.search(path)
    if pid is not None:
        return start_ticks(int(pid[1])) is None
    # Written under the journal lock alone: if that is free and the file still there, it is left.
    return lock_is_held(paths.journal_lock) is False and os.path.lexists(path)
