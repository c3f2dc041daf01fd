"""Stands in for a CUDA graph where there is no card: a replay computes again."""

from __future__ import annotations

from torch import Tensor

from vtag.engine.backends.cuda_forward import Forward, Recording


class ProcessorRecorder:
    """Records by keeping the function: a replay computes it again for what is in the recording's clips."""

    def __init__(self) -> None:
        self.sizes: list[int] = []  # clips of each recording

    def __call__(self, forward: Forward, example: Tensor) -> Recording:
        self.sizes.append(len(example))
        clips = example.clone()
        features = forward(clips)

        def replay() -> None:
            features.copy_(forward(clips))

        return Recording(clips, features, replay)
