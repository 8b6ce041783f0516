"""Training losses of Sparse DETR, written plainly from its description (spec section 4.2).

One image after the other, every sum spelled out. Nothing of the package is called but backbone and neck; the
rest lends its weights.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment


def linear(layer, x):
    return x @ layer.weight.T + layer.bias


def layer_norm(layer, x):
    return F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, layer.eps)


def mlp(module, x):
    for layer in module.layers[:-1]:
        x = linear(layer, x).relu()
    return linear(module.layers[-1], x)


def feed_forward(module, x):
    return linear(module.linear2, linear(module.linear1, x).relu())


def best(scores, count):
    """Equal scores by their place: border tokens are equal, and which of them the release takes is chance."""
    return torch.sort(scores.detach(), descending=True, stable=True).indices[:count]


def sine(angles, channels, temperature=10000.0):
    even = torch.arange(0, channels, 2, dtype=torch.float64)
    scaled = angles[..., None] / temperature ** (even / channels)
    return torch.stack([scaled.sin(), scaled.cos()], -1).flatten(-2)


def inverse_sigmoid(x, eps=1e-5):
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def corners(cells, height, width):
    """The four cells (..., 2) around each of cells (..., 2), their share, and which are on the map."""
    low = cells.detach().floor()
    for step in itertools.product((0, 1), (0, 1)):
        corner = low + torch.tensor(step)
        share = (1 - (cells - corner).abs()).prod(-1)
        inside = ((corner >= 0) & (corner < torch.tensor([width, height]))).all(-1)
        yield corner.long(), share, inside


def deformable_attention(module, queries, references, tokens, padded, shapes):
    """queries (Q,C), references (Q,L,2 or 4), tokens (N,C) -> (Q,C), locations and weights (Q,h,L,P)."""
    heads, levels, points = module.heads, module.levels, module.points
    value = linear(module.value_proj, tokens).masked_fill(padded[:, None], 0.0).unflatten(-1, (heads, -1))
    offsets = linear(module.sampling_offsets, queries).reshape(-1, heads, levels, points, 2)
    weights = linear(module.attention_weights, queries).reshape(-1, heads, levels * points).softmax(-1)
    weights = weights.reshape(-1, heads, levels, points)
    if references.shape[-1] == 2:
        sizes = torch.tensor([(width, height) for height, width in shapes])
        locations = references[:, None, :, None] + offsets / sizes[None, None, :, None]
    else:
        locations = references[:, None, :, None, :2]
        locations = locations + offsets / points * references[:, None, :, None, 2:] / 2
    head, result, start = torch.arange(heads)[None, :, None], 0.0, 0
    for level, (height, width) in enumerate(shapes):
        grid = value[start : start + height * width].unflatten(0, (height, width))
        start += height * width
        cells = locations[:, :, level] * torch.tensor([width, height]) - 0.5
        for corner, share, inside in corners(cells, height, width):
            column, row = corner[..., 0].clamp(0, width - 1), corner[..., 1].clamp(0, height - 1)
            result = result + (
                grid[row, column, head] * (share * inside * weights[:, :, level])[..., None]
            ).sum(2)
    return linear(module.output_proj, result.flatten(1)), locations, weights


def self_attention(module, states, positions):
    parts = zip(module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True)
    inputs = (states + positions, states + positions, states)
    query, key, value = (
        (x @ weight.T + bias).unflatten(-1, (module.heads, -1)).transpose(0, 1)
        for x, (weight, bias) in zip(inputs, parts, strict=True)
    )
    weights = (query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])).softmax(-1)
    return linear(module.out_proj, (weights @ value).transpose(0, 1).flatten(1))


def giou(a, b):
    """Of boxes_cxcywh that broadcast."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.unbind(-1), b.unbind(-1)

    def extents(x, w, other_x, other_w):
        low, other_low, high, other_high = x - w / 2, other_x - other_w / 2, x + w / 2, other_x + other_w / 2
        shared = torch.minimum(high, other_high) - torch.maximum(low, other_low)
        return shared.clamp(min=0), torch.maximum(high, other_high) - torch.minimum(low, other_low)

    (shared_x, hull_x), (shared_y, hull_y) = extents(ax, aw, bx, bw), extents(ay, ah, by, bh)
    shared, hull = shared_x * shared_y, hull_x * hull_y
    union = aw * ah + bw * bh - shared
    return shared / union - (hull - union) / hull


def set_losses(config, logits, boxes, labels, count, suffix):
    """logits (Q,k) and boxes (Q,4) of each image, each object matched to one of them."""
    sums = dict.fromkeys(("class", "bbox", "giou"), 0.0)
    for scores, predicted, label in zip(logits, boxes, labels, strict=True):
        objects, classes = label["boxes"], label["class_labels"]
        p = scores.detach().sigmoid()
        absent = 0.75 * p**2 * -(1 - p + 1e-8).log()
        present = 0.25 * (1 - p) ** 2 * -(p + 1e-8).log()
        overlaps = giou(predicted.detach()[:, None], objects)
        distances = (predicted.detach()[:, None] - objects).abs().sum(-1)
        cost = config.class_cost * (present - absent)[:, classes] + config.bbox_cost * distances
        rows, columns = map(torch.as_tensor, linear_sum_assignment(cost - config.giou_cost * overlaps))
        truth = torch.zeros_like(scores)
        truth[rows, classes[columns]] = 1
        p = scores.sigmoid()
        right = p * truth + (1 - p) * (1 - truth)
        balance = 0.25 * truth + 0.75 * (1 - truth)
        sums["class"] += (
            balance * (1 - right) ** 2 * F.binary_cross_entropy(p, truth, reduction="none")
        ).sum()
        sums["bbox"] += (predicted[rows] - objects[columns]).abs().sum()
        sums["giou"] += (1 - giou(predicted[rows], objects[columns])).sum()
    return {
        f"loss_{name}{suffix}": getattr(config, f"{name}_loss_coefficient") * part / count
        for name, part in sums.items()
    }


def sparse_detr_losses(model, pixels, mask, labels):
    """All parts of the loss of a model with quirks "original", as the release computes them in float64."""
    config, width = model.config, model.config.d_model
    encoder, decoder, proposals = model.encoder, model.host.decoder, model.proposals
    maps = model.neck(model.backbone(pixels))
    shapes = [tuple(level.shape[2:]) for level in maps]
    tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)
    masks = [F.interpolate(mask[:, None].double(), size=shape)[:, 0].bool() for shape in shapes]
    padded = ~torch.cat([level.flatten(1) for level in masks], 1)

    positions, references, anchors, ratios = [], [], [], []
    for level, inside in enumerate(masks):
        height, length = shapes[level]
        y, x = inside.double().cumsum(1), inside.double().cumsum(2)
        y = (y + config.position_offset) / (y[:, -1:] + 1e-6) * 2 * math.pi
        x = (x + config.position_offset) / (x[:, :, -1:] + 1e-6) * 2 * math.pi
        encoded = [sine(angle, width // 2, config.position_temperature) for angle in (y, x)]
        positions.append(torch.cat(encoded, -1).flatten(1, 2) + model.level_embedding[level])
        size = torch.stack([inside[:, 0].sum(1), inside[:, :, 0].sum(1)], -1).double()  # (B,2) width, height
        ratios.append(size / torch.tensor([length, height]))
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(length), indexing="ij")
        centres = torch.stack([columns, rows], -1).flatten(0, 1) + 0.5
        references.append(centres / size[:, None])
        anchors.append(torch.cat([references[-1], torch.full_like(references[-1], 0.05 * 2**level)], -1))
    positions, anchors, ratios = torch.cat(positions, 1), torch.cat(anchors, 1), torch.stack(ratios, 1)
    references = torch.cat(references, 1)[:, :, None] * ratios[:, None]  # (B,N,L,2)
    proposing = ((anchors > 0.01) & (anchors < 0.99)).all(-1) & ~padded
    anchors = torch.log(anchors / (1 - anchors)).masked_fill(~proposing[..., None], float("inf"))

    def transform(x):
        x = x.masked_fill(~proposing[..., None], 0.0)
        return layer_norm(proposals.norm, linear(proposals.projection, x))

    scorer = encoder.scorer
    hidden = F.gelu(linear(scorer.project, layer_norm(scorer.norm, transform(tokens + positions))))
    local, shared = hidden.chunk(2, -1)
    scores = torch.cat([local, shared.mean(1, keepdim=True).expand_as(shared)], -1)
    for layer in scorer.score:
        scores = linear(layer, scores) if isinstance(layer, torch.nn.Linear) else F.gelu(scores)
    scores = torch.where(padded, scores.min(), scores.squeeze(-1))
    own = [math.floor(config.keep_ratio * count) + 1 for count in (~padded).sum(1).tolist()]
    most = min(max(own), scores.shape[1])

    memory, received = [], torch.zeros_like(scores)
    auxiliary = [([], []) for _ in encoder.class_heads]
    decoded = [([], []) for _ in decoder.layers]
    everything = [], []
    for i in range(len(pixels)):
        kept = best(scores[i], most)
        states, full = tokens[i, kept], tokens[i]
        for j, layer in enumerate(encoder.layers):
            looked = deformable_attention(
                layer.deformable_attention,
                states + positions[i, kept],
                references[i, kept],
                full,
                padded[i],
                shapes,
            )[0]
            states = layer_norm(layer.deformable_attention_norm, states + looked)
            states = layer_norm(layer.ffn_norm, states + feed_forward(layer.ffn, states))
            full = full.index_copy(0, kept[: own[i]], states[: own[i]])
            if j < len(auxiliary):
                auxiliary[j][0].append(linear(encoder.class_heads[j], states))
                auxiliary[j][1].append((mlp(encoder.box_heads[j], states) + anchors[i, kept]).sigmoid())
        memory.append(full)

    features = transform(torch.stack(memory))
    for i in range(len(pixels)):
        logits = linear(proposals.class_head, features[i])
        boxes = (mlp(proposals.box_head, features[i]) + anchors[i]).sigmoid()
        everything[0].append(logits)
        everything[1].append(boxes)
        chosen = best(logits.amax(-1), min(config.num_queries, len(logits)))
        states, box = memory[i][chosen], boxes[chosen].detach()
        encoded = torch.cat([sine(side * 2 * math.pi, width // 2) for side in box.unbind(-1)], -1)
        where = layer_norm(model.host.query_norm, linear(model.host.query_projection, encoded))
        for j, layer in enumerate(decoder.layers):
            states = layer_norm(
                layer.self_attention_norm, states + self_attention(layer.self_attention, states, where)
            )
            canvas = box[:, None] * ratios[i].repeat(1, 2)
            looked, locations, weights = deformable_attention(
                layer.cross_attention, states + where, canvas, memory[i], padded[i], shapes
            )
            start = 0
            for level, (height, length) in enumerate(shapes):
                cells = locations[:, :, level].detach() * torch.tensor(
                    [length, height]
                )  # half a cell too far
                for corner, share, inside in corners(cells, height, length):
                    index = start + corner[..., 1] * length + corner[..., 0]
                    share = share * weights[:, :, level].detach()
                    received[i].index_add_(0, index[inside], share[inside])
                start += height * length
            states = layer_norm(layer.cross_attention_norm, states + looked)
            states = layer_norm(layer.ffn_norm, states + feed_forward(layer.ffn, states))
            moved = (mlp(model.host.box_heads[j], states) + inverse_sigmoid(box)).sigmoid()
            decoded[j][0].append(linear(model.host.class_heads[j], states))
            decoded[j][1].append(moved)
            box = moved.detach()

    count = max(1.0, float(sum(len(label["class_labels"]) for label in labels)))
    losses = set_losses(config, *everything, labels, count, "_enc")
    for j, layer in enumerate(decoded):
        losses |= set_losses(config, *layer, labels, count, "" if j == len(decoded) - 1 else f"_{j}")
    received = torch.where(padded, received.min() - 1, received)
    target = torch.zeros_like(scores)
    for i in range(len(pixels)):
        target[i, best(received[i], own[i])] = 1
    losses["loss_token_scores"] = F.multilabel_soft_margin_loss(scores, target)
    for j, layer in enumerate(auxiliary):
        losses |= set_losses(config, *layer, labels, count, f"_enc_{j}")
    return losses
