"""One process of a training by a recipe: `torchrun --nproc-per-node 8 -m vtag.trainer CONFIG.toml`."""

from __future__ import annotations

import argparse
import logging
import sys
from contextlib import closing

from vtag.engine.errors import VtagError
from vtag.engine.system.signals import GracefulStop
from vtag.trainer.loop.distributed import init_distributed
from vtag.trainer.loop.loop import StepDone
from vtag.trainer.network.config import find_config
from vtag.trainer.network.log_format import format_event
from vtag.trainer.network.train_recipe import train

_LOG = logging.getLogger("vtag.trainer")
_INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Train and return the exit code: 0 done, 1 error, 130 interrupted. The first process logs on stderr."""
    parser = argparse.ArgumentParser(prog="python -m vtag.trainer", description=__doc__)
    parser.add_argument("config", metavar="CONFIG.toml", help="a file, or the name of a recipe that ships")
    parser.add_argument("--resume", action="store_true", help="go on with an unfinished training")
    parser.add_argument("--amp", action=argparse.BooleanOptionalAction, help="bfloat16 if the device has it")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="changes")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    changes = options.changes
    if options.amp is not None:
        changes = [*changes, f"run.amp={str(options.amp).lower()}"]
    with GracefulStop() as stop:
        return _train(options.config, changes, resume=options.resume, stop=stop)


def _train(config_name: str, changes: list[str], *, resume: bool, stop: GracefulStop) -> int:
    try:
        _, config = find_config(config_name, changes)
        with (
            init_distributed(config.run.device) as distributed,
            closing(train(config, resume=resume, distributed=distributed)) as events,
        ):
            for event in events:
                if distributed.rank == 0 and (line := format_event(event)):
                    _LOG.info("%s", line)
                if isinstance(event, StepDone):
                    stop.begin()
                if stop.requested:
                    raise KeyboardInterrupt
    except VtagError as error:
        _LOG.error("%s", error)
        return 1
    except KeyboardInterrupt:
        _LOG.error("interrupted: what is finished is kept, and --resume goes on from there")
        return _INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
