"""Snakemake: one rule, one output file a job, with its faster scheduler and without its banner."""

import subprocess
from collections.abc import Sequence

from peers.driver import CommandDriver, environment, python
from peers.make_driver import touch_all
from workloads import Batch

SNAKEFILE = """
import json

batch = json.load(open("batch.json"))

rule all:
    input: [f"done/{name}" for name in batch["after"]]

rule job:
    input: lambda wildcards: [f"done/{name}" for name in batch["after"][wildcards.name]]
    output: touch("done/{name}")
    params: job = batch["job"]
    shell: "{params.job} {wildcards.name}"
"""


class SnakemakeDriver(CommandDriver):
    name = "snakemake"
    resumable = True
    module = "snakemake"

    def prepare(self, batch: Batch, width: int) -> None:
        batch.write()
        (batch.folder / "Snakefile").write_text(SNAKEFILE)

    def command(self, batch: Batch, width: int) -> list[str]:
        options = ["--scheduler", "greedy", "--quiet", "all", "--rerun-incomplete"]
        return [python(), "-m", "snakemake", "--cores", str(width), *options]

    def mend(self, batch: Batch) -> None:
        """It refuses to run in a folder that a killed one has locked."""
        command = [python(), "-m", "snakemake", "--unlock"]
        subprocess.run(
            command, cwd=batch.folder, env=environment(batch), check=True, capture_output=True
        )

    def mark_done(self, batch: Batch, names: Sequence[str]) -> None:
        touch_all(batch, names)
