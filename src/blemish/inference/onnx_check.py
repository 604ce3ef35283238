"""What a graph may hold, looked at before onnxruntime is given it: protobuf fields, read by hand.

Allowed are one graph of plain operators, each of which runs once and makes outputs whose sizes follow from the size of
the image alone. Refused are weights in other files, functions, loops and branches, operators that no detector here is
exported to, and sizes that follow from the pixels. So the first image shows what time and memory every image takes.
"""

from collections.abc import Iterator
from typing import NamedTuple, final

from blemish.errors import ArtifactError

MAX_NODES = 5_000
"""The largest detector here has 200."""

OPERATORS = frozenset(
    """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Clip Concat Constant ConstantOfShape Conv
    ConvTranspose CumSum DepthToSpace Div Einsum Elu Equal Erf Exp Expand Flatten Floor Gather GatherElements
    GatherND Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual HardSigmoid HardSwish Identity
    InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log MatMul Max MaxPool Mean Min Mod Mul Neg
    Not Or PRelu Pad Pow Reciprocal ReduceL1 ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
    ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Shape Sigmoid Sign Size Slice Softmax
    Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Unsqueeze Where Xor
    """.split()  # noqa: SIM905  # a list of forty lines otherwise
)
"""ONNX operators without loops, branches, random numbers, text or files."""

_SIZED_BY_VALUES = {
    **dict.fromkeys(("Expand", "Reshape", "Tile", "TopK", "Split", "Squeeze", "Unsqueeze"), 1),
    **dict.fromkeys(("Slice", "Pad", "Resize"), 1),
    **dict.fromkeys(("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"), 1),
    "ConstantOfShape": 0,
}
"""The inputs from this place on say how large the output is: they must not follow from the pixels."""

_MODEL, _GRAPH, _NODE = {1, 2, 3, 4, 5, 6, 7, 8, 14}, {1, 2, 5, 10, 11, 12, 13, 16}, {1, 2, 3, 4, 5, 6, 7, 9}
_ATTRIBUTE, _TENSOR = {1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 20}, {1, 2, 4, 5, 7, 8, 9, 10, 11, 12, 16}
"""Fields of ModelProto and its parts that are allowed. Not among them: training_info and functions of a model, sparse
initializers of a graph, graphs and references in attributes, text, external_data and data_location of tensors."""

_VARINT, _LONG, _SIZED, _SHORT = 0, 1, 2, 5


@final
class _Node(NamedTuple):
    operator: str
    inputs: list[str]
    outputs: list[str]


def check_graph(model: bytes) -> None:
    """Refuse a graph that could do more than turn images into maps.

    Raises:
        ArtifactError: what it holds that is not allowed; without the name of the file.
    """
    try:
        nodes = [node for graph in _values(model, 7, _MODEL, "model") for node in _nodes(graph)]
    except (IndexError, UnicodeDecodeError):
        raise ArtifactError("its graph is damaged") from None
    if len(nodes) > MAX_NODES:
        raise ArtifactError(f"its graph has {len(nodes)} operators; at most {MAX_NODES} are allowed")
    _check_sizes(nodes)


def _check_sizes(nodes: list[_Node]) -> None:
    """Refuse outputs whose size follows from the pixels: what one image takes would say nothing of the next."""
    from_pixels, used = {"images"}, set[str]()
    for node in nodes:
        used |= set(node.inputs)
        if used & set(node.outputs):  # onnxruntime would put them in order
            raise ArtifactError(f"its operator {node.operator} comes after one that needs it")
        first = _SIZED_BY_VALUES.get(node.operator)
        if first is not None and from_pixels & set(node.inputs[first:]):
            raise ArtifactError(f"its operator {node.operator} has a size that depends on the pixels")
        if node.operator not in ("Shape", "Size") and from_pixels & set(node.inputs):
            from_pixels |= set(node.outputs)


def _nodes(graph: bytes) -> Iterator[_Node]:
    for tensor in _values(graph, 5, _GRAPH, "graph"):
        _check_tensor(tensor)
    for content in _values(graph, 1, _GRAPH, "graph"):
        names: dict[int, list[str]] = {1: [], 2: [], 4: [], 7: []}
        for field, value in _fields(content):
            _refuse_other(field, _NODE, "operator")
            if field in names and isinstance(value, bytes):
                names[field].append(value.decode())
            elif field == 5 and isinstance(value, bytes):
                _check_attribute(value)
        operator = " ".join(names[4])  # of several the last one would count
        if operator not in OPERATORS:
            raise ArtifactError(f"its graph has the operator {operator[:40]!r}, which no detector is exported to")
        for domain in names[7]:
            if domain not in ("", "ai.onnx"):
                raise ArtifactError(f"its graph has an operator of {domain[:40]!r}, not of ONNX itself")
        yield _Node(operator, names[1], names[2])


def _check_attribute(content: bytes) -> None:
    for field, value in _fields(content):
        _refuse_other(field, _ATTRIBUTE, "attribute")
        if field in (5, 10) and isinstance(value, bytes):
            _check_tensor(value)


def _values(content: bytes, wanted: int, allowed: set[int], what: str) -> Iterator[bytes]:
    for field, value in _fields(content):
        _refuse_other(field, allowed, what)
        if field == wanted and isinstance(value, bytes):
            yield value


def _check_tensor(content: bytes) -> None:
    for field, _ in _fields(content):
        _refuse_other(field, _TENSOR, "tensor")


def _refuse_other(field: int, allowed: set[int], what: str) -> None:
    if field not in allowed:
        reason = (
            "its weights lie in another file" if what == "tensor" and field in (13, 14) else "it does more than run"
        )
        raise ArtifactError(f"a {what} of its graph has the field {field}, which is not allowed: {reason}")


def _fields(content: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message by number, as they come; sized ones as bytes.

    >>> list(_fields(bytes([0x08, 0x96, 0x01, 0x12, 0x02, 0x68, 0x69])))
    [(1, 150), (2, b'hi')]
    """
    place = 0
    while place < len(content):
        key, place = read_varint(content, place)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, place = read_varint(content, place)
            yield field, value
            continue
        if kind not in (_LONG, _SIZED, _SHORT):
            raise IndexError
        size, place = read_varint(content, place) if kind == _SIZED else ({_LONG: 8, _SHORT: 4}[kind], place)
        if place + size > len(content):
            raise IndexError
        yield field, content[place : place + size]
        place += size


def read_varint(content: bytes, place: int) -> tuple[int, int]:
    """A protobuf varint, and where what follows it begins.

    Raises:
        IndexError: the content ends in it, or it is longer than ten bytes.
    """
    value = 0
    for shift in range(0, 70, 7):
        byte = content[place]
        value |= (byte & 0x7F) << shift
        place += 1
        if byte < 0x80:
            return value, place
    raise IndexError
