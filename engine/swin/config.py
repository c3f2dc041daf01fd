"""A model's description without its weights: sizes, labels, preprocessing, thresholds and source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vtag.engine.errors import ModelError

# Limits for sizes from a file, checked before anything is built. Swin-L, the largest published model, has
# embed_dim 192, depth 18, 48 heads and window (16, 7, 7).
_MAX_EMBED_DIM = 1024
_MAX_DEPTH = 64
_MAX_STAGES = 6
_MAX_WINDOW = 64
_MAX_WINDOW_TOKENS = 8192  # attention is over all pairs; published windows have 392 and 784 tokens
_MAX_PATCH = 32
_MAX_CLASSES = 100_000
_MAX_PARAMETERS = 2_000_000_000
_MAX_BIAS_ROWS = 1_000_000
_MAX_LABEL_LENGTH = 200

IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of pixels 0..255, RGB
IMAGENET_STD = (58.395, 57.12, 57.375)
NONE_OF_THESE = "none of these"  # a class of this name is never reported as a tag


@dataclass(frozen=True)
class SwinSizes:
    """The sizes of a Video Swin Transformer (Liu et al., 2021, arXiv 2106.13230), in T, H, W order.

    Raises ModelError if the sizes are impossible or too large.
    """

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    num_classes: int
    window_size: tuple[int, int, int] = (8, 7, 7)
    patch_size: tuple[int, int, int] = (2, 4, 4)
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        _check_integer("embed_dim", self.embed_dim, 1, _MAX_EMBED_DIM)
        _check_integer("num_classes", self.num_classes, 1, _MAX_CLASSES)
        for name in ("depths", "num_heads", "window_size", "patch_size"):
            if not isinstance(getattr(self, name), tuple):
                raise ModelError(f"the model's {name} are not a list of numbers")
        if not 1 <= len(self.depths) <= _MAX_STAGES or len(self.depths) != len(self.num_heads):
            raise ModelError(
                f"the model has {len(self.depths)} depths and {len(self.num_heads)} numbers of heads, "
                "which do not fit together"
            )
        for i, (depth, heads) in enumerate(zip(self.depths, self.num_heads, strict=True)):
            _check_integer("depths", depth, 1, _MAX_DEPTH)
            _check_integer("num_heads", heads, 1, _MAX_EMBED_DIM)
            if (self.embed_dim << i) % heads:
                raise ModelError(
                    f"{heads} heads do not divide {self.embed_dim << i} channels in stage {i + 1}"
                )
        for name, sizes, maximum in (
            ("window_size", self.window_size, _MAX_WINDOW),
            ("patch_size", self.patch_size, _MAX_PATCH),
        ):
            if len(sizes) != 3:
                raise ModelError(f"the model's {name} has to be three numbers")
            for size in sizes:
                _check_integer(name, size, 1, maximum)
        if math.prod(self.window_size) > _MAX_WINDOW_TOKENS:
            raise ModelError(f"the model's window has more than {_MAX_WINDOW_TOKENS} tokens")
        _check_number("mlp_ratio", self.mlp_ratio, 1e-3, 16)
        if int(self.embed_dim * self.mlp_ratio) < 1:
            raise ModelError(f"the model's mlp_ratio {self.mlp_ratio!r} leaves its MLPs without a channel")
        if self.bias_rows > _MAX_BIAS_ROWS or self.parameter_count > _MAX_PARAMETERS:
            raise ModelError("the model's sizes would ask for more memory than any published model needs")

    @property
    def bias_rows(self) -> int:
        """The number of rows of a relative position bias table."""
        return math.prod(2 * size - 1 for size in self.window_size)

    @property
    def feature_dim(self) -> int:
        """The length D of a pooled feature."""
        return self.embed_dim << (len(self.depths) - 1)

    @property
    def parameter_count(self) -> int:
        """The number of weights of a model of these sizes."""
        # the convolution, its bias and its norm
        count = self.embed_dim * (3 * math.prod(self.patch_size) + 3)
        for i, (depth, heads) in enumerate(zip(self.depths, self.num_heads, strict=True)):
            dim = self.embed_dim << i
            hidden = int(dim * self.mlp_ratio)
            block = 4 * dim + 3 * dim * (dim + 1) + dim * (dim + 1) + dim * hidden * 2 + hidden + dim
            count += depth * (block + self.bias_rows * heads)
            if i + 1 < len(self.depths):
                count += 8 * dim + 8 * dim * dim
        return count + 2 * self.feature_dim + (self.feature_dim + 1) * self.num_classes

    @classmethod
    def from_json(cls, value: object) -> SwinSizes:
        """Sizes from the `spec` of a parsed `model.json`. Raises ModelError, which names unknown keys."""
        if not isinstance(value, dict):
            raise ModelError("the model's spec is not an object")
        field_names = {f.name for f in fields(cls)}
        if unknown := sorted(set(map(str, value)) - field_names):
            raise ModelError(f"the model's spec has a key that is not known: {unknown[0]!r}")
        if missing := sorted({"embed_dim", "depths", "num_heads", "num_classes"} - set(value)):
            raise ModelError(f"the model's spec lacks {missing[0]!r}")
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return cls(**arguments)


FINETUNED_PREFIX = "taught by vtag finetune on "  # start of `source` in every model that a user trained


@dataclass(frozen=True)
class ModelSpec:
    """Everything about a model but its weights. It is stored in `model.json` and in the library.

    A model is a backbone and a head. `backbone_hash` covers all that a pooled feature depends on besides the pixels:
    sizes, mean, std and weights. `head_hash` covers the linear layer and the labels.
    """

    name: str
    sizes: SwinSizes
    labels: tuple[str, ...]
    frames: int = 32
    rate: float = 15.0  # frames a second of video
    short_side: int = 256  # pixels, before the crop
    crop: int = 224
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    threshold: float | None = None  # the score at which a moment begins; None: the default
    label_thresholds: Mapping[str, float] = field(default_factory=dict)
    merged_from: Mapping[str, Sequence[str]] = field(default_factory=dict)  # label -> names that it replaces
    source: str = ""
    licence: str = ""
    sha256: str = ""  # of the weights' file
    backbone_hash: str = ""
    head_hash: str = ""

    def __post_init__(self) -> None:
        check_labels(self.labels, self.sizes.num_classes)
        _check_integer("frames", self.frames, 1, 512)
        _check_integer("short_side", self.short_side, 8, 2048)
        _check_integer("crop", self.crop, 8, self.short_side)
        _check_number("rate", self.rate, 0.01, 1000)
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3:
                raise ModelError(f"the model's {name} has to be three numbers")
            for value in values:
                _check_number(name, value, -1000 if name == "mean" else 1e-6, 1000)
        for threshold in (self.threshold, *self.label_thresholds.values()):
            if threshold is not None:
                _check_number("threshold", threshold, 0, 1)

    @property
    def clip_size(self) -> tuple[int, int, int]:
        """T, H, W of the clips that the model is made for."""
        return self.frames, self.crop, self.crop

    def to_json(self) -> dict[str, Any]:
        """The content of a `model.json`, without the name of the weights' file."""
        out = asdict(self)
        out["spec"] = out.pop("sizes")
        return {"format": 1, **out}

    @classmethod
    def from_json(cls, value: object, *, name: str) -> ModelSpec:
        """A spec from a parsed `model.json`. Raises ModelError, which names the unfit key."""
        if not isinstance(value, dict):
            raise ModelError("model.json is not an object")
        if value.get("format", 1) != 1:
            raise ModelError(
                f"model.json is of format {value.get('format')!r}, which this vtag does not know"
            )
        labels = value.get("labels")
        if not isinstance(labels, list):
            raise ModelError("model.json has no list of labels")
        arguments: dict[str, Any] = {
            f.name: value[f.name]
            for f in fields(cls)
            if f.name not in ("name", "sizes", "labels") and f.name in value
        }
        for key in ("mean", "std"):
            if key in arguments:
                arguments[key] = _tuple(key, arguments[key])
        for key in ("label_thresholds", "merged_from"):
            if not isinstance(arguments.get(key, {}), dict):
                raise ModelError(f"model.json's {key} is not an object")
        for names in arguments.get("merged_from", {}).values():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise ModelError("model.json's merged_from is not lists of names")
        for key in ("source", "licence", "sha256", "backbone_hash", "head_hash"):
            if not isinstance(arguments.get(key, ""), str):
                raise ModelError(f"model.json's {key} is not text")
        return cls(name=name, sizes=SwinSizes.from_json(value.get("spec")), labels=tuple(labels), **arguments)


def check_labels(labels: Sequence[object], num_classes: int) -> None:
    """Raise ModelError unless `labels` are `num_classes` distinct, printable names."""
    if len(labels) != num_classes:
        raise ModelError(f"the model has {num_classes} classes but {len(labels)} labels")
    checked_labels = set()
    for label in labels:
        if not isinstance(label, str) or not label.strip():
            raise ModelError(f"a label is not text: {str(label)[:40]!r}")
        if not label.isprintable() or len(label) > _MAX_LABEL_LENGTH:
            raise ModelError(f"a label has control characters or is too long: {label[:40]!r}")
        if label in checked_labels:
            raise ModelError(f"the label {label!r} stands there twice")
        checked_labels.add(label)


def _check_integer(name: str, value: object, minimum: int, maximum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise ModelError(f"the model's {name} {value!r} is not a whole number from {minimum} to {maximum}")


def _check_number(name: str, value: object, minimum: float, maximum: float) -> None:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise ModelError(f"the model's {name} {value!r} is not a number from {minimum} to {maximum}")


def _tuple(name: str, value: object) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ModelError(f"model.json's {name} is not a list")
    return tuple(value)
