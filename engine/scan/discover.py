"""Finds the video files below folders; excludes system folders, proxies, cloud placeholders and ignored paths."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.library.store.file_stat import file_stat
from vtag.engine.library.store.volumes import real_path
from vtag.engine.scan.ignore import IGNORE_FILE, IgnoreRules, PathFilter, read_rules, rules_above
from vtag.engine.text import display_path

EXTENSIONS = frozenset(
    b".3g2 .3gp .asf .avi .divx .dv .f4v .flv .gif .ivf .m2t .m2ts .m2v .m4v .mjpeg .mjpg .mkv .mod .mov "
    b".mp4 .mpe .mpeg .mpg .mts .mxf .nut .ogm .ogv .qt .rm .rmvb .tod .ts .vob .webm .wmv .wtv".split()
)
_PROXY_EXTENSION = b".lrv"  # GoPro's low-rate copy of every clip
# folders in which photo programs keep their own copies
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
_SF_DATALESS = 0x40000000  # macOS: the file's data is in the cloud
_WINDOWS_CLOUD = 0x1000 | 0x40000 | 0x400000  # offline, recall on open, recall on data access
_TS_PACKET = 188  # bytes of a transport stream's packet
_TS_SYNC = 0x47  # its first byte
STILL_WRITTEN = "still being written"


class DiscoveredFile(NamedTuple):
    """A file that may be a video, as the folder listing describes it."""

    path: bytes  # absolute
    size_bytes: int
    mtime_ns: int
    inode: int
    root: bytes  # the scanned path that it was found below


@dataclass
class Discovery:
    """The files below the scanned paths, and which paths were excluded or unreadable and why."""

    files: list[DiscoveredFile] = field(default_factory=list)
    excluded: list[tuple[bytes, str]] = field(default_factory=list)
    unreadable: list[tuple[bytes, str]] = field(default_factory=list)
    roots: list[bytes] = field(default_factory=list)


def discover(
    paths: list[bytes],
    path_filter: PathFilter | None = None,
    postpone: Callable[[DiscoveredFile], bool] = lambda _: False,
) -> Discovery:
    """The videos at and below `paths`. A path to a file is always included; in folders the extension decides.

    Links are followed, and each folder is entered once. `.vtagignore` files and `path_filter` exclude paths;
    `postpone` excludes files that are not to be read yet. Raises LibraryError for a path that does not exist.
    """
    discovery = Discovery()
    entered: set[tuple[int, int]] = set()
    candidates: set[bytes] = set()
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
            files = _walk(root, path_filter or PathFilter(), discovery, entered)
        elif stat.S_ISREG(info.st_mode):
            files = iter([DiscoveredFile(root, *file_stat(info), root)])
        else:
            raise LibraryError(f"{display_path(path)} is neither a file nor a folder")
        discovery.roots.append(root)
        for file in files:
            if file.path in candidates:
                continue
            candidates.add(file.path)
            if postpone(file):
                discovery.excluded.append((file.path, STILL_WRITTEN))
            else:
                discovery.files.append(file)
    return discovery


def _walk(
    root: bytes, path_filter: PathFilter, discovery: Discovery, entered: set[tuple[int, int]]
) -> Iterator[DiscoveredFile]:
    pending = [(root, rules_above(root))]
    while pending:
        folder, rules = pending.pop()
        try:
            info = os.stat(folder)
            if (info.st_dev, info.st_ino) in entered:
                continue
            entered.add((info.st_dev, info.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda e: e.name)
        except OSError as error:
            discovery.unreadable.append((folder, error.strerror or str(error)))
            continue
        if any(entry.name == IGNORE_FILE for entry in entries):
            rules = read_rules(folder, rules)
        subfolders = []
        for entry in entries:
            try:
                is_folder = entry.is_dir()
                if not is_folder and not _is_candidate(entry, discovery):
                    continue
                if reason := (_folder_exclusion(entry.name) if is_folder else None) or _user_exclusion(
                    entry.path, root, rules, path_filter, is_folder=is_folder
                ):
                    discovery.excluded.append((entry.path, reason))
                elif is_folder:
                    subfolders.append(os.path.realpath(entry.path) if entry.is_symlink() else entry.path)
                else:
                    yield DiscoveredFile(entry.path, *file_stat(entry.stat()), root)
            except OSError as error:
                discovery.unreadable.append((entry.path, error.strerror or str(error)))
        pending.extend((subfolder, rules) for subfolder in reversed(subfolders))


def _user_exclusion(
    path: bytes, root: bytes, rules: IgnoreRules | None, path_filter: PathFilter, *, is_folder: bool
) -> str | None:
    """Why the user's rules exclude a path; None if they do not."""
    if rules is not None and rules.excludes(path, is_folder=is_folder):
        return "ignored by .vtagignore"
    if path_filter.excludes(path, root, is_folder=is_folder):
        return "left out by --include or --exclude"
    return None


def _folder_exclusion(name: bytes) -> str | None:
    """Why a folder of this name is not entered; None if it is."""
    lower = name.lower()
    if lower in _SYSTEM_FOLDERS or lower.startswith(b".trash"):
        return "system or trash folder"
    if name.startswith(b"."):
        return "hidden folder"
    return "photo library" if lower.endswith(_BUNDLES) else None


def _is_candidate(entry: os.DirEntry[bytes], discovery: Discovery) -> bool:
    """Whether a file may be a video to scan. Adds the reason to `discovery.excluded` if it is another video."""
    extension = os.path.splitext(entry.name)[1].lower()
    if extension == _PROXY_EXTENSION:
        discovery.excluded.append((entry.path, "low-rate proxy (.LRV)"))
        return False
    if extension not in EXTENSIONS or not entry.is_file():
        return False
    if entry.name.startswith(b"."):
        discovery.excluded.append((entry.path, "hidden file"))
        return False
    info = entry.stat()
    if getattr(info, "st_flags", 0) & _SF_DATALESS or getattr(info, "st_file_attributes", 0) & _WINDOWS_CLOUD:
        discovery.excluded.append((entry.path, "in the cloud: opening it would download it"))
        return False
    return extension != b".ts" or info.st_size == 0 or _is_transport_stream(entry.path)


def _is_transport_stream(path: bytes) -> bool:
    """Whether a `.ts` file is a video and not TypeScript: a transport stream repeats its sync byte every packet."""
    with open(path, "rb") as file:
        head = file.read(2 * (_TS_PACKET + 16) + 8)
    # 188 bytes a packet; 192 with a time code before each (M2TS); 204 with parity bytes after each
    return any(
        len(head) > start + step and head[start] == _TS_SYNC and head[start + step] == _TS_SYNC
        for start, step in ((0, _TS_PACKET), (4, _TS_PACKET + 4), (0, _TS_PACKET + 16))
    )
