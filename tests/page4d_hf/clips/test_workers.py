"""Work in other processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launching import AS_COMMAND

from page4d_hf.clips.workers import in_order
from page4d_hf.errors import Page4DError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick_programs")]

ORPHANS = f"""
{AS_COMMAND}
import os, signal
from page4d_hf.clips.workers import in_order

def pid(_):
    return os.getpid()

if __name__ == "__main__":
    results = in_order(pid, ((None, i) for i in range(100)), 1)
    print(next(results)[1], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def squared(value: int) -> int:
    time.sleep(0.05 if value == 0 else 0)  # the first is not the first to end
    return value**2


def kill_self(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_the_order_of_the_tasks_with_their_tags(workers):
    results = in_order(squared, ((f"task {i}", i) for i in range(10)), workers)
    assert list(results) == [(f"task {i}", i**2) for i in range(10)]


def test_tasks_are_taken_no_earlier_than_they_are_needed():
    taken = 0

    def tasks() -> Iterator[tuple[None, int]]:
        nonlocal taken
        for i in range(20):
            taken += 1
            yield None, i

    results = in_order(squared, tasks(), 1)
    next(results)
    assert taken <= 3
    list(results)
    assert taken == 20


def test_a_worker_that_is_killed_is_said_to_be():
    with pytest.raises(Page4DError, match="memory ran out; run the command again with fewer --workers"):
        list(in_order(kill_self, [(None, 0)], 1))


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    program = tmp_path / "orphans.py"
    program.write_text(ORPHANS)
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    # `run` returned because the pipes have no holder any more, so the worker has ended; who inherited it may not have
    # noticed yet, in which case it is a zombie.
    status = Path(f"/proc/{int(done.stdout)}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()
