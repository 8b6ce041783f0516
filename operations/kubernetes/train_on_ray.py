"""Starts `focus-detr train` on nodes of a Ray cluster: one task a node, torchrun in each.

    python train_on_ray.py --nodes 2 [--processes 8] -- DATA --output RUN [options of train]

Processes find each other by torch; Ray only places them, all or none, and tells where the first is.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
from pathlib import Path


def torchrun(rank: int, nodes: int, processes: str, address: str, port: int, options: list[str]) -> list[str]:
    """The command of one node."""
    command = [sys.executable, "-m", "torch.distributed.run"]
    command += ["--nnodes", str(nodes), "--node-rank", str(rank), "--nproc-per-node", processes]
    command += ["--master-addr", address, "--master-port", str(port), "--shutdown-timeout", "240"]
    command += ["-m", "focus_detr", "train", *options]
    output = Path(options[options.index("--output") + 1])
    return [*command, "--resume"] if (output / "recipe.yaml").is_file() else command


def address_of_this_node() -> tuple[str, int]:
    """Where the others reach it, and a port that is free."""
    import ray

    with socket.socket() as free:
        free.bind(("", 0))
        return ray.util.get_node_ip_address(), free.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--processes", type=int, help="of a node; without, one a GPU, eight of them")
    parser.add_argument("options", nargs="+", help="of `focus-detr train`, --output among them")
    said = parser.parse_args()
    if "--output" not in said.options:
        parser.error("say --output, a folder that every node sees")

    import ray
    from ray.util.placement_group import placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    ray.init()
    wanted = {"CPU": 1.0} if said.processes else {"CPU": 1.0, "GPU": 8.0}
    group = placement_group([wanted] * said.nodes, strategy="STRICT_SPREAD" if said.nodes > 1 else "PACK")
    ray.get(group.ready())

    def on(node: int, function):
        place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=node)
        return ray.remote(function).options(
            num_cpus=1, num_gpus=wanted.get("GPU", 0), scheduling_strategy=place
        )

    address, port = ray.get(on(0, address_of_this_node).remote())
    processes = str(said.processes or "gpu")

    def start(rank: int) -> None:
        subprocess.run(torchrun(rank, said.nodes, processes, address, port, said.options), check=True)

    ray.get([on(rank, start).remote(rank) for rank in range(said.nodes)])


if __name__ == "__main__":
    main()
