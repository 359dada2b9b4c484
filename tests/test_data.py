import hashlib
import shutil
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from anajax import _records, data

PREPARED = Path(__file__).parents[2] / "shared" / "data" / "tfds"
MNIST = "mnist/3.0.1"
TRAIN = "mnist-train.array_record-00000-of-00001"

needs_files = pytest.mark.skipif(
    not (PREPARED / MNIST).is_dir(), reason=f"no data set prepared by tensorflow-datasets in {PREPARED}"
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Nothing here may touch the network, and no variable may point to other data."""

    def refuse(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)


@pytest.fixture
def damaged(tmp_path):
    """A folder with a copy of MNIST's files which a test can damage; the large ones are links."""
    folder = tmp_path / MNIST
    folder.mkdir(parents=True)
    for file in (PREPARED / MNIST).iterdir():
        if file.suffix == ".json":
            shutil.copyfile(file, folder / file.name)
        else:
            (folder / file.name).symlink_to(file)
    return folder


def replace(file, content):
    file.unlink()
    file.write_bytes(content)


def source(name, split):
    import tensorflow_datasets as tfds

    return tfds.builder(name, data_dir=str(PREPARED)).as_data_source(split=split)


# The digits, which need no files.


def test_digits_have_the_documented_shapes_ranges_and_counts():
    digits = data.load()
    assert digits.name == "digits"
    assert digits.classes == 10
    assert digits.x_train.shape == (1437, 8, 8, 1)
    assert digits.x_test.shape == (360, 8, 8, 1)
    for x, y in ((digits.x_train, digits.y_train), (digits.x_test, digits.y_test)):
        assert x.dtype == np.float32
        assert y.dtype == np.int32
        assert len(x) == len(y)
        assert (x.min(), x.max()) == (0, 1)
        assert set(y) == set(range(10))
    counts = np.bincount(np.concatenate([digits.y_train, digits.y_test]))
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(digits.y_test).min() >= 28


def test_digits_are_split_in_the_same_way_in_every_version():
    digits = data.load("digits", "a/folder/which/is/not/needed")
    assert digits.y_test[:12].tolist() == [7, 9, 4, 7, 0, 2, 6, 1, 3, 1, 3, 7]
    assert hashlib.sha256((digits.x_test * 16).astype(np.uint8).tobytes()).hexdigest()[:16] == "3e513a101193c051"


def test_digits_for_testing_and_training_are_disjoint_and_complete():
    from sklearn.datasets import load_digits

    digits = data.load()
    train, test = ({x.tobytes() for x in part} for part in (digits.x_train, digits.x_test))
    assert not train & test
    rows = np.concatenate([digits.x_train, digits.x_test]).reshape(-1, 64) * 16
    original = load_digits().data
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], original[np.lexsort(original.T)])


# The data sets which tensorflow-datasets has prepared.


@needs_files
@pytest.mark.parametrize(
    ("name", "mean", "deviation", "counts"),
    [
        ("mnist", 0.1307, 0.3081, [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]),
        pytest.param("fashion_mnist", 0.2860, 0.3530, [6000] * 10, marks=pytest.mark.slow),
    ],
)
def test_prepared_images_are_those_which_tfds_decodes(name, mean, deviation, counts, capfd):
    loaded = data.load(name, PREPARED)
    assert (loaded.name, loaded.classes) == (name, 10)
    assert (loaded.x_train.shape, loaded.x_test.shape) == ((60000, 28, 28, 1), (10000, 28, 28, 1))
    assert (loaded.x_train.dtype, loaded.y_train.dtype) == (np.float32, np.int32)
    assert (loaded.x_train.min(), loaded.x_train.max()) == (0, 1)
    assert np.bincount(loaded.y_train).tolist() == counts
    assert loaded.x_train.mean(dtype=np.float64) == pytest.approx(mean, abs=5e-5)
    assert loaded.x_train.std(dtype=np.float64) == pytest.approx(deviation, abs=5e-5)
    assert capfd.readouterr() == ("", "")
    for split, x, y in (("train", loaded.x_train, loaded.y_train), ("test", loaded.x_test, loaded.y_test)):
        examples = source(name, split)
        for i in np.linspace(0, len(x) - 1, 50).astype(int).tolist():
            np.testing.assert_array_equal(np.rint(x[i] * 255).astype(np.uint8), examples[i]["image"])
            assert y[i] == examples[i]["label"]


@needs_files
def test_the_folder_is_taken_from_the_argument_then_the_environment_then_home(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_split", lambda builder, split: (builder.data_path, split))
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"must exist; got {tmp_path}/tensorflow_datasets"):
        data.load("mnist")
    monkeypatch.setenv("TFDS_DATA_DIR", str(PREPARED))
    assert data.load("mnist").x_train == PREPARED / MNIST
    with pytest.raises(FileNotFoundError, match=f"not prepared in {tmp_path}: no mnist/3.0.1 there"):
        data.load("mnist", tmp_path)


@needs_files
def test_records_of_another_kind_are_left_to_tfds_with_the_reason(monkeypatch):
    import tensorflow_datasets as tfds

    builder = tfds.builder("mnist", data_dir=str(PREPARED))
    fast = data._split(builder, "test[:20]")

    def unsupported(_):
        raise _records.Unsupported("the images are in colour")

    monkeypatch.setattr(_records, "read", unsupported)
    with pytest.warns(UserWarning, match=r"mnist is decoded one image at a time.*the images are in colour"):
        slow = data._split(builder, "test[:20]")
    for a, b in zip(fast, slow, strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


# What is refused.


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="name must be one of 'digits', 'mnist', 'fashion_mnist'; got 'cifar'"):
        data.load("cifar")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_an_empty_folder_is_refused_at_once_with_what_to_do(name, tmp_path, capfd):
    import tensorflow_datasets  # noqa: F401, its import is not timed

    start = time.perf_counter()
    with pytest.raises(FileNotFoundError) as error:
        data.load(name, tmp_path)
    assert time.perf_counter() - start < 5
    for part in (
        name,
        str(tmp_path),
        "--data-dir",
        "TFDS_DATA_DIR",
        "download=True",
        "--download",
        "network",
    ):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_folder_which_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder of mnist must exist; got .*mistyped\. Name the folder"):
        data.load("mnist", tmp_path / "mistyped")


def test_a_download_without_tensorflow_is_refused_before_it_starts(tmp_path, monkeypatch):
    import tensorflow_datasets  # noqa: F401, whole, before two modules of its own choice are hidden

    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.setitem(sys.modules, "importlib_resources", None)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorflow importlib_resources"):
        data.load("mnist", tmp_path / "new", download=True)
    assert not (tmp_path / "new").exists()


def test_a_failed_download_is_not_hidden(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    asked = []

    class Builder:
        version = "3.0.1"

        def __init__(self, name, **options):
            asked.append(options.get("file_format"))

        def is_prepared(self):
            return False

        def download_and_prepare(self):
            raise ConnectionError("no route to host")

    monkeypatch.setattr(tfds, "builder", Builder)
    monkeypatch.setattr(data, "_PREPARES", ())
    with pytest.raises(ConnectionError, match="no route to host"):
        data.load("mnist", tmp_path, download=True)
    assert asked == [None, "array_record"]


@needs_files
def test_files_in_a_format_without_random_access_are_refused(damaged):
    info = damaged / "dataset_info.json"
    info.write_text(info.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(ValueError, match="must be prepared in the format array_record; got tfrecord"):
        data.load("mnist", damaged.parents[1])


@needs_files
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "one bit"])
def test_damaged_files_are_refused(damaged, damage):
    file = damaged / TRAIN
    content = bytearray(file.read_bytes())
    if damage == "one bit":
        content[len(content) // 3] ^= 4
    replace(file, content[: {"truncated": len(content) // 2, "empty": 0}.get(damage)])
    if damage == "missing":
        file.unlink()
    with pytest.raises(ValueError, match=r"mnist in .* cannot be read; prepare it anew"):
        data.load("mnist", damaged.parents[1])


@needs_files
def test_a_damaged_description_is_refused(damaged):
    info = damaged / "dataset_info.json"
    info.write_text(info.read_text()[:100])
    with pytest.raises(ValueError, match=r"mnist in .* has a description which cannot be read"):
        data.load("mnist", damaged.parents[1])


# The records, made by hand.


def field(number, content):
    """A field of a protocol buffer message which holds bytes."""
    size, head = len(content), bytes([number << 3 | 2])
    while size >= 0x80:
        head += bytes([size & 0x7F | 0x80])
        size >>= 7
    return head + bytes([size]) + content


def record(image, *labels, packed=True, name=b"label"):
    """A tf.train.Example with labels below 128."""
    integers = field(1, bytes(labels)) if packed else b"".join(bytes([1 << 3, label]) for label in labels)
    features = {b"image": field(1, field(1, image)), name: field(3, integers)}
    return field(1, b"".join(field(1, field(1, key) + field(2, value)) for key, value in features.items()))


def png(pixels, kinds, depth=8):
    """Encode uint8 [height, width] with the filter `kinds[row]` in each row, as the PNG standard words it."""
    import struct
    import zlib

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    def neighbour(row, column):
        return int(pixels[row, column]) if row >= 0 and column >= 0 else 0

    rows = bytearray()
    for r, kind in enumerate(kinds):
        rows.append(kind)
        for c in range(pixels.shape[1]):
            a, b, d = neighbour(r, c - 1), neighbour(r - 1, c), neighbour(r - 1, c - 1)
            nearest = min((a, b, d), key=lambda x, p=a + b - d: abs(x - p))  # of equals, the first
            rows.append((int(pixels[r, c]) - (0, a, b, (a + b) // 2, nearest)[kind]) % 256)
    body = zlib.compress(bytes(rows))
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], depth, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", body[:7]), (b"IDAT", body[7:]), (b"tEXt", b"x"), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_every_filter_of_png_is_undone():
    import io

    from PIL import Image

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 9, 6)).astype(np.uint8)
    pngs = [png(image, rng.integers(0, 5, 9)) for image in pixels]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(pngs[3]))), pixels[3])
    images, labels = _records.read([record(p, i % 10) for i, p in enumerate(pngs)])
    np.testing.assert_array_equal(images[..., 0], pixels)
    assert images.shape == (40, 9, 6, 1)
    assert images.dtype == np.uint8
    assert labels.tolist() == [i % 10 for i in range(40)]


def test_labels_may_be_packed_or_not():
    image = png(np.zeros((2, 3), np.uint8), [0, 0])
    assert _records.read([record(image, 7), record(image, 7, packed=False)])[1].tolist() == [7, 7]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("jpeg", "not 8-bit grey PNGs"),
        ("16 bits", "not 8-bit grey PNGs"),
        ("two sizes", "not PNGs of one size"),
        ("two labels", "more than one label"),
        ("other names", "not hold one image and one integer label"),
    ],
)
def test_records_of_another_kind_are_recognised(kind, message):
    image, other = (png(np.zeros((2, width), np.uint8), [0, 0]) for width in (3, 4))
    records = {
        "jpeg": [record(b"\xff\xd8\xff\xe0" + bytes(60), 1)],
        "16 bits": [record(png(np.zeros((2, 3), np.uint8), [0, 0], depth=16), 1)],
        "two sizes": [record(image, 1), record(other, 1)],
        "two labels": [record(image, 1, 2)],
        "other names": [record(image, 1, name=b"speaker")],
    }[kind]
    with pytest.raises(_records.Unsupported, match=message):
        _records.read(records)


def test_a_record_which_is_cut_short_or_has_damaged_pixels_is_refused():
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8)).astype(np.uint8)
    good = record(png(pixels, [0, 1, 2, 3, 4, 4, 3, 2]), 5)
    for end in range(len(good)):
        with pytest.raises(ValueError):  # noqa: PT011, where it ends decides about the message
            _records.read([good[:end]])
    start = good.rindex(b"IDAT") + 4
    for i in range(start, good.index(b"tEXt") - 8):  # up to the chunk's checksum
        bad = bytearray(good)
        bad[i] ^= 1 << i % 8
        with pytest.raises(ValueError, match="damaged"):
            _records.read([bytes(bad)])
    with pytest.raises(ValueError, match="unknown filter"):
        _records._unfiltered(np.full((1, 2, 3), 5, np.uint8))


# Texts.


@needs_files
@pytest.mark.parametrize(
    ("name", "length", "starts"), [("tiny_shakespeare", 1003854, "First"), ("kjv_bible", 3725134, "In")]
)
def test_a_text_is_its_characters(name, length, starts):
    text = data.load_text(name, PREPARED)
    assert len(text.train) == length
    assert "".join(text.characters[k] for k in text.train[: len(starts)]) == starts
    assert all(part.min() >= 0 and part.max() < len(text.characters) for part in text[1:4])
    assert list(text.characters) == sorted(set(text.characters))


@needs_files
def test_texts_that_are_not_there_or_broken_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tiny_shakespeare is not prepared in .*TFDS_DATA_DIR"):
        data.load_text("tiny_shakespeare", tmp_path)
    with pytest.raises(ValueError, match="name must be one of 'tiny_shakespeare', 'kjv_bible'; got 'ulysses'"):
        data.load_text("ulysses", PREPARED)
    folder = tmp_path / "tiny_shakespeare/1.0.0"
    shutil.copytree(PREPARED / "tiny_shakespeare/1.0.0", folder)
    for file in folder.glob("*.array_record*"):
        file.chmod(0o644)
        replace(file, b"nothing")
    with pytest.raises(ValueError, match=r"tiny_shakespeare in .* cannot be read"):
        data.load_text("tiny_shakespeare", tmp_path)
