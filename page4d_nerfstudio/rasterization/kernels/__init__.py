"""The loops of the compiled CPU backend, for numba; `compiled_cpu` wraps them for PyTorch.

Each kernel does a range of its work (`first` to `last` of Gaussians or tiles), so that threads can share it, and writes
only to places that belong to that range: no two threads ever add to the same number, and results do not depend on how
many threads there are. A compiled function is cached on disk by the date of its own file alone: a kernel therefore
calls nothing that lives in another file.
"""
