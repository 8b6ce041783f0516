"""What a conversion did: every key of the source accounted for."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ConversionReport:
    """Outcome of `convert_checkpoint`; ``str()`` gives a table and `to_dict` everything.

    Attributes:
        source, output: the checkpoint read and the model folder written.
        layout: as `layouts` names it: ``focus-detr (detrex)``, ``dino (original)``, ...
        backbone: name of the backbone preset.
        parts: for each part of the model, its tensors and their values, counted.
        renamed: old name to the new names it became.
        dropped: old name to the reason.
        settings: configuration fields that the checkpoint does not hold, and who chose them.
        notes: changes other than renaming.
    """

    source: str
    output: str
    layout: str
    backbone: str
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    renamed: dict[str, list[str]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    settings: dict[str, tuple[Any, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Everything, of types JSON knows."""
        return {
            "source": self.source,
            "output": self.output,
            "layout": self.layout,
            "backbone": self.backbone,
            "parts": {name: {"tensors": n, "values": values} for name, (n, values) in self.parts.items()},
            "renamed": self.renamed,
            "dropped": self.dropped,
            "settings": {name: {"value": value, "from": by} for name, (value, by) in self.settings.items()},
            "notes": self.notes,
        }

    def __str__(self) -> str:
        tensors = sum(n for n, _ in self.parts.values())
        values = sum(count for _, count in self.parts.values())
        lines = [f"{self.source} -> {self.output}", f"{self.layout}, {self.backbone}", ""]
        lines += [f"{'part':<18} {'tensors':>8} {'values':>12}"]
        lines += [f"{name:<18} {n:>8} {count:>12,}" for name, (n, count) in self.parts.items()]
        lines += [f"{'loaded':<18} {tensors:>8} {values:>12,}", f"{'dropped':<18} {len(self.dropped):>8}"]
        lines += [f"{'missing':<18} {0:>8}", ""]
        lines += [f"{count} dropped: {reason}" for reason, count in self._reasons().items()]
        lines += self.notes
        lines += [f"{name} = {value} ({by})" for name, (value, by) in self.settings.items()]
        return "\n".join(lines)

    def _reasons(self) -> dict[str, int]:
        counts: dict[str, int] = {}
        for reason in self.dropped.values():
            # Copies of many tensors are one line.
            short = reason.split(".")[0] if reason.startswith("copy of") else reason
            counts[short] = counts.get(short, 0) + 1
        return counts
