"""Images that are decoded when they are asked for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

import numpy.typing as npt
import psutil

from ..errors import FrameError

MOST_HELD = 512 << 20  # bytes of decoded images that are held
SHARE_OF_MEMORY = 0.8  # of what is available, that they may take at most
RECENT = 2  # images that are held of a sequence that does not fit: who asks twice in a row does not decode twice

Key = TypeVar("Key")


class LazyImages(Sequence[npt.NDArray[Any]], Generic[Key]):
    """A sequence of images, `[H, W, 3 or 4]` uint8, of which few are in memory at a time.

    Those of a sequence that takes no more than `MOST_HELD` are kept once they have been decoded. A longer one is meant
    to be read in order, as often as one likes: a step back, or one that leaves images out, starts decoding anew.

    Args:
        sizes: (height, width) of each image.
        keys: what stands for each image in its source, such as its file or its number in a video.
        decode: yields the images of some keys in their order; it may end early where a key lies behind the one before.
        transparent: whether some of them, or of those they were taken from, have four channels.
    """

    def __init__(
        self,
        sizes: Sequence[tuple[int, int]],
        keys: Sequence[Key],
        decode: Callable[[Sequence[Key]], Iterator[npt.NDArray[Any]]],
        transparent: bool = False,
    ) -> None:
        self.sizes, self._keys, self._decode = list(sizes), list(keys), decode
        self.transparent = transparent
        self.fits = sum(4 * height * width for height, width in self.sizes) <= _room()
        self._held: dict[int, npt.NDArray[Any]] = {}
        self._decoder: Iterator[npt.NDArray[Any]] = iter(())
        self._next = 0  # the index of what the decoder gives next

    @classmethod
    def read(
        cls, keys: Sequence[Key], decode: Callable[[Sequence[Key]], Iterator[npt.NDArray[Any]]]
    ) -> LazyImages[Key]:
        """Go through images whose sizes only decoding tells; a broken one raises what `decode` does."""
        held: dict[int, npt.NDArray[Any]] = {}
        sizes, taken, room, transparent = [], 0, _room(), False
        for place, image in enumerate(decode(keys)):
            sizes.append((image.shape[0], image.shape[1]))
            taken += 4 * image.shape[0] * image.shape[1]
            transparent |= image.shape[2:] == (4,)
            if taken <= room:
                held[place] = image
            else:
                held.clear()
        images = cls(sizes, keys, decode, transparent)
        if images.fits:
            images._held = held
        return images

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> npt.NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[npt.NDArray[Any]]: ...
    def __getitem__(self, index: int | slice) -> npt.NDArray[Any] | list[npt.NDArray[Any]]:
        """An image, or a list of those of a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[operator.index(index)]
        if index not in self._held:
            image = next(self._decoder, None) if index == self._next else None
            if image is None:
                self._decoder = self._decode(self._keys[index:])
                image = next(self._decoder, None)
            if image is None or image.shape[:2] != self.sizes[index]:
                raise FrameError(f"Frame {self._keys[index]} has changed since it was first read; start again.")
            self._next = index + 1
            if not self.fits and len(self._held) >= RECENT:
                del self._held[next(iter(self._held))]
            self._held[index] = image
        return self._held[index]

    def take(self, indices: Sequence[int]) -> LazyImages[Key]:
        """The images at some indices."""
        sizes, keys = [self.sizes[i] for i in indices], [self._keys[i] for i in indices]
        taken = LazyImages(sizes, keys, self._decode, self.transparent)
        if taken.fits:
            taken._held = {place: self._held[i] for place, i in enumerate(indices) if i in self._held}
        return taken


def _room() -> float:
    """Bytes of decoded images that may be held."""
    return float(min(MOST_HELD, SHARE_OF_MEMORY * psutil.virtual_memory().available))
