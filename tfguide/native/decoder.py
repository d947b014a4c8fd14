"""The kernels behind `tfguide.torch.accelerate` and `tfguide.tensorflow.accelerate`, on plain addresses.

Neither framework is imported here. A framework passes the addresses of its weights; only vectors of D numbers are
copied.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.config import ModelConfig
from tfguide.frequencies import alibi_slopes, scaled_by_length
from tfguide.native import abi
from tfguide.native.cache import NativeCache
from tfguide.native.library import library
from tfguide.native.linear import Matrix
from tfguide.native.machine import default_threads, use_huge_pages
from tfguide.native.positions import PositionTables, position_tables, row_tables
from tfguide.weights import weight_shapes


class NativeDecoder:
    """A decoder-only model for the C++ kernels.

    embedding: (D, V), in rows or packed; matrices: by canonical name, without ".weight", those of expert e with ".e"
    behind it; vectors: the norms, biases, routers and small tables by canonical name, float32 arrays; threads: default:
    TFGUIDE_THREADS, or all cores that the process may use.
    Raises ValueError for a model with T5's relative positions, or not decoder-only, and for weights that are missing or
    of the wrong size; NativeUnavailable.
    """

    def __init__(
        self,
        config: ModelConfig,
        embedding: Matrix,
        matrices: Mapping[str, Matrix],
        vectors: Mapping[str, np.ndarray],
        threads: int | None = None,
    ):
        check(config)
        self.config, self.threads = config, default_threads() if threads is None else check_count("threads", threads)
        self._shapes = weight_shapes(config)
        self._check_matrices(embedding, matrices)
        self._library = library()
        for matrix in {matrix.address: matrix for matrix in matrices.values()}.values():
            use_huge_pages(matrix.address, matrix.n_bytes)
        self._kept: list[Any] = [embedding, dict(matrices)]
        self._vectors = {name: self._keep(self._as_read(name, vector)) for name, vector in vectors.items()}
        self._model = self._describe(embedding, [self._layer(i, matrices) for i in range(config.n_layers)])
        self._tables = PositionTables(0, {})
        # No library multiplies integers as fast, so the kernels read prompts of any length with 8-bit activations.
        self._most = math.inf if all(matrix.format.endswith("a8") for matrix in matrices.values()) else abi.MAX_ROWS

    def takes(self, n_tokens: int) -> bool:
        """Whether the kernels should read this many new tokens, counted over all rows."""
        return n_tokens <= self._most

    def step(
        self, tokens: np.ndarray, starts: np.ndarray, cache: NativeCache, lengths: np.ndarray | None = None,
        experts_read: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The hidden states (B, T, D), float32, of new tokens (B, T) whose rows begin at positions `starts` (B,).

        As `step_rows` for the T tokens of each row of the cache; lengths: (B, T).
        """
        self._check_call(tokens, starts, cache)
        texts = np.repeat(np.arange(len(tokens)), tokens.shape[1])
        places = (starts[:, None] + np.arange(tokens.shape[1])).reshape(-1)
        lengths = None if lengths is None else lengths.reshape(-1)
        hidden = self.step_rows(tokens.reshape(-1), texts, places, cache, lengths, experts_read)
        return hidden.reshape(*tokens.shape, -1)

    def step_rows(
        self, tokens: np.ndarray, texts: np.ndarray, places: np.ndarray, cache: NativeCache,
        lengths: np.ndarray | None = None, experts_read: np.ndarray | None = None, many: np.ndarray | None = None,
    ) -> np.ndarray:  # fmt: skip
        """The hidden states (n, D), float32, of new tokens (n,) at `places` (n,) of the cache's rows `texts` (n,).

        Any mixture of texts, each with any number of new tokens; those of one text follow each other in order. The
        kernels write the keys and values of the tokens into the cache. The caller has checked that the tokens are
        in the vocabulary and the places in the cache. A call leaves no state for the next one, so threads may share
        a decoder, each with its own cache. The result for a token does not depend on the others in the call; with 8-bit
        activations it is equal to the last bit.

        lengths: (n,), of the texts, for a scaling of the rotation that depends on them; default: `places` + 1.
        experts_read: (L,), int64, to which the kernels add how many experts of each layer they read, once in each pass
        of PASS_ROWS tokens.

        many: (n,), whether a token attends as those of a text with at least MANY_TOKENS new tokens do; default: whether
        its text has as many. They attend in another order of sums than those of a text with fewer; and in bfloat16,
        where the processor multiplies it, the weights are quantised or bfloat16 and the cache is not float32.
        """
        rows = tuple(np.ascontiguousarray(x, np.int64) for x in (tokens, texts, places))
        # Decided for the whole call: which tokens share a pass depends on the other texts.
        rows += ((np.bincount(texts) >= abi.MANY_TOKENS)[texts] if many is None else many,)
        rows += (rows[2] + 1 if lengths is None else lengths,)
        hidden = np.empty((len(tokens), self.config.d_model), np.float32)
        for at in range(0, len(tokens), abi.PASS_ROWS):
            part = slice(at, at + abi.PASS_ROWS)
            self._pass([x[part] for x in rows], cache, hidden[part], experts_read)
        return hidden

    def _pass(self, rows, cache, hidden, experts_read):
        *rows, lengths = rows
        max_length, by_row = cache.max_length, scaled_by_length(self.config.rope_scaling)
        # The tables are kept alive here: another thread may replace them.
        tables = row_tables(self.config, rows[2], lengths) if by_row else self._tables_for(max_length)
        call = abi.call(
            tuple(x.ctypes.data for x in rows), len(hidden), max_length, cache.ring or max_length, **cache.lists,
            cache_type=cache.dtype, hidden=hidden.ctypes.data, by_row=by_row, pages=cache.pages, **tables.addresses,
            experts_read=None if experts_read is None else experts_read.ctypes.data,
        )  # fmt: skip
        self._library.tfguide_step(self._model, call, self.threads)

    def _tables_for(self, length):
        """The position tables for a text of this length, recomputed if the current ones are too short."""
        found, length = self._tables, min(length, self.config.max_positions or length)
        if length > found.length:
            longer = max(length, min(2 * found.length, self.config.max_positions or math.inf))
            learned = self._vectors.get("embedding.position.weight")
            found = self._tables = position_tables(self.config, longer, learned)
        return found

    def _describe(self, embedding, layers):
        config, places = self.config, {}
        if config.n_token_types:
            places["added"] = self._address("embedding.token_type.weight")
        if config.positions == "alibi":
            places["slopes"] = self._keep(alibi_slopes(config.n_heads)).ctypes.data
        if config.embedding_norm:
            places["embedding_norm"] = self._norm("embedding.norm")
        if config.final_norm:
            places["final_norm"] = self._norm("decoder.final_norm")
        return abi.model(config, embedding.linear, layers, **places)

    def _layer(self, index, matrices):
        names = _linear_names(self.config, index)
        parts = {name: matrices[at].linear for name, at in names.items() if f"{at}.weight" in self._shapes}
        block = f"decoder.layers.{index}"
        if self.config.has_experts(index):
            parts |= self._experts(block, matrices)
        parts |= {name: self._norm(f"{block}.{own}") for name, own in abi.NORMS.items()}
        sinks = self._address(f"{block}.self_attention.sinks")
        return abi.Layer(**parts, sinks=sinks, slides=self.config.slides(index))

    def _experts(self, block, matrices):
        """The router and the experts of a layer."""
        router = f"{block}.feed_forward.router"
        linears = [matrices[name].linear if name in matrices else abi.Linear() for name in self._expert_names(block)]
        experts = (abi.Linear * len(linears))(*linears)
        self._kept.append(experts)
        return dict(
            router=self._address(f"{router}.weight"),
            router_bias=self._address(f"{router}.bias"),
            correction=self._address(f"{router}.correction_bias"),
            experts=experts,
        )

    def _expert_names(self, block):
        """Gate, up and down of each expert of a block; without a gate, the first has no weight."""
        paths = [f"{block}.feed_forward.experts.{part}" for part in ("gate", "up", "down")]
        return [f"{path}.{expert}" for expert in range(self.config.experts.n_experts) for path in paths]

    def _norm(self, name):
        return abi.Norm(self._address(f"{name}.weight"), self._address(f"{name}.bias"))

    def _address(self, name):
        """The address of a vector; None if the model does not have it."""
        if name in self._shapes and name not in self._vectors:
            raise ValueError(f"vectors must hold {name!r}, got {', '.join(self._vectors) or 'none'}")
        return self._vectors[name].ctypes.data if name in self._shapes else None

    def _keep(self, array):
        array = np.ascontiguousarray(array, np.float32)
        self._kept.append(array)
        return array

    def _as_read(self, name, vector):
        """A vector as the kernels read it: a router has a row for each expert."""
        vector = self._check_vector(name, vector)
        return np.transpose(vector) if name.endswith(".router.weight") else vector

    def _check_vector(self, name, vector):
        if name not in self._shapes:
            raise ValueError(f"the model has no vector {name!r}")
        shape = self._shapes[name]
        if np.shape(vector) != shape:
            raise ValueError(f"{name!r} must have shape {shape}, got {np.shape(vector)}")
        return vector

    def _check_matrices(self, embedding, matrices):
        V, D = self._shapes["embedding.token.weight"]
        if (embedding.d_out, embedding.d_in) != (V, D) or embedding.format.endswith("columns"):
            raise ValueError(
                f"the embedding must be rows of (V, D) = {(V, D)}, or packed, got {embedding.format!r} of "
                f"{(embedding.d_out, embedding.d_in)}"
            )
        for index in range(self.config.n_layers):
            names = _linear_names(self.config, index)
            for name in names.values():
                if f"{name}.weight" in self._shapes:
                    self._check_matrix(name, self._shapes[f"{name}.weight"], matrices.get(name))
            for name in self._expert_names(f"decoder.layers.{index}") if self.config.has_experts(index) else ():
                stacked = f"{name.rpartition('.')[0]}.weight"
                if stacked in self._shapes:
                    self._check_matrix(name, self._shapes[stacked][1:], matrices.get(name))

    def _check_matrix(self, name, shape, matrix):
        if matrix is None:
            raise ValueError(f"matrices must hold {name!r} of {shape}, got none")
        if (matrix.d_in, matrix.d_out) != shape:
            raise ValueError(f"{name!r} must be (in, out) = {shape}, got {(matrix.d_in, matrix.d_out)}")

    def _check_call(self, tokens, starts, cache):
        if tokens.dtype.kind not in "iu" or starts.dtype.kind not in "iu":
            raise TypeError(f"tokens and starts must be integers, got {tokens.dtype} and {starts.dtype}")
        if tokens.ndim != 2 or 0 in tokens.shape or starts.shape != tokens.shape[:1]:
            raise ValueError(f"tokens must be (B, T) and starts (B,), got {tokens.shape} and {starts.shape}")
        expected = (self.config.n_layers, len(tokens), *next(iter(self.config.cached.values())))
        L, B, K, d = got = (len(cache.keys), cache.n_texts, *cache.shape[2:])
        if got != expected:
            raise ValueError(f"the cache must hold (L, B, K, d) = {expected}, got {L, B, K, d}")


class UnsupportedModel(ValueError):
    """A model that the C++ kernels do not compute. reason: why; the message says what computes it as well."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(
            f"{reason}: use the model itself, of tfguide.torch or tfguide.tensorflow (--framework torch on the command "
            "line)"
        )


def check(config: ModelConfig) -> None:
    """Raises UnsupportedModel for a model that is no decoder, or has relative positions: no kernel computes those."""
    if config.kind != "decoder":
        raise UnsupportedModel(f"the fast decoder is for kind='decoder', got kind={config.kind!r}")
    if config.positions == "relative":
        raise UnsupportedModel("the fast decoder has no relative positions (T5's bias)")


def _linear_names(config, index):
    """The canonical name, without ".weight", of each matrix of a layer; of a mixture, those of the shared experts."""
    network = "feed_forward.shared" if config.has_experts(index) else "feed_forward"
    parts = dict.fromkeys((*abi.ATTENTION, *abi.LATENT), "self_attention") | dict.fromkeys(abi.NETWORK, network)
    return {name: f"decoder.layers.{index}.{part}.{name}" for name, part in parts.items()}
