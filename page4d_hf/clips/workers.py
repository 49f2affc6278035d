"""Work spread over processes, its results in the order of the tasks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from ..errors import Page4DError

Tag = TypeVar("Tag")
Task = TypeVar("Task")
Result = TypeVar("Result")


def in_order(
    function: Callable[[Task], Result], tasks: Iterable[tuple[Tag, Task]], workers: int
) -> Iterator[tuple[Tag, Result]]:
    """Apply a function to tasks in other processes; gives each result as soon as those before it have been taken.

    No more than `workers + 2` tasks are under way or waiting to be taken at a time, which bounds the memory.

    Args:
        function: can be pickled, as can tasks and results.
        tasks: taken one at a time, as they are needed; each with a tag, which stays in this process.
        workers: how many processes; 0 does the work in this one.

    Yields:
        Each task's tag and result, in the order of the tasks.
    """
    if workers == 0:
        for tag, task in tasks:
            yield tag, function(task)
        return
    # Not forked: libraries in this process may hold locks that a copy of it would wait for in vain.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)
    under_way: deque[tuple[Tag, Future[Result]]] = deque()
    try:
        for tag, task in tasks:
            under_way.append((tag, pool.submit(function, task)))
            if len(under_way) >= workers + 2:
                done, future = under_way.popleft()
                yield done, future.result()
        while under_way:
            done, future = under_way.popleft()
            yield done, future.result()
    except BrokenProcessPool as error:
        raise Page4DError(
            "A worker process was killed, probably because memory ran out; run the command again with fewer --workers."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def start_worker() -> None:
    """Leave interrupts to the parent, end with it however it ends, and take one core."""
    os.environ["OMP_NUM_THREADS"] = "1"  # torch, where a task needs it, reads it when it is imported
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    # A pool's processes wait for tasks for ever if their parent is killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
