"""Weights of PAGE-4D: published checkpoints read and converted, fetched from the Hub, loaded for inference, told apart,
and the small model that comes with the package. Import from its modules, some of which take seconds.
"""
