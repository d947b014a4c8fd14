"""Every key of a config.json is read, is known to change nothing, or is refused: each claim is held to transformers."""

import numpy as np
import pytest

from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.keys import ACTIVATIONS, GATES, INERT
from tfguide.checkpoints.reading import FAMILIES
from tfguide.reference import activate

hf = pytest.importorskip("tests.checkpoints.hf")
torch, transformers = hf.torch, hf.transformers

CASES = {
    "bert": "bert", "distilbert": "distilbert", "roberta": "roberta", "gpt2": "gpt2", "llama": "llama-grouped",
    "mistral": "mistral-window", "qwen2": "qwen2", "phi3": "phi3", "qwen3": "qwen3",
    "gemma3_text": "gemma3_text", "mixtral": "mixtral-window-tied", "qwen3_moe": "qwen3_moe", "gpt_oss": "gpt_oss",
    "deepseek_v3": "deepseek_v3", "t5": "t5-1.0",
}  # fmt: skip
MORE_INERT = {
    "bert": "position_embedding_type directionality pooler_fc_size pooler_type",
    "distilbert": "tie_weights_ max_length",
    "roberta": "position_embedding_type",
    "gpt2": "n_ctx predict_special_tokens summary_type",
    "llama": "pretraining_tp max_sequence_length",
    "mistral": "pretraining_tp",
    "qwen2": "attention_bias rope_interleaved",
    "phi3": "embd_pdrop attention_bias",
    "qwen3": "mlp_bias rope_interleaved",
    "gemma3_text": "hidden_act cache_implementation",
    "mixtral": "attention_bias",
    "gpt_oss": "initial_context_length experts_per_token",
    "qwen3_moe": "max_window_layers rope_interleaved",
    "deepseek_v3": "pretraining_tp ep_size aux_loss_alpha seq_aux scoring_func topk_method moe_layer_freq",
    "t5": "n_positions classifier_dropout",
}
# What the keys do there is not computing: how numbers are stored, what a result is wrapped in, which class is made.
NOT_TRIED = {"dtype", "torch_dtype", "return_dict", "use_return_dict", "_attn_implementation", "attn_implementation"}


def others(value):
    """Values of the same type as a value, but different."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 1.5 + 0.25]
    if isinstance(value, str):
        return ["relu", "gelu_new", "gated-silu", "other"]
    if value is None:
        return [3]
    return []


def read(family, keys, tensors=("pooler.dense.weight",)):
    """Our configuration of a config.json, or the error that it raises."""
    try:
        return FAMILIES[family].config_from_hf(Fields(keys), tensors)
    except ValueError as error:
        return error


def computed(family, keys, state):
    """What transformers computes with a config.json and given weights; None where it refuses them."""
    cls = getattr(transformers, hf.CASES[CASES[family]][0])
    try:
        model = cls(cls.config_class.from_dict(dict(keys)))
        missing, unexpected = model.load_state_dict(state, strict=False)
    except Exception:  # whatever it says: it does not compute anything
        return None
    if missing or unexpected:
        return None
    kind = "encoder-decoder" if family == "t5" else "decoder"
    tokens, masks, real = hf.inputs(kind)
    return hf.outputs(model, tokens, masks)[real]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_key_that_we_do_not_mind_changes_nothing_there(family):
    """Change each key in turn: either our configuration changes, or we refuse, or transformers gives the same."""
    model = hf.make(CASES[family])
    keys, state = model.config.to_dict(), model.state_dict()
    ours, expected = read(family, keys), computed(family, keys, state)
    assert expected is not None
    refused = []

    def culprits(changes):
        """The changes that alter what transformers computes, found by halving; `refused` gets those it refuses."""
        result = computed(family, keys | dict(changes), state)
        if result is not None and np.allclose(result, expected, atol=1e-5):
            return []
        if len(changes) > 1:
            half = len(changes) // 2
            return culprits(changes[:half]) + culprits(changes[half:])
        if result is None:
            refused.extend(changes)
        return changes if result is not None else []

    extra = dict.fromkeys([*INERT, *MORE_INERT[family].split()], None)
    tried = 0
    for i in range(4):  # the i-th other value of each key, all at once
        changes = []
        for key, value in (extra | keys).items():
            other = others(value)[i : i + 1]
            if key not in NOT_TRIED and other:
                received = read(family, keys | {key: other[0]})
                if received == ours:
                    changes.append((key, other[0]))
        tried += len(changes)
        assert culprits(changes) == []
    assert tried - len(refused) > 60  # the loop has done something


@pytest.mark.parametrize("family", FAMILIES)
def test_every_key_that_transformers_writes_is_known(family):
    keys = transformers.AutoConfig.for_model(family).to_dict()
    assert not isinstance(read(family, keys), ValueError)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_the_functions_of_their_names(name):
    x = torch.linspace(-6, 6, 1001)
    expected = transformers.activations.ACT2FN[name](x).numpy()
    assert np.abs(activate(ACTIVATIONS[name], x.numpy()) - expected).max() < 2e-6
    if name in GATES:
        up = np.linspace(3, -2, 1001)
        assert np.abs(activate(GATES[name], up, x.numpy()) - expected * up).max() < 1e-5


def test_gates_of_silu():
    x = torch.linspace(-6, 6, 1001)
    for name in ("silu", "swish"):
        expected = transformers.activations.ACT2FN[name](x).numpy()
        assert np.abs(activate(GATES[name], np.ones(1001), x.numpy()) - expected).max() < 2e-6
