"""The package with one framework: all of it works, and the other half says what to install."""

import importlib

import numpy as np
import pytest

import tfguide
import tfguide.reference as ref
from tests.single.conftest import OTHERS, installed
from tests.support import batch, numpy, random_weights, small_config

NAMES = [name for name in OTHERS if installed(name)]


def test_one_framework_is_installed():
    assert len(NAMES) == 1


@pytest.fixture
def tg():
    return importlib.import_module(f"tfguide.{NAMES[0]}")


def test_the_other_one_is_named_with_its_extra():
    (missing,) = set(OTHERS) - set(NAMES)
    with pytest.raises(ImportError, match=rf"pip install 'tfguide\[{missing}\]'"):
        importlib.import_module(f"tfguide.{missing}")


@pytest.mark.parametrize("kind", ["encoder", "decoder", "encoder-decoder"])
def test_models_equal_the_reference(tg, kind):
    config = small_config(kind, positions="relative", activation="geglu", n_kv_heads=3)
    weights = random_weights(config)
    inputs, masks = batch(config)
    output = numpy(tg.from_weights(config, weights)(*inputs, **masks))
    np.testing.assert_allclose(output, ref.forward(config, weights, *inputs, **masks), atol=1e-5)


def test_checkpoints_and_generation(tg, tmp_path):
    config = small_config(
        d_model=24, positions="rotary", norm="rms", activation="swiglu", qkv_bias=False, output_bias=False,
        ffn_bias=False, decoder_start_token_id=None,
    )  # fmt: skip
    model = tg.from_weights(config, tfguide.init_weights(config))
    tg.save_checkpoint(model, tmp_path / "model")
    again = tg.load_checkpoint(tmp_path / "model")
    assert again.config == config
    prompts = [[1, 2, 3], [5]]
    assert tg.generate(again, prompts, 5) == ref.generate(ref.from_weights(config, tg.to_weights(model)), prompts, 5)


def test_no_module_of_the_other_framework_was_imported(tg):
    import sys

    (missing,) = set(OTHERS) - set(NAMES)
    assert not [name for name in sys.modules if name.split(".")[0] in OTHERS[NAMES[0]]], missing
