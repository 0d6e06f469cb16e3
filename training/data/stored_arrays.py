"""Arrays in .npy files, as anyone may have put them into a data root: opened without being read, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from training.data.image_set import DataError


def open_array(path: Path) -> np.ndarray[Any, Any]:
    """Return the array in a .npy file, mapped and not read; objects are never unpickled.

    Raises DataError, naming the file, if it is missing, cannot be read, or is none: an .npz file of several, say.
    """
    try:
        return open_memmap(path, mode="r")
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path} is no .npy file of an array: {error}") from error
