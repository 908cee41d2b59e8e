"""Agents as data: which command starts one, how it gets its prompt, what it may inherit.

Why it exists: an agent is any program, so nothing here knows what an agent prints or means. It
turns a preset, a table of gangline.toml or an issue's own `run` into one `Agent`, and an `Agent`
into an argv and an environment. What must stay true: text of an issue never becomes an option or
part of a shell line, and an agent sees no variable that nobody chose for it (EVIDENCE.md section 4,
pitfall f). It starts nothing and knows neither panes nor batches.
"""

import functools
import os
import re
from collections.abc import Mapping
from typing import Annotated, Literal, NoReturn

import msgspec
from msgspec import Meta

from gangline.agents.placeholders import (
    clean_text,
    did_you_mean,
    expand,
    placeholders_of,
)
from gangline.errors import ConfigError, GanglineError, InputError, MachineError

ARGV_BYTES_MAX = 100_000  # Linux refuses one argument over 128 KiB; leave room for the rest
COMMAND_AGENT = "command"

Argv = Annotated[tuple[str, ...], Meta(description="a list of strings")]
Variables = Annotated[dict[str, str], Meta(description="a table of strings")]
PromptWay = Literal["argv", "stdin", "file"]

_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}\Z")
_UNTRUSTED = frozenset({"prompt", "title"})


class AgentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True,
                  rename={"pass_env": "pass"}):  # fmt: skip
    """One `[agents.NAME]` table of gangline.toml; an absent key leaves the preset's.

    Attributes:
        start: The command; its elements may hold placeholders.
        resume: The command that continues a session, if the agent can.
        prompt: How the prompt reaches it.
        env: Variables set for it, added to the preset's.
        pass_env: Names of variables it inherits (`LC_*` as well), added to the preset's.
        mode: "headless": it runs to its end by itself; "interactive": its own terminal interface,
            which a person can type to.
        interactive, interactive_resume: The commands for that.
        reader: Who understands what it prints (agents/readers).
        account: Whose usage limit it is under, where it shares one with another agent.
    """

    start: Argv | None = None
    resume: Argv | None = None
    prompt: PromptWay | None = None
    mode: Literal["headless", "interactive"] | None = None
    interactive: Argv | None = None
    interactive_resume: Argv | None = None
    reader: str | None = None
    account: str | None = None
    env: Variables = {}
    pass_env: Argv = ()


class Preset(AgentConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of presets.toml: an AgentConfig and what only we may set.

    Attributes:
        install: The command that installs the version that was tested.
        hooks: Whose hooks tell of its interactive turns (agents/hooks.py).
        dialogs: Of its own interface, those that its hooks do not tell of: words that stand on the
            screen, and what it asks by them.
        doc_only: Nobody has run it here: it follows its documentation.
    """

    install: str
    hooks: str | None = None
    dialogs: dict[str, str] = {}
    doc_only: bool = False
    as_root_env: dict[str, str] = {}


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    """An agent that can be started: preset and configuration put together.

    Attributes:
        prompt: `none` for an issue's own command, which gets no prompt and no placeholders.
        as_root_env: Set only where the agent will run as root.
        mode, interactive, interactive_resume, reader, account: See AgentConfig.
        hooks, dialogs: See Preset.
    """

    name: str
    start: tuple[str, ...]
    resume: tuple[str, ...] | None = None
    prompt: Literal["argv", "stdin", "file", "none"]
    env: dict[str, str] = {}
    pass_env: tuple[str, ...] = ()
    as_root_env: dict[str, str] = {}
    mode: Literal["headless", "interactive"] = "headless"
    interactive: tuple[str, ...] | None = None
    interactive_resume: tuple[str, ...] | None = None
    reader: str | None = None
    account: str = ""
    hooks: str | None = None
    dialogs: dict[str, str] = {}

    @property
    def session(self) -> Literal["ours", "seen", "none"]:
        """Who chooses the id of its session: Gangline, or the agent, as its output says."""
        if any("session" in placeholders_of(element) for element in self.start):
            return "ours"
        return "seen" if self.reader and self.resume else "none"

    def as_it_runs(self) -> "Agent":
        """With the commands of its mode as `start` and `resume`.

        Raises:
            ConfigError: it has no command for that mode.
        """
        if self.mode == "headless":
            return self
        if self.interactive is None:
            raise ConfigError(
                f"agent {self.name!r} has no command for interactive mode",
                place=f"gangline.toml: agents.{self.name}",
                hint='add interactive = ["program", "{prompt}"], or leave mode out',
            )
        return msgspec.structs.replace(
            self,
            start=self.interactive,
            resume=self.interactive_resume,
            prompt=_likely_prompt_way(self.interactive),
        )


class Placeholders(msgspec.Struct, frozen=True, kw_only=True):
    """What may stand in an argv element as `{name}`.

    Attributes:
        prompt: The whole prompt; untrusted.
        prompt_file: Absolute path of the file that holds it.
        issue: The issue's id in its text form.
        title: Untrusted.
        attempt: The attempt id.
        session: The agent's session id; empty while it is not known.
        worktree: Absolute path of the folder the agent works in.
        branch: The branch checked out there; empty outside git.
    """

    prompt: str
    prompt_file: str
    issue: str
    title: str
    attempt: str
    session: str
    worktree: str
    branch: str


@functools.cache
def presets() -> dict[str, Preset]:
    """The agents known without configuration, by name."""
    import tomllib  # noqa: PLC0415 - most commands never look at an agent

    with open(os.path.join(os.path.dirname(__file__), "presets.toml"), "rb") as file:
        return msgspec.convert(tomllib.load(file), dict[str, Preset])


def find_agent(
    name: str,
    configured: Mapping[str, AgentConfig],
    place: str,
    *,
    error: type[GanglineError] = InputError,
) -> Agent:
    """The agent of that name: the preset, overridden key by key by what is configured.

    `env` and `pass` add to the preset's, so that a new variable does not cost the agent its login.

    Args:
        name: As `--agent`, an issue or gangline.toml names it.
        configured: The `[agents]` tables, already checked by `check_agent`.
        place: Where the name was written; the error points there.
        error: The kind to raise: a name in gangline.toml is a ConfigError.

    Raises:
        GanglineError: of kind `error`, for an unknown name.
    """
    preset = presets().get(name, Preset(install=""))
    config = configured.get(name, AgentConfig())
    start = config.start or preset.start
    if start is None:
        _refuse_unknown(name, configured, place, error)
    return Agent(
        name=name,
        start=start,
        resume=config.resume or preset.resume,
        prompt=config.prompt or preset.prompt or _likely_prompt_way(start),
        env=preset.env | config.env,
        pass_env=preset.pass_env + config.pass_env,
        as_root_env=preset.as_root_env,
        mode=config.mode or preset.mode or "headless",
        interactive=config.interactive or preset.interactive,
        interactive_resume=config.interactive_resume or preset.interactive_resume,
        reader=config.reader or preset.reader,
        account=config.account or name,
        hooks=preset.hooks,
        dialogs=preset.dialogs,
    )


def accounts(configured: Mapping[str, AgentConfig]) -> tuple[tuple[str, str], ...]:
    """Agent and account, of the agents whose account is not named like them, in order."""
    told = ((name, config.account) for name, config in sorted(configured.items()))
    return tuple((name, account) for name, account in told if account and account != name)


def _refuse_unknown(
    name: str, configured: Mapping[str, AgentConfig], place: str, error: type[GanglineError]
) -> NoReturn:
    known = sorted({*presets(), *configured} - {name})
    meant = did_you_mean(name, known)
    raise error(
        f"there is no agent {name[:100]!r}",
        place=place,
        causes=[f"known agents: {', '.join(known)}"],
        hint=f"did you mean {meant}?"
        if meant
        else "name a known agent, or define this one in gangline.toml under [agents.NAME]",
    )


def _likely_prompt_way(start: tuple[str, ...]) -> PromptWay:
    """What the command itself says; else stdin, which has no limit and shows in no process list."""
    names = {name for element in start for name in placeholders_of(element)}
    return "argv" if "prompt" in names else "file" if "prompt_file" in names else "stdin"


def command_agent(argv: tuple[str, ...]) -> Agent:
    """The agent that is an issue's own `run`: taken literally, with no prompt on its stdin."""
    return Agent(name=COMMAND_AGENT, start=argv, prompt="none")


def require_program(agent: Agent, path: str | None) -> str:
    """The absolute path of the agent's program; one relative to the worktree stays as it is.

    Args:
        agent: The agent that will be started.
        path: A PATH to search; None for this process's.

    Raises:
        MachineError: the program of `start` or `resume` is not there or not executable.
    """
    import shutil  # noqa: PLC0415 - only commands that start agents search for programs

    found: list[str] = []
    for program in (agent.start[0], *(agent.resume or ())[:1]):
        if "/" in program and not os.path.isabs(program):
            found.append(program)
            continue
        where = shutil.which(program, path=path)
        if where is None:
            missing = "is not an executable file" if "/" in program else "is not on PATH"
            installs = [p.install for p in presets().values() if (p.start or "")[:1] == (program,)]
            raise MachineError(
                f"program {program!r} of agent {agent.name!r} {missing}",
                hint=f"install it: {installs[0]}"
                if installs
                else "install it, or write its full path",
            )
        found.append(os.path.abspath(where))
    return found[0]


def can_resume(agent: Agent, session: str) -> bool:
    """Whether a session can be continued: the agent has a way, and the id is one, if it needs it.

    The id may come from what the agent printed; one that could be read as an option is none.
    """
    return agent.resume is not None and (
        bool(_SESSION.match(session))
        or not any("session" in placeholders_of(element) for element in agent.resume)
    )


def render(
    agent: Agent, values: Placeholders, *, resume: bool
) -> tuple[list[str], Literal["prompt", "none"]]:
    """The argv to execute, and what its stdin is: the prompt, or nothing (/dev/null).

    With `resume` but no way to resume (`can_resume`), the agent is started afresh.

    Raises:
        InputError: the argv would be longer than ARGV_BYTES_MAX.
    """
    if agent.prompt == "none":
        return list(agent.start), "none"
    template = agent.resume if resume and can_resume(agent, values.session) else agent.start
    assert template is not None  # can_resume says so
    known = msgspec.structs.asdict(values)
    known |= {name: clean_text(known[name]) for name in _UNTRUSTED}
    if agent.prompt == "argv" and not any("prompt" in placeholders_of(e) for e in template):
        template = (*template, "{prompt}")
    argv = [_expand_element(element, known) for element in template]
    size = sum(len(os.fsencode(element)) + 1 for element in argv)
    if size > ARGV_BYTES_MAX:
        raise InputError(
            f"the command line of agent {agent.name!r} has {size:,} bytes; the limit is "
            f"{ARGV_BYTES_MAX:,}",
            place=f"issue {values.issue}",
            hint=f'set prompt = "stdin", or use {{prompt_file}}, in [agents.{agent.name}] of '
            "gangline.toml",
        )
    return argv, "prompt" if agent.prompt == "stdin" else "none"


def _expand_element(element: str, known: Mapping[str, str]) -> str:
    """One argument; a value that starts with '-' gets a space before it, not to be an option."""
    text = expand(element, known)
    return f" {text}" if text.startswith("-") and not element.startswith("-") else text
