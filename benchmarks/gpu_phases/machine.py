"""The machine: what it is, what is installed, and how fast it multiplies matrices."""

from __future__ import annotations

import os
import platform
import statistics

import torch

from page4d_hf.errors import Page4DError
from page4d_hf.package_version import versions_of
from page4d_hf.utils.measuring import device_name, timed

from .session import Session

PACKAGES = ("torch", "transformers", "accelerate", "numpy", "numba", "nerfstudio", "gsplat", "page4d")


def run(session: Session) -> None:
    if session.device == "cuda" and not torch.cuda.is_available():
        raise Page4DError("PyTorch finds no CUDA device; --toy runs everything in small on the CPU.")
    device = torch.device(session.device)
    earlier = session.row("device")
    if earlier is not None and earlier["value"] != device_name(device):
        raise Page4DError(
            f"The figures in {session.output} are of {earlier['value']}, and this is {device_name(device)}; name "
            "another --output."
        )
    if earlier is None:
        memory = torch.cuda.get_device_properties(device).total_memory / 2**30 if device.type == "cuda" else None
        session.add("device", value=device_name(device))
        session.add("GPU memory, GiB", value=memory)
        session.add("CUDA", value=torch.version.cuda if device.type == "cuda" else None)
        session.add("Python", value=platform.python_version())
        session.add("cores", value=os.cpu_count())
        found = versions_of(PACKAGES)
        for package in PACKAGES:
            session.add(package, value=found.get(package))
    if not session.has("bf16 matrix product, TFLOP/s"):
        session.add(
            "bf16 matrix product, TFLOP/s", value=matrix_product_rate(device, 256 if session.toy else 8192) / 1e12
        )


def matrix_product_rate(device: torch.device, size: int) -> float:
    """FLOP/s of a product of square matrices of random numbers in bfloat16: median of ten, after three to warm up."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = [timed(lambda: a @ b, device) for _ in range(13)][3:]
    return 2 * size**3 / statistics.median(seconds)
