"""A recipe for a training, from a TOML file. Unknown keys are errors: a typo could cost a week of training."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any

from vtag.assets import asset
from vtag.engine.errors import ModelError, VtagError
from vtag.engine.swin.config import IMAGENET_MEAN, IMAGENET_STD, SwinSizes
from vtag.engine.text import display_path, printable, read_text_file

_MAX_BYTES = 1 << 20  # of a recipe


class ConfigError(VtagError):
    """A recipe cannot be used; the message names the key and its allowed values."""


@dataclass(frozen=True)
class ModelConfig:
    """The network and its initial weights."""

    name: str
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    patch_size: tuple[int, ...] = (2, 4, 4)
    window_size: tuple[int, ...] = (8, 7, 7)
    init: str = ""  # an image or video checkpoint: a path or a name of the catalog; empty: random weights
    drop_path: float = 0.1
    head_dropout: float = 0.0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def sizes(self, classes: int) -> SwinSizes:
        """The network's sizes for a number of classes. Raises ConfigError if they do not fit together."""
        try:
            return SwinSizes(
                embed_dim=self.embed_dim,
                depths=self.depths,
                num_heads=self.num_heads,
                num_classes=classes,
                patch_size=self.patch_size,  # type: ignore[arg-type]  # SwinSizes checks the length
                window_size=self.window_size,  # type: ignore[arg-type]
            )
        except (ModelError, ValueError) as error:
            raise ConfigError(f"[model]: {error}") from error


@dataclass(frozen=True)
class DataConfig:
    """The clips, and how they are cut and augmented. Paths are relative to the recipe's folder."""

    train: str
    val: str = ""  # empty: no validation
    root: str = ""  # the folder that paths in lists are relative to; empty: the list's folder
    labels: str = ""  # a file of one name a line, for lists with indices; empty: labels.txt beside the list
    frames: int = 32
    interval: int = 2  # frames from one frame of a clip to the next
    short_side: int = 256
    crop: int = 224
    flip: float = 0.5
    area: tuple[float, ...] = (0.08, 1.0)  # share of the picture that a random crop takes
    aspect: tuple[float, ...] = (3 / 4, 4 / 3)
    colour: float = 0.0
    mixup: float = 0.0
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class OptimConfig:
    """AdamW; the learning rate changes every step: a linear warm-up, then a cosine to the end."""

    epochs: int = 30
    batch_size: int = 64  # of one optimiser step, over all devices and accumulated parts
    clips_at_once: int = 8  # on one device
    lr: float = 1e-3  # of the head
    backbone_lr_scale: float = 0.1
    weight_decay: float = 0.05  # norms, biases and position tables have none
    betas: tuple[float, ...] = (0.9, 0.999)
    warmup_epochs: float = 2.5
    warmup_ratio: float = 0.1  # of the learning rate, at the first step
    min_lr: float = 0.0
    checkpointing: bool = False  # recompute activations in the backward pass: less memory, a third more time


@dataclass(frozen=True)
class RunConfig:
    """The run: device, seed and result."""

    out: str = ""  # folder of the result; empty: beside the recipe, with the model's name
    seed: int = 0
    amp: bool = True
    device: str = "auto"
    validate_every: int = 1  # epochs
    tensorboard: bool = False


@dataclass(frozen=True)
class Config:
    """A whole recipe; its relative paths begin at `folder`."""

    model: ModelConfig
    data: DataConfig
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
    folder: Path = field(default=Path("."), metadata={"key": False})

    def path(self, name: str) -> Path:
        """A path in the recipe, relative to the recipe's folder."""
        return self.folder / Path(name).expanduser()

    def to_json(self) -> dict[str, Any]:
        """The recipe as `config.json` of a result."""
        sections = dataclasses.asdict(self)
        del sections["folder"]
        return sections


def read_config(path: Path, changes: Sequence[str] = ()) -> Config:
    """The recipe at `path` after `changes` (`section.key=value`, values as in TOML). Raises ConfigError."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ConfigError(f"{display_path(path)} is too large to be a recipe")
        text = read_text_file(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"the recipe {display_path(path)} cannot be read: {reason}") from error
    return parse_config(text, changes, folder=path.absolute().parent, name=display_path(path))


def parse_config(text: str, changes: Sequence[str] = (), *, folder: Path, name: str) -> Config:
    """The recipe in `text` after `changes`; `name` is for messages. Raises ConfigError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: {error}") from error
    for change in changes:
        _apply_change(table, change)
    config: Config = _parse_table(Config, table, name)
    _check(config, name)
    return dataclasses.replace(config, folder=folder)


def find_config(name: str, changes: Sequence[str] = ()) -> tuple[str, Config]:
    """Text and content of the shipped recipe `name`, or if there is none, of that file. Raises ConfigError."""
    if (text := recipes().get(name)) is not None:
        return text, parse_config(text, changes, folder=Path.cwd(), name=name)
    config = read_config(Path(name), changes)
    return read_text_file(name), config


def recipes() -> dict[str, str]:
    """Name and text of the recipes that ship with vtag."""
    files = [entry for entry in asset("recipes").iterdir() if entry.name.endswith(".toml")]
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(files, key=lambda e: e.name)
    }


def _apply_change(table: dict[str, Any], change: str) -> None:
    """Set one key of a recipe; `change` is `section.key=value`. Raises ConfigError."""
    key, equals, value = change.partition("=")
    *sections, name = key.strip().split(".")
    if not equals or not name:
        raise ConfigError(f"--set {printable(change)!r}: write section.key=value, as in optim.lr=1e-4")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # text needs no quotation marks here
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {printable(change)!r}: {section} is no section")
    table[name] = parsed


def _parse_table(kind: type[Any], table: Mapping[str, Any], context: str) -> Any:
    """The dataclass `kind` from a table; `context` is for messages. Raises ConfigError for unknown keys and types."""
    fields = {f.name: f for f in dataclasses.fields(kind) if f.metadata.get("key", True)}
    hints = typing.get_type_hints(kind)
    for key in table:
        if key not in fields:
            similar = difflib.get_close_matches(key, fields, 1, 0.5)
            hint = f"did you mean {similar[0]}?" if similar else f"there are {', '.join(fields)}"
            raise ConfigError(f"{context}: there is no {printable(key)!r}; {hint}")
    values = {key: _parse_value(hints[key], value, f"{context}: {key}") for key, value in table.items()}
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"{context}: {name} is missing")
    return kind(**values)


def _parse_value(hint: Any, value: Any, context: str) -> Any:
    """`value` as the type `hint`; `context` is for messages. Raises ConfigError for a wrong type."""
    assert not isinstance(hint, UnionType)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{context} has to be a section")
        return _parse_table(typing.cast(type[Any], hint), value, context)
    if typing.get_origin(hint) is tuple:
        (item, _) = typing.get_args(hint)
        if not isinstance(value, list) or not value:
            raise ConfigError(f"{context} has to be a list of numbers")
        return tuple(_parse_value(item, entry, context) for entry in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        type_names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise ConfigError(f"{context} has to be {type_names[hint]}, not {printable(repr(value))}")
    return value


def _check(config: Config, name: str) -> None:
    """Check what types do not express. Raises ConfigError."""
    data, optim, model = config.data, config.optim, config.model
    rules = (
        (data.frames >= 1 and data.interval >= 1, "data.frames and data.interval have to be at least 1"),
        (1 <= data.crop <= data.short_side, "data.crop has to be between 1 and data.short_side"),
        (
            len(data.area) == 2 and 0 < data.area[0] <= data.area[1] <= 1,
            "data.area has to be two shares up to 1",
        ),
        (len(data.aspect) == 2 and 0 < data.aspect[0] <= data.aspect[1], "data.aspect has to be two ratios"),
        (0 <= data.flip <= 1, "data.flip is a probability"),
        (0 <= data.label_smoothing < 1, "data.label_smoothing has to be below 1"),
        (0 <= model.drop_path < 1, "model.drop_path has to be below 1"),
        (0 <= model.head_dropout < 1, "model.head_dropout has to be below 1"),
        (len(model.mean) == len(model.std) == 3, "model.mean and model.std have to be three numbers each"),
        (
            len(model.patch_size) == len(model.window_size) == 3,
            "model.patch_size and window_size have three numbers",
        ),
        (optim.epochs >= 1, "optim.epochs has to be at least 1"),
        (optim.batch_size >= 1 and optim.clips_at_once >= 1, "optim's batches have to be at least 1"),
        (optim.lr > 0 and optim.min_lr >= 0, "optim.lr has to be above 0"),
        (
            len(optim.betas) == 2 and all(0 <= b < 1 for b in optim.betas),
            "optim.betas have to be two shares below 1",
        ),
        (0 <= optim.warmup_epochs < optim.epochs, "optim.warmup_epochs has to be less than optim.epochs"),
        (config.run.validate_every >= 1, "run.validate_every has to be at least 1"),
    )
    for is_met, rule in rules:
        if not is_met:
            raise ConfigError(f"{name}: {rule}")
    model.sizes(2)
