"""Which agents this machine has, and what Gangline can do with each: for `agents` and `doctor`.

What an agent can do is data of the registry; whether its program is there is looked up, and its
version is what it says itself, asked in the environment that it would run in. One that a person
wrote with a whole path, or a path within the worktree, is not asked: it may be anything.
"""

import os
import shutil
from collections.abc import Mapping
from typing import Literal

import msgspec

from gangline.agents.environment import build_environment
from gangline.agents.registry import Agent, find_agent, presets
from gangline.app.settings import Config

# What the programs themselves say in these formats (docs/agents.md): others try again in silence,
# or name no price.
_TELL_LIMITS = ("claude-stream-json", "codex-json", "gemini-json", "copilot-json")
_TELL_COST = ("claude-stream-json", "opencode-json", "aider-text")


class Question(msgspec.Struct, frozen=True):
    """How a program is asked for its version."""

    argv: list[str]
    environment: dict[str, str]


class AgentFound(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One agent. Its JSON form is stable: the camelCase names of these; keys are only ever added.

    Attributes:
        name: As issues and settings name it.
        own: gangline.toml gives its command.
        program: As its command names it.
        path: Where that is; None if it is not there, or within each worktree.
        found: Whether it is there, as far as can be told.
        version: What it says of itself, or that it says nothing; None if it was not asked.
        tested: The version that was tested with Gangline; None for an own agent.
        doc_only: Nobody has run it with Gangline yet: it follows its documentation.
        install: The command that installs it; None for an own agent.
        mode: How it is run, as the settings are.
        headless, interactive: Whether it has a command for either.
        resume, interactive_resume: Whether it can go on with its session.
        session: Who chooses the id of that: Gangline ("ours"), or the agent, as seen in its output
            ("seen"); "none": nobody knows it.
        reader: Who understands its output; None: it is shown as it is.
        usage, cost, limits: Whether its output tells tokens, their price, and usage limits.
        hooks: Whether its own hooks tell when an interactive turn is over; else `gangline done`.
        account: Whose usage limit it is under.
        is_default: [batch] agent names it.
    """

    name: str
    own: bool
    program: str
    path: str | None
    found: bool
    version: str | None
    tested: str | None
    doc_only: bool
    install: str | None
    mode: Literal["headless", "interactive"]
    headless: bool
    interactive: bool
    resume: bool
    interactive_resume: bool
    session: Literal["ours", "seen", "none"]
    reader: str | None
    usage: bool
    cost: bool
    limits: bool
    hooks: bool
    account: str
    is_default: bool


def known_agents(config: Config) -> dict[str, Agent]:
    """Every agent that an issue can name, presets first."""
    names = dict.fromkeys([*presets(), *config.agents])
    return {name: find_agent(name, config.agents, "gangline.toml") for name in names}


def version_questions(agents: Mapping[str, Agent], base: Mapping[str, str]) -> dict[str, Question]:
    """How to ask the agents' programs for their versions, by program; only those that are there.

    Args:
        agents: By name.
        base: The environment that theirs are made from.
    """
    questions: dict[str, Question] = {}
    for agent in agents.values():
        program = agent.start[0]
        if "/" not in program and program not in questions and shutil.which(program):
            questions[program] = Question(
                [program, "--version"], build_environment(agent, base, {})
            )
    return questions


def agents_found(
    agents: Mapping[str, Agent], versions: Mapping[str, str], config: Config
) -> list[AgentFound]:
    """What is known of each.

    Args:
        agents: From `known_agents`.
        versions: What the programs answered to `version_questions`, made harmless.
        config: gangline.toml.
    """
    return [_found(agent, versions, config) for agent in agents.values()]


def _found(agent: Agent, versions: Mapping[str, str], config: Config) -> AgentFound:
    name, program = agent.name, agent.start[0]
    preset = presets().get(name)
    is_own = preset is None or (name in config.agents and config.agents[name].start is not None)
    in_worktree = "/" in program and not os.path.isabs(program)
    path = None if in_worktree else shutil.which(program)
    return AgentFound(
        name=name,
        own=is_own,
        program=program,
        path=path,
        found=in_worktree or path is not None,
        version=versions.get(program),
        tested=None if is_own or preset is None else _tested(preset.install),
        doc_only=preset is not None and preset.doc_only and not is_own,
        install=None if is_own or preset is None else preset.install,
        mode=agent.mode,
        headless=True,
        interactive=agent.interactive is not None,
        resume=agent.resume is not None,
        interactive_resume=agent.interactive_resume is not None,
        session=agent.session,
        reader=agent.reader,
        usage=agent.reader not in (None, "plain"),
        cost=agent.reader in _TELL_COST,
        limits=agent.reader in _TELL_LIMITS,
        hooks=agent.hooks is not None,
        account=agent.account,
        is_default=config.batch.agent == name,
    )


def _tested(install: str) -> str | None:
    """The version in a command such as `npm install --global NAME@1.2.3` or `pipx install N==1`."""
    _, at, version = install.replace("==", "@").rpartition("@")
    return version if at and version[:1].isdigit() else None
