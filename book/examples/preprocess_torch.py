"""From texts to vectors in PyTorch: the listings of the page on preprocessing."""

import torch
import torch.nn.functional as F


def batch(tokenizer, texts, pad_id):
    """Texts as ids (B, T), padded on the right, and a mask (B, T), True at tokens."""
    rows = [torch.tensor(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=pad_id)
    lengths = torch.tensor([len(row) for row in rows])
    valid = torch.arange(tokens.shape[1]) < lengths[:, None]  # (T,) < (B, 1) -> (B, T)
    return tokens, valid


def embed(tokens, table):
    """The rows of a table (V, D) for ids (B, T): (B, T, D)."""
    return F.embedding(tokens, table)


def at_the_last_token(logits, valid):
    """Of logits (B, T, V) those at the last token of each row, (B, V)."""
    last = valid.sum(dim=1) - 1  # (B,)
    return logits[torch.arange(len(logits)), last]
