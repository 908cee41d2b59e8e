"""From an issue to something that can be launched: its workspace, prompt, command, environment.

Workspaces are made before the intent is recorded, in one thread, one after another: `git worktree
add` run twice at once on a repository fails (EVIDENCE.md section 4, pitfall d), a large checkout
takes minutes, and the loop must not wait for it. Making one is idempotent, so a crash in between
costs nothing.
"""

import json
import os
import queue
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gangline.agents.environment import build_environment, with_gangline
from gangline.agents.hooks import prepare
from gangline.agents.hooks_file import DIALOGS
from gangline.agents.registry import (
    Agent,
    Placeholders,
    command_agent,
    find_agent,
    render,
    require_program,
)
from gangline.app.config import render_prompt
from gangline.app.resuming import SessionPlan, plan_session, prompt_of
from gangline.app.settings import DEFAULT_PROMPT, SPECIFICATION_PROMPT, Config
from gangline.core.batch import Batch
from gangline.core.issue import IssueState
from gangline.core.model import IssueSpec
from gangline.errors import ConfigError, GanglineError, MachineError, StateError
from gangline.hosts.attempt_folder import MARK_VARIABLE, PROMPT
from gangline.ports import Launch
from gangline.workspaces.worktrees import Workspace

_SETUP_DONE = "gangline-setup-done"


class MissingTextError(StateError):
    """The issues' texts are gone: no issue can be dispatched, and none is to be blamed."""


class Workspaces(Protocol):
    """Git worktrees, or the shared folder."""

    def prepare_batch(self, issues: Sequence[str]) -> None:
        """Refuse what would hurt a new batch."""

    def base_commit(self) -> str:
        """Where the batch starts from."""

    def ensure(self, issue: str, base_commit: str) -> Workspace:
        """Make, mend or keep the issue's workspace."""

    def registered(self, workspace: Workspace) -> str | None:
        """Why it is not usable any more, or None."""


class Preparer:
    """Makes workspaces in a thread of its own; asked and answered without waiting."""

    def __init__(self, workspaces: Workspaces, wake: Callable[[], None]) -> None:
        self._workspaces = workspaces
        self._wake = wake
        self._wanted: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
        self._pending: set[str] = set()
        self._made: dict[str, Workspace | GanglineError] = {}
        self._thread: threading.Thread | None = None

    def ask(self, issue: str, base_commit: str) -> Workspace | GanglineError | None:
        """The issue's workspace, or why there can be none; None while it is being made.

        An answer is given once: the next attempt has its workspace looked at again.
        """
        if issue in self._made:
            self._pending.discard(issue)
            return self._made.pop(issue)
        if issue not in self._pending:
            self._pending.add(issue)
            self._wanted.put((issue, base_commit))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True, name="workspaces")
                self._thread.start()
        return None

    def _work(self) -> None:
        while True:
            issue, base_commit = self._wanted.get()
            self._made[issue] = self._make(issue, base_commit)
            self._wake()

    def _make(self, issue: str, base_commit: str) -> Workspace | GanglineError:
        try:
            return self._workspaces.ensure(issue, base_commit)
        except GanglineError as error:
            return error
        except Exception as error:  # noqa: BLE001 - it would be lost with the thread
            return StateError(f"the workspace could not be made: {error!r}")


class NoPreparation:
    """Answers at once: for the shared folder, and for one that has nothing else to do."""

    def __init__(self, workspaces: Workspaces) -> None:
        self._workspaces = workspaces

    def ask(self, issue: str, base_commit: str) -> Workspace | GanglineError | None:
        """The workspace, made now."""
        try:
            return self._workspaces.ensure(issue, base_commit)
        except GanglineError as error:
            return error


class Dispatcher:
    """Makes launches for one batch.

    Args:
        config: gangline.toml.
        preparer: Gives workspaces.
        workspaces: Checks them again at the last moment.
        read_issues: The issues' texts; read when the first is needed.
        attempts_folder: `attempts/` of the area.
    """

    def __init__(
        self,
        config: Config,
        preparer: Preparer | NoPreparation,
        workspaces: Workspaces,
        read_issues: Callable[[], Mapping[str, IssueSpec]],
        attempts_folder: str,
    ) -> None:
        self._config = config
        self._preparer = preparer
        self._workspaces = workspaces
        self._read_issues = read_issues
        self._attempts_folder = attempts_folder
        self._issues: Mapping[str, IssueSpec] | None = None
        self._environments: dict[str, dict[str, str]] = {}
        self._programs: dict[tuple[str, ...], str] = {}

    def workspace(self, batch: Batch, key: str) -> Workspace | GanglineError | None:
        """See Preparer.ask."""
        return self._preparer.ask(key, batch.base_commit or "")

    def spec(self, key: str) -> IssueSpec:
        """The issue as its source gave it.

        Raises:
            MissingTextError: the texts are gone, or have no such issue.
        """
        if self._issues is None or key not in self._issues:  # it may have joined since
            try:
                self._issues = self._read_issues()
            except StateError as error:
                raise MissingTextError(
                    error.message, place=error.place, causes=error.causes, hint=error.hint
                ) from error
        if key not in self._issues:
            raise MissingTextError(
                f"the text of issue {key!r} is missing", place="batch.issues.json"
            )
        return self._issues[key]

    def agent(self, batch: Batch, issue: IssueState) -> Agent:
        """The agent of an issue: its own command, its own agent, or the batch's."""
        spec = self.spec(issue.key)
        if spec.run:
            return command_agent(spec.run)
        name = issue.agent or batch.agent
        if name is None:
            raise no_agent()
        return find_agent(name, self._config.agents, spec.place)

    def launch(
        self,
        batch: Batch,
        key: str,
        number: int,
        mark: str,
        workspace: Workspace,
        retry: int,
        pane: str | None = None,
    ) -> Launch:
        """Everything the attempt needs.

        Raises:
            GanglineError: it cannot be launched; the message says why.
        """
        problem = self._workspaces.registered(workspace)
        if problem:
            raise StateError(problem, place=workspace.path)
        issue = batch.issues[key]
        agent = self.agent(batch, issue).as_it_runs()
        attempt_id = batch.attempt_id(key, number)
        plan = plan_session(issue, agent)
        values = self._placeholders(batch, issue, attempt_id, workspace, plan)
        argv, stdin = render(agent, values, resume=plan.resumed)
        extra, files = self._hooks(batch, agent, values, plan)
        environment = self._environment(agent) | {
            **_said_to_agent(batch, key, attempt_id, retry),
            "GANGLINE_ATTEMPT_DIR": os.path.dirname(values.prompt_file),
            MARK_VARIABLE: mark,
        }
        return Launch(
            attempt_id=attempt_id,
            issue=key,
            title=issue.title,
            mark=mark,
            **_of_workspace(workspace),
            argv=(argv[0], *extra, *argv[1:]),
            files=files,
            program=self._program(agent),
            prompt=values.prompt,
            stdin=stdin,
            environment=environment,
            **_of_agent(agent),
            **_of_session(plan, issue),
            **self._setup(workspace, environment),
            log_bytes=int(batch.policy.log_mb * 1_000_000),
            pane=pane,
            keep_failed=self._config.batch.keep_failed_panes,
            keep_completed=self._config.batch.keep_completed_panes,
        )

    def _hooks(
        self, batch: Batch, agent: Agent, values: Placeholders, plan: SessionPlan
    ) -> tuple[list[str], dict[str, bytes]]:
        """What an interactive agent is started with so that it tells of itself."""
        if agent.mode != "interactive":
            return [], {}
        folder = os.path.dirname(values.prompt_file)
        extra, files = prepare(agent.hooks, folder, plan.session if plan.resumed else None)
        if agent.dialogs:
            answer = f"(to answer: gangline attach {batch.area} {values.issue})"
            asks = {words: f"{asked} {answer}" for words, asked in agent.dialogs.items()}
            files[DIALOGS] = json.dumps(asks).encode()
        return extra, files

    def _placeholders(
        self,
        batch: Batch,
        issue: IssueState,
        attempt_id: str,
        workspace: Workspace,
        plan: SessionPlan,
    ) -> Placeholders:
        spec = self.spec(issue.key)
        template = self._config.batch.prompt
        if template == DEFAULT_PROMPT and not (spec.title or spec.body):
            template = SPECIFICATION_PROMPT  # of an adopted batch only ids are known
        return Placeholders(
            prompt=prompt_of(issue, plan, render_prompt(template, area=batch.area, issue=spec)),
            prompt_file=os.path.join(self._attempts_folder, attempt_id, PROMPT),
            issue=issue.key,
            title=issue.title,
            attempt=attempt_id,
            session=plan.session,
            worktree=workspace.path,
            branch=workspace.branch or "",
        )

    def _environment(self, agent: Agent) -> dict[str, str]:
        """What the agent inherits; the same for every attempt of a run."""
        if agent.name not in self._environments:
            environment = build_environment(agent, os.environ, {})
            self._environments[agent.name] = with_gangline(environment)
        return self._environments[agent.name]

    def _program(self, agent: Agent) -> str:
        if agent.start not in self._programs:
            self._programs[agent.start] = require_program(agent, None)
        return self._programs[agent.start]

    def _setup(self, workspace: Workspace, environment: Mapping[str, str]) -> dict[str, Any]:
        """The setup command if this worktree has not been through it yet, and what marks it."""
        setup = self._config.workspace.setup
        if not setup or workspace.git_dir is None:
            return {}
        done = os.path.join(workspace.git_dir, _SETUP_DONE)
        if os.path.exists(done):
            return {}
        program = _setup_program(setup, environment)
        return {"setup": setup, "setup_program": program, "setup_done": done}


def _of_workspace(workspace: Workspace) -> dict[str, Any]:
    return {"cwd": workspace.path, "git_dir": workspace.git_dir, "branch": workspace.branch}


def _of_agent(agent: Agent) -> dict[str, Any]:
    interactive = agent.mode == "interactive"
    return {
        "agent": agent.name,
        "account": None if agent.prompt == "none" else agent.account,
        "reads_prompt": agent.prompt != "none",
        "reader": None if interactive else agent.reader,
        "interactive": interactive,
    }


def _of_session(plan: SessionPlan, issue: IssueState) -> dict[str, Any]:
    return {
        "session": plan.session or None,
        "resumed": plan.resumed,
        "afresh": plan.afresh,
        "messages": len(issue.messages),
    }


def _said_to_agent(batch: Batch, key: str, attempt_id: str, retry: int) -> dict[str, str]:
    return {
        "GANGLINE_AREA": batch.area,
        "GANGLINE_BATCH": batch.batch_id,
        "GANGLINE_ISSUE": key,
        "GANGLINE_ATTEMPT": attempt_id,
        "GANGLINE_RETRY": str(min(retry, 1)),
    }


def _setup_program(setup: tuple[str, ...], environment: Mapping[str, str]) -> str:
    if "/" in setup[0]:
        return setup[0]
    found = shutil.which(setup[0], path=environment.get("PATH"))
    if found is None:
        raise MachineError(
            f"program {setup[0]!r} of [workspace] setup is not on PATH",
            place="gangline.toml: workspace.setup",
            hint="install it, or write its full path",
        )
    return found


def no_agent() -> ConfigError:
    """No agent is named anywhere."""
    return ConfigError(
        "no agent is named",
        place="gangline.toml: batch.agent",
        hint='name one: gangline run AREA --agent claude, or agent = "claude" in [batch]',
    )


def check_agents(config: Config, batch_agent: str | None, issues: Sequence[IssueSpec]) -> None:
    """Refuse agents that are unknown or whose program is missing, before a batch is begun."""
    checked: set[object] = set()
    for spec in issues:
        wanted = spec.run[:1] if spec.run else spec.agent or batch_agent
        if wanted is None:
            raise no_agent()
        if wanted in checked:
            continue
        checked.add(wanted)
        agent = (
            command_agent(spec.run)
            if spec.run
            else find_agent(str(wanted), config.agents, spec.place if spec.agent else "--agent")
        )
        require_program(agent, None)
        if config.workspace.setup:
            _setup_program(config.workspace.setup, build_environment(agent, os.environ, {}))
