"""How a text is found by some of its words, the same way in every storage.

A text is compared by its words: runs of letters and digits, without case, accents and vowel points, in compatibility
forms (Unicode Standard Annex 15). ``snp.vcf.gz`` has three of them, and ``NM_007294`` has two. Soft hyphens and other
invisible characters end no word; the vowel signs of Indian scripts are letters. Where a script has no spaces between
words, each letter counts as one. A query's words must follow each other; its last one may be the beginning of a word.
"""

import itertools
import re
import unicodedata

MAX_CHARACTERS = 100_000
"""How much of a text can be found, so that PostgreSQL accepts every text: it allows at most 1 MiB of words in one."""

MAX_WORDS = 16_000
"""How many words of a text are found. Each gets its user's number in front, which counts towards that MiB, too."""

MAX_WORD_LENGTH = 200
"""Letters of a word that count. PostgreSQL accepts words of at most 2,046 bytes."""

SNIPPET_LENGTH = 160
"""Characters of a snippet at most."""

_BEFORE_HIT = 60
"""About how many characters of a snippet come before the hit."""

_VOWEL_SIGNS = re.compile("[\u0900-\u0dff\U00011000-\U00011fff]")
"""In the scripts of India, without which ``din`` and ``dan`` would be one word."""

_ZERO_WIDTH_SPACE = "\u200b"
"""Unlike other invisible characters, it stands between words."""

_PARTS = re.compile("[\u1161-\u1175\u3099\u309a]")
_DECOMPOSED = re.compile("[\u1100-\u1112][\u1161-\u1175][\u11a8-\u11c2]?|.[\u3099\u309a]")
"""Syllables of Korean, and Japanese letters with their sound marks, as some systems write them: in parts."""

_WITHOUT_SPACES = re.compile(
    # Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

_MAX_FOLDED_LETTERS = 10_000


class _Folded(dict[int, str]):
    """What each character becomes. Letter by letter, because normalising long runs of marks takes quadratic time."""

    def __missing__(self, code: int) -> str:
        folded = _folded(chr(code))
        if len(self) < _MAX_FOLDED_LETTERS:
            self[code] = folded
        return folded


def _folded(character: str) -> str:
    parts = unicodedata.normalize("NFKD", character)
    if _VOWEL_SIGNS.match(parts):  # in parts, because one sign can be typed as two
        return parts.casefold() if unicodedata.category(character)[0] in "LMN" else " "
    plain = "".join(part for part in parts if not _is_ignored(part))
    letters = unicodedata.normalize("NFKC", plain).casefold()
    found = "".join(letter if letter.isalnum() else " " for letter in letters)
    return f" {found} " if _WITHOUT_SPACES.search(found) else found


def _is_ignored(character: str) -> bool:
    """Whether it is an accent, a vowel point or invisible. The sound marks of Japanese make other letters."""
    category = unicodedata.category(character)
    is_mark = category[0] == "M" and not _PARTS.match(character)
    return is_mark or (category == "Cf" and character != _ZERO_WIDTH_SPACE)


_FOLDED = _Folded()


def words_of(text: str) -> str:
    """The words of a text by which it is found, with one space between two; at most ``MAX_WORDS``."""
    words = _composed(text).translate(_FOLDED).split()[:MAX_WORDS]
    if max(map(len, words), default=0) > MAX_WORD_LENGTH:
        words = [word[:MAX_WORD_LENGTH] for word in words]
    found = " ".join(words)
    return found if len(found) <= MAX_CHARACTERS else found[:MAX_CHARACTERS].rpartition(" ")[0]


def _composed(text: str) -> str:
    """As much of the text as is found, with whole syllables."""
    text = text[:MAX_CHARACTERS]
    return (
        text if not _PARTS.search(text) else _DECOMPOSED.sub(lambda found: unicodedata.normalize("NFC", found[0]), text)
    )


def occurs(query: str, words: str) -> bool:
    """Whether the words of a query follow each other in those of a text; the last may be the beginning of one."""
    return f" {query}" in f" {words}"


def snippet_of(text: str, query: str) -> str:
    """One line of at most ``SNIPPET_LENGTH`` characters around the first place where the words of a query occur."""
    text = _composed(text)
    folded = text.translate(_FOLDED)
    words = (f"{word}\\S*" if len(word) == MAX_WORD_LENGTH else word for word in query.split())
    found = re.search(r"(?<!\S)" + r"\s+".join(words), folded)
    hit = found.start() if found else 0
    if len(folded) != len(text):  # a letter has become several, or none
        ends = itertools.accumulate(len(_FOLDED[ord(letter)]) for letter in text)
        hit = next((at for at, end in enumerate(ends) if end > hit), 0)
    return _line(text, hit)


def _line(text: str, hit: int) -> str:
    """What is around this place, in whole words where they are short, with signs where something is left out."""
    start = max(0, hit - _BEFORE_HIT)
    if start and (space := re.search(r"\s", text[start:hit])):
        start += space.end()
    line = " ".join(text[start : start + 4 * SNIPPET_LENGTH].split())
    if start:
        line = f"…{line}"
    if len(line) > SNIPPET_LENGTH:
        whole = line[: SNIPPET_LENGTH - 1].rpartition(" ")[0]
        line = f"{whole if len(whole) > SNIPPET_LENGTH // 2 else line[: SNIPPET_LENGTH - 1]}…"
    return line
