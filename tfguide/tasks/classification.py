"""Which part of the standard library a docstring is about: the examples, the scores, and how sure a classifier may be.

Scores are computed by scikit-learn. Source: Sebastiani 2002 for the task; Guo et al. 2017 for calibration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfguide.checks.values import check_count
from tfguide.tasks import docstrings, minilm
from tfguide.tasks.docstrings import Docstring
from tfguide.tasks.examples import Examples
from tfguide.tasks.own import check_answers

MAX_TOKENS = 64  # of a text that is read: the first lines say what it is about
STRENGTH = 10.0  # of the linear classifiers: how little their weights are held back (C of scikit-learn)
_EXTRA = "scores are computed by scikit-learn: pip install 'tfguide[tasks]'"


def split(texts: Sequence[Docstring] | None = None) -> tuple[list[Docstring], list[Docstring]]:
    """The docstrings to learn from, and those that are held out. texts: default `docstrings()`."""
    texts = docstrings.docstrings() if texts is None else texts
    sides: tuple[list[Docstring], list[Docstring]] = ([], [])
    for one in texts:
        sides[docstrings.is_held_out(one.text)].append(one)
    return sides


def examples(texts: Sequence[Docstring], max_tokens: int = MAX_TOKENS) -> Examples:
    """The texts as the first tokens of MiniLM, with the numbers of their labels."""
    tokenizer = minilm.tokenizer()
    tokenizer.enable_truncation(check_count("max_tokens", max_tokens, least=3))
    rows = [encoding.ids for encoding in tokenizer.encode_batch([one.text for one in texts])]
    return Examples(rows, [docstrings.label_number(one.label) for one in texts])


def softmax(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Logits (n, N) as probabilities, after a division by the temperature; float64."""
    logits = np.asarray(logits, np.float64) / temperature
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def scores(probabilities: np.ndarray, labels: Sequence[int]) -> dict[str, float]:
    """Accuracy, macro F1 and ROC-AUC (each label against the rest, the mean over labels), all 0 to 1.

    probabilities: (n, N); labels: (n,), of which each of the N must occur. Raises ValueError otherwise, ImportError
    where scikit-learn is not installed.
    """
    check_answers(probabilities, list(labels))
    try:
        from sklearn.metrics import accuracy_score, f1_score, roc_auc_score
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    n_labels = np.shape(probabilities)[1]
    if set(labels) != set(range(n_labels)):
        raise ValueError(f"each of the {n_labels} labels must occur, got {sorted(set(labels))}")
    probabilities, labels = np.asarray(probabilities), np.asarray(labels)
    given = probabilities.argmax(axis=1)
    areas = [roc_auc_score(labels == j, probabilities[:, j]) for j in range(n_labels)]
    return {
        "accuracy": float(accuracy_score(labels, given)),
        "macro F1": float(f1_score(labels, given, average="macro", zero_division=0)),
        "ROC-AUC": float(np.mean(areas)),
    }


def confusion(probabilities: np.ndarray, labels: Sequence[int]) -> np.ndarray:
    """How many texts of each label (row) were given each label (column): integers (N, N)."""
    check_answers(probabilities, list(labels))
    found = np.zeros((np.shape(probabilities)[1],) * 2, int)
    np.add.at(found, (np.asarray(labels), np.argmax(probabilities, axis=1)), 1)
    return found


def fit_words(texts: Sequence[str], labels: Sequence[int]) -> Any:
    """The baseline: a linear classifier of the words of a text, each weighted by how rare it is (TF-IDF).

    It is scikit-learn's, with `predict_proba(texts)`. Source: Sebastiani 2002, sections 5 and 6. Raises ImportError
    where scikit-learn is not installed.
    """
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return make_pipeline(TfidfVectorizer(sublinear_tf=True), _logistic_regression()).fit(texts, labels)


def fit_vectors(vectors: np.ndarray, labels: Sequence[int]) -> Any:
    """A linear classifier of vectors (n, D), scikit-learn's logistic regression, with `predict_proba(vectors)`.

    Raises ImportError where scikit-learn is not installed.
    """
    return _logistic_regression().fit(vectors, labels)


def _logistic_regression():
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ImportError(_EXTRA) from error
    return LogisticRegression(C=STRENGTH, max_iter=3000)


@dataclass(frozen=True)
class Bin:
    """Answers whose confidence lies in one interval: how many, their mean confidence, and the share that is right."""

    count: int
    confidence: float
    accuracy: float


def reliability(probabilities: np.ndarray, labels: Sequence[int], n_bins: int = 10) -> list[Bin]:
    """The answers by their confidence, the largest probability, in intervals of one width; empty ones are left out.

    Source: Guo et al. 2017, section 2.
    """
    check_answers(probabilities, list(labels))
    confidence = np.max(probabilities, axis=1)
    right = np.argmax(probabilities, axis=1) == np.asarray(labels)
    number = np.minimum((confidence * check_count("n_bins", n_bins)).astype(int), n_bins - 1)
    chosen = [number == i for i in range(n_bins)]
    return [
        Bin(int(some.sum()), float(confidence[some].mean()), float(right[some].mean())) for some in chosen if some.any()
    ]


def calibration_error(probabilities: np.ndarray, labels: Sequence[int], n_bins: int = 10) -> float:
    """The expected calibration error (ECE): the distance of confidence and accuracy, the mean over all answers.

    Both are means of the bin in which an answer lies, see `reliability`. Source: Guo et al. 2017, equation 3.
    """
    bins = reliability(probabilities, labels, n_bins)
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total


def log_loss(logits: np.ndarray, labels: Sequence[int], temperature: float = 1.0) -> float:
    """The mean negative log probability of the right labels, in nats."""
    shares = softmax(logits, temperature)[np.arange(len(labels)), np.asarray(labels)]
    return float(-np.log(np.maximum(shares, 1e-300)).mean())


def best_temperature(logits: np.ndarray, labels: Sequence[int]) -> float:
    """The temperature under which the labels are most likely, between 0.1 and 10, to three digits.

    It is found on texts that are not scored afterwards. No answer changes, since all logits of a row are divided by
    one number. The log loss has one minimum, which golden sections close in on. Source: Guo et al. 2017, section 4.2.
    """
    check_answers(logits, list(labels))
    low, high = np.log(0.1), np.log(10.0)
    golden = (np.sqrt(5) - 1) / 2
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if log_loss(logits, labels, np.exp(left)) < log_loss(logits, labels, np.exp(right)):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))
