"""Training that holds no tensor: the recipe, the order of the data, the loop, what is kept; imports no framework."""

from tfguide.training.batches import batch_of, count_batches
from tfguide.training.loop import Record, Trainer, train
from tfguide.training.progress import show, summary
from tfguide.training.recipe import Recipe
from tfguide.training.run import train_folder
from tfguide.training.state import FILE, load_state, save_state

__all__ = [
    "FILE", "Recipe", "Record", "Trainer", "batch_of", "count_batches", "load_state", "save_state", "show", "summary",
    "train", "train_folder",
]  # fmt: skip
