"""Look for published advisories of the versions that we install: `make audit`.

Ends with 1 where a version in constraints.txt has one. Where the data cannot be had, as without a network,
that is said, and it ends with 0: it is no finding.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        answer, said = audited(ROOT / "constraints.txt", Path(folder))
    return report(answer, said)


def audited(versions: Path, folder: Path) -> tuple[dict[str, Any] | None, str]:
    """What pip-audit found of a file of versions, None where it could not look; and what it said."""
    file = folder / "audit.json"
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(versions), "--no-deps"]
    command += ["--disable-pip", "--progress-spinner", "off", "--timeout", "15"]
    command += ["--format", "json", "--output", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    written = file.read_text(encoding="utf-8") if file.is_file() else ""
    return (json.loads(written) if written.strip() else None), done.stderr.strip()


def report(answer: dict[str, Any] | None, said: str) -> int:
    """Print what was found; the exit code."""
    packages = [] if answer is None else answer["dependencies"]
    looked_at = [each for each in packages if "skip_reason" not in each]
    if not looked_at:
        unknown = answer is not None or not said
        reason = "no package is known to the service asked" if unknown else said.splitlines()[-1]
        print(f"NOT AUDITED: advisories cannot be had here ({reason[:200]}). With a network: make audit")
        return 0
    found = [(each, advisory) for each in looked_at for advisory in each["vulns"]]
    for each, advisory in found:
        fixed = ", ".join(advisory["fix_versions"]) or "no version yet"
        print(f"{each['name']} {each['version']}: {advisory['id']}, mended in {fixed}")
    missing = [each["name"] for each in packages if "skip_reason" in each]
    print(f"{len(looked_at)} packages looked at: {len(found)} advisories")
    if missing:
        print(f"not known to the service, and not looked at: {', '.join(missing)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
