"""Trainings that differ in one thing: run and evaluated by nerfstudio's own commands, resumed, and put into one table.

`comparison` runs them, `variants` says what is compared, `novel_views` makes the paper's Table 4 of several scenes.
"""
