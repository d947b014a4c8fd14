"""Numbers in words: Chinese numerals, and English cardinals, ordinals and years."""

from __future__ import annotations

from tfguide.checks.values import check_count

FIRST_YEAR = 1100  # before it a year is not read two by two

_CHINESE = "零一二三四五六七八九"
_UNITS = ("", "十", "百", "千")
_GROUPS = ("", "万", "亿")
_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_THOUSANDS = ("", "thousand", "million", "billion")
_IRREGULAR = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip


def numeral(n: int) -> str:
    """A number from 0 below 10**12 as it is read in Chinese.

    Digits stand in groups of four, each with its unit; 零 stands once for zeros between digits; 2 is 两 before 千, 万
    and 亿. Raises ValueError outside this range.

    >>> [numeral(n) for n in (10, 215, 2002, 100500, 20000003)]
    ['十', '二百一十五', '两千零二', '十万零五百', '两千万零三']
    """
    n = check_count("n", n, least=0)
    if n >= 10**12:
        raise ValueError(f"n must be below 10**12, got {n}")
    if n == 0:
        return "零"
    text, zero = "", False  # whether zeros have passed that no digit of their group stood before
    for place in reversed(range(len(str(n)))):
        (group, unit), digit = divmod(place, 4), n // 10**place % 10
        in_group = n // 10 ** (4 * group) % 10**4
        if digit:
            text += "零" * (zero and bool(text))
            two = "两" if unit == 3 or (group and in_group == 2) else "二"
            text += (two if digit == 2 else _CHINESE[digit]) + _UNITS[unit]
        zero = not digit
        if unit == 0 and in_group:
            text += _GROUPS[group]
            zero = False  # the zeros at the end of a group are not read
    return text.removeprefix("一") if text.startswith("一十") else text


def words(n: int) -> str:
    """A number from 0 below 10**12 in English words, as in the United States: without "and".

    >>> words(20405), words(101)
    ('twenty thousand four hundred five', 'one hundred one')
    """
    n = check_count("n", n, least=0)
    if n >= 10**12:
        raise ValueError(f"n must be below 10**12, got {n}")
    found = []
    for group in reversed(range(len(_THOUSANDS))):
        part = n // 1000**group % 1000
        if part >= 100:
            found += [_SMALL[part // 100], "hundred"]
        if part % 100:
            found.append(below_100(part % 100))
        if part and group:
            found.append(_THOUSANDS[group])
    return " ".join(found) or "zero"


def read_words(text: str) -> int:
    """The number that `words` wrote so. Raises ValueError for a word that is none of a number.

    >>> read_words("twenty thousand four hundred five")
    20405
    """
    total, part = 0, 0
    for word in text.replace("-", " ").split():
        if word in _THOUSANDS:
            total, part = total + part * 1000 ** _THOUSANDS.index(word), 0
        elif word == "hundred":
            part *= 100
        elif word in _SMALL:
            part += _SMALL.index(word)
        elif word in _TENS:
            part += 10 * _TENS.index(word)
        else:
            raise ValueError(f"{word!r} is no part of a number")
    return total + part


def ordinal(n: int) -> str:
    """A number from 1 to 99 as an ordinal. Raises ValueError outside.

    >>> ordinal(1), ordinal(12), ordinal(20), ordinal(23)
    ('first', 'twelfth', 'twentieth', 'twenty-third')
    """
    n = check_count("n", n)
    if n > 99:
        raise ValueError(f"n must be at most 99, got {n}")
    start, dash, last = below_100(n).rpartition("-")
    return start + dash + _IRREGULAR.get(last, last.removesuffix("y") + ("ieth" if last.endswith("y") else "th"))


def year_words(year: int) -> str:
    """A year as it is read: two by two, or in thousands.

    >>> [year_words(year) for year in (1900, 1905, 1984, 2005)]
    ['nineteen hundred', 'nineteen oh five', 'nineteen eighty-four', 'two thousand five']
    """
    century, rest = divmod(check_count("year", year, least=FIRST_YEAR), 100)
    if year % 1000 < 10:
        return words(year)
    if rest == 0:
        return f"{below_100(century)} hundred"
    return f"{below_100(century)} {'oh ' if rest < 10 else ''}{below_100(rest)}"


def below_100(n: int) -> str:
    """A number below 100 in English words."""
    if n < 20:
        return _SMALL[n]
    return _TENS[n // 10] + (f"-{_SMALL[n % 10]}" if n % 10 else "")
