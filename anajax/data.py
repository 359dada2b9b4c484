"""Data sets as plain arrays: a small one which needs no files, and two which tensorflow-datasets prepares.

| name | train, test | one image | source |
| --- | --- | --- | --- |
| `digits` | 1,437 and 360 | 8 x 8 | scikit-learn, in its package |
| `mnist` | 60,000 and 10,000 | 28 x 28 | tensorflow-datasets |
| `fashion_mnist` | 60,000 and 10,000 | 28 x 28 | tensorflow-datasets |

| text | train, validation and test | characters | source |
| --- | --- | --- | --- |
| `tiny_shakespeare` | 1.0 million, 55,770 twice | 65 | tensorflow-datasets |
| `kjv_bible` | 3.7 million, 206,952 twice | 63 | a folder of tensorflow-datasets |

Nothing is downloaded unless asked for. Reading needs no TensorFlow; preparing a download does.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from anajax import _check, _records

NAMES = ("digits", "mnist", "fashion_mnist")
TEXTS = ("tiny_shakespeare", "kjv_bible")

_FORMAT = "array_record"  # the format of tensorflow-datasets which is read without TensorFlow
_PREPARES = ("tensorflow", "importlib_resources")  # what it needs to prepare, beyond what it installs itself


class Dataset(NamedTuple):
    """Images and their classes, for training and for testing.

    Attributes:
      name: What `load` was asked for.
      x_train: Images for training, float32 [n, height, width, 1], from 0 to 1.
      y_train: Their classes, int32 [n], from 0 to `classes - 1`.
      x_test: Images for testing, like `x_train`.
      y_test: Their classes, like `y_train`.
      classes: How many classes there are.
    """

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    classes: int


def load(name: str = "digits", data_dir: str | os.PathLike[str] | None = None, *, download: bool = False) -> Dataset:
    """Load a data set of images.

    `digits` has no official split. Its images are permuted, always in the same way; the first 1,437 are for
    training and the last 360 for testing. The others keep their official split, and the order of their files.

    Args:
      name: `"digits"`, `"mnist"` or `"fashion_mnist"`.
      data_dir: The folder of tensorflow-datasets, which holds, say, `mnist/3.0.1`. By default what the
        environment variable `TFDS_DATA_DIR` names, or else `~/tensorflow_datasets`. Not used for `digits`.
      download: Whether to download and prepare the data set if the folder does not have it.

    Returns:
      The data set, as NumPy arrays.

    Raises:
      ValueError: No data set has this name, or its files are damaged or in a format that is not read.
      FileNotFoundError: The folder does not have the data set, and no download was asked for.
      ModuleNotFoundError: A package is missing without which a download cannot be prepared.

    >>> digits = load("digits")
    >>> digits.x_train.shape, digits.x_test.shape, digits.classes
    ((1437, 8, 8, 1), (360, 8, 8, 1), 10)
    """
    _check.choice(name, "name", NAMES)
    if name == "digits":
        return _digits()
    folder = _folder(data_dir)
    builder = _prepared(name, folder, download)
    try:
        train, test = _split(builder, "train"), _split(builder, "test")
    except (ValueError, RuntimeError, OSError) as error:  # RuntimeError: what array_record raises
        raise ValueError(f"{name} in {folder} cannot be read; prepare it anew. {error}") from error
    return Dataset(name, *train, *test, classes=10)


class Text(NamedTuple):
    """A text by characters.

    Attributes:
      name: What `load_text` was asked for.
      train: Codes of the characters, int32, from 0 on.
      validation: Likewise.
      test: Likewise.
      characters: What the codes stand for, in their order.
    """

    name: str
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    characters: str


def load_text(name: str = "tiny_shakespeare", data_dir: str | os.PathLike[str] | None = None) -> Text:
    """Load a text which a folder of tensorflow-datasets has.

    Args:
      name: `"tiny_shakespeare"` or `"kjv_bible"`.
      data_dir: The folder, as `load` takes it.

    Returns:
      The text, as NumPy arrays of codes.

    Raises:
      ValueError: No text has this name, or its files are damaged.
      FileNotFoundError: The folder does not have the text.
    """
    _check.choice(name, "name", TEXTS)
    folder = _folder(data_dir)
    versions = sorted((folder / name).glob("*.*.*"))
    if not versions:
        raise FileNotFoundError(
            f"{name} is not prepared in {folder}. Name the folder which has it with data_dir or TFDS_DATA_DIR"
        )
    import tensorflow_datasets as tfds

    try:
        with _quiet():
            builder: Any = tfds.builder_from_directory(str(versions[-1]))
            parts = [builder.as_data_source(s)[0]["text"].decode() for s in ("train", "validation", "test")]
    except Exception as error:  # whatever damaged files lead to
        raise ValueError(f"{name} in {folder} cannot be read; prepare it anew. {error}") from error
    characters = "".join(sorted(set("".join(parts))))
    table = np.zeros(ord(characters[-1]) + 1, np.int32)
    table[[ord(c) for c in characters]] = np.arange(len(characters))
    codes = [table[np.frombuffer(part.encode("utf-32-le"), np.uint32)] for part in parts]
    return Text(name, *codes, characters=characters)


def _folder(data_dir: str | os.PathLike[str] | None) -> Path:
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
    # RandomState, as NumPy guarantees its stream for all its versions; that of a Generator may change.
    order = np.random.RandomState(0).permutation(len(labels))
    x = (pixels.reshape(-1, 8, 8, 1)[order] / 16).astype(np.float32)
    y = labels[order].astype(np.int32)
    return Dataset("digits", x[:1437], y[:1437], x[1437:], y[1437:], classes=10)


def _prepared(name: str, folder: Path, download: bool) -> Any:
    """Return the builder of a data set which the folder has, after a download if there must be one.

    It asks first. To try and catch would cost minutes of retries where there is no network.
    """
    if not (folder.is_dir() or download):
        raise FileNotFoundError(f"the data folder of {name} must exist; got {folder}. {_advice()}")
    import tensorflow_datasets as tfds

    with _quiet():
        try:
            builder = tfds.builder(name, data_dir=str(folder))
            prepared = builder.is_prepared()
        except Exception as error:  # whatever a damaged description of the data set leads to
            raise ValueError(f"{name} in {folder} has a description which cannot be read: {error}") from error
    if not prepared:
        if not download:
            raise FileNotFoundError(
                f"{name} is not prepared in {folder}: no {name}/{builder.version} there. {_advice()}"
            )
        missing = [module for module in _PREPARES if importlib.util.find_spec(module) is None]
        if missing:
            raise ModuleNotFoundError(
                f"{name} cannot be prepared without {' and '.join(missing)}: pip install {' '.join(missing)}."
                " Reading what is prepared needs neither",
                name=missing[0],
            )
        builder = tfds.builder(name, data_dir=str(folder), file_format=_FORMAT)
        builder.download_and_prepare()
    formats = sorted(form.value for form in builder.info.available_file_formats())
    if _FORMAT not in formats:
        raise ValueError(
            f"{name} in {folder} must be prepared in the format {_FORMAT}; got {', '.join(formats)}."
            " Prepare it in another folder, or remove it there and ask for the download"
        )
    return builder


def _advice() -> str:
    return (
        "Name the folder which has it with data_dir (--data-dir) or the environment variable TFDS_DATA_DIR,"
        " or ask for the download with download=True (--download), which takes a network and"
        f" `pip install {' '.join(_PREPARES)}`"
    )


def _split(builder: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, from 0 to 1, and the labels of one split of a prepared data set."""
    with _quiet():
        source = builder.as_data_source(split=split, file_format=_FORMAT)
        try:
            images, labels = _records.read(source.data_source.__getitems__(range(len(source))))
        except _records.Unsupported as reason:
            warnings.warn(f"{builder.name} is decoded one image at a time, which is slow: {reason}", stacklevel=3)
            examples = list(source)
            images = np.stack([example["image"] for example in examples])
            labels = np.array([example["label"] for example in examples])
    classes = builder.info.features["label"].num_classes
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"its labels must be from 0 to {classes - 1}; got {labels.min()} to {labels.max()}")
    return images / np.float32(255), labels.astype(np.int32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tensorflow-datasets from logging what is of no use here, such as how it decodes images."""
    from absl import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
