"""Unicode in what people type: when two spellings are one name, and which characters a name may have.

The same text arrives in many encodings: composed or decomposed, full-width or not, with no-break spaces, joiners and
variation selectors that nobody sees (Unicode Standard Annex 15, Technical Standard 39). Nothing here depends on how new
the Unicode tables of this Python are: a letter that they lack is accepted.
"""

import re
import unicodedata

MAX_FOLDED_LENGTH = 1024
"""Characters of the longest text that has other spellings: a password, as names and emails are shorter."""

MAX_QUOTED = 60
"""Characters of somebody's text that a refusal repeats."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202d\u202e\ud800-\udfff]")

_INVISIBLE = re.compile(
    # Default_Ignorable_Code_Point of Unicode's DerivedCoreProperties.txt, and Braille's blank pattern.
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

_DASHES = "\u2212\u30fc"
"""What keyboards write for a dash besides Unicode's dash punctuation: the minus sign, and the prolonged sound mark."""


def folded(text: str) -> str:
    """The form in which two spellings of one text are equal: NFKC, without case.

    A text longer than any name is returned as it is, so it equals no name: NFKC of many combining marks takes quadratic
    time, and holds the interpreter.
    """
    if len(text) > MAX_FOLDED_LENGTH:
        return text
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def name_key(name: str) -> str:
    """The form by which a username or an email is found: folded, with single spaces and no invisible characters.

    Names between which nobody sees a difference are equal. A name of which nobody sees anything is "".
    """
    if len(name) > MAX_FOLDED_LENGTH:
        return name
    return " ".join(_INVISIBLE.sub("", folded(_INVISIBLE.sub("", name))).split())


def has_control_characters(text: str) -> bool:
    """Whether it holds control characters, line separators, directional overrides, or halves of a surrogate pair.

    An override shows what follows it backwards, wherever the name appears.
    """
    return _CONTROL.search(text) is not None


def has_invisible_characters(text: str) -> bool:
    """Whether it holds characters that nobody sees."""
    return _INVISIBLE.search(text) is not None


def composed(password: str) -> str:
    """The form in which a password is hashed: NFC, which is the same from every keyboard (RFC 8265, section 4.2).

    A text longer than any password is returned as it is.
    """
    return unicodedata.normalize("NFC", password) if len(password) <= MAX_FOLDED_LENGTH else password


def plain_code(code: str) -> str:
    """A code as the person meant it: without spaces, dashes and invisible characters, in ASCII digits, without case.

    The caller limits the length.
    """
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", code))
    return "".join(_digit(each) for each in text if not (each.isspace() or _is_dash(each))).casefold()


def _digit(character: str) -> str:
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)


def _is_dash(character: str) -> bool:
    return character in _DASHES or unicodedata.category(character) == "Pd"


def one_line(text: str, length: int) -> str:
    """A text on one line of at most so many characters, without those that can't be shown or that nobody sees."""
    shown = "".join(letter for letter in " ".join(text[: 4 * length].split()) if letter.isprintable())
    return _INVISIBLE.sub("", shown)[:length].strip()


def quoted(value: object) -> str:
    """A value as a refusal repeats it: short, and without characters that can't be shown."""
    text = value if isinstance(value, str) else repr(value)
    return printable(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}…")


def printable(text: str) -> str:
    """A text with a sign in place of each character that can't be shown, line breaks included."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def storable(text: str) -> str:
    """The text with U+FFFD in place of what no database or UTF-8 can hold: NUL and lone surrogates."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
