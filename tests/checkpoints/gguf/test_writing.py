"""GGUF files that are written: read back, by this package and by the package `gguf`, with the tokeniser of others."""

import dataclasses
import json

import numpy as np
import pytest

from tests.support import FRAMEWORKS, TABLES, check_table, random_weights
from tfguide import DynamicScaling, LinearScaling, YarnScaling
from tfguide.checkpoints import open_gguf, read_gguf, write_gguf
from tfguide.checkpoints.gguf.quantise import WRITTEN

gguf = pytest.importorskip("gguf")
made = pytest.importorskip("tests.checkpoints.gguf.made")

TABLE = TABLES / "gguf_written.json"


@pytest.fixture(params=made.CONFIGS)
def config(request):
    return made.config_of(request.param)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


def test_float32_comes_back_as_it_was(config, file):
    weights = random_weights(config)
    write_gguf(file, config, weights, "F32")
    found, arrays = read_gguf(file)
    assert found == config and list(arrays) == list(weights)
    for name, array in weights.items():
        np.testing.assert_array_equal(arrays[name], array)


@pytest.mark.parametrize("block_type", WRITTEN)
def test_types(block_type, file):
    """Matrices have the type asked for, or what it becomes for short rows; norms and biases stay float32."""
    config = made.config_of("llama-untied-biases", d_model=256, d_ff=96, d_head=8, n_heads=32)
    weights = random_weights(config)
    write_gguf(file, config, weights, block_type)
    tensors = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(file).tensors}
    embedding = "Q8_0" if block_type.startswith("Q4") else block_type
    assert tensors["blk.0.attn_q.weight"] == tensors["blk.0.ffn_up.weight"] == block_type
    assert tensors["blk.0.ffn_down.weight"] == ("Q5_0" if block_type == "Q4_K" else block_type)  # rows of 96
    assert tensors["token_embd.weight"] == tensors["output.weight"] == embedding
    vectors = [name for name in tensors if "norm" in name or name.endswith("bias")]
    assert len(vectors) == 2 * 9 + 1 and {tensors[name] for name in vectors} == {"F32"}
    found, arrays = read_gguf(file)
    assert found == config
    limit = {"F32": 0.0, "F16": 2**-11, "BF16": 2**-8, "Q8_0": 0.01, "Q4_0": 0.13, "Q4_1": 0.08, "Q4_K": 0.08}
    for name, array in weights.items():
        scale = np.abs(array).max()
        assert np.sqrt(np.square(arrays[name] - array).mean()) <= limit[block_type] * scale, name


def test_the_type_of_the_embedding(file):
    config = made.config_of("llama", d_model=32)
    write_gguf(file, config, random_weights(config), "Q4_0", embedding_type="F16")
    assert open_gguf(file).tensors["token_embd.weight"].block_type == "F16"
    write_gguf(file, config, random_weights(config), "Q4_0", embedding_type="Q4_0", overwrite=True)
    assert open_gguf(file).tensors["token_embd.weight"].block_type == "Q4_0"


@pytest.mark.parametrize("name", made.CONFIGS)
def test_architectures(name, file):
    write_gguf(file, made.config_of(name), random_weights(made.config_of(name)))
    assert open_gguf(file).architecture == name.split("-")[0].replace("_", "-")


class TestArchitectures:
    """The architecture that a caller asks for."""

    def test_one_of_several(self, tg, file):
        """A model of Phi-3 without parts of its own is Llama's too; its logits are the same in both files."""
        config = made.config_of("phi3", rope_scaling=None, d_rotary=None)
        weights = random_weights(config)
        for name in (None, "llama", "phi3"):
            tg.save_gguf(tg.from_weights(config, weights), file, "F32", overwrite=True, architecture=name)
            assert open_gguf(file).architecture == (name or "llama")
            found, arrays = read_gguf(file)
            assert found == config and all((arrays[key] == array).all() for key, array in weights.items())

    def test_what_keeps_it(self, file):
        config = made.config_of("qwen3")
        with pytest.raises(
            ValueError, match=r"the architecture 'llama' of .* cannot express .*\n  llama: qk_norm=True"
        ):
            write_gguf(file, config, random_weights(config), architecture="llama")
        with pytest.raises(ValueError, match=r"architecture must be one of 'qwen2', .* got 'falcon'"):
            write_gguf(file, config, random_weights(config), architecture="falcon")


def test_mxfp4_of_experts(file):
    """Other matrices are Q8_0; numbers that are in MXFP4 come back as they were."""
    config = made.config_of("gpt_oss", d_model=64, experts=dataclasses.replace(made.GPT_OSS["experts"], d_expert=96))
    weights = random_weights(config)
    write_gguf(file, config, weights, "MXFP4")
    types = {name: tensor.block_type for name, tensor in open_gguf(file).tensors.items()}
    assert types["blk.2.ffn_gate_exps.weight"] == types["blk.0.ffn_down_exps.weight"] == "MXFP4"
    assert types["blk.1.attn_q.weight"] == types["output.weight"] == types["token_embd.weight"] == "Q8_0"
    assert types["blk.1.ffn_gate_inp.weight"] == types["blk.1.ffn_up_exps.bias"] == "F32"
    once = read_gguf(file)[1]
    write_gguf(file, config, once, "MXFP4", overwrite=True)
    for name, array in read_gguf(file)[1].items():
        if ".experts." in name:
            np.testing.assert_array_equal(array, once[name])
            assert np.abs(array - weights[name]).max() <= 0.25 * np.abs(weights[name]).max()  # between 4 and 6


def test_models_of_both_frameworks(tg, framework, config, file, table, request):
    model = tg.from_weights(config, random_weights(config))
    tg.save_gguf(model, file, "F32")
    again = tg.load_checkpoint(file)
    assert again.config == config
    expected, received = tg.to_weights(model), tg.to_weights(again)
    difference = max(float(np.abs(array - expected[name]).max()) for name, array in received.items())
    name = request.node.callspec.params["config"]
    about = dict(model=name, architecture=open_gguf(file).architecture, framework=framework)
    table.append(about | dict(difference=difference))
    for name, array in received.items():
        np.testing.assert_array_equal(array, expected[name])


def test_the_table_in_the_book_is_of_these_models():
    """Each was written by both frameworks and read back, bit for bit."""
    models = (*made.CONFIGS, *made.ENCODERS)
    check_table(TABLE, [dict(model=model, framework=name) for model in models for name in FRAMEWORKS], 0)


def test_a_quantised_model_is_dequantised(tg, file):
    config = made.config_of("llama")
    model = tg.quantize(tg.from_weights(config, random_weights(config)), 8)
    tg.save_gguf(model, file, "F32")
    for name, array in read_gguf(file)[1].items():
        np.testing.assert_array_equal(array, tg.to_weights(model)[name])


@pytest.mark.parametrize("name", made.ENCODERS)
def test_encoders(name, tg, framework, file, table):
    """RoBERTa's first rows of positions no token has: they are left out."""
    config = made.encoder(name)
    weights = random_weights(config)
    tg.save_gguf(tg.from_weights(config, weights), file, "F32")
    found, arrays = read_gguf(file)
    assert found == config.replace(position_offset=0)
    weights["embedding.position.weight"] = weights["embedding.position.weight"][config.position_offset :]
    difference = max(float(np.abs(arrays[key] - array).max()) for key, array in weights.items())
    table.append(dict(model=name, architecture="bert", framework=framework, difference=difference))
    for name, array in weights.items():
        np.testing.assert_array_equal(arrays[name], array)


def test_a_window_is_written_with_a_warning(file):
    config = made.config_of("llama", sliding_window=5)
    with pytest.warns(UserWarning, match=r"llama\.cpp does not apply the sliding window.*after the first 5 tokens"):
        write_gguf(file, config, random_weights(config))
    assert read_gguf(file)[0] == config


DYNAMIC = DynamicScaling(factor=2.0, original_max_positions=67)
NOT_ROUNDED = YarnScaling(factor=4.0, original_max_positions=32, truncate=False)

LINEAR = LinearScaling(factor=2.0)
UNSHARED, UNGROUPED = (
    dict(experts=dataclasses.replace(made.DEEPSEEK2["experts"], **change))
    for change in (dict(n_shared=0), dict(groups_per_token=3))
)
GATED = dict(experts=dataclasses.replace(made.GPT_OSS["experts"], clamp=6.0))


class TestRefused:
    @pytest.mark.parametrize(
        ("name", "change", "parts"),
        [
            ("llama", dict(activation="geglu"), ("llama: activation='geglu' (it has 'swiglu')", "gpt2: ", "bert: ")),
            ("llama", dict(attention_scale=0.5), ("llama: attention_scale=0.5",)),
            ("llama", dict(norm="layer"), ("llama: no place for 'decoder.layers.0.self_attention_norm.bias'",)),
            ("llama", dict(max_positions=None), ("llama: max_positions=None (it has 1048576)",)),
            ("llama", dict(eos_token_id=(1, 2, 3, 4)), ("eos_token_id=(1, 2, 3, 4) (it has (1, 2, 3))",)),
            ("llama", dict(rope_scaling=DYNAMIC), ("llama: rope_scaling=DynamicScaling(", "(it has None)")),
            ("llama", dict(rope_scaling=NOT_ROUNDED), ("llama: rope_scaling=YarnScaling(", "truncate=True")),
            ("gpt2", dict(activation="gelu"), ("gpt2: activation='gelu' (it has 'gelu_tanh')",)),
            ("gpt2", dict(d_head=3), ("gpt2: ", "attn_qkv")),
            ("gpt_oss", dict(tied_head=True), ("gpt-oss: tied_head=True, and llama.cpp wants a head of its own",)),
            ("gpt_oss", GATED, ("clamp=6.0", "(it has Experts(", "clamp=7.0")),
            ("deepseek2", dict(rope_scaling=LINEAR), ("deepseek2: deepseek2.rope.scaling.type must be 'yarn'",)),
            ("deepseek2", dict(n_layers=27), ("llama.cpp reads no query_rank where n_layers is 27, got 11",)),
            ("deepseek2", UNSHARED, ("n_shared=0, and llama.cpp wants a shared expert",)),
            ("deepseek2", UNGROUPED, ("llama.cpp wants fewer groups_per_token than n_groups=3",)),
        ],
    )
    def test_configurations(self, name, change, parts, file):
        config = made.config_of(name, **change)
        with pytest.raises(ValueError, match="no architecture of GGUF files can express") as caught:
            write_gguf(file, config, random_weights(config))
        assert all(part in str(caught.value) for part in parts[: 1 if name == "gpt2" else None]), caught.value
        assert list(file.parent.iterdir()) == []

    def test_weights(self, file):
        config = made.config_of("llama")
        weights = random_weights(config)
        with pytest.raises(ValueError, match="missing weight"):
            write_gguf(file, config, {name: weights[name] for name in list(weights)[1:]})
        weights["decoder.layers.0.feed_forward.up.weight"][3, 4] = np.nan
        with pytest.raises(ValueError, match=r"'decoder.layers.0.feed_forward.up.weight' must be finite"):
            write_gguf(file, config, weights)
        assert list(file.parent.iterdir()) == []  # nothing is left of what was written before

    def test_types(self, file):
        config = made.config_of("llama")
        with pytest.raises(ValueError, match=r"block_type must be one of F32, F16, .*Q4_K, MXFP4, got 'Q6_K'"):
            write_gguf(file, config, random_weights(config), "Q6_K")
        with pytest.raises(ValueError, match="embedding_type must be one of"):
            write_gguf(file, config, random_weights(config), "F16", embedding_type="q8_0")
        with pytest.raises(ValueError, match="block_type='MXFP4' is for matrices of experts, and this model has none"):
            write_gguf(file, config, random_weights(config), "MXFP4")

    def test_places(self, file, tmp_path):
        config, weights = made.config_of("llama"), random_weights(made.config_of("llama"))
        with pytest.raises(IsADirectoryError, match="got a folder"):
            write_gguf(tmp_path, config, weights)
        with pytest.raises(TypeError, match="path must be a str or a path, got int"):
            write_gguf(3, config, weights)
        with pytest.raises(TypeError, match="overwrite must be a bool"):
            write_gguf(file, config, weights, overwrite=1)
        file.write_text("mine")
        with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
            write_gguf(file, config, weights)
        assert file.read_text() == "mine"
        write_gguf(file, config, weights, overwrite=True)
        assert read_gguf(file)[0] == config and list(tmp_path.iterdir()) == [file]

    def test_an_error_leaves_the_old_file(self, file):
        config, weights = made.config_of("llama"), random_weights(made.config_of("llama"))
        write_gguf(file, config, weights, "F32")
        before = file.read_bytes()
        weights["decoder.final_norm.weight"][0] = np.inf
        with pytest.raises(ValueError, match="must be finite"):
            write_gguf(file, config, weights, "F32", overwrite=True)
        assert file.read_bytes() == before and list(file.parent.iterdir()) == [file]


class TestTokenizers:
    @pytest.mark.parametrize("style", ["gpt-2", "smollm", "sentencepiece"])
    def test_of_a_folder(self, style, tmp_path, file):
        pytest.importorskip("tokenizers")
        tokenizer = made.train(tmp_path / "folder", style, 307)
        size = tokenizer.get_vocab_size()
        config = made.config_of("llama", vocab_size=size + 5, eos_token_id=2, bos_token_id=1)
        write_gguf(file, config, random_weights(config), tokenizer=tmp_path / "folder")
        keys = {key.removeprefix("tokenizer."): value for key, value in open_gguf(file).metadata.items()}
        tokens, types = keys["ggml.tokens"], keys["ggml.token_type"]
        assert tokens == [tokenizer.id_to_token(i) for i in range(size)] + [f"[PAD{i}]" for i in range(size, size + 5)]
        assert types[size:] == [5] * 5 and types[1:3] == [3, 3] and types[tokens.index("[user]")] == 4
        assert keys["chat_template"] == "{{ messages }}" and keys["ggml.add_bos_token"] is False
        assert (keys["ggml.bos_token_id"], keys["ggml.eos_token_id"]) == (1, 2)
        if style == "sentencepiece":
            assert keys["ggml.model"] == "llama" and keys["ggml.add_space_prefix"] is True
            assert types[tokens.index("<0x0A>")] == 6 and types[0] == 2
            assert keys["ggml.scores"][:size] == [-float(i) for i in range(size)]
        else:
            assert (keys["ggml.model"], keys["ggml.pre"]) == ("gpt2", style)
            merges = json.loads((tmp_path / "folder" / "tokenizer.json").read_text())["model"]["merges"]
            assert keys["ggml.merges"] == [" ".join(merge) for merge in merges]
        assert read_gguf(file)[0] == config

    def test_of_a_file(self, tmp_path, file):
        """All keys of the tokeniser are those of the other file, but for the special tokens of the model."""
        pytest.importorskip("tokenizers")
        size = made.train(tmp_path / "folder", "smollm", 307).get_vocab_size()
        config = made.config_of("llama", vocab_size=size, bos_token_id=1, eos_token_id=(2, 5))
        write_gguf(file, config, random_weights(config), tokenizer=tmp_path / "folder" / "tokenizer.json")
        other = config.replace(eos_token_id=1)
        write_gguf(tmp_path / "other.gguf", other, random_weights(other), "Q4_K", tokenizer=file)
        keys, found = open_gguf(file).metadata, open_gguf(tmp_path / "other.gguf").metadata
        ends = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id")
        assert [keys.pop(key) for key in ends] == [2, 5] and found.pop(ends[0]) == 1
        for part in (keys, found):
            for key in [key for key in part if not key.startswith("tokenizer.")]:
                del part[key]
        assert found == keys and len(keys) >= 6 and read_gguf(tmp_path / "other.gguf")[0] == other

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda data: data["model"].update(type="Unigram"), "type 'Unigram' is not supported, only BPE"),
            (
                lambda data: data.update(pre_tokenizer={"type": "Whitespace"}),
                "cuts texts by Whitespace is not supported",
            ),
            (lambda data: data.pop("model"), "not a tokeniser as the library `tokenizers` writes it: KeyError"),
            (
                lambda data: data["model"].update(byte_fallback=True, merges=data["model"]["merges"][::-1]),
                "do not follow",
            ),
        ],
    )
    def test_bad_ones(self, change, message, tmp_path, file):
        pytest.importorskip("tokenizers")
        made.train(tmp_path / "folder", "smollm", 307)
        source = tmp_path / "folder" / "tokenizer.json"
        data = json.loads(source.read_text())
        change(data)
        source.write_text(json.dumps(data))
        config = made.config_of("llama", vocab_size=400)
        with pytest.raises(ValueError, match=message) as caught:
            write_gguf(file, config, random_weights(config), tokenizer=source)
        assert str(caught.value).startswith(str(source)) and not file.exists()

    def test_ones_that_do_not_fit(self, tmp_path, file):
        pytest.importorskip("tokenizers")
        made.train(tmp_path / "folder", "smollm", 307)
        config = made.config_of("llama")
        with pytest.raises(ValueError, match=r"the tokeniser has \d+ tokens, the model only 37"):
            write_gguf(file, config, random_weights(config), tokenizer=tmp_path / "folder")
        write_gguf(file, config, random_weights(config))
        with pytest.raises(
            ValueError, match=r"expected a file with a tokeniser, got one without tokenizer\.ggml\.tokens"
        ):
            write_gguf(tmp_path / "other.gguf", config, random_weights(config), tokenizer=file)
        with pytest.raises(FileNotFoundError, match=r"no such file or folder with a tokeniser: .*nothing"):
            write_gguf(tmp_path / "other.gguf", config, random_weights(config), tokenizer=tmp_path / "nothing")
