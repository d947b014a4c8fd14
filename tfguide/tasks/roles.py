"""Semantic role labelling: who did what to whom, when and where, in sentences from a grammar. The text is synthetic.

The roles are PropBank's: A0 does it, A1 has it done to it, A2 receives, A4 is where a motion ends; AM-TMP, AM-LOC and
AM-MNR say when, where and how, AM-NEG and AM-MOD are "not" and a modal verb, V is the predicate itself. The same words
have other roles in other constructions: "Anna broke the window" and "the window broke", "the key was given to Ben" and
"Ben was given the key". Some verbs are held out, so that what a model knows of verbs can be told from what it has
learned of places. Source: Palmer et al. 2005; the shared task of Carreras & Marquez 2005 for the tags.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tfguide.checks.values import check_count
from tfguide.tasks.own import check_answers, read_text

ROLES = ("V", "A0", "A1", "A2", "A4", "AM-TMP", "AM-LOC", "AM-MNR", "AM-NEG", "AM-MOD")
TAGS = ("O", *(f"{edge}-{role}" for role in ROLES for edge in "BI"))

# Base form, past and participle, by what a verb does with its arguments. The last three of each kind are held out.
VERBS = {
    "transfer": (
        "give gave given", "send sent sent", "lend lent lent", "sell sold sold", "offer offered offered",
        "show showed shown", "bring brought brought", "hand handed handed", "mail mailed mailed", "pass passed passed",
    ),
    "action": (
        "paint painted painted", "read read read", "write wrote written", "clean cleaned cleaned", "buy bought bought",
        "find found found", "carry carried carried", "repair repaired repaired", "watch watched watched",
        "steal stole stolen", "admire admired admired", "build built built", "hide hid hidden",
    ),
    "change": (
        "break broke broken", "open opened opened", "close closed closed", "melt melted melted", "burn burned burned",
        "sink sank sunk", "freeze froze frozen", "crack cracked cracked", "tear tore torn",
    ),
    "motion": (
        "walk walked walked", "travel traveled traveled", "run ran run", "swim swam swum", "drive drove driven",
        "march marched marched", "sail sailed sailed", "hurry hurried hurried",
    ),
    "speech": (
        "say said said", "believe believed believed", "know knew known", "hope hoped hoped", "claim claimed claimed",
        "announce announced announced", "suspect suspected suspected",
    ),
}  # fmt: skip
HELD_OUT_VERBS = 3  # of each kind

_PEOPLE = (
    "Anna", "Ben", "Professor Lee", "Mrs Novak", "the teacher", "an old man", "two students", "my neighbour",
    "the girl with the red hat", "a friend from Paris", "the captain of the team", "every child", "the new doctor",
)  # fmt: skip
_THINGS = (
    "a book", "the key to the house", "three letters", "the picture of a horse", "some flowers", "the old radio",
    "a box of chocolates", "the map on the wall", "her bicycle", "a silver ring", "the report about the accident",
)  # fmt: skip
_TO_READ = ("a book", "three letters", "the report about the accident", "the map on the wall")
_LARGE = ("her bicycle", "the wooden boat", "the gate to the park", "the door of the garage", "two old chairs")
# What a verb is done to, where not everything is.
_OBJECTS = {
    "read": _TO_READ, "write": _TO_READ[:3], "paint": _LARGE, "repair": _LARGE, "build": _LARGE,
    "watch": ("the match on the beach", "two birds", "the ships from the north", "an old film"),
    "break": ("the window", "a large vase", "two cups", "the handle of the door"),
    "open": ("the window", "the door of the garage", "the gate to the park", "two boxes"),
    "close": ("the window", "the door of the garage", "the gate to the park", "two drawers"),
    "melt": ("the ice", "some butter", "the snow on the roof"),
    "burn": ("the letter from the bank", "the wooden boat", "two old chairs", "the house at the corner"),
    "sink": ("the wooden boat", "two ships", "the ferry to the island"),
    "freeze": ("the lake", "some water", "the fish from the market"),
    "crack": ("the ice", "a large vase", "two eggs"),
    "tear": ("the map on the wall", "some paper", "the sail of the boat"),
}  # fmt: skip
_PLURAL = ("two", "three", "some")
_GOALS = ("to the station", "to Berlin", "into the forest", "towards the lake", "to the end of the street")
_TIMES = ("yesterday", "on Monday", "last week", "in the evening", "at noon", "after the storm", "two days ago")
_PLACES = (
    "in the garden",
    "at the market",
    "behind the school",
    "near the river",
    "in a small village",
    "on the bridge",
)
_MANNERS = ("quickly", "without a word", "with great care", "slowly", "in silence", "happily")
_MODALS = ("will", "can", "should", "might")


@dataclass(frozen=True)
class Sentence:
    """The words of a sentence, the place of the predicate that is asked about, and a tag of TAGS for each word."""

    words: tuple[str, ...]
    predicate: int
    tags: tuple[str, ...]

    def spans(self) -> list[tuple[str, str]]:
        """The roles with their words, in order."""
        return [(role, " ".join(self.words[first:end])) for role, first, end in spans_of(self.tags)]


def spans_of(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The roles of tags with the first word of each span and the one behind it.

    >>> spans_of(["B-A0", "I-A0", "B-V", "O"])
    [('A0', 0, 2), ('V', 2, 3)]
    """
    found: list[tuple[str, int, int]] = []
    for i, tag in enumerate(tags):
        if tag.startswith("I-") and found and found[-1][0] == tag[2:] and found[-1][2] == i:
            found[-1] = (tag[2:], found[-1][1], i + 1)
        elif tag != "O":
            found.append((tag[2:], i, i + 1))
    return found


def sentences(n: int, seed: int = 0, held_out_verbs: bool = False) -> list[Sentence]:
    """`n` sentences, always the same for a seed: with verbs to train on, or with those that are held out.

    >>> one = sentences(1, seed=4)[0]
    >>> len(one.words) == len(one.tags) and one.tags[one.predicate]
    'B-V'
    """
    draws = np.random.default_rng([seed, held_out_verbs])
    return [_sentence(draws, held_out_verbs) for _ in range(check_count("n", n))]


def by_position(sentence: Sentence) -> list[str]:
    """The baseline: what stands before the predicate is A0, what stands behind it is A1."""
    tags, at = [], sentence.predicate
    for first, last, role in ((0, at, "A0"), (at, at + 1, "V"), (at + 1, len(sentence.words), "A1")):
        tags += [f"{'I' if i > first else 'B'}-{role}" for i in range(first, last)]
    return tags


def span_f1(given: Sequence[Sequence[str]], wanted: Sequence[Sequence[str]]) -> dict[str, float]:
    """The F1 of whole spans by seqeval, over all roles ("all", each span once) and for each role; V does not count.

    Raises ValueError for lists of unequal lengths, ImportError where seqeval is not installed.
    """
    check_answers(given, wanted)
    for i, (one, other) in enumerate(zip(given, wanted, strict=True)):
        if len(one) != len(other):
            raise ValueError(f"sentence {i} has {len(other)} words, got {len(one)} tags")
    try:
        from seqeval.metrics import classification_report
    except ImportError as error:
        raise ImportError("spans are compared by seqeval: pip install 'tfguide[tasks]'") from error
    both = [[["O" if tag.endswith("-V") else tag for tag in row] for row in rows] for rows in (wanted, given)]
    report = classification_report(*both, output_dict=True, zero_division=0)
    roles = {role: float(report[role]["f1-score"]) for role in ROLES if role in report}
    return {"all": float(report["micro avg"]["f1-score"])} | roles


def read_sentences(path: str | os.PathLike) -> list[Sentence]:
    """Sentences of your own: a file in UTF-8 with a word, a tab and its tag on each line, an empty line between two.

    Each sentence has one predicate, tagged B-V. Raises ValueError with the number of a line that is wrong, and
    as `read_text`.
    """
    found, rows = [], []
    for number, line in enumerate([*read_text(path).splitlines(), ""], 1):
        if line.strip():
            parts = line.split("\t")
            if len(parts) != 2 or not parts[0].strip() or parts[1].strip() not in TAGS:
                raise ValueError(
                    f"{os.fspath(path)}, line {number}: expected a word, a tab and a tag, got {line!r:.60}"
                )
            rows.append((parts[0].strip(), parts[1].strip()))
        elif rows:
            words, tags = zip(*rows, strict=True)
            if tags.count("B-V") != 1:
                raise ValueError(
                    f"{os.fspath(path)}, line {number - 1}: expected one B-V in a sentence, got {tags.count('B-V')}"
                )
            found.append(Sentence(words, tags.index("B-V"), tags))
            rows = []
    if not found:
        raise ValueError(f"{os.fspath(path)} holds no sentence")
    return found


def _sentence(draws, held_out):
    kinds = list(VERBS)
    kind = kinds[draws.integers(len(kinds))]
    if kind != "speech":
        return _finished(*_clause(draws, kind, held_out))
    # A verb of saying has a whole clause as its A1, which has a predicate of its own: either may be asked about.
    inner, _ = _clause(draws, kinds[draws.integers(len(kinds) - 1)], held_out)
    said = _verb(draws, "speech", held_out)
    speaker = _one(draws, _PEOPLE)
    outer = [(speaker, "A0"), *_predicate(draws, said)]
    if draws.integers(2):
        parts = [*outer, ("that " + " ".join(text for text, _ in inner), "A1")]
    else:
        parts = [*((text, "O") for text, _ in outer), ("that", "O"), *inner]
    return _finished(parts, None)


def _clause(draws, kind, held_out):
    """The parts of a clause, each a text and a role, and the time that may stand in front of it instead."""
    verb, who = _verb(draws, kind, held_out), _one(draws, _PEOPLE)
    what = _one(draws, _OBJECTS.get(verb[0], _THINGS))
    whom = _one(draws, [one for one in _PEOPLE if one != who])
    active = _predicate(draws, verb)
    passive = _passive(draws, verb)
    by = [[("by " + who, "A0")], []][draws.integers(2)]
    if kind == "transfer":
        parts = [
            [(who, "A0"), *active, (what, "A1"), ("to " + whom, "A2")],
            [(who, "A0"), *active, (whom, "A2"), (what, "A1")],
            [(what, "A1"), *passive(what), ("to " + whom, "A2"), *by],
            [(whom, "A2"), *passive(whom), (what, "A1"), *by],
        ][draws.integers(4)]
    elif kind == "action":
        parts = [[(who, "A0"), *active, (what, "A1")], [(what, "A1"), *passive(what), *by]][draws.integers(2)]
    elif kind == "change":
        parts = [
            [(who, "A0"), *active, (what, "A1")],
            [(what, "A1"), *active],
            [(what, "A1"), *passive(what), *by],
        ][draws.integers(3)]
    else:
        parts = [(who, "A0"), *active, *([[(_one(draws, _GOALS), "A4")], []][draws.integers(2)])]
    for texts, role in ((_MANNERS, "AM-MNR"), (_PLACES, "AM-LOC")):
        if draws.random() < 0.3:
            parts.append((_one(draws, texts), role))
    time = _one(draws, _TIMES)
    where = draws.random()
    return [*parts, (time, "AM-TMP")] if where < 0.3 else parts, time if 0.3 <= where < 0.5 else None


def _predicate(draws, verb):
    """A verb in the past, or with a modal verb, a negation or both."""
    base, past, _ = verb
    way = draws.integers(6)
    if way == 0:
        return [("did", "O"), ("not", "AM-NEG"), (base, "V")]
    if way == 1:
        return [(_one(draws, _MODALS), "AM-MOD"), (base, "V")]
    if way == 2:
        return [(_one(draws, _MODALS), "AM-MOD"), ("not", "AM-NEG"), (base, "V")]
    return [(past, "V")]


def _passive(draws, verb):
    """A function of the subject: the verb in the passive."""
    way, modal = draws.integers(5), _one(draws, _MODALS)

    def after(subject):
        if way == 0:
            return [(modal, "AM-MOD"), ("be", "O"), (verb[2], "V")]
        be = "were" if subject.split()[0] in _PLURAL else "was"
        return [(be, "O"), *([("not", "AM-NEG")] if way == 1 else []), (verb[2], "V")]

    return after


def _verb(draws, kind, held_out):
    some = VERBS[kind][-HELD_OUT_VERBS:] if held_out else VERBS[kind][:-HELD_OUT_VERBS]
    return _one(draws, some).split()


def _one(draws, texts):
    return texts[draws.integers(len(texts))]


def _finished(parts, time):
    """The sentence of these parts, with the time in front where there is one."""
    parts = [*([(time, "AM-TMP"), (",", "O")] if time else []), *parts, (".", "O")]
    words, tags = [], []
    for text, role in parts:
        own = text.split()
        words += own
        tags += ["O"] * len(own) if role == "O" else [f"B-{role}", *[f"I-{role}"] * (len(own) - 1)]
    words[0] = words[0][0].upper() + words[0][1:]
    return Sentence(tuple(words), tags.index("B-V"), tuple(tags))
