"""A training's recipe: one TOML file, read strictly: a misspelt key must not train the wrong thing for a week."""

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
from vtag.engine.text import display_path, printable

_MOST_BYTES = 1 << 20


class ConfigError(VtagError):
    """A recipe that cannot be used; says which key and what it has to be."""


@dataclass(frozen=True)
class ModelConfig:
    """The network, and what it starts from."""

    name: str
    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    patch_size: tuple[int, ...] = (2, 4, 4)
    window_size: tuple[int, ...] = (8, 7, 7)
    init: str = ""  # an image or video checkpoint: a path or a name of the catalogue; empty: random weights
    drop_path: float = 0.1
    head_dropout: float = 0.0
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def sizes(self, classes: int) -> SwinSizes:
        """The network's sizes for a number of classes. Raises ConfigError where they do not fit together."""
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
    """What is learned from, and how a clip is cut out of it. Paths are relative to the recipe's folder."""

    train: str
    val: str = ""  # empty: no validation while training
    root: str = ""  # where the paths of the lists begin; empty: the list's own folder
    labels: str = ""  # a file of one name a line, for lists with indices; empty: labels.txt beside the list
    frames: int = 32
    interval: int = 2  # every so many-th frame
    short_side: int = 256
    crop: int = 224
    flip: float = 0.5
    area: tuple[float, ...] = (0.08, 1.0)  # of the picture that a random crop takes
    aspect: tuple[float, ...] = (3 / 4, 4 / 3)
    colour: float = 0.0
    mixup: float = 0.0
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class OptimConfig:
    """AdamW, linear warm-up and a cosine to the end, stepped every iteration."""

    epochs: int = 30
    batch_size: int = 64  # of one optimiser step, over all devices and accumulated parts
    clips_at_once: int = 8  # on one device
    lr: float = 1e-3  # of the head
    backbone_lr_scale: float = 0.1
    weight_decay: float = 0.05  # not on norms, biases and position tables
    betas: tuple[float, ...] = (0.9, 0.999)
    warmup_epochs: float = 2.5
    warmup_ratio: float = 0.1  # of the learning rate, at the first step
    min_lr: float = 0.0
    checkpointing: bool = False  # recompute activations in the backward pass: less memory, a third more time


@dataclass(frozen=True)
class RunConfig:
    """How and where it runs."""

    out: str = ""  # the result's folder; empty: named after the model, beside the recipe
    seed: int = 0
    amp: bool = True
    device: str = "auto"
    validate_every: int = 1  # epochs
    tensorboard: bool = False


@dataclass(frozen=True)
class Config:
    """A whole recipe; `folder` is where its relative paths begin."""

    model: ModelConfig
    data: DataConfig
    optim: OptimConfig = field(default_factory=OptimConfig)
    run: RunConfig = field(default_factory=RunConfig)
    folder: Path = field(default=Path("."), metadata={"key": False})

    def path(self, told: str) -> Path:
        """A path of the recipe, from where the recipe lies."""
        return self.folder / Path(told).expanduser()

    def to_json(self) -> dict[str, Any]:
        """The recipe as it is kept beside a result."""
        told = dataclasses.asdict(self)
        del told["folder"]
        return told


def read_config(path: Path, changes: Sequence[str] = ()) -> Config:
    """The recipe at `path` with `changes` (`section.key=value`, as TOML) made to it. Raises ConfigError."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConfigError(f"{display_path(path)} is too large to be a recipe")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"the recipe {display_path(path)} cannot be read: {reason}") from error
    return parse_config(text, changes, folder=path.absolute().parent, name=display_path(path))


def parse_config(text: str, changes: Sequence[str] = (), *, folder: Path, name: str) -> Config:
    """The recipe that `text` is. Raises ConfigError."""
    try:
        told = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name}: {error}") from error
    for change in changes:
        _change(told, change)
    config: Config = _build(Config, told, name)
    _check(config, name)
    return dataclasses.replace(config, folder=folder)


def find_config(told: str, changes: Sequence[str] = ()) -> tuple[str, Config]:
    """The text and the content of the recipe that ships under a name, else of a file. Raises ConfigError."""
    if (text := recipes().get(told)) is not None:
        return text, parse_config(text, changes, folder=Path.cwd(), name=told)
    config = read_config(Path(told), changes)
    return Path(told).read_text(encoding="utf-8"), config


def recipes() -> dict[str, str]:
    """The recipes that ship with vtag: name to text."""
    found = [entry for entry in asset("recipes").iterdir() if entry.name.endswith(".toml")]
    return {
        entry.name.removesuffix(".toml"): entry.read_text(encoding="utf-8")
        for entry in sorted(found, key=lambda e: e.name)
    }


def _change(told: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    *sections, last = key.strip().split(".")
    if not equals or not last:
        raise ConfigError(f"--set {printable(change)!r}: write section.key=value, as in optim.lr=1e-4")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # a word or a path needs no quotation marks here
    table = told
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {printable(change)!r}: {section} is no section")
    table[last] = parsed


def _build(kind: type[Any], told: Mapping[str, Any], where: str) -> Any:
    """`kind` (a dataclass) out of a table; every key has to be known and of its type."""
    fields = {f.name: f for f in dataclasses.fields(kind) if f.metadata.get("key", True)}
    hints = typing.get_type_hints(kind)
    for key in told:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(fields)}"
            raise ConfigError(f"{where}: there is no {printable(key)!r}; {hint}")
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in told.items()}
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"{where}: {name} is missing")
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    assert not isinstance(hint, UnionType)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} has to be a section")
        return _build(typing.cast(type[Any], hint), value, where)
    if typing.get_origin(hint) is tuple:
        (item, _) = typing.get_args(hint)
        if not isinstance(value, list) or not value:
            raise ConfigError(f"{where} has to be a list of numbers")
        return tuple(_value(item, entry, where) for entry in value)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
        raise ConfigError(f"{where} has to be {words[hint]}, not {printable(repr(value))}")
    return value


def _check(config: Config, name: str) -> None:
    """The rules that types do not say."""
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
    for holds, rule in rules:
        if not holds:
            raise ConfigError(f"{name}: {rule}")
    model.sizes(2)
