"""What `focus-detr batch` takes for very many pictures: machines, hours, money, and what it waits for.

    python benchmarks/batch_cost.py --rates benchmarks/results/batch.csv --pictures 1e9 --price 0.04

Hours are pictures / (rate of the slowest part), money is hours x price. Every input is measured
(`benchmarks/batch.py`) or given; prices are always given.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """A kind of machine.

    Attributes:
        cores: those that read and, without a GPU, compute.
        price: of one hour, in any currency.
        read_seconds: processor seconds of one core to fetch, decode and resize a picture.
        model_seconds: processor seconds of one core, or seconds of the GPU, for a picture.
        gpus: each a model; 0 computes on the cores.
        gigabits: of its network, a second.
    """

    cores: int
    price: float
    read_seconds: float
    model_seconds: float
    gpus: int = 0
    gigabits: float = 10.0


@dataclass(frozen=True)
class Cost:
    """Of a run: `rates` are pictures a second of one machine, by part; the lowest is the `bottleneck`."""

    rates: dict[str, float]
    bottleneck: str
    machine_hours: float
    money: float
    requests: float
    stored_gigabytes: float


def cost(
    machine: Machine, pictures: float, picture_bytes: float, result_bytes: float, pictures_a_request: float
) -> Cost:
    """Of ``pictures`` pictures of so many bytes each.

    pictures_a_request: of a store; 1 for loose files, those of a shard or row group else.
    """
    if machine.gpus:
        parts = {
            "reading": machine.cores / machine.read_seconds,
            "model": machine.gpus / machine.model_seconds,
        }
    else:  # the same cores do both
        parts = {"reading and model": machine.cores / (machine.read_seconds + machine.model_seconds)}
    parts["network"] = machine.gigabits * 1e9 / 8 / picture_bytes
    bottleneck = min(parts, key=lambda name: parts[name])
    hours = pictures / parts[bottleneck] / 3600
    return Cost(
        rates={name: round(rate, 2) for name, rate in parts.items()},
        bottleneck=bottleneck,
        machine_hours=round(hours, 1),
        money=round(hours * machine.price, 2),
        requests=round(pictures / pictures_a_request),
        stored_gigabytes=round(pictures * result_bytes / 1e9, 1),
    )


def measured(file: Path) -> dict[str, float]:
    """The rates that `benchmarks/batch.py` wrote."""
    with open(file, newline="") as stream:
        (row,) = [each for each in csv.DictReader(stream) if each["work"] == "batch"]
    names = ("read_cpu_seconds", "model_cpu_seconds", "picture_bytes", "result_bytes")
    return {name: float(row[name]) for name in names}


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    arguments.add_argument("--rates", type=Path, help="CSV of benchmarks/batch.py")
    arguments.add_argument("--pictures", type=float, default=1e9)
    arguments.add_argument("--cores", type=int, default=16)
    arguments.add_argument("--gpus", type=int, default=0)
    arguments.add_argument("--price", type=float, required=True, help="of one machine, an hour")
    arguments.add_argument("--gigabits", type=float, default=10.0)
    arguments.add_argument("--read-seconds", type=float, help="processor seconds a picture; as measured")
    arguments.add_argument("--model-seconds", type=float, help="of a core or GPU a picture; as measured")
    arguments.add_argument("--picture-bytes", type=float)
    arguments.add_argument("--result-bytes", type=float)
    arguments.add_argument("--pictures-a-request", type=float, default=1000.0)
    options = arguments.parse_args()
    rates = measured(options.rates) if options.rates else {}

    def value(name: str, measured_name: str) -> float:
        given = getattr(options, name)
        if given is None and measured_name not in rates:
            arguments.error(f"--{name.replace('_', '-')}: give it, or --rates")
        return rates[measured_name] if given is None else given

    if options.gpus and options.model_seconds is None:
        arguments.error("--model-seconds: of a GPU are not those of a core; measure and give them")
    machine = Machine(
        cores=options.cores,
        price=options.price,
        read_seconds=value("read_seconds", "read_cpu_seconds"),
        model_seconds=value("model_seconds", "model_cpu_seconds"),
        gpus=options.gpus,
        gigabits=options.gigabits,
    )
    found = cost(
        machine,
        options.pictures,
        value("picture_bytes", "picture_bytes"),
        value("result_bytes", "result_bytes"),
        options.pictures_a_request,
    )
    print(json.dumps({"machine": asdict(machine), "pictures": options.pictures, **asdict(found)}, indent=2))


if __name__ == "__main__":
    main()
