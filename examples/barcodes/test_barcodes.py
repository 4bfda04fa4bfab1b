"""The tool for barcodes fulfils the contract of all tools."""

import pytest
from barcodes import BARCODE_DISTANCE, barcode_distance

from baio_domain.testing import ToolContract
from baio_domain.tools import ToolRefused


class TestBarcodeDistance(ToolContract):
    tool = BARCODE_DISTANCE
    calls = ({"first": ">bc1\nacgt", "second": "ACCA"},)


def test_positions_that_differ_are_counted_and_listed() -> None:
    computed = barcode_distance("acgt", "ACCA")
    assert computed.result == {"distance": 2, "length": 4, "positions": [3, 4]}


def test_barcodes_of_two_lengths_are_refused() -> None:
    with pytest.raises(ToolRefused, match="one length"):
        barcode_distance("ACGT", "ACG")
