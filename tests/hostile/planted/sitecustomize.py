"""What the world does to one gangline process of a test: it is stopped at a named call, or its
clocks are others. Python imports this first where it is on PYTHONPATH; `GANGLINE_HOSTILE` says what
is done, in JSON:

    {"stop": ["MODULE:[CLASS.]NAME", N]}   SIGSTOP itself just before the Nth call
    {"wall": PATH}                         the wall clock is off by the seconds in this file
    {"boot_ahead": N}                      the boot clock is N seconds ahead (a suspension)
    {"boot_rate": N}                       it runs N times as fast
    {"set": {"MODULE:NAME": VALUE}}        a patience of the program is another
    {"tmux_seconds": N}                    how long a tmux command may take

The program itself stays as it is. The machine's own clock is never touched: others live by it.
"""

import functools
import importlib
import json
import os
import signal
import time


def _stop_before(place, nth):
    module, _, path = place.partition(":")
    owner_name, _, name = path.rpartition(".")
    owner = importlib.import_module(module)
    owner = getattr(owner, owner_name) if owner_name else owner
    original = getattr(owner, name)
    calls = 0

    @functools.wraps(original)
    def stopping(*arguments, **options):
        nonlocal calls
        calls += 1
        if calls == nth:
            os.kill(os.getpid(), signal.SIGSTOP)
        return original(*arguments, **options)

    setattr(owner, name, stopping)


def _step_wall_clock(path):
    true_time = time.time

    def stepped():
        with open(path, encoding="ascii") as file:
            return true_time() + float(file.read() or 0)

    time.time = stepped


def _move_boot_clock(ahead, rate):
    from gangline.hosts import processes

    true_seconds, begun = processes.boot_seconds, processes.boot_seconds()
    processes.boot_seconds = lambda: begun + ahead + (true_seconds() - begun) * rate


def _plant(plan):
    if "wall" in plan:
        _step_wall_clock(plan["wall"])
    _move_boot_clock(plan.get("boot_ahead", 0), plan.get("boot_rate", 1))
    for place, value in plan.get("set", {}).items():
        module, _, name = place.partition(":")
        setattr(importlib.import_module(module), name, value)
    if "tmux_seconds" in plan:
        from gangline.hosts.tmux_server import TmuxServer

        TmuxServer.__init__.__kwdefaults__["timeout_seconds"] = plan["tmux_seconds"]
    if "stop" in plan:
        _stop_before(*plan["stop"])


if os.environ.get("GANGLINE_HOSTILE"):
    _plant(json.loads(os.environ.pop("GANGLINE_HOSTILE")))
