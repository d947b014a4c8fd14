"""The surroundings of every test: TensorFlow quiet, Keras on TensorFlow, and no network."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest

from tests.support import FRAMEWORKS, load


@pytest.fixture(params=FRAMEWORKS)
def framework(request):
    """The name of each framework in turn."""
    return request.param


@pytest.fixture
def tg(framework):
    """The package's implementation in each framework in turn."""
    return load(framework)
