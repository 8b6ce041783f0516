"""What the documents name is there: files, headings, modules, verbs and their options, presets, recipes."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "focus_detr"
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "scripts/cards/*.md", "examples/*/*.md", "src/focus_detr/**/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
# Where a path may start: exactness.md names files of the package and of the tests without their folders.
STARTS = ("", "src", "src/focus_detr", "src/focus_detr/models", "tests", "benchmarks", "benchmarks/results")
WRITTEN = {"runs", "outputs", "data"}  # by commands, where people work
IGNORED_BY_GIT = {"src/focus_detr/ops/cpu/_msda.so"}


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def missing_links(document: str, text: str) -> list[str]:
    missing = []
    for link in LINK.findall(text):
        name, _, heading = link.partition("#")
        if name.startswith(("http:", "https:", "mailto:")):
            continue
        target = (ROOT / document).parent / name if name else ROOT / document
        if not target.exists() or (heading and heading not in headings(target)):
            missing.append(link)
    return missing


def headings(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def missing_paths(text: str) -> list[str]:
    """Paths that begin in a folder of ours, and do not lead anywhere."""
    said = set(CODE.findall(FENCE.sub("", text)))
    text = re.sub(r"http://127\.0\.0\.1\S*", "", text)  # what a service has at an address is no file
    said |= set(re.findall(r"(?:src|tests|docs|benchmarks|scripts|examples)/[\w./-]*\w", text))
    return [path for path in sorted(said) if _is_ours(path) and not _exists(path)]


def _is_ours(path: str) -> bool:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)*/?", path):
        return False
    first, slash, _ = path.partition("/")
    if first in WRITTEN:
        return False
    return bool(slash) and any((ROOT / start / first).is_dir() for start in STARTS)


def _exists(path: str) -> bool:
    return any((ROOT / start / path).exists() for start in STARTS) or path in IGNORED_BY_GIT


def missing_files(text: str) -> list[str]:
    """Python files named without a folder that no folder of ours holds."""
    ours = {
        path.name
        for part in ("src", "tests", "benchmarks", "scripts")
        for path in (ROOT / part).rglob("*.py")
    }
    said = {name for name in CODE.findall(text) if re.fullmatch(r"\w+\.py", name)}
    return sorted(said - ours - {"setup.py"})


def missing_names(text: str) -> list[str]:
    """Dotted names of the package, and what is imported from it, that it does not define."""
    said = set(re.findall(r"\bfocus_detr(?:\.\w+)+", text))
    for module, names in re.findall(r"from (focus_detr[\w.]*) import ([\w, ]+)", text):
        said |= {f"{module}.{name.split()[0]}" for name in names.split(",")}
    return [name for name in sorted(said) if not _is_defined(name.split(".")[1:])]


def _is_defined(parts: list[str]) -> bool:
    place = PACKAGE
    for part in parts:
        if (place / part).is_dir():
            place = place / part
        elif (place / f"{part}.py").is_file():
            place = place / f"{part}.py"
        else:
            return part in _names(place if place.is_file() else place / "__init__.py")
    return True


def _names(module: Path) -> set[str]:
    """What a module defines or imports; in a package also what it imports by a string, on first use."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and module.name == "__init__.py" and isinstance(node.value, str):
            names.add(node.value)
    return names


def commands(text: str) -> list[list[str]]:
    """Every `focus-detr ...` of code blocks and of code in a line."""
    blocks = "\n".join(FENCE.findall(text)).replace("\\\n", " ").splitlines()
    lines = [line.strip() for line in blocks] + CODE.findall(FENCE.sub("", text))
    said = (re.match(r"(?:focus-detr|.*-m focus_detr) (.+)", line) for line in lines)
    return [shlex.split(command[1], comments=True) for command in said if command]


@pytest.fixture(scope="module")
def options() -> dict[str, set[str]]:
    """The options of each verb, as the reference has them, which is written from the parser."""
    sections = re.split(r"^## focus-detr ", text_of("docs/cli.md"), flags=re.MULTILINE)[1:]
    found: dict[str, set[str]] = {}
    for each in sections:  # verbs of a group, as `data split`, have theirs together
        found.setdefault(each.split()[0], set()).update(re.findall(r"--[\w-]+", each))
    return found


def wrong_commands(text: str, options: dict[str, set[str]]) -> list[str]:
    wrong = []
    for command in commands(text):
        verb = command[0]
        given = {word.split("=")[0] for word in command if word.startswith("--")}
        if verb in ("--help", "--version"):
            continue
        if verb not in options and re.fullmatch(r"[a-z]+", verb):
            wrong.append(verb)
        wrong += [f"{verb} {option}" for option in sorted(given - options.get(verb, given))]
    return wrong


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_to_files_and_headings(document: str) -> None:
    assert not missing_links(document, text_of(document))


@pytest.mark.parametrize(
    "document", [name for name in DOCUMENTS if name != "CHANGELOG.md"]
)  # names what is gone
def test_paths_modules_and_their_names_exist(document: str) -> None:
    text = text_of(document)
    assert not missing_paths(text)
    assert not missing_names(text)
    # A guide names the file that its reader writes.
    assert document.startswith("docs/new-") or not missing_files(text)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_have_verbs_and_options_of_the_reference(
    document: str, options: dict[str, set[str]]
) -> None:
    assert not wrong_commands(text_of(document), options)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_merge_was_left_half_done(document: str) -> None:
    assert not re.search(r"^(<{7}|>{7}) ", text_of(document), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_make_knows_the_targets_named(document: str) -> None:
    known = set(re.findall(r"^([\w-]+):", text_of("Makefile"), re.MULTILINE))
    text = text_of(document)
    said = set(re.findall(r"`(?:\w+= )?make ([\w-]+)", text)) | {
        target
        for block in FENCE.findall(text)
        for target in re.findall(r"^make ([\w-]+)", block, re.MULTILINE)
    }
    assert not said - known


@pytest.mark.parametrize("document", DOCUMENTS)
def test_presets_and_recipes_are_known(document: str) -> None:
    from focus_detr.training.recipe import list_recipes
    from focus_detr.zoo.presets import is_preset

    text = text_of(document)
    presets = set(re.findall(r"preset\(\s*\"([^\"]+)\"", text))
    recipes = set()
    for command in commands(text):
        for option, value in zip(command, command[1:], strict=False):
            if option == "--recipe" and re.fullmatch(r"[\w-]+", value):
                recipes.add(value)
            if option == "--model" and value.endswith(("-r50", "-r101", "-lite0", "-nano")):
                presets.add(value)
    assert not {name for name in presets if not is_preset(name)}
    assert not recipes - set(list_recipes())


def settings(text: str) -> set[str]:
    """The keys of `--set KEY=VALUE` for a recipe: those of `convert` and `presets` are a model's."""
    text = "\n".join(
        line for line in text.splitlines() if not re.search(r"focus-detr (convert|presets)", line)
    )
    return set(re.findall(r"--set '?([\w.]+)=", text))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_are_fields_of_a_recipe(document: str) -> None:
    from dataclasses import fields

    from focus_detr.training.recipe import Recipe

    said = settings(text_of(document)) - {"KEY", "model.KEY", "high_levels"}  # an option of convert
    known = {field.name for field in fields(Recipe)}  # of which `model` holds those of the model
    assert not {key for key in said if key.split(".")[0] not in known}


def test_the_layout_of_the_design_page_is_that_of_the_package() -> None:
    layout = re.search(r"^src/focus_detr/\n(.*?)^```", text_of("docs/design.md"), re.DOTALL | re.MULTILINE)
    assert layout
    rooms = re.findall(r"^  (\w+(?:\.py|/))", layout[1], re.MULTILINE)
    ours = {path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("_")}
    ours |= {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert set(rooms) == ours
    folders = {path.name for path in PACKAGE.rglob("*/")}
    assert set(re.findall(r"\b(\w+)/", layout[1])) <= folders


def test_what_is_not_there_is_seen(options: dict[str, set[str]]) -> None:
    assert missing_links("README.md", "[a](docs/no.md) [b](docs/LOG.md#no) [c](docs/LOG.md#parity)") == [
        "docs/no.md", "docs/LOG.md#no",
    ]  # fmt: skip
    assert missing_paths("`models/queries.py` `ops/` `runs/mine`") == ["models/queries.py"]
    assert missing_files("`image_processing.py` `detector.py`") == ["image_processing.py"]
    assert missing_names("from focus_detr.data import load_dataset, no\nfocus_detr.api.FocusDetr") == [
        "focus_detr.data.no"
    ]
    assert settings("`--set epoch=3`\n`focus-detr presets x --set a=1`") == {"epoch"}
    text = "```\nfocus-detr predict a \\\n  --no b\n```\n`focus-detr guess x`, `focus-detr train x --resume`"
    assert wrong_commands(text, options) == ["predict --no", "guess"]
