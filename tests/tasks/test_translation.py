"""Chinese numerals, dates and times and their translations: right by readers of both languages that share no code."""

import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import refuses
from tfguide.tasks import translation
from tfguide.tasks.numerals import numeral, ordinal, read_words, words, year_words
from tfguide.tasks.own import exact_match
from tfguide.tasks.translation import Pair, Vocabulary, date_pair, pairs, read_pairs, time_pair

VALUES = {character: i for i, character in enumerate("零一二三四五六七八九")} | {"两": 2, "〇": 0}
UNITS = {"十": 10, "百": 100, "千": 1000, "万": 10**4, "亿": 10**8}
ENGLISH = {words(n): n for n in [*range(20), *range(20, 100, 10)]}  # one word each; a test holds the list
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
NUMBERS = (
    st.integers(0, 10**12 - 1)
    | st.integers(0, 12).map(lambda k: min(10**k, 10**12 - 1))
    | st.lists(st.sampled_from("0012"), min_size=1, max_size=12).map(lambda digits: int("".join(digits)))
)


def from_chinese(text):
    """The number that a numeral says: a unit multiplies the digit before it, 万 and 亿 the group before them."""
    total, group, digit = 0, 0, None
    for character in text:
        if character in VALUES:
            digit = VALUES[character]
        elif UNITS[character] < 10**4:
            group, digit = group + UNITS[character] * (1 if digit in (None, 0) else digit), None
        else:
            total, group, digit = total + (group + (digit or 0)) * UNITS[character], 0, None
    return total + group + (digit or 0)


def from_english(text):
    total, part = 0, 0
    for word in text.replace("-", " ").split():
        if word in SCALES:
            total, part = total + part * SCALES[word], 0
        elif word == "hundred":
            part *= 100
        else:
            part += ENGLISH[word]
    return total + part


def test_the_words_of_the_small_numbers():
    spoken = (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
        "seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
    )
    assert " ".join(ENGLISH) == spoken


@given(NUMBERS)
def test_both_languages_say_the_number(n):
    assert from_chinese(numeral(n)) == n
    assert from_english(words(n)) == read_words(words(n)) == n


@given(NUMBERS)
def test_zeros_are_said_once_and_two_in_its_two_ways(n):
    text = numeral(n)
    assert "零零" not in text and (n == 0 or not text.endswith("零")) and not text.startswith("一十")
    assert not re.search("二千|两十|两百|两$", text)
    assert not re.search("(?<![十百千])(?<![十百千]零)二[万亿]", text)
    assert not re.search("零[十百千万亿]", text)


@pytest.mark.parametrize(
    ("n", "chinese"),
    [
        (0, "零"), (10, "十"), (12, "十二"), (22, "二十二"), (110, "一百一十"), (202, "二百零二"),
        (1010, "一千零一十"), (2222, "两千二百二十二"), (20_000, "两万"), (22_000, "两万两千"),
        (100_500, "十万零五百"), (101_000, "十万一千"), (120_000, "十二万"), (1_000_010, "一百万零一十"),
        (2_002_002, "二百万两千零二"), (10_010_000, "一千零一万"), (100_005_000, "一亿零五千"),
        (100_020_003, "一亿零两万零三"), (200_000_000, "两亿"),
    ],
)  # fmt: skip
def test_numerals_as_they_are_written(n, chinese):
    assert numeral(n) == chinese


@given(st.dates(datetime.date(1100, 1, 1), datetime.date(2099, 12, 31)), st.booleans())
def test_a_date_can_be_read_again(date, weekday):
    pair = date_pair(date, weekday)
    year, month, day, name = re.fullmatch("(.{4})年(.+)月(.+?)日(?:星期(.))?", pair.source).groups()
    found = int("".join(str(VALUES[digit]) for digit in year)), from_chinese(month), from_chinese(day)
    assert datetime.date(*found) == date
    assert (name is not None) == weekday and (not weekday or "一二三四五六日"[date.weekday()] == name)
    start = date.strftime("%A, %B " if weekday else "%B ")
    assert pair.target.startswith(start)
    day_said, year_said = pair.target.removeprefix(start).split(", ")
    assert day_said == ordinal(date.day) and year_said == year_words(date.year)


@given(st.integers(1100, 2099))
def test_a_year_can_be_read_again(year):
    text = year_words(year)
    if "hundred" in text or "thousand" in text:
        assert from_english(text) == year
    else:
        first, rest = text.split(" ", 1)
        assert 100 * from_english(first) + from_english(rest.removeprefix("oh ")) == year


@given(st.integers(0, 23), st.integers(0, 59), st.booleans())
def test_a_time_can_be_read_again(hour, minute, to_the_hour):
    pair = time_pair(hour, minute, to_the_hour)
    text, part = re.fullmatch("(.+) (at night|in the .+)", pair.target).groups()
    if " to " in text:
        left, following = text.split(" to ")
        left = 15 if left == "a quarter" else from_english(left)
        found = (from_english(following) - 1) % 12, 60 - left
    elif " past " in text:
        passed, at = text.split(" past ")
        found = from_english(at) % 12, {"half": 30, "a quarter": 15}[passed]
    elif "o'clock" in text:
        found = from_english(text.split()[0]) % 12, 0
    else:
        at, passed = text.split(" ", 1)
        found = from_english(at) % 12, from_english(passed.removeprefix("oh "))
    assert found == (hour % 12, minute)
    assert part == ["at night", "in the morning", "in the afternoon", "in the evening"][hour // 6]
    assert pair.source[:2] == ["凌晨", "上午", "下午", "晚上"][hour // 6]


def test_one_source_has_one_translation_and_what_is_held_out_is_not_trained_on():
    learned, held_out = pairs(20_000), pairs(600, held_out=True)
    answers = {}
    for pair in learned + held_out:
        assert answers.setdefault(pair.source, pair.target) == pair.target
    assert {pair.source for pair in learned}.isdisjoint(pair.source for pair in held_out)
    assert len({pair.source for pair in held_out}) == 600
    digits = [len(str(from_english(pair.target))) for pair in learned if pair.kind == "number"]
    assert all(0.05 < digits.count(n) / len(digits) < 0.2 for n in range(1, translation.DIGITS + 1))
    lengths = {len(pair.source) for pair in learned}
    assert lengths == set(range(1, 20)) - {12}
    longest = numeral(12345678912)
    assert len(longest) == 21 == max(translation.HELD_OUT_LENGTHS) and len(numeral(10**translation.DIGITS - 1)) == 21
    unseen = [pair for pair in held_out if translation.group_of(pair) == translation.UNSEEN]
    assert {len(pair.source) for pair in unseen} == {12, 20, 21}
    for kind, share in (("number", 0.5), ("date", 0.5), ("time", 0)):
        among = [pair for pair in held_out if pair.kind == kind]
        assert abs(sum(pair in unseen for pair in among) / len(among) - share) < 0.1
    assert {pair.kind for pair in held_out} == set(translation.KINDS)
    assert pairs(50) == pairs(50) != pairs(50, seed=1)


def test_bad_input():
    for call in (lambda: numeral(10**12), lambda: words(-1), lambda: time_pair(24, 0), lambda: ordinal(0)):
        with pytest.raises(ValueError):
            call()
    with refuses(ValueError, "'and' is no part of a number"):
        read_words("one hundred and one")
    with refuses(ValueError, "got 'numbers'; did you mean 'number'?"):
        pairs(3, kinds=("numbers",))
    with refuses(ValueError, "of time are held out, got n=500"):
        pairs(500, held_out=True, kinds=("time",))


def test_a_vocabulary_gives_every_translation_back():
    some = pairs(3000)
    vocabulary = Vocabulary.of(some)
    assert len(vocabulary) < 150
    for pair in some + pairs(600, held_out=True):
        ids = vocabulary.target(pair.target)
        assert (ids[0], ids[-1]) == (translation.START, translation.END)
        assert vocabulary.text(ids) == pair.target
        assert vocabulary.text([*ids, 5, translation.PAD]) == pair.target  # what follows END does not count
        source = vocabulary.source(pair.source)
        assert "".join(vocabulary.pieces[i] for i in source[:-1]) == pair.source and source[-1] == translation.END
    with refuses(ValueError, "has '猫', which is not in the vocabulary"):
        vocabulary.source("猫")


def test_pairs_of_your_own(tmp_path):
    file = tmp_path / "pairs.tsv"
    file.write_text("猫\tcat\n\n狗 \t a dog\r\n", encoding="utf-8")
    assert read_pairs(file) == [Pair("猫", "cat"), Pair("狗", "a dog")]
    for text in ("猫 cat\n", "猫\t\n", "a\tb\tc\n"):
        file.write_text(text, encoding="utf-8")
        with refuses(ValueError, "line 1: expected a source, a tab and its translation"):
            read_pairs(file)
    file.write_text("\n\n")
    with refuses(ValueError, "holds nothing: expected a source, a tab and its translation on each line"):
        read_pairs(file)


def test_scores():
    wanted = [pair.target for pair in pairs(20)]
    assert exact_match(wanted, wanted) == 1 and exact_match([*wanted[:-1], "no"], wanted) == 0.95
    with refuses(ValueError, "as many answers as right ones, and at least one, got 1 and 2"):
        exact_match(["a"], ["a", "b"])
    pytest.importorskip("sacrebleu", reason="the tasks extra is not installed")
    assert translation.bleu(wanted, wanted) == pytest.approx(100)
    assert 0 <= translation.bleu(["one"] * 20, wanted) < 10
