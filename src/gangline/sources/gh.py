"""Runs the `gh` program and says in plain words what went wrong when it fails.

`gh` has the user's login, proxy and hosts already; asking it keeps credentials out of Gangline.
It is given argument lists only, never a prompt, a pager or a terminal. Its texts and exit codes
are those of gh 2.x: 4 is "not logged in"; else 1, the GraphQL errors on stdout, a line on stderr.
"""

import datetime as dt
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from gangline.errors import GanglineError, InputError, MachineError

TIMEOUT_SECONDS = 60
_EXIT_NOT_LOGGED_IN = 4


class _Kind(NamedTuple):
    """One way for gh to fail: how it is recognised, and what is said of it."""

    text: re.Pattern[str]
    types: frozenset[str]
    raises: type[GanglineError]
    message: str
    hint: str


def _kind(
    text: str, raises: type[GanglineError], message: str, hint: str, types: Sequence[str] = ()
) -> _Kind:
    return _Kind(re.compile(text, re.IGNORECASE), frozenset(types), raises, message, hint)


_RATE_LIMIT = _kind(
    r"rate limit",
    MachineError,
    "GitHub's rate limit is used up",
    "",
    ("RATE_LIMITED", "RATE_LIMIT"),
)
_NOT_LOGGED_IN = _kind(
    r"gh auth login|HTTP 401|bad credentials|GH_TOKEN environment",
    MachineError,
    "gh is not logged in to GitHub",
    "gh auth login",
)
# Asked in this order: a 403 can be the rate limit, and gh names `gh auth login` in a folder that
# has no GitHub remote.
_KINDS = (
    _RATE_LIMIT,
    _kind(
        r"could not resolve to a repository|HTTP 404",
        InputError,
        "this repository does not exist, or this login may not see it",
        "check its name (github:owner/repo) and the login: gh auth status",
        ("NOT_FOUND",),
    ),
    _kind(
        r"no git remotes|none of the git remotes|not a git repository|base repo|default remote",
        InputError,
        "gh cannot tell which GitHub repository this folder belongs to",
        "name it: --from github:owner/repo",
    ),
    _NOT_LOGGED_IN,
    _kind(
        r"SAML|HTTP 403|forbidden|not accessible by|required scopes",
        InputError,
        "this login may not read the issues of this repository",
        "gh auth refresh --scopes repo",
        ("FORBIDDEN", "INSUFFICIENT_SCOPES"),
    ),
    _kind(
        r"error connecting to|dial tcp|no such host|connection re(?:fused|set)"
        r"|network is unreachable|i/o timeout|TLS handshake timeout|\bEOF\b|proxyconnect",
        MachineError,
        "GitHub cannot be reached",
        "check the network and https://githubstatus.com, then try again",
    ),
)


NO_DATA = msgspec.Raw(b"null")


class ApiError(msgspec.Struct, frozen=True):
    """One GraphQL error as GitHub sends it."""

    message: str = ""
    type: str | None = None
    path: tuple[str | int, ...] | None = None
    extensions: dict[str, Any] | None = None


class Reply(msgspec.Struct, frozen=True):
    """The answer to a GraphQL query: data (JSON, `null` where there is none), errors, or both."""

    data: msgspec.Raw = NO_DATA
    errors: tuple[ApiError, ...] = ()


class Finished(msgspec.Struct, frozen=True):
    """What `gh` said and how it ended."""

    exit_code: int
    output: bytes
    complaint: str


def run_gh(arguments: Sequence[str], folder: str) -> Finished:
    """Run `gh` in a folder, for at most TIMEOUT_SECONDS.

    Raises:
        MachineError: It is missing, cannot be started, or did not answer in time.
    """
    program = shutil.which("gh")
    if program is None:
        raise MachineError(
            "the program gh (GitHub CLI) is not installed",
            hint="install it from https://cli.github.com, then: gh auth login",
        )
    try:
        ended = subprocess.run(
            [program, *arguments],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MachineError(
            f"gh did not answer within {TIMEOUT_SECONDS} seconds",
            causes=["GitHub, or the network to it, is slow or down"],
            hint="see https://githubstatus.com and try again",
        ) from error
    except OSError as error:
        raise MachineError(
            "gh cannot be started",
            place=program,
            causes=[error.strerror or type(error).__name__],
            hint="check the installation: gh --version",
        ) from error
    return Finished(ended.returncode, ended.stdout, ended.stderr.decode("utf-8", "replace"))


def graphql(arguments: Sequence[str], folder: str, place: str) -> Reply:
    """Run `gh api graphql` with `arguments`; GraphQL errors are in the reply, for the caller.

    Raises:
        GanglineError: `gh` failed and gave no GraphQL answer, or one that is no JSON.
    """
    ended = run_gh(["api", "graphql", *arguments], folder)
    try:
        reply = msgspec.json.decode(ended.output, type=Reply)
    except msgspec.DecodeError as error:
        if ended.exit_code != 0:
            raise failure(ended.exit_code, ended.complaint, (), folder, place) from error
        raise unreadable(ended.output, str(error), place) from error
    if ended.exit_code != 0 and not reply.errors:
        raise failure(ended.exit_code, ended.complaint, (), folder, place)
    return reply


def unreadable(output: bytes, cause: str, place: str) -> MachineError:
    """The error for an answer that is not the JSON that was asked for."""
    start = output[:80].decode("utf-8", "replace")
    return MachineError(
        "gh gave an answer that cannot be read",
        place=place,
        causes=[cause, f"it starts with {start!r}"],
        hint="check that gh is the GitHub CLI, and its version: gh --version",
    )


def failure(
    exit_code: int, complaint: str, errors: Sequence[ApiError], folder: str, place: str
) -> GanglineError:
    """What a failed call means, as the error to raise.

    Args:
        exit_code: How `gh` ended.
        complaint: Its stderr; the errors' messages say it better where there are any.
        errors: The GraphQL errors.
        folder: Where `gh` may be asked when the limit ends.
        place: What was asked for: `github:owner/repo`.
    """
    lines = [error.message for error in errors] or complaint.splitlines()
    causes = [line.strip()[:300] for line in lines if line.strip()][:5]
    text = "\n".join(lines)
    types = {error.type for error in errors}
    fitting = (kind for kind in _KINDS if kind.text.search(text) or kind.types & types)
    kind = next(fitting, _NOT_LOGGED_IN if exit_code == _EXIT_NOT_LOGGED_IN else None)
    if kind is None:
        return MachineError(
            f"gh failed with exit code {exit_code}",
            place=place,
            causes=causes,
            hint="try the call by hand: gh api graphql -f query='{viewer{login}}'",
        )
    hint = _until(text, folder) if kind is _RATE_LIMIT else kind.hint
    return kind.raises(kind.message, place=place, causes=causes, hint=hint)


def _environment() -> dict[str, str]:
    """The user's environment without what would make gh ask, page, colour or chatter."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in {"GH_DEBUG", "GH_FORCE_TTY", "CLICOLOR_FORCE"}
    }
    return kept | {"GH_PROMPT_DISABLED": "1", "GH_NO_UPDATE_NOTIFIER": "1", "NO_COLOR": "1"}


class _Limit(msgspec.Struct, frozen=True):
    remaining: int
    reset: int


class _Resources(msgspec.Struct, frozen=True):
    graphql: _Limit


class _Limits(msgspec.Struct, frozen=True):
    resources: _Resources


def _until(text: str, folder: str) -> str:
    """When to try again. The question is free of charge; without an answer the hint is vaguer."""
    if "secondary" in text.casefold():
        return "wait a few minutes and try again"
    vague = "see when it resets: gh api rate_limit"
    try:
        ended = run_gh(["api", "rate_limit"], folder)
        limit = msgspec.json.decode(ended.output, type=_Limits).resources.graphql
        reset = dt.datetime.fromtimestamp(limit.reset, dt.UTC)
    except (MachineError, msgspec.DecodeError, ValueError, OverflowError, OSError):
        return vague
    return vague if limit.remaining else f"try again after {reset:%Y-%m-%d %H:%M} UTC"
