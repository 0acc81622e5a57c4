"""Listing of any folder of images: its layout, classes, and the files of each part. No torch, nothing decoded.

Names of files are relative to the listing's root, as the file system has them; `image_scan.shown` makes them printable.
"""

from pathlib import Path

from engine.shared.class_folders import list_class_folders
from engine.shared.image_parts import Listing
from engine.shared.image_scan import Poll


def list_images(path: Path, *, name: str = "class-folders", poll: Poll = lambda: None) -> Listing:
    """List a folder of images, whatever its layout.

    Read are class folders `<class>/*`; parts `train/`, `val/` (or valid, validation, dev) and `test/` of class
    folders; and a `test/` of loose images, which have no labels. Images in folders below a class are the class's.

    Args:
        path: the folder.
        name: of the data set.
        poll: called before each folder is read; its exceptions end the listing.

    Raises:
        CifartuiError: it cannot be read, has no layout of these or looks like two, or has fewer than two classes.
    """
    return list_class_folders(path, name, poll)
