"""What generation shares between the frameworks: plain arithmetic on NumPy arrays and lists, no tensors."""

from tfguide.inference.greedy import greedy, stop_set
from tfguide.inference.prompts import pad_prompts

__all__ = ["greedy", "pad_prompts", "stop_set"]
