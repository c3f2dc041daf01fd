"""Large files whose clock begins anew at a place that no sample shows: a scan finds it, and later commands know."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from helpers import clock_footage as footage

from vtag.engine.video.read import probe as probing
from vtag.engine.video.read import restart_memo, restarts
from vtag.engine.video.read.probe import probe, probe_stream


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg to join files with")
def test_what_a_scan_read_of_a_large_file_is_remembered(
    tmp_path: Path, vtag_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = os.fsencode(footage.joined(tmp_path, second_offset_s=4))  # a second back, in the middle
    monkeypatch.setattr(probing, "_FULL_READ_RESTARTS_BYTES", 0)
    monkeypatch.setattr(restarts, "_SAMPLES", 4)
    assert probe_stream(path).restarts is None
    positions: list[int] = []
    info = probe(path, positions.append)
    assert info.duration_ms == pytest.approx(2000 * footage.SECONDS, abs=80)
    assert len(info.clock.stretches) == 2 and positions
    found = probe_stream(path).restarts
    restart_memo._recent.clear()  # as in another process
    assert found is not None and probe_stream(path).restarts == found
    assert len(list((vtag_home / "cache" / "clocks").iterdir())) == 1
    os.utime(path, ns=(0, 0))
    assert probe_stream(path).restarts is None
