"""The statistics of Salience-DETR's fusion, where several processes share a step's images."""

import os
import socket

import pytest
import torch
import torch.distributed as dist

from focus_detr.losses.whole_step import standing_in
from focus_detr.models.hosts.salience_fusion import CellNorm
from helpers.tiny_training import processes


def images() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64)
    inside = torch.ones(3, 1, 5, 6, dtype=torch.bool)
    inside[1, :, :, 4:] = False
    return maps, inside, torch.randn(maps.shape, generator=generator, dtype=torch.float64)


def norm_and_gradients(maps, inside, wanted, counts=True):
    norm, maps = CellNorm(4).double(), maps.clone().requires_grad_()
    with standing_in(not counts):
        normed = norm(maps, inside)
        loss = ((normed - wanted).square() * inside).sum()
        (loss if counts else loss * 0).backward()
    return normed.detach(), maps.grad, norm.weight.grad, norm.running_var


def share(rank: int, world: int, port: int, queue) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    dist.init_process_group("gloo", rank=rank, world_size=world)
    parts = [slice(0, 1), slice(1, 3), slice(0, 1)]  # the last one has none of its own
    results = norm_and_gradients(*(each[parts[rank]] for each in images()), counts=rank < 2)
    queue.put((rank, [each.numpy() for each in results]))
    dist.destroy_process_group()


@pytest.mark.slow
def test_statistics_and_gradients_are_those_of_one_process_with_all_images():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    queue = processes.Queue()
    started = [processes.Process(target=share, args=(rank, 3, port, queue)) for rank in range(3)]
    for each in started:
        each.start()
    found = dict(queue.get(timeout=120) for _ in started)
    for each in started:
        each.join(timeout=60)
    first, second, none = ([torch.from_numpy(value) for value in found[rank]] for rank in range(3))
    normed, gradient, weight_gradient, variance = norm_and_gradients(*images())
    torch.testing.assert_close(torch.cat([first[0], second[0]]), normed)
    torch.testing.assert_close(torch.cat([first[1], second[1]]), gradient)
    torch.testing.assert_close(first[2] + second[2], weight_gradient)
    assert not none[1].any() and not none[2].any()
    for each in (first, second, none):
        torch.testing.assert_close(each[3], variance)
