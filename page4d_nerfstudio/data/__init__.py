"""Data for nerfstudio: the dataparser `page4d-data`, the kinds of source behind it, seed points, dataset, datamanager.

Start at `dataparser`: `read_source` hands each kind of source (`scene_source`, `capture_source`, `frames_source`) its
options, and gets `PosedFrames` from all of them. A scene folder of another program is read as a capture.
Import modules, not this package: nerfstudio asks for the dataparser while it still imports its own datamanagers.
"""
