"""Five functions of a decoder in PyTorch, as they should be; `broken_torch.py` has a bug in each."""

import torch

tensor = torch.as_tensor


def new_cache(length, d):
    """Room for the keys (S, d) and the values (S, d) of one head."""
    return torch.zeros(length, d), torch.zeros(length, d)


def step(q, k, v, keys, values, n):
    """The output (d,) of one new token; n positions of keys (S, d) and values (S, d) are filled before it."""
    keys[n], values[n] = k, v
    keys, values = keys[: n + 1], values[: n + 1]
    weights = torch.softmax(keys @ q / len(q) ** 0.5, dim=0)
    return weights @ values


def embed(tokens, valid, table, positions):
    """Vectors (B, T, D) of tokens (B, T), padded on the left; valid (B, T) is True at tokens."""
    at = (valid.cumsum(dim=1) - 1).clamp(min=0)
    return table[tokens] + positions[at]


def attend(Q, K, V, valid):
    """Attention (B, T, d) to keys and values (B, S, d); valid (B, S) is True at tokens, False at padding."""
    scores = Q @ K.transpose(1, 2) / Q.shape[-1] ** 0.5  # (B, T, S)
    scores = scores.masked_fill(~valid[:, None], -1e9)
    return torch.softmax(scores, dim=-1) @ V


def prefill(Q, K, V, window):
    """Outputs (T, d) of a prompt whose positions see `window` keys each, and the keys and values that are kept."""
    ring = slice(max(len(K) - window, 0), None)  # the cache has room for the last ones
    at = torch.arange(len(K))
    behind = torch.arange(len(Q))[:, None] - at  # (T, S): how far a key lies behind a query
    visible = (behind >= 0) & (behind < window)
    scores = (Q @ K.T / Q.shape[-1] ** 0.5).masked_fill(~visible, -1e9)
    return torch.softmax(scores, dim=-1) @ V, K[ring], V[ring]


def attend_in_half(Q, K, V):
    """Attention (T, d) of one head in float16, to keys and values (S, d)."""
    scores = Q.float() @ K.float().T / Q.shape[-1] ** 0.5
    return torch.softmax(scores, dim=-1).half() @ V
