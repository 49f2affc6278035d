"""What page4d raises when the fault lies in what it was given, not in the program.

The command line prints such an error as one sentence and ends with exit code 1; a library user catches
`Page4DError` or one of its kinds. Messages say what was expected, what came, and what to do.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager


class Page4DError(ValueError):
    """Root of all errors that page4d raises about its input."""


class FrameError(Page4DError):
    """Images or a video that cannot be read as a sequence of frames."""


class CaptureError(Page4DError):
    """A capture on disk that does not hold what its layout promises."""


class SceneError(Page4DError):
    """A scene folder that is missing, incomplete, or in the way."""


class CheckpointError(Page4DError):
    """A checkpoint that cannot be read, or is of another network."""


class ClipError(Page4DError):
    """A data set of clips, or a clip in it, that is not what the schema says."""


class SamplingError(Page4DError):
    """Settings of sampling or augmentation that cannot be met."""


@contextmanager
def telling_how_to_get(model: str | os.PathLike[str]) -> Iterator[None]:
    """Say of a model's folder that is not there how to get it, where transformers asks the Hub in vain.

    Raises:
        OSError: in place of transformers' own, unless the folder or such a repository is there.
    """
    try:
        yield
    except OSError as error:
        if os.path.exists(model) or _is_on_the_hub(model, error):
            raise
        raise OSError(
            f"There is no folder {model}; `page4d pull nomask --output {model}` fetches published weights, with tiny "
            f"in place of nomask a small model without a network. Nor is it a model of the Hub that can be reached: "
            f"{error}"
        ) from error


def _is_on_the_hub(model: str | os.PathLike[str], error: OSError) -> bool:
    """Whether a repository is known to be there: one that lacks a revision or a file, or that is gated."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RevisionNotFoundError

    if isinstance(error.__cause__, (GatedRepoError, RevisionNotFoundError)):
        return True
    try:
        return isinstance(try_to_load_from_cache(str(model), "config.json"), str)
    except HFValidationError:  # a name that the Hub could not have
        return False
