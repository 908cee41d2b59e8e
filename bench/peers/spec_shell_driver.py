"""The specification's shell, re-enacted (spec_shell/): bash, jq and idle panes of a real tmux.

The orchestrator is started as a process of ours with $TMUX set, not typed into a pane, so that it
is killed and awaited like every other runner. Pane 0 stands for its pane.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence

from peers.driver import CommandDriver, environment, program
from workloads import Batch

AREA = "bench"


class SpecShellDriver(CommandDriver):
    name = "spec shell"
    resumable = True
    programs = ("bash", "jq", "tmux", "tsort")

    def version(self) -> str:
        return "orchestrator-recovery.md, re-enacted"

    def prepare(self, batch: Batch, width: int) -> None:
        area = batch.folder / ".workspace" / "orchestrate" / AREA
        area.mkdir(parents=True)
        status = {name: "blocked" if others else "pending" for name, others in batch.after.items()}
        self._write(batch, status)
        shell = ["bash", "--norc", "--noprofile"]
        self._tmux(batch, "-f", "/dev/null", "new-session", "-d", "-s", AREA, *shell)
        for _ in range(width):
            self._tmux(batch, "new-window", "-d", *shell)

    def command(self, batch: Batch, width: int) -> list[str]:
        return ["bash", program("spec_shell/orchestrate.sh"), AREA]

    def environment(self, batch: Batch) -> Mapping[str, str]:
        place = self._tmux(batch, "display-message", "-p", "#{socket_path},#{pid},0")
        return {"TMUX": place, "TMUX_PANE": "%0"}

    def mark_done(self, batch: Batch, names: Sequence[str]) -> None:
        done = set(names)
        ready = {name: done.issuperset(others) for name, others in batch.after.items()}
        status = {name: "pending" if ready[name] else "blocked" for name in batch.after}
        self._write(batch, status | dict.fromkeys(names, "completed"))

    def close(self, batch: Batch) -> None:
        command = ["tmux", "-S", self._socket(batch), "kill-server"]
        subprocess.run(command, capture_output=True, check=False)

    def _write(self, batch: Batch, status: Mapping[str, str]) -> None:
        state = {
            "area": AREA,
            "batchId": "bench",
            "agent": batch.job,
            "orchestratorPane": None,
            "issues": [int(name) for name in batch.after],
            "dag": {name: [int(other) for other in others] for name, others in batch.after.items()},
            "status": status,
            "dispatched": {},
        }
        path = batch.folder / ".workspace" / "orchestrate" / AREA / "batch.state.json"
        path.write_text(json.dumps(state, indent=2))

    def _socket(self, batch: Batch) -> str:
        return str(batch.folder / "tmux")

    def _tmux(self, batch: Batch, *arguments: str) -> str:
        command = ["tmux", "-u", "-S", self._socket(batch), *arguments]
        answer = subprocess.run(
            command,
            cwd=batch.folder,
            env=environment(batch),
            check=True,
            capture_output=True,
            text=True,
        )
        return answer.stdout.strip()
