"""Generation over a model's verbs, written once for both frameworks: NumPy arrays and lists, no tensors."""

from tfguide.generation.beam import Beam, BeamSearch, beam_search
from tfguide.generation.choose import Chooser, draw, greedy, probabilities
from tfguide.generation.generate import generate, stream
from tfguide.generation.interfaces import Cache
from tfguide.generation.maps import attention_maps
from tfguide.generation.perplexity import perplexity
from tfguide.generation.prompts import pad_prompts, stopping
from tfguide.generation.sampling import Sampling
from tfguide.generation.speculative import PromptLookup, SpeculativeResult, speculative_generate
from tfguide.generation.verbs import Generator
from tfguide.generation.verdicts import accept

__all__ = [
    "Beam", "BeamSearch", "Cache", "Chooser", "Generator", "PromptLookup", "Sampling", "SpeculativeResult", "accept",
    "attention_maps", "beam_search", "draw", "generate", "greedy", "pad_prompts", "perplexity", "probabilities",
    "speculative_generate", "stopping", "stream",
]  # fmt: skip
