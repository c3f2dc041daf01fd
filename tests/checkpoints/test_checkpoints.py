"""Published checkpoints load completely, with any name and tensor layout; vtag's own survive saving and loading."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.reference import random_tensors, torchvision_state
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.checkpoints.load import (
    Checkpoint,
    backbone_hash,
    head_hash,
    load_checkpoint,
    save_model_folder,
    with_hashes,
)
from vtag.engine.checkpoints.window_size import find_window, possible_windows
from vtag.engine.errors import ModelError
from vtag.engine.swin.config import ModelSpec, SwinSizes
from vtag.engine.swin.weight_names import OFFICIAL, PADDLE, TORCHVISION, Naming
from vtag.engine.swin.windows import relative_position_index

DATA = Path(__file__).parents[1] / "data" / "golden"
SIZES = SwinSizes(4, (1, 2), (1, 2), 5, (4, 3, 2), (2, 3, 4), 2.5)
TENSORS = random_tensors(SIZES, 3)


def torch_file(path: Path, naming: Naming = TORCHVISION, **changes: Any) -> Path:
    """The test's weights in a `.pth`. `changes` are by vtag's names; None omits a tensor."""
    state = {naming.to_file(name): torch.from_numpy(array.copy()) for name, array in TENSORS.items()}
    for name, value in changes.items():
        key = naming.to_file(name.replace("__", "."))
        state.pop(key, None)
        if value is not None:
            state[key] = value
    torch.save({"meta": {"epoch": 30}, "state_dict": state} if naming is OFFICIAL else state, path)
    return path


def paddle_file(path: Path, protocol: int = 4, order: str = "C") -> Path:
    """The test's weights as `paddle.save` writes them: NumPy arrays with transposed matrices."""
    state: dict[str, Any] = {}
    for name, array in TENSORS.items():
        turned = array.T if array.ndim == 2 and name.endswith(".weight") else array
        state[PADDLE.to_file(name)] = np.array(turned, order=order)  # type: ignore[call-overload]
    state["StructuredToParameterName@@"] = {name: "linear_0.w_0" for name in state}
    path.write_bytes(pickle.dumps(state, protocol=protocol))
    return path


def assert_same(loaded: Checkpoint, tensors: dict[str, np.ndarray] = TENSORS) -> None:
    assert loaded.tensors.keys() == tensors.keys()
    for name, array in tensors.items():
        assert loaded.tensors[name].dtype == np.float32
        assert np.array_equal(loaded.tensors[name], array), name


@pytest.mark.parametrize("naming", [TORCHVISION, OFFICIAL], ids=lambda n: n.name)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_torch_files_come_in(tmp_path: Path, naming: Naming, zipped: bool) -> None:
    path = torch_file(tmp_path / "x.pth", naming)
    if not zipped:
        torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)
    loaded = load_checkpoint(path, window_size=(4, 3, 2))
    assert loaded.spec.sizes == SIZES
    assert_same(loaded)


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("order", ["C", "F"])
def test_paddle_files_come_in(tmp_path: Path, protocol: int, order: str) -> None:
    loaded = load_checkpoint(paddle_file(tmp_path / "x.pdparams", protocol, order), window_size=(4, 3, 2))
    assert loaded.spec.sizes == SIZES
    assert_same(loaded)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_floats_become_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: tensor.to(dtype) for name, tensor in torchvision_state(TENSORS).items()}
    torch.save(state, tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth", window_size=(4, 3, 2))
    expected = {name: torch.from_numpy(array).to(dtype).float().numpy() for name, array in TENSORS.items()}
    assert_same(loaded, expected)


def test_views_into_a_shared_storage_and_parameters_come_in(tmp_path: Path) -> None:
    """A state dict may contain slices of one long tensor, transposed tensors, and Parameters."""
    state, long, offset = {}, torch.zeros(sum(a.size for a in TENSORS.values()) + 9), 9
    for name, tensor in torchvision_state(TENSORS).items():
        slot = long[offset : offset + tensor.numel()].view(tensor.shape[::-1])
        state[name] = slot.permute(*reversed(range(tensor.ndim)))
        state[name].copy_(tensor)
        offset += tensor.numel()
    state["head.bias"] = torch.nn.Parameter(state["head.bias"])
    torch.save(state, tmp_path / "x.pth")
    assert_same(load_checkpoint(tmp_path / "x.pth", window_size=(4, 3, 2)))


def test_the_controls_of_two_formats_are_one_model() -> None:
    a, b = load_checkpoint(DATA / "control_ok.pth"), load_checkpoint(DATA / "control_ok.pdparams")
    assert a.spec.sizes == SwinSizes(2, (1, 1, 1, 1), (1, 1, 1, 1), 3, (2, 2, 2))
    assert_same(b, dict(a.tensors))
    assert (a.spec.backbone_hash, a.spec.head_hash) == (b.spec.backbone_hash, b.spec.head_hash)
    assert a.spec.sha256 != b.spec.sha256 != ""


def test_every_golden_file_reads_as_its_own_library_reads_it(shared: Path) -> None:
    for path in sorted((shared / "golden").glob("*.pth")):
        if path.name.startswith("image_"):
            continue
        loaded = load_checkpoint(path)
        state = torch.load(path, weights_only=True)
        state = state.get("state_dict", state)
        naming = OFFICIAL if path.name.startswith("official") else TORCHVISION
        read = {naming.to_vtag(name): t.numpy() for name, t in state.items() if "position_index" not in name}
        assert_same(loaded, read)
    for path in sorted((shared / "golden").glob("*.pdparams")):
        loaded = load_checkpoint(path)
        for name, array in pickle.loads(path.read_bytes()).items():
            if "@@" in name or "position_index" in name:
                continue
            turned = array.T if array.ndim == 2 and name.endswith(".weight") else array
            assert np.array_equal(loaded.tensors[PADDLE.to_vtag(name)], turned), name


def test_the_same_weights_have_the_same_hashes_in_every_container(shared: Path) -> None:
    a = load_checkpoint(shared / "golden" / "torchvision_w255.pth")
    b = load_checkpoint(shared / "golden" / "torchvision_w255_legacy.pth")
    assert_same(b, dict(a.tensors))
    assert (a.spec.backbone_hash, a.spec.head_hash) == (b.spec.backbone_hash, b.spec.head_hash)


def test_a_backbone_is_all_but_the_head_and_a_head_is_the_layer_and_its_labels() -> None:
    spec = load_checkpoint(DATA / "control_ok.pth").spec
    tensors = dict(load_checkpoint(DATA / "control_ok.pth").tensors)
    original = with_hashes(spec, tensors).spec
    head = with_hashes(spec, tensors | {"head.bias": tensors["head.bias"] + 1}).spec
    assert head.backbone_hash == original.backbone_hash and head.head_hash != original.head_hash
    labelled = with_hashes(replace(spec, labels=("a", "b", "c")), tensors).spec
    assert labelled.backbone_hash == original.backbone_hash and labelled.head_hash != original.head_hash
    for changed in (
        with_hashes(spec, tensors | {"norm.bias": tensors["norm.bias"] + 1}),
        with_hashes(replace(spec, mean=(0.0, 0.0, 0.0)), tensors),
        with_hashes(replace(spec, sizes=replace(spec.sizes, window_size=(2, 2, 3))), tensors),
    ):
        assert changed.spec.backbone_hash != original.backbone_hash
        assert changed.spec.head_hash == original.head_hash
    renamed = with_hashes(replace(spec, name="other", threshold=0.5, frames=16), tensors).spec
    assert (renamed.backbone_hash, renamed.head_hash) == (original.backbone_hash, original.head_hash)
    many = SwinSizes(2, (1,), (1,), 2), SwinSizes(2, (1,), (1,), 9)
    assert len({backbone_hash(s, (0, 0, 0), (1, 1, 1), random_tensors(many[0])) for s in many}) == 1
    assert len(head_hash(("a",), {})) == 64


def test_four_hundred_classes_are_kinetics_and_others_have_numbers(tmp_path: Path) -> None:
    sizes = SwinSizes(2, (1,), (1,), 400, (2, 2, 2))
    torch.save(torchvision_state(random_tensors(sizes)), tmp_path / "k.pth")
    assert load_checkpoint(tmp_path / "k.pth").spec.labels[5] == "archery"
    small = load_checkpoint(DATA / "control_ok.pth")
    assert small.spec.labels == ("class 0", "class 1", "class 2")
    assert small.spec.name == "control_ok"
    named = load_checkpoint(DATA / "control_ok.pth", name="mine", labels=["run", "jump", "sit"])
    assert (named.spec.name, named.spec.labels) == ("mine", ("run", "jump", "sit"))
    with pytest.raises(ModelError, match="3 classes but 2 labels"):
        load_checkpoint(DATA / "control_ok.pth", labels=["run", "jump"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages__1__blocks__0__attn__qkv__bias": None}, "lacks the tensor 'features.2.0.attn.qkv.bias'"),
        ({"stages__0__downsample__norm__weight": None}, "lacks the tensor 'features.1.norm.weight'"),
        ({"head__weight": None}, "lacks the tensor 'head.weight'"),
        ({"stages__0__blocks__0__attn__gate": torch.ones(2)}, "has not: 'features.0.0.attn.gate'"),
        ({"head__extra": torch.ones(2)}, "has not: 'head.extra'"),
        ({"rubbish": torch.ones(2)}, "has not: 'rubbish'"),
        ({"norm__bias": torch.ones(7)}, "'norm.bias' is 7, but the sizes of the others ask for 8"),
        ({"head__bias": torch.ones(5, dtype=torch.int64)}, "'head.bias' is of int64"),
        ({"head__bias": torch.tensor([0, 1, float("nan"), 0, 0])}, "'head.bias' holds NaN"),
        ({"head__bias": torch.full((5,), 1e300, dtype=torch.float64)}, "'head.bias' holds NaN or infinity"),
        ({"head__bias": [1, 2]}, "'head.bias' is no tensor, but a list"),
        ({"head__weight": torch.ones(0, 8)}, "'head.weight' is empty: 0x8"),
        ({"patch_embed__proj__weight": torch.ones(4, 1, 2, 3, 4)}, r"'patch_embed.proj.weight' is 4x1x2x3x4"),
        ({"patch_embed__proj__weight": torch.ones(4, 3, 3, 4)}, "an image Swin"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = torch_file(tmp_path / "x.pth", **changes)
    with pytest.raises(ModelError, match=message) as refused:
        load_checkpoint(path, window_size=(4, 3, 2))
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_an_index_in_a_file_is_never_indexed_with(tmp_path: Path) -> None:
    wild = torch.full((24, 24), 10**12)
    path = torch_file(tmp_path / "x.pth", stages__0__blocks__0__attn__relative_position_index=wild)
    assert_same(load_checkpoint(path, window_size=(4, 3, 2)))


@pytest.mark.parametrize(
    "window", [(8, 7, 7), (16, 7, 7), (2, 5, 5), (5, 2, 5), (4, 7, 6), (1, 1, 3), (2, 2, 2)]
)
def test_the_window_is_told_by_the_files_index(window: tuple[int, int, int]) -> None:
    rows = int(np.prod([2 * size - 1 for size in window]))
    tokens = int(np.prod(window))
    loaded = find_window(rows, relative_position_index(window, tokens))
    if sorted(window)[:2] == [1, 1]:  # only one axis is longer than 1: the index is the same for all three
        assert sorted(loaded) == sorted(window)
    else:
        assert loaded == window


def test_without_an_index_the_published_and_the_plausible_windows_come_first() -> None:
    assert find_window(15 * 13 * 13, None) == (8, 7, 7)
    assert find_window(31 * 13 * 13, None) == (16, 7, 7)
    assert find_window(3 * 9 * 9, None) == (2, 5, 5)
    assert find_window(15 * 13 * 13, np.zeros((392, 392), np.int64)) == (8, 7, 7)
    for rows in (0, -1, 8, 2 * 131, 10**12):
        with pytest.raises(ModelError, match="no window"):
            find_window(rows, None)


@given(st.tuples(*[st.integers(1, 20)] * 3))
def test_every_window_is_among_those_of_its_rows(window: tuple[int, int, int]) -> None:
    assert window in possible_windows(int(np.prod([2 * size - 1 for size in window])))


SPEC = ModelSpec(
    name="mine",
    sizes=SIZES,
    labels=("run", "jump", "läuft", "sit & stand", "none of these"),
    frames=16,
    rate=12.5,
    short_side=64,
    crop=56,
    mean=(1.0, 2.0, 3.5),
    std=(4.0, 5.0, 6.5),
    threshold=0.25,
    label_thresholds={"run": 0.5},
    merged_from={"run": ["running", "jogging"]},
    source="here",
    licence="CC0",
)


def test_a_model_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoint = with_hashes(SPEC, TENSORS)
    save_model_folder(checkpoint, tmp_path / "mine")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["mine"]
    assert sorted(f.name for f in (tmp_path / "mine").iterdir()) == ["model.json", "model.safetensors"]
    for path in (tmp_path / "mine", tmp_path / "mine" / "model.safetensors"):
        loaded = load_checkpoint(path)
        assert_same(loaded)
        assert len(loaded.spec.sha256) == 64
        assert replace(loaded.spec, sha256="") == checkpoint.spec
        assert load_checkpoint(path, name="other").spec.name == "other"


def test_a_model_folder_with_another_window_than_its_tables_suggest_comes_back(tmp_path: Path) -> None:
    sizes = replace(SIZES, window_size=(3, 2, 4))
    save_model_folder(with_hashes(replace(SPEC, sizes=sizes), TENSORS), tmp_path / "m")
    assert load_checkpoint(tmp_path / "m").spec.sizes == sizes


def test_half_the_size_is_a_model_of_its_own(tmp_path: Path) -> None:
    checkpoint = with_hashes(SPEC, TENSORS)
    save_model_folder(checkpoint, tmp_path / "whole")
    save_model_folder(checkpoint, tmp_path / "half", dtype=np.float16)
    saved, half = ((tmp_path / n / "model.safetensors").stat().st_size for n in ("whole", "half"))
    assert half < 0.7 * saved
    loaded = load_checkpoint(tmp_path / "half")
    assert_same(
        loaded, {name: array.astype(np.float16).astype(np.float32) for name, array in TENSORS.items()}
    )
    assert loaded.spec.backbone_hash != checkpoint.spec.backbone_hash
    big = with_hashes(SPEC, TENSORS | {"norm.bias": TENSORS["norm.bias"] * np.float32(1e6)})
    with pytest.raises(ModelError, match=r"norm\.bias do not fit float16"):
        save_model_folder(big, tmp_path / "big", dtype=np.float16)
    assert not (tmp_path / "big").exists()


def test_saving_replaces_a_model_and_nothing_else(tmp_path: Path) -> None:
    checkpoint = with_hashes(SPEC, TENSORS)
    save_model_folder(checkpoint, tmp_path / "a" / "mine")
    changed = with_hashes(replace(SPEC, threshold=0.75), TENSORS)
    save_model_folder(changed, tmp_path / "a" / "mine")
    assert load_checkpoint(tmp_path / "a" / "mine").spec.threshold == 0.75
    assert [f.name for f in (tmp_path / "a").iterdir()] == ["mine"]
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").write_text("dear")
    with pytest.raises(ModelError, match="holds no model"):
        save_model_folder(checkpoint, tmp_path / "b")
    assert [f.name for f in (tmp_path / "b").iterdir()] == ["letter.txt"]


def test_a_save_that_fails_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model_folder(with_hashes(SPEC, TENSORS), tmp_path / "mine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vtag.engine.checkpoints.model_folder.save_file", full)
    with pytest.raises(ModelError, match="No space left"):
        save_model_folder(with_hashes(replace(SPEC, threshold=0.75), TENSORS), tmp_path / "mine")
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "mine").spec.threshold == 0.25
    assert [f.name for f in tmp_path.iterdir()] == ["mine"]


def test_weights_that_are_not_those_of_the_folder_are_refused(tmp_path: Path) -> None:
    save_model_folder(with_hashes(SPEC, TENSORS), tmp_path / "mine")
    weights = tmp_path / "mine" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ModelError, match="another SHA-256"):
        load_checkpoint(tmp_path / "mine")


def test_tensors_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    loaded = load_checkpoint(DATA / "control_ok.pdparams")
    with pytest.raises(ValueError, match="read-only"):
        loaded.tensors["norm.bias"][0] = 1


def _open_pipe(folder: Path) -> Path:
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes here")
    os.mkfifo(folder / "pipe.pth")
    return folder / "pipe.pth"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.pth", "there is no such file"),
        (lambda folder: folder, "without model.json"),
        (_open_pipe, "not a regular file"),
    ],
)
def test_a_path_that_is_no_checkpoint_is_said_at_once(
    tmp_path: Path, make: Callable[[Path], Path], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_checkpoint(make(tmp_path))


def test_a_name_with_control_characters_reaches_no_message(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[31m\nb.pth"
    path.write_bytes(b"")
    with pytest.raises(ModelError) as refused:
        load_checkpoint(path)
    assert str(refused.value).isprintable()
    torch_file(path, **{"head__\x1b[31m": torch.ones(1)})
    with pytest.raises(ModelError) as refused:
        load_checkpoint(path, window_size=(4, 3, 2))
    assert str(refused.value).isprintable()


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.text(max_size=5), st.integers() | st.floats() | st.text() | st.lists(st.booleans())),
    st.sampled_from([True, False]),
)
def test_whatever_torch_saves_is_read_as_torch_reads_it(value: dict[str, Any], zipped: bool) -> None:
    from vtag.engine.checkpoints.formats.torch_files import read_torch_legacy, read_torch_zip

    saved = {"tensor": torch.arange(6.0).reshape(2, 3).T, "rest": value}
    buffer = io.BytesIO()
    torch.save(saved, buffer, _use_new_zipfile_serialization=zipped)
    read = read_torch_zip if zipped else read_torch_legacy
    loaded = read(buffer, len(buffer.getvalue())) if zipped else None
    if not zipped:
        buffer.seek(0)
        loaded = read(buffer, len(buffer.getvalue()))
    assert np.array_equal(loaded["tensor"].read(), saved["tensor"].numpy())
    assert repr(loaded["rest"]) == repr(value)
