"""A decoder of Llama's kind in a hundred lines of PyTorch: the listings of the page "Build one"."""

import math

import torch
from torch import nn


def rotate(x, theta):
    """Each pair of features (i, i + d/2) of the heads x (B, T, H, d), turned by its position's angle."""
    T, d = x.shape[1], x.shape[3]
    frequencies = theta ** (-torch.arange(0, d, 2) / d)  # (d/2,)
    angles = torch.arange(T)[:, None, None] * frequencies  # (T, 1, d/2): the same for every head
    first, second = x.chunk(2, dim=-1)
    turned = first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()
    return torch.cat(turned, dim=-1)


def attend(Q, K, V, visible):
    """For each query the mean of the values, weighted by softmax(Q K^T / sqrt(d)); all (B, T, H, d)."""
    Z = torch.einsum("bthd,bshd->bhts", Q, K) / math.sqrt(Q.shape[3])
    A = Z.masked_fill(~visible, -math.inf).softmax(dim=-1)  # (B, H, T, S)
    return torch.einsum("bhts,bshd->bthd", A, V)


class RMSNorm(nn.Module):
    def __init__(self, D, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(D)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + self.eps) * self.weight


class SelfAttention(nn.Module):
    def __init__(self, D, H, K, d, theta):
        super().__init__()
        self.d, self.groups, self.theta = d, H // K, theta
        self.query = nn.Linear(D, H * d, bias=False)
        self.key, self.value = nn.Linear(D, K * d, bias=False), nn.Linear(D, K * d, bias=False)
        self.out = nn.Linear(H * d, D, bias=False)

    def forward(self, x):
        Q, K, V = (part(x).unflatten(-1, (-1, self.d)) for part in (self.query, self.key, self.value))
        Q, K = rotate(Q, self.theta), rotate(K, self.theta)
        K, V = (x.repeat_interleave(self.groups, dim=2) for x in (K, V))  # (B, T, K, d) -> (B, T, H, d)
        visible = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()  # no position sees a later one
        return self.out(attend(Q, K, V, visible).flatten(2))  # (B, T, H, d) -> (B, T, D)


class FeedForward(nn.Module):
    def __init__(self, D, F):
        super().__init__()
        self.gate, self.up = nn.Linear(D, F, bias=False), nn.Linear(D, F, bias=False)
        self.down = nn.Linear(F, D, bias=False)

    def forward(self, x):
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))  # (B, T, D) -> (B, T, F) -> (B, T, D)


class Block(nn.Module):
    def __init__(self, D, H, K, d, F, theta, eps):
        super().__init__()
        self.self_attention_norm, self.feed_forward_norm = RMSNorm(D, eps), RMSNorm(D, eps)
        self.self_attention, self.feed_forward = SelfAttention(D, H, K, d, theta), FeedForward(D, F)

    def forward(self, x):
        x = x + self.self_attention(self.self_attention_norm(x))
        return x + self.feed_forward(self.feed_forward_norm(x))


class Decoder(nn.Module):
    def __init__(self, V, D, L, H, K, d, F, theta, eps):
        super().__init__()
        self.embedding = nn.Embedding(V, D)
        self.blocks = nn.ModuleList(Block(D, H, K, d, F, theta, eps) for _ in range(L))
        self.final_norm = RMSNorm(D, eps)

    def forward(self, tokens):
        x = self.embedding(tokens)  # (B, T) -> (B, T, D)
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x) @ self.embedding.weight.T  # (B, T, D) -> (B, T, V)


def load(model, weights):
    """Take weights by the package's names; a matrix there is (in, out), in nn.Linear (out, in)."""
    found = {}
    for name, array in weights.items():
        for there, here in (("decoder.", ""), ("layers.", "blocks."), (".token", ""), (".output", ".out")):
            name = name.replace(there, here)
        is_linear = array.ndim == 2 and name != "embedding.weight"
        found[name] = torch.from_numpy(array.T if is_linear else array)
    model.load_state_dict(found, assign=True)  # complains of a name or a shape that does not fit


@torch.no_grad()
def write(model, tokens, n):
    """The n most likely tokens, one after the other, behind a list of tokens."""
    for _ in range(n):
        logits = model(torch.tensor([tokens]))  # (1, T, V)
        tokens = [*tokens, int(logits[0, -1].argmax())]
    return tokens
