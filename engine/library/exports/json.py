"""Moments as JSON, in the same form as `vtag search --json`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.text import to_json

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment
    from vtag.engine.library.search.moments import Moment


def write(items: Sequence[ExportedMoment]) -> str:
    """All moments as one JSON list."""
    return to_json([moment_as_json(item.moment) for item in items], indent=1) + "\n"


def path_as_json(path: bytes) -> dict[str, str]:
    """A path as JSON fields.

    JSON holds text. If the path is no valid UTF-8, `path` has replacement characters and `path_bytes` the exact bytes
    in base64.
    """
    text = path.decode("utf-8", "replace")
    exact_bytes = {} if text.encode() == path else {"path_bytes": base64.b64encode(path).decode()}
    return {"path": text, **exact_bytes}


def moment_as_json(moment: Moment) -> dict[str, object]:
    """A moment as a JSON object."""
    return {
        "id": moment.id,
        **path_as_json(moment.path),
        "label": moment.label,
        "start_ms": moment.start_ms,
        "end_ms": moment.end_ms,
        "score": round(moment.score, 6),
        "model": moment.model,
        "source": moment.source,
        "sure": moment.sure,
    }
