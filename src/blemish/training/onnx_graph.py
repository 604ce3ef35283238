"""From a detector in torch to an ONNX graph, and from that to one in 8 bits. Nothing but graphs is known here."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast, final

import onnx
import torch
from numpy.typing import NDArray

from blemish.errors import ArtifactError
from blemish.inference.onnx_file import PRODUCER
from blemish.models.detector import Detector

KEPT_CONVOLUTIONS = 6
"""So many, counted from the image, stay in 32 bits: their channels differ most in range, and all others inherit it."""

_SPECIMENS = 2
"""Images in the traced batch; with one, the exporter would take the batch for always one."""


def to_graph(detector: Detector, opset: int) -> bytes:
    """The detector as an ONNX graph: `images` (b, c, h, w) to `maps` (b, h, w), any b.

    Raises:
        ArtifactError: the detector cannot become a graph, or not in this opset.
    """
    if detector.why_not_exported:
        raise ArtifactError(f"{type(detector).__name__} cannot be exported: {detector.why_not_exported}")
    specimens = torch.zeros(_SPECIMENS, *detector.shape)
    try:
        with _hushed(), torch.no_grad():
            program = torch.onnx.export(
                detector.eval().cpu(),
                (specimens,),
                dynamo=True,
                input_names=["images"],
                output_names=["maps"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=opset,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ArtifactError(f"{type(detector).__name__} cannot be exported: {reason}") from None
    assert program is not None
    model = _anonymous(program.model_proto)
    if not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise ArtifactError(
            f"{type(detector).__name__} cannot be exported: its steps depend on how many images it is given"
        )
    found = {entry.domain: entry.version for entry in model.opset_import}.get("")
    if found != opset:
        raise ArtifactError(f"--opset {opset}: {type(detector).__name__} needs opset {found}")
    return cast(bytes, model.SerializeToString())


def to_int8(graph: bytes, batches: Sequence[NDArray[Any]]) -> bytes:
    """The graph with its convolutions in 8 bits, their ranges taken from the `batches` of images it is run on.

    Weights get a scale for each channel. The first `KEPT_CONVOLUTIONS` stay in 32 bits, as does the rest: onnxruntime
    has no 8-bit code for transposed convolutions, and distances to remembered features would lose more than they gain.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    @final
    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"images": batch}

    model = onnx.load_from_string(graph)
    convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
    if len(convolutions) <= KEPT_CONVOLUTIONS:
        raise ArtifactError(
            f"not exported: of its {len(convolutions)} convolutions none would become 8-bit (the first "
            f"{KEPT_CONVOLUTIONS} stay as they are), so nothing is to be gained; use --precision fp32"
        )
    with tempfile.TemporaryDirectory() as folder, _hushed():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            str(path),
            Reader(),
            quant_format=QuantFormat.QDQ,
            # With its activation, a convolution is rounded once, after values out of bounds are gone.
            op_types_to_quantize=["Conv", "Clip", "Relu", "LeakyRelu"],
            nodes_to_exclude=convolutions[:KEPT_CONVOLUTIONS],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return cast(bytes, _anonymous(onnx.load(str(path))).SerializeToString())


def _anonymous(model: Any) -> Any:
    """Without what the exporter notes of the machine it ran on: paths of source files, call stacks."""
    for part in (model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.graph.value_info[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    model.producer_name, model.producer_version = PRODUCER, version("blemish")
    return model


@contextmanager
def _hushed() -> Iterator[None]:
    """Exporters warn and log about their own insides, which nobody who exports a model can change."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
