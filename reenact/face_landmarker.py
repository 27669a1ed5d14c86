"""Google's Face Landmarker as torch modules: face boxes, 478 points, 51 blendshapes.

`face_landmarker.task` is a zip of three .tflite graphs. `Graph` rebuilds such a graph operator by operator, so
that it runs batched, on any device, and can be differentiated through; nothing of TensorFlow or mediapipe is
needed. Source of the networks and of the geometry around them: mediapipe's Face Landmarker task (Apache-2.0),
https://ai.google.dev/edge/mediapipe/solutions/vision/face_landmarker.

Images are RGB in [0,1], [N,3,H,W]. Points are x,y(,z) in pixels, the centre of the top-left pixel at (0, 0);
z has the scale of x and grows away from the camera.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import tflite
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .errors import WeightsError
from .types import Floats

DETECTOR_SIZE = 128
LANDMARKS_SIZE = 256

# What the third network's outputs are called, less its first, `_neutral`. ARKit's names, without tongueOut.
# fmt: off
BLENDSHAPES: tuple[str, ...] = (
    *("browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight"),
    *("eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight",
    "eyeWideLeft", "eyeWideRight"),
    *("jawForward", "jawLeft", "jawOpen", "jawRight"),
    *("mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight"),
    *("noseSneerLeft", "noseSneerRight"),
)
# fmt: on

# The 146 of the 478 points that the blendshape network reads.
# fmt: off
BLENDSHAPE_POINTS: tuple[int, ...] = (
    0, 1, 4, 5, 6, 7, 8, 10, 13, 14, 17, 21, 33, 37, 39, 40, 46, 52, 53, 54, 55, 58, 61, 63, 65, 66, 67, 70, 78, 80,
    81, 82, 84, 87, 88, 91, 93, 95, 103, 105, 107, 109, 127, 132, 133, 136, 144, 145, 146, 148, 149, 150, 152, 153,
    154, 155, 157, 158, 159, 160, 161, 162, 163, 168, 172, 173, 176, 178, 181, 185, 191, 195, 197, 234, 246, 249,
    251, 263, 267, 269, 270, 276, 282, 283, 284, 285, 288, 291, 293, 295, 296, 297, 300, 308, 310, 311, 312, 314,
    317, 318, 321, 323, 324, 332, 334, 336, 338, 356, 361, 362, 365, 373, 374, 375, 377, 378, 379, 380, 381, 382,
    384, 385, 386, 387, 388, 389, 390, 397, 398, 400, 402, 405, 409, 415, 454, 466,
    *range(468, 478),  # the irises
)
# fmt: on

# iBUG's 68 points among the 478, chosen by comparison with dlib's on a hundred faces. Left and right as in the image.
IBUG_68: tuple[int, ...] = (
    *(127, 234, 93, 132, 172, 136, 149, 176, 152, 400, 378, 365, 397, 361, 323, 454, 356),  # 0-16 jaw line
    *(70, 63, 105, 66, 107),  # 17-21 left brow
    *(336, 296, 334, 293, 300),  # 22-26 right brow
    *(168, 197, 195, 4),  # 27-30 bridge of the nose
    *(240, 97, 2, 326, 460),  # 31-35 nostrils
    *(33, 160, 158, 133, 153, 144),  # 36-41 left eye
    *(362, 385, 387, 263, 373, 380),  # 42-47 right eye
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # 48-59 outer lips
    *(78, 82, 13, 312, 308, 317, 14, 87),  # 60-67 inner lips
)

_Array = TypeVar("_Array", Tensor, Floats)


def to_68(points: _Array) -> _Array:
    """The 68 points of the iBUG scheme, [...,68,2], of the landmarker's [...,478,2 or 3] (tensor or array)."""
    return points[..., list(IBUG_68), :2]


class FaceLandmarkerNets(nn.Module):
    """The three networks. Weights are buffers: nothing here is trained, everything can be differentiated through."""

    def __init__(self, detector: Graph, landmarker: Graph, blendshaper: Graph) -> None:
        """The graphs of the bundle; `load` reads them."""
        super().__init__()
        self._detector, self._landmarker, self._blendshaper = detector, landmarker, blendshaper
        self._anchors: Tensor
        self.register_buffer("_anchors", _anchors(), persistent=False)

    @classmethod
    def load(cls, path: Path) -> FaceLandmarkerNets:
        """Read `face_landmarker.task`.

        Raises:
            WeightsError: the file can't be read, or isn't such a bundle.
        """
        names = ("face_detector", "face_landmarks_detector", "face_blendshapes")
        try:
            with zipfile.ZipFile(path) as bundle:
                detector, landmarker, blendshaper = (Graph(bundle.read(f"{name}.tflite")) for name in names)
        except (OSError, KeyError, zipfile.BadZipFile, ValueError) as error:
            raise WeightsError(f"{path}: not a readable face_landmarker.task ({error})") from error
        return cls(detector, landmarker, blendshaper)

    def detector(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Face candidates in [N,3,128,128] images, one an anchor (BlazeFace, short range).

        Returns:
            points [N,896,8,2]: top-left and bottom-right corner of the face's box, then the eye on the image's
            left, the other eye, tip of the nose, mouth, the ear on the left, the other ear; in pixels of the input.
            score [N,896] in 0..1.
        """
        raw, logits = self._detector(images.permute(0, 2, 3, 1) * 2 - 1)  # [N,896,16], [N,896,1]
        points = raw.unflatten(2, (8, 2)) + self._anchors[:, None]  # [N,896,8,2]; at 1 stands the box's size
        centre, half = points[:, :, 0], raw[:, :, 2:4] / 2
        corners = torch.stack([centre - half, centre + half], 2)
        return torch.cat([corners, points[:, :, 2:]], 2), logits.squeeze(2).sigmoid()

    def landmarks(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """478 points of the face that fills each upright [N,3,256,256] crop (see `roi_of_points`).

        Returns:
            points [N,478,3] in pixels of the crop; presence [N] in 0..1, how sure it is that there is a face.
        """
        points, presence, _ = self._landmarker(images.permute(0, 2, 3, 1))  # [N,1,1,1434], [N,1,1,1]
        return points.reshape(-1, 478, 3), presence.flatten().sigmoid()

    def blendshapes(self, points: Tensor) -> Tensor:
        """The 51 `BLENDSHAPES`, [N,51] in 0..1, of [N,478,2 or 3] points (or the [N,146,2] that count).

        Points are in pixels of the picture: turning or squeezing them changes the answer, shift and scale do not.
        """
        if points.shape[1] != len(BLENDSHAPE_POINTS):
            points = points[:, list(BLENDSHAPE_POINTS)]
        (scores,) = self._blendshaper(points[..., :2])
        return cast(Tensor, scores[:, 1:])  # the first is _neutral


def _anchors() -> Tensor:
    """Centres of BlazeFace's anchors in pixels of its input, [896,2]: 2 a cell of 16x16, then 6 a cell of 8x8."""
    grids = []
    for cells, repeats in ((16, 2), (8, 6)):
        centres = (torch.arange(cells) + 0.5) * (DETECTOR_SIZE / cells)
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        grids.append(torch.stack([x, y], 2).reshape(-1, 2).repeat_interleave(repeats, 0))
    return torch.cat(grids)


# ---- Geometry ----------------------------------------------------------------------------------------------------

_LEFT_EYE, _RIGHT_EYE = 33, 263  # outer corners; left in the image
_ROI_SCALE = 1.5  # mediapipe's, for boxes and for landmarks


def roi_of_points(points: Tensor, size: int = LANDMARKS_SIZE) -> Tensor:
    """Where to crop for `FaceLandmarkerNets.landmarks`, given [N,478,2 or 3] points of the picture.

    The square round the points, 1.5 times their extent, with the line of the eyes level.

    Returns: [N,2,3], from crop pixels (of a crop of size x size) to the picture's.
    """
    return _roi(points[..., :2], points[:, _LEFT_EYE, :2], points[:, _RIGHT_EYE, :2], size)


def roi_of_detection(points: Tensor, size: int = LANDMARKS_SIZE) -> Tensor:
    """As `roi_of_points`, from the [N,8,2] points of `FaceLandmarkerNets.detector`."""
    return _roi(points[:, :2], points[:, 2], points[:, 3], size)


def _roi(points: Tensor, left: Tensor, right: Tensor, size: int) -> Tensor:
    low, high = points.amin(1), points.amax(1)  # [N,2]
    scale = (high - low).amax(1) * (_ROI_SCALE / size)
    along = F.normalize(right - left, dim=1) * scale[:, None]  # one crop pixel to the right
    across = torch.stack([-along[:, 1], along[:, 0]], 1)  # one crop pixel down
    linear = torch.stack([along, across], 2)  # [N,2,2]
    offset = (low + high) / 2 - linear.sum(2) * (size / 2)
    return torch.cat([linear, offset[:, :, None]], 2)


def transform(matrix: Tensor, points: Tensor) -> Tensor:
    """[N,K,2 or 3] points through [N,2,3] affine matrices; z, if there is one, takes the matrix's scale."""
    moved = points[..., :2] @ matrix[:, :, :2].mT + matrix[:, None, :, 2]
    if points.shape[-1] == 2:
        return moved
    scale = matrix[:, :, :2].det().abs().sqrt()  # [N]
    return torch.cat([moved, points[..., 2:] * scale[:, None, None]], 2)


def crop(images: Tensor, to_image: Tensor, size: int = LANDMARKS_SIZE) -> Tensor:
    """Cut [N,C,size,size] out of [N,C,H,W], bilinearly and differentiably; beyond the edge the edge is repeated.

    Args:
        images: any range. A crop that shrinks them more than twice aliases: shrink them first.
        to_image: [N,2,3], crop pixels to image pixels.
    """
    axis = torch.arange(size, device=images.device, dtype=to_image.dtype)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    pixels = transform(to_image, torch.stack([x, y], 2).reshape(1, -1, 2))  # [N,size*size,2]
    height, width = images.shape[2:]
    grid = (pixels * 2 + 1) / pixels.new_tensor([width, height]) - 1  # pixel edges are at -1 and 1
    grid = grid.reshape(-1, size, size, 2).to(images.dtype)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


# Points that expressions hardly move, and where they lie on mediapipe's canonical face: x to the image's right,
# y up, z towards the camera, in centimetres. The half on the image's left; the other half mirrors it.
_RIGID_MIDDLE = {4: (-0.463, 7.587), 6: (2.473, 5.789), 10: (8.262, 4.482)}
_RIGID_SIDES = {
    (33, 263): (4.446, 2.664, 3.173),
    (54, 284): (6.279, 6.615, 1.426),
    (67, 297): (3.524, 8.006, 3.729),
    (121, 350): (1.821, 1.468, 4.224),
    (127, 356): (7.743, 2.365, -2.005),
    (133, 362): (1.856, 2.585, 3.758),
    (143, 372): (6.408, 2.236, 1.561),
    (198, 420): (1.247, 0.230, 5.681),
}
_RIGID: dict[int, tuple[float, float, float]] = {
    **{i: (0.0, y, z) for i, (y, z) in _RIGID_MIDDLE.items()},
    **{i: (-x, y, z) for (i, _), (x, y, z) in _RIGID_SIDES.items()},
    **{i: (x, y, z) for (_, i), (x, y, z) in _RIGID_SIDES.items()},
}


def head_pose(points: Tensor) -> Tensor:
    """Yaw, pitch and roll in degrees, [N,3], of [N,478,3] points of the picture.

    Yaw is positive where the face turns to the image's right, pitch where it looks up, roll where the head leans
    clockwise in the image; a face that looks into the camera upright has 0, 0, 0. The rotation is the best rigid
    fit (Kabsch) of the canonical face, turned about its own axis first (roll), then up (pitch), then aside (yaw).
    """
    rotation, _ = _rigid_fit(points)
    # R = Ry(yaw) Rx(-pitch) Rz(-roll)
    yaw = torch.atan2(rotation[:, 0, 2], rotation[:, 2, 2])
    pitch = torch.asin(rotation[:, 1, 2].clamp(-1, 1))
    roll = torch.atan2(-rotation[:, 1, 0], rotation[:, 1, 1])
    return torch.stack([yaw, pitch, roll], 1).rad2deg()


def facing(points: Tensor) -> Tensor:
    """[N,478,3] points of the picture turned to look into the camera, in centimetres of the canonical face, y up.

    The middle of the points that expressions hardly move is at the origin.
    """
    rotation, scale = _rigid_fit(points)
    upright = points * points.new_tensor(_TO_MODEL)
    centre = upright[:, list(_RIGID)].mean(1, keepdim=True)
    return (upright - centre) @ rotation / scale[:, None, None]


def canonical_axes(points: Tensor) -> Tensor:
    """[N,2,3]: what a step in centimetres of a `facing` face is in the picture of [N,478,3] points, x,y."""
    rotation, scale = _rigid_fit(points)
    return (scale[:, None, None] * rotation * points.new_tensor(_TO_MODEL)[:, None])[:, :2]


_TO_MODEL = (1.0, -1.0, -1.0)
"""The picture's axes, x right, y down, z away, as the model's, x right, y up, z towards the camera."""


def _rigid_fit(points: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation [N,3,3] and scale [N] that bring the canonical face to [N,478,3] points, in the model's axes.

    Kabsch's rotation; Umeyama's scale (1991).
    """
    model = points.new_tensor(list(_RIGID.values()))  # [K,3]
    model = model - model.mean(0)
    seen = points[:, list(_RIGID)] * points.new_tensor(_TO_MODEL)  # [N,K,3]
    u, sizes, vh = torch.linalg.svd((seen - seen.mean(1, keepdim=True)).mT @ model)  # of [N,3,3]
    turn = torch.ones_like(u[:, 0])
    turn[:, 2] = (u @ vh).det()  # a rotation, never a reflection
    return u * turn[:, None] @ vh, (sizes * turn).sum(1) / model.square().sum()


# ---- The mesh's triangles -----------------------------------------------------------------------------------------


def read_triangles(path: Path) -> NDArray[np.int32]:
    """The triangles [898,3] of the canonical face in `face_landmarker.task`, over its first 468 points.

    They cover the face, eyes and the inside of the mouth included; the corners run counter-clockwise seen from the
    front, y up.

    Raises:
        WeightsError: the file can't be read, or isn't such a bundle.
    """
    try:
        with zipfile.ZipFile(path) as bundle:
            metadata = bundle.read("geometry_pipeline_metadata_landmarks.binarypb")
        # GeometryPipelineMetadata.canonical_mesh is field 1, Mesh3d.index_buffer field 4 (mediapipe's .proto files).
        (model,) = (value for field, value in _protobuf(metadata) if field == 1 and isinstance(value, bytes))
        corners = [value for field, value in _protobuf(model) if field == 4]
        return np.array(corners, np.int32).reshape(_TRIANGLES, 3)
    except (OSError, KeyError, zipfile.BadZipFile, ValueError, IndexError) as error:
        raise WeightsError(f"{path}: not a readable face_landmarker.task ({error})") from error


_TRIANGLES = 898


def _protobuf(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message, (number, value), in order: whole numbers, or bytes as they are."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        field, kind = divmod(number(), 8)
        if kind == 0:
            yield field, number()
            continue
        length = number() if kind == 2 else {1: 8, 5: 4}[kind]
        yield field, message[at : at + length]
        at += length


# ---- .tflite to torch --------------------------------------------------------------------------------------------

_Operator = Callable[..., Tensor]


class Graph(nn.Module):
    """A .tflite graph with one input. Tensors keep TensorFlow's layout, NHWC, with any number of pictures N.

    Only what the Face Landmarker's graphs use is known. Seen from a convolution the layout is torch's channels_last,
    so that nothing is copied; weights stored as fp16 are widened once.

    Raises:
        ValueError: not such a file, or an operator that isn't known here.
    """

    def __init__(self, data: bytes) -> None:
        """Read the bytes of a .tflite file."""
        super().__init__()
        if not tflite.Model.ModelBufferHasIdentifier(data, 0):
            raise ValueError("not a .tflite file")
        model = tflite.Model.GetRootAs(data, 0)
        graph = model.Subgraphs(0)
        self._outputs = [int(i) for i in graph.OutputsAsNumpy()]
        self._input = int(graph.Inputs(0))
        self._steps: list[tuple[_Operator, list[int], int]] = []
        constants = _constants(model, graph)
        for operator in (graph.Operators(i) for i in range(graph.OperatorsLength())):
            self._add(_name(model, operator), operator, constants)
        used = {i for _, inputs, _ in self._steps for i in inputs}
        self._constants = sorted(used & constants.keys())
        for i in self._constants:
            self.register_buffer(f"constant_{i}", constants[i])

    def _add(self, name: str, operator: Any, constants: dict[int, Tensor]) -> None:
        inputs, output = [int(i) for i in operator.InputsAsNumpy()], int(operator.Outputs(0))
        if name == "DEQUANTIZE":
            constants[output] = constants[inputs[0]].float()
        elif name in _BUILDERS:
            function = _BUILDERS[name](operator, [constants.get(i) for i in inputs])
            self._steps.append((function, inputs, output))
        else:
            raise ValueError(f"unknown operator {name}")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The graph's outputs, in the file's order, for [N,...] inputs."""
        values = {i: getattr(self, f"constant_{i}") for i in self._constants}
        values[self._input] = x
        for function, inputs, output in self._steps:
            values[output] = function(*(values[i] for i in inputs))
        return tuple(values[i] for i in self._outputs)


def _name(model: Any, operator: Any) -> str:
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Codes up to 127 used to be a byte of their own; old files fill in only that.
    return _OPERATOR_NAMES.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "of a newer schema")


_OPERATOR_NAMES: dict[int, str] = {v: k for k, v in vars(tflite.BuiltinOperator).items() if isinstance(v, int)}
_DTYPES: dict[int, type] = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}


def _constants(model: Any, graph: Any) -> dict[int, Tensor]:
    """The tensors that the file holds values of, by index."""
    found = {}
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        buffer = model.Buffers(tensor.Buffer())
        if buffer.DataLength():
            values = buffer.DataAsNumpy().view(_DTYPES[tensor.Type()])
            shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
            found[index] = torch.from_numpy(values.reshape(shape).copy())
    return found


def _options(operator: Any, kind: Any) -> Any:
    options, table = kind(), operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


# A builder takes the operator and its constant inputs (None where an input is computed), and returns the function
# of all its inputs.
_Constants = list[Tensor | None]


def _ints(constant: Tensor | None) -> list[int]:
    if constant is None:
        raise ValueError("a shape or an axis that is computed")
    return [int(v) for v in constant.flatten()]


def _same_padding(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """TensorFlow's SAME padding of an [N,C,H,W]: what is odd goes to the right and to the bottom."""
    pads: list[int] = []
    for length, k, s in ((x.shape[3], kernel[1], stride[1]), (x.shape[2], kernel[0], stride[0])):
        total = max((math.ceil(length / s) - 1) * s + k - length, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads) if any(pads) else x


def _activated(code: int) -> Callable[[Tensor], Tensor]:
    if code == tflite.ActivationFunctionType.NONE:
        return lambda x: x
    if code == tflite.ActivationFunctionType.RELU:
        return F.relu
    raise ValueError(f"unknown activation {code}")


def _convolution(operator: Any, depthwise: bool) -> _Operator:
    options = _options(operator, tflite.DepthwiseConv2DOptions if depthwise else tflite.Conv2DOptions)
    stride, same = (options.StrideH(), options.StrideW()), options.Padding() == tflite.Padding.SAME
    activate = _activated(options.FusedActivationFunction())

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        # [O,H,W,I], or [1,H,W,C] where each channel has its own kernel
        weight = weight.permute(3, 0, 1, 2) if depthwise else weight.permute(0, 3, 1, 2)
        x = x.permute(0, 3, 1, 2)
        x = _same_padding(x, weight.shape[2:], stride) if same else x
        return activate(F.conv2d(x, weight, bias, stride, groups=len(weight) if depthwise else 1).permute(0, 2, 3, 1))

    return run


def _max_pool(operator: Any, _: _Constants) -> _Operator:
    options = _options(operator, tflite.Pool2DOptions)
    kernel, stride = (options.FilterHeight(), options.FilterWidth()), (options.StrideH(), options.StrideW())
    if kernel != stride:  # then SAME and VALID are one for even sizes, and there are no others here
        raise ValueError(f"max pooling of {kernel} by {stride}")
    return lambda x: F.max_pool2d(x.permute(0, 3, 1, 2), kernel, stride).permute(0, 2, 3, 1)


def _pad(_: Any, constants: _Constants) -> _Operator:
    pads = _ints(constants[1])  # before, after; from the first axis on, where torch counts from the last
    flat = [p for axis in reversed(range(len(pads) // 2)) for p in pads[2 * axis : 2 * axis + 2]]
    return lambda x, _: F.pad(x, flat)


def _reshape(operator: Any, constants: _Constants) -> _Operator:
    as_input = len(constants) > 1
    shape = _ints(constants[1]) if as_input else _options(operator, tflite.ReshapeOptions).NewShapeAsNumpy().tolist()
    return lambda x, *_: x.reshape(len(x), *shape[1:])  # the first axis counts the pictures


def _transpose(_: Any, constants: _Constants) -> _Operator:
    axes = _ints(constants[1])
    return lambda x, _: x.permute(axes)


def _concatenation(operator: Any, _: _Constants) -> _Operator:
    axis = _options(operator, tflite.ConcatenationOptions).Axis()

    def run(*parts: Tensor) -> Tensor:
        pictures = max(len(p) for p in parts)  # a constant part stands for each of them
        return torch.cat([p.expand(pictures, *p.shape[1:]) for p in parts], axis)

    return run


def _strided_slice(operator: Any, constants: _Constants) -> _Operator:
    options = _options(operator, tflite.StridedSliceOptions)
    begin, end, stride = (_ints(c) for c in constants[1:])
    window = [slice(None)]  # the first axis counts the pictures and is never cut
    for axis in range(1, len(begin)):
        first = None if options.BeginMask() >> axis & 1 else begin[axis]
        last = None if options.EndMask() >> axis & 1 else end[axis]
        window.append(slice(first, last, stride[axis]))
    if options.ShrinkAxisMask() >> 1:
        raise ValueError("a slice that drops an axis")
    return lambda x, *_: x[tuple(window)]


def _reduction(function: Callable[..., Tensor]) -> Callable[[Any, _Constants], _Operator]:
    def build(operator: Any, constants: _Constants) -> _Operator:
        keep = bool(_options(operator, tflite.ReducerOptions).KeepDims())
        axes = _ints(constants[1])
        return lambda x, _: function(x, axes, keepdim=keep)

    return build


def _plain(function: _Operator) -> Callable[[Any, _Constants], _Operator]:
    return lambda operator, constants: function


def _arithmetic(function: _Operator, kind: Any) -> Callable[[Any, _Constants], _Operator]:
    def build(operator: Any, _: _Constants) -> _Operator:
        activate = _activated(_options(operator, kind).FusedActivationFunction())
        return lambda a, b: activate(function(a, b))

    return build


_BUILDERS: dict[str, Callable[[Any, _Constants], _Operator]] = {
    "CONV_2D": lambda operator, _: _convolution(operator, depthwise=False),
    "DEPTHWISE_CONV_2D": lambda operator, _: _convolution(operator, depthwise=True),
    "MAX_POOL_2D": _max_pool,
    "PAD": _pad,
    "RESHAPE": _reshape,
    "CONCATENATION": _concatenation,
    "STRIDED_SLICE": _strided_slice,
    "TRANSPOSE": _transpose,
    "MEAN": _reduction(torch.mean),
    "SUM": _reduction(torch.sum),
    "ADD": _arithmetic(torch.add, tflite.AddOptions),
    "SUB": _arithmetic(torch.sub, tflite.SubOptions),
    "MUL": _arithmetic(torch.mul, tflite.MulOptions),
    "DIV": _arithmetic(torch.div, tflite.DivOptions),
    "SQUARED_DIFFERENCE": _plain(lambda a, b: (a - b).square()),
    "PRELU": _plain(lambda x, slope: F.prelu(x.permute(0, 3, 1, 2), slope.flatten()).permute(0, 2, 3, 1)),
    "RELU": _plain(F.relu),
    "LOGISTIC": _plain(torch.sigmoid),
    "NEG": _plain(torch.neg),
    "SQRT": _plain(torch.sqrt),
    "RSQRT": _plain(torch.rsqrt),
}
