"""What this machine has of what Gangline uses."""

import shutil

from gangline.agents.registry import presets
from gangline.errors import GanglineError
from gangline.hosts.tmux_server import require_tmux

_OPTIONAL = {"git": "worktrees", "gh": "issues from GitHub", "jq": "scripts that edit the state"}


def check_machine() -> list[str]:
    """One line a program: there or not, and what it is for."""
    lines = []
    try:
        lines.append(f"  tmux: {require_tmux()}")
    except GanglineError as error:
        lines.append(f"  tmux: {error.message}; {error.hint}")
    for program, purpose in _OPTIONAL.items():
        found = "found" if shutil.which(program) else "not found"
        lines.append(f"  {program}: {found} ({purpose})")
    for name, preset in presets().items():
        program = (preset.start or (name,))[0]
        found = "found" if shutil.which(program) else f"not found ({preset.install})"
        lines.append(f"  agent {name}: {found}")
    return lines
