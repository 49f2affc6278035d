"""Training: nerfstudio's pipeline and trainer, with views per step, checks of what is trained, and exact resuming.

Start at `trainer`, which has the learning rates too.
"""
