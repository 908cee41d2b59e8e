"""A project whose issues go to real coding agents, and the stub they talk to.

It is `Project` of the acceptance tests, with more in it: the pinned programs of the cache first on
PATH, a HOME that each of them knows, and a network of loopback only where the machine allows that.
Each agent is a small script that enters the network and becomes the real program, so Gangline runs
it as a user's.
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import homes
import install
import network
import pytest
from project import Project, Started
from stub_server import Stub

ASKED = tuple(os.environ.get("GANGLINE_AGENTS", "").split()) or install.AGENTS
# Real agents take seconds to start, each; reached only by a test that fails.
AGENT_SAFETY_SECONDS = 600.0


class AgentProject(Project):
    """A project, a stub model server, and agents on request: `use("claude", "codex")`."""

    def __init__(self, room: Path) -> None:
        super().__init__(room)
        self.network = network.loopback_only()
        self.stub = Stub(room / "stub", self.network.listen() if self.network else None)
        self.stub.__enter__()
        self.program("gangline", f'exec {shlex.quote(sys.executable)} -m gangline "$@"')
        # Not above HOME, which Codex distrusts in the temporary folder.
        temporary = self._short / "tmp"
        temporary.mkdir()
        self.environment["TMPDIR"] = str(temporary)
        self.environment["TZ"] = "UTC"

    def close(self) -> None:
        """End everything; a tool that still waits is let go first."""
        self.stub.__exit__()
        try:
            super().close()
        finally:
            if self.network is not None:
                self.network.close()

    # -- agents ----------------------------------------------------------------------------

    def use(self, *agents: str) -> None:
        """Set these agents up in this project, or skip the test where one is not installed."""
        for agent in agents:
            if agent not in ASKED:
                pytest.skip(f"{agent} was not asked for: GANGLINE_AGENTS is {' '.join(ASKED)}")
            if not install.is_installed(agent):
                pytest.skip(f"{agent} is not installed: make test-agents AGENTS={agent}")
            variables = homes.prepare(agent, self.home, self.stub.url, self.folder)
            self.environment |= variables
            program: list[str | Path] = [install.programs_folder() / agent]
            argv = self.network.wrap(program) if self.network else map(str, program)
            self.program(agent, f'exec {shlex.join(argv)} "$@"')
        path = self.environment["PATH"].removeprefix(f"{self.programs}:")
        if (first := str(install.programs_folder())) not in path.split(":"):
            self.environment["PATH"] = f"{self.programs}:{first}:{path}"

    def run_to_end(self, *argv: str, check: int = 0) -> Started:
        """Run gangline to its end, as long as real agents take; its exit code has to be `check`."""
        started = self.start(*argv)
        self.wait_for(
            lambda: started.poll() is not None, "gangline ends", seconds=AGENT_SAFETY_SECONDS
        )
        assert started.returncode == check, f"exit {started.returncode}\n{started.text()}"
        return started

    # -- issues ----------------------------------------------------------------------------

    def log(self, issue: int | str, area: str = "work") -> str:
        """What the attempts of an issue printed, in order."""
        attempts = sorted(self.area(area).glob(f"attempts/*-{issue}-a*/output.log"))
        return "\n".join(path.read_text(errors="replace") for path in attempts)

    def branch(self, issue: int | str, area: str = "work") -> str:
        return f"gangline/{area}/issue-{issue}"

    def committed(self, issue: int | str, file: str, area: str = "work") -> str:
        """The content of a file as it is committed on an issue's branch."""
        return self.git("show", f"{self.branch(issue, area)}:{file}")

    def subjects(self, issue: int | str, area: str = "work") -> list[str]:
        """The commits of an issue's branch that the main branch does not have, newest first."""
        return self.git("log", "--format=%s", f"main..{self.branch(issue, area)}").splitlines()


def issue(number: int, stub: str, *, depends_on: Sequence[int] = (), **more: Any) -> dict[str, Any]:
    """An issue of a plan file; `stub` tells the model what to do (see stub_scenarios)."""
    return {
        "id": number,
        "title": f"Write greeting {number}",
        "body": f"Write the file and commit it.\n\nSTUB: {stub}\n",
        "depends_on": list(depends_on),
        **more,
    }
