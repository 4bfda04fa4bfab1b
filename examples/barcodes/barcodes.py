"""A lab's own tool: in how many positions do two sequencing barcodes differ?"""

from baio_domain.sequences import nucleotides
from baio_domain.tools import Computed, Tool, ToolRefused, ToolSpec


def barcode_distance(first: str, second: str) -> Computed:
    a, b = nucleotides(first), nucleotides(second)
    if len(a.letters) != len(b.letters):
        raise ToolRefused("unequal-lengths", f"The lengths are {a.size} and {b.size}. Give barcodes of one length.")
    positions = [index + 1 for index, pair in enumerate(zip(a.letters, b.letters, strict=True)) if len(set(pair)) > 1]
    return Computed(
        {"distance": len(positions), "length": len(a.letters), "positions": positions},
        f"Distance of {a.title} and {b.title}: **{len(positions)} of {a.size}**",
        (a.input("first"), b.input("second")),
    )


BARCODE_DISTANCE = Tool(
    ToolSpec(
        name="barcode_distance",
        version=1,
        description="Positions in which two barcodes of one length differ. Not an alignment.",
        definition="Hamming distance: the number of positions at which the letters differ.",
        parameters={
            "type": "object",
            "properties": {
                "first": {"type": "string", "description": "Letters of one barcode."},
                "second": {"type": "string", "description": "Letters of the other barcode."},
            },
            "required": ["first", "second"],
        },
    ),
    barcode_distance,
)
