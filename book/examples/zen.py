"""A small checkpoint made on the spot: two layers that have learnt the beginning of "The Zen of Python" by heart."""

import codecs
import contextlib
import io
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

import tfguide
import tfguide.torch as tg


def zen() -> str:
    """The first seven sentences of what `import this` prints, without printing it."""
    with contextlib.redirect_stdout(io.StringIO()):
        import this
    lines = codecs.decode(this.s, "rot13").splitlines()
    return "\n".join(lines[2:9])


def train_tokenizer(text: str) -> Tokenizer:
    """Byte-pair encoding with a vocabulary of 400, trained on the text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer


def write(folder: Path, steps: int = 100) -> None:
    """Train the model on the text, and write the folder as Hugging Face would."""
    tokenizer = train_tokenizer(zen())
    config = tfguide.ModelConfig(
        kind="decoder", d_model=64, n_layers=2, n_heads=4, n_kv_heads=2, d_ff=192,
        vocab_size=tokenizer.get_vocab_size(), max_positions=512, norm="rms", positions="rotary",
        activation="swiglu", qkv_bias=False, output_bias=False,
        ffn_bias=False, tied_head=False,
    )  # fmt: skip
    model = tg.from_weights(config, tfguide.init_weights(config, seed=0))
    tokens = torch.tensor([tokenizer.encode(zen()).ids])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with torch.enable_grad():
        for _ in range(steps):
            loss = F.cross_entropy(model(tokens[:, :-1])[0], tokens[0, 1:])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    tg.save_checkpoint(model, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
