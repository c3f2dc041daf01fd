"""Moments as JSON, as `vtag search --json` gives them."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vtag.engine.library.exports.items import Item
    from vtag.engine.library.search.moments import Moment


def write(items: Sequence[Item]) -> str:
    """All moments as one list."""
    return json.dumps([moment_as_json(item.moment) for item in items], ensure_ascii=False, indent=1) + "\n"


def path_as_json(path: bytes) -> dict[str, str]:
    """A path in JSON, which is text: bytes that are none are replaced, and then all bytes follow in base64."""
    text = path.decode("utf-8", "replace")
    exact = {} if text.encode() == path else {"path_bytes": base64.b64encode(path).decode()}
    return {"path": text, **exact}


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
    }
