"""A person's tmux session beside which `gangline run` works: shells at their prompts, typed at.

What must stay true: the orchestrator is started by a line that is typed into a pane, as a person
does it; agents report into a ledger that Gangline knows nothing of and wait at gates that only the
test opens, so nothing is decided by time.
"""

import json
import os
import shlex
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from project import SAFETY_SECONDS, Project

from gangline.hosts.idle import PANE_OPTION

READY = "ready:"
PROMPTS = {
    ".bashrc": f"PS1='{READY} '\nHISTCONTROL=ignorespace\n",
    ".zshrc": f"PS1='{READY} '\n",
    ".dashrc": f"PS1='{READY} '\n",
    ".config/fish/config.fish": f"function fish_prompt; echo -n '{READY} '; end\n"
    "function fish_mode_prompt; end\nif set -q VI_KEYS; fish_vi_key_bindings; end\n",
}
# `beside` counts agents of the same issue that still lived when this one began.
_AGENT = r"""
ledger=$1; gate=$2/gate-$GANGLINE_AREA-$GANGLINE_ISSUE
beside=0
for pid in $(sed -n "s/^start $GANGLINE_AREA $GANGLINE_ISSUE //p" "$ledger" | cut -d' ' -f2); do
  if kill -0 "$pid" 2>/dev/null; then beside=$((beside + 1)); fi
done
note() {
  echo "$1 $GANGLINE_AREA $GANGLINE_ISSUE ${GANGLINE_ATTEMPT##*-a} $$ $beside $GANGLINE_RETRY" \
    >>"$ledger"
}
trap 'note interrupt; exit 7' INT
note start
echo "agent of $GANGLINE_ISSUE works"
read code <"$gate"
note end
exit "$code"
"""


class Line(NamedTuple):
    """One line of the ledger, in the order of writing."""

    what: str
    area: str
    issue: int
    attempt: int
    pid: int
    beside: int
    retry: int


class IdleStage(Project):
    """A project with `panes = "idle"` and a session `user` whose first pane is the orchestrator's.

    Attributes:
        own: The pane in which `gangline` is typed.
    """

    def __init__(self, room: Path, *, name: str = "project", workspace: str = "shared") -> None:
        super().__init__(room, name=name)
        self.settings(f"[workspace]\nkind = '{workspace}'\n[batch]\npanes = 'idle'\n")
        self.commit()
        self.ledger_path = room / "ledger"
        self.ledger_path.touch()
        self._agent = room / "agent.sh"
        self._agent.write_text(_AGENT)
        self._gates: dict[str, int] = {}
        # Without the folder, a fish that is new to its user reads every manual page of the machine.
        (self.home / ".local/share/fish/generated_completions").mkdir(parents=True)
        for path, text in PROMPTS.items():
            (self.home / path).parent.mkdir(parents=True, exist_ok=True)
            (self.home / path).write_text(text)
        self.environment |= {"ENV": str(self.home / ".dashrc"), "LC_ALL": "C.UTF-8", "EDITOR": ""}
        self.program("orchestrate", self._orchestrate())
        self.own = self.new_session("user")

    def _orchestrate(self) -> str:
        """A program that runs gangline in the project and notes its exit code: `AREA=CODE`."""
        said, codes = shlex.quote(str(self.room / "said")), shlex.quote(str(self.room / "codes"))
        command = shlex.join([*self.command("run"), ""]).removesuffix("''")
        return (
            f'cd {shlex.quote(str(self.folder))}\n{command} "$@" >>{said} 2>&1\n'
            f'echo "$1=$?" >>{codes}'
        )

    # -- panes -----------------------------------------------------------------------------

    def new_session(self, name: str) -> str:
        """A session with one bash at its prompt; its pane."""
        size = ("-x", "200", "-y", "50")
        made = self.ask("-f", os.devnull, "new-session", "-d", "-P", "-F", "#{pane_id}", *size,
                        "-s", name, "env", "bash")  # fmt: skip
        self.wait_for_prompt(made)
        return made

    def ask(self, *argv: str) -> str:
        """What tmux answers."""
        done = self.tmux(*argv)
        assert done.returncode == 0, done.stderr
        return done.stdout.rstrip("\n")

    def open(self, *argv: str, session: str = "user", env: Mapping[str, str] | None = None) -> str:
        """A window with a shell at its prompt, bash unless told; its pane."""
        pane = self.open_without_prompt(*(argv or ("bash",)), session=session, env=env)
        self.wait_for_prompt(pane)
        return pane

    def open_without_prompt(
        self, *argv: str, session: str = "user", env: Mapping[str, str] | None = None
    ) -> str:
        assert shutil.which(argv[0]), f"this test needs the shell {argv[0]}: install it"
        words = [f"{name}={value}" for name, value in (env or {}).items()]
        new = ("new-window", "-d", "-P", "-F", "#{pane_id}", "-t", f"={session}:")
        return self.ask(*new, "-c", str(self.home), "env", *words, *argv)

    def wait_for(
        self, condition: Callable[[], Any], what: str, seconds: float = SAFETY_SECONDS
    ) -> Any:
        """As of every project; a failure shows what the panes show."""
        try:
            return super().wait_for(condition, what, seconds)
        except AssertionError as error:
            panes = self.tmux("list-panes", "-a", "-F", "#{pane_id}").stdout.split()
            shown = [f"-- {pane}\n{self.screen(pane)}" for pane in panes]
            raise AssertionError("\n".join([str(error), self.said(), *shown])) from None

    def wait_for_prompt(self, pane: str) -> None:
        self.wait_for(lambda: self.screen(pane).endswith(READY), "a prompt")

    def type(self, pane: str, line: str) -> None:
        """Type a line and Enter."""
        self.ask("send-keys", "-l", "-t", pane, "--", line)
        self.ask("send-keys", "-t", pane, "Enter")

    def screen(self, pane: str) -> str:
        return self.ask("capture-pane", "-p", "-J", "-t", pane).rstrip()

    def tell(self, pane: str, line: str) -> str:
        """What the shell of this pane says to a line: what it writes to `$told`."""
        told = self.room / f"told-{pane[1:]}"
        os.mkfifo(told)
        self.type(pane, f"{line} >{shlex.quote(str(told))}")
        said = told.read_text().rstrip("\n")
        told.unlink()
        return said

    def option(self, pane: str) -> str:
        """For which attempt the pane is taken; empty: for none."""
        return self.ask("show-options", "-p", "-v", "-q", "-t", pane, PANE_OPTION)

    def assert_given_back(self, *panes: str) -> None:
        """These panes live, are at their prompts, and bear no option."""
        for pane in panes:
            self.wait_for_prompt(pane)
            assert self.ask("show-options", "-p", "-t", pane) == ""
            assert self.ask("display-message", "-p", "-t", pane, "#{pane_dead}") == "0"

    # -- agents ----------------------------------------------------------------------------

    def issue(self, number: int, *, area: str = "work", let: bool = False) -> dict[str, Any]:
        """An issue that is done by the script; it waits for `let` unless that is given already."""
        gate = self.room / f"gate-{area}-{number}"
        os.mkfifo(gate)
        self._gates[f"{area}-{number}"] = os.open(gate, os.O_RDWR)
        if let:
            self.let(number, area=area)
        run = ["sh", str(self._agent), str(self.ledger_path), str(self.room)]
        return {"id": number, "title": f"issue {number}", "run": run}

    def let(self, *numbers: int, code: int = 0, area: str = "work") -> None:
        """Let an agent of each of these issues end, now or when it comes to its gate."""
        for number in numbers:
            os.write(self._gates[f"{area}-{number}"], f"{code}\n".encode())

    def ledger(self) -> list[Line]:
        lines = []
        for text in self.ledger_path.read_text().splitlines():
            what, area, *numbers = text.split()
            lines.append(Line(what, area, *map(int, numbers)))
        return lines

    def starts(self, issue: int | None = None) -> list[Line]:
        return [
            line for line in self.ledger() if line.what == "start" and issue in (None, line.issue)
        ]

    def wait_for_starts(self, count: int) -> None:
        self.wait_for(lambda: len(self.starts()) >= count, f"{count} agents have started")

    # -- the orchestrator ------------------------------------------------------------------

    def begin(self, issues: Sequence[Mapping[str, Any]], *options: str, area: str = "work") -> None:
        """Type `gangline run` on a new batch into the orchestrator's pane."""
        self.type(self.own, self.run_line(issues, *options, area=area))

    def run_line(
        self, issues: Sequence[Mapping[str, Any]], *options: str, area: str = "work"
    ) -> str:
        """The line that runs a new batch."""
        source = self.plan(issues, "plan.json" if area == "work" else f"{area}.json")
        return shlex.join(["orchestrate", area, "--from", source, *options])

    def resume(self) -> None:
        self.type(self.own, "orchestrate work")

    def said(self) -> str:
        path = self.room / "said"
        return path.read_text() if path.exists() else ""

    def wait_for_code(self, code: int, area: str = "work") -> None:
        """Wait until a run of the area has ended; its exit code has to be that."""
        codes = self.room / "codes"
        look = lambda: codes.exists() and f"{area}=" in codes.read_text()  # noqa: E731
        self.wait_for(look, f"the run of {area} has ended")
        ends = [each for each in codes.read_text().split() if each.startswith(f"{area}=")]
        assert ends == [f"{area}={code}"], self.said()
        codes.unlink()

    def kill_orchestrator(self) -> None:
        """Kill -9 the orchestrator alone."""
        os.kill(self.status()["orchestrator"]["pid"], signal.SIGKILL)
        self.wait_for_code(137)

    def attempts(self, issue: int, area: str = "work") -> list[dict[str, Any]]:
        """The attempts of an issue, oldest first, as `status --json` tells them."""
        view = next(i for i in self.status(area)["issues"] if i["id"] == issue)
        attempts: list[dict[str, Any]] = view["attempts"]
        return attempts

    def pane_of(self, issue: int) -> str:
        """The pane of an issue's newest attempt, once it is recorded."""
        return self.wait_for(lambda: self.recorded_pane(issue), f"the pane of #{issue}")

    def recorded_pane(self, issue: int) -> str | None:
        state = json.loads((self.area() / "batch.state.json").read_text())
        return state["dispatched"].get(str(issue), {}).get("pane")

    def close(self) -> None:
        for gate in self._gates.values():
            os.close(gate)
        super().close()
