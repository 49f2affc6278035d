"""Figures of depth, cameras, points and motion against the truth, and those of a predictor that looks at nothing.

Training and evaluation take them from here. Nothing here knows of data sets, protocols or files.
"""
