"""What benchmarks/gpu.py measures: a module for each phase, whose `run` does what is left of it.

Each runs in a process of its own, so that a crash or a full GPU ends that phase alone.
"""
