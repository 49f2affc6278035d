"""Trainings that differ in one thing, run and evaluated by nerfstudio's own commands, in one table."""
