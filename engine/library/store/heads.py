"""Models and their heads as the library stores them: enough to score features without the model's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import LibraryError
from vtag.engine.library.database import LibraryWriter, now
from vtag.engine.library.store.label_names import spell_labels
from vtag.engine.library.store.settings import read_setting, save_setting
from vtag.engine.swin.config import FINETUNED_PREFIX, NONE_OF_THESE
from vtag.engine.text import normalize_label, printable

_MODEL = "model"  # the setting that holds the id of the library's model


@dataclass(frozen=True)
class Head:
    """A model's linear head and thresholds: `weight` float32 [K, D], `bias` float32 [K] of K labels."""

    id: int
    name: str
    backbone_hash: str
    labels: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    threshold: float | None  # the model's own, for all labels
    label_thresholds: Mapping[str, float]
    requested_threshold: float | None  # by --threshold of the last scan or retag


def save_model(
    library: LibraryWriter,
    *,
    name: str,
    source: str,
    backbone_hash: str,
    head_hash: str,
    spec: dict[str, Any],
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
) -> int:
    """Store a model's head and spec, and return its id; the same backbone and head have the same id."""
    with library.transaction() as db:
        db.execute(
            "INSERT INTO models (name, source, backbone_hash, head_hash, spec, weight, bias, added_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (backbone_hash, head_hash) "
            "DO UPDATE SET name = excluded.name, source = excluded.source, spec = excluded.spec",
            (
                name,
                source,
                backbone_hash,
                head_hash,
                json.dumps(spec),
                weight.astype("<f4").tobytes(),
                bias.astype("<f4").tobytes(),
                now(),
            ),
        )
        db.executemany(
            "INSERT INTO labels (name) VALUES (?) ON CONFLICT DO NOTHING",
            # no moment has the label NONE_OF_THESE
            [(label,) for label in spell_labels(db, spec["labels"]) if label != NONE_OF_THESE],
        )
        row = db.execute(
            "SELECT id FROM models WHERE backbone_hash = ? AND head_hash = ?", (backbone_hash, head_hash)
        )
        return int(row.fetchone()[0])


def load_head(library: LibraryWriter, model_id: int) -> Head:
    """The head of a model."""
    name, backbone, spec_text, weight, bias, requested_threshold = library.connection.execute(
        "SELECT name, backbone_hash, spec, weight, bias, threshold FROM models WHERE id = ?", (model_id,)
    ).fetchone()
    spec = json.loads(spec_text)
    labels = spell_labels(library.connection, spec["labels"])
    thresholds: dict[str, float] = spec.get("label_thresholds", {})
    return Head(
        model_id,
        name,
        backbone,
        tuple(labels),
        np.frombuffer(weight, "<f4").reshape(len(labels), -1),
        np.frombuffer(bias, "<f4"),
        spec.get("threshold"),
        dict(zip(spell_labels(library.connection, thresholds), thresholds.values(), strict=True)),
        requested_threshold,
    )


def find_model(library: LibraryWriter, name: str) -> int | None:
    """The id of the latest model with this name or source, or None."""
    row = library.connection.execute(
        "SELECT id FROM models WHERE name = ?1 OR source = ?1 ORDER BY id DESC LIMIT 1", (name,)
    ).fetchone()
    return int(row[0]) if row else None


def find_model_by_hashes(library: LibraryWriter, backbone_hash: str, head_hash: str) -> int | None:
    """The id of the model with these hashes, or None."""
    row = library.connection.execute(
        "SELECT id FROM models WHERE backbone_hash = ? AND head_hash = ?", (backbone_hash, head_hash)
    ).fetchone()
    return int(row[0]) if row else None


def taught_siblings(library: LibraryWriter, model_id: int) -> list[int]:
    """The ids of the other heads that a person taught on a model's backbone, without earlier versions of itself."""
    rows = library.connection.execute(
        "SELECT t.id FROM models t JOIN models m ON m.backbone_hash = t.backbone_hash AND m.source <> t.source "
        "WHERE m.id = ?1 AND substr(json_extract(t.spec, '$.source'), 1, length(?2)) = ?2 ORDER BY t.id",
        (model_id, FINETUNED_PREFIX),
    )
    return [row[0] for row in rows]


def replaced_models(library: LibraryWriter, model_id: int) -> list[int]:
    """The ids of the earlier versions of a model that a person taught again."""
    rows = library.connection.execute(
        "SELECT old.id FROM models old JOIN models m ON m.source = old.source AND m.id <> old.id WHERE m.id = ?1 "
        "AND substr(json_extract(old.spec, '$.source'), 1, length(?2)) = ?2 "
        "AND substr(json_extract(m.spec, '$.source'), 1, length(?2)) = ?2",
        (model_id, FINETUNED_PREFIX),
    )
    return [row[0] for row in rows]


def library_model(library: LibraryWriter) -> int | None:
    """The id of the model that the library uses; None in a new library."""
    model_id = read_setting(library.connection, _MODEL)
    return int(model_id) if model_id is not None else None


def library_model_source(library: LibraryWriter) -> str | None:
    """The path or name from which the library's model was loaded."""
    model_id = library_model(library)
    if model_id is None:
        return None
    row = library.connection.execute("SELECT source FROM models WHERE id = ?", (model_id,)).fetchone()
    return str(row[0])


def use_model(library: LibraryWriter, model_id: int) -> None:
    """Make a model the one that the library uses."""
    save_setting(library, _MODEL, str(model_id))


def set_model_threshold(library: LibraryWriter, model_id: int, threshold: float | None) -> None:
    """Store the threshold that a scan or retag was given, so that later scans use it, too."""
    with library.transaction() as db:
        db.execute("UPDATE models SET threshold = ? WHERE id = ?", (threshold, model_id))


def models_with_label(library: LibraryWriter, label: str) -> list[int]:
    """The ids of the models that have a label and of which there are derived segments."""
    rows = library.connection.execute(
        "SELECT DISTINCT m.id, m.spec FROM models m JOIN derivations d ON d.model_id = m.id ORDER BY m.id"
    )
    label = normalize_label(label)
    return [row[0] for row in rows if label in map(normalize_label, json.loads(row[1])["labels"])]


def require_model(library: LibraryWriter, model: str | None) -> int:
    """The id of the model called `model`, or else of the library's. Raises LibraryError if there is none."""
    model_id = find_model(library, model) if model else library_model(library)
    if model_id is None:
        names = [row[0] for row in library.connection.execute("SELECT DISTINCT name FROM models")]
        problem = f"this library knows no model {printable(model)!r}" if model else "nothing was scanned yet"
        raise LibraryError(
            f"{problem}; it knows {', '.join(map(printable, names)) or 'none: vtag scan FOLDER'}"
        )
    return model_id
