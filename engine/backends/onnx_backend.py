"""The ONNX backend: ONNX Runtime on the processor, on CUDA or through TensorRT. What runs is what was asked for."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends import onnx_session
from vtag.engine.backends.onnx_session import Session
from vtag.engine.backends.protocol import Output, check_clips
from vtag.engine.checkpoints.checkpoint import Checkpoint, OnnxGraph
from vtag.engine.checkpoints.formats.onnx_files import FEATURES
from vtag.engine.errors import ModelError
from vtag.engine.swin.config import ModelSpec
from vtag.engine.text import printable

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
# Clips a call where the graph leaves it open: bounds the memory. On a processor another clip of Swin-T costs 1.3 GB
# more, and the time of both is the same.
_AT_ONCE = {"cpu": 1, "cuda": 16, "tensorrt": 16}
_SESSIONS = 4  # sizes of clips kept ready in turn
_NEAR_PIXEL = 0.01  # how far a normalised value may lie from a pixel's

log = logging.getLogger(__name__)


class OnnxBackend:
    """A model as an ONNX graph, ready to run: one session for each size of clips.

    A model that came as an ONNX file runs as it is. For any other, and for other sizes than the file's, the graph
    is exported once and kept below VTAG_HOME (`twins`), which needs torch.
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
        """With `sizes_vary` no graph is exported before the first clips tell which size it is to be for.

        Raises ModelError where device or precision are not there, or the graph cannot be used.
        """
        self.spec: ModelSpec = checkpoint.spec
        self._checkpoint = checkpoint
        self.precision = _precision(checkpoint, precision)
        if device not in DEVICES and not re.fullmatch(r"cuda:\d{1,2}", device):
            choices = ", ".join(DEVICES)
            raise ModelError(
                f"the ONNX backend has no device {printable(device)!r}; the choices are {choices}"
            )
        self._sessions: dict[tuple[int, int, int], Session] = {}
        size = checkpoint.onnx.size if checkpoint.onnx else self._usual_size
        if device == "auto":
            device = self._first_that_runs(size)
        self.device = "cuda:0" if device == "cuda" else device
        if checkpoint.onnx or not sizes_vary:
            self._session(size)

    def run(self, clips: NDArray[np.uint8]) -> Output:
        """Features and logits of `clips` uint8 [N, T, H, W, 3] (RGB); normalised in the graph.

        The first call for a size makes ready what it needs, also where it brings no clips. Raises ValueError for
        another type or shape, ModelError where the graph takes no clips of that size or the device's memory does not
        suffice.
        """
        check_clips(clips, "uint8", "[N, T, H, W, 3]", channels=4)
        sizes = self.spec.sizes
        session = self._session((clips.shape[1], clips.shape[2], clips.shape[3]))
        if not len(clips):
            none = np.zeros((0, sizes.feature_dim), np.float32)
            return Output(none, np.zeros((0, sizes.num_classes), np.float32))
        features = np.concatenate(list(self._batches(session, np.ascontiguousarray(clips))))
        # The head is computed here: it may be another than the graph's, taught on the same backbone
        head = self._checkpoint.tensors
        return Output(features, features @ head["head.weight"].T + head["head.bias"])

    def logits(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [N, K] of `clips` float32 [N, 3, T, H, W] that are normalised already.

        The graph takes pixels, so these have to be some: raises ModelError for values that no pixel has, and as
        `run`.
        """
        check_clips(clips, "float32", "[N, 3, T, H, W]", channels=1)
        std, mean = np.array(self.spec.std, np.float32), np.array(self.spec.mean, np.float32)
        pixels = clips.transpose(0, 2, 3, 4, 1) * std + mean
        whole = np.rint(pixels)
        if clips.size and (
            np.abs(pixels - whole).max() > _NEAR_PIXEL or whole.min() < 0 or whole.max() > 255
        ):
            raise ModelError("an ONNX model takes pixels, and these values are of none: use --backend torch")
        return self.run(whole.astype(np.uint8)).logits

    @property
    def _usual_size(self) -> tuple[int, int, int]:
        return self.spec.frames, self.spec.crop, self.spec.crop

    def _first_that_runs(self, size: tuple[int, int, int]) -> str:
        """cuda where there is a card that ONNX Runtime can use, else cpu; says why where there is a card."""
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
            while len(self._sessions) >= _SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            session = Session(self._graph(size), self.device, self._at_once)
        self._sessions[size] = session  # the last, since the first is the next to go
        return session

    @property
    def _at_once(self) -> int:
        """How many clips a call takes. int8 scales by all that comes in, and each clip has to stand for itself."""
        return 1 if self.precision == "int8" else _AT_ONCE[self.device.split(":")[0]]

    def _graph(self, size: tuple[int, int, int]) -> OnnxGraph:
        graph = self._checkpoint.onnx
        if graph and graph.size == size:
            return graph
        if graph and not self._checkpoint.is_whole:
            raise ModelError(
                f"this ONNX model takes clips of {_by(graph.size)} alone, not {_by(size)}: use --view center, "
                f"or export the original with --size"
            )
        from vtag.engine.backends import onnx_cache  # exporting needs torch, running does not

        return onnx_cache.export_once(self._checkpoint, size)

    def _batches(self, session: Session, clips: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        """Features of the clips, batch by batch; a graph of a fixed batch gets the last one filled up."""
        for start in range(0, len(clips), session.batch):
            some = clips[start : start + session.batch]
            if session.fixed and len(some) < session.batch:
                blank = np.zeros((session.batch - len(some), *some.shape[1:]), np.uint8)
                yield self._features(session, np.concatenate([some, blank]))[: len(some)]
            else:
                yield self._features(session, some)

    def _features(self, session: Session, clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        # sessions do not share the memory that they keep for the next run: of several none keeps any
        return session.run(clips, [FEATURES], keep_memory=len(self._sessions) == 1)[0]


def _precision(checkpoint: Checkpoint, precision: str) -> str:
    """The precision that the graph computes in. Raises ModelError where another was asked for."""
    has = checkpoint.onnx.precision if checkpoint.onnx else "fp32"
    if precision in ("auto", has):
        return has
    if precision not in ("fp32", "bf16", "fp16", "int8"):
        raise ModelError(
            f"there is no precision {printable(precision)!r}; the choices are auto, fp32, fp16, int8"
        )
    if precision == "bf16":
        raise ModelError("the ONNX backend has no bf16; use fp32, or an export with --precision fp16 or int8")
    if checkpoint.onnx:
        raise ModelError(f"this ONNX model computes in {has}; export it anew with --precision {precision}")
    raise ModelError(
        f"for {precision} with ONNX, make a model of it: "
        f"`vtag models export --model {printable(checkpoint.spec.name)} --precision {precision} -o FOLDER`"
    )


def _by(size: tuple[int, int, int]) -> str:
    return "x".join(map(str, size))
