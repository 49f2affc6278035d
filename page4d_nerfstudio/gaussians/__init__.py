"""The model: Gaussians in canonical space, their deformation, density control, losses, metrics and schedule.

Start at `model`. `config` has its options, `presets` the methods, and `published` all of 4DGS that differs from them.
Nothing here knows where data come from, who trains, or who looks.
"""
