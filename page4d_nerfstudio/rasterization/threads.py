"""Sharing a kernel's work among threads.

Plain Python threads around kernels that release the interpreter's lock, rather than numba's own parallel loops: those
keep a second pool of OpenMP threads that spins beside PyTorch's, and their portable layer aborts the process when two
threads (training and the viewer) start loops at once.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    # Threads don't survive a fork: a child that rasterises starts its own.
    os.register_at_fork(after_in_child=_forget_pool)


def share(kernel: Callable[..., None], n: int, chunk: int, *arguments: Any) -> None:
    """Calls `kernel(first, last, *arguments)` for all of range(n), at most `chunk` at a time, in as many threads as
    `torch.get_num_threads()` says; returns when all is done, and raises what a call raised."""
    global _pool
    chunks = itertools.count()  # next() on it is atomic: each chunk is taken once

    def work() -> None:
        while (first := next(chunks) * chunk) < n:
            kernel(first, min(n, first + chunk), *arguments)

    n_helpers = min(torch.get_num_threads(), -(-n // chunk)) - 1
    if n_helpers < 1:
        work()
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix="rasterize")
    helpers = [_pool.submit(work) for _ in range(n_helpers)]
    try:
        work()
    finally:
        for helper in helpers:
            helper.result()
