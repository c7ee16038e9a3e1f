"""Digits of two domains: scikit-learn's, where it is installed, and made-up folders of the others' form."""

import gzip
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from stemrl.cli import main
from stemrl.core import UserError
from stemrl.evaluation.few_shot import draw_few_shot
from stemrl.tasks import DigitFolder, Digits

KEY = jax.random.key(0)
COPIES = {"train": 3, "test": 2}


def image(digit: int, size: int) -> np.ndarray:
    """A bar at a height of the digit's own."""
    made = np.zeros((size, size), np.uint8)
    made[2 * digit : 2 * digit + 2] = 200
    return made


def write_idx(path, array, packed: bool) -> None:
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if packed else data)


@pytest.fixture
def folders(tmp_path):
    """One of each kind, with three images of each digit to train on and two to test by."""
    for kind in ("mnist", "mnist-m", "svhn"):
        (tmp_path / kind).mkdir()
    for split, copies in COPIES.items():
        labels = np.tile(np.arange(10, dtype=np.uint8), copies)
        gray = np.stack([image(int(d), 28) for d in labels])
        part = {"train": "train", "test": "t10k"}[split]
        packed = split == "test"
        suffix = ".gz" * packed
        write_idx(tmp_path / "mnist" / f"{part}-images-idx3-ubyte{suffix}", gray, packed)
        write_idx(tmp_path / "mnist" / f"{part}-labels-idx1-ubyte{suffix}", labels, packed)
        pictures = tmp_path / "mnist-m" / f"mnist_m_{split}"
        pictures.mkdir()
        lines = []
        for number, digit in enumerate(labels):
            name = f"{number:08}.png"
            colored = np.stack([image(int(digit), 32)] * 3, -1)
            Image.fromarray(colored).save(pictures / name)
            lines.append(f"{name} {digit}\n")
        (tmp_path / "mnist-m" / f"mnist_m_{split}_labels.txt").write_text("".join(lines))
        colored = np.stack([np.stack([image(int(d), 32)] * 3, -1) for d in labels], -1)
        y = np.where(labels == 0, 10, labels)[:, None]
        savemat(tmp_path / "svhn" / f"{split}_32x32.mat", {"X": colored, "y": y})
    return tmp_path


@pytest.mark.parametrize(("kind", "high"), [("mnist", 28), ("mnist-m", 32), ("svhn", 32)])
def test_a_folder_of_each_kind_is_read(kind: str, high: int, folders):
    family = DigitFolder(kind=kind, folder=str(folders / kind), size=high)  # pyright: ignore
    assert family.drawings("train").shape == (10, 3, high * high)
    assert DigitFolder(kind=kind, folder=str(folders / kind), most=1, color=True).drawings(  # pyright: ignore
        "test"
    ).shape == (10, 1, 16 * 16 * 3)
    x, y = family.data(KEY, family.sample(KEY, "test"), 20)
    np.testing.assert_array_equal(y.reshape(2, 10, 10).sum(1), np.ones((2, 10)))
    for one, digit in zip(np.asarray(x), np.asarray(y).argmax(1), strict=True):
        np.testing.assert_allclose(one.reshape(high, high), image(int(digit), high) / 255.0)


def test_what_a_folder_lacks_is_one_line(folders):
    mnist, mnist_m, svhn = (folders / kind for kind in ("mnist", "mnist-m", "svhn"))
    (mnist / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x09" + bytes(30))
    (mnist / "t10k-images-idx3-ubyte.gz").write_bytes(b"not packed")
    (mnist_m / "mnist_m_train_labels.txt").write_text("00000000.png five\n")
    (mnist_m / "mnist_m_test" / "00000000.png").write_bytes(b"no image")
    (svhn / "train_32x32.mat").write_bytes(b"no matrix")
    (svhn / "test_32x32.mat").unlink()
    for kind, split, message in [
        ("mnist", "train", "has 30 bytes where its head says"),
        ("mnist", "test", "cannot read"),
        ("mnist-m", "train", "a line is a file and its digit, not '00000000.png five'"),
        ("mnist-m", "test", "is no image that can be read"),
        ("svhn", "train", "is no MATLAB file that can be read"),
        ("svhn", "test", "there is no test_32x32.mat"),
    ]:
        with pytest.raises(UserError, match=message):
            DigitFolder(kind=kind, folder=str(folders / kind)).drawings(split)  # pyright: ignore
    for kind, message in [
        ("mnist", "give MNIST's folder as folder"),
        ("mnist-m", "give MNIST-M's folder as folder"),
        ("svhn", "give SVHN's folder"),
    ]:
        with pytest.raises(UserError, match=message):
            DigitFolder(kind=kind, folder=str(folders / "none")).drawings("train")  # pyright: ignore
    with pytest.raises(UserError, match="kind must be one of mnist, mnist-m, svhn"):
        DigitFolder(kind="usps")  # pyright: ignore


def test_from_one_folder_to_another_by_the_commands(folders, capsys):
    words = (
        f"train dann-supervised digit-folder --family.folder {folders}/mnist --target digit-folder"
        f" --target.kind svhn --target.folder {folders}/svhn --examples 30 --batch-size 8"
        f" --steps 800 --out {folders}/run --evaluate-every 0 --quiet"
    )
    assert main(words.split()) == 0
    assert main(["evaluate", f"{folders}/run", "--tasks", "2"]) == 0
    assert "accuracy" in capsys.readouterr().out


def test_no_example_is_judged_that_was_learned_from():
    """Of so few images, two draws would share some; and the training set is the same however many are
    judged."""
    pytest.importorskip("sklearn")
    family = Digits(ground="plain")
    most = family.most_examples("test")
    _, train, test = draw_few_shot(family, "test", 2, 20, 100, 0)
    _, again, few = draw_few_shot(family, "test", 2, 20, 10, 0)
    np.testing.assert_array_equal(train.x, again.x)
    np.testing.assert_array_equal(test.x[:, :10], few.x)
    for learned, judged in zip(np.asarray(train.x), np.asarray(test.x), strict=True):
        assert not (learned[:, None] == judged[None]).all(-1).any()
    # No more are judged than are left.
    shots = most // 10 - 3
    assert draw_few_shot(family, "test", 2, shots, 100, 0)[2].x.shape[1] == 30
    with pytest.raises(UserError, match="none is left to judge by"):
        draw_few_shot(family, "test", 2, shots + 3, 100, 0)


def test_small_digits_and_their_textures():
    pytest.importorskip("sklearn", reason="the extra digits is not installed")
    plain, textured = Digits(), Digits(ground="texture", contrast=0.5)
    assert plain.drawings("train").shape[2] == 64 and plain.drawings("train").max() == 255
    one, other = (f.data(KEY, f.sample(KEY, "train"), 40) for f in (plain, textured))
    np.testing.assert_array_equal(one.y, other.y)
    # The same ink, from which at most half was taken: no pixel is further away than the texture is bright.
    assert float(jnp.abs(one.x - other.x).max()) <= 0.5 + 1e-6
    assert float(jnp.std(other.x[:, 0])) > 0.05 and float(other.x.min()) >= 0
    seen = {row.tobytes() for row in plain.drawings("train").reshape(-1, 64)}
    assert not seen & {row.tobytes() for row in plain.drawings("test").reshape(-1, 64)}
    large = Digits(ground="texture", size=16)
    assert large.drawings("train").shape == (*plain.drawings("train").shape[:2], 256)
    assert large.data(KEY, large.sample(KEY, "test"), 10).x.shape == (10, large.inputs)
    # Enlarged, a drawing is itself again where it is made small.
    first = Image.fromarray(large.drawings("train")[0, 0].reshape(16, 16)).resize((8, 8))
    drawn = plain.drawings("train")[0, 0].reshape(8, 8)
    assert np.corrcoef(np.asarray(first).ravel(), drawn.ravel())[0, 1] > 0.98
    with pytest.raises(UserError, match=r"size must be in \[8, 64\], not 7"):
        Digits(size=7)
    with pytest.raises(UserError, match="ground must be plain or texture"):
        Digits(ground="white")  # pyright: ignore
