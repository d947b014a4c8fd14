"""The PyTorch side of generation: tensors in, arrays out."""

from __future__ import annotations

import numpy as np
import torch

from tfguide.generation import verbs
from tfguide.torch.cache import KVCache
from tfguide.torch.inputs import as_token_types, as_tokens
from tfguide.torch.tensors import as_tensor, to_float32


class Generator(verbs.Generator):
    """`tfguide.generation.Generator` in PyTorch: a model has `dtype` and `device`, and defines `read` and `logits`."""

    as_tokens, as_token_types = as_tokens, as_token_types

    def new_cache(self, batch_size: int, max_length: int) -> KVCache:
        """An empty cache for the model: in the type and on the device of its weights."""
        return KVCache(self.config, batch_size, max_length, self.dtype, self.device)

    def last_hidden(self, hidden, chunk, before):
        """The hidden state (B, D) of each row's last token: from this chunk if it ends in it, else from `before`."""
        rows, last, ends = (as_tensor(x, hidden.device) for x in (np.arange(len(hidden)), chunk.last, chunk.ends))
        here = hidden[rows, last]
        return here if before is None else torch.where(ends[:, None], here, before)

    def as_tensor(self, values):
        """A tensor, an array or a list as a tensor beside the weights."""
        return as_tensor(values, self.device)

    def as_array(self, tensor):
        """A tensor as a float32 array in main memory."""
        return to_float32(tensor)

    def without_gradients(self):
        """Compute without recording gradients: PyTorch's inference mode."""
        return torch.inference_mode()
