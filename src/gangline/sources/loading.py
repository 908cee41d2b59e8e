"""Turns what a person calls a source into issues, so that `plan` and `run` see one shape.

The three readers are imported only when their kind of source is asked for: YAML and subprocess
would cost every other command its start-up time.
"""

import os
from collections.abc import Sequence

from gangline.errors import InputError, UsageError
from gangline.sources.loaded import Loaded

__all__ = ["Loaded", "load"]

GITHUB = "github"
PLAN_SUFFIXES = (".toml", ".yaml", ".yml", ".json")


def load(
    source: str, folder: str, *, labels: Sequence[str] = (), assignee: str | None = None
) -> Loaded:
    """Read the issues of a source (DESIGN.md section 8, `SRC`).

    Args:
        source: A folder of Markdown issues, a plan file, or `github[:owner/repo]`.
        folder: What relative paths, the places in messages, and `gh` are relative to.
        labels: GitHub only: labels that an issue must all have.
        assignee: GitHub only: the login an issue must be assigned to; `@me` is who is logged in.

    Raises:
        InputError: The source does not exist, is empty, or cannot be read as issues.
        MachineError: `gh` is missing, not logged in, limited, offline or does not answer.
        UsageError: Labels or an assignee for a source that is not GitHub.
    """
    kind, _, repository = source.partition(":")
    if kind == GITHUB:
        from gangline.sources.github import load_github  # noqa: PLC0415 - subprocess, only here

        return load_github(
            repository if ":" in source else None, folder, labels=labels, assignee=assignee
        )
    if labels or assignee is not None:
        raise UsageError(
            "--label and --assignee choose among GitHub issues",
            place=source,
            hint="leave them out, or read the issues with --from github",
        )
    path = os.path.join(folder, os.path.expanduser(source))
    name = _name(path, folder)
    if source and os.path.isdir(path):
        from gangline.sources.markdown import load_folder  # noqa: PLC0415 - YAML, only here

        return load_folder(path, name)
    if source and os.path.lexists(path) and path.lower().endswith(PLAN_SUFFIXES):
        from gangline.sources.plan_file import load_plan  # noqa: PLC0415 - YAML, only here

        return load_plan(path, name)
    raise _unreadable(source, path, name)


def _name(path: str, folder: str) -> str:
    """The path as messages give it: relative to `folder` when it lies inside."""
    relative = os.path.relpath(path, folder)
    shown = path if relative.split(os.sep, 1)[0] == os.pardir else relative
    return os.fsencode(shown).decode("utf-8", "backslashreplace")


def _unreadable(source: str, path: str, name: str) -> InputError:
    if not source or not os.path.lexists(path):
        return InputError(
            f"there is no issue source {source!r}",
            place=name if source else None,
            hint="name a folder of Markdown issues, a plan file (.toml .yaml .json), or "
            "github:owner/repo",
        )
    if path.lower().endswith((".md", ".markdown")):
        return InputError(
            "a single Markdown file is not an issue source",
            place=name,
            hint=f"name the folder it is in: --from {os.path.dirname(name) or '.'}",
        )
    return InputError(
        "this file is not a plan that can be read",
        place=name,
        causes=[f"a plan file ends in one of {', '.join(PLAN_SUFFIXES)}"],
        hint="rename it, or name a folder of Markdown issues",
    )
