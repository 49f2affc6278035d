"""Tables as they are read: what pads their columns is left out."""

from __future__ import annotations

import re


def squeezed(text: str) -> str:
    """The text with one space for any number of them."""
    return re.sub(" +", " ", text)
