"""Build the site from docs/ into outputs/site, and check what was built: `make site`.

python scripts/build_site.py          # a warning, a dead link or a request to another host is an error
python scripts/build_site.py --check  # only the last part, of a site that is there

`zensical serve` shows pages anew as they are written. `zensical.toml` holds the order of the pages.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from check_site import problems  # noqa: E402


def main() -> int:
    site = build() if "--check" not in sys.argv[1:] else ROOT / project()["site_dir"]
    found = problems(site)
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    if found:
        return 1
    folder = site.relative_to(ROOT)
    print(f"{folder}: open index.html, or: python -m http.server --bind 127.0.0.1 --directory {folder}")
    return 0


def project() -> dict[str, Any]:
    """The site's configuration."""
    with (ROOT / "zensical.toml").open("rb") as file:
        return tomllib.load(file)["project"]


def build() -> Path:
    """Write the site and its llms.txt, from nothing; any warning ends it."""
    settings = project()
    site = ROOT / settings["site_dir"]
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    plain = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True)
    said = done.stdout + done.stderr
    if done.returncode or re.search(r"warning|error|^griffe", said, re.IGNORECASE | re.MULTILINE):
        sys.exit(f"{said}\nerror: the site was not built without warnings")
    docs = ROOT / settings["docs_dir"]
    for page in docs.glob("*.md"):
        shutil.copy(page, site / page.name)  # what llms.txt leads to
    _bring_files(docs, site)
    (site / "llms.txt").write_text(llms_txt(settings), encoding="utf-8")
    return site


def llms_txt(settings: dict[str, Any]) -> str:
    """What the site holds, for language models: https://llmstxt.org."""
    lines = [f"# {settings['site_name']}", "", f"> {settings['site_description']}.", ""]
    for entry in settings["nav"]:
        ((title, content),) = entry.items()
        pages = [{title: content}] if isinstance(content, str) else content
        lines += [f"## {title}", ""]
        for page in pages:
            ((name, file),) = page.items()
            lines.append(f"- [{name}]({file}): {settings['extra']['about'][file]}")
        lines.append("")
    return "\n".join(lines)


def _bring_files(docs: Path, site: Path) -> None:
    """Copy what pages show or link to outside of docs, plots of benchmarks say, and point to the copies."""
    for page in docs.glob("*.md"):
        for address in set(re.findall(r"\]\((\.\./[^)#]+)\)", page.read_text(encoding="utf-8"))):
            source = docs / address
            copy = site / "assets" / source.name
            shutil.copy(source, copy)
            for built in (site / page.name, (site / page.name).with_suffix(".html")):
                text = built.read_text(encoding="utf-8")
                built.write_text(text.replace(address, f"assets/{copy.name}"), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
