"""Runs batch.json with DBOS; the argument is how many jobs run at once.

A workflow has to start its steps in the same order each time, so the jobs run in waves: all jobs
whose dependencies are in earlier waves, `width` at once. After a crash the same command takes the
workflow up again: `launch` recovers it, `start_workflow` with its id gives the handle.
"""

import asyncio
import json
import sys
from pathlib import Path

from dbos import DBOS, SetWorkflowID


@DBOS.step()
async def run(job: str, name: str) -> None:
    process = await asyncio.create_subprocess_exec(job, name)
    if await process.wait():
        raise RuntimeError(name)


@DBOS.workflow()
async def run_all(job: str, waves: list[list[str]], width: int) -> None:
    slots = asyncio.Semaphore(width)

    async def in_slot(name: str) -> None:
        async with slots:
            await run(job, name)

    for wave in waves:
        await asyncio.gather(*[in_slot(name) for name in wave])


def in_waves(after: dict[str, list[str]]) -> list[list[str]]:
    wave_of: dict[str, int] = {}
    for name, others in after.items():
        wave_of[name] = 1 + max((wave_of[other] for other in others), default=-1)
    waves: list[list[str]] = [[] for _ in range(1 + max(wave_of.values()))]
    for name, wave in wave_of.items():
        waves[wave].append(name)
    return waves


async def main(batch: dict) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": "sqlite:///bench.sqlite",
            "log_level": "WARNING",
        }
    )
    DBOS.launch()
    with SetWorkflowID("batch"):
        handle = await DBOS.start_workflow_async(
            run_all, batch["job"], in_waves(batch["after"]), int(sys.argv[1])
        )
    await handle.get_result()
    DBOS.destroy()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path("batch.json").read_text())))
