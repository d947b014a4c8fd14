"""What generation shares between the frameworks: plain arithmetic on NumPy arrays and lists, no tensors."""

from tfguide.generation.beam import Beam, BeamSearch
from tfguide.generation.choose import Chooser, Sampling, draw, probabilities
from tfguide.generation.greedy import greedy, stopping
from tfguide.generation.prompts import pad_prompts
from tfguide.generation.speculative import PromptLookup, SpeculativeResult, accept

__all__ = [
    "Beam", "BeamSearch", "Chooser", "PromptLookup", "Sampling", "SpeculativeResult", "accept", "draw", "greedy",
    "pad_prompts", "probabilities", "stopping",
]  # fmt: skip
