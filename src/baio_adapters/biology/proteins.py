"""The tool that computes physical properties of a protein from its sequence."""

from baio_adapters.biology.definitions import BIOPYTHON, SEQUENCE, parameters
from baio_adapters.biology.mass import protein_mass, refuse_ambiguous_residues
from baio_domain.sequences import RESIDUES, count, protein
from baio_domain.tools import Computed, Tool, ToolRefused, ToolSpec

MAX_RESIDUES = 1_000_000
"""Residues of the longest protein: 30 times titin's."""


def protein_properties(sequence: str) -> Computed:
    """Mass, isoelectric point, extinction and more of an unmodified protein."""
    from Bio.SeqUtils.IsoelectricPoint import IsoelectricPoint  # noqa: PLC0415 - never in the server
    from Bio.SeqUtils.ProtParam import ProteinAnalysis  # noqa: PLC0415 - never in the server

    read = protein(sequence)
    length = len(read.letters)
    if length > MAX_RESIDUES:
        raise ToolRefused("too-long", f"The protein has {length:,} residues; at most {MAX_RESIDUES:,} are possible.")
    refuse_ambiguous_residues(read)
    refuse_ambiguous_residues(read, "UO", "has no value in the scales")
    weighed = protein_mass(read)
    theirs = ProteinAnalysis(read.letters)  # type: ignore[no-untyped-call]
    reduced, cystines = theirs.molar_extinction_coefficient()  # type: ignore[no-untyped-call]
    # Biopython's own limits, 4.05 and 12, are wrong for very acidic and basic proteins.
    point = IsoelectricPoint(read.letters).pi(7.0, 0.0, 14.0)  # type: ignore[no-untyped-call]
    result = {
        "length": length,
        "molecular_weight": weighed.rounded,
        "isoelectric_point": round(point, 2),
        "pk_set": "Bjellqvist",
        "extinction_reduced": reduced,
        "extinction_cystines": cystines,
        "abs_0_1_percent": round(reduced / weighed.dalton, 3),
        "abs_0_1_percent_cystines": round(cystines / weighed.dalton, 3),
        "gravy": round(theirs.gravy(), 3),  # type: ignore[no-untyped-call]
        "aromaticity": round(theirs.aromaticity(), 3),  # type: ignore[no-untyped-call]
        "instability": round(theirs.instability_index(), 2),  # type: ignore[no-untyped-call]
        "counts": {residue: read.letters.count(residue) for residue in RESIDUES},
        "note": "all letters are bases: is it DNA?" if count(read.letters, "ACGT") == length else None,
    }
    line = (
        f"Properties of {read.title} ({read.size}): **{weighed.shown} Da, pI {point:.2f}** (Bjellqvist),"
        f" ε280 {reduced:,} M⁻¹cm⁻¹ reduced, {cystines:,} with cystines"
    )
    return Computed(result, line, (read.input(),))


PROTEIN_PROPERTIES = Tool(
    ToolSpec(
        "protein_properties",
        1,
        "Mass, pI, extinction, GRAVY, aromaticity, instability of a protein. For DNA, translate first.",
        "As ProtParam: pI by Bjellqvist's pK set; extinction at 280 nm Y 1490, W 5500, cystine 125 (Pace); GRAVY by"
        " Kyte and Doolittle; instability by Guruprasad; abs_0_1_percent is extinction_reduced by mass.",
        parameters({"sequence": SEQUENCE}, ["sequence"]),
        BIOPYTHON,
        sequences=("sequence",),
    ),
    protein_properties,
)
