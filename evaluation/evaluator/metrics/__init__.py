"""Figures of depth, cameras and points against the truth, the alignments that go before them, and scores and errors.

Training and evaluation take them from here. Nothing here knows of data sets, protocols or files.
"""
