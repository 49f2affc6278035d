"""Figures of depth, cameras and points against the truth, and the alignments that go before them.

Training and evaluation take them from here. Nothing here knows of data sets, protocols or files.
"""
