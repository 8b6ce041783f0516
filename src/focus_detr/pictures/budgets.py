"""The budgets chosen for many pictures: how many have each, and examples."""

from __future__ import annotations

from collections import Counter
from typing import IO, TYPE_CHECKING, Any

from focus_detr.pictures.palette import CURVES

if TYPE_CHECKING:
    from PIL import Image

    from focus_detr.inference import Detections

EXAMPLES = 3
_SIDE = 240
_MOST_BARS = 8


class BudgetPage:
    """Counts pictures by the budget that was chosen for them, and keeps the first few of each, made small."""

    def __init__(self) -> None:
        self.counts: Counter[float] = Counter()
        self.examples: dict[float, list[Image.Image]] = {}

    def add(self, detections: Detections) -> None:
        """Take in one picture; one without a chosen budget does not count."""
        budget = detections.budget
        if budget is None:
            return
        self.counts[budget] += 1
        examples = self.examples.setdefault(budget, [])
        if detections.image is not None and len(examples) < EXAMPLES:
            small = detections.image.convert("RGB")
            small.thumbnail((_SIDE, _SIDE))
            examples.append(small)

    def save(self, stream: IO[bytes]) -> None:
        """Write the page as PNG: bars, and below each the examples."""
        # A figure of its own, not pyplot's: nothing is left behind in the caller's plotting state.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        bars = _bars(self.counts, self.examples)
        figure = Figure(figsize=(max(6.0, 1.7 * len(bars) + 1), 3.2 + 1.35 * EXAMPLES), layout="constrained")
        FigureCanvasAgg(figure)
        grid: Any = figure.add_gridspec(EXAMPLES + 1, len(bars), height_ratios=[2.2, *[1] * EXAMPLES])
        axes = figure.add_subplot(grid[0, :])
        drawn = axes.bar(range(len(bars)), [count for _, count, _ in bars], color=CURVES[0], width=0.6)
        axes.bar_label(drawn, padding=2)
        axes.set_xticks(range(len(bars)), [name for name, _, _ in bars])
        axes.set_xlim(-0.5, len(bars) - 0.5)
        axes.set_xlabel("mean share of tokens that an encoder layer works on")
        axes.set_ylabel("pictures")
        total = self.counts.total()
        mean = sum(budget * count for budget, count in self.counts.items()) / total
        axes.set_title(f"Budgets of {total} pictures, {mean:.3f} on average", loc="left", fontweight="bold")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for column, (_, _, examples) in enumerate(bars):
            for row in range(EXAMPLES):
                place = figure.add_subplot(grid[row + 1, column])
                place.axis("off")
                if row < len(examples):
                    place.imshow(examples[row])
        figure.savefig(stream, dpi=110, facecolor="white", format="png")


def _bars(
    counts: Counter[float], examples: dict[float, list[Image.Image]]
) -> list[tuple[str, int, list[Image.Image]]]:
    """A name, a count and examples of each budget; of ranges where there are many, as with deadlines."""
    budgets = sorted(counts)
    groups = [[budget] for budget in budgets]
    if len(budgets) > _MOST_BARS:
        width = (budgets[-1] - budgets[0]) / _MOST_BARS
        groups = [[] for _ in range(_MOST_BARS)]
        for budget in budgets:
            groups[min(int((budget - budgets[0]) / width), _MOST_BARS - 1)].append(budget)
        groups = [group for group in groups if group]
    return [
        (
            f"{group[0]:g}" if len(group) == 1 else f"{group[0]:g} to {group[-1]:g}",
            sum(counts[budget] for budget in group),
            [picture for budget in group for picture in examples[budget]][:EXAMPLES],
        )
        for group in groups
    ]
