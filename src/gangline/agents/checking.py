"""What an `[agents.NAME]` table of gangline.toml may not say: what can never work, or is dangerous.

Text of an issue must never become part of a shell line, whoever wrote the command around it.
"""

import os
import re

from gangline.agents.environment import is_never_inherited
from gangline.agents.placeholders import check_placeholders, did_you_mean, placeholders_of
from gangline.agents.registry import COMMAND_AGENT, AgentConfig, Placeholders, presets
from gangline.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "fish"})
_SHELL_SCRIPT_OPTION = re.compile(r"-[A-Za-z]*c\Z")
_UNTRUSTED = frozenset({"prompt", "title"})


def check_argv(argv: tuple[str, ...], place: str) -> None:
    """Refuse a command that cannot be started, wherever it stands in gangline.toml.

    Raises:
        ConfigError: at `place`.
    """
    if not argv or not argv[0]:
        raise ConfigError("the command is empty", place=place, hint='write ["program", "argument"]')
    if argv[0].startswith("~"):
        raise ConfigError(
            f"the program {argv[0]!r} starts with '~', which only a shell expands",
            place=f"{place}[0]",
            hint="write its full path",
        )
    for index, element in enumerate(argv):
        if "\0" in element:
            raise ConfigError("an argument cannot hold a NUL character", place=f"{place}[{index}]")


def check_agent(name: str, config: AgentConfig, place: str) -> None:
    """Refuse an `[agents.NAME]` table that can never work or is dangerous.

    Args:
        name: The name of the table.
        config: What it holds.
        place: Where it is: `gangline.toml: agents.NAME`.

    Raises:
        ConfigError: with the key path.
    """
    if not _NAME.match(name) or name == COMMAND_AGENT:
        raise ConfigError(
            f"{name[:100]!r} cannot be the name of an agent",
            place=place,
            hint=f"use letters, digits, '.', '_' and '-', and not {COMMAND_AGENT!r}",
        )
    if config.start is None and name not in presets():
        meant = did_you_mean(name, presets())
        raise ConfigError(
            f"agent {name!r} has no command",
            place=place,
            hint=(f"did you mean {meant}? Otherwise add " if meant else "add ")
            + 'start = ["program", "argument"]',
        )
    for key in ("start", "resume", "interactive", "interactive_resume"):
        argv = getattr(config, key)
        if argv is not None:
            check_argv(argv, f"{place}.{key}")
            for index, element in enumerate(argv):
                check_placeholders(
                    element, Placeholders.__struct_fields__, f"{place}.{key}[{index}]"
                )
            _check_shell_script(argv, f"{place}.{key}")
    for variable, value in config.env.items():
        if not _VARIABLE.match(variable) or "\0" in value or variable.startswith("GANGLINE_"):
            raise ConfigError(
                f"the variable {variable!r} cannot be set",
                place=f"{place}.env",
                hint="names are letters, digits and '_'; GANGLINE_ names are set by Gangline",
            )
    for pattern in config.pass_env:
        if not _VARIABLE.match(pattern.removesuffix("*")) or is_never_inherited(pattern):
            raise ConfigError(
                f"the variable {pattern!r} cannot be passed on",
                place=f"{place}.pass",
                hint="give names, or beginnings as in AWS_*; what points at Gangline's own pane,"
                " attempt or repository is never passed on",
            )


def _check_shell_script(argv: tuple[str, ...], place: str) -> None:
    """Refuse the text of an issue inside the script of `sh -c`: a title could run commands."""
    for index, element in enumerate(argv[:-1]):
        shell = any(os.path.basename(word) in _SHELLS for word in argv[:index])
        if shell and _SHELL_SCRIPT_OPTION.match(element):
            untrusted = _UNTRUSTED.intersection(placeholders_of(argv[index + 1]))
            if untrusted:
                name = min(untrusted)
                raise ConfigError(
                    f"{{{name}}} stands on a shell line, where the text of an issue could run "
                    "commands",
                    place=f"{place}[{index + 1}]",
                    hint='pass it as an argument: ["sh", "-c", "program \\"$1\\"", "sh", '
                    f'"{{{name}}}"]',
                )
            return
