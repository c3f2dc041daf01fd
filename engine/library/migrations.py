"""The library's tables, as one function for each migration step. Steps are only ever appended, never changed."""

from __future__ import annotations

import json
import sqlite3
import unicodedata
from datetime import UTC, datetime
from typing import Any

from sqlite_utils import Database, Migrations

from vtag.engine.library.data_views import create_views

library_migrations = Migrations("vtag")
observation_migrations = Migrations("vtag-observations")


def apply(connection: sqlite3.Connection, name: str) -> None:
    """Apply the missing steps of the schema `name`, inside the caller's transaction."""
    migrations = {m.name: m for m in (library_migrations, observation_migrations)}[name]
    # without plugins of sqlite-utils, which may be installed for other programs
    migrations.apply(Database(connection, execute_plugins=False))


def _run(db: Database, script: str) -> None:
    """Execute each statement of a script. sqlite3's executescript would commit the migration's transaction."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""


_M001_TABLES = """
        CREATE TABLE volumes (
            id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, mount BLOB NOT NULL, display TEXT NOT NULL
        );
        CREATE TABLE roots (
            id INTEGER PRIMARY KEY, volume_id INTEGER NOT NULL REFERENCES volumes(id),
            path BLOB NOT NULL, display TEXT NOT NULL, added_at TEXT NOT NULL, UNIQUE (volume_id, path)
        );
        -- a content is what a file holds, known by its bytes; a file is a path on a volume
        CREATE TABLE contents (
            id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, size_bytes INTEGER NOT NULL,
            duration_ms INTEGER, width INTEGER, height INTEGER, frame_rate REAL, codec TEXT, container TEXT,
            recorded_at TEXT,     -- from the container's metadata
            packets_key TEXT,     -- of the video packets alone: survives a rewritten container
            note TEXT,            -- what was wrong with a video that was read all the same
            error TEXT, error_at TEXT, added_at TEXT NOT NULL
        );
        CREATE INDEX contents_by_packets ON contents (packets_key) WHERE packets_key IS NOT NULL;
        CREATE TABLE files (
            id INTEGER PRIMARY KEY, volume_id INTEGER NOT NULL REFERENCES volumes(id),
            path BLOB NOT NULL,   -- below the volume's mount point
            display TEXT NOT NULL, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, inode INTEGER NOT NULL,
            content_id INTEGER NOT NULL REFERENCES contents(id),
            state TEXT NOT NULL DEFAULT 'present' CHECK (state IN ('present', 'missing')),
            seen_at TEXT NOT NULL, UNIQUE (volume_id, path)
        );
        CREATE INDEX files_by_content ON files (content_id);
        CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, threshold REAL);
        CREATE VIRTUAL TABLE labels_fts USING fts5 (
            name, content='labels', content_rowid='id', tokenize="porter unicode61 remove_diacritics 2"
        );
        CREATE TRIGGER labels_inserted AFTER INSERT ON labels BEGIN
            INSERT INTO labels_fts (rowid, name) VALUES (new.id, new.name);
        END;
        -- the heads: with these and the observations, moments are derived without the model's files
        CREATE TABLE models (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL, source TEXT NOT NULL,
            backbone_hash TEXT NOT NULL, head_hash TEXT NOT NULL, spec TEXT NOT NULL,
            weight BLOB NOT NULL, bias BLOB NOT NULL,   -- float32 [K, D] and [K]
            threshold REAL,       -- what the last scan or retag was told
            added_at TEXT NOT NULL, UNIQUE (backbone_hash, head_hash)
        );
        CREATE TABLE words (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            content_id INTEGER NOT NULL REFERENCES contents(id) ON DELETE RESTRICT,
            label TEXT NOT NULL, start_ms INTEGER, end_ms INTEGER,
            verdict TEXT NOT NULL CHECK (verdict IN ('added', 'confirmed', 'rejected')),
            said_at TEXT NOT NULL
        );
        CREATE INDEX words_by_content ON words (content_id);
        CREATE TABLE word_log (
            id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, action TEXT NOT NULL,
            before TEXT, after TEXT, undone_at TEXT
        );
        CREATE TABLE derivations (
            content_id INTEGER NOT NULL REFERENCES contents(id) ON DELETE CASCADE,
            model_id INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
            sampling TEXT NOT NULL, rules TEXT NOT NULL, windows INTEGER NOT NULL,
            PRIMARY KEY (content_id, model_id)
        ) WITHOUT ROWID;
        -- derived and disposable; ids are never used twice, so that a stale id names nothing else
        CREATE TABLE segments (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            content_id INTEGER NOT NULL REFERENCES contents(id) ON DELETE CASCADE,
            label_id INTEGER NOT NULL REFERENCES labels(id),
            model_id INTEGER REFERENCES models(id) ON DELETE CASCADE,   -- NULL: a person's own moment
            word_id INTEGER REFERENCES words(id) ON DELETE CASCADE,
            start_ms INTEGER NOT NULL, end_ms INTEGER NOT NULL, score REAL NOT NULL,
            verdict TEXT CHECK (verdict IN ('confirmed', 'rejected'))
        );
        CREATE INDEX segments_by_label ON segments (label_id, score DESC);
        CREATE INDEX segments_by_content ON segments (content_id);
        CREATE INDEX segments_judged ON segments (label_id) WHERE verdict IS NOT NULL;
        CREATE TABLE runs (
            id INTEGER PRIMARY KEY, kind TEXT NOT NULL, command TEXT NOT NULL, pid INTEGER NOT NULL,
            host TEXT NOT NULL, state TEXT NOT NULL, started_at TEXT NOT NULL, updated_at TEXT NOT NULL,
            finished_at TEXT, progress TEXT NOT NULL DEFAULT '{}'
        );
        CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
        """


@library_migrations()
def m001_create_library(db: Database) -> None:
    """Tables of contents, files, models, annotations (`words`), segments and runs."""
    _run(db, _M001_TABLES)


@library_migrations()
def m002_cover_searches(db: Database) -> None:
    """Indexes that have all columns that a search reads, so that it does not read the table."""
    _run(
        db,
        """
        DROP INDEX segments_by_label;
        CREATE INDEX segments_by_label ON segments
            (label_id, score DESC, id, content_id, start_ms, end_ms, model_id, verdict);
        DROP INDEX segments_by_content;
        CREATE INDEX segments_by_content ON segments (content_id, label_id);
        """,
    )


@library_migrations()
def m003_know_rewritten_files(db: Database) -> None:
    """The last path of a content whose file was replaced or forgotten, and how a container shows its packets."""
    _run(
        db,
        """
        ALTER TABLE contents ADD COLUMN was_at TEXT;     -- a path as people read it
        ALTER TABLE contents ADD COLUMN shown_as TEXT;   -- turn, shape and colours: see engine/video/packets.py
        CREATE TRIGGER files_replaced AFTER UPDATE OF content_id ON files WHEN old.content_id <> new.content_id
        BEGIN
            UPDATE contents SET was_at = old.display WHERE id = old.content_id;
        END;
        CREATE TRIGGER files_forgotten AFTER DELETE ON files
        BEGIN
            UPDATE contents SET was_at = old.display WHERE id = old.content_id;
        END;
        """,
    )


@library_migrations()
def m004_know_what_is_unfinished(db: Database) -> None:
    """Contents that a coarse pass covered only in part; later passes fill the gaps, and a search mentions them."""
    _run(
        db,
        """
        CREATE TABLE unfinished (
            content_id INTEGER NOT NULL REFERENCES contents (id) ON DELETE CASCADE, backbone_hash TEXT NOT NULL,
            sampling TEXT NOT NULL, seen_ms INTEGER NOT NULL, length_ms INTEGER NOT NULL,
            PRIMARY KEY (content_id, backbone_hash, sampling)
        );
        """,
    )


@library_migrations()
def m005_give_timestamps_one_format(db: Database) -> None:
    """Timestamps of annotations and of their log, as texts that sort in the order of the times.

    A No of the page was dated with the whole second, and so came before a Yes of the same second. The log has the
    exact time of its change.
    """
    changes = [
        (change_id, action, changed_at, [json.loads(text or "[]") for text in texts])
        for change_id, action, changed_at, *texts in db.execute(
            "SELECT id, action, at, before, after FROM word_log ORDER BY id"
        ).fetchall()
    ]
    exact_times: dict[tuple[Any, ...], str] = {
        _annotation_key(annotation): changed_at
        for _, action, changed_at, (_, new) in changes
        if action == "rejected"
        for annotation in new
        if "." not in annotation["said_at"]
    }
    for change_id, _, changed_at, (old, new) in changes:
        for annotation in (*old, *new):
            said_at = exact_times.get(_annotation_key(annotation)) or annotation["said_at"]
            annotation["said_at"] = _utc_timestamp(said_at)
        texts = [json.dumps(entries, ensure_ascii=False) for entries in (old, new)]
        db.execute(
            "UPDATE word_log SET at = ?, before = ?, after = ? WHERE id = ?",
            (_utc_timestamp(changed_at), *texts, change_id),
        )
    rows = db.execute(
        "SELECT w.id, c.key AS content, w.start_ms, w.end_ms, w.verdict, w.said_at FROM words w "
        "JOIN contents c ON c.id = w.content_id"
    )
    names = [column[0] for column in rows.description]
    for row in rows.fetchall():
        annotation = dict(zip(names, row, strict=True))
        said_at = exact_times.get(_annotation_key(annotation)) or annotation["said_at"]
        db.execute("UPDATE words SET said_at = ? WHERE id = ?", (_utc_timestamp(said_at), annotation["id"]))


def _utc_timestamp(text: str) -> str:
    """A timestamp as m005 writes it: ISO 8601, UTC, six decimals; any other text unchanged."""
    try:
        time = datetime.fromisoformat(text)
        time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return text
    return time.isoformat(timespec="microseconds")


def _annotation_key(annotation: dict[str, Any]) -> tuple[Any, ...]:
    """What identifies an annotation for m005; not its label, which may have been renamed since."""
    return tuple(annotation[name] for name in ("content", "start_ms", "end_ms", "verdict", "said_at"))


@library_migrations()
def m006_give_labels_one_form(db: Database) -> None:
    """Labels composed (NFC) and with single blanks; those that differed only in this become one.

    Of two annotations on the same range the later one stays. In the log, a change that took the place of an
    annotation in the other form says so, and undoing it brings that one back.
    """
    _merge_labels(db)
    rows = db.execute(
        "SELECT id, content_id, label, start_ms, end_ms FROM words ORDER BY said_at, id"
    ).fetchall()
    latest = {(content, _composed_label(label), *span): row_id for row_id, content, label, *span in rows}
    kept = set(latest.values())
    for row_id, _, label, *_ in rows:
        if row_id not in kept:
            db.execute("DELETE FROM segments WHERE word_id = ?", (row_id,))
            db.execute("DELETE FROM words WHERE id = ?", (row_id,))
        elif label != _composed_label(label):
            db.execute("UPDATE words SET label = ? WHERE id = ?", (_composed_label(label), row_id))
    # annotations in force, by their slot in the normal form and then by their slot as it was
    in_force: dict[tuple[Any, ...], dict[tuple[Any, ...], dict[str, Any]]] = {}
    changes = db.execute("SELECT id, before, after, undone_at FROM word_log ORDER BY id").fetchall()
    for change_id, *texts, undone_at in changes:
        removed, written_entries = (json.loads(text or "[]") for text in texts)
        old, new = _by_slot(removed), _by_slot(written_entries)
        if undone_at is None:
            for slot in new.keys() - old.keys():
                if others := list(in_force.get(slot, {}).values()):
                    old[slot] = others[-1]
            for entry in removed:
                in_force.get(_normal_slot(entry), {}).pop(_slot(entry), None)
            for entry in written_entries:
                normal = entry | {"label": _composed_label(entry["label"])}
                in_force.setdefault(_slot(normal), {})[_slot(entry)] = normal
        written = [json.dumps(list(entries.values()), ensure_ascii=False) for entries in (old, new)]
        if written != texts:
            db.execute("UPDATE word_log SET before = ?, after = ? WHERE id = ?", (*written, change_id))


def _composed_label(text: str) -> str:
    """A label as m006 writes it: NFC, single blanks, no invisible marks at its ends."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.strip(" \u200b\u200e\u200f\u2060\ufeff")


def _merge_labels(db: Database) -> None:
    """Give each label its normal form, for m006; labels with the same form become one row."""
    rows = db.execute("SELECT id, name, threshold FROM labels ORDER BY id").fetchall()
    if all(name == _composed_label(name) for _, name, _ in rows):
        return
    ids: dict[str, int] = {}
    for label_id, name, threshold in rows:
        kept_id = ids.setdefault(_composed_label(name), label_id)
        if kept_id != label_id:
            db.execute("UPDATE segments SET label_id = ? WHERE label_id = ?", (kept_id, label_id))
            db.execute(
                "UPDATE labels SET threshold = coalesce(threshold, ?) WHERE id = ?", (threshold, kept_id)
            )
            db.execute("DELETE FROM labels WHERE id = ?", (label_id,))
    for name, label_id in ids.items():
        db.execute("UPDATE labels SET name = ? WHERE id = ?", (name, label_id))
    db.execute("INSERT INTO labels_fts (labels_fts) VALUES ('rebuild')")


def _by_slot(entries: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Annotations of the log with normal labels, for m006; of two on the same range the later one."""
    ordered = sorted(entries, key=lambda entry: str(entry["said_at"]))
    return {_normal_slot(entry): entry | {"label": _composed_label(entry["label"])} for entry in ordered}


def _slot(entry: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(entry[name] for name in ("content", "label", "start_ms", "end_ms"))


def _normal_slot(entry: dict[str, Any]) -> tuple[Any, ...]:
    return _slot(entry | {"label": _composed_label(entry["label"])})


@library_migrations()
def m007_keep_less_sure_moments(db: Database) -> None:
    """How far each segment lies above or below its label's threshold, so that the best below it can be kept too.

    The segments of an older library are all sure; a scan or `vtag retag` adds those that are less sure.
    """
    _run(
        db,
        """
        -- the difference of the log odds of the score and of the threshold; below 0: less sure
        ALTER TABLE segments ADD COLUMN margin REAL NOT NULL DEFAULT 0;
        -- 1: kept only because it is among the best of its label and model in the library
        ALTER TABLE segments ADD COLUMN is_label_best INTEGER NOT NULL DEFAULT 0;
        DROP INDEX segments_by_label;
        CREATE INDEX segments_by_label ON segments
            (label_id, score DESC, id, content_id, start_ms, end_ms, model_id, verdict, margin);
        CREATE INDEX segments_best_of_label ON segments (model_id, label_id, score) WHERE is_label_best = 1;
        -- what a person said is sure; for the rest the library's sensitivity counts
        CREATE VIEW sure_segments AS SELECT * FROM segments WHERE verdict IS NOT NULL OR margin >= coalesce(
            (SELECT iif(value = 'low', 1.5, iif(value = 'high', -1.5, 0)) FROM settings WHERE key = 'sensitivity'), 0
        );
        """,
    )


@library_migrations()
def m008_know_the_players_clock(db: Database) -> None:
    """The clock of each content, as `VideoClock.to_json` writes it; NULL until its file is opened again."""
    _run(db, "ALTER TABLE contents ADD COLUMN clock TEXT;")


@library_migrations()
def m009_describe_the_library_to_programs(db: Database) -> None:
    """The views of data_views.py, which other programs read."""
    create_views(db.conn)


@library_migrations()
def m010_know_when_videos_change(db: Database) -> None:
    """A number that is another one after each change of the videos, for what keeps them in memory.

    It is drawn, so that no two libraries have the same one, nor a library and its restored backup.
    """
    _run(
        db,
        """
        CREATE TABLE versions (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        INSERT INTO versions (name, value) VALUES ('videos', random());
        """,
    )
    for table, event, compared in (
        ("files", "insert", ()),
        ("files", "delete", ()),
        ("files", "update", ("volume_id", "path", "display", "content_id", "state", "mtime_ns")),
        ("volumes", "update", ("mount",)),
        ("contents", "insert", ()),
        ("contents", "delete", ()),
        ("contents", "update", ("recorded_at", "duration_ms", "error")),
    ):
        changes = " OR ".join(f"old.{column} IS NOT new.{column}" for column in compared)
        condition = f"WHEN {changes}" if changes else ""
        _run(
            db,
            f"""
            CREATE TRIGGER {table}_versioned_{event} AFTER {event.upper()} ON {table} {condition}
            BEGIN
                UPDATE versions SET value = random() WHERE name = 'videos';
            END;
            """,
        )


@library_migrations()
def m011_find_moments_by_annotation(db: Database) -> None:
    """An index for the foreign key: without it, each annotation that is removed reads all segments."""
    _run(db, "CREATE INDEX segments_by_word ON segments (word_id) WHERE word_id IS NOT NULL;")


@observation_migrations()
def m001_create_observations(db: Database) -> None:
    """The table of observations: a row for each content, backbone and sampling."""
    _run(
        db,
        """
        CREATE TABLE observations (
            id INTEGER PRIMARY KEY, content_key TEXT NOT NULL, backbone_hash TEXT NOT NULL, sampling TEXT NOT NULL,
            views INTEGER NOT NULL, dim INTEGER NOT NULL, window_count INTEGER NOT NULL,
            windows BLOB NOT NULL,    -- int64 [W, 2]: start_ms, end_ms
            features BLOB NOT NULL,   -- float16 [W, V, D]
            backend TEXT NOT NULL, device TEXT NOT NULL, precision TEXT NOT NULL, made_at TEXT NOT NULL,
            UNIQUE (backbone_hash, sampling, content_key)
        );
        """,
    )
