"""What an agent may inherit: its whole environment is made up of what was chosen for it.

Variables of an agent session around the orchestrator change what an agent does (EVIDENCE.md section
4, pitfall f), and those of git or tmux would have it act on the wrong repository or pane.
"""

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Protocol


class Inheriting(Protocol):
    """What an agent says about its environment (registry.Agent)."""

    @property
    def pass_env(self) -> tuple[str, ...]:
        """Names, or patterns that end in '*', of variables to inherit."""

    @property
    def as_root_env(self) -> dict[str, str]:
        """Variables that it needs as root."""

    @property
    def env(self) -> dict[str, str]:
        """Variables that are set for it."""


# fmt: off
# What every program needs to find its files, speak the user's language and reach the network.
_INHERITED = (
    "HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "LANGUAGE", "LC_*", "TERM", "TMPDIR", "TZ",
    "SSH_AUTH_SOCK", "XDG_*", "SSL_CERT_*", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL",
    "GIT_SSH", "GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_CONFIG_NOSYSTEM",
)
# These point at the orchestrator's own pane, attempt or repository (the last as listed by
# `git rev-parse --local-env-vars`): an agent that had them would act on the wrong one.
_NEVER_INHERITED = (
    "TMUX", "TMUX_PANE", "GANGLINE_*",
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX", "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_CONFIG_COUNT",
    "GIT_INTERNAL_SUPER_PREFIX", "GIT_IMPLICIT_WORK_TREE", "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
)
# fmt: on


def build_environment(
    agent: Inheriting,
    base: Mapping[str, str],
    gangline: Mapping[str, str],
    *,
    as_root: bool | None = None,
) -> dict[str, str]:
    """The whole environment of an agent, made up of what was chosen for it and nothing else.

    Later wins: what every program needs of `base`, what the agent passes on, what it needs as root,
    its own `env`, then the GANGLINE_ variables.

    Args:
        agent: The agent that will be started.
        base: The environment to inherit from.
        gangline: GANGLINE_AREA and the others (DESIGN.md section 8).
        as_root: Whether the agent will run as root; None for as this process.
    """
    chosen = (*_INHERITED, *agent.pass_env)
    environment = {
        name: value
        for name, value in base.items()
        if _matches(name, chosen) and not _matches(name, _NEVER_INHERITED)
    }
    if as_root is None:
        as_root = os.geteuid() == 0
    if as_root:
        environment |= agent.as_root_env
    return environment | agent.env | dict(gangline)


def with_gangline(environment: dict[str, str]) -> dict[str, str]:
    """With `gangline` on PATH, behind all else, where it is installed for this Python alone.

    Agents say `gangline ask` and the like (DESIGN.md section 8).
    """
    folder = os.path.dirname(sys.executable)
    path = environment.get("PATH", os.defpath)
    if folder in path.split(os.pathsep) or not os.access(os.path.join(folder, "gangline"), os.X_OK):
        return environment
    return {**environment, "PATH": f"{path}{os.pathsep}{folder}"}


def is_never_inherited(pattern: str) -> bool:
    """Whether this name, or every name of this pattern, stays out whatever is passed on."""
    return _matches(pattern, _NEVER_INHERITED)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
        for pattern in patterns
    )
