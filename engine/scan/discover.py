"""Finds the video files below folders; excludes system folders, proxies, cloud placeholders and ignored paths."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.library.store.file_stat import file_stat
from vtag.engine.library.store.volumes import real_path
from vtag.engine.scan.ignore import IGNORE_FILE, IgnoreRules, PathFilter, read_rules, rules_above
from vtag.engine.system.silent_disks import describe_error, wait_for_answer
from vtag.engine.text import display_path

EXTENSIONS = frozenset(
    b".360 .3g2 .3gp .3gpp .amv .asf .avi .dav .divx .dv .dvr-ms .evo .f4v .flv .gif .gxf .insv .ivf .m1v .m2p .m2t "
    b".m2ts .m2v .m4v .mjpeg .mjpg .mk3d .mkv .mod .mov .mp4 .mp4v .mpe .mpeg .mpg .mpv .mqv .mts .mxf .nut .ogm "
    b".ogv .osv .qt .rm .rmvb .tod .tp .trp .ts .vob .vro .webm .wmv .wtv".split()
)
# videos that a scan leaves out and names, with the reason
_EXCLUDED_EXTENSIONS = {
    b".lrv": "low-rate proxy (.LRV)",  # GoPro's and Insta360's copy of every clip
    b".lrf": "low-rate proxy (.LRF)",  # DJI's
    **dict.fromkeys((b".264", b".265", b".h264", b".h265", b".hevc"), "raw stream, which has no times"),
    **dict.fromkeys(
        (b".ari", b".arx", b".braw", b".crm", b".nev", b".r3d"), "camera raw, which cannot be decoded"
    ),
}
# folders in which photo programs keep their own copies
_BUNDLES = (b".photoslibrary", b".photolibrary", b".aplibrary", b".migratedphotolibrary")
_SYSTEM_FOLDERS = frozenset(
    name.lower()
    for name in (
        b"$RECYCLE.BIN",
        b"RECYCLER",
        b"System Volume Information",
        b"lost+found",
        b"Recycled",
        b"Trash",
        b"Trash-1000",
        b"Network Trash Folder",
        b"Temporary Items",
        # of NAS systems
        b"@eaDir",
        b"@tmp",
        b"#recycle",
        b"@Recycle",
        b"#snapshot",
        b"@Recently-Snapshot",
        b"@.thumb",
        b"~snapshot",
        # Time Machine
        b"Backups.backupdb",
    )
)
_BACKUP_BUNDLES = (b".sparsebundle", b".backupbundle")  # Time Machine on a network disk
_TIME_MACHINE = re.compile(rb"\d{4}-\d\d-\d\d-\d{6}\.(backup|previous|inprogress)")  # on a disk of its own
_CHKDSK = re.compile(rb"found\.\d{3}")  # remains of files that Windows found on a damaged disk
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
        root, info = require_root(path)
        if stat.S_ISDIR(info.st_mode):
            root = os.path.realpath(root)
            files = _walk(root, path_filter or PathFilter(), discovery, entered)
        else:
            files = iter([DiscoveredFile(root, *file_stat(info), root)])
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


def require_root(path: bytes) -> tuple[bytes, os.stat_result]:
    """The absolute path of a file or folder to scan, and its status. Raises LibraryError if it is neither."""
    wait_for_answer(os.path.abspath(path))
    root = real_path(path)
    try:
        info = os.stat(root)
    except OSError as error:
        reason = describe_error(error, os.path.abspath(path))
        raise LibraryError(f"{display_path(path)} cannot be scanned: {reason}") from error
    if not (stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode)):
        raise LibraryError(f"{display_path(path)} is neither a file nor a folder")
    return root, info


def _walk(
    root: bytes, path_filter: PathFilter, discovery: Discovery, entered: set[tuple[int, int]]
) -> Iterator[DiscoveredFile]:
    pending = [(root, rules_above(root))]
    while pending:
        folder, rules = pending.pop()
        wait_for_answer(folder)
        try:
            info = os.stat(folder)
            if (info.st_dev, info.st_ino) in entered:
                continue
            entered.add((info.st_dev, info.st_ino))
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda e: e.name)
        except OSError as error:
            discovery.unreadable.append((folder, describe_error(error, folder)))
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
                discovery.unreadable.append((entry.path, describe_error(error, entry.path)))
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
        return "system, snapshot or trash folder"
    if lower.endswith(_BACKUP_BUNDLES) or _TIME_MACHINE.fullmatch(lower):
        return "backup of Time Machine"
    if _CHKDSK.fullmatch(lower):
        return "remains of damaged files"
    if name.startswith(b"."):
        return "hidden folder"
    return "photo library" if lower.endswith(_BUNDLES) else None


def _is_candidate(entry: os.DirEntry[bytes], discovery: Discovery) -> bool:
    """Whether a file may be a video to scan. Adds the reason to `discovery.excluded` if it is another video."""
    extension = os.path.splitext(entry.name)[1].lower()
    if extension in _EXCLUDED_EXTENSIONS:
        discovery.excluded.append((entry.path, _EXCLUDED_EXTENSIONS[extension]))
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
