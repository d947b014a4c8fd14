"""From a folder to text in TensorFlow: the listings of the page "Use it"."""

import tfguide.tensorflow as tg
from tfguide import Sampling
from tfguide.compress import Quantization
from tfguide.tasks import smollm
from tfguide.text import Conversation, pieces, read_tokenizer


def load_and_generate(folder, text):
    tokenizer = read_tokenizer(folder)
    model = tg.load_checkpoint(folder)  # float32, or dtype="bfloat16"
    prompt = tokenizer.encode(text).ids
    [new] = tg.generate(model, [prompt], max_new_tokens=24)
    return text + tokenizer.decode(new)


def quantise_accelerate_and_stream(folder, text):
    tokenizer = read_tokenizer(folder)
    # Eight bits while reading: the floats are never in memory all at once.
    how = Quantization(weight_bits=8, activation_bits=8)
    model = tg.load_checkpoint(folder, quantization=how)
    fast = tg.accelerate(model)  # kernels in C++, compiled on the first use
    sampling = Sampling(temperature=0.8, top_p=0.9, seed=1)
    prompt = tokenizer.encode(text).ids
    tokens = tg.stream(fast, prompt, max_new_tokens=24, sampling=sampling)
    yield from pieces(tokenizer, prompt, tokens)  # whole characters


def quantise_and_save(folder, target):
    model = tg.load_checkpoint(folder)
    small = tg.quantize(model, weight_bits=4, activation_bits=8)
    tg.save_checkpoint(small, target)
    return tg.load_checkpoint(target).quantization


def converse(*questions):
    model = tg.accelerate(tg.load_checkpoint(smollm.file()))
    talk = Conversation(model, smollm.tokenizer(), smollm.template())
    for question in questions:
        yield "".join(talk.ask(question))  # or print each piece as it comes
        yield talk.last.summary()
