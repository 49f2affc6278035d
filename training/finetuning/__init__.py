"""The parts of `training/finetune.py`."""

import sys
from pathlib import Path

# Held-out clips are scored by evaluation's own figures. Last, so that its programs' names hide no package.
sys.path.append(str(Path(__file__).resolve().parents[2] / "evaluation"))
