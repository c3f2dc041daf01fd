"""Names and shapes of a Video Swin's weights in vtag, and the names that published files use for them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vtag.engine.swin.config import SwinSizes

# Tables in files that follow from the sizes. vtag computes its own and never indexes with a file's.
_DERIVED = (".relative_position_index", ".attn_mask")


@dataclass(frozen=True)
class Naming:
    """The tensor names of one file format: pairs of (vtag's prefix, the file's prefix); `#` stands for a number."""

    name: str
    pairs: tuple[tuple[str, str], ...]

    def to_vtag(self, file_name: str) -> str | None:
        """vtag's name for a file's tensor. None if the format has no such name."""
        for vtag_prefix, file_prefix in self.pairs:
            match = re.match(_pattern(file_prefix), file_name)
            if match and (numbers := _numbers(match, file_prefix)) is not None:
                return _fill(vtag_prefix, numbers) + file_name[match.end() :]
        return None

    def to_file(self, vtag_name: str) -> str:
        """The file's name for a tensor of vtag."""
        for vtag_prefix, file_prefix in self.pairs:
            match = re.match(_pattern(vtag_prefix), vtag_name)
            if match and (numbers := _numbers(match, vtag_prefix)) is not None:
                return _fill(file_prefix, numbers) + vtag_name[match.end() :]
        return vtag_name


def is_derived(name: str) -> bool:
    """Whether vtag computes this tensor itself: a position index or an attention mask."""
    return name.endswith(_DERIVED)


def is_head(name: str) -> bool:
    """Whether a tensor of vtag belongs to the head, not to the backbone."""
    return name.startswith("head.")


def hidden_dim(sizes: SwinSizes, stage: int) -> int:
    """The hidden width of a stage's MLPs, in channels."""
    return int((sizes.embed_dim << stage) * sizes.mlp_ratio)


def parameter_shapes(sizes: SwinSizes) -> dict[str, tuple[int, ...]]:
    """vtag's name and the shape of every weight of a model of these sizes, in the module's order."""
    dim = sizes.embed_dim
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embed.proj.weight": (dim, 3, *sizes.patch_size),
        "patch_embed.proj.bias": (dim,),
        **_norm("patch_embed.norm", dim),
    }
    for i, depth in enumerate(sizes.depths):
        dim = sizes.embed_dim << i
        for j in range(depth):
            shapes |= _block(f"stages.{i}.blocks.{j}", dim, sizes.num_heads[i], hidden_dim(sizes, i), sizes)
        if i + 1 < len(sizes.depths):
            shapes |= _norm(f"stages.{i}.downsample.norm", 4 * dim)
            shapes[f"stages.{i}.downsample.reduction.weight"] = (2 * dim, 4 * dim)
    return shapes | _norm("norm", dim) | _linear("head", dim, sizes.num_classes)


def _block(name: str, dim: int, heads: int, hidden: int, sizes: SwinSizes) -> dict[str, tuple[int, ...]]:
    return {
        **_norm(f"{name}.norm1", dim),
        f"{name}.attn.relative_position_bias_table": (sizes.bias_rows, heads),
        **_linear(f"{name}.attn.qkv", dim, 3 * dim),
        **_linear(f"{name}.attn.proj", dim, dim),
        **_norm(f"{name}.norm2", dim),
        **_linear(f"{name}.mlp.fc1", dim, hidden),
        **_linear(f"{name}.mlp.fc2", hidden, dim),
    }


def _norm(name: str, dim: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def _linear(name: str, dim_in: int, dim_out: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (dim_out, dim_in), f"{name}.bias": (dim_out,)}


def _pattern(prefix: str) -> str:
    """The regular expression of a prefix. Numbers have at most three digits, so no name asks for a million stages."""
    numbers = {"#": r"(\d{1,3})", "#2": r"(\d{1,3})", "#2+1": r"(\d{1,3})"}
    parts = [numbers.get(part) or re.escape(part) for part in prefix.split(".")]
    return r"\.".join(parts)


def _numbers(match: re.Match[str], prefix: str) -> list[int] | None:
    """The numbers in a matched name. torchvision writes n as 2n (`#2`) or as 2n+1 (`#2+1`)."""
    numbers = []
    signs = [part for part in prefix.split(".") if part.startswith("#")]
    for sign, digits in zip(signs, match.groups(), strict=True):
        number = int(digits)
        if str(number) != digits or (sign != "#" and number % 2 != (sign == "#2+1")):
            return None
        numbers.append(number if sign == "#" else number // 2)
    return numbers


def _fill(prefix: str, numbers: list[int]) -> str:
    remaining = iter(numbers)
    formulas = {"#": lambda n: n, "#2": lambda n: 2 * n, "#2+1": lambda n: 2 * n + 1}
    return ".".join(str(formulas[p](next(remaining))) if p in formulas else p for p in prefix.split("."))


_SAME = (("patch_embed.", "patch_embed."), ("norm.", "norm."))
_BODY = (("stages.#.blocks.#.", "layers.#.blocks.#."), ("stages.#.downsample.", "layers.#.downsample."))


def _add_prefix(prefix: str, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((vtag_prefix, prefix + file_prefix) for vtag_prefix, file_prefix in pairs)


TORCHVISION = Naming(
    "torchvision",
    (
        ("stages.#.blocks.#.mlp.fc1.", "features.#2.#.mlp.0."),
        ("stages.#.blocks.#.mlp.fc2.", "features.#2.#.mlp.3."),
        ("stages.#.blocks.#.", "features.#2.#."),
        ("stages.#.downsample.", "features.#2+1."),
        ("head.", "head."),
        *_SAME,
    ),
)
OFFICIAL = Naming(
    "the official repository", (*_add_prefix("backbone.", _BODY + _SAME), ("head.", "cls_head.fc_cls."))
)
PADDLE = Naming("PaddleVideo", (*_add_prefix("backbone.", _BODY + _SAME), ("head.", "head.fc.")))
UNPREFIXED = Naming("an image Swin, or the official module alone", (*_BODY, ("head.", "head."), *_SAME))
VTAG = Naming("vtag", tuple((p, p) for p in ("stages.", "patch_embed.", "norm.", "head.")))


def detect_naming(names: list[str]) -> Naming | None:
    """The naming that fits most of a file's names. None if no naming fits any of them."""
    counts = [(sum(naming.to_vtag(name) is not None for name in names), naming) for naming in _NAMINGS]
    best_count = max(count for count, _ in counts)
    return next(naming for count, naming in counts if count == best_count) if best_count else None


_NAMINGS = (TORCHVISION, OFFICIAL, PADDLE, UNPREFIXED, VTAG)
