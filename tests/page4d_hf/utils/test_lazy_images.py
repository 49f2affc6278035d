"""Images that are decoded when they are asked for."""

import numpy as np
import pytest

from page4d_hf.errors import FrameError
from page4d_hf.utils import lazy_images
from page4d_hf.utils.lazy_images import LazyImages


@pytest.fixture
def decoded():
    return []


@pytest.fixture
def decode(decoded):
    def images_of(keys):
        for key in keys:
            decoded.append(key)
            yield np.full((4, 6, 3), key, np.uint8)

    return images_of


@pytest.fixture
def images(decode, monkeypatch):
    monkeypatch.setattr(lazy_images, "MOST_HELD", 1)
    return LazyImages([(4, 6)] * 5, range(10, 15), decode)


def test_a_pass_in_order_decodes_each_image_once(images, decoded):
    assert [image[0, 0, 0] for image in images] == [10, 11, 12, 13, 14]
    assert decoded == [10, 11, 12, 13, 14]


def test_the_first_image_may_be_looked_at_before_a_pass(images, decoded):
    assert images[0].shape == (4, 6, 3)
    assert len(list(images)) == 5
    assert decoded == [10, 11, 12, 13, 14]


def test_a_slice_is_a_list_and_negative_indices_count_from_the_end(images):
    assert [image[0, 0, 0] for image in images[1:4:2]] == [11, 13]
    assert images[-1][0, 0, 0] == 14
    with pytest.raises(IndexError):
        images[5]


def test_what_fits_is_kept_by_what_is_taken_of_it(decode, decoded):
    images = LazyImages([(4, 6)] * 5, range(10, 15), decode)
    assert len(list(images)) == 5
    assert [image[0, 0, 0] for image in images.take([4, 1])] == [14, 11]
    assert decoded == [10, 11, 12, 13, 14]


def test_an_image_that_is_gone_or_of_another_size_since_is_named(decode):
    images = LazyImages([(4, 6), (5, 6)], [10, 11], decode)
    with pytest.raises(FrameError, match="Frame 11 has changed since it was first read"):
        list(images)
    with pytest.raises(FrameError, match="Frame 7 has changed"):
        LazyImages([(4, 6)], [7], lambda keys: iter(()))[0]
