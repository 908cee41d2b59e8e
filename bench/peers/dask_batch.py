"""Runs batch.json with dask.distributed; the argument is how many jobs run at once."""

import json
import subprocess
import sys
from pathlib import Path

from distributed import Client


def run(job, name, others):
    """The results of the others are unused: they make the edges."""
    subprocess.run([job, name], check=True)
    return name


def main():
    batch = json.loads(Path("batch.json").read_text())
    width = int(sys.argv[1])
    options = {"n_workers": 1, "threads_per_worker": width, "dashboard_address": None}
    with Client(processes=False, **options) as client:
        futures = {}
        for name, others in batch["after"].items():
            waits = [futures[other] for other in others]
            futures[name] = client.submit(run, batch["job"], name, waits, key=f"job-{name}")
        client.gather(list(futures.values()))


if __name__ == "__main__":
    main()
