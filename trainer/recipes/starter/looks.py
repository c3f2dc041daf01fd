"""What views look like to the teachers, as shares of the clips' labels: stage 1 learns from it what tells them apart.

A clip's own label is never told. There are few clips, with many views each, and a network that is told their labels
knows them by heart; what a probe of the teacher of pictures says of a view, from clips of other sources, can be said
of any picture, and of the part of it that a step shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

OPINION = 0.5  # how much of a clip's target is what the teachers think of the whole clip, its motion as well


@dataclass
class Looks:
    """For views [N] what they look like: what a probe says of them, and the teachers' opinion of the clip."""

    fold: Tensor  # int64 [N], which probe is asked: it was fitted on clips of other sources
    opinions: Tensor  # [N, K], zeros where nobody has one
    weight: Tensor  # [probes, K, D]
    bias: Tensor  # [probes, K]

    def shares(self, pooled: Tensor, chosen: Tensor, whole: Tensor) -> Tensor:
        """What the parts of the views `chosen` [B] show, [B, K], from the teacher's `pooled` [B, D] of them.

        The opinion of the clip counts where no part of another view is pasted in: where it is `whole` [B].
        """
        fold = self.fold[chosen]
        weight, bias = self.weight[fold].to(pooled.device), self.bias[fold].to(pooled.device)
        look = torch.softmax(torch.einsum("bkd,bd->bk", weight, pooled) + bias, 1)
        opinion = self.opinions[chosen].to(pooled.device)
        share = OPINION * (whole.to(pooled.device) & (opinion.sum(1) > 0))[:, None]
        return (1 - share) * look + share * opinion
