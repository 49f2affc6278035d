"""gsplat's kernels, compiled beside the first phases."""

from __future__ import annotations

import importlib
import os
import shutil
import time
from importlib.util import find_spec
from pathlib import Path

import torch

from page4d_hf.errors import Page4DError
from page4d_hf.utils.programs import not_installed

from .session import Session


def run(session: Session) -> None:
    spec = find_spec("gsplat")
    if spec is None or spec.origin is None:
        raise Page4DError(f"{not_installed('This phase needs gsplat', 'nerfstudio')} Or give a --bundle with it.")
    package = Path(spec.origin).parent
    started = time.monotonic()
    if find_spec("gsplat.csrc") is None:
        major, minor = torch.cuda.get_device_capability()
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", f"{major}.{minor}")
        # Two cores stay for what runs beside it.
        os.environ.setdefault("MAX_JOBS", str(max(1, (os.cpu_count() or 1) - 2)))
        if Path(session.output).resolve() in package.resolve().parents:
            build(package, session.folder, package / "csrc.so")
            importlib.invalidate_caches()
    from gsplat.cuda._backend import _C  # where there is no csrc.so, gsplat compiles for itself

    if _C is None:
        raise Page4DError("gsplat has no kernels: there is no CUDA toolkit (nvcc) to compile them with.")
    session.add("gsplat's kernels", seconds=time.monotonic() - started)


def build(package: Path, folder: Path, result: Path) -> None:
    """Compile gsplat's kernels with gsplat's own flags, as the module that gsplat looks for before it compiles any.

    gsplat removes a build that another process has not finished, and each process asks ninja anew; a module that is
    there at once spares both, and can be kept for the next machine of the same kind.

    Args:
        package: gsplat's folder.
        folder: for what comes in between.
        result: where the module goes; it must be called `csrc.so`.
    """
    from torch.utils.cpp_extension import load

    sources = package / "cuda" / "csrc"
    load(
        "csrc",
        sorted(map(str, [*sources.glob("*.cu"), *sources.glob("*.cpp")])),
        extra_cflags=["-O3"],
        extra_cuda_cflags=["-O3", "--use_fast_math"],
        extra_include_paths=[str(sources), str(sources / "third_party" / "glm")],
        build_directory=str(folder),
        verbose=True,
    )
    partial = result.with_suffix(".partial")
    shutil.copyfile(folder / "csrc.so", partial)
    partial.rename(result)
