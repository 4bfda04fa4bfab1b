"""Every package that BAiO needs at run time has a licence under which BAiO can be distributed."""

import re
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]

PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "LicenseRef-Biopython-License-Agreement",  # HPND's permission in Biopython's own words
    "MIT",
    "MIT-0",
    "PSF-2.0",
    "Unlicense",
    "Zlib",
}
WEAK_COPYLEFT = {"LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MPL-2.0"}
"""They cover changes to the package itself, not the programs that import it."""

COMPATIBLE = PERMISSIVE | WEAK_COPYLEFT

SPDX = {
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""Names from before packages had to write SPDX identifiers."""

EXCEPTIONS = {
    # Its metadata and its repository name no licence. BAiO only serves the files of Swagger UI (Apache-2.0) from it.
    "litestar-offline-docs": "Apache-2.0",
}


def locked() -> list[Requirement]:
    """The packages in requirements.txt that belong to this platform."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "requirements.txt").read_text("utf-8")).replace("\\\n", "")
    requirements = [Requirement(line.split(" --hash")[0]) for line in text.splitlines()]
    return [each for each in requirements if each.marker is None or each.marker.evaluate()]


def licence_in_metadata(package: str) -> str:
    """The package's SPDX expression; empty if its metadata has no licence."""
    known = metadata(package)
    for expression in known.get_all("License-Expression") or []:
        return str(expression)
    # Older metadata has a classifier for each licence to choose from, or a name, or the whole text below its name.
    named = [each.rpartition(" :: ")[2] for each in known.get_all("Classifier") or [] if each.startswith("License ::")]
    named = named or [str(text).strip().partition("\n")[0] for text in known.get_all("License") or []]
    return " OR ".join(SPDX.get(each, each) for each in named)


def is_compatible(expression: str) -> bool:
    """Whether every AND has an OR that is compatible; an unknown name is not."""
    return all(
        any(choice.strip("() ") in COMPATIBLE for choice in part.split(" OR ")) for part in expression.split(" AND ")
    )


@pytest.mark.parametrize("package", [each.name for each in locked()])
def test_the_licence_of_every_runtime_dependency_is_known_and_compatible(package: str) -> None:
    licence = EXCEPTIONS.get(package) or licence_in_metadata(package)
    assert is_compatible(licence), f"{package}: {licence or 'no licence in its metadata'}"


@pytest.mark.parametrize("expression", ["MIT", "LGPL-3.0-only", "Apache-2.0 AND MIT", "GPL-2.0-only OR MIT"])
def test_permissive_and_weak_copyleft_licences_are_compatible(expression: str) -> None:
    assert is_compatible(expression)


@pytest.mark.parametrize("expression", ["GPL-3.0-only", "AGPL-3.0-or-later", "MIT AND GPL-2.0-only", "Proprietary", ""])
def test_gpl_and_unknown_licences_are_not_compatible(expression: str) -> None:
    assert not is_compatible(expression)


@pytest.mark.parametrize("package", EXCEPTIONS)
def test_an_exception_is_removed_when_its_package_names_a_licence(package: str) -> None:
    assert licence_in_metadata(package) == ""
