"""PAGE-4D for transformers."""
