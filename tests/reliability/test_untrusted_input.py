"""Whatever bytes a parser gets, it answers or says in one line what is wrong. No other error; nothing is obeyed."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.library_factory import fill_library
from helpers.mutants import mutate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.errors import VtagError
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.annotations.annotation_file import export_lines, import_lines
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.exports import xmp
from vtag.engine.library.search.labels import _parse_tables
from vtag.engine.library.search.query import parse
from vtag.engine.models.catalog import _entries
from vtag.engine.scan.ignore import read_rules
from vtag.trainer.data.dataset import read_dataset
from vtag.trainer.network.config import parse_config, recipes

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(0)]
PART = "Untrusted input"
CI, LONG = 300, 5000
DATA = Path(__file__).parents[1] / "data"


def refuses_or_answers(work: Callable[[], object]) -> str:
    """Run a parser; any error but ours, or one that is not a printable line, is a defect."""
    try:
        work()
    except VtagError as error:
        message = str(error)
        assert message and message.isprintable(), message
        return "refused"
    return "read"


def fuzz(count: int, seeds: list[bytes], work: Callable[[bytes], object]) -> str:
    """Give a parser so many mutants of `seeds`, and of nothing."""
    fates: Counter[str] = Counter()
    for number in range(count):
        rng = random.Random(number)
        seed = rng.choice(seeds)
        data = rng.randbytes(rng.randrange(200)) if number % 10 == 0 else mutate_text(seed, number)
        fates[refuses_or_answers(lambda data=data: work(data))] += 1
    return f"{fates['read']:,} read, {fates['refused']:,} refused in one line each"


_SPLICES = (
    b"\x00", b"\x1b[2J", b"\xff\xfe", b"\xed\xa0\x80", b"\r\n", b"'", b'"', b"{", b"]", b"-1", b"1e999", b"nan",
    b"..",     b"\xe2\x80\xae", b"9" * 30, b"null", b"[[", b"=", b"#", b"\\u0000", b"\\", b"*" * 50, b"(" * 300,
)  # fmt: skip


def mutate_text(seed: bytes, number: int) -> bytes:
    """A text with pieces that parsers stumble over, or mutated as a file is."""
    rng = random.Random(number)
    if number % 3 == 0 and len(seed) >= 64:
        return mutate(seed, number)
    data = seed
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(_SPLICES) + data[at + rng.randrange(4) :]
    return data


def test_texts(tmp_path: Path, times: Callable, record: Callable) -> None:
    count = times(CI, LONG)
    recipe = next(iter(recipes().values())).encode()
    entry = b'[swin3d-t]\ntitle = "a model"\nlicence = "CC0-1.0"\nsize_mb = 5.5\nurl = "https://example.org/a.pth"\n'
    labels = b'[groups]\nsports = ["archery", "yoga"]\n[names]\nbow = ["archery"]\n'
    sidecar = xmp.merge(None, ["archery", "Grandma's cat"])
    assert sidecar is not None
    bomb = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c SYSTEM "file:///etc/passwd">]><a>&b;&c;</a>'
    rules = tmp_path / ".vtagignore"
    clips = tmp_path / "list.txt"
    library = LibraryWriter.open(tmp_path / "library.db")
    fill_library(library, tmp_path / "v", 2)
    annotation_log.add(library, 1, "Grandma's cat", 0, 2000)
    words = "".join(f"{line}\n" for line in export_lines(library.connection)).encode()

    def read_ignore_rules(data: bytes) -> None:
        rules.write_bytes(data)
        read_rules(os.fsencode(tmp_path), None)

    def read_list(data: bytes) -> None:
        clips.write_bytes(data)
        for clip in read_dataset(clips).clips:
            assert clip.path.resolve().is_relative_to(tmp_path)

    def merge_sidecar(data: bytes) -> None:
        merged = xmp.merge(data, ["archery"])
        assert b"root:" not in (merged or b"")

    parsers: dict[str, tuple[list[bytes], Callable[[bytes], object]]] = {
        "training recipes": (
            [recipe],
            lambda data: parse_config(data.decode("utf-8", "replace"), folder=tmp_path, name="recipe.toml"),
        ),
        "the catalogue of models": (
            [entry],
            lambda data: _entries(data.decode("utf-8", "replace"), "models.toml"),
        ),
        "groups and names of labels": (
            [labels],
            lambda data: _parse_tables(data.decode("utf-8", "replace"), "labels.toml"),
        ),
        "sidecars": ([sidecar, bomb], merge_sidecar),
        "`.vtagignore`": ([b"*.mp4\n!keep/**\n# a\n"], read_ignore_rules),
        "lists of clips": ([b"a.mp4 0\nb/c.mp4 archery\n../x.mp4 1\n/etc/passwd 2\n"], read_list),
        "files of annotations": (
            [words],
            lambda data: import_lines(library, iter(data.splitlines(keepends=True)), "words.jsonl"),
        ),
        "queries": (
            [b'archery -yoga label:"riding a bike" after:2020-01-01 score:>0.5 (a OR b) THEN 5s c'],
            lambda data: parse(data.decode("utf-8", "replace")),
        ),
    }
    for name, (seeds, work) in parsers.items():
        record(PART, name, count, fuzz(count, seeds, work))
    library.close()


def test_a_sidecar_loads_no_entity() -> None:
    for text in (
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        b'<!DOCTYPE a [<!ENTITY a0 "x"><!ENTITY a1 "&a0;&a0;">]><a>&a1;</a>',
    ):
        with pytest.raises(VtagError):
            xmp.merge(text, ["yoga"])


def test_a_list_of_clips_stays_below_its_root(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"x")
    for name in ("../secret.mp4", str(tmp_path / "secret.mp4"), "a/../../secret.mp4"):
        (tmp_path / "data" / "list.txt").write_text(f"{name} 0\n")
        with pytest.raises(VtagError, match=r"line 1: .* is not below"):
            read_dataset(tmp_path / "data" / "list.txt")


def test_checkpoints(model: Path, tmp_path: Path, is_long: bool, record: Callable) -> None:
    """A fuzz target for all readers of model files: it runs for a minute."""
    seeds = {path.name: path.read_bytes() for path in (DATA / "golden").glob("*.pth")}
    seeds |= {path.name: path.read_bytes() for path in (DATA / "golden").glob("*.pdparams")}
    seeds |= {path.name: path.read_bytes() for path in sorted((DATA / "hostile").iterdir()) if path.is_file()}
    seeds |= {
        path.name: path.read_bytes() for path in model.iterdir() if path.suffix in (".safetensors", ".onnx")
    }
    seeds |= {"graph.onnx": onnx_bytes()}
    fates: Counter[str] = Counter()
    names = sorted(seeds)
    deadline = time.monotonic() + (600 if is_long else 60)
    number = 0
    while time.monotonic() < deadline:
        name = names[number % len(names)]
        file = tmp_path / f"mutant{Path(name).suffix}"
        file.write_bytes(mutate(seeds[name], number))
        fates[refuses_or_answers(lambda file=file: load_checkpoint(file))] += 1
        number += 1
    assert not (tmp_path / "mutant").exists()
    minutes = "ten minutes" if is_long else "a minute"
    happened = f"{fates['read']:,} read, {fates['refused']:,} refused in one line each, for {minutes}"
    record(PART, "model files: PyTorch, Paddle, safetensors, ONNX", number, happened)


def onnx_bytes() -> bytes:
    """A small graph."""
    from onnx import TensorProto, helper

    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 2], [0.5] * 8)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [weight],
    )
    return bytes(helper.make_model(graph).SerializeToString())


@given(st.text(max_size=80))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_query_is_understood_or_refused(text: str) -> None:
    refuses_or_answers(lambda: parse(text))
