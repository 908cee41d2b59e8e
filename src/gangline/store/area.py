"""Where an area keeps what (DESIGN.md section 3, contract)."""

import os


class AreaPaths:
    """The paths of one area under `{workspace}/orchestrate/`. Makes nothing."""

    def __init__(self, workspace: str, area: str) -> None:
        self.area = area
        self.root = os.path.join(workspace, "orchestrate")
        self.folder = os.path.join(self.root, area)
        self.journal = os.path.join(self.folder, "batch.journal.jsonl")
        self.state = os.path.join(self.folder, "batch.state.json")
        self.issues = os.path.join(self.folder, "batch.issues.json")
        self.log = os.path.join(self.folder, "orchestrator.log")
        self.wake = os.path.join(self.folder, "wake")
        self.attempts = os.path.join(self.folder, "attempts")
        self.locks = os.path.join(self.root, ".locks")
        self.orchestrator_lock = os.path.join(self.locks, f"{area}.orchestrator")
        self.journal_lock = os.path.join(self.locks, f"{area}.journal")
        self.archive = os.path.join(self.root, ".archive", area)
        self.worktrees = os.path.join(workspace, "worktrees", area)


def areas(workspace: str) -> list[str]:
    """The areas that have a batch, sorted."""
    root = os.path.join(workspace, "orchestrate")
    try:
        names = os.listdir(root)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(
        name
        for name in names
        if not name.startswith(".")
        and any(
            os.path.exists(os.path.join(root, name, file))
            for file in ("batch.journal.jsonl", "batch.state.json")
        )
    )
