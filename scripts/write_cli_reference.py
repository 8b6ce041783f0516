"""Write docs/cli.md from what `focus-detr VERB --help` prints."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from focus_detr.cli import app

TARGET = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
HEAD = """# Command line

Written from the parser by `make docs`; do not edit.

Exit codes: 0 done; 1 an unexpected error, with its traceback, or nothing could be done; 2 unusable input,
option or file, said in one message on stderr; 130 interrupted, 143 terminated.
With `--json`, stdout holds JSON and nothing else.
"""


def reference() -> str:
    """The whole page: a section a verb."""
    verbs = [
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback
    ]
    for group in app.registered_groups:
        inner = group.typer_instance.registered_commands if group.typer_instance else []
        verbs += [f"{group.name} {command.callback.__name__}" for command in inner if command.callback]
    return HEAD + "".join(f"\n## focus-detr {verb}\n\n```\n{_help(verb)}\n```\n" for verb in verbs)


def _help(verb: str) -> str:
    result = CliRunner().invoke(app, [*verb.split(), "--help"], prog_name="focus-detr", terminal_width=100)
    if result.exit_code:
        raise RuntimeError(f"focus-detr {verb} --help failed: {result.output}")
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")
