"""The tasks that doit is given: one a job, done once it has run once."""

import json
from pathlib import Path

from doit.tools import run_once

BATCH = json.loads(Path("batch.json").read_text())


def task_job():
    for name, others in BATCH["after"].items():
        yield {
            "name": name,
            "actions": [[BATCH["job"], name]],
            "task_dep": [f"job:{other}" for other in others],
            "uptodate": [run_once],
        }
