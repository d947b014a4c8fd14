"""The heads for labels of BERT and RoBERTa, as transformers' classes compute them (version 5.23).

`...ForTokenClassification` maps each hidden state, `...ForSequenceClassification` the pooled vector. RoBERTa's pooler
is a part of its head, under other names.
"""

from __future__ import annotations

from typing import Any

from tfguide.checkpoints.fields import Fields
from tfguide.config import ModelConfig
from tfguide.parts import LabelHead

TASKS = {"ForSequenceClassification": "text", "ForTokenClassification": "token"}
_DEFAULT = 2  # labels, where a config.json names none


def label_head(fields: Fields, model: str) -> LabelHead | None:
    """The head that a config.json tells of by its class, such as `model` + "ForTokenClassification"; None for others.

    Raises ValueError where the names of the labels are not a dictionary.
    """
    kinds = fields.look("architectures", None, null=True)
    per = next((per for task, per in TASKS.items() if kinds == [model + task]), None)
    if per is None:
        return None
    names = fields.look("id2label", None, null=True) or {}
    if not isinstance(names, dict):
        raise fields.unsupported("id2label", names, "expected the name of each label by its number")
    return LabelHead(n_labels=len(names) or _DEFAULT, per=per)


def label_keys(config: ModelConfig, model: str) -> dict[str, Any]:
    """The keys of a config.json for a head for labels; none where there is no head."""
    if config.labels is None:
        return {}
    task = next(task for task, per in TASKS.items() if per == config.labels.per)
    names = {str(i): f"LABEL_{i}" for i in range(config.labels.n_labels)}
    numbers = {name: int(i) for i, name in names.items()}
    return {"architectures": [model + task], "id2label": names, "label2id": numbers}
