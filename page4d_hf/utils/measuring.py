"""Time and memory of what runs on a device, for benchmarks and reports."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch


def instant(device: torch.device) -> float:
    """Now, in seconds of `time.perf_counter`, once the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(function: Callable[[], object], device: torch.device) -> float:
    """Seconds that a call takes, to its end on the device."""
    started = instant(device)
    function()
    return instant(device) - started


def peak_memory(device: torch.device) -> int:
    """Peak memory in bytes: of a GPU, what PyTorch has had allocated there since its statistics were last reset; of the
    CPU, what the process has had since its start, its libraries included."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux counts KiB, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_ran_out(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, says that the memory of a device is used up."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    # PyTorch has a class of its own for a GPU's memory alone.
    said = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return said or (error.__cause__ is not None and memory_ran_out(error.__cause__))


def device_name(device: torch.device) -> str:
    """The hardware behind a device, as it calls itself."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text("utf8").splitlines()
        model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model} ({platform.machine()} CPU)"
