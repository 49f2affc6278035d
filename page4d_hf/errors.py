"""What page4d raises when the fault lies in what it was given, not in the program.

The command line prints such an error as one sentence and ends with exit code 1; a library user catches
`Page4DError` or one of its kinds. Messages say what was expected, what came, and what to do.
"""


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
