"""What is done with a trained scene: the viewer's panel, camera paths, exports as PLY files.

`run_config` reads the `config.yml` of a training without running code that it may hold.
"""

from typing import Literal

PathKind = Literal["training", "held-out", "circle", "still"]  # of a camera path
