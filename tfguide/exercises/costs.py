"""Exercises of section 6.1: parameters, the cache, and the two limits of a step."""

from __future__ import annotations

from tfguide import cost
from tfguide.config import ModelConfig
from tfguide.exercises.entry import Exercise, Mistake

PAGE = "06a"
_TYPES = {1: "int8", 2: "bfloat16", 4: "float32"}


def count_parameters(d_model, d_ff, n_layers, n_heads, n_kv_heads, vocab_size):
    """The parameters of a small Llama: no biases, a gated network, and the embedding as the head."""
    config = ModelConfig(
        kind="decoder", d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_kv_heads, d_ff=d_ff,
        vocab_size=vocab_size, norm="rms", positions="rotary", activation="swiglu", qkv_bias=False, output_bias=False,
        ffn_bias=False, tied_head=True,
    )  # fmt: skip
    return cost.parameters(config)


def kv_bytes(n_layers, n_kv_heads, d_head, bytes_per_number, context, batch):
    """The bytes of a cache: a key and a value of each key/value head and layer, for each token of each sequence."""
    config = ModelConfig(
        kind="decoder", d_model=n_kv_heads * d_head, n_layers=n_layers, n_heads=n_kv_heads, d_ff=2, vocab_size=2
    )
    return int(cost.kv_bytes(config, batch, context, _TYPES[bytes_per_number]))


def roofline(operations, n_bytes, peak_flops, bandwidth):
    """The seconds of a step, and the operations a second that it reaches."""
    seconds = max(operations / peak_flops, cost.bandwidth_seconds(n_bytes, 1, bandwidth))
    return seconds, operations / seconds


def intensity(parameters, bytes_per_parameter, cache_bytes, batch):
    """The operations for each byte that a decode step reads, and what that tends to for very large batches."""
    operations = 2 * parameters * batch
    read = parameters * bytes_per_parameter + batch * cache_bytes
    return operations / read, 2 * parameters / cache_bytes


def _counted(d, f, layers, heads, kv_heads, vocabulary, matrices=3, norms=1, heads_kept=None, head=0):
    narrow = d // heads * (kv_heads if heads_kept is None else heads_kept)
    layer = 2 * d * d + 2 * d * narrow + matrices * d * f + norms * 2 * d
    return layers * layer + norms * d + (1 + head) * vocabulary * d


EXERCISES = (
    Exercise(
        id="count-parameters",
        page=PAGE,
        grade=1,
        title="Count the parameters",
        signature="count_parameters(d_model, d_ff, n_layers, n_heads, n_kv_heads, vocab_size)",
        statement="Return the number of parameters of a decoder like Llama, exact. Each layer has query and output "
        "matrices of D x D, key and value matrices of D x (K d) with d = D / H, a gated network of three matrices, "
        "and two norms with D weights each. One norm stands behind the last layer. There are no biases, and the head "
        "is the embedding's transpose.",
        hints=(
            "Write one line for each of: attention, network, norms, embedding.",
            "The head has no parameters of its own. The last norm is there once, not once a layer.",
            "L * (2 D D + 2 D K d + 3 D F + 2 D) + D + V D.",
        ),
        inputs=lambda rng: [(6, 11, 2, 3, 1, 13), (576, 1536, 30, 9, 3, 49152), (10, 7, 3, 5, 5, 17)],
        oracle=count_parameters,
        mistakes=(
            Mistake(
                "The network has two matrices here: a gated one has three.", lambda *sizes: _counted(*sizes, matrices=2)
            ),
            Mistake(
                "Keys and values have as many heads as queries here: they have K.",
                lambda *sizes: _counted(*sizes, heads_kept=sizes[3]),
            ),
            Mistake("The head is counted: it is the embedding, used twice.", lambda *sizes: _counted(*sizes, head=1)),
            Mistake("The norms are missing.", lambda *sizes: _counted(*sizes, norms=0)),
        ),
        solution="tfguide.cost:parameters",
        solve=count_parameters,
        tensors=False,
    ),
    Exercise(
        id="kv-bytes",
        page=PAGE,
        grade=1,
        title="The bytes of a cache",
        signature="kv_bytes(n_layers, n_kv_heads, d_head, bytes_per_number, context, batch)",
        statement="Return the bytes of the key/value cache of `batch` sequences of `context` tokens each, as an "
        "integer.",
        hints=(
            "What is kept of one token in one layer?",
            "A key and a value of d numbers, for each key/value head.",
            "2 * L * K * d * bytes_per_number * context * batch.",
        ),
        inputs=lambda rng: [(3, 2, 5, 2, 7, 11), (32, 8, 128, 2, 8192, 1), (5, 1, 3, 4, 1, 1)],
        oracle=kv_bytes,
        mistakes=(
            Mistake("Only keys are counted: a value is kept beside each key.", lambda *sizes: kv_bytes(*sizes) // 2),
            Mistake(
                "This is the cache of one sequence: every sequence has its own.",
                lambda n_layers, k, d, b, context, batch: kv_bytes(n_layers, k, d, b, context, 1),
            ),
            Mistake(
                "This is the cache of one layer: every layer has its own.",
                lambda n_layers, k, d, b, context, batch: kv_bytes(1, k, d, b, context, batch),
            ),
            Mistake("These are bits.", lambda *sizes: 8 * kv_bytes(*sizes)),
        ),
        solution="tfguide.cost:kv_bytes",
        solve=kv_bytes,
        tensors=False,
    ),
    Exercise(
        id="roofline",
        page=PAGE,
        grade=2,
        title="Under the roof",
        signature="roofline(operations, n_bytes, peak_flops, bandwidth)",
        statement="A step does so many operations on so many bytes. Return two numbers: the least time in seconds, "
        "when computing and reading overlap, and the operations a second that are reached in that time.",
        hints=(
            "Two times, and the longer one decides.",
            "Where reading takes longer, the chip does not reach its peak.",
            "seconds = max(operations / peak_flops, n_bytes / bandwidth), then operations / seconds.",
        ),
        inputs=lambda rng: [
            (1.5e10, 1.6e10, 989e12, 3.35e12),
            (7e12, 1.6e10, 989e12, 3.35e12),
            (2.7e8, 1.1e8, 1.3e12, 53e9),
        ],
        oracle=roofline,
        mistakes=(
            Mistake(
                "The shorter of the two times decides here: it is the longer one.",
                lambda n, b, peak, bw: (min(n / peak, b / bw), n / min(n / peak, b / bw)),
            ),
            Mistake(
                "The times are added: computing and reading overlap.",
                lambda n, b, peak, bw: (n / peak + b / bw, n / (n / peak + b / bw)),
            ),
            Mistake(
                "The second number is the peak: a step that is limited by reading does not reach it.",
                lambda n, b, peak, bw: (roofline(n, b, peak, bw)[0], peak),
            ),
            Mistake(
                "The second number is the intensity, operations for each byte: operations a second are asked for.",
                lambda n, b, peak, bw: (roofline(n, b, peak, bw)[0], n / b),
            ),
        ),
        tensors=False,
    ),
    Exercise(
        id="intensity-ceiling",
        page=PAGE,
        grade=3,
        title="A ceiling that no batch passes",
        signature="intensity(parameters, bytes_per_parameter, cache_bytes, batch)",
        statement="A decode step does two operations for each parameter and sequence. It reads all weights once, and "
        "the cache of each sequence, `cache_bytes` each. Leave out attention's own operations. Return two numbers: the "
        "operations for each byte that is read, and what they tend to as the batch grows without end.",
        hints=(
            "Which of the bytes are shared by the batch, and which are not?",
            "2 N B operations over b N + B c bytes.",
            "Divide numerator and denominator by B: the weights' part goes to 0, and 2 N / c is left.",
        ),
        inputs=lambda rng: [
            (8_030_261_249, 2, 131072 * 1021, 1),
            (8_030_261_249, 2, 131072 * 1021, 257),
            (134_515_009, 1, 23040 * 101, 7),
        ],
        oracle=intensity,
        mistakes=(
            Mistake(
                "The cache is read once for the whole batch here: no sequence shares it with another.",
                lambda n, b, cache, batch: (2 * n * batch / (n * b + cache), 2 * n / cache),
            ),
            Mistake(
                "The cache is left out: without it there would be no ceiling.",
                lambda n, b, cache, batch: (2 * batch / b, 2 * n / cache),
            ),
            Mistake(
                "The weights are read for each sequence here: the batch shares one reading.",
                lambda n, b, cache, batch: (2 * n / (n * b + cache), 2 * n / cache),
            ),
            Mistake(
                "The second number is the intensity of one sequence alone: as the batch grows, the weights' bytes "
                "vanish.",
                lambda n, b, cache, batch: (intensity(n, b, cache, batch)[0], intensity(n, b, cache, 1)[0]),
            ),
        ),
        solution="tfguide.cost:intensity_ceiling",
        solve=intensity,
        tensors=False,
    ),
)
