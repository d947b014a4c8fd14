"""What generation shares between the frameworks: plain arithmetic on NumPy arrays and lists, no tensors."""

from tfguide.inference.beams import Beam, BeamSearch
from tfguide.inference.greedy import greedy, stopping
from tfguide.inference.prompts import pad_prompts
from tfguide.inference.sampling import Chooser, Sampling, draw, probabilities
from tfguide.inference.speculative import PromptLookup, SpeculativeResult, accept

__all__ = [
    "Beam", "BeamSearch", "Chooser", "PromptLookup", "Sampling", "SpeculativeResult", "accept", "draw", "greedy",
    "pad_prompts", "probabilities", "stopping",
]  # fmt: skip
