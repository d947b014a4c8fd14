"""A written folder: transformers loads it, it reads back bit for bit, and a failed write changes nothing."""

import dataclasses
import errno
import json
import os
import re
import signal
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

import tfguide
import tfguide.reference as ref
from tests.support import random_weights
from tfguide import temporary
from tfguide.checkpoints import read_checkpoint, swap, write_checkpoint, writing
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.reading import FAMILIES

hf = pytest.importorskip("tests.checkpoints.hf")
transformers = hf.transformers

GPT2 = tfguide.ModelConfig(
    kind="decoder", d_model=15, n_layers=2, n_heads=3, d_ff=34, vocab_size=37, max_positions=19, positions="learned",
    activation="gelu_tanh", dropout=0.25, eos_token_id=7, decoder_start_token_id=11,
)  # fmt: skip
OTHER = GPT2.replace(n_layers=1, activation="relu")
CONFIGS = {
    name: FAMILIES[name.split("-")[0]].config_from_hf(Fields(hf.config(name).to_dict()), ())
    for name in ("bert-no-pooler", "gpt2", "llama-grouped", "gemma3_text", "t5-1.0")
}
STEMS = tuple(name.split("_")[0] for name in FAMILIES)
PRESETS = [name for name in tfguide.PRESETS if name.replace("-", "").startswith(STEMS)]
WEIGHTS, OTHER_WEIGHTS = random_weights(GPT2), random_weights(OTHER, seed=1)


def equal(folder, config, weights):
    """Whether a folder holds this model, bit for bit."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        received = read_checkpoint(folder)
    same = all(
        received[1][name].tobytes() == np.asarray(array, np.float32).tobytes() for name, array in weights.items()
    )
    return received[0] == config and list(received[1]) == list(weights) and same


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


class TestRoundTrip:
    @pytest.mark.filterwarnings("ignore:.*pretraining head")
    def test_of_what_transformers_wrote(self, case, tmp_path):
        _, _, folder = case
        config, weights = read_checkpoint(folder)
        write_checkpoint(tmp_path / "again", config, weights)
        assert equal(tmp_path / "again", config, weights)

    def test_of_a_family_by_its_name(self, tmp_path):
        config, weights = read_case("phi3-window-tied", tmp_path)
        for name in ("phi3", "mistral"):  # which compute the same
            write_checkpoint(tmp_path / name, config, weights, family=name)
            assert equal(tmp_path / name, config, weights)
            assert json.loads((tmp_path / name / "config.json").read_text())["model_type"] == name
        with pytest.raises(
            ValueError, match=r"the family 'qwen2' cannot express .*\n  qwen2: qkv_bias=False \(it has True"
        ):
            write_checkpoint(tmp_path / "m", config, weights, family="qwen2")
        with pytest.raises(ValueError, match=r"family must be one of 'bert', .* got 'phi-3'"):
            write_checkpoint(tmp_path / "m", config, weights, family="phi-3")

    def test_of_every_field_that_changes_no_result(self, tmp_path):
        write_checkpoint(tmp_path / "m", GPT2, WEIGHTS)
        assert equal(tmp_path / "m", GPT2, WEIGHTS)

    @pytest.mark.parametrize("name", PRESETS)
    def test_of_the_configuration_of_presets(self, name):
        config = tfguide.ModelConfig.from_preset(name)
        named = {"phi": "phi3", "mistral-small": "mistral"}  # a Mistral with fused matrices, and one without a window
        named = next((family for start, family in named.items() if name.startswith(start)), None)
        family = writing.choose_family(config, named)  # which reads back what it would write
        assert name.replace("-", "").startswith(family.MODEL_TYPE.split("_")[0])
        # And transformers takes it for what it is.
        theirs = transformers.AutoConfig.for_model(**writing.hf_config(config, family))
        sizes = theirs.hidden_size, theirs.num_hidden_layers, theirs.num_attention_heads, theirs.vocab_size
        layers = config.n_encoder_layers or config.n_layers
        assert sizes == (config.d_model, layers, config.n_heads, config.vocab_size)

    def test_of_llama_with_dropout(self, tmp_path):
        config, weights = read_case("llama-3", tmp_path)
        config = config.replace(dropout=0.25)
        write_checkpoint(tmp_path / "again", config, weights)
        assert equal(tmp_path / "again", config, weights)
        transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "again")

    @pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
    def test_other_types_are_written_as_float32(self, dtype, tmp_path):
        weights = {name: array.astype(dtype) for name, array in WEIGHTS.items()}
        write_checkpoint(tmp_path / "m", GPT2, weights)
        assert equal(tmp_path / "m", GPT2, weights)

    def test_nan_and_infinity(self, tmp_path):
        weights = dict(WEIGHTS)
        name = "decoder.layers.0.self_attention.key.weight"
        weights[name] = np.full((15, 15), np.nan, np.float32)
        weights[name][0] = np.inf
        write_checkpoint(tmp_path / "m", GPT2, weights)
        assert equal(tmp_path / "m", GPT2, weights)


def read_case(name, tmp_path):
    return read_checkpoint(hf.save(hf.make(name), tmp_path / name))


ANOTHER = dict(
    kind="encoder", n_token_types=2, max_positions=29, norm="rms", norm_placement="parallel", norm_eps=0.3,
    positions="alibi", position_offset=3, rope_theta=7.0, sliding_window=2, relative_buckets=6, relative_max_distance=5,
    dropout=0.5,
    rope_scaling=tfguide.RopeScaling(
        factor=3.0, low_freq_factor=1.0, high_freq_factor=2.0, original_max_positions=5
    ),
    d_rotary=4, attention_scale=0.7, embedding_scale=3.0, logit_scale=3.0, residual_scale=0.3, attention_softcap=3.0,
    logit_softcap=5.0, local_rope_theta=11.0, sliding_layers=(0,),
    activation="geglu", pad_token_id=9, bos_token_id=9, eos_token_id=9, decoder_start_token_id=9,
    latent=tfguide.LatentAttention(kv_rank=4, d_nope=2, d_rope=2, d_value=2),
    experts=tfguide.Experts(n_experts=4, per_token=2, d_expert=34),  # as wide as the network of each family
    d_model=30, d_head=14, d_ff=8, n_heads=15, n_kv_heads=1, n_layers=4, n_encoder_layers=5, vocab_size=41,
    d_input=5, labels=tfguide.LabelHead(n_labels=3),
)  # fmt: skip


# Fields that some kinds of model never read, and that do not come back from those.
UNUSED = ("norm_bias", "tied_head", "logit_scale", "rope_theta", "relative_buckets", "relative_max_distance")


class TestEveryField:
    """Each field of a configuration changed in turn: it is refused, or what is written computes the same."""

    @pytest.mark.parametrize("name", CONFIGS)
    @pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(tfguide.ModelConfig)])
    def test_is_written_or_refused(self, name, field, tmp_path):
        config = CONFIGS[name]
        value = ANOTHER[field] if field in ANOTHER else not getattr(config, field)  # what is left is true or false
        if value == getattr(config, field):
            value = {"norm": "layer", "kind": "decoder"}[field]
        try:
            config = config.replace(**{field: value})
            weights = random_weights(config)
            write_checkpoint(tmp_path, config, weights)
        except (ValueError, NotImplementedError) as error:
            # Another D fits no H, or a scale of T5 or of Gemma no more, which is sqrt(D) or its inverse.
            assert field in str(error) or (field == "d_model" and re.search("divi|(logit|embedding)_scale", str(error)))
            return
        received = read_checkpoint(tmp_path)
        tokens, masks, _ = hf.inputs(config.kind, config.vocab_size, config.n_token_types)
        expected = ref.forward(config, weights, *tokens, **masks)
        assert (ref.forward(*received, *tokens, **masks) == expected).all()
        if field not in UNUSED:
            assert received[0] == config


class TestFiles:
    def test_what_there_is(self, tmp_path):
        write_checkpoint(str(tmp_path / "new" / "m"), GPT2, WEIGHTS)
        folder = tmp_path / "new" / "m"
        assert names(folder) == ["config.json", "generation_config.json", "model.safetensors"]
        keys = json.loads((folder / "config.json").read_text())
        expected = ("GPT2LMHeadModel", "gpt2", "float32")
        assert (*keys["architectures"], keys["model_type"], keys["dtype"]) == expected
        with safe_open(folder / "model.safetensors", framework="numpy") as file:
            assert file.metadata() == {"format": "pt"}
            assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F32"}  # noqa: SIM118

    @pytest.mark.parametrize("name", [name for name in hf.CASES if "trunk" not in name])
    @pytest.mark.filterwarnings("ignore:.*pretraining head")
    def test_the_names_are_those_that_transformers_writes(self, name, saved, tmp_path):
        folder = saved(name)
        write_checkpoint(tmp_path / "again", *read_checkpoint(folder), family=name.split("-")[0])
        expected = shapes(folder)
        if name.split("-")[0] in hf.ENCODERS:  # without the head and what wraps the trunk
            heads = ("cls.", "lm_head.", "vocab_")
            prefix = name.split("-")[0] + "."
            expected = {n.removeprefix(prefix): s for n, s in expected.items() if not n.startswith(heads)}
        assert shapes(tmp_path / "again") == expected

    def test_permissions_are_those_of_other_files(self, tmp_path):
        (tmp_path / "plain").mkdir()
        (tmp_path / "plain" / "file").touch()
        write_checkpoint(tmp_path / "m", GPT2, WEIGHTS)

        def mode(path):
            return stat.S_IMODE(path.stat().st_mode)

        assert mode(tmp_path / "m") == mode(tmp_path / "plain")
        for name in names(tmp_path / "m"):
            assert mode(tmp_path / "m" / name) == mode(tmp_path / "plain" / "file")

    @pytest.mark.parametrize("limit", [1, 6000, 20_000])
    def test_shards(self, limit, tmp_path):
        folder = tmp_path / "m"
        write_checkpoint(folder, GPT2, WEIGHTS, max_shard_bytes=limit)
        shards = sorted(folder.glob("*.safetensors"))
        n_tensors = len(shapes(folder))
        assert len(shards) == n_tensors if limit == 1 else 1 < len(shards) < n_tensors
        assert shards[0].name == f"model-00001-of-{len(shards):05d}.safetensors"
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        assert index["metadata"]["total_size"] == 4 * sum(np.prod(shape) for shape in shapes(folder).values())
        assert sorted(set(index["weight_map"].values())) == [shard.name for shard in shards]
        for shard in shards:
            sizes = [4 * np.prod(shape) for shape in shapes(shard).values()]
            assert sum(sizes) <= limit or len(sizes) == 1
        assert equal(folder, GPT2, WEIGHTS)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        assert (model.transformer.wte.weight.detach().numpy() == WEIGHTS["embedding.token.weight"]).all()

    def test_does_not_change_the_weights(self, tmp_path):
        before = {name: array.copy() for name, array in WEIGHTS.items()}
        write_checkpoint(tmp_path / "m", GPT2, WEIGHTS)
        assert all((WEIGHTS[name] == array).all() for name, array in before.items())


def shapes(path):
    """The shapes of the tensors in a safetensors file, or in all those of a folder."""
    files = path.glob("*.safetensors") if path.is_dir() else [path]
    result = {}
    for file in files:
        with safe_open(file, framework="numpy") as opened:
            result |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    return result


class TestRefused:
    """A configuration that would not come back as it is, and arguments that are wrong."""

    @pytest.mark.parametrize(
        ("preset", "changes", "family", "field"),
        [
            ("mistral-7b", dict(output_bias=True), "llama", "sliding_window=4096 (it has None)"),
            ("palm-8b", {}, "llama", "norm='layer' (it has 'rms')"),
            ("transformer-base", {}, "t5", "positions='sinusoidal' (it has 'relative')"),
            ("gpt2", dict(embedding_scale=2.0), "gpt2", "embedding_scale=2.0 (it has 1.0)"),
            ("gpt2", dict(qkv_bias=False), "gpt2", "qkv_bias=False (it has True)"),
            ("gpt2", dict(attention_scale=0.3), "gpt2", "attention_scale=0.3 (it has 0.125)"),
            ("gpt2", dict(n_kv_heads=4), "gpt2", "n_kv_heads=4 (it has 12)"),
            ("gpt2", dict(d_head=32), "gpt2", "d_head=32 (it has 64)"),
            ("gpt2", dict(n_token_types=2), "gpt2", "n_token_types=2 (it has 0)"),
            ("gpt2", dict(logit_scale=0.5), "gpt2", "logit_scale=0.5 (it has 1.0)"),
            ("gpt2", dict(activation="swiglu"), "gpt2", "activation='swiglu' (it has 'gelu_tanh')"),
            ("bert-base", dict(n_token_types=0), "bert", "n_token_types=0 (it has 2)"),
            ("bert-base", dict(embedding_norm=False), "bert", "embedding_norm=False (it has True)"),
            ("bert-base", dict(norm_placement="pre"), "bert", "norm_placement='pre' (it has 'post')"),
            ("llama-2-7b", dict(qkv_bias=True, ffn_bias=True), "llama", "output_bias=False (it has True)"),
            ("llama-2-7b", dict(ffn_bias=True, sliding_window=3), "mistral", "ffn_bias=True (it has False)"),
            ("llama-2-7b", dict(qkv_bias=True, ffn_bias=True), "qwen2", "ffn_bias=True (it has False)"),
            ("distilbert-base", dict(norm_eps=1e-6), "distilbert", "norm_eps=1e-06 (it has 1e-12)"),
            ("distilbert-base", dict(pooler=True), "distilbert", "pooler=True (it has False)"),
            ("roberta-base", dict(pad_token_id=None), "roberta", "pad_token_id must not be null"),
            ("roberta-base", dict(pad_token_id=2), "roberta", "position_offset=2 (it has 3)"),
            ("llama-2-7b", dict(max_positions=None), "llama", "max_positions=None (it has 2048)"),
            ("llama-2-7b", dict(n_heads=24, n_kv_heads=24, d_head=128, ffn_bias=True), "llama", "n_heads=24 to divide"),
            ("llama-2-7b", dict(activation="relu"), "llama", "activation='relu' (it has 'swiglu')"),
            ("t5-small", dict(max_positions=512), "t5", "max_positions=512 (it has None)"),
            ("t5-small", dict(attention_scale=0.125), "t5", "attention_scale=0.125 (it has 1.0)"),
            ("t5-small", dict(logit_scale=0.5), "t5", "logit_scale=0.5"),
        ],
    )
    def test_says_what_keeps_each_family(self, preset, changes, family, field):
        config = tfguide.ModelConfig.from_preset(preset, **changes)
        with pytest.raises(ValueError, match="no family of checkpoints can express") as error:
            writing.choose_family(config)
        lines = str(error.value).split("\n  ")
        assert [line.split(":")[0] for line in lines[1:]] == list(FAMILIES)
        assert field in next(line for line in lines if line.startswith(family + ":"))

    @pytest.mark.parametrize(
        ("preset", "changes", "family"),
        [
            ("mistral-7b", {}, "mistral"),
            ("llama-2-7b", dict(n_heads=24, n_kv_heads=24, d_head=128), "mistral"),  # which Llama's class refuses
            ("llama-2-7b", dict(qkv_bias=True), "qwen2"),
            ("bert-base", dict(n_token_types=0, pooler=False), "distilbert"),
            ("bert-base", dict(position_offset=1), "roberta"),
        ],
    )
    def test_what_one_family_refuses_another_may_express(self, preset, changes, family):
        config = tfguide.ModelConfig.from_preset(preset, **changes)
        chosen = writing.choose_family(config)
        assert chosen is FAMILIES[family]

    def test_nothing_is_written(self, tmp_path):
        config = GPT2.replace(sliding_window=5)
        with pytest.raises(ValueError, match="sliding_window=5"):
            write_checkpoint(tmp_path / "m", config, WEIGHTS)
        assert names(tmp_path) == []

    @pytest.mark.parametrize("change", ["missing", "extra", "shape", "integers"])
    def test_weights_that_do_not_fit(self, change, tmp_path):
        weights, name = dict(WEIGHTS), "decoder.layers.1.feed_forward.up.weight"
        if change == "missing":
            del weights[name]
        elif change == "extra":
            weights["head.weight"] = np.ones((15, 37), np.float32)
        else:
            weights[name] = weights[name].T if change == "shape" else weights[name].astype(int)
        with pytest.raises((ValueError, TypeError), match=r"head\.weight" if change == "extra" else name):
            write_checkpoint(tmp_path / "m", GPT2, weights)
        assert names(tmp_path) == []

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (dict(config=WEIGHTS), "config must be a ModelConfig"),
            (dict(weights=3), "weights must be a dictionary"),
            (dict(folder=None), "folder must be a str or a path"),
            (dict(overwrite=1), "overwrite must be a bool"),
            (dict(max_shard_bytes=1e9), "max_shard_bytes must be an integer"),
            (dict(max_shard_bytes=True), "max_shard_bytes must be an integer"),
        ],
    )
    def test_wrong_types(self, changes, message, tmp_path):
        with pytest.raises(TypeError, match=message):
            write_checkpoint(**{**dict(folder=tmp_path / "m", config=GPT2, weights=WEIGHTS), **changes})

    def test_wrong_size_of_shards(self, tmp_path):
        with pytest.raises(ValueError, match="max_shard_bytes must be at least 1, got 0"):
            write_checkpoint(tmp_path / "m", GPT2, WEIGHTS, max_shard_bytes=0)


class TestOverwriting:
    @pytest.fixture
    def folder(self, tmp_path):
        """A folder with a model in two shards and, beside it, what its owner put there."""
        folder = tmp_path / "outer" / "m"
        write_checkpoint(folder, OTHER, OTHER_WEIGHTS, max_shard_bytes=8000)
        (folder / "tokenizer.json").write_text("words")
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text("{}")
        (folder / "link").symlink_to("tokenizer.json")
        assert len(list(folder.glob("*.safetensors"))) == 2
        return folder

    def test_an_empty_folder_is_free(self, tmp_path):
        (tmp_path / "m").mkdir()
        write_checkpoint(tmp_path / "m", GPT2, WEIGHTS)
        assert equal(tmp_path / "m", GPT2, WEIGHTS) and names(tmp_path) == ["m"]

    def test_refused_unless_told(self, folder):
        with pytest.raises(FileExistsError, match="overwrite=True"):
            write_checkpoint(folder, GPT2, WEIGHTS)
        assert equal(folder, OTHER, OTHER_WEIGHTS) and names(folder.parent) == ["m"]

    def test_the_old_model_goes_and_other_files_stay(self, folder):
        write_checkpoint(folder, GPT2, WEIGHTS, overwrite=True)
        assert equal(folder, GPT2, WEIGHTS)
        assert names(folder) == [
            "1_Pooling", "config.json", "generation_config.json", "link", "model.safetensors", "tokenizer.json",
        ]  # fmt: skip
        assert (folder / "tokenizer.json").read_text() == "words" and (folder / "link").is_symlink()
        assert (folder / "1_Pooling" / "config.json").read_text() == "{}"
        assert names(folder.parent) == ["m"]

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize("file", ["notes.txt", "config.json", "model.safetensors"])
    def test_a_folder_that_is_no_checkpoint_is_never_overwritten(self, overwrite, file, tmp_path):
        folder = tmp_path / "home"
        folder.mkdir()
        (folder / file).write_text('{"model_type": 3}')
        with pytest.raises(FileExistsError, match="never overwritten"):
            write_checkpoint(folder, GPT2, WEIGHTS, overwrite=overwrite)
        assert names(folder) == [file] and names(tmp_path) == ["home"]

    def test_an_adapter_would_stay_beside_another_model(self, folder):
        (folder / "adapter_config.json").write_text("{}")
        with pytest.raises(FileExistsError, match="never overwritten"):
            write_checkpoint(folder, GPT2, WEIGHTS, overwrite=True)

    def test_a_file(self, tmp_path):
        (tmp_path / "m").write_text("x")
        with pytest.raises(NotADirectoryError):
            write_checkpoint(tmp_path / "m", GPT2, WEIGHTS, overwrite=True)
        assert (tmp_path / "m").read_text() == "x"

    def test_a_link_to_a_folder_stays_a_link(self, folder, tmp_path):
        (tmp_path / "link").symlink_to(folder)
        write_checkpoint(tmp_path / "link", GPT2, WEIGHTS, overwrite=True)
        assert (tmp_path / "link").is_symlink() and equal(folder, GPT2, WEIGHTS)
        assert names(folder.parent) == ["m"] and names(tmp_path) == ["link", "outer"]

    def test_someone_else_was_faster(self, tmp_path, monkeypatch):
        def slow(*args, **options):
            write_checkpoint_now(tmp_path / "m", OTHER, OTHER_WEIGHTS)
            return now(*args, **options)

        now, write_checkpoint_now = writing._write_weights, writing.write_checkpoint
        monkeypatch.setattr(writing, "_write_weights", once(slow, now, monkeypatch))
        with pytest.raises(FileExistsError):
            write_checkpoint(tmp_path / "m", GPT2, WEIGHTS)
        assert equal(tmp_path / "m", OTHER, OTHER_WEIGHTS) and names(tmp_path) == ["m"]


def once(first, then, monkeypatch):
    """A function that is `first` on its first call and `then` afterwards."""

    def call(*args, **options):
        monkeypatch.setattr(writing, "_write_weights", then)
        return first(*args, **options)

    return call


class Crash(BaseException):
    """What no handler of ordinary errors catches, as KeyboardInterrupt."""


# Every step at which writing may stop, and how often the step has worked before.
STEPS = [
    ("tfguide.checkpoints.writing.save_file", 0),
    ("tfguide.checkpoints.writing.save_file", 1),
    ("tfguide.checkpoints.writing.hf_array", 3),
    ("tfguide.checkpoints.writing._write_json", 0),
    ("tfguide.checkpoints.writing._write_json", 1),
    ("os.fsync", 0),
    ("os.fsync", 2),
    ("shutil.copy2", 0),
    ("shutil.copytree", 0),
    ("os.rename", 0),
]


class TestFailures:
    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "disk full"), Crash()], ids=["disk full", "crash"])
    @pytest.mark.parametrize(("step", "after"), [*STEPS, ("os.rename", 1)])
    def test_while_overwriting_leaves_the_old_model(self, step, after, error, tmp_path, monkeypatch):
        folder = tmp_path / "m"
        write_checkpoint(folder, OTHER, OTHER_WEIGHTS)
        (folder / "tokenizer.json").write_text("words")
        (folder / "more").mkdir()
        before = names(folder)
        fail(monkeypatch, step, after, error)
        with pytest.raises(type(error)):
            write_checkpoint(folder, GPT2, WEIGHTS, overwrite=True, max_shard_bytes=8000)
        monkeypatch.undo()
        assert equal(folder, OTHER, OTHER_WEIGHTS)
        assert names(folder) == before and names(tmp_path) == ["m"]

    @pytest.mark.parametrize(("step", "after"), [s for s in STEPS if not s[0].startswith("shutil")])
    def test_while_writing_anew_leaves_nothing(self, step, after, tmp_path, monkeypatch):
        fail(monkeypatch, step, after, OSError(errno.ENOSPC, "disk full"))
        with pytest.raises(OSError, match="disk full"):
            write_checkpoint(tmp_path / "m", GPT2, WEIGHTS, max_shard_bytes=8000)
        monkeypatch.undo()
        assert names(tmp_path) == []

    def test_power_fails_between_the_two_renames(self, tmp_path, monkeypatch):
        """Nothing runs any more: the folder is not there, and both models are, whole."""
        folder = tmp_path / "m"
        write_checkpoint(folder, OTHER, OTHER_WEIGHTS)
        rename = os.rename
        calls = []

        def stop(source, target):
            calls.append(source)
            if len(calls) > 1:
                raise Crash
            rename(source, target)

        monkeypatch.setattr(os, "rename", stop)
        monkeypatch.setattr(swap.shutil, "rmtree", lambda *args, **options: None)
        with pytest.raises(Crash):
            write_checkpoint(folder, GPT2, WEIGHTS, overwrite=True)
        monkeypatch.undo()
        found = {name.split("-")[0]: tmp_path / name for name in names(tmp_path)}
        assert sorted(found) == [".m.new", ".m.old"]
        assert equal(found[".m.old"], OTHER, OTHER_WEIGHTS) and equal(found[".m.new"], GPT2, WEIGHTS)

    def test_everything_is_on_the_disk_before_the_first_rename(self, tmp_path, monkeypatch):
        events = []
        fsync, rename = os.fsync, os.rename

        def record_fsync(descriptor):
            events.append(os.fstat(descriptor).st_ino)
            fsync(descriptor)

        def record_rename(source, target):
            events.append("rename")
            rename(source, target)

        monkeypatch.setattr(os, "fsync", record_fsync)
        monkeypatch.setattr(os, "rename", record_rename)
        write_checkpoint(tmp_path / "m", GPT2, WEIGHTS, max_shard_bytes=8000)
        monkeypatch.undo()
        before, after = events[: events.index("rename")], events[events.index("rename") + 1 :]
        files = {(tmp_path / "m" / name).stat().st_ino for name in names(tmp_path / "m")}
        assert len(files) > 3 and files <= set(before[:-1])
        assert before[-1] == (tmp_path / "m").stat().st_ino and after == [tmp_path.stat().st_ino]


KILLED = """
import importlib, json, os, signal, sys
import numpy as np
import tfguide
from tfguide.checkpoints import write_checkpoint

folder, (step, after), arrays, config, overwrite = json.loads(sys.argv[1])
module, name = step.rsplit(".", 1)
module = importlib.import_module(module)
works, calls = getattr(module, name), []

def call(*args, **options):
    calls.append(name)
    if len(calls) == after + 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return works(*args, **options)

setattr(module, name, call)
weights = dict(np.load(arrays))
write_checkpoint(folder, tfguide.ModelConfig.from_dict(config), weights, overwrite, max_shard_bytes=8000)
"""


@pytest.fixture(scope="module")
def arrays(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "weights.npz"
    np.savez(file, **WEIGHTS)
    return file


@pytest.mark.skipif(temporary.fcntl is None, reason="without locks nothing is removed")
class TestKills:
    """The process is gone at once: no handler runs. The next write removes what it left."""

    def killed(self, folder, step, arrays, overwrite=True):
        argument = json.dumps([str(folder), step, str(arrays), GPT2.to_dict(), overwrite])
        environment = {**os.environ, "PYTHONPATH": str(Path(tfguide.__file__).parents[1])}
        done = subprocess.run([sys.executable, "-c", KILLED, argument], env=environment)
        assert done.returncode == -signal.SIGKILL

    @pytest.mark.parametrize(("step", "after"), [*STEPS, ("os.rename", 1), ("shutil.rmtree", 0), ("shutil.rmtree", 1)])
    def test_while_overwriting(self, step, after, arrays, tmp_path):
        folder = tmp_path / "m"
        write_checkpoint(folder, OTHER, OTHER_WEIGHTS)
        (folder / "tokenizer.json").write_text("words")
        (folder / "more").mkdir()
        self.killed(folder, (step, after), arrays)
        left = names(tmp_path)
        if (step, after) == ("os.rename", 1):  # between the two renames: all that there is lies beside
            old, new = (tmp_path / name for name in sorted(left, reverse=True))
            assert equal(old, OTHER, OTHER_WEIGHTS) and equal(new, GPT2, WEIGHTS)
        elif step == "shutil.rmtree":
            assert equal(folder, GPT2, WEIGHTS)
        else:
            assert equal(folder, OTHER, OTHER_WEIGHTS) and len(left) == 2
        write_checkpoint(folder, GPT2, WEIGHTS, overwrite=True)
        assert equal(folder, GPT2, WEIGHTS) and names(tmp_path) == ["m"]

    def test_many_times_while_writing_anew(self, arrays, tmp_path):
        for step in STEPS:
            if not step[0].startswith("shutil"):
                self.killed(tmp_path / "m", step, arrays, overwrite=False)
                assert len(names(tmp_path)) == 1  # the last one's
        write_checkpoint(tmp_path / "m", GPT2, WEIGHTS)
        assert equal(tmp_path / "m", GPT2, WEIGHTS) and names(tmp_path) == ["m"]

    def test_a_failure_after_a_kill_between_the_renames_leaves_both(self, arrays, tmp_path, monkeypatch):
        folder = tmp_path / "m"
        write_checkpoint(folder, OTHER, OTHER_WEIGHTS)
        self.killed(folder, ("os.rename", 1), arrays)
        left = names(tmp_path)
        fail(monkeypatch, "os.fsync", 0, OSError(errno.ENOSPC, "disk full"))
        with pytest.raises(OSError, match="disk full"):
            write_checkpoint(folder, GPT2, WEIGHTS)
        assert names(tmp_path) == left


def fail(monkeypatch, step, after, error):
    """Let a function work `after` times and then raise."""
    module, name = step.rsplit(".", 1)
    module = {"os": os, "shutil": swap.shutil}.get(module, writing)
    works, calls = getattr(module, name), []

    def call(*args, **options):
        calls.append(name)
        if len(calls) == after + 1:
            raise error
        return works(*args, **options)

    monkeypatch.setattr(module, name, call)
