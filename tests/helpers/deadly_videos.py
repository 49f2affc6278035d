"""Work on videos in a process of its own, which some of them kill."""

import os
import signal
from pathlib import Path

from page4d_hf.clips.encoding import EncodedClip


def work(annotation, path, name):
    """Dies of "deadly", and of "once" if its file is still there; the clips of others are told by their names."""
    if name == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "once" and Path(path).exists():
        Path(path).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
    return [EncodedClip(name, {"process": os.getpid()})]
