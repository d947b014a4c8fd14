"""From a folder to text in PyTorch: the listings of the page "Use it"."""

from tokenizers import Tokenizer

import tfguide.torch as tg
from tfguide import Sampling
from tfguide.cli import pieces
from tfguide.compress import Quantization


def load_and_generate(folder, text):
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    model = tg.load_checkpoint(folder)  # in float32; dtype="bfloat16" takes half the memory
    prompt = tokenizer.encode(text).ids
    [new] = tg.generate(model, [prompt], max_new_tokens=24)
    print(text + tokenizer.decode(new))


def quantise_accelerate_and_stream(folder, text):
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    eight_bits = Quantization(weight_bits=8, activation_bits=8)
    model = tg.load_checkpoint(folder, quantization=eight_bits)  # never wholly in memory as floats
    fast = tg.accelerate(model)  # kernels in C++, compiled on the first use
    prompt = tokenizer.encode(text).ids
    tokens = tg.stream(fast, prompt, max_new_tokens=24, sampling=Sampling(temperature=0.8, top_p=0.9, seed=1))
    for piece in pieces(tokenizer, prompt, tokens):  # whole characters, as they come
        print(piece, end="|", flush=True)
    print()


def quantise_and_save(folder, target):
    model = tg.quantize(tg.load_checkpoint(folder), weight_bits=4, activation_bits=8, group_size=16)
    tg.save_checkpoint(model, target)  # this package reads it back; transformers does not know the packing
    print(tg.load_checkpoint(target).quantization)
