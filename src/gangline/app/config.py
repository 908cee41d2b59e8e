"""gangline.toml: what a repository says once, so that `gangline run AREA` needs no flags.

Why it is so strict: a misspelt key that is ignored would run a night's batch with the wrong limits.
So the file is read whole, every key is known or refused with the key that was probably meant, and
every value is checked before anything starts. Keys and defaults are in app/settings.py. It finds no
agents on the machine and asks git nothing.
"""

import os
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gangline.agents.checking import check_agent, check_argv
from gangline.agents.placeholders import (
    check_placeholders,
    clean_text,
    did_you_mean,
    expand,
    placeholders_of,
)
from gangline.agents.registry import AgentConfig, Argv, find_agent
from gangline.app.settings import (
    BRANCH_PLACEHOLDERS,
    PROMPT_PLACEHOLDERS,
    Config,
    RetryConfig,
)
from gangline.core.model import IssueSpec
from gangline.errors import ConfigError
from gangline.workspaces.git import render_branch

CONFIG_NAME = "gangline.toml"
CONFIG_BYTES_MAX = 1_000_000

_SECTIONS: Mapping[str, type[Struct]] = {
    name: struct for name, struct in Config.__annotations__.items() if name != "agents"
}


def load_config(top: str) -> Config:
    """The configuration of the repository whose top is `top`; all defaults where it has no file.

    Raises:
        ConfigError: the file cannot be read, or is wrong in any way.
    """
    try:
        with open(os.path.join(top, CONFIG_NAME), "rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
    except FileNotFoundError:
        return Config()
    except OSError as error:
        raise ConfigError(f"it cannot be read: {error.strerror}", place=CONFIG_NAME) from error
    if len(data) > CONFIG_BYTES_MAX:
        raise ConfigError(f"it is larger than {CONFIG_BYTES_MAX:,} bytes", place=CONFIG_NAME)
    try:
        text = data.decode("utf-8-sig")  # an editor's byte order mark is nobody's mistake
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            "it is not UTF-8 text", place=f"{CONFIG_NAME}:{line}", hint="save the file as UTF-8"
        ) from error
    return parse_config(text)


def parse_config(text: str) -> Config:
    """Decode and check the text of a gangline.toml.

    Raises:
        ConfigError: with line and column of bad TOML, or the path of a bad key.
    """
    document = _parse_toml(text)
    try:
        config = msgspec.convert(document, Config)
    except msgspec.ValidationError as error:
        raise _explain(document, error) from error
    _check(config)
    return config


def render_prompt(template: str, *, area: str, issue: IssueSpec) -> str:
    """The prompt of one issue, fit for a file and an argument; `template` is `[batch] prompt`."""
    values = {"area": area, "issue": issue.key, "title": issue.title, "body": issue.body}
    return clean_text(expand(template, values))


def _parse_toml(text: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - not needed where there is no gangline.toml

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # a huge number is a bare ValueError
        message, place = str(error), CONFIG_NAME
        where = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z", message)
        if where:
            message = message[: where.start()]
            last = text.rpartition("\n")[2]
            line, column = where[1] or text.count("\n") + 1, where[2] or len(last) + 1
            place = f"{CONFIG_NAME}:{line}:{column}"
        raise ConfigError(
            f"it is not valid TOML: {message}",
            place=place,
            hint="a text stands in quotes, a list in [ ], and each key on its own line",
        ) from error


def _explain(document: dict[str, Any], error: msgspec.ValidationError) -> ConfigError:
    """Find the first wrong key of a document that could not be decoded.

    msgspec names the path but neither the value it found nor the name of an agent, so the tables
    are decoded again one by one.
    """
    tables: list[tuple[str, Any, type[Struct]]] = []
    for name, value in document.items():
        if name == "agents" and isinstance(value, dict):
            tables += [(f"agents.{_quoted(agent)}", value[agent], AgentConfig) for agent in value]
        elif name == "agents":
            return _wrong(name, value, "a table: [agents.NAME]")
        elif name in _SECTIONS:
            tables.append((name, value, _SECTIONS[name]))
        else:
            return _unknown_key("", name, (*_SECTIONS, "agents"))
    for path, value, struct in tables:
        try:
            msgspec.convert(value, struct)
        except msgspec.ValidationError as problem:
            return _explain_table(path, value, struct, str(problem))
    return ConfigError(str(error), place=CONFIG_NAME)


def _explain_table(path: str, table: Any, struct: type[Struct], problem: str) -> ConfigError:
    if not isinstance(table, dict):
        return _wrong(path, table, f"a table: [{path}]")
    for key in table:
        if key not in struct.__struct_encode_fields__:
            return _unknown_key(path, key, struct.__struct_encode_fields__)
    where = re.search(r" - at `\$\.(\w+)(?:\[(\d+|\.\.\.)\])?`\Z", problem)
    if where is None:
        return ConfigError(problem, place=f"{CONFIG_NAME}: {path}")
    key, index = where[1], where[2]
    value = table[key]
    if index is None:
        return _wrong(f"{path}.{key}", value, *_expectation(struct, key, value))
    if index == "...":  # msgspec does not name the key of a table
        name = next(name for name in value if not isinstance(value[name], str))
        return _wrong(f"{path}.{key}.{_quoted(name)}", value[name], "a string")
    return _wrong(f"{path}.{key}[{index}]", value[int(index)], "a string")


def _expectation(struct: type[Struct], key: str, value: Any) -> tuple[str, str | None]:
    """What the type of a key asks for, in words, and a hint for what was probably meant."""
    name = struct.__struct_fields__[struct.__struct_encode_fields__.index(key)]
    annotation = typing.get_type_hints(struct, include_extras=True)[name]
    if type(None) in typing.get_args(annotation):
        annotation = typing.get_args(annotation)[0]
    if typing.get_origin(annotation) is Literal:
        choices = typing.get_args(annotation)
        meant = did_you_mean(str(value), choices)
        listed = ", ".join(f'"{choice}"' for choice in choices)
        return f"one of {listed}", f"did you mean {meant}?" if meant else None
    hint = None
    if struct is RetryConfig and key == "max":
        hint = (
            "the specification allows one automatic re-dispatch of an issue at most; "
            "`gangline retry AREA ISSUE` starts it again when you say so"
        )
    elif annotation is Argv and isinstance(value, str):
        argv = value.split() if struct is AgentConfig else ["sh", "-c", value]
        hint = f"write {key} = [{', '.join(map(_in_quotes, argv))}]"
    return annotation.__metadata__[0].description, hint


def _unknown_key(section: str, key: str, known: tuple[str, ...]) -> ConfigError:
    home = next((name for name, s in _SECTIONS.items() if key in s.__struct_encode_fields__), None)
    meant = did_you_mean(key, known)
    if meant is None and home is not None:
        hint = f"{key} belongs under [{home}]"
    elif meant is not None:
        hint = f"did you mean {meant}?"
    else:
        hint = f"known here: {', '.join(known)}"
    path = f"{section}.{_quoted(key)}" if section else _quoted(key)
    return ConfigError(f"there is no key {path}", place=f"{CONFIG_NAME}: {path}", hint=hint)


def _wrong(path: str, value: Any, expected: str, hint: str | None = None) -> ConfigError:
    return ConfigError(
        f"{path} is {_found(value)}; expected {expected}",
        place=f"{CONFIG_NAME}: {path}",
        hint=hint,
    )


def _found(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case dict():
            return "a table"
        case list():
            return "a list"
        case str():
            return "the string " + _in_quotes(value if len(value) <= 60 else value[:60] + "…")
        case int() if value.bit_length() > 64:  # Python refuses to print the longest
            return "a huge number"
    return str(value)


def _in_quotes(text: str) -> str:
    return msgspec.json.encode(text).decode()


def _quoted(key: str) -> str:
    """A key as TOML writes it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _in_quotes(key)


def _check(config: Config) -> None:
    """Refuse what the types allow and nothing could run.

    Raises:
        ConfigError: with the key path.
    """
    _refuse_unbuilt(config)
    check_placeholders(config.batch.prompt, PROMPT_PLACEHOLDERS, f"{CONFIG_NAME}: batch.prompt")
    _check_branch(config.workspace.branch)
    base = config.workspace.base
    if base is not None and (base.startswith("-") or not base.isprintable() or " " in base):
        raise _wrong("workspace.base", base, "a branch, tag or commit")
    socket = config.tmux.socket
    if socket is not None and (
        socket.startswith(("-", "~"))
        or not socket.isprintable()
        or ("/" in socket and not os.path.isabs(socket))
    ):
        raise _wrong("tmux.socket", socket, "a name, or an absolute path")
    if config.workspace.setup:
        check_argv(config.workspace.setup, f"{CONFIG_NAME}: workspace.setup")
    for name, agent in config.agents.items():
        check_agent(name, agent, f"{CONFIG_NAME}: agents.{_quoted(name)}")
    if config.batch.agent is not None:
        find_agent(
            config.batch.agent, config.agents, f"{CONFIG_NAME}: batch.agent", error=ConfigError
        )


def _refuse_unbuilt(config: Config) -> None:
    """Refuse the keys that are in the contract but not built yet; each has one line here."""
    unbuilt = {
        "verify.command": bool(config.verify.command),
        "done.require": bool(config.done.require),
    }
    for what, is_set in unbuilt.items():
        if is_set:
            raise ConfigError(
                f"{what} is not available in this version",
                place=f"{CONFIG_NAME}: {what.partition(' ')[0]}",
                hint="remove the key",
            )


def _check_branch(template: str) -> None:
    """Refuse a template that is no branch name, or would give two issues the same branch.

    The rules are those of git-check-ref-format; areas and ids are within them already.
    """
    place = f"{CONFIG_NAME}: workspace.branch"
    check_placeholders(template, BRANCH_PLACEHOLDERS, place)
    missing = [name for name in BRANCH_PLACEHOLDERS if name not in placeholders_of(template)]
    if missing:
        raise ConfigError(
            f"the branch {template!r} does not hold {{{missing[0]}}}, so two issues could share it",
            place=place,
            hint='write for example branch = "gangline/{area}/issue-{issue}"',
        )
    branch = render_branch(template, area="area", issue="1")
    parts = branch.split("/")
    if (
        re.search(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{", branch)
        or any(not part or part.startswith(".") or part.endswith(".lock") for part in parts)
        or branch.startswith("-")
        or branch.endswith(".")
    ):
        raise ConfigError(
            f"the branch {template!r} is not a name that git allows",
            place=place,
            hint="see `git check-ref-format --help`",
        )
