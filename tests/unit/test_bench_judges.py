"""The benchmark's judges find what they are to find: a judge that cannot convict proves nothing."""

from pathlib import Path

from workloads import Batch, Crash, Run, faults, judge

NAMES = ["1", "2"]


def run(name: str, pid: int, start: int, end: int | None) -> Run:
    return Run(name=name, pid=pid, start=start, end=end)


def test_each_job_run_once_is_without_fault():
    runs = [run("1", 10, 0, 5), run("2", 11, 0, 6)]
    assert judge(NAMES, runs, {}) == Crash(twice=0, redone=0, lost=0)


def test_second_start_while_the_first_lives_is_twice():
    runs = [run("1", 10, 0, 50), run("1", 12, 20, 60), run("2", 11, 0, 6)]
    assert judge(NAMES, runs, {}) == Crash(twice=1, redone=0, lost=0)


def test_second_start_after_the_end_is_redone():
    runs = [run("1", 10, 0, 5), run("1", 12, 20, 25), run("2", 11, 0, 6)]
    assert judge(NAMES, runs, {}) == Crash(twice=0, redone=1, lost=0)


def test_start_again_after_a_kill_is_no_fault_and_before_its_death_is_twice():
    runs = [run("1", 10, 0, None), run("1", 12, 20, 25), run("2", 11, 0, 6)]
    assert judge(NAMES, runs, {10: 15}) == Crash(twice=0, redone=0, lost=0)
    assert judge(NAMES, runs, {10: 21}) == Crash(twice=1, redone=0, lost=0)


def test_job_that_never_ended_is_lost():
    assert judge(NAMES, [run("1", 10, 0, 5), run("2", 11, 0, None)], {}).lost == 1
    assert judge(NAMES, [run("1", 10, 0, 5)], {}).lost == 1


def test_jobs_run_again_or_before_what_they_wait_for_are_named(tmp_path: Path):
    batch = Batch(tmp_path, {"1": (), "2": ("1",)})
    batch.log.write_text("1 10\n2 20\n")
    assert faults(batch) == ""
    batch.log.write_text("2 10\n1 20\n2 30\n")
    assert faults(batch) == "1 run again, 1 run too early"
