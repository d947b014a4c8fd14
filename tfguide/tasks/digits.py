"""Images: scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, cut into patches that a Transformer reads.

A patch is a vector, as the embedding of a token is one: an image is a short text of patches. The images are the test
part of the Optical Recognition of Handwritten Digits data set. They stand in the order in which 13 people wrote them,
so that the last images are also those of people whom the first ones do not show. Source: Alpaydin & Kaynak 1998; the
patches: Dosovitskiy et al. 2021.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tfguide.checks.values import check_choice, check_count
from tfguide.config import ModelConfig
from tfguide.initialization import init_weights
from tfguide.parts import LabelHead
from tfguide.tasks.own import check_answers
from tfguide.training import Batch, Recipe

HELD_OUT = 5  # of so many images of a digit one is held out
SPLITS = ("every fifth", "last fifth")
RECIPE = Recipe(steps=1200, rows=64, length=16, learning_rate=4e-3, warmup=30, floor=0.01)  # of the book's model


@dataclass(frozen=True)
class Images:
    """Grey images, float32 (N, height, width) from 0 to 1, and their labels, int64 (N,).

    Raises ValueError for shapes that do not go together, and for no image.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        if self.pixels.ndim != 3 or self.labels.shape != self.pixels.shape[:1] or not len(self.labels):
            raise ValueError(
                f"expected pixels (N, height, width) and a label for each of them, got {self.pixels.shape} and "
                f"{self.labels.shape}"
            )

    def __len__(self):
        return len(self.labels)

    def at(self, which: np.ndarray) -> Images:
        """Those at some indices, or where a mask is True."""
        return Images(self.pixels[which], self.labels[which])


def read_digits(split: str = "every fifth") -> tuple[Images, Images]:
    """The images to learn from, and those that are held out: 1,437 and 360, or nearly so.

    split: "every fifth" holds out every fifth image of each digit, so that all people are in both parts; "last fifth"
    the last images of the file, which other people wrote than most of the first. Raises ValueError for another split,
    ImportError where scikit-learn is not installed.
    """
    check_choice("split", split, SPLITS)
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'tfguide[tasks]'") from error
    found = load_digits()
    images = Images((found.images / 16).astype(np.float32), found.target.astype(np.int64))
    held_out = np.zeros(len(images), bool)
    if split == "last fifth":
        held_out[-(len(images) // HELD_OUT) :] = True
    else:
        for digit in np.unique(images.labels):
            held_out[np.flatnonzero(images.labels == digit)[::HELD_OUT]] = True
    return images.at(~held_out), images.at(held_out)


def read_images(path: str | os.PathLike) -> Images:
    """Images of your own: an .npz file with "images" (N, height, width) and "labels" (N,).

    Integers from 0 to 255 become numbers from 0 to 1. Raises ValueError for a file without these two, for labels that
    are no integers from 0, and for numbers outside of 0 to 1.
    """
    with np.load(path) as file:
        if missing := {"images", "labels"} - set(file.files):
            raise ValueError(f"{os.fspath(path)} has no array {sorted(missing)[0]!r}: expected 'images' and 'labels'")
        pixels, labels = file["images"], file["labels"]
    if labels.dtype.kind not in "iu" or (labels < 0).any():
        raise ValueError(f"labels must be integers from 0, got {labels.dtype}: {labels.ravel()[:5]}")
    if pixels.dtype.kind in "iu":
        pixels = pixels / 255
    found = Images(pixels.astype(np.float32), labels.astype(np.int64))
    least, most = found.pixels.min(), found.pixels.max()
    if not (least >= 0 and most <= 1):  # so that NaN is refused as well
        raise ValueError(f"images must hold numbers from 0 to 1, or integers to 255, got {least} to {most}")
    return found


def patches(pixels: np.ndarray, size: int) -> np.ndarray:
    """Images (N, height, width) as patches (N, T, size * size), row by row: T = height / size * width / size.

    Raises ValueError where the patches do not fill an image.

    >>> patches(np.arange(16.0).reshape(1, 4, 4), 2)[0].astype(int).tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    """
    n, height, width = pixels.shape
    if height % check_count("size", size) or width % size:
        raise ValueError(f"size must divide the height and the width of an image, {height} and {width}, got {size}")
    cut = pixels.reshape(n, height // size, size, width // size, size)
    return cut.swapaxes(2, 3).reshape(n, -1, size * size)


def shift(pixels: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Each image (N, height, width) moved by whole pixels (N, 2), down and to the right; zeros come in at the edge.

    >>> shift(np.array([[[1, 2], [3, 4]]]), np.array([[1, 0]])).tolist()
    [[[0, 0], [1, 2]]]
    """
    most = int(np.abs(by).max())
    wide = np.pad(pixels, ((0, 0), (most, most), (most, most)))
    n, height, width = pixels.shape
    rows = most - by[:, 0, None] + np.arange(height)  # of the wide image, (N, height)
    columns = most - by[:, 1, None] + np.arange(width)
    return wide[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def batches(images: Images, rows: int, size: int, seed: int = 0, shifts: int = 1) -> Callable[[int], Batch]:
    """The batch of each step, from 0: `rows` random images in patches, each moved by at most `shifts` pixels."""

    def batch_at(step: int) -> Batch:
        draws = np.random.default_rng([seed, step])
        some = images.at(draws.integers(len(images), size=rows))
        moved = shift(some.pixels, draws.integers(-shifts, shifts + 1, (rows, 2)))
        return Batch({"tokens": patches(moved, size)}, some.labels)

    return batch_at


def model_config(size: int = 2, **changes: object) -> ModelConfig:
    """The book's vision Transformer: an encoder of 2 layers that reads the patches of 8 by 8 pixels; 10 labels.

    changes: fields that differ. Source: Dosovitskiy et al. 2021, with the mean of all patches instead of a class token.
    """
    fields = dict(
        kind="encoder", d_model=64, n_layers=2, n_heads=4, d_ff=128, d_input=size * size, positions="learned",
        max_positions=(8 // size) ** 2, labels=LabelHead(n_labels=10),
    )  # fmt: skip
    return ModelConfig(**(fields | changes))


def first_weights(config: ModelConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """The initial weights of `init_weights`, with other positions: a vector of the line plus one of the column.

    So patches of one line, or of one column, have something in common from the beginning. And the table is as large as
    the patches: with 2 by 2 pixels the place says as much as the content, and a table near 0 would take long to grow.
    Positions that are not learned stay as they are.
    """
    weights = init_weights(config, seed)
    if config.positions == "learned":
        side = math.isqrt(config.max_positions)
        lines, columns = 0.4 * np.random.default_rng(seed).standard_normal((2, side, config.d_model))
        table = lines[:, None] + columns
        weights["embedding.position.weight"] = table.reshape(-1, config.d_model).astype(np.float32)
    return weights


def accuracy(given: np.ndarray, wanted: np.ndarray) -> float:
    """The share of right labels. Raises ValueError for lists of unequal lengths, or empty ones."""
    check_answers(given, list(wanted))
    return float((np.asarray(given) == np.asarray(wanted)).mean())
