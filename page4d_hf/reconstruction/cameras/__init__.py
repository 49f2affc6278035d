"""From tracks to cameras: `refinement` adjusts the network's cameras and its depth, or holds `known_cameras`.
`bundle_adjustment`, `mapping` and `long_clips` solve for cameras, `consensus` and `relinking` choose tracks.
"""
