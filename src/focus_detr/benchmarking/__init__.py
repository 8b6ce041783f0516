"""Benchmark: what models take (time, memory, operations) and what they give (AP), measured alike."""

from focus_detr.benchmarking.environment import describe_environment, limited_threads
from focus_detr.benchmarking.frontiers import Frontier, frontier
from focus_detr.benchmarking.macs import RULE, Cost, count_macs
from focus_detr.benchmarking.memory import PeakMemory, peak_memory
from focus_detr.benchmarking.report import BenchmarkReport, Row
from focus_detr.benchmarking.run import benchmark
from focus_detr.benchmarking.timing import Timing, take_turns

__all__ = [
    "RULE",
    "BenchmarkReport",
    "Cost",
    "Frontier",
    "PeakMemory",
    "Row",
    "Timing",
    "benchmark",
    "count_macs",
    "describe_environment",
    "frontier",
    "limited_threads",
    "peak_memory",
    "take_turns",
]
