"""What the starter's labels are made of: folders of clips, and folders of pictures that show an action well."""

from __future__ import annotations

from collections.abc import Sequence

# Pictures that show an action of the clips under another name.
RELATED_PICTURES = {
    "playing_basketball": "shooting_basketball",
    "baseball": "hitting_baseball",
    "football": "kicking_soccer_ball",
    "shooting": "shoot_gun",
    "applauding": "clapping",
}
# Pictures of an action of the clips that are not taught as it: photographs of these look unlike the clips, and adding
# them to a probe of the teacher cost 7 points on unseen sources. They do not count as "none of these" either.
UNLIKE_CLIPS = ("jump", "pour", "run", "wave")
# Pictures whose folder has another name than the label: Kinetics-400's where the meaning is the same.
RENAMED_PICTURES = {
    "formula1": "motor_racing",
    "motogp": "motorcycling",
    "hockey": "playing_field_hockey",
    "table_tennis": "playing_table_tennis",
    "wwe": "wrestling",
    "writing_on_a_book": "writing",
    "writing_on_a_board": "writing_on_board",
}


def picture_label(folder: str) -> str | None:
    """The label that pictures of `folder` teach, or None."""
    if folder in UNLIKE_CLIPS:
        return None
    return RELATED_PICTURES.get(folder, RENAMED_PICTURES.get(folder, folder))


def all_labels(clip_folders: Sequence[str], picture_folders: Sequence[str]) -> list[str]:
    """The labels of clips, sorted, then those that only pictures show, sorted."""
    of_clips = sorted(set(clip_folders))
    of_pictures = {picture_label(folder) for folder in picture_folders} - {None, *of_clips}
    return of_clips + sorted(label for label in of_pictures if label is not None)
