"""The layer that the source leaves empty, an encoder and an encoder-decoder in PyTorch: listings of "Build one"."""

import math

import torch
from torch import nn


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, num_heads):
        super().__init__()
        if d_model % num_heads:
            raise ValueError(f"num_heads must divide d_model = {d_model}, got {num_heads}")
        self.depth = d_model // num_heads
        self.query, self.key = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.value, self.out = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def forward(self, query, key, value, visible=None):
        """query (B, T, D); key, value (B, S, D); visible (T, S) or (B, 1, 1, S), True = may look: (B, T, D)."""
        pairs = (self.query, query), (self.key, key), (self.value, value)
        Q, K, V = (part(x).unflatten(-1, (-1, self.depth)) for part, x in pairs)  # (B, T or S, H, d)
        Z = torch.einsum("bthd,bshd->bhts", Q, K) / math.sqrt(self.depth)
        if visible is not None:
            Z = Z.masked_fill(~visible, -math.inf)
        C = torch.einsum("bhts,bshd->bthd", Z.softmax(dim=-1), V)
        return self.out(C.flatten(2))  # (B, T, H, d) -> (B, T, D)


class FeedForward(nn.Module):
    def __init__(self, D, F, activation):
        super().__init__()
        self.up, self.down, self.activation = nn.Linear(D, F), nn.Linear(F, D), activation

    def forward(self, x):
        return self.down(self.activation(self.up(x)))  # (B, T, D) -> (B, T, F) -> (B, T, D)


class Block(nn.Module):
    """Attention, in a decoder cross-attention too, and a feed-forward network: each a sum, then a norm."""

    def __init__(self, D, H, F, eps, activation, crosses=False):
        super().__init__()
        self.self_attention, self.self_attention_norm = MultiHeadAttention(D, H), nn.LayerNorm(D, eps)
        if crosses:
            self.cross_attention, self.cross_attention_norm = MultiHeadAttention(D, H), nn.LayerNorm(D, eps)
        self.feed_forward, self.feed_forward_norm = FeedForward(D, F, activation), nn.LayerNorm(D, eps)

    def forward(self, x, visible=None, memory=None):
        x = self.self_attention_norm(x + self.self_attention(x, x, x, visible))
        if memory is not None:
            x = self.cross_attention_norm(x + self.cross_attention(x, memory, memory))
        return self.feed_forward_norm(x + self.feed_forward(x))


class Encoder(nn.Module):
    """BERT: three tables, a norm, and blocks in which all see all."""

    def __init__(self, V, D, L, H, F, positions, eps):
        super().__init__()
        self.token, self.position, self.token_type = nn.Embedding(V, D), nn.Embedding(positions, D), nn.Embedding(2, D)
        self.norm = nn.LayerNorm(D, eps)
        self.blocks = nn.ModuleList(Block(D, H, F, eps, nn.functional.gelu) for _ in range(L))

    def forward(self, tokens, valid):
        x = self.token(tokens) + self.position.weight[: tokens.shape[1]] + self.token_type.weight[0]
        x = self.norm(x)
        for block in self.blocks:
            x = block(x, visible=valid[:, None, None])  # (B, 1, 1, S): no query looks at padding
        return x


class EncoderDecoder(nn.Module):
    """The Transformer of 2017: an encoder makes the memory, a causal decoder reads it in every block."""

    def __init__(self, V, D, L, H, F, eps):
        super().__init__()
        self.token = nn.Embedding(V, D)
        self.encoder = nn.ModuleList(Block(D, H, F, eps, nn.functional.relu) for _ in range(L))
        self.decoder = nn.ModuleList(Block(D, H, F, eps, nn.functional.relu, crosses=True) for _ in range(L))

    def embed(self, tokens):
        D = self.token.weight.shape[1]
        return self.token(tokens) * math.sqrt(D) + sinusoids(tokens.shape[1], D)

    def forward(self, source, target):
        memory, x = self.embed(source), self.embed(target)
        for block in self.encoder:
            memory = block(memory)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        for block in self.decoder:
            x = block(x, visible=causal, memory=memory)
        return x @ self.token.weight.T  # (B, T, D) -> (B, T, V)


def sinusoids(T, D):
    """(T, D): feature 2i is the sine of position * 10000 ** (-2i / D), feature 2i + 1 its cosine."""
    angles = torch.arange(T)[:, None] * 10000.0 ** (-torch.arange(0, D, 2) / D)  # (T, D/2)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


def load(model, weights, names):
    """Take weights by the package's names; names: pairs of a beginning there and here."""
    found = {}
    for name, array in weights.items():
        there, here = next(pair for pair in names if name.startswith(pair[0]))
        is_linear = array.ndim == 2 and not name.startswith("embedding")
        own = (here + name.removeprefix(there)).replace("output.", "out.")
        found[own] = torch.from_numpy(array.T if is_linear else array)
    model.load_state_dict(found)
