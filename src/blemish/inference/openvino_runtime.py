"""An exported graph in Intel's OpenVINO, on the processor. Imported when `--device openvino` is asked for."""

import os
import threading
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from blemish.errors import ArtifactError, SettingsError
from blemish.inference.processors import restricted_cores


@final
class OpenVinoRuntime:
    """A graph computed in 32 bits; on a processor with bfloat16 OpenVINO would take that, with maps a percent off.

    Calls from several threads take turns. `threads` work on an image, None: as many as OpenVINO chooses, or
    as are left to this process.
    """

    def __init__(self, graph: bytes, threads: int | None = None) -> None:
        import openvino

        hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        if wanted := threads or restricted_cores():
            hints["INFERENCE_NUM_THREADS"] = wanted
        core = openvino.Core()
        self._compiled = core.compile_model(core.read_model(graph), "CPU", hints)
        self._request = self._compiled.create_infer_request()
        self._turn, self._process = threading.Lock(), os.getpid()

    @property
    def precision(self) -> str:
        """What it computes in, as OpenVINO says after compiling."""
        return str(self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string())

    def maps(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Anomaly maps `(b, h, w)`.

        Raises:
            ArtifactError: the network fails.
            SettingsError: in a process that was forked after the model was opened.
        """
        if os.getpid() != self._process:
            raise SettingsError("a model in OpenVINO cannot be used in a forked process; open it there, or spawn")
        try:
            with self._turn:
                answer = self._request.infer({"images": images})["maps"]
                return np.array(answer)  # the request's own memory is written by the next call
        except Exception as error:  # OpenVINO's own errors have no base of their own
            raise ArtifactError(f"the network fails: {str(error).strip().partition(chr(10))[0][:300]}") from None

    def reconstruct(self, images: NDArray[np.float32]) -> None:
        """An exported graph gives maps alone."""
