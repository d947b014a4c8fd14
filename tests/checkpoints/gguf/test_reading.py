"""What is read from the metadata of a GGUF file, what is refused, and what is passed over with a warning."""

import re
import tracemalloc
import warnings

import numpy as np
import pytest

from tfguide.checkpoints import open_gguf, read_blocks, read_gguf
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.gguf.reading import ARCHITECTURES
from tfguide.checkpoints.gguf.rope import divisors, scaling_of
from tfguide.checkpoints.gguf.windows import windows
from tfguide.frequencies import attention_factor, rotary_frequencies
from tfguide.parts import LatentAttention
from tfguide.scalings import RopeScaling, YarnScaling

pytest.importorskip("gguf")
write = pytest.importorskip("tests.checkpoints.gguf.made").write


def refused(file, *parts, error=ValueError, **options):
    """Check that reading fails, and that the message names the file and has every part, in this order."""
    with pytest.raises(error, match="(?s)" + ".*".join(map(re.escape, (str(file), *parts)))):
        read_gguf(file, **options)


def write_deepseek2(file, tensors=None, **keys):
    """A small file of the architecture "deepseek2": 3 heads of 3 + 2 features and values of 4, a latent of 5."""
    sizes = dict(
        attention__kv_lora_rank=5, attention__key_length=7, attention__value_length=5, attention__key_length_mla=5,
        attention__value_length_mla=4, rope__dimension_count=2, expert_count=4, expert_used_count=2,
        expert_feed_forward_length=9, expert_shared_count=1, expert_gating_func=2,
    )  # fmt: skip
    shapes = {f"blk.0.{part}.weight": None for part in ("attn_k", "attn_v", "ffn_gate", "ffn_up", "ffn_down")}
    shapes |= {
        "attn_q": (15, 12), "attn_kv_a_mqa": (7, 12), "attn_kv_a_norm": (5,), "attn_k_b": (3, 5, 3),
        "attn_v_b": (3, 4, 5), "attn_output": (12, 12), "ffn_gate_inp": (4, 12), "ffn_gate_exps": (4, 9, 12),
        "ffn_up_exps": (4, 9, 12), "ffn_down_exps": (4, 12, 9), "ffn_gate_shexp": (9, 12), "ffn_up_shexp": (9, 12),
        "ffn_down_shexp": (12, 9),
    }  # fmt: skip
    shapes = {name if "blk" in name else f"blk.0.{name}.weight": shape for name, shape in shapes.items()}
    return write(file, tensors=shapes | (tensors or {}), arch="deepseek2", **sizes | keys)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


class TestRead:
    def test_sizes(self, file):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            config, weights = read_gguf(write(file))
        assert (config.d_model, config.n_layers, config.n_heads, config.n_kv_heads, config.d_head) == (12, 1, 3, 1, 6)
        assert (config.d_ff, config.vocab_size, config.max_positions, config.tied_head) == (14, 11, 19, True)
        assert (config.norm_eps, config.rope_theta, config.sliding_window) == (1e-5, 500_000.0, None)
        assert not (config.qkv_bias or config.output_bias or config.ffn_bias)
        assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (None, None, None)
        assert weights["embedding.token.weight"].shape == (11, 12) and "head.weight" not in weights

    def test_absent_keys_have_their_defaults(self, file):
        tensors = {f"blk.0.attn_{part}.weight": (12, 12) for part in ("q", "k", "v", "output")}
        left_out = dict.fromkeys(
            ("attention__head_count_kv", "attention__key_length", "attention__value_length", "rope__freq_base",
             "rope__dimension_count")
        )  # fmt: skip
        config, _ = read_gguf(write(file, tensors=tensors, **left_out))
        assert (config.n_kv_heads, config.d_head, config.rope_theta) == (3, 4, 10_000.0)

    def test_one_number_for_each_layer(self, file):
        config, _ = read_gguf(write(file, attention__head_count=[3], feed_forward_length=[14]))
        assert (config.n_heads, config.d_ff) == (3, 14)

    def test_a_window(self, file):
        assert read_gguf(write(file, attention__sliding_window=5))[0].sliding_window == 5
        assert read_gguf(write(file, attention__sliding_window=0))[0].sliding_window is None

    @pytest.mark.parametrize("arch", ["gemma3", "gpt-oss"])
    def test_windows_by_layer(self, arch):
        """A number of layers of which the last sees everything, or true for each layer with a window."""
        for said, sliding in (
            (3, (0, 1, 3)), (0, (0, 1, 2, 3)), (1, ()), ([True, False, False, True], (0, 3)), (True, (0, 1, 2, 3)),
        ):  # fmt: skip
            keys = {f"{arch}.attention.sliding_window": 5, f"{arch}.attention.sliding_window_pattern": said}
            found = windows(Fields(keys), arch, 4, period=2)
            assert found["sliding_window"] == (5 if sliding else None)
            assert (found["sliding_layers"] or tuple(range(4))) == (sliding or tuple(range(4))), said
        with pytest.raises(
            ValueError, match=r"pattern must be a number, or true or false for each of 3 layers, got \["
        ):
            windows(Fields(keys | {f"{arch}.attention.sliding_window_pattern": [True, False]}), arch, 3, period=2)

    def test_latent_attention(self, file, tmp_path):
        """What makes keys and values lies in two tensors, the first of them turned; in old files, in one."""
        config, weights = read_gguf(write_deepseek2(file))
        assert config.latent == LatentAttention(kv_rank=5, d_nope=3, d_rope=2, d_value=4)
        assert config.experts.router == "sigmoid" and config.rope_scaling is None and not config.experts.normalised
        tensors = {name: tensor.dequantised() for name, tensor in open_gguf(file).tensors.items()}
        up = weights["decoder.layers.0.self_attention.key_value_up.weight"].reshape(5, 3, 7)  # (R, H, d_nope + d_value)
        np.testing.assert_array_equal(up[:, 2, 1], tensors["blk.0.attn_k_b.weight"][2, :, 1])
        np.testing.assert_array_equal(up[:, 2, 3 + 1], tensors["blk.0.attn_v_b.weight"][2, 1])
        left_out = {"blk.0.attn_k_b.weight": None, "blk.0.attn_v_b.weight": None, "blk.0.attn_kv_b.weight": (21, 5)}
        keys = dict(attention__key_length=5, attention__value_length=4, attention__head_count_kv=3)
        mla = dict.fromkeys(("attention__key_length_mla", "attention__value_length_mla", "expert_gating_func"))
        old, arrays = read_gguf(write_deepseek2(tmp_path / "old.gguf", left_out, **keys, **mla))
        assert old.latent == config.latent and old.experts.router == "softmax"
        whole = open_gguf(tmp_path / "old.gguf").tensors["blk.0.attn_kv_b.weight"].dequantised()
        np.testing.assert_array_equal(arrays["decoder.layers.0.self_attention.key_value_up.weight"], whole.T)

    def test_special_tokens(self, file):
        tokens = {f"tokenizer.ggml.{name}_token_id": i for i, name in enumerate(("bos", "eos", "padding"), 3)}
        config, _ = read_gguf(write(file, tokens))
        assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (3, 4, 5)
        ends = {"tokenizer.ggml.eot_token_id": 6, "tokenizer.ggml.eom_token_id": 4}
        assert read_gguf(write(file, tokens | ends))[0].eos_token_id == (4, 6)

    def test_special_tokens_that_are_not_there(self, file):
        vocabulary = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.tokens": list("abcdefghijk")}
        config, _ = read_gguf(write(file, vocabulary))
        assert (config.bos_token_id, config.eos_token_id) == (None, None)
        with pytest.warns(UserWarning, match=r"bos_token_id=11 is not one of the 11 tokens"):
            assert read_gguf(write(file, {"tokenizer.ggml.bos_token_id": 11}))[0].bos_token_id is None

    def test_rotations_that_old_files_hold(self, file):
        read_gguf(write(file, tensors={"blk.0.attn_rot_embd": (3,)}))

    def test_passed_over_once(self, file):
        write(file, {"other.key": "x", "general.name": "y"}, logit_scale=2.0)
        with pytest.warns(UserWarning) as caught:
            read_gguf(file)
        (warning,) = caught
        assert str(file) in str(warning.message) and "as llama.cpp does" in str(warning.message)
        assert "llama.logit_scale=2.0" in str(warning.message) and "other.key='x'" in str(warning.message)
        assert "general.name" not in str(warning.message)


class TestRefused:
    def test_architectures(self, file):
        write(file, arch="falcon")
        refused(file, "general.architecture='falcon' is not supported", f"expected one of {', '.join(ARCHITECTURES)}")

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            (dict(expert_count=8), ("no llama.expert_used_count",)),
            (
                dict(expert_count=8, expert_used_count=2, expert_group_count=4),
                ("llama.expert_group_count=4", "among all"),
            ),
            (dict(attention__causal=False), ("llama.attention.causal=False", "expected true")),
            (dict(attention__value_length=4), ("llama.attention.value_length=4", "expected 6")),
            (dict(rope__dimension_count=4), ("llama.rope.dimension_count=4", "expected 6")),
            (dict(rope__scaling__type="longrope"), ("llama.rope.scaling.type='longrope'", "'none', 'linear'")),
            (dict(rope__scaling__factor=-2.0), ("the divisors of the frequencies must be finite numbers above 0",)),
            (dict(rope__scaling__attn_factor=2.0), ("llama.rope.scaling.attn_factor=2.0", "expected 1.0")),
            (dict(block_count=None), ("no llama.block_count", "integer of at least 1")),
            (dict(block_count=0), ("llama.block_count must be an integer of at least 1, got 0",)),
            (dict(block_count=1 << 31), ("2147483648 layers, but there are only 11 tensors",)),
            (dict(attention__layer_norm_rms_epsilon=None), ("no llama.attention.layer_norm_rms_epsilon",)),
            (dict(attention__layer_norm_rms_epsilon=float("nan")), ("must be a finite number",)),
            (dict(attention__head_count=[3, 5]), ("llama.attention.head_count must be an integer", "[3, 5]")),
            (dict(attention__head_count_kv=2), ("n_kv_heads must divide n_heads",)),
            (dict(attention__key_length=1 << 30), ("'blk.0.attn_q.weight' must have 3221225472 rows", "got 18")),
            (dict(attention__head_count=1 << 20), ("'blk.0.attn_q.weight' must have",)),
            (dict(feed_forward_length="x"), ("llama.feed_forward_length must be an integer",)),
            (dict(vocab_size=10), ("vocab_size has 10 tokens", "does not fit the embedding", "of 11")),
        ],
    )
    def test_keys(self, file, keys, message):
        refused(write(file, **keys), *message)

    @pytest.mark.parametrize("arch", ["qwen2", "qwen3", "gemma3", "phi3"])
    def test_keys_of_others(self, file, arch):
        """The keys of Llama under another name."""
        for key, value, supported in (
            ("expert_count", 8, "mixture of experts"),
            ("attention.causal", False, "expected true"),
            ("attention.value_length", 4, "expected 6"),
        ):
            fused = {"blk.0.attn_qkv.weight": (30, 12)} if arch == "phi3" else {}
            write(file, tensors=fused, arch=arch, **{key.replace(".", "__"): value})
            refused(file, f"{arch}.{key}={value!r} is not supported", supported)

    @pytest.mark.parametrize(
        ("keys", "message"),
        [
            (dict(nextn_predict_layers=1), ("deepseek2.nextn_predict_layers=1", "no module that drafts tokens")),
            (dict(attention__temperature_scale=0.5), ("attention.temperature_scale=0.5", "expected 0")),
            (dict(attention__kv_lora_rank=None), ("no deepseek2.attention.kv_lora_rank",)),
            (dict(attention__kv_lora_rank=3), ("'blk.0.attn_kv_a_mqa.weight' must have 5 rows", "got 7")),
            (dict(attention__key_length_mla=7), ("'blk.0.attn_q.weight' must have 21 rows", "got 15")),
            (dict(attention__key_length_mla=2), ("key_length_mla and value_length_mla must be", "got 2 and 4")),
            (dict(expert_gating_func=3), ("deepseek2.expert_gating_func=3", "or 2, a sigmoid")),
            (dict(expert_gating_func=1, expert_group_count=2), ("expert_gating_func=1", "a softmax without groups")),
            (dict(expert_count=0), ("n_experts must be at least 1, got 0",)),
            (dict(rope__scaling__type="linear", rope__scaling__factor=2.0), ("type must be 'yarn'", "LinearScaling(")),
            (dict(rope__scaling__type="yarn", rope__scaling__factor=2.0), ("yarn_log_multiplier not 0", "and 0.0")),
        ],
    )
    def test_keys_of_deepseek(self, file, keys, message):
        refused(write_deepseek2(file, **keys), *message)

    def test_no_scaling_is_no_scaling(self, file):
        for keys in (dict(rope__scaling__type="none", rope__scaling__factor=8.0), dict(rope__scale_linear=0.0)):
            assert read_gguf(write(file, **keys))[0].rope_scaling is None

    def test_ignored_keys(self, file):
        write(file, rope__scaling__attn_factor=2.0)
        with pytest.warns(UserWarning, match=r"ignored as told: llama.rope.scaling.attn_factor=2.0"):
            read_gguf(file, ignore=("llama.rope.scaling.attn_factor",))
        with pytest.raises(TypeError, match="ignore must be a sequence of keys"):
            read_gguf(file, ignore="llama.rope.scaling.attn_factor")

    @pytest.mark.parametrize("kind", ["adapter", "mmproj"])
    def test_files_that_are_no_models(self, file, kind):
        refused(write(file, {"general.type": kind}), f"general.type='{kind}' is not supported", "a whole model")

    def test_a_vocabulary_that_does_not_fit_the_embedding(self, file):
        write(file, {"tokenizer.ggml.tokens": list("abcdefghij")})
        refused(file, "the tokeniser's vocabulary has 10 tokens", "does not fit the embedding", "of 11")
        refused(write(file, {"tokenizer.ggml.tokens": "ab"}), "tokenizer.ggml.tokens must be a list")

    @pytest.mark.parametrize(
        ("tensors", "message"),
        [
            ({"token_embd.weight": None}, ("missing tensor 'token_embd.weight'",)),
            ({"blk.0.ffn_up.weight": None}, ("missing tensor 'blk.0.ffn_up.weight' of shape (14, 12)", "up.weight")),
            ({"blk.0.ffn_up.weight": (12, 14)}, ("'blk.0.ffn_up.weight' must have shape (14, 12), got (12, 14)",)),
            ({"token_embd.weight": (11, 13)}, ("'token_embd.weight' must have shape (11, 12), got (11, 13)",)),
            ({"blk.1.ffn_up.weight": (14, 12)}, ("unexpected tensor 'blk.1.ffn_up.weight'",)),
            ({"blk.0.ffn_gate_inp.weight": (4, 12)}, ("unexpected tensor 'blk.0.ffn_gate_inp.weight'",)),
            ({"blk.0.attn_q.bias": (18,)}, ("missing tensor 'blk.0.attn_k.bias' of shape (6,)",)),
            ({"rope_freqs.weight": [1.0, 2.0]}, ("'rope_freqs.weight' must have shape (3,), got (2,)",)),
            ({"rope_freqs.weight": [4.0, 1.0, 1.0]}, ("(rope_freqs.weight) as Llama 3's scaling gives them",)),
            (
                {"rope_freqs.weight": [1.0, 0.0, 1.0]},
                ("the divisors of the frequencies must be finite numbers above 0",),
            ),
        ],
    )
    def test_tensors(self, file, tensors, message):
        refused(write(file, tensors=tensors), *message)

    @pytest.mark.slow
    def test_random_bytes(self, file, tmp_path):
        """A change of one byte before the tensors' numbers gives a ValueError that names the file, or a model."""
        tokens = {"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": list("abcdefghijk")}
        ends = {"tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.eot_token_id": 3, "general.type": "model"}
        write(file, tokens | ends, {"rope_freqs.weight": [1.0, 2.0, 3.0]}, rope__freq_base=100.0, vocab_size=11)
        whole, bad = file.read_bytes(), tmp_path / "bad.gguf"
        stream, models = np.random.default_rng(0), 0
        tracemalloc.start()
        for place in range(len(whole) - sum(t.data.nbytes for t in open_gguf(file).tensors.values())):
            for value in {whole[place] ^ 1, int(stream.integers(256))} - {whole[place]}:
                bad.write_bytes(whole[:place] + bytes([value]) + whole[place + 1 :])
                tracemalloc.reset_peak()
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        read_gguf(bad)
                    models += 1
                except ValueError as error:
                    assert str(error).startswith(str(bad)), error
                assert tracemalloc.get_traced_memory()[1] < 4_000_000
        tracemalloc.stop()
        assert models > 100  # tokens, and numbers such as the base, may be others

    def test_nothing_is_read_before_all_is_checked(self, file):
        """The last tensor is wrong: no array of the others is made."""
        write(file, tensors={"output_norm.weight": (13,)})
        with pytest.raises(ValueError, match=r"output_norm"):
            read_blocks(open_gguf(file))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-20], "beyond the end"),
        (lambda content: b"GGML" + content[4:], "not a GGUF file"),
        (lambda content: content.replace(b"blk.0.ffn_up.weight", b"blk.0.ffn_xx.weight"), "unexpected tensor"),
    ],
)
def test_bad_files_in_both_frameworks(spoil, message, tg, file):
    write(file)
    assert tg.load_checkpoint(file).config.d_model == 12
    file.write_bytes(spoil(file.read_bytes()))
    for path in (file, file.parent):
        with pytest.raises(ValueError, match=message) as caught:
            tg.load_checkpoint(path)
        assert str(caught.value).startswith(str(file))


class TestScaling:
    """Divisors of frequencies to the numbers of Llama 3's scaling, and back."""

    @pytest.mark.parametrize(
        ("d_head", "theta", "scaling"),
        [
            (128, 500_000.0, (8.0, 1.0, 4.0, 8192)),  # Llama 3.1
            (64, 500_000.0, (32.0, 1.0, 4.0, 8192)),  # Llama 3.2 1B
            (128, 1_000_000.0, (4.0, 1.0, 4.0, 16384)),
            (64, 10_000.0, (8.0, 2.0, 7.0, 2048)),
            (64, 10_000.0, (2.5, 1.0, 32.0, 4096)),
            (10, 100.0, (4.0, 1.0, 4.0, 32)),  # one pair between the two ends
        ],
    )  # fmt: skip
    def test_found(self, d_head, theta, scaling):
        names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_positions")
        scaling = RopeScaling(**dict(zip(names, scaling, strict=True)))
        stored = divisors(d_head, theta, scaling).astype(np.float32)
        for trained in (None, scaling.original_max_positions):
            found = scaling_of(stored, theta, trained)
            np.testing.assert_allclose(
                rotary_frequencies(d_head, theta, found), rotary_frequencies(d_head, theta, scaling), rtol=1e-5
            )
            assert found.factor == scaling.factor
        if scaling.low_freq_factor == 1.0:
            assert found == scaling

    @pytest.mark.parametrize("stored", [[3.0] * 5, [1.0, 1.0, 8.0, 8.0, 8.0], [1.0, 1.0, 1.0, 1.0, 2.0], [0.5] * 5])
    def test_no_pair_between_the_ends(self, stored):
        np.testing.assert_allclose(divisors(10, 1000.0, scaling_of(stored, 1000.0)), stored, rtol=1e-5)

    def test_one_factor_for_all(self, file):
        """llama.cpp divides the positions where a factor stands alone; the older key counts where the new is absent."""
        for keys, factor in (
            (dict(rope__scaling__type="linear", rope__scaling__factor=4.0), 4.0),
            (dict(rope__scaling__factor=4.0, rope__scale_linear=8.0), 4.0),
            (dict(rope__scale_linear=8.0), 8.0),
        ):
            config, _ = read_gguf(write(file, **keys))
            np.testing.assert_allclose(divisors(6, 500_000.0, config.rope_scaling), factor, rtol=1e-6)
        config, _ = read_gguf(write(file, tensors={"rope_freqs.weight": [1.0, 2.0, 2.0]}, rope__scaling__factor=3.0))
        np.testing.assert_allclose(divisors(6, 500_000.0, config.rope_scaling), [3.0, 6.0, 6.0], rtol=1e-6)

    def test_yarn(self, file):
        """What `attn_factor` says is beside YaRN's own factor of cosines and sines."""
        keys = dict(rope__scaling__type="yarn", rope__scaling__factor=4.0)
        plain = read_gguf(write(file, **keys))[0].rope_scaling
        assert plain == YarnScaling(factor=4.0, original_max_positions=19)
        more = dict(rope__scaling__attn_factor=1.5, rope__scaling__original_context_length=7)
        sharper = read_gguf(write(file, **keys, **more))[0].rope_scaling
        assert sharper.original_max_positions == 7
        assert attention_factor(sharper) == pytest.approx(1.5 * attention_factor(plain))
        write(file, tensors={"rope_freqs.weight": [1.0, 2.0, 4.0]}, **keys)
        refused(file, "so there must be no tensor 'rope_freqs.weight'")

    def test_none(self):
        assert scaling_of(np.ones(5, np.float32), 10_000.0) is None

    def test_read(self, file):
        config, _ = read_gguf(write(file, tensors={"rope_freqs.weight": [1.0, 2.0, 4.0]}, rope__freq_base=1000.0))
        found = divisors(6, 1000.0, config.rope_scaling)
        np.testing.assert_allclose(found, [1.0, 2.0, 4.0], rtol=1e-5)
