"""What this machine has of what Gangline uses: programs, their versions, and the agents.

Versions are what the programs themselves say. A program that does not answer, or takes the question
for an order to begin its work, is ended with all it started; all are asked at once, so that the
slow ones do not add up. What they say is untrusted.
"""

import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from gangline.app.agents_found import (
    AgentFound,
    Question,
    agents_found,
    known_agents,
    version_questions,
)
from gangline.app.doctor_findings import Finding, Level
from gangline.app.settings import Config
from gangline.core.text import one_line
from gangline.errors import GanglineError
from gangline.hosts.tmux_server import require_tmux
from gangline.workspaces.git import git_version

VERSION_SECONDS_MAX = 5.0
_OUTPUT_BYTES_MAX = 4096
_VERSION_LENGTH_MAX = 40
_VERSION = re.compile(rb"\d+\.\d+[\w.+-]*")
_OPTIONAL = {
    "gh": "issues from GitHub; https://cli.github.com has it",
    "jq": "scripts that edit the state",
}


def check_machine() -> list[str]:
    """One line a program, for `gangline init`: there or not, and what it is for."""
    found = check_programs(Config(), os.getcwd(), needs_git=False)
    return [f"  {f.message}" + (f": {f.command}" if f.command else "") for f in found]


def check_programs(config: Config, folder: str, *, needs_git: bool) -> list[Finding]:
    """A finding for python, tmux, git, gh, jq and each agent.

    Args:
        config: Whose own agents are looked for; an own agent that is missing is wrong only if it is
            the one that issues get which name none.
        folder: Where the programs are asked for their version.
        needs_git: Whether the issues are to get worktrees.
    """
    agents = known_agents(config)
    questions = version_questions(agents, os.environ)
    asked = {"tmux": ["tmux", "-V"], "git": ["git", "--version"]}
    asked |= {name: [name, "--version"] for name in _OPTIONAL}
    ours = dict(os.environ)
    questions |= {name: Question(argv, ours) for name, argv in asked.items() if shutil.which(name)}
    versions = ask_versions(questions, folder)
    silent = _silence(VERSION_SECONDS_MAX)
    found = [_finding("program", Level.OK, f"python: {sys.version.partition(' ')[0]}")]
    found.append(_required("tmux", versions.get("tmux") == silent, require_tmux, Level.WRONG))
    grave = Level.WRONG if needs_git else Level.NOTE
    found.append(
        _required(
            "git",
            versions.get("git") == silent,
            lambda: _git(folder, versions.get("git", "")),
            grave,
        )
    )
    for name, purpose in _OPTIONAL.items():
        level = Level.OK if name in versions else Level.NOTE
        found.append(
            _finding("program", level, f"{name}: {versions.get(name, 'not found')} ({purpose})")
        )
    found += [_agent(each) for each in agents_found(agents, versions, config)]
    return found


def look_at_agents(config: Config, folder: str) -> list[AgentFound]:
    """What this machine has of every agent, each asked for its version."""
    agents = known_agents(config)
    return agents_found(agents, ask_versions(version_questions(agents, os.environ), folder), config)


def _finding(check: str, level: Level, message: str, command: str | None = None) -> Finding:
    return Finding(check=check, level=level, message=message, command=command)


def _git(folder: str, told: str) -> str:
    git_version(folder)  # refuses one that is too old
    return f"{told} (worktrees)"


def _required(name: str, silent: bool, ask: Callable[[], str], grave: Level) -> Finding:
    """A program with a least version, judged as a run judges it."""
    if silent:  # it would only be waited for once more, and for longer
        return _finding("program", grave, f"{name}: {_silence(VERSION_SECONDS_MAX)}")
    try:
        return _finding("program", Level.OK, f"{name}: {ask()}")
    except GanglineError as error:
        causes = f" ({'; '.join(error.causes)})" if error.causes else ""
        return _finding("program", grave, f"{name}: {error.message}{causes}; {error.hint}")


def _agent(agent: AgentFound) -> Finding:
    name, program = agent.name, agent.program
    named = "" if program == name else f" ({program})"
    if not agent.found:
        why = "; [batch] agent of gangline.toml names it" if agent.is_default else ""
        level = Level.WRONG if agent.is_default else Level.NOTE
        message = f"agent {name}: not found{named}{why}"
        return _finding("agent", level, message, agent.install)
    if agent.version is not None:
        words = f"{agent.version}{named}"
    else:
        words = f"found ({program})" if agent.path else f"{program} in the worktree"
    return _finding("agent", Level.OK, f"agent {name}: {words}")


def _silence(seconds: float) -> str:
    return f"found, but it did not tell its version within {seconds:g} s"


def ask_versions(
    questions: Mapping[str, Question], folder: str, *, seconds: float = VERSION_SECONDS_MAX
) -> dict[str, str]:
    """What each program says of its version, made harmless, on one line; all asked at once.

    Args:
        questions: How to ask, by any name.
        folder: Where they are run.
        seconds: After this all that have not answered are ended.
    """
    answers = dict.fromkeys(questions, "")
    started: list[subprocess.Popen[bytes]] = []
    said: dict[str, bytes] = {}
    with selectors.DefaultSelector() as selector:
        try:
            for name, question in questions.items():
                try:
                    process = _start(question, folder)
                except OSError as error:
                    answers[name] = f"found, but it cannot be started: {error.strerror}"
                    continue
                started.append(process)
                selector.register(process.stdout or 0, selectors.EVENT_READ, name)
            _listen(selector, said, time.monotonic() + seconds)
            late = {key.data for key in selector.get_map().values()}
        finally:
            _end(started)
    for name in questions:
        if not answers[name]:
            version = _VERSION.search(said.get(name, b""))
            told = one_line(version[0].decode(), _VERSION_LENGTH_MAX) if version else ""
            untold = (
                _silence(seconds) if name in late else "found, but it does not tell its version"
            )
            answers[name] = told or untold
    return answers


def _start(question: Question, folder: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        question.argv,
        cwd=folder,
        env=question.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that all it starts can be ended with it
    )


def _listen(selector: selectors.BaseSelector, said: dict[str, bytes], deadline: float) -> None:
    """Collect what is said until everybody has ended or said enough, or the time is over."""
    while selector.get_map() and (left := deadline - time.monotonic()) > 0:
        for key, _ in selector.select(left):
            data = os.read(key.fd, _OUTPUT_BYTES_MAX)
            said[key.data] = said.get(key.data, b"") + data
            if not data or len(said[key.data]) >= _OUTPUT_BYTES_MAX:
                selector.unregister(key.fileobj)


def _end(started: Sequence["subprocess.Popen[bytes]"]) -> None:
    """End each with its whole session; not waited for before, so its number is still its own."""
    for process in started:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout:
            process.stdout.close()
        process.wait()
