"""What `training/finetune.py` is made of."""
