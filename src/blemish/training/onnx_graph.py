"""From a detector in torch to an ONNX graph. Nothing but graphs is known here."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, cast

import torch

from blemish.errors import ArtifactError
from blemish.inference.onnx_file import PRODUCER
from blemish.models.detector import Detector

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
