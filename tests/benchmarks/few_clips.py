"""What tags of few clips are sure of: `python tests/benchmarks/few_clips.py SHARED [--model NAME|PATH]`.

SHARED/train holds one folder of clips a label, SHARED/clips videos whose names begin with what they show. Three
labels at a time are taught with eight clips each on an empty library: the first eight, eight at random, or eight of
different sources. Then the videos are asked, and the clips of the three labels that nobody taught anything.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import finding
import numpy as np

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.checkpoints.model_folder import read_head_folder
from vtag.engine.errors import VtagError
from vtag.engine.library.analysis.derive import retag
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.contents import content_at_path
from vtag.engine.library.search.moments import content_moments
from vtag.engine.models.registry import STARTER, load_model
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.scan import scan
from vtag.trainer.data.dataset import Dataset, LabelledClip, read_dataset
from vtag.trainer.heads.finetune import FinetuneBase, FinetuneSettings, finetune

LABELS, CLIPS = 3, 8  # taught at a time, and of each
KINDS = ("first", "random", "sources")
ALSO = {  # videos that show a label under another name
    "shooting basketball": {"playing basketball"},
    "skateboarding": {"dog on skateboard"},
}


@dataclass(frozen=True)
class Choice:
    """The clips that are taught, and how they were chosen."""

    kind: str
    clips: tuple[LabelledClip, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels taught, in their order."""
        return tuple(sorted({clip.label for clip in self.clips}))


def draw_choices(clips: Iterable[LabelledClip], count: int) -> Iterator[Choice]:
    """Random choices of three labels, of each kind in turn."""
    of_label: dict[str, list[LabelledClip]] = {}
    for clip in clips:
        of_label.setdefault(clip.label, []).append(clip)
    names = sorted(of_label)
    rng = np.random.default_rng(0)
    for n in range(count):
        kind = KINDS[n % len(KINDS)]
        chosen: list[LabelledClip] = []
        for k in rng.choice(len(names), LABELS, replace=False):
            own = of_label[names[k]]
            shuffled = [own[i] for i in rng.permutation(len(own))]
            by_source = list({clip.source: clip for clip in shuffled}.values())
            chosen += {"first": own, "random": shuffled, "sources": by_source}[kind][:CLIPS]
        yield Choice(kind, tuple(chosen))


def sure_labels(library: LibraryWriter, path: Path, model: str) -> set[str]:
    """The labels that a model is sure to see in a video."""
    content = content_at_path(library.connection, os.fsencode(path))
    moments = content_moments(library.connection, content.id) if content is not None else []
    return {moment.label for moment in moments if moment.model == model}


def judge(
    library: LibraryWriter,
    base: Checkpoint,
    choice: Choice,
    held_clips: list[LabelledClip],
    videos: list[LabelledClip],
    folder: Path,
) -> tuple[float, int, int]:
    """The share of `videos` sure of a wrong tag; how many `held_clips` are sure of theirs, and of how many."""
    for path in folder.glob("empty.db*"):
        path.unlink()
    data = Dataset(choice.clips, choice.labels)
    with LibraryWriter.open(folder / "empty.db") as empty:
        settings = FinetuneSettings(device="cpu")
        for _ in finetune(data, FinetuneBase(base, STARTER), folder / "taught", settings, library=empty):
            pass
    model = register_model(library, read_head_folder(folder / "taught", base), str(folder / "taught"))
    for _ in retag(library, model):
        pass
    shutil.rmtree(folder / "taught")
    wrong = 0
    for video in videos:
        labels = sure_labels(library, video.path, "taught") & set(choice.labels)
        wrong += any(video.label != label and video.label not in ALSO.get(label, ()) for label in labels)
    taught = {clip.path for clip in choice.clips}
    others = [clip for clip in held_clips if clip.label in choice.labels and clip.path not in taught]
    right = sum(clip.label in sure_labels(library, clip.path, "taught") for clip in others)
    return wrong / len(videos), right, len(others)


def main() -> int:
    """Exit status 1 if there is nothing to measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shared", type=Path)
    parser.add_argument("--model", default=STARTER)
    parser.add_argument("--choices", type=int, default=60)
    options = parser.parse_args()
    try:
        base = load_model(options.model)
        clips = list(read_dataset(options.shared / "train").clips)
        held_clips = finding.held_back_clips(options.shared / "train", clips)
        videos = finding.read_clips(options.shared / "clips")
    except VtagError as error:
        print(error, file=sys.stderr)
        return 1
    results = []
    with tempfile.TemporaryDirectory() as name, LibraryWriter.open(Path(name) / "library.db") as library:
        register_model(library, base, options.model)
        paths = [os.fsencode(clip.path) for clip in [*videos, *held_clips]]
        for _ in scan(library, paths, base, ScanOptions(device="cpu")):
            pass
        for choice in draw_choices(clips, options.choices):
            results.append(judge(library, base, choice, held_clips, videos, Path(name)))
            print(f"{choice.kind:<8} {', '.join(choice.labels)}: {results[-1]}", flush=True)
    wrong, right, others = map(np.array, zip(*results, strict=True))
    print(f"sure of a wrong tag: {wrong.mean():.1%} of {len(videos)} videos, {wrong.max():.1%} at worst")
    print(
        f"sure of theirs: {right.sum()} of {others.sum()} clips of sources that the starter did not learn from"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
