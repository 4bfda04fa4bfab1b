"""Tools on the sites of restriction enzymes: where they are, and the fragments of a digestion."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple, cast

from baio_adapters.biology.definitions import BIOPYTHON, ENZYMES, SEQUENCE, TOPOLOGY, listed, parameters
from baio_adapters.biology.enzymes import (
    Enzyme,
    Hit,
    commercial_enzymes,
    enzymes_named,
    hits,
    methylation,
    overhang,
    possible_hits,
    rebase,
)
from baio_adapters.biology.molecules import Molecule
from baio_domain.sequence_files import part_of
from baio_domain.sequences import Nucleotides, first_position, nucleotides
from baio_domain.tools import MAX_PRODUCTS, Computed, Product, Tool, ToolRefused, ToolSpec

MAX_COMMERCIAL = 1_000_000
"""Letters of the longest sequence that is searched for the sites of all commercial enzymes."""

MAX_POSITIONS = 1_000
"""Positions that ``restriction_sites`` lists, of all enzymes together."""

MAX_LISTED = 500
"""Fragments, and sites, that ``restriction_digest`` lists."""

MAX_SHOWN = 10
"""Things that a headline or a note names."""

COMMERCIAL = "commercial"

Site = tuple[Enzyme, Hit]


class Found(NamedTuple):
    """The sites of an enzyme, and how many more there may be."""

    hits: list[Hit]
    possible: int

    @property
    def anything(self) -> bool:
        """Whether there is a site, or may be one."""
        return bool(self.hits or self.possible)


@dataclass(frozen=True, slots=True)
class Cut:
    """A cut through both strands: by which enzymes, after which base, and the overhang there."""

    after: int
    enzyme: str
    overhang: str
    overhang_sequence: str

    @property
    def end(self) -> dict[str, object]:
        """The end that it leaves on the fragments at both sides."""
        return {"enzyme": self.enzyme, "overhang": self.overhang, "overhang_sequence": self.overhang_sequence}


def restriction_sites(sequence: str, enzymes: list[str], topology: str, cuts: str) -> Computed:
    """Where enzymes have their sites, and where they cut."""
    read, molecule = _dna(sequence, topology)
    everything = [name.strip().lower() for name in enzymes] == [COMMERCIAL]
    if everything and len(read.letters) > MAX_COMMERCIAL:
        raise ToolRefused(
            "too-long",
            f"The sequence has {len(read.letters):,} letters; all commercial enzymes are searched in at most"
            f" {MAX_COMMERCIAL:,}. Name the enzymes.",
        )
    asked = commercial_enzymes() if everything else enzymes_named(enzymes)
    found = _search(molecule, asked)
    wanted = {name: each for name, each in found.items() if cuts == "any" or len(each.hits) == int(cuts)}
    limit = _limit([len(each.hits) for each in wanted.values()])
    result = {
        "topology": topology,
        "length": len(read.letters),
        "enzymes": [
            _sites(molecule, enzyme, wanted[enzyme.name], limit)
            for enzyme in asked
            if enzyme.name in wanted and (found[enzyme.name].anything or not everything)
        ],
        "non_cutters": [name for name, each in found.items() if not each.anything],
        "rebase": rebase()[0],
    }
    said = f"{len(_cutting(wanted)):,} of {len(asked):,} enzymes" if everything else _counts(wanted)
    which = "" if cuts == "any" else f", enzymes with {cuts}"
    line = f"Restriction sites in {read.title} ({_size(read, topology)}{which}): **{said}**"
    return Computed(result, line, (read.input(),))


def restriction_digest(sequence: str, enzymes: list[str], topology: str) -> Computed:
    """The fragments of a complete digestion with all the enzymes at once."""
    read, molecule = _dna(sequence, topology)
    asked = enzymes_named(enzymes)
    for enzyme in asked:
        if not enzyme.cuts:
            raise ToolRefused("cut-unknown", f"REBASE does not say where {enzyme.name} cuts. Ask without it.")
    found = _search(molecule, asked)
    sites = sorted(
        ((enzyme, hit) for enzyme in asked for hit in found[enzyme.name].hits), key=lambda site: (site[1], site[0].name)
    )
    cuts = _cuts(molecule, sites)
    fragments = list(_fragments(molecule, cuts)) if cuts or not molecule.circular else []
    notes = list(_notes(molecule, found, sites, cuts))
    result = {
        "topology": topology,
        "length": len(read.letters),
        "cuts": len(cuts),
        **listed("fragments", fragments, MAX_LISTED),
        **listed("sites", [_site(molecule, enzyme, hit) for enzyme, hit in sites], MAX_LISTED),
        "non_cutters": [name for name, each in found.items() if not each.anything],
        "note": "; ".join(notes[:MAX_SHOWN]) + ("; …" if len(notes) > MAX_SHOWN else "") if notes else None,
        "rebase": rebase()[0],
    }
    names = " + ".join(enzyme.name for enzyme in asked[:MAX_SHOWN]) + (" and others" if len(asked) > MAX_SHOWN else "")
    line = f"{names} digest of {read.title} ({_size(read, topology)}): {_headline(fragments, cuts)}"
    return Computed(result, line, (read.input(),), tuple(_products(read, names, fragments[:MAX_PRODUCTS])))


def _products(read: Nucleotides, names: str, fragments: Iterable[Mapping[str, Any]]) -> Iterator[Product]:
    for index, fragment in enumerate(fragments):
        letters = part_of(read.letters, fragment["start"], fragment["end"])
        yield Product(("fragments", index, "sequence"), f"{read.title} {names} fragment {index + 1}", letters)


def _dna(sequence: str, topology: str) -> tuple[Nucleotides, Molecule]:
    read = nucleotides(sequence)
    if read.molecule == "RNA":
        position = first_position(read.letters, "U")
        raise ToolRefused("rna-not-cut", f"Restriction enzymes cut DNA; this is RNA (U at position {position}).")
    return read, Molecule(read.letters, topology == "circular", bool(read.ambiguous))


def _size(read: Nucleotides, topology: str) -> str:
    return f"{len(read.letters):,} bp, {topology}"


def _search(molecule: Molecule, asked: Iterable[Enzyme]) -> dict[str, Found]:
    """What is found of each enzyme; enzymes of one site are searched once."""
    searched: dict[object, Found] = {}
    found = {}
    for enzyme in asked:
        kind = (enzyme.site, enzyme.symmetric)
        if kind not in searched:
            searched[kind] = Found(hits(molecule, enzyme), possible_hits(molecule, enzyme))
        found[enzyme.name] = searched[kind]
    return found


def _cutting(found: dict[str, Found]) -> list[str]:
    return [name for name, each in found.items() if each.hits]


def _counts(found: dict[str, Found]) -> str:
    """The numbers of sites as a headline shows them."""
    shown = [f"{name} {len(each.hits):,}" for name, each in found.items()][:MAX_SHOWN]
    more = len(found) - len(shown)
    return (", ".join(shown) or "none") + (f" and {more:,} more" if more else "")


def _limit(counts: list[int]) -> int:
    """How many positions of each enzyme are listed, so that they are not too many together."""
    limits = (MAX_POSITIONS, 300, 100, 30, 10, 3, 1)
    return next((each for each in limits if sum(min(each, count) for count in counts) <= MAX_POSITIONS), 0)


def _sites(molecule: Molecule, enzyme: Enzyme, found: Found, limit: int) -> dict[str, object]:
    """What ``restriction_sites`` says of one enzyme."""
    return {
        "enzyme": enzyme.name,
        "site": enzyme.site,
        "count": len(found.hits),
        "positions": [
            _position(molecule, enzyme, hit)
            | {"methylation": methylation(molecule, hit.start, hit.start + len(enzyme.site))}
            for hit in found.hits[:limit]
        ],
        **({"shown": limit} if len(found.hits) > limit else {}),
        **({"possible": found.possible} if found.possible else {}),
        "overhang": enzyme.overhang,
        "overhang_sequence": enzyme.overhang_sequence,
    }


def _site(molecule: Molecule, enzyme: Enzyme, hit: Hit) -> dict[str, object]:
    return {"enzyme": enzyme.name} | _position(molecule, enzyme, hit)


def _position(molecule: Molecule, enzyme: Enzyme, hit: Hit) -> dict[str, object]:
    """Where a site is and is cut, in positions; an enzyme that cuts on both sides of it has a second pair of cuts."""
    position: dict[str, object] = {"site_start": hit.start + 1, "strand": hit.strand}
    for number, (top, bottom) in enumerate(enzyme.cuts_at(hit)):
        prefix = "second_" if number else ""
        position[f"{prefix}cut_after"] = molecule.wrapped(top)
        position[f"{prefix}cut_after_bottom"] = molecule.wrapped(bottom)
    return position


def _cuts(molecule: Molecule, sites: Iterable[Site]) -> list[Cut]:
    """The cuts of the top strand, in order, each place once."""
    places: dict[int, Cut] = {}
    for enzyme, hit in sites:
        for top, bottom in enzyme.cuts_at(hit):
            after = molecule.wrapped(top)
            if after is not None and after not in places:
                between = molecule.span(min(top, bottom), max(top, bottom))
                places[after] = Cut(after, enzyme.name, overhang(top, bottom), between)
    return [places[after] for after in sorted(places)]


def _fragments(molecule: Molecule, cuts: list[Cut]) -> Iterator[dict[str, object]]:
    """The fragments between the cuts, by their first position."""
    length = len(molecule.letters)
    if molecule.circular:
        # Each cut with the next one around the circle, a single one with itself; the one over the origin comes last.
        pairs: list[tuple[Cut | None, Cut | None]] = list(zip(cuts, cuts[1:] + cuts[:1], strict=True))
        pairs = pairs[-1:] + pairs[:-1] if cuts and cuts[-1].after == length else pairs
    else:
        pairs = list(pairwise([None, *cuts, None]))
    for left, right in pairs:
        yield _fragment(left.after % length + 1 if left else 1, right.after if right else length, length, left, right)


def _fragment(start: int, end: int, length: int, left: Cut | None, right: Cut | None) -> dict[str, object]:
    return {
        "start": start,
        "end": end,
        "length": (end - start) % length + 1,
        "crosses_origin": end < start,
        "left": left.end if left else None,
        "right": right.end if right else None,
    }


def _notes(molecule: Molecule, found: dict[str, Found], sites: list[Site], cuts: list[Cut]) -> Iterator[str]:
    """What a reader of the fragments must know."""
    if molecule.circular and len(cuts) < 2:
        yield "one cut linearises the circle" if cuts else "no cut: the circle stays closed"
    around = [(enzyme, Hit(hit.start + len(molecule.letters), hit.strand)) for enzyme, hit in sites[:1]]
    for (enzyme, hit), (other, behind) in pairwise(sites + around * molecule.circular):
        same = enzyme.cuts_at(hit) == other.cuts_at(behind)
        if behind.start < hit.start + len(enzyme.site) and not same:
            at = behind.start % len(molecule.letters) + 1
            yield (
                f"the sites of {enzyme.name} at {hit.start + 1} and {other.name} at {at} overlap: cutting one can"
                " prevent the other"
            )
    for enzyme, hit in sites:
        if any(molecule.wrapped(top) is None for top, _ in enzyme.cuts_at(hit)):
            yield f"{enzyme.name} at {hit.start + 1} would cut beyond the end"
    for name, each in found.items():
        if each.possible:
            yield f"further sites of {name} that the ambiguous bases may hide: {each.possible:,}"


def _headline(fragments: list[dict[str, object]], cuts: list[Cut]) -> str:
    if not cuts:
        return "**not cut**"
    lengths = sorted((cast("int", fragment["length"]) for fragment in fragments), reverse=True)
    shown = ", ".join(f"{length:,}" for length in lengths[:MAX_SHOWN]) + (", …" if len(lengths) > MAX_SHOWN else "")
    return f"**{len(lengths):,} {'fragment' if len(lengths) == 1 else 'fragments'}** ({shown} bp)"


RESTRICTION_SITES = Tool(
    ToolSpec(
        "restriction_sites",
        1,
        "Sites and cut positions of restriction enzymes in DNA. For fragments use restriction_digest.",
        "Recognition sites by REBASE on both strands, overlapping ones too; cut_after is the base before the cut of the"
        " top strand; overlaps with GATC (Dam), CCWGG (Dcm) and CG are facts, not predictions.",
        parameters(
            {
                "sequence": SEQUENCE,
                "enzymes": ENZYMES | {"description": "Names, or commercial for all that are sold."},
                "topology": TOPOLOGY,
                "cuts": {
                    "type": "string",
                    "enum": ["any", "0", "1", "2", "3"],
                    "default": "any",
                    "description": "Only enzymes with so many sites.",
                },
            },
            ["sequence", "enzymes"],
        ),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    restriction_sites,
)

RESTRICTION_DIGEST = Tool(
    ToolSpec(
        "restriction_digest",
        1,
        "Fragments of DNA after complete digestion with one or more restriction enzymes together.",
        "Fragments between the top-strand cuts of all sites by REBASE, every site cut, without star activity.",
        parameters(
            {"sequence": SEQUENCE, "enzymes": ENZYMES | {"description": "Names."}, "topology": TOPOLOGY},
            ["sequence", "enzymes"],
        ),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    restriction_digest,
)
