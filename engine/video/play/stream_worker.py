"""The process that writes one stream to its stdout. If the video cannot be read, it says why on stderr."""

from __future__ import annotations

import os
import sys

from vtag.engine.errors import VideoError
from vtag.engine.video.play.plan import Way
from vtag.engine.video.play.stream import write_stream
from vtag.engine.video.write.child_process import exit_with_stdin, limit_memory

UNREADABLE = 3  # the exit status after an error that stderr describes


def main(path: str, way: str, start_ms: str, short_side: str) -> None:
    """Write the stream, and end the process."""
    exit_with_stdin()
    limit_memory()
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0) as out:
        try:
            write_stream(os.fsencode(path), Way(way), int(start_ms), out, short_side=int(short_side))
        except BrokenPipeError:
            os._exit(0)
        except (VideoError, MemoryError) as error:
            sys.stderr.write(f"{error or 'too little memory'}\n")
            sys.stderr.flush()
            os._exit(UNREADABLE)
    os._exit(0)  # a thread still reads stdin
