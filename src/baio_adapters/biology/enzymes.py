"""Restriction enzymes: REBASE's data as Biopython has them, and where an enzyme cuts a molecule.

Biopython's own digestion is not used: on circles its fragments are wrong where a cut lies at the origin or an enzyme
cuts twice, and it keeps sequences on the enzymes' classes. Offsets and indices here are numbers of bases before a cut.
"""

import re
import unicodedata
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple, cast

from baio_adapters.biology.molecules import Molecule, starts
from baio_domain.sequences import BASES, INVISIBLE, reverse_complement
from baio_domain.text import quoted
from baio_domain.tools import ToolRefused

METHYLATION = {"Dam": "GATC", "Dcm": "CCWGG", "CpG": "CG"}
"""Sequences that methylases modify, without the enzymes' sensitivity to them."""

_ROMAN = {"1": "i", "2": "ii", "3": "iii", "4": "iv", "5": "v"}
_SEPARATOR = re.compile(r"[,;+&/\u3001\uff0c\uff1b]|\s+and\s+", re.IGNORECASE)  # the last three are those of Asia
_TRADEMARK = re.compile("[®™©]")
_UNNAMED = re.compile(rf"[\s{INVISIBLE}]")
_NICKING = re.compile(r"n[tb]?\.")
_HOMING = re.compile(r"(?:f|h|pi?|i)-")
_SUFFIX = re.compile(r"[\s_-]*(?:hf(?:\s*v2)?|v2)$")


class Hit(NamedTuple):
    """A site in a molecule: its first index there, and the strand that reads it (+, - or both)."""

    start: int
    strand: str


@dataclass(frozen=True, slots=True)
class Enzyme:
    """A restriction enzyme: its site in IUPAC code, and how far from the site's start it cuts the two strands.

    ``cuts`` are pairs of the site's own strand and the other one: none if the cut is unknown, two if it cuts on both
    sides of its site.
    """

    name: str
    site: str
    cuts: tuple[tuple[int, int], ...]
    commercial: bool

    @property
    def symmetric(self) -> bool:
        """Whether site and cuts are the same on both strands: such a site is found once."""
        size = len(self.site)
        turned = {(size - bottom, size - top) for top, bottom in self.cuts}
        return self.site == reverse_complement(self.site) and turned == set(self.cuts)

    @property
    def overhang(self) -> str:
        """The kind of end that it leaves: 5', 3', blunt, or unknown."""
        return overhang(*self.cuts[0]) if self.cuts else "unknown"

    @property
    def overhang_sequence(self) -> str:
        """The bases of its overhang on the site's own strand; N outside of the site."""
        if not self.cuts:
            return ""
        return "".join(
            self.site[offset] if 0 <= offset < len(self.site) else "N"
            for offset in range(min(self.cuts[0]), max(self.cuts[0]))
        )

    def cuts_at(self, hit: Hit) -> list[tuple[int, int]]:
        """The cuts of a hit in the top and the bottom strand; on a circle, perhaps before or behind its origin."""
        if hit.strand != "-":
            return [(hit.start + top, hit.start + bottom) for top, bottom in self.cuts]
        end = hit.start + len(self.site)
        return sorted((end - bottom, end - top) for top, bottom in self.cuts)


@cache
def rebase() -> tuple[str, dict[str, Enzyme]]:
    """REBASE's release, and its enzymes by their lower-case name."""
    from Bio.Restriction import Restriction_Dictionary as data  # noqa: PLC0415 - never in the server

    found = {}
    for name, entry in cast("dict[str, dict[str, Any]]", data.rest_dict).items():
        site, size = entry["site"], entry["size"]
        if not set(site) <= BASES.keys():
            continue  # one enzyme with two sites, which Biopython does not find either
        first, second = entry["charac"][:2], entry["charac"][2:4]
        cuts = tuple((top, size + bottom) for top, bottom in (first, second) if top is not None)
        found[name.lower()] = Enzyme(name, site, cuts, bool(entry["suppl"]))
    release = re.search(r"version (\d+)", data.__doc__ or "")
    return (release[1] if release else "unknown"), found


def commercial_enzymes() -> list[Enzyme]:
    """The enzymes that somebody sells, by name."""
    return sorted((each for each in rebase()[1].values() if each.commercial), key=lambda each: each.name)


def enzymes_named(names: list[str]) -> list[Enzyme]:
    """The enzymes of these names, each once, in their order.

    Case, spaces, trademarks and the suffixes -HF, -HFv2 and -v2 don't matter; one text may have several names. Raises
    ToolRefused, ``unknown-enzyme``.
    """
    known = rebase()[1]
    found: dict[str, Enzyme] = {}
    for name in [each for text in names for each in _SEPARATOR.split(text) if each.strip()] or names:
        # Normalized, the sign Ⅲ of Asian keyboards is III.
        key = _UNNAMED.sub("", unicodedata.normalize("NFKC", _TRADEMARK.sub("", name)).lower())
        enzyme = known.get(key) or known.get(_SUFFIX.sub("", key)) or known.get(key.replace("-", "_"))
        if enzyme is None:
            raise ToolRefused("unknown-enzyme", _unknown(name, key))
        found[enzyme.name] = enzyme
    return list(found.values())


def overhang(top: int, bottom: int) -> str:
    """The kind of end that two cuts leave."""
    return "5'" if top < bottom else "3'" if top > bottom else "blunt"


def hits(molecule: Molecule, enzyme: Enzyme) -> list[Hit]:
    """The sites of an enzyme in a molecule, in order; an ambiguous base of the molecule matches if all its bases do."""
    if enzyme.symmetric:
        return [Hit(start, "both") for start in starts(molecule, enzyme.site)]
    forward = [Hit(start, "+") for start in starts(molecule, enzyme.site)]
    return sorted(forward + [Hit(start, "-") for start in starts(molecule, reverse_complement(enzyme.site))])


def possible_hits(molecule: Molecule, enzyme: Enzyme) -> int:
    """How many more sites there can be, depending on what the ambiguous bases of the molecule are."""
    if not molecule.ambiguous:
        return 0
    sites = [enzyme.site] if enzyme.symmetric else [enzyme.site, reverse_complement(enzyme.site)]
    return sum(
        sum(1 for _ in starts(molecule, site, possible=True)) - sum(1 for _ in starts(molecule, site)) for site in sites
    )


def methylation(molecule: Molecule, start: int, end: int) -> list[str]:
    """The methylases whose sequences overlap with a span of a molecule."""
    around = {name: molecule.span(start - len(motif) + 1, end + len(motif) - 1) for name, motif in METHYLATION.items()}
    return [
        name
        for name, motif in METHYLATION.items()
        if any(True for _ in starts(Molecule(around[name], circular=False), motif))
    ]


def _unknown(name: str, key: str) -> str:
    if _NICKING.match(key):
        return f"{quoted(name)} is a nicking enzyme, which cuts one strand. Only enzymes that cut both are known."
    if _HOMING.match(key):
        return f"{quoted(name)} is a homing endonuclease. Only restriction enzymes are known; find_motif finds sites."
    known = rebase()[1]
    roman = key[:-1] + _ROMAN.get(key[-1:], "")
    close = [known[each].name for each in ([roman] if roman in known else get_close_matches(key, known, cutoff=0.7))]
    hint = f" Did you mean {' or '.join(close)}?" if close else " Give a name as REBASE has it, such as EcoRI."
    return f"There is no enzyme {quoted(name)}.{hint}"
