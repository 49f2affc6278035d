"""A Python whose processes begin with what one process has imported once: torch, transformers, nerfstudio and page4d.

`ForkedPython` writes a folder of executables: `python`, and the console scripts. Each asks a server for a fork that
takes over its arguments, environment, folder and open files, and ends as that ends; so programs of the project, and
what these start by `sys.executable`, save the seconds of their imports. What forks cannot have as a process of their
own would (an option of Python, or a variable that is read while importing) runs in one of its own.

The fork's process id is not the executable's, which passes signals on. It can't pass SIGKILL and SIGSTOP on: the fork
ends a moment after an executable that was killed, and `ForkedPython.kill` waits for it.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import marshal
import multiprocessing
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from filelock import FileLock

MODULES = (
    "accelerate.commands.launch", "datasets", "nerfstudio.scripts.train", "nerfstudio.scripts.viewer.run_viewer",
    "page4d_hf.clips", "page4d_hf.modeling_page4d", "page4d_hf.reconstruction.reconstruct", "page4d_hf.scene.export",
    "page4d_hf.trainer_page4d", "page4d_nerfstudio.engine.trainer", "transformers.trainer",
)  # fmt: skip
# Read by these modules while they are imported.
READ_ONCE = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_TOKEN", "NUMBA_CACHE_DIR", "OMP_NUM_THREADS")

HELD = bytes(4)  # in place of a request's length: serve until this connection ends; the server answers with it

CLIENT = """
import marshal, os, signal, socket, sys

def ask():
    fds = [int(name) for name in os.listdir("/proc/self/fd")]
    fds = [fd for fd in fds if os.path.lexists(f"/proc/self/fd/{fd}") and (fd < 3 or os.get_inheritable(fd))]
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"/proc/self/fd/{os.open(FOLDER, os.O_PATH)}/socket")
    request = marshal.dumps((words, dict(os.environb), os.getcwd(), os.umask(0o22), fds))
    socket.send_fds(server, [len(request).to_bytes(4, "little")], fds)
    server.sendall(request)
    child = int.from_bytes(server.recv(4, socket.MSG_WAITALL), "little")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, frame: os.kill(child, number))
    signal.signal(signal.SIGQUIT, lambda number, frame: os.kill(child, signal.SIGKILL))
    status = server.recv(4, socket.MSG_WAITALL)
    code = os.waitstatus_to_exitcode(int.from_bytes(status, "little")) if len(status) == 4 else -signal.SIGKILL
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    os._exit(code)

name = os.path.basename(sys.argv[0])
words = sys.argv[1:] if name == "python" else [os.path.join(os.path.dirname(PYTHON), name), *sys.argv[1:]]
options = 0
while words[options:] and words[options] in ("-B", "-u", "-W"):
    options += 1 + (words[options] == "-W")
begins = words[options] if words[options:] else "-"
forks = not begins.startswith("-") or begins in ("-c", "-m")
if forks and all(os.environ.get(name) == value for name, value in READ_ONCE.items()):
    ask()
os.execv(PYTHON, [PYTHON, *words])
"""


@contextmanager
def address_in(folder: Path | str) -> Iterator[str]:
    """The address of the server of a folder, whose own path may be longer than the 107 bytes of an address."""
    opened = os.open(folder, os.O_PATH)
    try:
        yield f"/proc/self/fd/{opened}/socket"
    finally:
        os.close(opened)


class ForkedPython:
    """The server, and the folder of executables: one for all processes that name the same folder at once.

    Args:
        folder: to write the executables into; it is made.
        environment: variables that what `start` starts has beside those of this process.

    Raises:
        RuntimeError: what all begin with cannot be imported.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.executable = folder / "python"
        self._environment = {"COLUMNS": "200", **environment}
        self._server: subprocess.Popen[bytes] | None = None
        with FileLock(f"{folder}.lock"):
            if not self._hold():  # none was there, or it has ended as all others let go of it
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                self._serve(folder / "log")
                assert self._hold(), (folder / "log").read_text()

    def _hold(self) -> bool:
        """Keep the server that is there, if one is, until `close`."""
        self._held = socket.socket(socket.AF_UNIX)
        with suppress(OSError), address_in(self.folder) as address:
            self._held.connect(address)
            self._held.sendall(HELD)
            if self._held.recv(4) == HELD:
                return True
        self._held.close()
        return False

    def _serve(self, log: Path) -> None:
        read_once = {name: os.environ.get(name) for name in READ_ONCE}
        known = f"FOLDER, PYTHON, READ_ONCE = {str(self.folder)!r}, {sys.executable!r}, {read_once!r}\n"
        self.executable.write_text(f"#!{sys.executable} -IS\n{known}{CLIENT}")
        self.executable.chmod(0o755)
        for script in entry_points(group="console_scripts"):
            if script.name.startswith(("page4d", "ns-", "accelerate")):
                (self.folder / script.name).symlink_to(self.executable)
        with log.open("wb") as file:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(self.folder), str(self.executable)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=file,
            )
        assert self._server.stdout is not None
        if not self._server.stdout.read(1):  # which it writes when it answers
            raise RuntimeError(log.read_text())

    def start(self, *words: object, cwd: Path, log: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Start `python` or a console script; what it says goes into `log`. More variables may be given."""
        with log.open("wb") as file:
            return subprocess.Popen(
                [self.folder / str(words[0]), *map(str, words[1:])],
                env=os.environ | self._environment | environment,
                cwd=cwd,
                stdout=file,
                stderr=file,
            )

    def run(self, *words: object, cwd: Path, log: Path) -> int:
        """The exit code of `python` or a console script."""
        return self.start(*words, cwd=cwd, log=log).wait()

    def kill(self, process: subprocess.Popen[bytes]) -> int:
        """End a fork by SIGKILL; its exit code, which is another where it had ended before."""
        process.send_signal(signal.SIGQUIT)
        return process.wait()

    def close(self) -> None:
        """End the server and all forks, if no other process uses them."""
        self._held.close()
        if self._server is not None:
            self._server.communicate()


# --------------------------------------------------------------------------------------------------------------------
# The server


def import_and_compile() -> None:
    """Once for all forks."""
    gc.disable()
    for name in MODULES:
        importlib.import_module(name)
    import torch

    from page4d_nerfstudio.rasterization import rasterize

    points = torch.tensor([[0.0, 0.0, 2.0]], requires_grad=True)
    one = torch.ones(1)
    camera = {"viewmats": torch.eye(4)[None], "Ks": torch.eye(3)[None] * 9.0, "width": 9, "height": 9}
    image, _, _ = rasterize(points, torch.eye(4)[:1], torch.ones(1, 3), one, torch.ones(1, 3), **camera)
    image.sum().backward()
    gc.freeze()  # forks leave alone what they share
    gc.enable()


def serve(folder: str) -> tuple[Any, ...]:
    """Fork for each request, and tell who asked how the fork ended.

    Returns:
        In a fork, what was asked for. The server itself ends here, once all who held it have let go.
    """
    listener = socket.socket(socket.AF_UNIX)
    with address_in(folder) as address:
        listener.bind(address)
    listener.listen(64)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    os.write(1, b"!")
    asked: dict[int, socket.socket] = {}
    holders: set[socket.socket] = set()
    while True:
        ready = select.select([woken, listener, *holders, *asked.values()], [], [])[0]
        let_go = bool(holders) and holders <= set(ready)
        holders -= set(ready)
        for child, connection in asked.items():
            if let_go or connection in ready:  # nobody waits for it any more
                with suppress(ProcessLookupError):
                    os.killpg(child, signal.SIGKILL)
        if let_go:
            sys.exit()
        if woken in ready:
            os.read(woken, 64)
        while asked and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with asked.pop(ended[0]) as connection, suppress(OSError):
                connection.sendall(ended[1].to_bytes(4, "little"))
        if listener in ready:
            connection = listener.accept()[0]
            length, fds, _, _ = socket.recv_fds(connection, 4, 250)
            if length == HELD:
                with suppress(OSError):
                    connection.sendall(HELD)
                holders.add(connection)
                continue
            size = int.from_bytes(length, "little")
            request = connection.recv(size, socket.MSG_WAITALL)
            if not size or len(request) < size:  # who asked was killed before it had said all
                connection.close()
                for fd in fds:
                    os.close(fd)
                continue
            child = os.fork()
            if child == 0:
                os.setsid()
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                for held in (listener, connection, *holders, *asked.values()):
                    held.close()
                os.close(woken)
                os.close(wake)
                return (fds, *marshal.loads(request))
            for fd in fds:
                os.close(fd)
            with suppress(OSError):  # who asked was killed meanwhile: the child is ended above
                connection.sendall(child.to_bytes(4, "little"))
            asked[child] = connection


def take_over(
    fds: list[int], words: list[str], environment: dict[bytes, bytes], folder: str, mask: int, places: list[int]
) -> list[str]:
    """Have the open files, environment, folder and import path of who asked; what is left of the words to run."""
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 500) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, place in zip(moved, places, strict=True):
        os.dup2(fd, place)
        os.close(fd)
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environb.update(environment)
    os.chdir(folder)
    os.umask(mask)
    tempfile.tempdir = None  # it is found anew
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [*paths, *(path for path in sys.path[1:] if path not in before)]
    while (option := words[0]) in ("-B", "-u", "-W"):
        del words[0]
        if option == "-W":
            warnings.simplefilter(words.pop(0))  # type: ignore[arg-type]
        elif option == "-u":
            sys.stdout.reconfigure(write_through=True)  # type: ignore[union-attr]
    return words


def run(words: list[str]) -> None:
    """What Python does with a file, a module or code, in this process."""
    sys.argv = words if words[0] not in ("-c", "-m") else [words[0], *words[2:]]
    if words[0] == "-m":
        sys.path.insert(0, os.getcwd())
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    main = types.ModuleType("__main__")
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main  # the latter is its name for spawned processes
    if words[0] == "-c":
        sys.path.insert(0, "")
        code = compile(words[1], "<string>", "exec")
    else:
        sys.path.insert(0, str(Path(words[0]).resolve().parent))
        main.__file__ = words[0]
        code = compile(Path(words[0]).read_bytes(), words[0], "exec")
    exec(code, main.__dict__)


def run_and_exit(words: list[str]) -> None:
    """Run, and end as Python does, but without taking all modules down: that takes seconds."""
    try:
        run(words)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if error.code is not None and not isinstance(error.code, int):
            print(error.code, file=sys.stderr)
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = 1
    else:
        code = 0
    exit_code.append(code)


def exit_now() -> None:
    """Once threads have ended and all that was registered for the exit has run."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError):  # one that was closed
            stream.flush()
    os._exit(exit_code.pop())


if __name__ == "__main__":
    exit_code = [0]
    atexit.register(exit_now)  # before all others: those that are registered last run first
    import_and_compile()
    folder, sys.executable = sys.argv[1:]
    multiprocessing.set_executable(sys.executable)
    run_and_exit(take_over(*serve(folder)))
