"""Write what a wheel of ours brings along, as a software bill of materials: `make sbom`.

python scripts/write_sbom.py dist/focus_detr-*.whl    # CycloneDX in JSON, beside the wheel

Of each package: the version in this environment, its licence, and what it needs. Extras are left out.
"""

from __future__ import annotations

import argparse
import email
import sys
import zipfile
from importlib import metadata
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel
    bom = bill_of(wheel)
    file = wheel.with_suffix(".cdx.json")
    file.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n", encoding="utf-8")
    print(f"{file}: {len(bom.components)} packages")
    return 0


def bill_of(wheel: Path) -> Bom:
    """The wheel, every package that it needs without extras, and which of them needs which."""
    bom = Bom()
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        ours = email.message_from_bytes(archive.read(name))
    bom.metadata.component = _component(ours["Name"], ours["Version"], ours, ComponentType.APPLICATION)
    known = {canonicalize_name(ours["Name"]): bom.metadata.component}
    waiting = [(bom.metadata.component, _needed(ours.get_all("Requires-Dist") or [], set()))]
    while waiting:
        component, requirements = waiting.pop()
        needed = []
        for requirement in requirements:
            name = canonicalize_name(requirement.name)
            if name not in known:
                found = metadata.distribution(name)
                known[name] = _component(name, found.version, found.metadata, ComponentType.LIBRARY)
                bom.components.add(known[name])
                waiting.append((known[name], _needed(found.requires or [], requirement.extras)))
            needed.append(known[name])
        bom.register_dependency(component, needed)
    return bom


def _needed(said: list[str], extras: set[str]) -> list[Requirement]:
    """Those that hold in this environment, with the extras asked for."""
    chosen = []
    for requirement in map(Requirement, said):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            chosen.append(requirement)
    return chosen


def _component(name: str, version: str, said: metadata.PackageMetadata, kind: ComponentType) -> Component:
    licences = LicenseFactory()
    text = said.get("License-Expression") or said.get("License") or ""
    classes = [each for each in said.get_all("Classifier") or [] if each.startswith("License :: ")]
    text = text if text and "\n" not in text else "".join(classes[:1]).rpartition(" :: ")[2]
    return Component(
        type=kind,
        name=canonicalize_name(name),
        version=version,
        bom_ref=f"pkg:pypi/{canonicalize_name(name)}@{version}",
        purl=PackageURL("pypi", name=canonicalize_name(name), version=version),
        licenses=[licences.make_from_string(text)] if text else [],
    )


if __name__ == "__main__":
    sys.exit(main())
