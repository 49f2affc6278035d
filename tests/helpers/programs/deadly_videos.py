"""Work on videos in a process of its own, which some of them kill."""

import os
import signal
from pathlib import Path

from page4d_hf.clips.encoding import EncodedClip
from page4d_hf.reconstruction.annotation import Outcome


def load(annotation):
    """Nothing is needed, and "a large model" kills its process."""
    if annotation.model == "a large model":
        os.kill(os.getpid(), signal.SIGKILL)


def work(annotation, path, name):
    """Dies of "deadly", and of "once" if its file is still there; the clips of others are told by their names."""
    if name == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "once" and Path(path).exists():
        Path(path).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome([EncodedClip(name, {"process": os.getpid()})])
