"""Serving: many requests at once over one model, with a paged cache, continuous batching and shared prefixes.

Nothing here imports a framework: the model does what it does in either of them.
"""

from tfguide.serving.answer import Answer, Piece
from tfguide.serving.blocks import BlockPool, OutOfBlocks, Table
from tfguide.serving.engine import Engine, Update
from tfguide.serving.request import Finish, Likely, Request, Sequence
from tfguide.serving.scheduler import Chunk, LastChunk, Limits, QueueFull, Scheduler
from tfguide.serving.service import Service, Stopped

__all__ = [
    "Answer", "BlockPool", "Chunk", "Engine", "Finish", "LastChunk", "Likely", "Limits", "OutOfBlocks", "Piece",
    "QueueFull", "Request", "Scheduler", "Sequence", "Service", "Stopped", "Table", "Update",
]  # fmt: skip
