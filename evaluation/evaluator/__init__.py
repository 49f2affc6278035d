"""What the programs in `evaluation/` are made of: a method's predictions on a sequence, scored under a protocol.

Figures come from `metrics/`, tables and plots from `reporting/`; `compare/` trains scenes and compares their held-out
views, `studies/` asks what a network does on clips. Programs import what they need from the modules themselves.
"""
