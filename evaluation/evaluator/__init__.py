"""What `evaluation/run.py` is made of."""
