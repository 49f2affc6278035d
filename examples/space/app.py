"""A Hugging Face Space of `page4d app`."""

from page4d_hf.app.launch import launch
from page4d_hf.app.page import Limits

MODELS = ["tiny"]

if __name__ == "__main__":
    launch(MODELS, Limits(upload_megabytes=50, frames=32, seconds=300, keep_minutes=30), "0.0.0.0", 7860)
