"""What people read: tables (`formats` writes them all), the paper's figures beside one's own, and plots of sequences.

Scores come in as they are kept in a run's folder; nothing here computes one.
"""
