"""Recipes: the ones that ship are sound and say where their numbers come from; a wrong key or value is named."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtag.trainer.network.config import Config, ConfigError, parse_config, read_config, recipes

SMALL = """
[model]
name = "m"
embed_dim = 8
depths = [1, 1]
num_heads = [1, 2]
[data]
train = "clips"
"""


def parse(text: str, *changes: str) -> Config:
    return parse_config(text, changes, folder=Path("/here"), name="recipe.toml")


PUBLISHED = {  # embed_dim, blocks, drop path, learning rate of head and backbone, weight decay
    "swin3d-t_k400_videos_32x2": (96, 12, 0.1, 1e-3, 1e-4, 0.02),
    "swin3d-s_k400_videos_32x2": (96, 24, 0.1, 1e-3, 1e-4, 0.02),
    "swin3d-b_k400_videos_32x2": (128, 24, 0.3, 1e-3, 1e-4, 0.05),
    "paddle-small_k400_videos_32x2": (96, 24, 0.1, 1e-4, 1e-4, 0.02),
    "paddle-base_k400_videos_32x2": (128, 24, 0.2, 3e-5, 3e-5, 0.05),
}


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_that_ships_is_sound_and_says_where_its_numbers_come_from(name: str) -> None:
    text = recipes()[name]
    assert "Where the numbers come from:" in text.split("[model]")[0]
    config = parse(text)
    optim, data = config.optim, config.data
    assert (data.frames, data.interval, data.short_side, data.crop, data.flip) == (32, 2, 256, 224, 0.5)
    if name not in PUBLISHED:
        return
    assert PUBLISHED[name] == (
        config.model.embed_dim,
        sum(config.model.depths),
        config.model.drop_path,
        optim.lr,
        pytest.approx(optim.lr * optim.backbone_lr_scale),
        optim.weight_decay,
    )
    assert (optim.epochs, optim.batch_size, optim.warmup_epochs, optim.min_lr) == (30, 64, 2.5, 0.0)


def test_the_published_recipes_are_all_there() -> None:
    assert set(PUBLISHED) < set(recipes())


def test_what_is_not_told_has_a_default_and_paths_begin_at_the_recipe() -> None:
    config = parse(SMALL)
    assert config.optim.epochs == 30
    assert config.path(config.data.train) == Path("/here/clips")
    assert config.path("/else/where") == Path("/else/where")


def test_set_changes_one_key() -> None:
    config = parse(SMALL, "optim.lr=1e-4", "optim.epochs=3", "run.amp=false", "data.val=some where/val.txt")
    assert (config.optim.lr, config.optim.epochs, config.run.amp) == (1e-4, 3, False)
    assert config.data.val == "some where/val.txt"


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("[optim]\nwieght_decay = 1", "there is no 'wieght_decay'; did you mean weight_decay?"),
        ("[optm]\nlr = 1", "there is no 'optm'; did you mean optim?"),
        ("[optim]\nepochs = 2.5", "epochs has to be a whole number"),
        ("[optim]\nepochs = true", "epochs has to be a whole number"),
        ("[optim]\nlr = 'fast'", "lr has to be a number"),
        ("[optim]\nbetas = []", "betas has to be a list of numbers"),
        ("[optim]\nepochs = 2", "warmup_epochs has to be less"),
        ("[run]\namp = 1", "amp has to be true or false"),
        ("x = 1\x00", "recipe.toml: "),
        ("[data]\ntrain = 'twice'", "recipe.toml: "),
    ],
)
def test_what_is_wrong_is_named(addition: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"recipe\.toml") as error:
        parse(SMALL + addition)
    assert message in str(error.value)


def test_sizes_that_do_not_fit_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 heads do not divide 8"):
        parse(SMALL.replace("[1, 2]", "[3, 2]"))
    with pytest.raises(ConfigError, match="num_heads is missing"):
        parse(SMALL.replace("num_heads = [1, 2]", ""))
    for change in ("optim", "optim.lr", "=1", "model.name.x=1", "nosuch.key=1"):
        with pytest.raises(ConfigError):
            parse(SMALL, change)


def test_a_recipe_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "nowhere.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="it is no text"):
        read_config(tmp_path / "binary.toml")
    (tmp_path / "good.toml").write_text(SMALL)
    assert read_config(tmp_path / "good.toml").folder == tmp_path


@given(st.text(max_size=200), st.lists(st.text(max_size=20), max_size=3))
def test_no_text_is_more_than_a_config_error(text: str, changes: list[str]) -> None:
    for body in (text, SMALL + text):
        with contextlib.suppress(ConfigError):
            parse(body, *changes)
