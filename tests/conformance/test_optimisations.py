"""The second table of the book: each optimisation is the plain computation, in numbers.

`TFGUIDE_WRITE_CONFORMANCE=1 pytest tests/conformance/test_optimisations.py` writes what is measured here; every run
holds it to the limits that the table names. The tests that prove a row in depth stand in its file.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance import measures
from tests.support import FRAMEWORKS, TABLES
from tfguide import native

TABLE = TABLES / "optimisations.json"
BOTH, ALL, ONCE = FRAMEWORKS, ("reference", *FRAMEWORKS), ("reference",)
EXACT = 1e-12  # in float64


@dataclasses.dataclass(frozen=True)
class Row:
    """One optimisation: its invariant in words, what is measured, in which implementations, and the limit in float32.

    unit: "" for a difference, "bound" for a share of a derived bound, "tokens" or "bits" where all must be the same.
    """

    group: str
    name: str
    invariant: str
    proof: str
    measure: Callable
    where: tuple = BOTH
    limit: float = 1e-5
    unit: str = ""

    def limit_of(self, implementation):
        return EXACT if implementation == "reference" else self.limit


ROWS = (
    Row("Caches", "key/value cache", "every split of a text = one call without a cache", "test_generate.py",
        measures.every_split),
    Row("Caches", "a batch of unequal lengths", "each row = the row alone", "test_generate.py",
        measures.unequal_lengths),
    Row("Caches", "prompts in chunks", "chunks of any size = the prompt at once", "test_decoding.py", measures.chunks),
    Row("Caches", "a ring of the window's size", "= all positions under the mask", "test_caches.py",
        measures.own_window),
    Row("Caches", "rings for layers with a window", "= a cache of all positions", "test_rings.py", measures.rings),
    Row("Caches", "rewound and reordered", "= a cache that never held more", "test_caches.py",
        measures.rewound_and_reordered),
    Row("Caches", "cache of 8 bits", "each number is within half a step", "test_caches.py", measures.cache_of_8_bits,
        limit=1.0, unit="bound"),
    Row("Caches", "cache of 4 bits", "each number is within half a step", "test_int4_cache.py",
        measures.cache_of_4_bits, limit=1.0, unit="bound"),
    Row("Attention", "grouped heads", "= key/value heads repeated until K = H", "test_attention.py",
        measures.grouped_heads, ALL),
    Row("Attention", "softmax in tiles", "= the softmax of whole rows", "test_tiled.py", measures.tiles, ALL),
    Row("Attention", "the framework's fused kernel", "= the formula", "test_attention.py", measures.fused),
    Row("Attention", "latent attention, absorbed", "= with keys and values made", "test_latent.py", measures.absorbed,
        ALL),
    Row("Attention", "latent attention, cached", "steps that absorb = a text at once", "test_latent.py",
        measures.latent_cache),
    Row("Attention", "scaled rotary positions", "inside the trained length and beyond = the formula",
        "test_rope_scalings.py", measures.scalings),
    Row("Experts", "the chosen experts only", "= the weighted sum over all", "test_experts.py", measures.dense_sum,
        ALL),
    Row("Experts", "experts not chosen", "are not read: NaN in them changes nothing", "test_experts.py",
        measures.unread_experts, limit=0.0, unit="bits"),
    Row("Experts", "experts of a batch", "= its rows alone", "test_experts.py", measures.rows_alone, ALL),
    Row("Smaller weights", "weights of 8 bits", "outputs are within the derived bound", "test_quantize.py",
        measures.weights_of_8_bits, limit=1.0, unit="bound"),
    Row("Smaller weights", "weights of 4 bits", "outputs are within the derived bound", "test_quantize.py",
        measures.weights_of_4_bits, limit=1.0, unit="bound"),
    Row("Smaller weights", "a quantised model", "= the weights that its integers stand for", "test_quantize.py",
        measures.dequantised),
    Row("Smaller weights", "pruned heads, neurons, layers", "= the dense model with zeros there", "test_prune.py",
        measures.pruned),
    Row("Generation", "with a cache", "= the whole text again at every step", "test_generate.py", measures.generated,
        limit=0.0, unit="tokens"),
    Row("Generation", "drawn with a seed", "= the tokens of the other framework", "test_decoding.py", measures.drawn,
        limit=0.0, unit="tokens"),
    Row("Generation", "speculative, greedy", "= the model's own tokens, whatever the draft", "test_decoding.py",
        measures.speculated, limit=0.0, unit="tokens"),
    Row("Generation", "speculative, drawn", "= the model's own distribution, by enumeration",
        "generation/test_speculative.py", measures.speculated_distribution, ONCE),
    Row("Generation", "beam search", "enough beams = the best of all texts", "test_decoding.py", measures.beams),
    Row("Generation", "one beam", "= greedy", "test_decoding.py", measures.one_beam, limit=0.0, unit="tokens"),
    Row("Other programs", "C++ kernels", "= the model", "test_fast.py", measures.kernels),
    Row("Other programs", "C++ kernels, packed weights", "= the quantised model", "test_fast.py",
        measures.kernels_packed),
    Row("Other programs", "two threads, one model", "= one thread", "test_shared_model.py", measures.two_threads,
        limit=0.0, unit="bits"),
    Row("Other programs", "a network over chips", "every layout = one chip", "sharding/test_mesh.py", measures.sharded,
        ONCE),
)  # fmt: skip
NATIVE = (measures.kernels, measures.kernels_packed, measures.two_threads)


@pytest.mark.parametrize(
    ("row", "name"), [(row, name) for row in ROWS for name in row.where],
    ids=[f"{row.group}-{row.name}-{name}" for row in ROWS for name in row.where],
)  # fmt: skip
def test_an_optimisation_is_the_plain_computation(row, name, table):
    if row.measure in NATIVE and not native.is_available():
        pytest.skip("there is no C++ compiler")
    measured = float(row.measure(name))
    table.append(dict(about(row), implementation=name, limit=row.limit_of(name), measured=measured))
    assert measured <= row.limit_of(name)
    if row.unit == "bound":
        assert measured > 0.05  # a bound that nothing comes near says nothing


def about(row):
    """What a line of the table says of its row beside the numbers."""
    return {key: getattr(row, key) for key in ("group", "name", "invariant", "proof", "unit")}


def test_the_table_in_the_book_is_of_these_rows():
    rows = json.loads(TABLE.read_text())
    expected = [dict(about(row), implementation=name, limit=row.limit_of(name)) for row in ROWS for name in row.where]
    assert [{key: value for key, value in row.items() if key != "measured"} for row in rows] == expected
    assert all(0 <= row["measured"] <= row["limit"] for row in rows)
    assert all((Path(__file__).parents[1] / row.proof).exists() for row in ROWS)
