"""The bill of materials of a wheel, and what is said of advisories."""

from __future__ import annotations

import importlib
import json
import zipfile
from pathlib import Path

import pytest

from test_package import requirements


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))


def test_a_wheel_s_bill_has_all_that_it_brings_and_what_that_brings(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx")
    from cyclonedx.output.json import JsonV1Dot6
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    wheel, needed = tmp_path / "focus_detr-1.0-py3-none-any.whl", requirements()[:20]
    lines = ["Metadata-Version: 2.4", "Name: focus-detr", "Version: 1.0"]
    lines += [f"Requires-Dist: {each}" for each in needed if not each.marker]
    lines += ["Requires-Dist: no-such-package; extra == 'serve'"]
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("focus_detr-1.0.dist-info/METADATA", "\n".join(lines))
    text = JsonV1Dot6(importlib.import_module("write_sbom").bill_of(wheel)).output_as_string()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    packages = {each["name"]: each for each in bill["components"]}
    assert {"torch", "transformers", "pillow"} <= set(packages) and "no-such-package" not in packages
    assert {"sympy", "tokenizers"} <= set(packages)  # which those bring
    assert packages["pillow"]["purl"] == f"pkg:pypi/pillow@{packages['pillow']['version']}"
    needs = {each["ref"]: each.get("dependsOn", []) for each in bill["dependencies"]}
    assert packages["torch"]["bom-ref"] in needs["pkg:pypi/focus-detr@1.0"]
    assert packages["mpmath"]["bom-ref"] in needs[packages["sympy"]["bom-ref"]]


CLEAN = {"name": "pillow", "version": "13.0", "vulns": []}
BAD = {"name": "numpy", "version": "1.0", "vulns": [{"id": "CVE-1", "fix_versions": ["1.1"]}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("found", "said", "code", "printed"),
    [
        ([CLEAN], "", 0, "1 packages looked at: 0 advisories"),
        ([CLEAN, BAD], "", 1, "numpy 1.0: CVE-1, mended in 1.1"),
        ([CLEAN, UNKNOWN], "", 0, "not looked at: torch"),
        # An index that knows none of them says that there is nothing known against any.
        ([UNKNOWN], "No known vulnerabilities found", 0, "NOT AUDITED: .*no package is known to the service"),
        (None, "ConnectionError: no route", 0, "NOT AUDITED: .*no route.*make audit"),
    ],
)
def test_what_cannot_be_audited_is_said_and_is_no_failure(found, said, code, printed, capsys) -> None:
    import re

    answer = None if found is None else {"dependencies": found}
    assert importlib.import_module("audit").report(answer, said) == code
    assert re.search(printed, capsys.readouterr().out)
