"""Machine translation with exact answers: Chinese numerals, dates and times to English words.

There are as many examples as one likes, each with one right translation, and sources of some lengths are held out, one
inside the range and the longest: a model that has tied what it learned to places in the text fails there. The
languages differ in what they group (万 is ten thousand, and English has no word for it), in order (the year comes
first in Chinese and last in English) and in length.
"""

from __future__ import annotations

import datetime
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfguide.checks.values import check_choice, check_count
from tfguide.tasks.numerals import FIRST_YEAR, below_100, numeral, ordinal, words, year_words
from tfguide.tasks.own import read_columns

DIGITS = 11  # of the longest number
HELD_OUT_LENGTHS = (12, 20, 21)  # sources of so many characters are never trained on; 21 is the longest
UNSEEN = "unseen length"
ZEROS = (0.0, 0.25, 0.6)  # shares of the digits of a number that are set to 0, one for each number
HELD_OUT = 20  # of the other sources one in so many is held out
YEARS = (FIRST_YEAR, 2099)
KINDS = ("number", "date", "time")
TURNS = ("number", "date", "number", "date", "number", "time")  # there are few times
PAD, START, END = 0, 1, 2  # token ids

_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PARTS_OF_DAY = {"凌晨": "at night", "上午": "in the morning", "下午": "in the afternoon", "晚上": "in the evening"}


@dataclass(frozen=True)
class Pair:
    """A source text, its translation, and which of `KINDS` it is; "" for a text of your own."""

    source: str
    target: str
    kind: str = ""


def date_pair(date: datetime.date, weekday: bool = False) -> Pair:
    """A date in both languages, with the day of the week where it is asked for.

    >>> pair = date_pair(datetime.date(2024, 3, 15), weekday=True)
    >>> pair.source, pair.target
    ('二〇二四年三月十五日星期五', 'Friday, March fifteenth, twenty twenty-four')
    """
    digits = "".join("〇" if digit == "0" else numeral(int(digit)) for digit in str(date.year))
    source = f"{digits}年{numeral(date.month)}月{numeral(date.day)}日"
    target = f"{_MONTHS[date.month - 1]} {ordinal(date.day)}, {year_words(date.year)}"
    if weekday:
        source += "星期" + ("日" if date.weekday() == 6 else numeral(date.weekday() + 1))
        target = f"{_WEEKDAYS[date.weekday()]}, {target}"
    return Pair(source, target, "date")


def time_pair(hour: int, minute: int, to_the_hour: bool = False) -> Pair:
    """A time of day in both languages; hour 0 to 23.

    to_the_hour: from the 31st minute on, say how many are left. Chinese has words for the quarters and the half, and
    two o'clock is 两点.

    >>> for pair in (time_pair(14, 0), time_pair(9, 30), time_pair(20, 45), time_pair(2, 55, True)):
    ...     print(pair.source, "|", pair.target)
    下午两点整 | two o'clock in the afternoon
    上午九点半 | half past nine in the morning
    晚上八点三刻 | eight forty-five in the evening
    凌晨差五分三点 | five to three at night
    """
    hour, minute = check_count("hour", hour, least=0), check_count("minute", minute, least=0)
    if hour > 23 or minute > 59:
        raise ValueError(f"expected an hour up to 23 and a minute up to 59, got {hour} and {minute}")
    part = list(_PARTS_OF_DAY)[0 if hour < 6 else 1 if hour < 12 else 2 if hour < 18 else 3]
    if to_the_hour and minute > 30:
        left, following = 60 - minute, (hour + 1) % 12 or 12
        source = f"差{'一刻' if left == 15 else numeral(left) + '分'}{_hour(following)}"
        target = f"{'a quarter' if left == 15 else below_100(left)} to {below_100(following)}"
    else:
        at = hour % 12 or 12
        source, target = _hour(at), below_100(at)
        if minute == 0:
            source, target = source + "整", target + " o'clock"
        elif minute == 30:
            source, target = source + "半", f"half past {target}"
        elif minute == 15:
            source, target = source + "一刻", f"a quarter past {target}"
        else:
            source += "三刻" if minute == 45 else f"{'零' * (minute < 10)}{numeral(minute)}分"
            target += f" {'oh ' * (minute < 10)}{below_100(minute)}"
    return Pair(part + source, f"{target} {_PARTS_OF_DAY[part]}", "time")


def group_of(pair: Pair) -> str:
    """The group in which a pair is scored: `UNSEEN` for a source of a length never trained on, else its kind."""
    return UNSEEN if len(pair.source) in HELD_OUT_LENGTHS else pair.kind


def is_held_out(pair: Pair) -> bool:
    """Whether no model is trained on the pair: its source has one of HELD_OUT_LENGTHS, or is of the one in HELD_OUT
    that a checksum chooses."""
    return group_of(pair) == UNSEEN or zlib.crc32(pair.source.encode()) % HELD_OUT == 0


def pairs(n: int, seed: int = 0, held_out: bool = False, kinds: Sequence[str] = TURNS) -> list[Pair]:
    """`n` pairs of kinds in turn, always the same for a seed: to train on, or held out.

    Numbers have each count of digits equally often. Held out, about half of the numbers and dates have one of
    HELD_OUT_LENGTHS; no time is so long. To train on, a pair may come again; held out it does not. Raises ValueError
    for an unknown kind, and for more pairs than are held out.
    """
    n = check_count("n", n)
    for kind in kinds:
        check_choice("kinds", kind, KINDS)
    draws, found, sources, tries = np.random.default_rng([seed, held_out]), [], set(), 0
    while len(found) < n:
        pair = _draw(kinds[len(found) % len(kinds)], draws, held_out)
        tries += 1
        if not (held_out and pair.source in sources):
            found.append(pair)
            sources.add(pair.source)
            tries = 0
        elif tries == 1000:
            raise ValueError(f"only {len(found)} pairs of {', '.join(dict.fromkeys(kinds))} are held out, got n={n}")
    return found


def _draw(kind, draws, held_out):
    """A random pair, of those that are held out or of the others."""
    length = int(draws.choice([HELD_OUT_LENGTHS[0]] if kind == "date" else HELD_OUT_LENGTHS))
    unseen = held_out and kind != "time" and bool(draws.integers(2))
    digits = [n for n in range(1, DIGITS + 1) if n > 2 or not held_out]  # of one digit and two there are few
    while True:
        if kind == "number":
            pair = _draw_number(int(draws.choice(digits)), draws)
        elif kind == "date":
            first, last = datetime.date(YEARS[0], 1, 1), datetime.date(YEARS[1], 12, 31)
            day = first + datetime.timedelta(int(draws.integers((last - first).days + 1)))
            pair = date_pair(day, bool(draws.integers(2)))
        else:
            pair = time_pair(int(draws.integers(24)), int(draws.integers(60)), bool(draws.integers(2)))
        if is_held_out(pair) == held_out and (len(pair.source) == length if unseen else group_of(pair) != UNSEEN):
            return pair


def _draw_number(digits, draws):
    n = int(draws.integers(10 ** (digits - 1) if digits > 1 else 0, 10**digits))
    # Zeros between digits have their own rules, and are rare where all digits are equally likely.
    for place in np.flatnonzero(draws.random(digits - 1) < draws.choice(ZEROS)):
        n -= n // 10 ** int(place) % 10 * 10 ** int(place)
    return Pair(numeral(n), words(n), "number")


def read_pairs(path: str | os.PathLike) -> list[Pair]:
    """Pairs of your own: a file in UTF-8 with a source, a tab and its translation on each line. Raises as
    `read_columns`."""
    return [Pair(*columns) for columns in read_columns(path, "a source, a tab and its translation")]


class Vocabulary:
    """Token ids of both languages, one table: characters of the source, words of the target.

    A word that ends in "-" stands before another one without a space, as a comma stands behind one.
    Ids 0, 1 and 2 are PAD, START and END. pieces: what the other ids stand for, in their order. Raises ValueError for a
    text with a part that the vocabulary does not have.
    """

    def __init__(self, pieces: Iterable[str]):
        self.pieces = ("", "<start>", "<end>", *pieces)
        self._ids = {piece: i for i, piece in enumerate(self.pieces)}

    @classmethod
    def of(cls, texts: Iterable[Pair]) -> Vocabulary:
        """The vocabulary that pairs need."""
        seen: set[str] = set()
        for pair in texts:
            seen |= {*pair.source, *_pieces(pair.target)}
        return cls(sorted(seen))

    @classmethod
    def read(cls, path: str | os.PathLike) -> Vocabulary:
        """The vocabulary in a file that holds what `to_json` wrote."""
        return cls(json.loads(Path(path).read_text(encoding="utf-8")))

    def to_json(self) -> str:
        """The pieces behind PAD, START and END, in their order."""
        return json.dumps(self.pieces[END + 1 :], ensure_ascii=False) + "\n"

    def __len__(self) -> int:
        return len(self.pieces)

    def source(self, text: str) -> list[int]:
        """The ids of a text to translate, with END behind it."""
        return [*self._find(text, text), END]

    def target(self, text: str) -> list[int]:
        """The ids of a translation: START, its words, END."""
        return [START, *self._find(_pieces(text), text), END]

    def text(self, ids: Iterable[int]) -> str:
        """The text of a translation's ids, up to END."""
        found = ""
        for i in ids:
            if i == END:
                break
            if i not in (PAD, START):
                piece = self.pieces[i]
                found += piece if not found or piece == "," or found.endswith("-") else f" {piece}"
        return found

    def _find(self, pieces, text):
        unknown = [piece for piece in pieces if piece not in self._ids]
        if unknown:
            raise ValueError(f"{text!r:.60} has {unknown[0]!r}, which is not in the vocabulary")
        return [self._ids[piece] for piece in pieces]


def bleu(translations: Sequence[str], wanted: Sequence[str]) -> float:
    """BLEU of a corpus, 0 to 100, by sacrebleu with its defaults (13a, case counts). Source: Papineni et al. 2002;
    Post 2018. Raises ImportError where sacrebleu is not installed."""
    try:
        import sacrebleu
    except ImportError as error:
        raise ImportError("BLEU is computed by sacrebleu: pip install 'tfguide[tasks]'") from error
    return sacrebleu.corpus_bleu(list(translations), [list(wanted)]).score


def _hour(hour):
    return ("两" if hour == 2 else numeral(hour)) + "点"


def _pieces(text):
    """The words of a translation: commas by themselves, and hyphens with the word before."""
    return text.replace("-", "- ").replace(",", " ,").split()
