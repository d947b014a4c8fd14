"""A folder is read into a configuration and weights that compute what transformers computes from it."""

import json
import re
import shutil
import tracemalloc
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import tfguide
import tfguide.reference as ref
from tfguide.checkpoints import read_checkpoint
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.reading import FAMILIES
from tfguide.checkpoints.tensors import Tensor, to_float32
from tfguide.text import read_tokenizer

hf = pytest.importorskip("tests.checkpoints.hf")
torch, transformers = hf.torch, hf.transformers


def read(folder, **options):
    """Read a folder whose pretraining head, if it has one, is known to be left out."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pretraining head")
        return read_checkpoint(folder, **options)


def difference(model, folder, **options):
    """The largest difference between transformers and the float64 reference at real positions."""
    config, weights = read(folder, **options)
    tokens, masks, real = hf.inputs(config.kind, config.vocab_size, config.n_token_types)
    expected = hf.outputs(model, tokens, masks)
    assert np.abs(expected).max() > 0.5, "the outputs are too small to tell anything"
    return np.abs(ref.forward(config, weights, *tokens, **masks) - expected)[real].max()


def test_reference_gives_what_transformers_gives(case):
    _, model, folder = case
    assert difference(model, folder) < 2e-5


def test_the_weights_are_what_the_configuration_asks_for(case):
    _, _, folder = case
    config, weights = read(folder)
    assert {name: array.shape for name, array in weights.items()} == tfguide.weight_shapes(config)
    assert list(weights) == list(tfguide.weight_shapes(config))
    for array in weights.values():
        assert array.dtype == np.float32 and array.flags.c_contiguous and array.flags.writeable and array.flags.owndata


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("case_name", ["bert", "gpt2-untied", "llama-grouped", "t5-1.1"])
def test_other_types_become_float32_exactly(case_name, dtype, tmp_path):
    model = hf.make(case_name)
    folder = hf.save(model, tmp_path / "m", dtype=dtype)
    assert str(dtype).removeprefix("torch.") in (folder / "config.json").read_text()
    # Loaded again, because converting a Llama rounds its rotary frequencies as well.
    assert difference(type(model).from_pretrained(folder, dtype=torch.float32), folder) < 2e-5


def test_bfloat16_bits():
    values = torch.tensor([1.0, -2.5, 3.1415926, 1e-39, float("inf"), float("nan"), -0.0]).bfloat16()
    bits = values.view(torch.uint16).numpy()
    ours = to_float32(Tensor(None, "x", "BF16", bits.shape, 0), bits)
    assert ours.tobytes() == values.float().numpy().tobytes()


@pytest.mark.parametrize("case_name", ["bert", "gpt2", "llama-multi-query-biases", "t5-1.0"])
def test_shards(case_name, tmp_path):
    model = hf.make(case_name)
    folder = hf.save(model, tmp_path / "m", max_shard_size="6KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    assert difference(model, folder) < 2e-5


def test_paths_are_text_or_paths(saved):
    folder = saved("gpt2")
    assert read_checkpoint(folder)[0] == read_checkpoint(str(folder))[0]


def test_nan_is_a_number_like_others(saved):
    folder = saved("llama-multi-query-biases")  # tied: the comparison of copies must not stumble over it
    hf.edit_tensors(folder, lambda t: t["model.embed_tokens.weight"].__setitem__((3, 4), np.nan))
    arrays = load_file(folder / "model.safetensors")
    hf.edit_tensors(folder, lambda t: t.update({"lm_head.weight": arrays["model.embed_tokens.weight"]}))
    _, weights = read_checkpoint(folder)
    assert np.isnan(weights["embedding.token.weight"][3, 4])
    assert np.isnan(weights["embedding.token.weight"]).sum() == 1


def test_memory_is_that_of_the_weights(tmp_path):
    sizes = dict(n_embd=256, n_layer=6, n_head=4, n_positions=64, vocab_size=4001, tie_word_embeddings=False)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    folder = hf.save(model, tmp_path / "m", dtype=torch.bfloat16)
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GPT-2's special tokens are no tokens of so small a vocabulary
        _, weights = read_checkpoint(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    total = sum(array.nbytes for array in weights.values())
    largest = max(array.nbytes for array in weights.values())
    assert peak < total + 2 * largest  # the tensor in hand, in two types


def test_links_to_files_are_followed(saved, tmp_path):
    # The cache of Hugging Face is made of them.
    folder, links = saved("gpt2"), tmp_path / "links"
    links.mkdir()
    for file in folder.iterdir():
        (links / file.name).symlink_to(file)
    assert read_checkpoint(links)[0] == read_checkpoint(folder)[0]


class TestNames:
    """The spellings of one and the same tensor."""

    @pytest.mark.parametrize(
        ("case_name", "prefix"), [("gpt2", "transformer."), ("llama-grouped", "model."), ("bert", "bert.")]
    )
    def test_prefix_is_there_or_not(self, case_name, prefix, saved):
        folder = saved(case_name)
        _, before = read_checkpoint(folder)

        def swap(tensors):
            for name in list(tensors):
                array = tensors.pop(name)
                other = name.removeprefix(prefix) if name.startswith(prefix) else prefix + name
                tensors["lm_head.weight" if name == "lm_head.weight" else other] = array

        hf.edit_tensors(folder, swap)
        _, after = read_checkpoint(folder)
        assert all((before[name] == after[name]).all() for name in before)

    def test_gamma_and_beta(self, saved):
        folder = saved("bert")
        _, before = read_checkpoint(folder)

        def swap(tensors):
            for name in [name for name in tensors if "LayerNorm" in name]:
                other = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
                tensors[other] = tensors.pop(name)

        hf.edit_tensors(folder, swap)
        _, after = read_checkpoint(folder)
        assert all((before[name] == after[name]).all() for name in before)

    @pytest.mark.parametrize(
        ("case_name", "name", "array"),
        [
            ("gpt2", "transformer.h.1.attn.bias", np.ones((1, 1, 19, 19), np.uint8)),
            ("gpt2", "h.0.attn.masked_bias", np.float32(-1e4)),
            ("llama-grouped", "model.layers.0.self_attn.rotary_emb.inv_freq", np.ones(5, np.float32)),
            ("bert", "embeddings.position_ids", np.arange(19)[None]),
            ("t5-1.0", "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", np.ones((8, 3))),
        ],
    )
    def test_buffers_are_skipped(self, case_name, name, array, saved):
        folder = saved(case_name)
        before = read_checkpoint(folder)
        hf.edit_tensors(folder, lambda tensors: tensors.update({name: np.asarray(array)}))
        after = read_checkpoint(folder)
        assert before[0] == after[0] and list(before[1]) == list(after[1])

    @pytest.mark.parametrize(
        ("case_name", "stored", "copy"),
        [
            ("gpt2", "transformer.wte.weight", "lm_head.weight"),
            ("llama-multi-query-biases", "model.embed_tokens.weight", "lm_head.weight"),
            ("t5-1.0", "shared.weight", "encoder.embed_tokens.weight"),
            ("t5-1.0", "shared.weight", "decoder.embed_tokens.weight"),
        ],
    )
    def test_a_tied_tensor_may_be_there_twice_or_under_the_other_name(self, case_name, stored, copy, saved):
        folder = saved(case_name)
        _, before = read_checkpoint(folder)
        hf.edit_tensors(folder, lambda tensors: tensors.update({copy: tensors[stored]}))
        _, twice = read_checkpoint(folder)
        hf.edit_tensors(folder, lambda tensors: tensors.pop(stored))
        _, other = read_checkpoint(folder)
        for name in before:
            assert (before[name] == twice[name]).all() and (before[name] == other[name]).all()


class TestBert:
    @pytest.mark.parametrize("name", ["bert-relu-pretraining", "bert-tanh-mlm"])
    def test_pretraining_head_is_left_out_with_a_warning(self, name, saved):
        with pytest.warns(UserWarning, match=r"cls\.\*.*hidden states"):
            config, _ = read_checkpoint(saved(name))
        assert config.pooler == (name == "bert-relu-pretraining")

    def test_pooler(self, saved):
        model = hf.make("bert")
        config, weights = read_checkpoint(saved("bert"))
        tokens, masks, _ = hf.inputs("encoder", n_types=3)
        encoder = ref.from_weights(config, weights)
        with torch.no_grad():
            expected = model(
                torch.tensor(tokens[0]),
                attention_mask=torch.tensor(masks["valid"]).long(),
                token_type_ids=torch.tensor(masks["token_types"]),
            ).pooler_output.numpy()
        assert np.abs(encoder.pool(encoder(*tokens, **masks)) - expected).max() < 2e-5

    def test_without_a_pooler(self, saved):
        assert read_checkpoint(saved("bert-no-pooler"))[0].pooler is False


class TestRoberta:
    def test_texts_with_its_tokenizer(self, tmp_path):
        """From text to hidden states: the tokeniser of the folder, and padding by its padding token."""
        tokenizers = pytest.importorskip("tokenizers")
        tokens = ["<s>", "<pad>", "</s>", "<unk>", *sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), "<mask>"]
        theirs = transformers.RobertaTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}, merges=[])
        theirs.save_pretrained(tmp_path)
        config = transformers.RobertaConfig(**hf.ROBERTA | dict(vocab_size=len(tokens)))
        model = hf.randomise(transformers.RobertaModel(config).eval())
        hf.save(model, tmp_path)
        texts = ["zwölf Boxer", "two words"]
        batch = theirs(texts, padding=True, return_tensors="pt")
        expected = hf.outputs(model, [batch["input_ids"].numpy()], dict(valid=batch["attention_mask"].numpy() == 1))
        encoder = ref.from_weights(*read_checkpoint(tmp_path))
        tokenizer = read_tokenizer(tmp_path)
        assert encoder.config.position_offset == 2 and encoder.config.max_positions == 19
        for row, text in enumerate(texts):
            ids = tokenizer.encode(text).ids
            assert ids[0] == 0 and ids[-1] == 2 and len(ids) == int(batch["attention_mask"][row].sum())
            assert np.abs(encoder(np.array([ids])) - expected[row, : len(ids)]).max() < 2e-5


class TestGemma3:
    """A model that reads images as well: its text model is read, and the rest is left out."""

    @pytest.fixture(scope="class")
    def whole(self, tmp_path_factory):
        vision = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=8,
                      patch_size=4)  # fmt: skip
        config = transformers.Gemma3Config(
            text_config=transformers.Gemma3TextConfig(**hf.GEMMA3), vision_config=vision, mm_tokens_per_image=4,
            eos_token_id=[1, 7],
        )  # fmt: skip
        model = hf.randomise(transformers.Gemma3ForConditionalGeneration(config).eval())
        return model, hf.save(model, tmp_path_factory.mktemp("gemma3"))

    def test_texts(self, whole):
        model, folder = whole
        with pytest.warns(UserWarning, match="the part that reads images is left out"):
            config, weights = read_checkpoint(folder)
        tokens, masks, real = hf.inputs("decoder")
        with torch.no_grad():
            mask = torch.tensor(masks["valid"]).long()
            expected = model(input_ids=torch.tensor(tokens[0]), attention_mask=mask).logits.numpy()
        assert np.abs(ref.forward(config, weights, *tokens, **masks) - expected)[real].max() < 1e-4
        assert config.n_layers == 3 and config.eos_token_id == (1, 7)

    @pytest.mark.filterwarnings("ignore:.*images")
    @pytest.mark.parametrize("prefix", ["model.language_model.", "language_model.model."])
    def test_names_of_versions_4_and_5(self, prefix, whole, tmp_path):
        _, folder = whole
        _, before = read_checkpoint(folder)
        shutil.copytree(folder, tmp_path / "m")

        def rename(tensors):
            for name in list(tensors):
                if "language_model" in name:
                    tensors[prefix + re.sub(r"^.*language_model\.(model\.)?", "", name)] = tensors.pop(name)

        hf.edit_tensors(tmp_path / "m", rename)
        _, after = read_checkpoint(tmp_path / "m")
        assert all((before[name] == after[name]).all() for name in before)

    def test_no_text_model(self, whole, tmp_path):
        shutil.copytree(whole[1], tmp_path / "m")
        hf.edit_config(tmp_path / "m", text_config=None)
        with pytest.raises(ValueError, match=r"text_config must be an object .*, got None"):
            read_checkpoint(tmp_path / "m")


class TestT5:
    """Which head a T5 has: transformers 4 and 5 say it in different ways."""

    def head(self, folder):
        config, weights = read_checkpoint(folder)
        return config.tied_head, config.logit_scale, "head.weight" in weights

    def test_as_version_5_writes_it(self, saved):
        assert self.head(saved("t5-1.0")) == (True, 22**-0.5, False)
        assert self.head(saved("t5-1.1")) == (False, 1.0, True)
        assert self.head(saved("t5-1.1-tied")) == (True, 1.0, False)
        assert self.head(saved("t5-scaled-untied")) == (False, 22**-0.5, True)

    def test_as_version_4_wrote_it(self, saved):
        folder = saved("t5-1.1")
        hf.edit_config(folder, "scale_decoder_outputs", tie_word_embeddings=False)
        assert self.head(folder) == (False, 1.0, True)
        assert difference(transformers.T5ForConditionalGeneration.from_pretrained(folder), folder) < 2e-5
        folder = saved("t5-1.0")
        hf.edit_config(folder, "scale_decoder_outputs", "tie_word_embeddings")
        assert self.head(folder) == (True, 22**-0.5, False)
        assert difference(transformers.T5ForConditionalGeneration.from_pretrained(folder), folder) < 2e-5


LLAMA3 = {name: value for name, value in hf.LLAMA3.items() if name not in ("rope_type", "rope_theta")}


class TestRope:
    """The spellings of the rotary positions, each compared with what transformers makes of it."""

    @pytest.mark.parametrize(
        "keys",
        [
            dict(rope_theta=100.0, rope_scaling=dict(rope_type="llama3", **LLAMA3)),
            dict(rope_theta=100.0, rope_scaling=dict(type="llama3", **LLAMA3)),
            dict(rope_theta=7.0, rope_scaling=dict(rope_type="llama3", rope_theta=100.0, **LLAMA3)),
            dict(rope_theta=7.0, rope_parameters=dict(rope_type="llama3", rope_theta=100, **LLAMA3)),
            dict(rope_parameters=dict(rope_type="llama3", rope_theta=100.0, partial_rotary_factor=1.0, **LLAMA3)),
        ],
    )
    def test_llama3(self, keys, saved):
        folder = saved("llama-3")
        hf.edit_config(folder, "rope_parameters", **keys)
        model = transformers.LlamaForCausalLM.from_pretrained(folder)
        assert difference(model, folder) < 2e-5
        config, _ = read_checkpoint(folder)
        assert config.rope_theta == 100.0
        assert config.rope_scaling == tfguide.RopeScaling(
            factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_positions=32
        )

    @pytest.mark.parametrize(
        ("keys", "theta"),
        [
            (dict(), 10_000.0),
            (dict(rope_theta=53), 53.0),
            (dict(rope_theta=53.0, rope_scaling=None), 53.0),
            (dict(rope_theta=53.0, rope_parameters={}), 53.0),
            (dict(rope_parameters=dict(rope_theta=53.0)), 53.0),
            (dict(rope_theta=53.0, rope_parameters=dict(rope_type="default")), 53.0),
            (dict(rope_theta=53.0, rope_scaling=dict(type="default")), 53.0),
        ],
    )
    def test_default(self, keys, theta, saved):
        folder = saved("llama-grouped")
        hf.edit_config(folder, "rope_parameters", **keys)
        config, _ = read_checkpoint(folder)
        assert config.rope_theta == theta and config.rope_scaling is None
        assert difference(transformers.LlamaForCausalLM.from_pretrained(folder), folder) < 2e-5

    def test_original_length_is_the_whole_length_where_it_is_absent(self, saved):
        folder = saved("llama-3")
        keys = {name: value for name, value in hf.LLAMA3.items() if name != "original_max_position_embeddings"}
        hf.edit_config(folder, rope_parameters=keys)
        assert read_checkpoint(folder)[0].rope_scaling.original_max_positions == 67
        assert difference(transformers.LlamaForCausalLM.from_pretrained(folder), folder) < 2e-5


class TestDefaults:
    """A key that is absent has the value that transformers gives it."""

    @pytest.mark.parametrize("family", FAMILIES)
    def test_of_an_empty_config(self, family):
        # What transformers writes holds every key, so both must come to the same.
        written = transformers.AutoConfig.for_model(family).to_dict()
        module = FAMILIES[family]
        assert module.config_from_hf(Fields({"model_type": family}), {}) == module.config_from_hf(Fields(written), {})

    @pytest.mark.parametrize(
        ("case_name", "sizes"),
        [
            ("bert", hf.BERT),
            ("gpt2", hf.GPT2),
            ("llama-multi-head", hf.LLAMA | dict(hidden_size=18, num_attention_heads=3, num_key_value_heads=3)),
            ("t5-1.0", hf.T5),
        ],
    )
    def test_of_a_config_with_sizes_only(self, case_name, sizes, saved):
        folder = saved(case_name)
        keys = json.loads((folder / "config.json").read_text())
        kept = set(sizes) - {"head_dim"}
        hf.edit_config(folder, *(key for key in keys if key not in kept | {"model_type"}))
        model = getattr(transformers, hf.CASES[case_name][0]).from_pretrained(folder)
        assert difference(model, folder) < 2e-5

    @pytest.mark.parametrize(
        ("case_name", "names"),
        [
            ("gpt2", dict(n_embd="hidden_size", n_head="num_attention_heads", n_positions="max_position_embeddings")),
            ("t5-1.0", dict(d_model="hidden_size", d_kv="head_dim", num_heads="num_attention_heads")),
        ],
    )
    def test_other_names_of_sizes(self, case_name, names, saved):
        folder = saved(case_name)
        keys = json.loads((folder / "config.json").read_text())
        hf.edit_config(folder, *names, **{other: keys[key] for key, other in names.items()})
        model = getattr(transformers, hf.CASES[case_name][0]).from_pretrained(folder)
        assert difference(model, folder) < 2e-5


class TestTokens:
    def test_special_tokens(self, saved):
        folder = saved("t5-1.0")
        config, _ = read_checkpoint(folder)
        ids = (config.pad_token_id, config.bos_token_id, config.eos_token_id, config.decoder_start_token_id)
        assert ids == (0, None, 1, 3)

    def test_several_end_tokens(self, saved):
        folder = saved("llama-3")
        (folder / "generation_config.json").unlink()
        hf.edit_config(folder, eos_token_id=[7, 11])
        config = read_checkpoint(folder)[0]
        assert config.eos_token_ids == (7, 11)
        assert tfguide.ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config

    @pytest.mark.parametrize("token", [-1, 37])
    def test_a_token_outside_the_vocabulary_is_none_and_warns(self, token, saved):
        folder = saved("llama-3")
        hf.edit_config(folder, pad_token_id=token)
        with pytest.warns(UserWarning, match=f"pad_token_id={token}"):
            assert read_checkpoint(folder)[0].pad_token_id is None


@pytest.mark.parametrize("name", ["mixtral", "qwen3_moe-dense-biases"])
def test_experts_in_one_tensor_are_those_in_tensors_of_their_own(name, saved, tmp_path):
    """transformers 5 computes with all experts of a layer in one tensor, and writes them one by one."""
    folder = saved(name)
    apart = read_checkpoint(folder)
    stacked = {key: value.numpy() for key, value in hf.make(name).state_dict().items()}
    assert any(array.ndim == 3 for array in stacked.values())
    (tmp_path / "m").mkdir()
    shutil.copy(folder / "config.json", tmp_path / "m")
    save_file(stacked, tmp_path / "m" / "model.safetensors")
    config, weights = read_checkpoint(tmp_path / "m")
    assert config == apart[0]
    assert weights.keys() == apart[1].keys()
    assert all((weights[key] == array).all() for key, array in apart[1].items())
    hf.edit_tensors(folder, lambda arrays: arrays.pop(next(key for key in arrays if ".experts.1." in key)))
    with pytest.raises(ValueError, match=r"missing tensor 'layers\..*experts\.1\.w?.*' of shape .*\[1\]"):
        read_checkpoint(folder)
