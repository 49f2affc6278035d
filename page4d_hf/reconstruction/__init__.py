"""From images to cameras, depth, points and motion: frames through the network, and what the world looks like from its
outputs. `page4d_hf.reconstruct` is the way in.
"""
