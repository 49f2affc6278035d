"""page4d in nerfstudio: the methods `page4d-4dgs*` and the dataparser `page4d-data`, which `configs` gives.

Rooms, each of which imports only what comes after it: `engine`, `viewing`, `data`, `gaussians`, `rasterization`.
"""
