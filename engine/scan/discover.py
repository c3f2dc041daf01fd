"""Which files a scan looks at: walks folders once, follows links once, leaves out what nobody means."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.library.store.file_stat import file_stat
from vtag.engine.library.store.volumes import real_path
from vtag.engine.scan.ignore import IGNORE_FILE, Ignore, Only, above, read
from vtag.engine.text import display_path

EXTENSIONS = frozenset(
    b".3g2 .3gp .asf .avi .divx .dv .f4v .flv .gif .ivf .m2t .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mod .mov "
    b".mp4 .mpe .mpeg .mpg .mts .mxf .nut .ogm .ogv .qt .rm .rmvb .tod .ts .vob .webm .wmv .wtv".split()
)
# GoPro's low-rate twin of every clip, and the bundles in which photo programs keep their own copies
_PROXY_EXTENSION = b".lrv"
_BUNDLES = (b".photoslibrary", b".photolibrary", b".aplibrary", b".migratedphotolibrary")
_SYSTEM_FOLDERS = frozenset(
    name.lower()
    for name in (
        b"$RECYCLE.BIN",
        b"RECYCLER",
        b"System Volume Information",
        b"lost+found",
        b"@eaDir",
        b"#recycle",
        b"Trash",
        b"Trash-1000",
    )
)
_SF_DATALESS = 0x40000000  # macOS: the bytes are in the cloud
_WINDOWS_CLOUD = 0x1000 | 0x40000 | 0x400000  # offline, recall on open, recall on data access
_TS_PACKET = 188
WRITTEN = "still being written"


class Found(NamedTuple):
    """A file that may be a video, as the folder listing knows it."""

    path: bytes  # absolute
    size_bytes: int
    mtime_ns: int
    inode: int
    root: bytes


@dataclass
class Discovery:
    """What was found below the roots, and what was left out and why."""

    files: list[Found] = field(default_factory=list)
    left_out: list[tuple[bytes, str]] = field(default_factory=list)
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)


def discover(
    paths: list[bytes], only: Only | None = None, leave: Callable[[Found], bool] = lambda _: False
) -> Discovery:
    """The videos at `paths`: a named file is always taken, in folders a file is a video by extension.

    Links are followed, each folder is entered once. `.vtagignore` files and `only` leave paths out; `leave` says
    which files are not to be read yet. Raises LibraryError for a path that is not there.
    """
    found = Discovery()
    entered: set[tuple[int, int]] = set()
    seen: set[bytes] = set()
    for path in paths:
        root = real_path(path)
        try:
            info = os.stat(root)
        except OSError as error:
            raise LibraryError(
                f"{display_path(path)} cannot be scanned: {error.strerror or error}"
            ) from error
        if stat.S_ISDIR(info.st_mode):
            root = os.path.realpath(root)
            candidates = _walk(root, only or Only(), found, entered)
        elif stat.S_ISREG(info.st_mode):
            candidates = iter([Found(root, *file_stat(info), root)])
        else:
            raise LibraryError(f"{display_path(path)} is neither a file nor a folder")
        found.roots.append(root)
        for candidate in candidates:
            if candidate.path in seen:
                continue
            seen.add(candidate.path)
            if leave(candidate):
                found.left_out.append((candidate.path, WRITTEN))
            else:
                found.files.append(candidate)
    return found


def _walk(root: bytes, only: Only, found: Discovery, entered: set[tuple[int, int]]) -> Iterator[Found]:
    pending = [(root, above(root))]
    while pending:
        folder, rules = pending.pop()
        try:
            here = os.stat(folder)
            if (here.st_dev, here.st_ino) in entered:
                continue
            entered.add((here.st_dev, here.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda e: e.name)
        except OSError as error:
            found.unreadable.append((folder, error.strerror or str(error)))
            continue
        if any(entry.name == IGNORE_FILE for entry in entries):
            rules = read(folder, rules)
        folders = []
        for entry in entries:
            try:
                is_folder = entry.is_dir()
                if is_folder:
                    why = _folder_left_out(entry.name) or _left_out(
                        entry.path, root, rules, only, is_folder=True
                    )
                    if why:
                        found.left_out.append((entry.path, why))
                    else:
                        folders.append(os.path.realpath(entry.path) if entry.is_symlink() else entry.path)
                elif _is_candidate(entry, found):
                    if why := _left_out(entry.path, root, rules, only, is_folder=False):
                        found.left_out.append((entry.path, why))
                        continue
                    yield Found(entry.path, *file_stat(entry.stat()), root)
            except OSError as error:
                found.unreadable.append((entry.path, error.strerror or str(error)))
        pending.extend((below, rules) for below in reversed(folders))


def _left_out(path: bytes, root: bytes, rules: Ignore | None, only: Only, *, is_folder: bool) -> str | None:
    if rules is not None and rules.leaves_out(path, is_folder=is_folder):
        return "ignored by .vtagignore"
    if only.leaves_out(path, root, is_folder=is_folder):
        return "left out by --include or --exclude"
    return None


def _folder_left_out(name: bytes) -> str | None:
    lower = name.lower()
    if lower in _SYSTEM_FOLDERS or lower.startswith(b".trash"):
        return "system or trash folder"
    if name.startswith(b"."):
        return "hidden folder"
    return "photo library" if lower.endswith(_BUNDLES) else None


def _is_candidate(entry: os.DirEntry[bytes], found: Discovery) -> bool:
    extension = os.path.splitext(entry.name)[1].lower()
    if extension == _PROXY_EXTENSION:
        found.left_out.append((entry.path, "low-rate proxy (.LRV)"))
        return False
    if extension not in EXTENSIONS or not entry.is_file():
        return False
    if entry.name.startswith(b"."):
        found.left_out.append((entry.path, "hidden file"))
        return False
    info = entry.stat()
    if getattr(info, "st_flags", 0) & _SF_DATALESS or getattr(info, "st_file_attributes", 0) & _WINDOWS_CLOUD:
        found.left_out.append((entry.path, "in the cloud: opening it would download it"))
        return False
    return extension != b".ts" or info.st_size == 0 or _is_transport_stream(entry.path)


def _is_transport_stream(path: bytes) -> bool:
    """`.ts` is also an ending of TypeScript: a transport stream shows its sync byte every packet."""
    with open(path, "rb") as file:
        head = file.read(2 * (_TS_PACKET + 16) + 8)
    # 188 bytes a packet; 192 with a time code before each (M2TS); 204 with parity behind
    return any(
        len(head) > start + step and head[start] == 0x47 and head[start + step] == 0x47
        for start, step in ((0, _TS_PACKET), (4, _TS_PACKET + 4), (0, _TS_PACKET + 16))
    )
