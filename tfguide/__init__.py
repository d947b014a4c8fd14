"""One configuration, one weight dictionary, three implementations of the Transformer.

`tfguide.reference` is NumPy in float64, `tfguide.torch` is PyTorch and `tfguide.tensorflow` is Keras 3 on TensorFlow.
Importing `tfguide` imports none of the frameworks.

The letters of the book, used in every shape below this package:

    B batch            H query heads        F d_ff
    T new positions    K key/value heads    L layers
    S visible positions                     V vocabulary
    D d_model          d d_head             G = H / K query heads that share one key/value head

Matrices: Z scores, A attention weights, C the output of a head, U the input of an activation, Y the output of a layer;
Q, K and V beside each other are queries, keys and values. S is never a matrix.

Activations are (B, T, D), heads are (B, T, H, d), a weight is stored (in, out), so that row vectors multiply from the
left: `x @ W`. A mask is boolean and called `visible`: True means "may look".
"""

from tfguide.config import ModelConfig
from tfguide.generation.sampling import Sampling
from tfguide.generation.speculative import PromptLookup
from tfguide.initialization import init_weights
from tfguide.parts import Experts, LabelHead, LatentAttention
from tfguide.presets import PRESETS
from tfguide.scalings import DynamicScaling, LinearScaling, LongRopeScaling, RopeScaling, YarnScaling
from tfguide.weights import check_weights, weight_shapes

__version__ = "0.1.0"

__all__ = [
    "PRESETS", "DynamicScaling", "Experts", "LabelHead", "LatentAttention", "LinearScaling", "LongRopeScaling",
    "ModelConfig", "PromptLookup", "RopeScaling", "Sampling", "YarnScaling", "__version__", "check_weights",
    "init_weights", "weight_shapes",
]  # fmt: skip
