"""A model for the cost model, by the name of a preset or from the config.json of Hugging Face.

What decides the sizes is read by the families of `tfguide.checkpoints`; what they refuse beside it changes no cost.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfguide.checkpoints import gemma3
from tfguide.checkpoints.fields import Fields
from tfguide.checkpoints.folder import CONFIG, read_object
from tfguide.checkpoints.reading import FAMILIES
from tfguide.checks.values import nearest
from tfguide.config import ModelConfig
from tfguide.presets import PRESETS

#: What each family's class in transformers (5.23) fills in for a key that is absent, of the keys that change a cost.
DEFAULTS: dict[str, dict[str, Any]] = {name: family.DEFAULTS for name, family in FAMILIES.items()}

#: Other names of a key, which the class takes as well.
ALIASES: dict[str, dict[str, str]] = {name: family.ALIASES for name, family in FAMILIES.items()}

# Version 4 of transformers wrote null for these and took it for false, and for no limit of the positions.
_NULLABLE = ("max_position_embeddings", "attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window")


def find_model(name: str | os.PathLike) -> ModelConfig:
    """A preset by its name, or what a config.json says: a path to the file, or to the folder that it is in.

    What is read is what the family's class in transformers reads, with its defaults, and of that only what changes a
    cost; everything else is passed over. Raises ValueError for a name that is neither, with the nearest presets, for a
    file that is not JSON, and for a family that is unknown or a size that cannot be.
    """
    if str(name) in PRESETS:
        return ModelConfig.from_preset(str(name))
    path = Path(name)
    file = path / CONFIG if path.is_dir() else path
    if not file.is_file():
        raise ValueError(
            f"{str(name)!r} is no preset, and no config.json is there; `tfguide models` lists the presets"
            f"{nearest(str(name), PRESETS)}"
        )
    return config_from_keys(read_object(file), str(file))


def config_from_keys(keys: Mapping[str, Any], source: str = CONFIG) -> ModelConfig:
    """The sizes in the keys of a config.json. source: what errors call the file. Raises ValueError as `find_model`."""
    if keys.get("model_type") == gemma3.WITH_IMAGES:
        keys = gemma3.text_keys(keys, source)
    family = keys.get("model_type")
    if not isinstance(family, str) or family not in DEFAULTS:
        raise ValueError(
            f"{source}: model_type={family!r} is not known{nearest(str(family), DEFAULTS)}; "
            f"known are {', '.join((*DEFAULTS, gemma3.WITH_IMAGES))}"
        )
    aliases = ALIASES.get(family, {})
    # Where a file has a key by both of its names, its own name counts.
    fields = Fields({k: v for k, v in keys.items() if aliases.get(k) not in keys}, source, nullable=_NULLABLE)
    with fields.named_errors():
        return ModelConfig(**FAMILIES[family].sizes(fields))
