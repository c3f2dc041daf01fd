"""The ONNX backend: ONNX Runtime on the CPU, on CUDA or through TensorRT."""

from __future__ import annotations

import logging
import re

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends import onnx_cache, onnx_session
from vtag.engine.backends.onnx_session import Session, apply_head
from vtag.engine.backends.protocol import Output, check_clips, empty_output
from vtag.engine.checkpoints.checkpoint import Checkpoint, OnnxGraph
from vtag.engine.errors import ModelError
from vtag.engine.swin.config import ModelSpec
from vtag.engine.text import printable

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
_MAX_SESSIONS = 4  # sizes of clips that stay ready
_MAX_PIXEL_ERROR = 0.01  # largest distance of a denormalised value from a whole number

log = logging.getLogger(__name__)


class OnnxBackend:
    """A model that runs as ONNX graphs, with a session for each size of clips.

    A model from an ONNX file runs unchanged. For other models, and for other sizes than the file's, the graph is
    exported once and stored in VTAG_HOME (`onnx_cache`), which needs torch.
    """

    name = "onnx"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        precision: str = "auto",
        sizes_vary: bool = False,
    ) -> None:
        """With `sizes_vary`, no graph is exported before the first clips come, since their size is unknown.

        Raises ModelError if the device or precision is not available, or the graph cannot be used.
        """
        self.spec: ModelSpec = checkpoint.spec
        self._checkpoint = checkpoint
        self.precision = _check_precision(checkpoint, precision)
        if device not in DEVICES and not re.fullmatch(r"cuda:\d{1,2}", device):
            choices = ", ".join(DEVICES)
            raise ModelError(
                f"the ONNX backend has no device {printable(device)!r}; the choices are {choices}"
            )
        self._sessions: dict[tuple[int, int, int], Session] = {}
        size = checkpoint.onnx.size if checkpoint.onnx else self.spec.clip_size
        if device == "auto":
            device = self._choose_device(size)
        self.device = "cuda:0" if device == "cuda" else device
        if checkpoint.onnx or not sizes_vary:
            self._session(size)

    def run(self, clips: NDArray[np.uint8]) -> Output:
        """Features and logits of `clips` uint8 [N, T, H, W, 3] (RGB), which are normalised in the graph.

        The first call for a size prepares its session, even if N is 0. Raises ValueError for another type or shape.
        Raises ModelError if the graph takes no clips of that size or the device lacks memory.
        """
        check_clips(clips, "uint8", "[N, T, H, W, 3]", channels=4)
        session = self._session((clips.shape[1], clips.shape[2], clips.shape[3]))
        if not len(clips):
            return empty_output(self.spec.sizes)
        # sessions do not share the memory that they keep: only a single one may keep it
        features = session.features(clips, keep_memory=len(self._sessions) == 1)
        return apply_head(self._checkpoint, features)

    def logits(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [N, K] of normalised `clips` float32 [N, 3, T, H, W].

        The graph takes pixels. Raises ModelError for values that are not those of normalised pixels, and as `run`.
        """
        check_clips(clips, "float32", "[N, 3, T, H, W]", channels=1)
        std, mean = np.array(self.spec.std, np.float32), np.array(self.spec.mean, np.float32)
        pixels = clips.transpose(0, 2, 3, 4, 1) * std + mean
        rounded = np.rint(pixels)
        if clips.size and (
            np.abs(pixels - rounded).max() > _MAX_PIXEL_ERROR or rounded.min() < 0 or rounded.max() > 255
        ):
            raise ModelError("an ONNX model takes pixels, and these values are of none: use --backend torch")
        return self.run(rounded.astype(np.uint8)).logits

    def _choose_device(self, size: tuple[int, int, int]) -> str:
        """cuda if ONNX Runtime can use a card, else cpu. Logs why a card is not used."""
        if not onnx_session.cuda_cards():
            return "cpu"
        try:
            self.device = "cuda:0"
            self._session(size)
            return "cuda"
        except ModelError as error:
            log.warning("the CUDA card is not used, the processor is: %s", error)
            return "cpu"

    def _session(self, size: tuple[int, int, int]) -> Session:
        session = self._sessions.pop(size, None)
        if session is None:
            while len(self._sessions) >= _MAX_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            session = Session(self._graph(size), self.device)
        self._sessions[size] = session  # most recently used; the first is evicted next
        return session

    def _graph(self, size: tuple[int, int, int]) -> OnnxGraph:
        graph = self._checkpoint.onnx
        if graph and graph.size == size:
            return graph
        if graph and not self._checkpoint.has_backbone:
            raise ModelError(
                f"this ONNX model takes clips of {_format_size(graph.size)} alone, not {_format_size(size)}: "
                "use --view center, or export the original with --size"
            )
        return onnx_cache.export_once(self._checkpoint, size)


def _check_precision(checkpoint: Checkpoint, precision: str) -> str:
    """The precision of the graph. Raises ModelError if another one is requested."""
    graph_precision = checkpoint.onnx.precision if checkpoint.onnx else "fp32"
    if precision in ("auto", graph_precision):
        return graph_precision
    if precision not in ("fp32", "bf16", "fp16", "int8"):
        raise ModelError(
            f"there is no precision {printable(precision)!r}; the choices are auto, fp32, fp16, int8"
        )
    if precision == "bf16":
        raise ModelError("the ONNX backend has no bf16; use fp32, or an export with --precision fp16 or int8")
    if checkpoint.onnx:
        raise ModelError(
            f"this ONNX model computes in {graph_precision}; export it anew with --precision {precision}"
        )
    raise ModelError(
        f"for {precision} with ONNX, make a model of it: "
        f"`vtag models export --model {printable(checkpoint.spec.name)} --precision {precision} -o FOLDER`"
    )


def _format_size(size: tuple[int, int, int]) -> str:
    return "x".join(map(str, size))
