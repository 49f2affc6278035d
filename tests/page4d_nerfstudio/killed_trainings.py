"""Program: trains in children of its own, some of which it kills, all with what it has imported once.

Each line of its input is a JSON object: `words` of ns-train, `log` file for what the child says, and at most one of
`kill_after` (seconds after the first checkpoint is there), `kill_in_save` (number of the checkpoint in whose writing
the child dies) and `largest_file` (in bytes; a disk that is full for larger ones). Answers each
with a line: the child's exit code, negative where a signal ended it.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import torch
import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from nerfstudio.scripts import train as ns_train

import page4d_nerfstudio.trainer  # noqa: F401  # once for all
from page4d_nerfstudio.rasterization import rasterize


def compile_kernels() -> None:
    """Once for all children."""
    points = torch.tensor([[0.0, 0.0, 2.0]], requires_grad=True)
    one = torch.ones(1)
    camera = {"viewmats": torch.eye(4)[None], "Ks": torch.eye(3)[None] * 9.0, "width": 9, "height": 9}
    image, _, _ = rasterize(points, torch.eye(4)[:1], torch.ones(1, 3), one, torch.ones(1, 3), **camera)
    image.sum().backward()


def die_in_save(number: int) -> None:
    """Let the `number`-th checkpoint come half to the disk, and then kill this process."""
    whole, count = torch.save, 0

    def save(state, path, *args, **options):
        nonlocal count
        count += 1
        whole(state, path, *args, **options)
        if count == number:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save


def train(job) -> None:
    with Path(job["log"]).open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if "kill_in_save" in job:
        die_in_save(job["kill_in_save"])
    if "largest_file" in job:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"], resource.RLIM_INFINITY))
    ns_train.main(tyro.cli(AnnotatedBaseConfigUnion, args=job["words"]))


def run(job) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(job)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        finally:
            sys.stdout.flush()
            os._exit(code)
    if "kill_after" in job:
        while not list(Path(job["checkpoints"]).glob("*.ckpt")):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        time.sleep(job["kill_after"])
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    compile_kernels()
    for line in sys.stdin:
        print(run(json.loads(line)), flush=True)
