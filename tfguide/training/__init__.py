"""Training that holds no tensor: the recipe, the order of the data, the loop, what is kept; imports no framework."""

from tfguide.training.batches import NO_LABEL, Batch, batch_of, count_batches, next_tokens
from tfguide.training.loop import Record, Trainer, learn, train
from tfguide.training.names import trained_names
from tfguide.training.pairs import PairBatches, pair_batch, train_pairs
from tfguide.training.progress import show, summary
from tfguide.training.recipe import Recipe
from tfguide.training.run import train_folder
from tfguide.training.state import FILE, load_state, save_state

__all__ = [
    "FILE", "NO_LABEL", "Batch", "PairBatches", "Recipe", "Record", "Trainer", "batch_of", "count_batches", "learn",
    "load_state", "next_tokens", "pair_batch", "save_state", "show", "summary", "train", "train_folder", "train_pairs",
    "trained_names",
]  # fmt: skip
