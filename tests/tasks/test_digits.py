"""Digits as images: the split, patches, shifts, files of one's own."""

import numpy as np
import pytest

import tfguide
from tests.support import refuses
from tfguide.tasks import digits
from tfguide.tasks.digits import Images, accuracy, batches, model_config, patches, read_images, shift


def images(n=3, height=4, width=6, seed=0):
    draws = np.random.default_rng(seed)
    return Images(draws.random((n, height, width)).astype(np.float32), np.arange(n))


@pytest.mark.parametrize("split", digits.SPLITS)
def test_every_image_is_in_one_part(split):
    pytest.importorskip("sklearn")
    learned, held_out = digits.read_digits(split)
    assert len(learned) + len(held_out) == 1797 and 350 < len(held_out) < 370
    assert learned.pixels.dtype == np.float32 and (held_out.pixels.min(), held_out.pixels.max()) == (0, 1)
    every = np.concatenate([learned.pixels, held_out.pixels]).reshape(1797, -1)
    assert len(np.unique(every, axis=0)) == 1797  # no image twice, so none in both
    counts = np.bincount(held_out.labels, minlength=10) / np.bincount(learned.labels, minlength=10)
    assert (counts > 0.1).all() and (split == "last fifth" or np.ptp(counts) < 0.02)


def test_an_unknown_split_is_refused():
    with refuses(ValueError, "split must be one of 'every fifth'"):
        digits.read_digits("random")


def test_patches_stand_in_the_order_of_lines():
    some = images(2).pixels
    cut = patches(some, 2)
    assert cut.shape == (2, 6, 4)
    np.testing.assert_array_equal(cut[1, 4], some[1, 2:4, 2:4].ravel())  # the second of the second line of three
    np.testing.assert_array_equal(patches(some, 1)[0, :, 0], some[0].ravel())
    with refuses(ValueError, "size must divide the height and the width of an image, 4 and 6, got 3"):
        patches(some, 3)


def test_a_shift_moves_down_and_to_the_right():
    some = images().pixels
    moved = shift(some, np.array([[1, 0], [0, -2], [0, 0]]))
    np.testing.assert_array_equal(moved[0, 1:], some[0, :-1])
    np.testing.assert_array_equal(moved[1, :, :-2], some[1, :, 2:])
    np.testing.assert_array_equal(moved[2], some[2])
    assert not moved[0, 0].any() and not moved[1, :, -2:].any()
    np.testing.assert_array_equal(shift(some, np.zeros((3, 2), int)), some)


def test_a_step_decides_its_batch():
    at = batches(images(7, 8, 8), rows=5, size=2)
    one, again, other = at(3), at(3), at(4)
    assert one.inputs["tokens"].shape == (5, 16, 4) and one.labels.shape == (5,)
    np.testing.assert_array_equal(one.inputs["tokens"], again.inputs["tokens"])
    assert not np.array_equal(one.inputs["tokens"], other.inputs["tokens"])
    plain = batches(images(7, 8, 8), rows=5, size=2, shifts=0)(3)
    np.testing.assert_array_equal(plain.inputs["tokens"], patches(images(7, 8, 8).pixels[plain.labels], 2))


def test_the_model_has_a_position_for_each_patch():
    for size, tokens in ((1, 64), (2, 16), (4, 4)):
        config = model_config(size)
        assert (config.d_input, config.max_positions) == (size * size, tokens)
    assert model_config(2, positions="none").positions == "none"


def test_the_first_positions_are_those_of_lines_and_columns():
    config = model_config(2)
    first, plain = digits.first_weights(config, 5), tfguide.init_weights(config, 5)
    table = first["embedding.position.weight"].reshape(4, 4, -1)
    np.testing.assert_allclose(table[3, 2] - table[3, 0], table[1, 2] - table[1, 0], atol=1e-6)
    assert table.dtype == np.float32 and 0.4 < table.std() < 0.8
    others = [name for name in plain if name != "embedding.position.weight"]
    assert all(np.array_equal(first[name], plain[name]) for name in others)
    none = model_config(2, positions="none")
    assert digits.first_weights(none).keys() == tfguide.init_weights(none).keys()


def test_images_of_your_own(tmp_path):
    some = images()
    np.savez(tmp_path / "floats.npz", images=some.pixels, labels=some.labels)
    np.savez(tmp_path / "bytes.npz", images=np.array([[[0, 255]]], np.uint8), labels=[4])
    np.testing.assert_array_equal(read_images(tmp_path / "floats.npz").pixels, some.pixels)
    read = read_images(tmp_path / "bytes.npz")
    assert read.pixels.tolist() == [[[0, 1]]] and read.labels.tolist() == [4] and read.pixels.dtype == np.float32
    for arrays, message in (
        (dict(images=some.pixels), "no array 'labels'"),
        (dict(images=some.pixels, labels=some.labels - 1), "labels must be integers from 0"),
        (dict(images=some.pixels * 3, labels=some.labels), "images must hold numbers from 0 to 1"),
        (dict(images=some.pixels, labels=some.labels[:2]), "a label for each of them"),
        (dict(images=some.pixels[:0], labels=some.labels[:0]), "a label for each of them"),
    ):
        np.savez(tmp_path / "wrong.npz", **arrays)
        with refuses(ValueError, message):
            read_images(tmp_path / "wrong.npz")


def test_accuracy_counts_right_labels():
    assert accuracy(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4])) == 0.75
    with refuses(ValueError, "as many answers as right ones"):
        accuracy([1], [1, 2])
