"""What EMBOSS says of the same questions: ``python -m tests.recorded.emboss`` asks it again, and compares.

EMBOSS is under the GPL, so BAiO does not depend on it. Where it is installed (Debian: ``apt-get install emboss``), this
recomputes every recorded value, names those that differ, and exits with 1 if there are any. With ``--write`` it records
them anew. The sequences come from a fixed seed.
"""

import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).with_name("emboss.json")

ENZYMES = """\
BamHI GGATCC 6 2 0 1 5 0 0
BcgI CGANNNNNNTGC 12 4 0 -11 -13 24 22
BsaI GGTCTC 6 2 0 7 11 0 0
EcoRI GAATTC 6 2 0 1 5 0 0
EcoRV GATATC 6 2 1 3 3 0 0
PstI CTGCAG 6 2 0 5 1 0 0
"""
"""Name, site, length, number of cuts, bluntness, cuts: what EMBOSS's ``rebaseextract`` would make of REBASE."""

RESIDUES = "ACDEFGHIKLMNPQRSTVWY"

Case = dict[str, Any]
"""A call: ``tool`` and ``arguments``."""

Call = tuple[str, dict[str, object]]


def cases() -> list[Case]:
    """The calls, always the same."""
    source = random.Random("baio emboss")
    made = (_plain, _translations, _digests, _alignments, _proteins, _searches)
    return [{"tool": tool, "arguments": arguments} for make in made for tool, arguments in make(source)]


def _dna(source: random.Random, length: int, letters: str = "ACGT") -> str:
    return "".join(source.choices(letters, k=length))


def _plain(source: random.Random) -> Iterator[Call]:
    for length in (30, 61, 200, 997):
        yield "gc_content", {"sequence": _dna(source, length)}
        yield "reverse_complement", {"sequence": _dna(source, length, "ACGT" * 20 + "RYSWKMBDHVN")}


def _translations(source: random.Random) -> Iterator[Call]:
    for frame, extra in ((1, 0), (2, 1), (3, 2), (-1, 0), (-2, 1), (-3, 2)):
        for code in (1, 2, 4, 5, 11):
            yield "translate", {"sequence": _dna(source, 90 + extra), "frame": frame, "genetic_code": code}


def _digests(source: random.Random) -> Iterator[Call]:
    for topology in ("circular", "linear"):
        for names in (["EcoRI"], ["BsaI"], ["BcgI"], ["EcoRI", "BamHI"], ["PstI", "EcoRV", "BsaI"], ["EcoRI", "BcgI"]):
            sites = ["GAATTC", "GGTCTC", "CGATTTACGTGC", "GGATCC", "GATATC", "CTGCAG", "GAGACC", "GCACGTAAATCG"]
            source.shuffle(sites)
            letters = "".join(_dna(source, source.randint(40, 70), "AT") + site for site in sites)
            turn = source.randrange(len(letters))
            sequence = letters[turn:] + letters[:turn]
            yield "restriction_digest", {"sequence": sequence, "enzymes": names, "topology": topology}


def _alignments(source: random.Random) -> Iterator[Call]:
    for end_gaps in ("penalised", "free"):
        for length in (20, 60, 150):
            a = _dna(source, length)
            b = a[5 : length // 2] + _dna(source, 4) + a[length // 2 :].replace("AC", "AT")
            yield "pairwise_align", {"a": a, "b": b, "end_gaps": end_gaps}


def _proteins(source: random.Random) -> Iterator[Call]:
    for length in (20, 60, 150):
        protein = _dna(source, length, RESIDUES)
        other = protein[3:9] + _dna(source, 4, RESIDUES) + protein[12:]
        yield "pairwise_align", {"a": protein, "b": other, "mode": "local"}
        yield "protein_properties", {"sequence": protein}


def _searches(source: random.Random) -> Iterator[Call]:
    for motif in ("GCC", "GATC", "AYG", "TATAWAW", "CCWGG"):
        yield "find_motif", {"sequence": _dna(source, 400), "motif": motif}
    for code, starts in ((1, ["ATG"]), (11, ["code"])):
        arguments = {"genetic_code": code, "start_codons": starts, "min_length": 20}
        yield "find_orfs", {"sequence": _dna(source, 1500), **arguments}


# -- What both say -----------------------------------------------------------------------------------------------------


def of_tool(case: Case, result: dict[str, Any]) -> object:
    """The part of a tool's result that EMBOSS computes, too."""
    return _OF_TOOL[case["tool"]](result)


_OF_TOOL: dict[str, Callable[[dict[str, Any]], object]] = {
    "gc_content": lambda found: f"{found['gc'] / found['counted']:.2f}",
    "reverse_complement": lambda found: found["sequence"],
    "translate": lambda found: found["protein"],
    "restriction_digest": lambda found: sorted(each["length"] for each in found["fragments"]),
    "pairwise_align": lambda found: [found["score"], found["identities"], found["columns"]],
    "protein_properties": lambda found: [
        found["molecular_weight"], found["extinction_reduced"], found["extinction_cystines"]
    ],
    "find_motif": lambda found: sorted([each["start"], each["end"], each["strand"]] for each in found["hits"]),
    "find_orfs": lambda found: max((each["length_aa"] for each in found["orfs"]), default=0),
}  # fmt: skip


def of_emboss(case: Case) -> object:
    """The same from EMBOSS."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "REBASE").mkdir()
        (folder / "REBASE" / "embossre.enz").write_text(ENZYMES.replace(" ", "\t"))
        for other in ("equ", "ref", "sup"):
            (folder / "REBASE" / f"embossre.{other}").touch()
        arguments = case["arguments"]
        for argument in ("sequence", "a", "b"):
            if argument in arguments:
                (folder / f"{argument}.fa").write_text(f">{argument}\n{arguments[argument]}\n")

        def emboss(program: str, *options: object) -> str:
            command = [program, *map(str, options), "-auto"]
            return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout

        return _OF_EMBOSS[case["tool"]](emboss, arguments)


def _letters(fasta: str) -> str:
    return "".join(fasta.split("\n")[1:])


def _gc_content(emboss: Callable[..., str], _: Case) -> object:
    return emboss("geecee", "sequence.fa", "-outfile", "stdout").split()[-1]


def _reverse_complement(emboss: Callable[..., str], _: Case) -> object:
    return _letters(emboss("revseq", "sequence.fa", "stdout"))


def _translate(emboss: Callable[..., str], given: Case) -> object:
    table = 0 if given["genetic_code"] == 1 else given["genetic_code"]
    options = ("-frame", given["frame"], "-table", table, "-alternative")
    return _letters(emboss("transeq", "sequence.fa", "stdout", *options))


def _digest(emboss: Callable[..., str], given: Case) -> object:
    plasmid = ("-plasmid",) if given["topology"] == "circular" else ()
    options = ("-enzymes", ",".join(given["enzymes"]), "-sitelen", 4, *plasmid, "-fragments", "-outfile", "stdout")
    said = emboss("restrict", "sequence.fa", *options)
    return sorted(map(int, re.findall(r"^#\s+(\d+)$", said.partition("Fragment lengths")[2], re.MULTILINE)))


def _align(emboss: Callable[..., str], given: Case) -> object:
    program = "water" if given.get("mode") == "local" else "needle"
    penalised = program == "needle" and given["end_gaps"] == "penalised"
    ends = ("-endweight", "-endopen", 10, "-endextend", 0.5) if penalised else ()
    said = emboss(program, "a.fa", "b.fa", "-gapopen", 10, "-gapextend", 0.5, *ends, "-outfile", "stdout")
    score, identity = re.search(r"# Score: ([\d.]+)", said), re.search(r"# Identity:\s+(\d+)/(\d+)", said)
    assert score
    assert identity
    return [float(score[1]), int(identity[1]), int(identity[2])]


def _protein(emboss: Callable[..., str], _: Case) -> object:
    said = emboss("pepstats", "sequence.fa", "-outfile", "stdout")
    weight = re.search(r"Molecular weight = ([\d.]+)", said)
    molar = re.search(r"A280 Molar.*?= (\d+) +\(reduced\)\s+(\d+)", said)
    assert weight
    assert molar
    return [float(weight[1]), int(molar[1]), int(molar[2])]


def _motif(emboss: Callable[..., str], given: Case) -> object:
    said = emboss("fuzznuc", "sequence.fa", "-pattern", given["motif"], "-complement", "-outfile", "stdout")
    found = re.findall(r"^\s+(\d+)\s+(\d+)\s+([+-])", said, re.MULTILINE)
    hits = [[int(start), int(end), strand] for start, end, strand in found]
    if all([start, end, "+" if strand == "-" else "-"] in hits for start, end, strand in hits):  # a palindrome
        return sorted([start, end, "both"] for start, end, strand in hits if strand == "+")
    return sorted(hits)


def _orfs(emboss: Callable[..., str], given: Case) -> object:
    table = 0 if given["genetic_code"] == 1 else given["genetic_code"]
    said = emboss("getorf", "sequence.fa", "stdout", "-find", 1, "-table", table, "-minsize", 3 * given["min_length"])
    return max((len(_letters(each)) for each in said.split(">")[1:]), default=0)


_OF_EMBOSS: dict[str, Callable[[Callable[..., str], Case], object]] = {
    "gc_content": _gc_content,
    "reverse_complement": _reverse_complement,
    "translate": _translate,
    "restriction_digest": _digest,
    "pairwise_align": _align,
    "protein_properties": _protein,
    "find_motif": _motif,
    "find_orfs": _orfs,
}


def main() -> int:
    """Ask EMBOSS, and compare with what is recorded, or record it."""
    version = subprocess.run(["embossversion", "-auto"], capture_output=True, text=True, check=True).stdout.strip()
    found = [{**case, "emboss": of_emboss(case)} for case in cases()]
    if "--write" in sys.argv[1:]:
        lines = ",\n".join(json.dumps(each) for each in found)
        RECORDED.write_text(f'{{"version": "EMBOSS {version}", "cases": [\n{lines}\n]}}\n')
    recorded = json.loads(RECORDED.read_text())
    pairs = zip(found, recorded["cases"], strict=True)
    differing = [(now, then["emboss"]) for now, then in pairs if now["emboss"] != then["emboss"]]
    for now, then in differing:
        sys.stdout.write(f"{now['tool']} {now['arguments']}: recorded {then}, EMBOSS {version} says {now['emboss']}\n")
    sys.stdout.write(f"{len(found)} values, {len(differing)} differ; recorded with {recorded['version']}\n")
    return bool(differing)


if __name__ == "__main__":
    sys.exit(main())
