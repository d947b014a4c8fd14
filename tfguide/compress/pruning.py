"""Pruning on canonical weights: zeros instead of small weights, or smaller matrices instead of large ones.

Zeros do not change the time of a dense product. Removing heads, neurons or layers gives a smaller dense model, which is
faster on every machine.
"""

from __future__ import annotations

import dataclasses
import itertools
import numbers
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfguide.checks.values import check_choice, check_count
from tfguide.config import ModelConfig
from tfguide.weights import attention_names, check_weights, feed_forward_names, weight_table

Weights = dict[str, np.ndarray]
SCOPES = ("layer", "output", "global")  # among which entries a share is taken


def prune_magnitude(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    sparsity: float,
    scope: str = "layer",
    gram_of: Callable[[str], np.ndarray | None] | None = None,
) -> Weights:
    """The weights with the smallest entries of the linear layers set to 0: exactly round(sparsity * n) of n entries.

    scope: "layer" takes that share of each matrix, "output" of the inputs of each output, "global" of all matrices
    together. gram_of: X^T X of inputs of a linear layer by its path, asked for in the model's order. An entry then
    counts as its magnitude times the root mean square of its input: what it adds to the output, not what it is.
    Default, and where the inputs of a layer are not known (None): the magnitude. Embeddings, norms, biases and the
    routers of experts do not change.

    Source: Han et al. 2015; with inputs: Sun et al. 2023 (Wanda), equation 1, where the scope is "output". Raises
    ValueError for a sparsity outside [0, 1), another scope, or "global" where the inputs of some layers are known.
    """
    check_weights(config, weights)
    if not isinstance(sparsity, numbers.Real) or isinstance(sparsity, bool) or not 0 <= sparsity < 1:
        raise ValueError(f"sparsity must lie in [0, 1), got {sparsity!r}")
    check_choice("scope", scope, SCOPES)
    names, sizes = _prunable(config), _input_sizes(config, gram_of)
    known = [name for name in names if sizes[name] is not None]
    if scope == "global" and known and len(known) < len(names):
        missing = next(name for name in names if sizes[name] is None)
        raise ValueError(f"scope='global' compares all layers, and the inputs of {missing!r} are not known")
    result = dict(weights) | {name: weights[name].copy() for name in names}
    pairs = []
    for name in names:
        pairs += zip(_matrices(result[name]), _matrices(_scores(result[name], sizes[name])), strict=True)
    for group in [pairs] if scope == "global" else [[pair] for pair in pairs]:
        if scope == "output":
            _clear_in_columns(*group[0], sparsity)
        else:
            _clear_smallest(group, sparsity)
    return result


def prune_two_four(
    config: ModelConfig,
    weights: Mapping[str, np.ndarray],
    gram_of: Callable[[str], np.ndarray | None] | None = None,
) -> Weights:
    """The weights with the 2 smallest of every 4 consecutive inputs of each output set to 0, in all linear layers.

    Ampere and later GPUs skip the zeros of this pattern (Mishra et al. 2021). If the number of inputs is not a multiple
    of 4, half of the last one, two or three are kept, rounded up. gram_of: as in `prune_magnitude`.
    """
    check_weights(config, weights)
    result, sizes = dict(weights), _input_sizes(config, gram_of)
    for name in _prunable(config):
        result[name] = array = weights[name].copy()
        matrices = np.moveaxis(array, -2, 0)  # (in, out), or (in, experts, out): a view
        scores = np.moveaxis(_scores(array, sizes[name]), -2, 0)
        for start in range(0, len(matrices), 4):
            four = matrices[start : start + 4]
            smallest = np.argsort(scores[start : start + 4], axis=0, kind="stable")[: len(four) // 2]
            np.put_along_axis(four, smallest, 0, axis=0)
    return result


def prune_heads(config: ModelConfig, weights: Mapping[str, np.ndarray], n_kv_heads: int) -> tuple[ModelConfig, Weights]:
    """A smaller model: each attention keeps the `n_kv_heads` key/value heads that matter most, with their queries.

    A head's importance is the norm of its query heads' rows of W_o times the norm of its columns of W_v. Every
    attention keeps the same number of heads; `d_head` does not change. The result equals that of the model in which the
    rows of W_o of the dropped heads are 0. Source: Michel et al. 2019, "Are Sixteen Heads Really Better than One?".

    Raises ValueError for more heads than exist, and for positions that depend on a head's index (ALiBi, T5).
    """
    check_weights(config, weights)
    n_kv_heads = check_count("n_kv_heads", n_kv_heads)
    K, G = config.n_kv_heads, config.n_groups
    if n_kv_heads > K:
        raise ValueError(f"n_kv_heads must be at most the model's {K}, got {n_kv_heads}")
    if config.positions in ("alibi", "relative"):
        raise ValueError(
            f"positions={config.positions!r} give each head its own bias by number: heads cannot be left out"
        )
    result, table = dict(weights), weight_table(config)
    for name in attention_names(config):
        output = weights[f"{name}.output.weight"].reshape(K, -1, config.d_model)
        value = _value_matrix(config, weights, name)
        scores = np.linalg.norm(output, axis=(1, 2)) * np.linalg.norm(value, axis=(0, 2))
        kept = np.sort(np.argsort(-scores, kind="stable")[:n_kv_heads])
        for own in [own for own in table if own.startswith(f"{name}.")]:
            result[own] = _keep(weights[own], table[own].axes, ("H", "K"), K, kept)
    smaller = config.replace(
        n_heads=n_kv_heads * G, n_kv_heads=n_kv_heads, d_head=config.d_head, attention_scale=config.attention_scale
    )
    return smaller, result


def prune_neurons(config: ModelConfig, weights: Mapping[str, np.ndarray], d_ff: int) -> tuple[ModelConfig, Weights]:
    """A smaller model: each feed-forward network keeps the `d_ff` neurons that matter most; experts stay as they are.

    A neuron's importance is the product of the norms of its weights in (gate,) up and down. The result equals that of
    the model in which the dropped neurons' rows of the down matrix are 0. Raises ValueError for a larger `d_ff`, and
    for a model whose every layer has experts.
    """
    check_weights(config, weights)
    d_ff = check_count("d_ff", d_ff)
    if d_ff > config.d_ff:
        raise ValueError(f"d_ff must be at most the model's {config.d_ff}, got {d_ff}")
    result, table = dict(weights), weight_table(config)
    names = [name for name in feed_forward_names(config) if table[f"{name}.down.weight"].axes[0] == ("F",)]
    if not names:
        raise ValueError("every layer of the model has experts: there is no network of d_ff neurons to prune")
    for name in names:
        scores = np.linalg.norm(weights[f"{name}.down.weight"], axis=1)
        for part in ("gate", "up") if config.gated else ("up",):
            scores = scores * np.linalg.norm(weights[f"{name}.{part}.weight"], axis=0)
        kept = np.sort(np.argsort(-scores, kind="stable")[:d_ff])
        for own in [own for own in table if own.startswith(f"{name}.")]:
            result[own] = _keep(weights[own], table[own].axes, ("F",), config.d_ff, kept)
    return config.replace(d_ff=d_ff), result


def prune_layers(
    config: ModelConfig, weights: Mapping[str, np.ndarray], layers: Sequence[int]
) -> tuple[ModelConfig, Weights]:
    """A smaller model without the blocks `layers` of its only stack, or of its decoder.

    Raises ValueError for a block that does not exist, one named twice, or all of them.
    """
    check_weights(config, weights)
    for layer in layers:
        check_count("a layer", layer, least=0)
    if len(set(layers)) != len(layers) or any(layer >= config.n_layers for layer in layers):
        raise ValueError(f"layers must be different numbers from 0 to {config.n_layers - 1}, got {list(layers)}")
    kept = [layer for layer in range(config.n_layers) if layer not in set(layers)]
    if not kept:
        raise ValueError(f"at least one of {config.n_layers} layers must stay, got all of them")
    prefix = f"{'encoder' if config.kind == 'encoder' else 'decoder'}.layers."
    result = {name: array for name, array in weights.items() if not name.startswith(prefix)}
    for new, old in enumerate(kept):
        own = f"{prefix}{old}."
        result |= {f"{prefix}{new}.{name[len(own) :]}": a for name, a in weights.items() if name.startswith(own)}
    changes = {}
    if config.experts is not None:
        dense = sum(layer < config.experts.n_dense_layers for layer in kept)
        changes["experts"] = dataclasses.replace(config.experts, n_dense_layers=dense)
    return config.replace(n_layers=len(kept), **changes), result


def least_change(hidden: Sequence[np.ndarray]) -> list[float]:
    """How much each block changes its input: 1 - the mean cosine between its input and its output, block by block.

    hidden: the input of the first block and the output of each, (B, T, D). A block with a small change can be dropped.
    Source: Men et al. 2024, "ShortGPT", equation 1.
    """
    changes = []
    for before, after in itertools.pairwise(hidden):
        before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
        norms = np.linalg.norm(before, axis=-1) * np.linalg.norm(after, axis=-1)
        changes.append(float(1 - ((before * after).sum(axis=-1) / norms).mean()))
    return changes


def check_decoder(config: ModelConfig) -> None:
    """Raises ValueError for a model that is not decoder-only."""
    if config.kind != "decoder":
        raise ValueError(f"the change that layers make is measured for kind='decoder', got kind={config.kind!r}")


def check_not_quantized(model) -> None:
    """Raises ValueError for a quantised model: prune first, then quantise."""
    if model.quantization is not None:
        raise ValueError("a quantised model cannot be pruned: prune it first and quantise what is left")


def _prunable(config):
    """The names of the matrices that pruning changes."""
    return [name for name, weight in weight_table(config).items() if weight.is_compressed]


def _input_sizes(
    config: ModelConfig, gram_of: Callable[[str], np.ndarray | None] | None
) -> dict[str, np.ndarray | None]:
    """The size of each input (in,) of each linear layer by the name of its weight: the root of the diagonal of X^T X.

    All layers read the same tokens, so roots of sums are in proportion to roots of means. None where the inputs of a
    layer are not known. gram_of is asked in the model's order.
    """
    sizes: dict[str, np.ndarray | None] = {}
    for name in _prunable(config):
        gram = None if gram_of is None else gram_of(name.removesuffix(".weight"))
        sizes[name] = None if gram is None else np.sqrt(np.diagonal(gram))
    return sizes


def _scores(array, size):
    """How much each entry counts: its magnitude, times the size of its input where that is known."""
    return np.abs(array) if size is None else np.abs(array) * size[:, None].astype(array.dtype)


def _clear_smallest(pairs, sparsity):
    """Set the share of all matrices of some (matrix, scores) that has the smallest scores to 0, in place."""
    flat = np.concatenate([scores.ravel() for _, scores in pairs])
    n = round(sparsity * flat.size)
    gone = np.zeros(flat.size, bool)
    gone[np.argpartition(flat, min(n, flat.size - 1))[:n]] = True  # exactly n, even if some are equal
    ends = np.cumsum([matrix.size for matrix, _ in pairs])
    for (matrix, _), part in zip(pairs, np.split(gone, ends[:-1]), strict=True):
        matrix[part.reshape(matrix.shape)] = 0


def _clear_in_columns(matrix, scores, sparsity):
    """Set the share of each column that has the smallest scores to 0, in place."""
    n = round(sparsity * len(matrix))
    gone = np.argpartition(scores, min(n, len(matrix) - 1), axis=0)[:n]
    np.put_along_axis(matrix, gone, 0, axis=0)


def _matrices(array):
    """The one matrix of an array (in, out), or those of a stack (experts, in, out), as views."""
    return array[None] if array.ndim == 2 else array


def _value_matrix(config, weights, name):
    """The matrix W_v of an attention by head, (in, K, d_v): from D features, or from those of a latent."""
    if config.latent is None:
        return weights[f"{name}.value.weight"].reshape(-1, config.n_kv_heads, config.d_head)
    matrix = weights[f"{name}.key_value_up.weight"]
    return matrix.reshape(len(matrix), config.n_heads, -1)[..., config.latent.d_nope :]


def _keep(array, axes, sizes, n, kept):
    """The array with only the `kept` of `n` groups along each axis whose outermost size is one of `sizes`."""
    for axis, names in enumerate(axes):
        if names[0] in sizes:
            before, after = array.shape[:axis], array.shape[axis + 1 :]
            groups = array.reshape(*before, n, -1, *after)
            array = groups.take(kept, axis=axis).reshape(*before, -1, *after)
    return array
