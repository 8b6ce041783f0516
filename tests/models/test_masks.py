"""The mask head: with every host and policy, alone as in a batch, taught where its objects are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from focus_detr import FocusDetrConfig, FocusDetrForInstanceSegmentation, FocusDetrForObjectDetection
from focus_detr.errors import FocusDetrError
from focus_detr.losses.masks import MaskPredictions, MaskWeights, ObjectPlaces, pixels_at
from focus_detr.losses.targets import Matches
from focus_detr.models.backbones.backbone import backbone_config
from focus_detr.models.backbones.finer import with_finer_map
from focus_detr.models.backbones.strides import measured_strides
from focus_detr.models.hosts import HOSTS
from focus_detr.models.policies import POLICIES
from focus_detr.structures.pixel_masks import FORM, PixelMasks, mask_logits
from helpers.small_models import DETR, RESNET, SMALL, SWIN, batch, image, labels, small_config, small_model

SHAPES = [(96, 80), (64, 96)]
PAIRS = [
    (host, policy)
    for host in HOSTS.names()
    for policy in POLICIES.names()
    if POLICIES[policy].works_with(host)
]


def segmenter(**changes):
    return small_model(heads=["masks"], **changes)


def of_pair(host, policy):
    changes = {"host": host, "token_policy": policy}
    if HOSTS[host].single_scale:
        changes = {**DETR, "token_policy": policy}
    return segmenter(**changes)


def with_masks(counts, shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = labels(counts, shapes, seed)
    for label in made:
        count = len(label["boxes"])
        label["masks"] = 255 * (torch.rand(count, 8, 8, generator=generator) > 0.4).to(torch.uint8)
    return made


@pytest.mark.parametrize(("host", "policy"), PAIRS, ids=[" ".join(pair) for pair in PAIRS])
def test_every_host_and_policy_carries_it(host, policy):
    model = of_pair(host, policy).train()
    pixels, mask = batch([image(*shape, seed=i) for i, shape in enumerate(SHAPES)])
    for counts in ((2, 1), (0, 0)):
        model.zero_grad()
        output = model(pixels, mask, with_masks(counts, SHAPES))
        assert output.extra["masks_kernels"].shape[:2] == output.logits.shape[:2]
        output.loss.backward()
        parts = {name: part for name, part in output.loss_dict.items() if "mask" in name or "dice" in name}
        layers = model.config.decoder_layers
        assert all(f"loss_mask{suffix}" in parts for suffix in ("", *(f"_{j}" for j in range(layers - 1))))
        assert ("loss_dice_dn" in parts) == (any(counts) and model.host.__class__.__name__ in DENOISING)
        for name, parameter in model.heads.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert bool(parameter.grad.any()) == any(counts), name
    with torch.no_grad():
        outputs = model.eval()(pixels, mask)
    sizes = outputs.extra["masks_sizes"].tolist()
    assert sizes == [[24, 20], [16, 24]] and outputs.extra["masks_pixels"].shape[2:] == (24, 24)
    found = PixelMasks.of(outputs).masks(1, np.array([0]), np.array([[5, 5, 60, 50]], np.float32), (64, 96))
    assert not found[0].decode((64, 96))[:, 60:].any()


DENOISING = ("DinoHost", "SalienceHost", "DnDeformableHost")


@pytest.mark.parametrize(
    "backbone",
    [RESNET, SWIN, backbone_config("efficientnet-lite0"), backbone_config("yolox-nano"), DETR["backbone"]],
    ids=["resnet", "swin", "lite", "yolox", "one map"],
)
def test_a_map_at_stride_4_is_added_before_those_of_the_levels(backbone):
    finer = with_finer_map(backbone)
    assert measured_strides(finer) == [4, *measured_strides(backbone)]
    assert with_finer_map(finer) is finer


@pytest.mark.parametrize(
    "changes",
    [{}, {"backbone": SWIN}, {"backbone": backbone_config("yolox-nano")}, {"token_policy": "dense"},
     {**DETR, "token_policy": "poll-and-pool"}, {**DETR, "token_policy": "full-attention"},
     {"host": "salience-detr", "token_policy": "salience"}],
    ids=["focus", "swin", "yolox", "dense", "poll-and-pool", "detr", "salience"],
)  # fmt: skip
@torch.no_grad()
def test_masks_of_an_image_do_not_depend_on_its_batch(changes):
    model = segmenter(**changes)
    pictures = [image(70, 101), image(33, 64, seed=1), image(8, 120, seed=2), image(1, 1, seed=3)]
    pixels, mask = batch(pictures, extra=(9, 5))
    together = model(pixels, mask)
    for i, picture in enumerate(pictures):
        alone = model(picture[None])
        height, width = alone.extra["masks_sizes"][0].tolist()
        assert together.extra["masks_sizes"][i].tolist() == [height, width]
        own = together.extra["masks_pixels"][i]
        torch.testing.assert_close(own[:, :height, :width], alone.extra["masks_pixels"][0], rtol=0, atol=1e-9)
        assert not own[:, height:].any() and not own[:, :, width:].any()
        queries = alone.logits.shape[1]
        kernels = together.extra["masks_kernels"][i, :queries]
        torch.testing.assert_close(kernels, alone.extra["masks_kernels"][0], rtol=0, atol=1e-9)


@torch.no_grad()
def test_a_loss_does_not_depend_on_how_images_are_padded():
    model = segmenter()
    pictures, wanted = [image(*shape, seed=i) for i, shape in enumerate(SHAPES)], with_masks([2, 1], SHAPES)
    parts = [model(*batch(pictures, extra), wanted).loss_dict for extra in ((0, 0), (13, 40))]
    for name, part in parts[0].items():
        torch.testing.assert_close(parts[1][name], part, rtol=1e-9, atol=1e-12)


def test_boxes_and_classes_are_those_of_the_detector_without_it():
    detector, model = small_model(), segmenter()
    model.load_state_dict(detector.state_dict(), strict=False)
    pixels, mask = batch([image(*shape, seed=i) for i, shape in enumerate(SHAPES)])
    with torch.no_grad():
        one, other = detector(pixels, mask), model(pixels, mask)
    assert torch.equal(one.logits, other.logits) and torch.equal(one.pred_boxes, other.pred_boxes)


def test_a_mask_is_at_first_the_ellipse_in_its_box():
    torch.manual_seed(0)
    model = FocusDetrForInstanceSegmentation(small_config())
    with torch.no_grad():
        kernels = model.heads["masks"].kernels(torch.randn(1, 1, SMALL["d_model"]))
    kernels[..., :-FORM] = 0
    pixels = PixelMasks(kernels.numpy(), np.zeros((1, 32, 10, 10), np.float32), np.array([[10, 10]]))
    mask = pixels.masks(0, np.array([0]), np.array([[10, 20, 50, 40]], np.float32), (60, 80))[0]
    bitmap = mask.decode((60, 80))
    y, x = np.mgrid[:60, :80] + 0.5
    np.testing.assert_array_equal(bitmap, ((x - 30) / 20) ** 2 + ((y - 30) / 10) ** 2 < 1)


@pytest.mark.parametrize("size", [(40, 64), (37, 90), (160, 256), (7, 5)])
def test_masks_of_pictures_are_those_of_the_logits_at_their_pixels(size):
    """What training teaches at places is what prediction says at pixels."""
    generator = torch.Generator().manual_seed(1)
    kernels, pixels = (
        torch.randn(1, 3, 4 + FORM, generator=generator),
        torch.randn(1, 4, 12, 20, generator=generator),
    )
    sizes, (height, width) = torch.tensor([[10, 16]]), size  # the image does not fill the canvas
    fractions = np.array([[0.1, 0.1, 0.7, 0.9], [0.3, 0.0, 1.0, 0.5], [0, 0, 1, 1]])
    boxes_xyxy = fractions * [width, height, width, height]
    found = PixelMasks(kernels.numpy(), pixels.numpy(), sizes.numpy()).masks(
        0, np.arange(3), boxes_xyxy.astype(np.float32), size
    )
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    places = torch.stack([x / width, y / height], -1).view(1, 1, -1, 2)
    said = pixels_at(pixels, sizes, places)[0, 0]
    for query, (mask, box) in enumerate(zip(found, boxes_xyxy, strict=True)):
        low, high = torch.tensor(box[:2]), torch.tensor(box[2:])
        whole = torch.tensor([width, height])
        cxcywh = torch.cat([(low + high) / 2 / whole, (high - low) / whole]).float()
        logits = mask_logits(kernels[0, query], cxcywh, said, places[0, 0]).view(height, width)
        inside = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
        sure = inside & (logits.abs() > 1e-4)
        decoded = torch.from_numpy(mask.decode(size))
        assert torch.equal(decoded[sure], (logits > 0)[sure]) and sure.any()
        assert decoded[~inside].sum() <= 0


def disc_places(side=16):
    """One image with two objects: discs left and right on a map that knows one from the other."""
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    left = ((x - 16) ** 2 + (y - 16) ** 2 < 100).float()
    right = ((x - 48) ** 2 + (y - 16) ** 2 < 100).float()
    pixels = torch.stack([left, right])[None]
    u, v = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    disc = 255 * (((u - 32) ** 2 + (v - 32) ** 2) < 32**2)
    label = {
        "class_labels": torch.zeros(2, dtype=torch.int64),
        "boxes": torch.tensor([[0.25, 0.5, 20 / 64, 20 / 32], [0.75, 0.5, 20 / 64, 20 / 32]]),
        "masks": torch.stack([disc, disc]).to(torch.uint8),
    }
    return ObjectPlaces.of(pixels, torch.tensor([[32, 64]]), [label], side, moving=False), label["boxes"][
        None
    ]


def test_matching_tells_objects_by_their_masks_where_boxes_are_alike():
    objects, boxes = disc_places()
    # Kernels of an object on the left, and on the right, with boxes around both.
    kernels = torch.zeros(1, 2, 2 + FORM)
    kernels[0, 0, 0], kernels[0, 1, 1], kernels[..., 2] = 12, 12, -6
    around = torch.tensor([0.5, 0.5, 1.0, 1.0]).expand(1, 2, 4)
    costs = MaskPredictions(kernels, objects, MaskWeights()).costs(around)[0]
    assert costs.shape == (2, 2)
    assert costs[0, 0] < 0.5 < 2 < costs[0, 1] and costs[1, 1] < 0.5 < 2 < costs[1, 0]


def test_a_right_mask_costs_nothing_and_an_unknown_one_neither():
    objects, boxes = disc_places()
    kernels = torch.zeros(1, 2, 2 + FORM)
    kernels[..., 0], kernels[..., 1], kernels[..., 2] = 30, 30, -15
    both = torch.arange(2)
    matches, count = Matches(torch.zeros(2, dtype=torch.int64), both, both), torch.tensor(2.0)
    right = MaskPredictions(kernels, objects, MaskWeights()).losses(boxes, matches, count)
    assert right["loss_mask"] < 0.6 and right["loss_dice"] < 0.15
    wrong = MaskPredictions(-kernels, objects, MaskWeights()).losses(boxes, matches, count)
    assert wrong["loss_mask"] > 20 and wrong["loss_dice"] > 1.5
    objects.known[:] = 0
    nothing = MaskPredictions(-kernels, objects, MaskWeights())
    assert not any(nothing.losses(boxes, matches, count).values()) and not nothing.costs(boxes).any()


def test_places_of_an_image_follow_from_its_seed_alone():
    pixels, sizes = torch.randn(3, 4, 16, 16), torch.tensor([[16, 16]] * 3)
    wanted = with_masks([2, 1, 0], [(64, 64)] * 3)
    wanted[2].pop("masks")  # as the collator leaves it
    for seed, label in enumerate(wanted):
        label["noise_seed"] = torch.tensor([seed])
    first = ObjectPlaces.of(pixels, sizes, wanted, 8, moving=True)
    alone = ObjectPlaces.of(pixels[1:2], sizes[1:2], wanted[1:2], 8, moving=True)
    torch.testing.assert_close(first.places[1, :1], alone.places[0])
    torch.testing.assert_close(first.truth[1, :1], alone.truth[0])
    assert not torch.equal(
        first.places[0, 0], ObjectPlaces.of(pixels, sizes, wanted, 8, moving=False).places[0, 0]
    )


def test_objects_without_masks_are_said():
    model = segmenter().train()
    pixels, mask = batch([image(*SHAPES[0])])
    with pytest.raises(FocusDetrError, match="objects without 'masks'"):
        model(pixels, mask, labels([2], SHAPES[:1]))


@pytest.mark.parametrize(
    "options", [{"chanels": 3}, {"channels": 0}, {"mask_cost": -1.0}, {"places": 0}], ids=str
)
def test_unusable_options_are_refused(options):
    with pytest.raises(FocusDetrError, match="head_options|chanels"):
        small_config(heads=["masks"], head_options={"masks": options})


@pytest.mark.slow
def test_masks_are_learned():
    """Crosses, which no ellipse is: they fill five ninths of their boxes."""
    torch.manual_seed(0)
    model = segmenter(dtype=torch.float32).train()
    pixels = torch.zeros(1, 3, 64, 64)
    cross = torch.zeros(24, 24)
    cross[8:16], cross[:, 8:16] = 1, 1
    pixels[0, :, 20:44, 12:36] = cross
    wanted = {
        "class_labels": torch.tensor([1]),
        "boxes": torch.tensor([[24 / 64, 32 / 64, 24 / 64, 24 / 64]]),
        "size": torch.tensor([64, 64]),
        "masks": (255 * cross[None]).to(torch.uint8),
    }
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for _ in range(120):
        optimizer.zero_grad()
        model(pixels, None, [wanted]).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        outputs = model.eval()(pixels)
    best = outputs.logits[0].amax(-1).argmax()
    box = np.array([[12, 20, 36, 44]], np.float32)
    found = PixelMasks.of(outputs).masks(0, np.array([int(best)]), box, (64, 64))[0].decode((64, 64))
    truth = pixels[0, 0].numpy() > 0
    assert (found & truth).sum() / (found | truth).sum() > 0.85


def test_it_starts_from_a_detector_and_is_saved_whole(tmp_path):
    detector = FocusDetrForObjectDetection(small_config())
    detector.save_pretrained(tmp_path / "detector")
    model = FocusDetrForInstanceSegmentation.from_pretrained(tmp_path / "detector")
    assert model.config.heads == ["masks"] and detector.config.heads == []
    for name, parameter in detector.state_dict().items():
        assert torch.equal(model.state_dict()[name], parameter)
    with torch.no_grad():  # as training would
        for parameter in model.heads.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "model")
    again = FocusDetrForObjectDetection.from_pretrained(tmp_path / "model").eval()
    assert FocusDetrConfig.from_pretrained(tmp_path / "model").architectures == [type(model).__name__]
    for name, parameter in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], parameter), name
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        one, other = model.eval()(pixels), again(pixels)
    # Equal weights at other addresses: some processors' convolutions then differ in the last digit.
    torch.testing.assert_close(one.extra, other.extra, rtol=1e-4, atol=1e-2)
