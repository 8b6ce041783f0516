"""A small ONNX file in the layout of YOLOX' published one, with random weights: written node by node."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from focus_detr.models.backbones.yolox import YoloxConfig

SMALL = YoloxConfig(
    hidden_sizes=[4, 8, 8, 8, 16],
    depths=[1, 2, 1, 1],
    tower_channels=8,
    out_features=["tower1", "tower2", "tower3"],
)
MAPS = [
    *(f"stage{i}" for i in range(1, 5)),
    *(f"{kind}{level}" for level in range(3) for kind in ("classes", "boxes")),
]
HEADS = [f"{kind}_preds{level}" for level in range(3) for kind in ("cls", "reg", "obj")]


class Graph:
    """Nodes in the order in which they are asked for."""

    def __init__(self):
        self.nodes, self.values, self.channels = [], [], {"images": 3}
        self.random = np.random.default_rng(0)

    def constant(self, value):
        name = f"constant{len(self.values)}"
        self.values.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind, inputs, name=None, **attributes):
        name = name or f"node{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(kind, inputs, [name], name=f"{kind}_{len(self.nodes)}", **attributes)
        )
        return name

    def conv(self, x, out, kernel=1, stride=1, depthwise=False, name=None, named=None):
        """Convolution and SiLU; the bare convolution where ``named``."""
        given = self.channels[x]
        shape = (out, 1 if depthwise else given, kernel, kernel)
        weight = self.random.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        bias = self.random.normal(0, 0.3, out).astype(np.float32)
        if named:
            self.values += [numpy_helper.from_array(weight, f"{named}.weight")]
            self.values += [numpy_helper.from_array(bias, f"{named}.bias")]
            names = [f"{named}.weight", f"{named}.bias"]
        else:
            names = [self.constant(weight), self.constant(bias)]
        y = self.node(
            "Conv", [x, *names], name if named else None, kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[kernel // 2] * 4, group=given if depthwise else 1,
        )  # fmt: skip
        if not named:
            y = self.node("Mul", [y, self.node("Sigmoid", [y])], name)
        self.channels[y] = out
        return y

    def depthwise(self, x, out, stride=1, name=None):
        return self.conv(self.conv(x, self.channels[x], 3, stride, depthwise=True), out, name=name)

    def join(self, *parts):
        y = self.node("Concat", list(parts), axis=1)
        self.channels[y] = sum(self.channels[part] for part in parts)
        return y

    def cross_stage(self, x, out, depth, residual, name=None):
        through, around = self.conv(x, out // 2), self.conv(x, out // 2)
        for _ in range(depth):
            inner = self.depthwise(self.conv(through, out // 2), out // 2)
            through = self.node("Add", [inner, through]) if residual else inner
            self.channels[through] = out // 2
        return self.conv(self.join(through, around), out, name=name)

    def pixels(self, x, row, column):
        for start, axis in ((row, 2), (column, 3)):
            bounds = [self.constant(np.array([each])) for each in (start, 2**31 - 1, axis, 2)]
            x = self.node("Slice", [x, *bounds])
        self.channels[x] = 3
        return x

    def twice(self, x):
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        unused = self.constant(np.zeros(0, np.float32))
        y = self.node(
            "Resize", [x, unused, scales], mode="nearest", coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )  # fmt: skip
        self.channels[y] = self.channels[x]
        return y

    def pool(self, x, kernel):
        y = self.node("MaxPool", [x], kernel_shape=[kernel] * 2, strides=[1, 1], pads=[kernel // 2] * 4)
        self.channels[y] = self.channels[x]
        return y


def write_yolox(path, config, classes=80):
    """The file of a YOLOX of ``config``, which takes BGR pixels."""
    g, sizes = Graph(), config.hidden_sizes
    corners = [g.pixels("images", row, column) for column in (0, 1) for row in (0, 1)]
    x, stages = g.conv(g.join(*corners), sizes[0], 3), []
    for i, depth in enumerate(config.depths):
        last = i == 3
        x = g.depthwise(x, sizes[i + 1], 2)
        if last:
            small = g.conv(x, sizes[4] // 2)
            x = g.conv(g.join(small, *(g.pool(small, kernel) for kernel in (5, 9, 13))), sizes[4])
        x = g.cross_stage(x, sizes[i + 1], depth, not last, name=f"stage{i + 1}")
        stages.append(x)
    _, fine, middle, coarse = stages
    lateral = g.conv(coarse, sizes[3])
    p4 = g.cross_stage(g.join(g.twice(lateral), middle), sizes[3], 1, False)
    lateral4 = g.conv(p4, sizes[2])
    p3 = g.cross_stage(g.join(g.twice(lateral4), fine), sizes[2], 1, False)
    n4 = g.cross_stage(g.join(g.depthwise(p3, sizes[2], 2), lateral4), sizes[3], 1, False)
    n5 = g.cross_stage(g.join(g.depthwise(n4, sizes[3], 2), lateral), sizes[4], 1, False)
    width = config.tower_channels
    for i, level in enumerate((p3, n4, n5)):
        stem = g.conv(level, width)
        tower = g.depthwise(g.depthwise(stem, width), width, name=f"classes{i}")
        g.conv(tower, classes, name=f"cls_preds{i}", named=f"head.cls_preds.{i}")
        tower = g.depthwise(g.depthwise(stem, width), width, name=f"boxes{i}")
        g.conv(tower, 4, name=f"reg_preds{i}", named=f"head.reg_preds.{i}")
        g.conv(tower, 1, name=f"obj_preds{i}", named=f"head.obj_preds.{i}")
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 416, 416])
    output = helper.make_tensor_value_info(g.nodes[-1].output[0], TensorProto.FLOAT, None)
    graph = helper.make_graph(g.nodes, "yolox", [images], [output], g.values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7), path)
