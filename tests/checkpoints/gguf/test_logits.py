"""GGUF files in both frameworks: the logits of transformers with the dequantised weights, to 2e-5."""

import numpy as np
import pytest

from tests.support import FRAMEWORKS, TABLES, check_table, numpy, tensor
from tfguide.checkpoints import Blocks, open_gguf, read_blocks, read_gguf
from tfguide.checkpoints.gguf.reading import ARCHITECTURES
from tfguide.compress import Quantization
from tfguide.weights import weight_table

pytest.importorskip("gguf")
hf = pytest.importorskip("tests.checkpoints.hf")
peers = pytest.importorskip("tests.checkpoints.gguf.peers")

TABLE = TABLES / "gguf.json"
TOLERANCE = 2e-5  # of the largest output
LLAMA = hf.LLAMA | dict(hidden_size=288, intermediate_size=160, num_attention_heads=9, num_key_value_heads=3)
BERT = hf.BERT | dict(hidden_size=96, intermediate_size=160, vocab_size=41)
QWEN2 = hf.QWEN2 | dict(hidden_size=96, intermediate_size=160, num_attention_heads=3)
GEMMA3 = hf.GEMMA3 | dict(
    hidden_size=96, intermediate_size=160, head_dim=32, query_pre_attn_scalar=32, num_hidden_layers=2,
    layer_types=["sliding_attention", "full_attention"],
)  # fmt: skip
PHI3 = hf.PHI3 | dict(hidden_size=288, intermediate_size=160, num_attention_heads=9, num_key_value_heads=3)
MOE = dict(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=64, norm_topk_prob=True)
YARN = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=64)
DEEPSEEK_V3 = hf.DEEPSEEK_V3 | dict(
    hidden_size=96, intermediate_size=160, moe_intermediate_size=64, num_attention_heads=3, num_key_value_heads=3,
    kv_lora_rank=64, q_lora_rank=32, qk_nope_head_dim=32, routed_scaling_factor=1.3,
    rope_parameters=YARN | dict(mscale=1.0, mscale_all_dim=1.0),
)  # fmt: skip
GPT_OSS = hf.GPT_OSS | dict(
    hidden_size=288, intermediate_size=160, swiglu_limit=7.0, rope_parameters=YARN | dict(truncate=False)
)
GPT2 = hf.GPT2 | dict(n_embd=96, n_head=3, n_inner=224)
CASES = {
    "llama-grouped": ("LlamaForCausalLM", LLAMA | dict(rope_parameters=dict(rope_type="default", rope_theta=53.0))),
    "llama-multi-head-tied": (
        "LlamaForCausalLM",
        LLAMA
        | dict(hidden_size=96, num_attention_heads=3, num_key_value_heads=3, head_dim=32, tie_word_embeddings=True),
    ),
    "llama-multi-query-biases": (
        "LlamaForCausalLM",
        LLAMA | dict(hidden_size=224, num_attention_heads=7, num_key_value_heads=1, attention_bias=True, mlp_bias=True),
    ),
    "llama-3": ("LlamaForCausalLM", LLAMA | dict(rope_parameters=hf.LLAMA3)),
    "qwen2": ("Qwen2ForCausalLM", hf.QWEN2 | dict(hidden_size=288, intermediate_size=160)),
    "qwen2-tied": ("Qwen2ForCausalLM", QWEN2 | dict(tie_word_embeddings=True, num_key_value_heads=1)),
    "qwen3": ("Qwen3ForCausalLM", LLAMA),
    "mixtral": ("MixtralForCausalLM", LLAMA | dict(num_local_experts=5, num_experts_per_tok=2)),
    "qwen3_moe": ("Qwen3MoeForCausalLM", LLAMA | MOE),
    "gemma3": ("Gemma3ForCausalLM", GEMMA3 | dict(final_logit_softcapping=3.0)),
    "phi3": ("Phi3ForCausalLM", PHI3),
    "deepseek_v3": ("DeepseekV3ForCausalLM", DEEPSEEK_V3),
    "gpt_oss": ("GptOssForCausalLM", GPT_OSS),
    "gpt2": ("GPT2LMHeadModel", GPT2),
    "gpt2-untied": ("GPT2LMHeadModel", GPT2 | dict(tie_word_embeddings=False, n_head=4, n_inner=None)),
    "bert": ("BertModel", BERT | dict(num_attention_heads=3)),
    "bert-one-type": ("BertModel", BERT | dict(num_attention_heads=4, type_vocab_size=1)),
    "roberta": ("RobertaModel", BERT | dict(type_vocab_size=1)),
    "distilbert": ("DistilBertModel", hf.DISTILBERT | dict(dim=96, hidden_dim=160)),
}


# Weights whose rows, or in the last case columns, have another order in the file.
TURNED = {
    "llama": ("query.weight", "key.weight"),
    "deepseek2": ("query_up.weight", "key_value_down.weight", "key_value_up.weight"),
}


def make(case):
    """A model of transformers with random parameters."""
    import transformers

    name, fields = CASES[case]
    kind = getattr(transformers, name)
    return hf.randomise(kind(kind.config_class(**fields)).eval())


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """Every model of CASES in turn, with the weights of its file, and the file."""
    model = make(request.param)
    types = ["MXFP4" if kind == "Q4_1" and request.param == "gpt_oss" else kind for kind in peers.TYPES]
    return model, peers.write(model, tmp_path_factory.mktemp(request.param) / "model.gguf", types)


def compared(tg, framework, model, peer):
    """The largest difference of two models' outputs, relative to the largest output."""
    tokens, masks, real = hf.inputs(model.config.kind, model.config.vocab_size, model.config.n_token_types)
    ours = numpy(
        model(
            *(tensor(framework, t) for t in tokens),
            **{name: tensor(framework, mask) for name, mask in masks.items()},
        )
    )
    theirs = hf.outputs(peer, tokens, masks)
    return np.abs(ours - theirs)[real].max() / np.abs(theirs[real]).max()


def test_equal_transformers(case, framework, tg, table):
    peer, file = case
    difference = float(compared(tg, framework, tg.load_checkpoint(file), peer))
    family = peer.config.model_type
    table.append(about(family, open_gguf(file).architecture, framework) | dict(difference=difference))
    assert difference < TOLERANCE


def about(family, architecture, framework):
    """A row of the book's table: the family of transformers, the name of its files, and who read one."""
    return dict(family=family, architecture=architecture, framework=framework)


def test_the_table_in_the_book_is_of_these_cases():
    families = [getattr(hf.transformers, name).config_class.model_type for name, _ in CASES.values()]
    rows = [about(family, peers.ARCHITECTURES.get(family, family), name) for family in families for name in FRAMEWORKS]
    check_table(TABLE, rows, TOLERANCE)
    assert {row["architecture"] for row in rows} == set(ARCHITECTURES)


def test_folders_types_and_quantisation(case, framework, tg):
    """A folder that holds the file gives the same model, which can be read in another type or quantised."""
    peer, file = case
    config, weights = read_gguf(file)
    for name, array in tg.to_weights(tg.load_checkpoint(file.parent)).items():
        np.testing.assert_array_equal(array, weights[name])
    limit = 0.1 if config.experts is None else 0.5  # rounding may send a token to another expert
    half = tg.load_checkpoint(str(file), dtype="float16")
    assert half.config == config and compared(tg, framework, half, peer) < limit
    eight = tg.load_checkpoint(file, quantization=Quantization(8))
    assert eight.quantization == Quantization(8) and compared(tg, framework, eight, peer) < limit


def test_blocks_are_those_of_the_file(case):
    """Matrices and the embedding stay in blocks, mapped from the file, or copied where rows have another order."""
    _, file = case
    opened = open_gguf(file)
    config, arrays = read_blocks(opened)
    weights = read_gguf(file)[1]
    table = weight_table(config)
    assert list(arrays) == list(table)
    mapped = 0
    for name, array in arrays.items():
        if table[name].is_matrix or name == "embedding.token.weight":
            assert isinstance(array, Blocks)
            rows = weights[name].swapaxes(-2, -1) if table[name].is_matrix else weights[name]
            assert array.shape == rows.shape and array.data.shape[0] == rows.shape[0]
            np.testing.assert_array_equal(array.dequantised(), rows)
            own = any(np.shares_memory(array.data, tensor.data) for tensor in opened.tensors.values())
            turned = name.endswith(TURNED.get(opened.architecture, ()))
            assert own != turned, name
            mapped += own
        else:
            assert array.dtype == np.float32 and array.shape == table[name].shape
    types = {tensor.block_type for tensor in opened.tensors.values()}
    assert mapped > 5 and len(types) >= 5 and ("MXFP4" in types) == (opened.architecture == "gpt-oss")


def size_of_heads(config):
    if config.model_type == "deepseek_v3":
        return config.qk_head_dim
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def test_configurations(case):
    peer, file = case
    config, _ = read_gguf(file)
    assert config.n_layers == 2 and config.vocab_size == peer.config.vocab_size
    left_out = peer.config.pad_token_id + 1 if peer.config.model_type == "roberta" else 0  # rows that no token has
    assert config.max_positions == peer.config.max_position_embeddings - left_out
    assert config.tied_head == (config.kind == "encoder" or peer.config.tie_word_embeddings)
    names = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps")
    assert config.norm_eps == next((getattr(peer.config, name) for name in names if hasattr(peer.config, name)), 1e-12)
    if config.positions == "rotary":
        rope = peer.config.rope_parameters
        rope = rope.get("full_attention", rope)
        assert config.rope_theta == rope["rope_theta"]
        assert (config.rope_scaling is None) == (rope["rope_type"] == "default")
        assert config.n_kv_heads == peer.config.num_key_value_heads and config.d_head == size_of_heads(peer.config)
