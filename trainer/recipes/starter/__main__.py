"""The starter's recipe as one command: `python -m vtag.trainer.recipes.starter --shared DIR --work DIR`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import torch

from vtag.trainer.recipes.starter import pipeline, stage_one
from vtag.trainer.recipes.starter.pack import pack, unpack
from vtag.trainer.recipes.starter.states import Plan


def finish(stage: str) -> Callable[[Plan], None]:
    """A stage of the module `finish`, which is imported late: it scans, and a machine with a card alone cannot."""

    def run(plan: Plan) -> None:
        getattr(import_module("vtag.trainer.recipes.starter.finish"), stage)(plan)

    return run


STAGES = {
    "views": pipeline.views,
    "teach": pipeline.teach,
    "name": stage_one.name,
    "imitate": stage_one.imitate,
    "look": stage_one.look,
    "head": pipeline.head,
    "release": finish("release"),
}
MORE_STAGES = {  # only when they are named
    "tune": pipeline.tune,
    "sure": finish("sure"),
    "pack": pack,
    "unpack": unpack,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the stages asked for, or all. A stage that was broken off goes on; footage is looked at once."""
    parser = argparse.ArgumentParser(prog="python -m vtag.trainer.recipes.starter", description=__doc__)
    parser.add_argument(
        "stages", nargs="*", help=f"default: {', '.join(STAGES)}; or {' and '.join(MORE_STAGES)}"
    )
    parser.add_argument(
        "--shared",
        type=Path,
        required=True,
        help="folder with train, stills, people, scenes, ...",
    )
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for decoded footage and states (15 GB)"
    )
    parser.add_argument("--out", type=Path, default=Path("assets/starter"), help="the model folder")
    parser.add_argument("--pose", type=Path, help="the unpacked npm package of the teacher of motion")
    parser.add_argument("--begin", type=Path, help="an earlier starter's folder, to teach its backbone on")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: as torch finds right")
    parser.add_argument("--name-minutes", type=float, default=90.0)
    parser.add_argument("--imitate-minutes", type=float, default=60.0)
    parser.add_argument("--look-minutes", type=float, default=70.0)
    parser.add_argument("--tune-minutes", type=float, default=96.0)
    parser.add_argument("--tuned", action="store_true", help="release what stage `tune` made, not `head`")
    parser.add_argument("--scale", type=int, default=1, help="batches this many times as large (8 on a GPU)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    if unknown := set(given.stages) - set(STAGES | MORE_STAGES):
        parser.error(f"no stage is called {', '.join(sorted(unknown))}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.threads:
        torch.set_num_threads(given.threads)
    device = ("cuda" if torch.cuda.is_available() else "cpu") if given.device == "auto" else given.device
    given.work.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        shared=given.shared,
        work=given.work,
        out=given.out,
        pose=given.pose,
        begin=given.begin,
        device=torch.device(device),
        seed=given.seed,
        name_s=60 * given.name_minutes,
        imitate_s=60 * given.imitate_minutes,
        look_s=60 * given.look_minutes,
        tune_s=60 * given.tune_minutes,
        tuned=given.tuned,
    )
    plan = replace(plan, imitate_batch=plan.imitate_batch * given.scale, tune_scale=given.scale)
    for stage in given.stages or STAGES:
        (STAGES | MORE_STAGES)[stage](plan)


if __name__ == "__main__":
    main()
