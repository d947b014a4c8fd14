"""Masks: which keys each query may see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tfguide.checks.shapes import check_boolean, check_mask_sizes, check_valid
from tfguide.torch.tensors import as_tensor


@dataclass(frozen=True, eq=False)
class Mask:
    """Which keys each query may see, and the kind of the mask.

    visible: boolean (T, S), (B, T, S) or (B, H, T, S), True = may look.
    kind: "causal", where T = S and each query of every row sees itself and all keys before it, so that a kernel need
    not read the mask; "window", causal and limited to a window; "padding", where some keys are hidden because they are
    padding; "given", any other.
    """

    visible: Tensor
    kind: str = "given"

    @classmethod
    def of(cls, visible: Tensor | Mask | None) -> Mask | None:
        """A `Mask` unchanged, a boolean tensor as a "given" mask. Raises TypeError for a tensor that is not boolean."""
        if visible is None or isinstance(visible, Mask):
            return visible
        check_boolean("visible", visible.dtype == torch.bool, visible.dtype)
        return cls(visible)

    def by_head(self) -> Mask:
        """The same mask as (B or 1, H or 1, T, S)."""
        if self.visible.ndim == 4:
            return self
        return Mask(self.visible[:, None] if self.visible.ndim == 3 else self.visible[None, None], self.kind)


def causal_mask(n_queries: int, n_keys: int | None = None, window: int | None = None) -> Tensor:
    """Which keys each query may see if it must not look ahead: boolean (T, S), True = may look.

    The queries are the last `n_queries` of the `n_keys` positions. With a `window`, a query sees itself and the
    `window - 1` positions before it. Raises ValueError for sizes below 1 or more queries than keys.

    >>> causal_mask(3).int().tolist()
    [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    """
    n_keys = n_queries if n_keys is None else n_keys
    n_queries, n_keys, window = check_mask_sizes(n_queries, n_keys, window)
    query = torch.arange(n_keys - n_queries, n_keys)[:, None]  # (T, 1)
    key = torch.arange(n_keys)[None, :]  # (1, S)
    visible = key <= query
    if window is not None:
        visible &= key > query - window
    return visible


def padding_mask(valid: Tensor) -> Tensor:
    """The visibility of padded keys: `valid` (B, S), True at real tokens, becomes (B, 1, S) for every query."""
    valid = as_tensor(valid)
    check_valid("valid", tuple(valid.shape), valid.dtype == torch.bool, valid.dtype, tuple(valid.shape))
    return valid[:, None, :]
