"""The listings of chapter 5: both frameworks give what the package gives."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import tfguide.tensorflow  # noqa: F401  (before TensorFlow)
from tfguide.tasks import minilm

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "book/examples"))

import preprocess_tensorflow
import preprocess_torch


@pytest.mark.parametrize("example", [preprocess_torch, preprocess_tensorflow], ids=["torch", "tensorflow"])
def test_texts_become_vectors(example):
    tokenizer = minilm.tokenizer()
    texts = ["So is mine", "Hello, my dog is cute", "a"]
    tokens, valid = example.batch(tokenizer, texts, pad_id=0)
    ids, mask = minilm.batch(texts)
    assert np.array_equal(tokens, ids) and np.array_equal(valid, mask)
    table = np.random.default_rng(0).normal(size=(30_522, 5)).astype(np.float32)
    as_tensor = torch.from_numpy(table) if example is preprocess_torch else table
    vectors = example.embed(tokens, as_tensor)  # (B, T, D)
    assert np.array_equal(vectors, table[ids])
    last = example.at_the_last_token(vectors, valid)
    assert np.array_equal(last, [table[row[n - 1]] for row, n in zip(ids, mask.sum(1), strict=True)])
