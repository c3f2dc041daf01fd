"""What the weights of a Video Swin are called: our names and shapes, and how the published files say them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vtag.engine.swin.config import SwinSizes

# Tables that files carry and that are arithmetic over the sizes; they are computed anew and never indexed
# with.
_DERIVED = (".relative_position_index", ".attn_mask")


@dataclass(frozen=True)
class Naming:
    """How a kind of file names our tensors: pairs of (our prefix, theirs); `#` stands for a number."""

    name: str
    pairs: tuple[tuple[str, str], ...]

    def ours(self, theirs: str) -> str | None:
        """Our name for a file's tensor, or None where the file's naming has no such name."""
        for our, their in self.pairs:
            match = re.match(_pattern(their), theirs)
            if match and (numbers := _numbers(match, their)) is not None:
                return _fill(our, numbers) + theirs[match.end() :]
        return None

    def theirs(self, ours: str) -> str:
        """The file's name for our tensor."""
        for our, their in self.pairs:
            match = re.match(_pattern(our), ours)
            if match and (numbers := _numbers(match, our)) is not None:
                return _fill(their, numbers) + ours[match.end() :]
        return ours


def is_derived(name: str) -> bool:
    """Whether a file's tensor is one that is computed anew: a position index, an attention mask."""
    return name.endswith(_DERIVED)


def is_head(name: str) -> bool:
    """Whether our tensor belongs to the head, and not to the backbone."""
    return name.startswith("head.")


def hidden_dim(sizes: SwinSizes, stage: int) -> int:
    """The width inside the MLPs of a stage."""
    return int((sizes.embed_dim << stage) * sizes.mlp_ratio)


def parameter_shapes(sizes: SwinSizes) -> dict[str, tuple[int, ...]]:
    """Our name and shape of every weight of a model of these sizes, in the module's order."""
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
    """The regular expression of a prefix; three digits at most, so that no name asks for a million stages."""
    numbers = {"#": r"(\d{1,3})", "#2": r"(\d{1,3})", "#2+1": r"(\d{1,3})"}
    parts = [numbers.get(part) or re.escape(part) for part in prefix.split(".")]
    return r"\.".join(parts)


def _numbers(match: re.Match[str], prefix: str) -> list[int] | None:
    """The numbers in a matched name; `#2` is written doubled, `#2+1` doubled and one more (torchvision)."""
    found = []
    signs = [part for part in prefix.split(".") if part.startswith("#")]
    for sign, digits in zip(signs, match.groups(), strict=True):
        number = int(digits)
        if str(number) != digits or (sign != "#" and number % 2 != (sign == "#2+1")):
            return None
        found.append(number if sign == "#" else number // 2)
    return found


def _fill(prefix: str, numbers: list[int]) -> str:
    rest = iter(numbers)
    written = {"#": lambda n: n, "#2": lambda n: 2 * n, "#2+1": lambda n: 2 * n + 1}
    return ".".join(str(written[p](next(rest))) if p in written else p for p in prefix.split("."))


_SAME = (("patch_embed.", "patch_embed."), ("norm.", "norm."))
_BODY = (("stages.#.blocks.#.", "layers.#.blocks.#."), ("stages.#.downsample.", "layers.#.downsample."))


def _under(prefix: str, pairs: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    return tuple((ours, prefix + theirs) for ours, theirs in pairs)


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
    "the official repository", (*_under("backbone.", _BODY + _SAME), ("head.", "cls_head.fc_cls."))
)
PADDLE = Naming("PaddleVideo", (*_under("backbone.", _BODY + _SAME), ("head.", "head.fc.")))
BARE = Naming("an image Swin, or the official module alone", (*_BODY, ("head.", "head."), *_SAME))
OURS = Naming("vtag", tuple((p, p) for p in ("stages.", "patch_embed.", "norm.", "head.")))


def naming_of(names: list[str]) -> Naming | None:
    """The naming that fits most of a file's names; None where none fits any."""
    fits = [(sum(n.ours(name) is not None for name in names), n) for n in _NAMINGS]
    most = max(count for count, _ in fits)
    return next(n for count, n in fits if count == most) if most else None


_NAMINGS = (TORCHVISION, OFFICIAL, PADDLE, BARE, OURS)
