"""Tools for PCR: what two primers amplify, and whether an oligonucleotide makes a good primer."""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from baio_adapters.biology.definitions import BIOPYTHON, SEQUENCE, TOPOLOGY, parameters
from baio_adapters.biology.melting import melting_temperature
from baio_adapters.biology.molecules import every
from baio_domain.sequences import BASES, Nucleotides, count, first_position, nucleotides, pattern, reverse_complement
from baio_domain.tools import Computed, Product, Tool, ToolRefused, ToolSpec

MAX_SITES = 1_000
"""Binding sites of both primers."""

MAX_PRODUCTS = 100
"""Products, and other binding sites, that are listed."""

MAX_LETTERS = 150_000
"""Letters of all products that are listed."""


class Site(NamedTuple):
    """Where a primer binds.

    ``start`` and ``end`` are indices on the strand given, of the part that matches without a gap from the 3' end on; on
    a circle ``end`` may be beyond its length. ``tail`` is how many letters of the primer lie before that part.
    """

    start: int
    end: int
    strand: str
    primer: str
    tail: int
    mismatches: int


class Template:
    """The DNA that is amplified."""

    def __init__(self, read: Nucleotides, *, circular: bool) -> None:
        self.letters = read.letters
        self.circular = circular
        self.strands = {"+": read.letters, "-": reverse_complement(read.letters)}

    def sites(self, name: str, primer: str, annealing: int, mismatches: int) -> Iterator[Site]:
        """Where a primer binds on both strands: its 3' end matches, and the rest of what anneals nearly."""
        size = min(annealing, len(primer))
        length = len(self.letters)
        for strand, letters in self.strands.items():
            text = letters + letters[: size - 1] if self.circular else letters
            for index, differing in _near(text, primer[len(primer) - size :], mismatches):
                matched = size + self._further(letters, primer[: len(primer) - size], index)
                start = (index + size - matched) % length
                if strand == "-":
                    start = (length - start - matched) % length
                yield Site(start, start + matched, strand, name, len(primer) - matched, differing)

    def _further(self, letters: str, rest: str, index: int) -> int:
        """How many more letters of a primer match, from the part that anneals towards its 5' end."""
        room = len(letters) if self.circular else index
        matched = 0
        while matched < min(len(rest), room) and _fits(letters[index - 1 - matched], rest[-1 - matched]):
            matched += 1
        return matched


def simulate_pcr(
    template: str, forward: str, reverse: str, topology: str, max_mismatches: int, annealing_length: int
) -> Computed:
    """What two primers amplify from a template, and where else they bind."""
    read = nucleotides(template)
    primers = {"forward": pattern(forward), "reverse": pattern(reverse)}
    for name, each in (("template", read), *primers.items()):
        if each.molecule == "RNA":
            position = first_position(each.letters, "U")
            raise ToolRefused("rna-not-amplified", f"PCR is for DNA; {name} has U at position {position}.")
    if max_mismatches >= min(annealing_length, *(len(each.letters) for each in primers.values())):
        raise ToolRefused("out-of-range", "max_mismatches must be less than the letters that anneal.")
    molecule = Template(read, circular=topology == "circular")
    sites = [
        site
        for name, each in primers.items()
        for site in molecule.sites(name, each.letters, annealing_length, max_mismatches)
    ]
    if len(sites) > MAX_SITES:
        raise ToolRefused(
            "out-of-range",
            f"The primers bind at {len(sites):,} places; at most {MAX_SITES:,} are possible. Give a greater"
            " annealing_length, or fewer mismatches.",
        )
    pairs = sorted(_pairs(molecule, sites), key=lambda pair: (pair[0].start, pair[2], pair[0].primer))
    used = {site for pair in pairs for site in pair[:2]}
    others = sorted(site for site in sites if site not in used)
    products = list(_products(molecule, pairs[:MAX_PRODUCTS], primers))
    result = {
        "products": products,
        "total": len(pairs),
        **({"shown": MAX_PRODUCTS} if len(pairs) > MAX_PRODUCTS else {}),
        "other_sites": [_other(site, len(read.letters)) for site in others[:MAX_PRODUCTS]],
        "other_sites_total": len(others),
        "topology": topology,
        "length": len(read.letters),
        "max_mismatches": max_mismatches,
        "annealing_length": annealing_length,
    }
    sizes = ", ".join(f"{each[2]:,}" for each in pairs[:10]) + (", …" if len(pairs) > 10 else "")
    number = f"{len(pairs):,} product{'' if len(pairs) == 1 else 's'}" if pairs else "no product"
    what = f"{len(read.letters):,} bp, {topology}"
    line = f"PCR on {read.title} ({what}): **{number}**{f' ({sizes} bp)' if pairs else ''}"
    inputs = (read.input("template"), *(each.input(name) for name, each in primers.items()))
    amplified = (
        Product(("products", index, "sequence"), f"{read.title} PCR product {index + 1}", str(each["sequence"]))
        for index, each in enumerate(products)
        if each["sequence"] is not None
    )
    return Computed(result, line, inputs, tuple(amplified))


def check_primer(sequence: str) -> Computed:
    """Length, GC content, melting temperature, 3' end, runs and dimers of a primer, and what is unusual about it."""
    read = nucleotides(sequence)
    celsius = melting_temperature(sequence, "nearest_neighbor", oligo_nm=50, na_mm=50, mg_mm=1.5, dntp_mm=0.6)
    letters = read.letters
    tm = celsius.result["tm_celsius"]
    gc = count(letters, "GC")
    percent = round(100 * gc / len(letters), 2)
    clamp = count(letters[-5:], "GC")
    run = max(("".join(same) for _, same in groupby(letters)), key=len)
    dimer, end_dimer = _longest_dimer(letters), _end_dimer(letters)
    checks = {
        "length": (18 <= len(letters) <= 30, f"{len(letters)} nt; usual are 18 to 30"),
        "gc": (40 <= percent <= 60, f"{percent:.0f} % GC; usual are 40 to 60 %"),
        "tm": (52 <= float(str(tm)) <= 65, f"Tm {tm} °C; usual are 52 to 65 °C"),
        "clamp": (1 <= clamp <= 3, f"{clamp} of the last 5 bases are G or C; usual are 1 to 3"),
        "run": (len(run) <= 4, f"a run of {len(run)} {run[0]}; usual are at most 4"),
        "dimer": (dimer < 8, f"two copies can form {dimer} base pairs in a row; usual are less than 8"),
        "end": (end_dimer < 4, f"the last {end_dimer} bases can pair with another copy; usual are less than 4"),
    }
    warnings = [text for fine, text in checks.values() if not fine]
    result = {
        **{key: celsius.result[key] for key in ("tm_celsius", "method", "oligo_nm", "na_mm", "mg_mm", "dntp_mm")},
        "length": len(letters),
        "gc_percent": percent,
        "gc": gc,
        "gc_in_last_5": clamp,
        "three_prime": letters[-1],
        "longest_run": run,
        "self_dimer": dimer,
        "self_dimer_3_prime": end_dimer,
        "self_complementary": celsius.result["self_complementary"],
        "warnings": warnings,
    }
    said = f"{len(warnings)} warning{'' if len(warnings) == 1 else 's'}" if warnings else "nothing unusual"
    line = f"Primer check of {read.title} ({read.size}): **Tm {tm:.2f} °C, {percent:.2f} % GC, {said}**"
    return Computed(result, line, celsius.inputs)


def _near(text: str, primer: str, mismatches: int) -> Iterator[tuple[int, int]]:
    """Where a primer matches, its last letter without and the others with at most so many mismatches, and how many.

    Bit i of ``found[k]`` says that the letters read so far match at index i with at most k mismatches: all places of a
    genome are compared at once.
    """
    found = [(1 << len(text)) - 1] * (mismatches + 1)
    masks = {letter: _mask(text, letter) for letter in set(primer)}
    for offset, letter in enumerate(primer):
        here = masks[letter] >> offset
        last = offset == len(primer) - 1
        for k in range(mismatches, -1, -1):
            found[k] = found[k] & here | (found[k - 1] if k and not last else 0)
    seen = 0
    for k, places in enumerate(found):
        for index in _bits(places & ~seen):
            yield index, k
        seen |= places


def _mask(text: str, letter: str) -> int:
    """A number whose bit i is 1 if letter i of a text is certainly one that pairs with the primer's."""
    table = str.maketrans({code: "1" if _fits(code, letter) else "0" for code in BASES})
    return int(text.translate(table)[::-1], 2)


def _bits(places: int) -> Iterator[int]:
    """The indices of the bits that are 1."""
    if places:
        yield from every(f"{places:b}"[::-1], "1")


def _fits(code: str, letter: str) -> bool:
    return set(BASES[code]) <= set(BASES[letter])


def _pairs(molecule: Template, sites: list[Site]) -> Iterator[tuple[Site, Site, int]]:
    """Two sites that face each other, and the length of what is amplified between their 5' ends."""
    length = len(molecule.letters)
    for left in sites:
        for right in sites:
            if (left.strand, right.strand) != ("+", "-"):
                continue
            tails = left.tail + right.tail
            if not molecule.circular:
                if left.start <= right.start and left.end <= right.end:
                    yield left, right, right.end - left.start + tails
                continue
            start = left.start + (right.start - left.start) % length
            end = start + right.end - right.start
            if left.end <= end:
                yield left, right, end - left.start + tails
            if left.end > start:  # the primers overlap: also once around
                yield left, right, end + length - left.start + tails


def _products(
    molecule: Template, pairs: list[tuple[Site, Site, int]], primers: dict[str, Nucleotides]
) -> Iterator[dict[str, object]]:
    length = len(molecule.letters)
    left_over = MAX_LETTERS
    for left, right, size in pairs:
        left_over -= size
        end = left.start + size - left.tail - right.tail
        yield {
            "start": left.start + 1,
            "end": (end - 1) % length + 1,
            "length": size,
            "crosses_origin": end > length,
            "primers": [left.primer, right.primer],
            "tails": [left.tail, right.tail],
            "mismatches": left.mismatches + right.mismatches,
            "sequence": _amplified(molecule, left, right, end, primers) if left_over >= 0 else None,
        }


def _amplified(molecule: Template, left: Site, right: Site, end: int, primers: dict[str, Nucleotides]) -> str:
    """The letters of a product: both primers as they are, and the template between them."""
    first = primers[left.primer].letters
    last = reverse_complement(primers[right.primer].letters)
    begin = end - (right.end - right.start)
    if begin < left.end:
        return first + last[left.end - begin :]
    turns = -(-begin // len(molecule.letters))
    return first + (molecule.letters * turns)[left.end : begin] + last


def _other(site: Site, length: int) -> dict[str, object]:
    return {
        "primer": site.primer,
        "strand": site.strand,
        "start": site.start + 1,
        "end": (site.end - 1) % length + 1,
        "mismatches": site.mismatches,
    }


def _longest_dimer(letters: str) -> int:
    """Base pairs in a row that two copies can form: the longest part whose reverse complement is in the primer."""
    other = reverse_complement(letters)
    best = 0
    for start in range(len(letters)):
        while letters[start : start + best + 1] in other and start + best < len(letters):
            best += 1
    return best


def _end_dimer(letters: str) -> int:
    """Bases of the 3' end that can pair in a row with another copy."""
    sizes = range(1, len(letters) + 1)
    return max((size for size in sizes if reverse_complement(letters[-size:]) in letters), default=0)


SIMULATE_PCR = Tool(
    ToolSpec(
        "simulate_pcr",
        1,
        "Products of two primers on a DNA template, and their other binding sites. Tails are allowed.",
        "The last annealing_length bases of a primer match with at most max_mismatches, the 3' base exactly; every pair"
        " of sites that face each other is a product; start and end are the template's, length includes tails.",
        parameters(
            {
                "template": SEQUENCE,
                "forward": {"type": "string", "description": "Primer, 5' to 3'."},
                "reverse": {"type": "string", "description": "Primer, 5' to 3'."},
                "topology": TOPOLOGY,
                "max_mismatches": {
                    "type": "integer",
                    "minimum": 0,
                    "maximum": 5,
                    "default": 0,
                },
                "annealing_length": {"type": "integer", "minimum": 5, "default": 15},
            },
            ["template", "forward", "reverse"],
        ),
        sequences=("template",),
    ),
    simulate_pcr,
)

CHECK_PRIMER = Tool(
    ToolSpec(
        "check_primer",
        1,
        "Tm, GC, 3' end, runs and self-dimers of one DNA primer, with warnings. No hairpins.",
        "Tm as melting_temperature with its defaults; dimers are the longest base pairs in a row of two copies, without"
        " energy; warnings by common rules: 18-30 nt, 40-60 % GC, 52-65 °C, 1-3 G/C in the last 5, runs up to 4.",
        parameters({"sequence": SEQUENCE}, ["sequence"]),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    check_primer,
)
