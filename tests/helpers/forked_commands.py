"""Commands in processes of their own, which all begin with what one process has imported once.

Run as a program, it takes a request a line on its input, and answers each with a line:

    {"start": ["ns-train", ...], "cwd": ..., "log": ...}   starts a console script, or `python` with a file, in a child;
                                                           its process id
    {"wait": 123}                                          the child's exit code, negative where a signal ended it
    {"runs": 123}                                          1 if it has not ended yet, else 0
    {"kill": 123, "signal": 9}                             its exit code after the signal

`kill_in_save`: n in a start lets the child die while it writes its n-th checkpoint, and `largest_file`: n gives it a
disk that is full for files of more bytes. Children are forked before any thread has started, and on one thread each.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import runpy
import signal
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path


class ForkedCommands:
    """The program, and the children it has started.

    Args:
        modules: what all children begin with, beside what nerfstudio's commands import.
    """

    def __init__(self, *modules: str) -> None:
        self._program = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, *modules],
            env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *words, cwd: Path, log: Path, **how: int) -> int:
        """The process id of a command that has been started; what it says goes into `log`."""
        return self._ask({"start": [str(word) for word in words], "cwd": str(cwd), "log": str(log), **how})

    def wait(self, child: int) -> int:
        """The exit code of a child once it has ended."""
        return self._ask({"wait": child})

    def run(self, *words, cwd: Path, log: Path, **how: int) -> int:
        """The exit code of a command."""
        return self.wait(self.start(*words, cwd=cwd, log=log, **how))

    def runs(self, child: int) -> bool:
        """Whether a child has not ended yet."""
        return self._ask({"runs": child}) == 1

    def kill(self, child: int, by: int = signal.SIGKILL) -> int:
        """End a child by a signal; its exit code, which is another where it had ended before."""
        return self._ask({"kill": child, "signal": int(by)})

    def close(self) -> None:
        self._program.kill()
        self._program.communicate()

    def _ask(self, request: dict) -> int:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(json.dumps(request) + "\n")
        self._program.stdin.flush()
        return int(self._program.stdout.readline())


# --------------------------------------------------------------------------------------------------------------------
# The program


def import_and_compile() -> None:
    """Once for all children."""
    import torch

    for name in ("scripts.train", "scripts.viewer.run_viewer", "configs.method_configs"):
        importlib.import_module(f"nerfstudio.{name}")
    importlib.import_module("page4d_nerfstudio.engine.trainer")
    from page4d_nerfstudio.rasterization import rasterize

    points = torch.tensor([[0.0, 0.0, 2.0]], requires_grad=True)
    one = torch.ones(1)
    camera = {"viewmats": torch.eye(4)[None], "Ks": torch.eye(3)[None] * 9.0, "width": 9, "height": 9}
    image, _, _ = rasterize(points, torch.eye(4)[:1], torch.ones(1, 3), one, torch.ones(1, 3), **camera)
    image.sum().backward()


def die_in_save(number: int) -> None:
    """Let the `number`-th checkpoint come half to the disk, and then kill this process."""
    import torch

    whole, count = torch.save, 0

    def save(state, path, *args, **options):
        nonlocal count
        count += 1
        whole(state, path, *args, **options)
        if count == number:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save


def become(request: dict) -> None:
    """What the console script, or Python, does."""
    os.chdir(request["cwd"])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background turns off
    with Path(request["log"]).open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if "kill_in_save" in request:
        die_in_save(request["kill_in_save"])
    if "largest_file" in request:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"], resource.RLIM_INFINITY))
    sys.argv = request["start"]
    if sys.argv[0] == "python":
        del sys.argv[0]
        sys.path.insert(0, str(Path(sys.argv[0]).parent))
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        entry_points(group="console_scripts")[sys.argv[0]].load()()


def start(request: dict) -> int:
    child = os.fork()
    if child > 0:
        return child
    # A child ends as a program of its own would, and never comes back into the loop that started it.
    try:
        become(request)
    except BaseException as error:
        if isinstance(error, SystemExit):
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        else:
            code = 1
            sys.excepthook(type(error), error, error.__traceback__)
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def serve() -> None:
    for name in sys.argv[1:]:
        importlib.import_module(name)
    import_and_compile()
    for line in sys.stdin:
        request = json.loads(line)
        if "runs" in request:
            answer = int(os.waitid(os.P_PID, request["runs"], os.WEXITED | os.WNOHANG | os.WNOWAIT) is None)
        elif "kill" in request:
            os.kill(request["kill"], request["signal"])  # it may have ended, but nobody has waited for it
            answer = os.waitstatus_to_exitcode(os.waitpid(request["kill"], 0)[1])
        elif "wait" in request:
            answer = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
        else:
            answer = start(request)
        print(answer, flush=True)


if __name__ == "__main__":
    serve()
