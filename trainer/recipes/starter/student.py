"""The student: our Video Swin, that also shows what its second stage sees while it is taught."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vtag.engine.swin.architecture import Stage, VideoSwin, WindowAttention
from vtag.engine.swin.config import SwinSizes
from vtag.trainer.recipes.starter.gelu import quicken

APART = -30.0  # added to what attention weighs between two moments: nothing is left of it
CROP = 112  # pixels: maps of 14, 7 and 4 places, so that the first two stages pad nothing


def student_sizes(classes: int) -> SwinSizes:
    """6.1 M weights. Patches of 8 pixels leave few tokens of many channels, which bf16 units like best:
    six times the training steps a second of patches of 4 with 40 channels on the same two cores.
    """
    return SwinSizes(
        embed_dim=96, depths=(2, 4, 2), num_heads=(3, 6, 12), num_classes=classes, patch_size=(2, 8, 8)
    )


@dataclass
class Seen:
    """What the student makes of a batch of clips."""

    middle: Tensor  # [B, T', 7, 7, C], the map of its second stage
    features: Tensor  # [B, D], pooled
    logits: Tensor  # [B, K]


def plain_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention of q, k, v [G, heads, tokens, C] with `bias` [1, heads, tokens, tokens], as two batched products.

    Several times as fast as the fused one where a bias learns on a CPU: that goes by float32 copies.
    """
    groups, heads, tokens, channels = q.shape
    q, k, v = (x.reshape(-1, tokens, channels) for x in (q * channels**-0.5, k, v))
    pairs = torch.bmm(q, k.transpose(1, 2)).view(groups, heads, tokens, tokens) + bias
    shares = torch.softmax(pairs, -1).view(-1, tokens, tokens)
    return torch.bmm(shares, v).view(groups, heads, tokens, channels)


class Student(nn.Module):
    """A Video Swin with an eye on its second stage; `swin` is what is saved in the end."""

    def __init__(self, sizes: SwinSizes, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.swin = VideoSwin(sizes, drop_path=drop_path)
        for module in self.swin.modules():
            if isinstance(module, WindowAttention):
                module.attention = plain_attention
        quicken(self.swin)

    @property
    def middle_dim(self) -> int:
        """Channels of the second stage."""
        return self.swin.sizes.embed_dim * 2

    def forward(self, clips: Tensor) -> Seen:
        """Normalised clips [B, T, H, W, 3]."""
        first, second, *rest = self.swin.stages
        assert isinstance(second, Stage)
        middle = second.attend(first(self.swin.patch_embed(clips)))
        x = middle if second.downsample is None else second.downsample(middle)
        for stage in rest:
            x = stage(x)
        features = self.swin.norm(x).mean((1, 2, 3))
        return Seen(middle, features, self.swin.head(features))


@torch.no_grad()
def part_moments(swin: VideoSwin) -> None:
    """Let nothing attend from one moment of a clip to another; what a clip shows is then the mean of its moments.

    Stage 1 shows one moment at a time, two frames, so attention between moments is what chance left there. Without it
    the features of unseen clips are nearer to the teacher's.
    """
    for module in swin.modules():
        if isinstance(module, WindowAttention):
            offsets = 2 * module.window[0] - 1
            table = module.relative_position_bias_table.unflatten(0, (offsets, -1))
            table[: offsets // 2] = table[offsets // 2 + 1 :] = APART
