"""A model that several processes compute together, over `torch.distributed`: gloo on CPUs, NCCL on GPUs."""

from tfguide.torch.parallel.group import Group, LostProcess
from tfguide.torch.parallel.joining import joined
from tfguide.torch.parallel.leading import Leader, follow
from tfguide.torch.parallel.models import (
    Parallel,
    ParallelDecoder,
    ParallelEncoder,
    ParallelEncoderDecoder,
    load_parallel,
    parallel_from_weights,
)
from tfguide.torch.parallel.sequences import by_sequences

__all__ = [
    "Group",
    "Leader",
    "LostProcess",
    "Parallel",
    "ParallelDecoder",
    "ParallelEncoder",
    "ParallelEncoderDecoder",
    "by_sequences",
    "follow",
    "joined",
    "load_parallel",
    "parallel_from_weights",
]
