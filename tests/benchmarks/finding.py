"""How well a model finds labelled clips: `python tests/benchmarks/finding.py FOLDER [--model NAME|PATH]`.

FOLDER holds one folder of clips a label, or clips whose names begin with their label (`wave__011.avi`). They are
scanned into a temporary library. For each label the clips are ranked by the best score in the features that the
library keeps, and a clip is sure of a label if a search of the library finds a sure moment in it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.errors import VtagError
from vtag.engine.library.analysis.segments import probabilities
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.contents import content_at_path
from vtag.engine.library.search.moments import content_moments
from vtag.engine.library.store import heads, observations
from vtag.engine.library.store.files import content_key
from vtag.engine.models.registry import STARTER, load_model
from vtag.engine.scan.discover import discover
from vtag.engine.scan.events import ScanProgress
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.scan import scan
from vtag.engine.swin.config import NONE_OF_THESE
from vtag.trainer.data.dataset import (
    DatasetError,
    LabelledClip,
    label_from_name,
    read_dataset,
    source_from_name,
)
from vtag.trainer.evaluation.ranking import FIRST_ROWS, RankingMetrics, measure_ranking
from vtag.trainer.recipes.starter.data import held_sources, list_items

_SEVERAL_ACTIONS = "mixed"  # clips whose names begin so show several labels and are left out


def read_clips(folder: Path) -> list[LabelledClip]:
    """The clips of a folder with one folder a label, else those whose names begin with their label."""
    if any(entry.is_dir() and not entry.name.startswith(".") for entry in folder.iterdir()):
        return list(read_dataset(folder).clips)
    paths = [Path(os.fsdecode(file.path)) for file in discover([os.fsencode(folder)]).files]
    names = [(path, source_from_name(path)) for path in sorted(paths)]
    return [
        LabelledClip(path, label_from_name(name), path.stem)
        for path, name in names
        if not name.startswith(_SEVERAL_ACTIONS)
    ]


def held_back_clips(folder: Path, clips: Sequence[LabelledClip]) -> list[LabelledClip]:
    """The clips of the sources that the starter's recipe teaches nothing from."""
    held = held_sources(list_items(folder, "*/*"), seed=0)
    return [clip for clip in clips if clip.source in held]


def model_labels(model: Checkpoint) -> dict[str, str]:
    """What clips call a label to the model's label: its own name, and the names that it was merged from."""
    names = {label_from_name(label): label for label in model.spec.labels if label != NONE_OF_THESE}
    for label, parts in model.spec.merged_from.items():
        names.update({label_from_name(part): label for part in parts})
    return names


def find_clips(
    clips: Sequence[LabelledClip], model: Checkpoint, source: str, device: str
) -> tuple[RankingMetrics, float]:
    """What a library finds in the clips, and the hours of footage in those that show none of the model's labels."""
    names = model_labels(model)
    with tempfile.TemporaryDirectory() as folder, LibraryWriter.open(Path(folder) / "library.db") as library:
        head = heads.load_head(library, register_model(library, model, source))
        _scan(library, clips, model, device)
        rows = [_clip_row(library, clip, head, names) for clip in clips]
    readable = [row for row in rows if row is not None]
    if not readable:
        raise DatasetError("none of the clips could be read")
    truth, scores, is_sure, hours = map(np.array, zip(*readable, strict=True))
    is_label = np.array([label != NONE_OF_THESE for label in head.labels])
    labels = [label for label in head.labels if label != NONE_OF_THESE]
    metrics = measure_ranking(labels, truth, scores[:, is_label], is_sure[:, is_label])
    return metrics, float(hours[truth < 0].sum())


def _scan(library: LibraryWriter, clips: Sequence[LabelledClip], model: Checkpoint, device: str) -> None:
    paths = [os.fsencode(clip.path) for clip in clips]
    for event in scan(library, paths, model, ScanOptions(device=device)):
        if isinstance(event, ScanProgress) and sys.stderr.isatty():
            print(f"\r{event.videos_done} of {len(clips)} clips", end="", file=sys.stderr, flush=True)


def _clip_row(
    library: LibraryWriter, clip: LabelledClip, head: heads.Head, names: dict[str, str]
) -> tuple[int, NDArray[np.float64], NDArray[np.bool_], float] | None:
    """A clip's label (-1: none that the model knows), best scores [K], sure labels [K], and hours."""
    key = content_key(os.fsencode(clip.path))
    content = content_at_path(library.connection, os.fsencode(clip.path))
    observation = observations.densest(library.observations, key, head.backbone_hash)
    if content is None or observation is None:
        return None
    own = names.get(clip.label)
    sure = {moment.label for moment in content_moments(library.connection, content.id)}
    return (
        -1 if own is None else head.labels.index(own),
        probabilities(observation.features, head.weight, head.bias).max(0),
        np.array([label in sure for label in head.labels]),
        (content.duration_ms or 0) / 3_600_000,
    )


def print_metrics(metrics: RankingMetrics, hours: float) -> None:
    """A row for each label, then all together."""
    print(f"{'label':<26} clips     AP  first  first {FIRST_ROWS}  sure  right")
    for row in metrics.labels:
        first = "right" if row.is_first_right else "wrong"
        print(
            f"{row.label[:26]:<26} {row.clips:>5} {100 * row.average_precision:>6.1f}  {first}  "
            f"{100 * row.first_rows:>6.0f}  {row.sure:>5} {row.sure_right:>6}"
        )
    known, sure = metrics.clips_of_known_labels, metrics.sure
    print(
        f"\nmean average precision   {100 * metrics.mean_average_precision:.1f} % over {len(metrics.labels)} labels "
        f"and {metrics.clips} clips\n"
        f"first row right          {100 * metrics.first:.1f} % of the labels\n"
        f"first {FIRST_ROWS} rows right       {100 * metrics.first_rows:.1f} %\n"
        f"sure and right           {_percent(metrics.sure_precision)} ({metrics.sure_right} of {sure})\n"
        f"clips sure of their own  {_percent(metrics.sure_recall)} ({metrics.sure_right} of {known})\n"
        f"other footage            {metrics.clips - known} clips, {60 * hours:.1f} minutes"
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def main() -> None:
    """Scan, rank, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=STARTER, help="name or path; default: the starter")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--held-back", action="store_true", help="only sources that the starter was not taught from"
    )
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    try:
        clips = read_clips(given.folder)
        if given.held_back:
            clips = held_back_clips(given.folder, clips)
        metrics, hours = find_clips(clips, load_model(given.model), given.model, given.device)
    except (VtagError, OSError) as error:
        sys.exit(f"error: {error}")
    if given.json:
        totals = {
            "mean_average_precision": metrics.mean_average_precision,
            "first": metrics.first,
            "first_rows": metrics.first_rows,
            "sure_precision": metrics.sure_precision,
            "sure_recall": metrics.sure_recall,
            "other_hours": hours,
        }
        print(json.dumps(asdict(metrics) | totals, indent=1))
    else:
        print_metrics(metrics, hours)


if __name__ == "__main__":
    main()
