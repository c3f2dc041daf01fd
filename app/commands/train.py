"""`vtag train`: a network by a recipe; draws the loop's events."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from vtag.app.console import complain, put, say
from vtag.engine.text import display_path, printable


def train(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG.toml", help="Recipe: a file, or the name of a recipe that ships with vtag."
        ),
    ],
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished training.")] = False,
    amp: Annotated[
        bool | None,
        typer.Option(
            "--amp/--no-amp", help="Use bfloat16 if the device supports it; default: as the recipe says."
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Recipe key to change."),
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the recipe and stop.")] = False,
) -> None:
    """Train a network by a recipe.

    On many GPUs: `torchrun … -m vtag.trainer CONFIG.toml`.
    """
    from vtag.trainer.network.config import find_config

    overrides = [*(changes or []), *([] if amp is None else [f"run.amp={str(amp).lower()}"])]
    text, recipe = find_config(config, overrides)
    if show:
        put(text.rstrip())
        return
    from vtag.app.training_view import TrainingView, stop_after_step
    from vtag.trainer.loop.loop import StepDone
    from vtag.trainer.network.log_format import format_event
    from vtag.trainer.network.train_recipe import RecipeDone, RecipeStarted
    from vtag.trainer.network.train_recipe import train as run

    with stop_after_step() as stop, TrainingView() as view, closing(run(recipe, resume=resume)) as events:
        for event in events:
            if isinstance(event, StepDone):
                stop.begin()
                view.step(event)
            elif line := format_event(event):
                view.line(line)
            if isinstance(event, RecipeStarted):
                for remark in event.remarks:
                    complain(printable(remark))
            if isinstance(event, RecipeDone):
                put(display_path(event.folder))
            elif stop.requested:
                events.close()
                say("the state is kept: the same command with --resume goes on from there")
                raise typer.Exit(130)
