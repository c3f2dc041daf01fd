"""Model files that try to run code or exhaust memory, or that lie about their content, are refused."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.reference import random_tensors, torchvision_state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtag.engine.checkpoints.load import load_checkpoint, save_model_folder
from vtag.engine.checkpoints.pickle_reader import BoundedReader, read_pickle
from vtag.engine.errors import ModelError
from vtag.engine.swin.config import SwinSizes

DATA = Path(__file__).parents[1] / "data"
HOSTILE = DATA / "hostile"
MARKER = Path("/tmp/vtag_hostile_marker")  # the payloads of these files would create it

# Messages that some of the files must give. All others only have to be refused.
MESSAGES = {
    "html_page.pth": "a web page",
    "git_lfs_pointer.pth": "Git LFS pointer",
    "empty.pth": "empty",
    "empty.pdparams": "empty",
    "empty.safetensors": "empty",
    "empty.onnx": "empty",
    "truncated.pth": "cut short",
    "truncated_tail.pth": "cut short",
    "truncated_legacy.pth": "cut short",
    "truncated.pdparams": "cut short",
    "bit_flip_crc.pth": "damaged",
    "bare_tensor.pth": "single tensor",
    "empty_dict.pth": "no weights",
    "exec_second_data_pkl.pth": "two entries",
    "exec_in_meta.pth": "posix.system",
    "bomb_deflate_100MB.pth": "compressed",
    "key_missing.pth": "features.4.0.attn.qkv.bias",
    "key_extra.pth": "features.4.0.attn.gate.weight",
    "shape_wrong.pth": "features.2.0.mlp.0.weight",
    "shape_transposed.pth": "features.2.0.mlp.0.weight",
    "nan_weight.pth": "features.4.0.mlp.3.weight",
    "zero_classes.pth": "head.weight",
    "onnx_other_task.onnx": "an ONNX file of something else",
    "onnx_truncated.onnx": "cut short",
    "onnx_custom_op.onnx": "com.example.evil",
    "onnx_external_etc_passwd.onnx": "weights in another file",
    "onnx_external_absolute.onnx": "weights in another file",
    "onnx_external_missing.onnx": "weights in another file",
    "model_labels_too_few": "3 classes but 2 labels",
    "model_labels_duplicate": "'archery' stands there twice",
    "model_weights_escape": "not the plain name",
    "model_embed_1e9": "1000000000",
}
SOUND = {"control_ok.pth", "control_ok.pdparams", "index_out_of_range.pth"}

# Loads each file in one process with limited memory. Prints the result for each, and the peak in MB.
BOUNDED = """
import json, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (1200 << 20, 1200 << 20))
from vtag.engine.errors import ModelError
from vtag.engine.checkpoints.load import load_checkpoint
came = {}
for path in map(Path, sys.argv[1:]):
    try:
        load_checkpoint(path)
        came[path.name] = None
    except ModelError as error:
        came[path.name] = str(error)
status = Path("/proc/self/status")  # ru_maxrss would include the parent's peak
high = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")] if status.exists() else []
peak = int(high[0].split()[1]) // 1024 if high else 0
print(json.dumps({"came": came, "peak": peak, "torch": "torch" in sys.modules}))
"""


@pytest.fixture(autouse=True)
def nothing_was_run() -> Iterator[None]:
    assert not MARKER.exists(), f"{MARKER} is there already: remove it, it shows whether a payload was run"
    yield
    assert not MARKER.exists(), "a payload was run"


def in_a_bounded_process(paths: list[Path]) -> dict[str, str | None]:
    """The error of loading each file (None: it loads), in a process limited to 1.2 GB, which should need far less."""
    pytest.importorskip("resource", reason="Windows has no such limits")
    run = subprocess.run(
        [sys.executable, "-c", BOUNDED, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=120,
        env={"OPENBLAS_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"},
    )
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["peak"] < 150
    assert not report["torch"]
    came: dict[str, str | None] = report["came"]
    return came


def check(came: dict[str, str | None]) -> None:
    for name, message in came.items():
        if name in SOUND:
            assert message is None, name
            continue
        assert message is not None, f"{name} was loaded"
        assert name in message and message.isprintable() and len(message) < 600
        assert MESSAGES.get(name, "") in message, message


def test_the_committed_files_are_refused_in_little_memory() -> None:
    paths = sorted(HOSTILE.iterdir())
    assert len(paths) > 70
    check(in_a_bounded_process(paths))


def test_all_hostile_files_do_what_their_readme_says(shared: Path) -> None:
    paths = sorted(p for p in (shared / "hostile").iterdir() if p.name != "README.md")
    came = in_a_bounded_process(paths)
    assert set(MESSAGES) | SOUND <= set(came)
    check(came)


def test_an_index_out_of_range_loads_as_the_control_does(shared: Path) -> None:
    a = load_checkpoint(shared / "hostile" / "index_out_of_range.pth")
    b = load_checkpoint(shared / "hostile" / "control_ok.pth")
    assert (a.spec.backbone_hash, a.spec.head_hash) == (b.spec.backbone_hash, b.spec.head_hash)


def test_truncated_and_html_are_told_apart_whatever_the_file_is_called(tmp_path: Path) -> None:
    sound = (DATA / "golden" / "control_ok.pth").read_bytes()
    for name, data, expected_message in (
        ("a.pdparams", sound[:-40], "cut short"),
        ("b.safetensors", sound[:12000], "cut short"),
        ("c.onnx", b"\n\n<HTML><body>sign in to the hotel's network", "web page"),
        ("d.pth", b"\x1f\x8b\x08rest", "unpack"),
        ("e", b"just a letter", "not a checkpoint"),
        ("f.pth", (HOSTILE / "onnx_other_task.onnx").read_bytes(), "ONNX"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ModelError, match=expected_message):
            load_checkpoint(tmp_path / name)
    (tmp_path / "sound.txt").write_bytes(sound)
    assert load_checkpoint(tmp_path / "sound.txt").spec.sizes.num_classes == 3


def test_a_flipped_bit_of_a_weight_is_seen_by_the_zips_checksum(tmp_path: Path) -> None:
    sound = DATA / "golden" / "control_ok.pth"
    with zipfile.ZipFile(sound) as archive:
        offset = archive.getinfo("control_ok/data/3").header_offset
    data = bytearray(sound.read_bytes())
    with zipfile.ZipFile(sound) as archive:
        weights = archive.read("control_ok/data/3")
    data[data.index(weights, offset)] ^= 1
    (tmp_path / "x.pth").write_bytes(data)
    assert torch.load(tmp_path / "x.pth", weights_only=True)  # torch does not notice
    with pytest.raises(ModelError, match="a checksum in it does not fit"):
        load_checkpoint(tmp_path / "x.pth")


def rewritten(path: Path, **options: object) -> Path:
    """The control's zip, rewritten with zipfile's options."""
    with (
        zipfile.ZipFile(DATA / "golden" / "control_ok.pth") as old,
        zipfile.ZipFile(path, "w", **options) as new,
    ):  # type: ignore[call-overload]
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    return path


def test_compressed_entries_are_refused(tmp_path: Path) -> None:
    assert load_checkpoint(rewritten(tmp_path / "stored.pth")).spec.sizes.embed_dim == 2
    with pytest.raises(ModelError, match="compressed"):
        load_checkpoint(rewritten(tmp_path / "packed.pth", compression=zipfile.ZIP_DEFLATED))


def test_entries_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """A hundred entries share one megabyte, so the directory claims more bytes than the file has."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}))
        archive.writestr("x/data/0", bytes(1 << 20))
        shared = archive.getinfo("x/data/0")
        for i in range(1, 100):
            copy = zipfile.ZipInfo(f"x/data/{i}")
            copy.header_offset, copy.file_size = shared.header_offset, shared.file_size
            copy.compress_size, copy.CRC = shared.compress_size, shared.CRC
            archive.filelist.append(copy)
    (tmp_path / "x.pth").write_bytes(buffer.getvalue())
    with pytest.raises(ModelError, match="more bytes than the file has"):
        load_checkpoint(tmp_path / "x.pth")


def test_a_directory_of_a_million_entries_is_not_read(tmp_path: Path) -> None:
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = entry * 200_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(directory), 4, 0)
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04" + directory + end)
    with pytest.raises(ModelError, match="directory is longer"):
        load_checkpoint(tmp_path / "x.pth")


def test_weights_that_share_their_values_cannot_swell(tmp_path: Path) -> None:
    """One array has the names of sixty blocks. torch allows that, and it takes 60 times the file's size in memory."""
    tensors = random_tensors(SwinSizes(256, (1,), (1,), 2, (1, 1, 1), (1, 1, 1)))
    arrays = {
        name: tensors[name.replace(f"blocks.{j}.", "blocks.0.")]
        for j in range(60)
        for name in [n.replace("blocks.0.", f"blocks.{j}.") for n in tensors]
    }
    cache: dict[int, torch.Tensor] = {}
    state = {}
    for name, array in arrays.items():
        tensor = cache.setdefault(id(array), torch.from_numpy(array))
        state.update({key: tensor for key in torchvision_state({name: array})})
    torch.save(state, tmp_path / "x.pth")
    assert (tmp_path / "x.pth").stat().st_size < 5 << 20
    with pytest.raises(ModelError, match="share their values"):
        load_checkpoint(tmp_path / "x.pth")


def test_text_that_is_encoded_again_and_again_is_bounded(tmp_path: Path) -> None:
    """A megabyte of text, with a thousand calls that encode it."""
    text = b"X" + struct.pack("<I", 1 << 20) + b"a" * (1 << 20) + b"q\x00"
    call = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
    body = b"\x80\x02]" + text + b"a" + b"".join(b"(" + call + b"t" for _ in range(1000)) + b"."
    (tmp_path / "x.pdparams").write_bytes(body)
    with pytest.raises(ModelError, match="larger than the file"):
        load_checkpoint(tmp_path / "x.pdparams")


def test_a_pickle_of_millions_of_steps_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "x.pdparams").write_bytes(b"\x80\x02" + b"N" * 3_000_000 + b".")
    with pytest.raises(ModelError, match="more steps"):
        load_checkpoint(tmp_path / "x.pdparams")


@pytest.mark.parametrize(
    "value",
    [
        {"a": np.zeros(2, dtype=object)},
        {"a": np.zeros(2, dtype="U3")},
        {"a": np.zeros(2, dtype=[("x", "f4")])},
        {"a": np.zeros(2, dtype="M8[s]")},
        {"a": np.complex64(1)},
        {"a": Path("x")},
        {("a", "b"): np.zeros(2)},
        {"a": {1, 2}},
        {"a": bytearray(b"x")},
        {"a": 1 << 4000},
        {"a": range(3)},
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_values_that_weights_do_not_have_are_refused(tmp_path: Path, value: object, protocol: int) -> None:
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(value, protocol=protocol))
    with pytest.raises(ModelError):
        load_checkpoint(tmp_path / "x.pdparams")


@pytest.mark.parametrize(
    "change",
    [
        {"depths": 5},
        {"depths": [[1], 1, 1, 1]},
        {"depths": []},
        {"depths": [True, 1, 1, 1]},
        {"num_heads": "1111"},
        {"window_size": {"t": 2}},
        {"window_size": [64, 64, 64]},
        {"patch_size": [2, 4]},
        {"mlp_ratio": "4"},
        {"mlp_ratio": 1e-9},
        {"num_classes": 10**9},
        {"embed_dim": None},
        {"unknown": 1},
    ],
)
def test_a_spec_with_impossible_sizes_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    spec_json = json.loads((HOSTILE / "model_embed_1e9" / "model.json").read_text())
    spec_json["spec"] |= {"embed_dim": 2} | change
    (tmp_path / "model.json").write_text(json.dumps(spec_json))
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": {"a": 1}},
        {"labels": ["a", "b", "\u202ec"]},
        {"labels": ["a", "b", "x" * 1000]},
        {"mean": [1, 2]},
        {"std": [0, 1, 1]},
        {"std": "abc"},
        {"frames": 10**6},
        {"crop": 10**6},
        {"rate": -1},
        {"rate": 1e400},
        {"threshold": 7},
        {"label_thresholds": {"a": "b"}},
        {"label_thresholds": [1]},
        {"merged_from": {"a": "b"}},
        {"source": 7},
        {"format": 99},
        {"weights": "/etc/passwd"},
        {"weights": ".."},
        {"weights": ""},
        {"weights": "a\\b"},
        {"weights": ["model.safetensors"]},
    ],
)
def test_a_model_json_with_impossible_values_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    save_model_folder(load_checkpoint(DATA / "golden" / "control_ok.pth"), tmp_path / "m")
    file = tmp_path / "m" / "model.json"
    spec_json = json.loads(file.read_text()) | change
    file.write_text(json.dumps(spec_json))
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_checkpoint(tmp_path / "m")


def safetensors(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        safetensors({}),
        safetensors([]),
        safetensors({"a": 1}),
        safetensors(b'{"a": {}, "a": {}}'),
        safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"123"),
        safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"12345"),
        safetensors({"a": {"dtype": "F32", "shape": [1], "data_offsets": [1, 5]}}, b"12345"),
        safetensors({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}, b"1234"),
        safetensors({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}, b""),
        safetensors({"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}, b"12345678"),
        safetensors({"norm.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
    ],
)
def test_weights_of_a_folder_that_are_not_sound_are_refused(tmp_path: Path, data: bytes) -> None:
    save_model_folder(load_checkpoint(DATA / "golden" / "control_ok.pth"), tmp_path / "m")
    (tmp_path / "m" / "model.safetensors").write_bytes(data)
    for path in (tmp_path / "m", tmp_path / "m" / "model.safetensors"):
        with pytest.raises(ModelError, match=str(tmp_path)):
            load_checkpoint(path)


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, bytes]]:
    """A sound model in each format: the path for it, and its bytes."""
    folder = tmp_path_factory.mktemp("sound")
    sizes = SwinSizes(2, (2,), (1,), 2, (2, 2, 2), (1, 2, 2), 1.0)
    state = torchvision_state(random_tensors(sizes))
    torch.save(state, folder / "zip.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    save_model_folder(load_checkpoint(folder / "zip.pth"), folder / "m")
    named = {name: tensor.numpy() for name, tensor in state.items()}
    (folder / "p4.pdparams").write_bytes(pickle.dumps(named, protocol=4))
    (folder / "p2.pdparams").write_bytes((DATA / "golden" / "control_ok.pdparams").read_bytes())
    files = ["zip.pth", "legacy.pth", "p2.pdparams", "m/model.safetensors", "m/model.json"]
    return {name: (folder / name, (folder / name).read_bytes()) for name in files}


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_sound(
    sound_files: dict[str, tuple[Path, bytes]], data: st.DataObject
) -> None:
    """A file that is cut or has changed bytes gives a ModelError, or weights that are finite numbers."""
    path, sound = sound_files[data.draw(st.sampled_from(sorted(sound_files)))]
    damaged = bytearray(sound)
    for _ in range(data.draw(st.integers(0, 3))):
        # the structure is at both ends, so change these as often as the middle
        offset = data.draw(st.integers(0, 400) | st.integers(-400, -1) | st.integers(0, len(sound) - 1))
        damaged[offset % len(sound)] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(sound))) :]
    path.write_bytes(damaged)
    try:
        loaded = load_checkpoint(path)
        assert all(np.isfinite(array).all() for array in loaded.tensors.values())
    except ModelError as error:
        assert str(error).isprintable() and len(str(error)) < 700
    finally:
        path.write_bytes(sound)


OPCODES = [bytes([code]) for code in range(256)] + [
    b"cos\nsystem\n",
    b"c_codecs\nencode\n",
    b"cnumpy\ndtype\n",
    b"cnumpy\nndarray\n",
    b"cnumpy.core.multiarray\n_reconstruct\n",
    b"X\x02\x00\x00\x00f4",
    b"X\x06\x00\x00\x00latin1",
    b"X\x01\x00\x00\x00<",
    b"C\x04\x00\x00\x00\x00",
    b"K\x01",
    b"q\x00",
    b"h\x00",
    b"}",
    b"(",
    b"t",
    b"R",
    b"b",
    b"s",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(OPCODES), max_size=60))
def test_any_row_of_opcodes_is_a_plain_value_or_refused(opcodes: list[bytes]) -> None:
    from vtag.engine.checkpoints.formats.paddle_files import read_paddle

    data = b"\x80\x02" + b"".join(opcodes) + b"."
    with suppress(ModelError):
        assert isinstance(read_paddle(io.BytesIO(data), len(data)), dict)


PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text() | st.binary()
NESTED = st.recursive(
    PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)
)


@given(NESTED, st.integers(3, 4))  # in protocol 2 bytes need a call, which is only allowed in arrays
def test_plain_values_are_read_as_python_reads_them(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol=protocol)
    assert repr(read_pickle(BoundedReader(io.BytesIO(data), len(data)), {})) == repr(pickle.loads(data))
