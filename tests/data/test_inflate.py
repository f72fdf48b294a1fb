"""Gzip chunks unpacked beside HDF5: the same bytes for every layout, and HDF5's own words where something is wrong."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from aspc_fast.data import d4rl, inflate
from aspc_fast.errors import UserError
from tests.helpers import SHARED, needs_shared

ROWS, WIDTH = 1000, 17
LAYOUTS: dict[str, dict[str, Any]] = {
    "contiguous": {},
    "chunks, no filter": {"chunks": (128, 5)},
    "gzip": {"compression": "gzip"},
    "gzip, whole rows": {"compression": "gzip", "chunks": (64, WIDTH)},
    "gzip, chunks that fit": {"compression": "gzip", "chunks": (100, WIDTH)},
    "gzip, both axes, edges": {"compression": "gzip", "chunks": (77, 5)},
    "gzip, one chunk, larger": {"compression": "gzip", "chunks": (2 * ROWS, 32), "maxshape": (None, None)},
    "gzip, shuffle": {"compression": "gzip", "shuffle": True, "chunks": (77, 5)},
    "gzip, fletcher32": {"compression": "gzip", "fletcher32": True},
    "shuffle alone": {"shuffle": True, "chunks": (77, 5)},
    "lzf": {"compression": "lzf"},
}
OURS = {name for name, how in LAYOUTS.items() if how.get("compression") == "gzip" and "fletcher32" not in how}
DTYPES = ("<f4", "<f8", ">f4", "<f2", "<i8", "<u2", "|b1")


def numbers(dtype: str) -> np.ndarray:
    # some of it packs well, some does not
    made = np.random.default_rng(0).standard_normal((ROWS, WIDTH))
    made[300:700] = 0.25
    return (np.abs(made) * 3).astype(dtype) if np.dtype(dtype).kind in "iub" else made.astype(dtype)


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Datasets that were left to HDF5."""
    left: list[str] = []
    read = h5py.Dataset.__getitem__

    def getitem(self: h5py.Dataset, *args: Any, **options: Any) -> Any:
        left.append(self.name)
        return read(self, *args, **options)

    monkeypatch.setattr(h5py.Dataset, "__getitem__", getitem)
    return left


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_bytes_that_hdf5_gives(
    tmp_path: Path, layout: str, dtype: str, refused: list[str]
) -> None:
    made = numbers(dtype)
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file.create_dataset("x", data=made, **LAYOUTS[layout])
        filters = {name: how for name, how in LAYOUTS[layout].items() if name not in ("chunks", "maxshape")}
        file.create_dataset("flat", data=made[:, 0], **filters)
    with h5py.File(tmp_path / "x.hdf5") as file:
        for name in ("x", "flat"):
            del refused[:]
            found = inflate.read_array(file[name])
            if inflate.deflate is not None and name == "x":
                assert bool(refused) != (layout in OURS and dtype != ">f4")
            expected = file[name][()]
            assert found.dtype == expected.dtype and found.shape == expected.shape
            assert found.tobytes() == expected.tobytes()


def test_a_dataset_that_was_cut_shorter_and_one_of_odd_flags(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        cut = file.create_dataset("cut", data=numbers("<f4"), compression="gzip", chunks=(77, 5), maxshape=(None, None))
        cut.resize((401, 12))
        flags = file.create_dataset("flags", (8,), bool, chunks=(8,), compression="gzip")
        flags.id.write_direct_chunk((0,), zlib.compress(bytes([0, 1, 55, 1, 0, 2, 0, 1])))
    with h5py.File(tmp_path / "x.hdf5") as file:
        for name in file:
            assert inflate.read_array(file[name]).tobytes() == file[name][()].tobytes()


def test_chunks_that_say_that_a_filter_was_skipped(tmp_path: Path) -> None:
    made = numbers("<f4")[:64]
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        dataset = file.create_dataset("x", data=made, compression="gzip", chunks=(32, WIDTH))
        dataset.id.write_direct_chunk((32, 0), made[32:].tobytes(), filter_mask=1)
    with h5py.File(tmp_path / "x.hdf5") as file:
        assert inflate.read_array(file["x"]).tobytes() == made.tobytes()


CHUNK = np.arange(100, dtype="<f4").tobytes()
PACKED = zlib.compress(CHUNK)
BAD = {
    "cut short": PACKED[:-9],
    "wrong checksum": PACKED[:-1] + bytes([PACKED[-1] ^ 1]),
    "not gzip": b"\x00" * len(PACKED),
    "too few numbers": zlib.compress(CHUNK[:-8]),
    "too many numbers": zlib.compress(CHUNK + CHUNK),
}


@pytest.mark.parametrize("how", BAD)
def test_a_damaged_chunk_is_judged_by_hdf5(tmp_path: Path, how: str, refused: list[str]) -> None:
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        dataset = file.create_dataset("x", (200,), "<f4", chunks=(100,), compression="gzip")
        dataset[:100] = np.arange(100)
        dataset.id.write_direct_chunk((100,), BAD[how])

    def outcome(read: Any) -> Any:
        with h5py.File(tmp_path / "x.hdf5") as file:
            try:
                return read(file["x"]).shape
            except OSError as error:
                return str(error)

    expected = outcome(lambda dataset: dataset[()])
    del refused[:]
    assert outcome(inflate.read_array) == expected
    assert refused == ["/x"]


def test_a_damaged_chunk_of_a_file_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        for name, shape in (
            ("observations", (100, 3)),
            ("actions", (100, 2)),
            ("rewards", (100,)),
            ("terminals", (100,)),
        ):
            file.create_dataset(name, data=np.zeros(shape, "<f4"), compression="gzip")
        file["rewards"].id.write_direct_chunk((0,), zlib.compress(bytes(400))[:-2])
    with pytest.raises(UserError, match="rewards cannot be read, damaged or cut short"):
        d4rl.read(path)


@needs_shared
def test_real_numbers_packed_as_d4rl_packs_them(tmp_path: Path) -> None:
    paths = sorted((SHARED / "data").glob("*.hdf5"))
    assert paths
    for path in paths:
        with h5py.File(path) as original, h5py.File(tmp_path / path.name, "w") as file:
            for name in ("observations", "actions", "rewards", "terminals"):
                array = original[name][:30_000]
                assert inflate.read_array(original[name]).tobytes() == original[name][()].tobytes()
                dataset = file.create_dataset(name, data=array, compression="gzip")
                assert inflate.read_array(dataset).tobytes() == array.tobytes()


def test_without_the_package_all_is_left_to_hdf5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: list[str]
) -> None:
    monkeypatch.setattr(inflate, "deflate", None)
    made = numbers("<f4")
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        assert inflate.read_array(file.create_dataset("x", data=made, compression="gzip")).tobytes() == made.tobytes()
    assert refused == ["/x"]


def test_checksums_are_those_of_zlib() -> None:
    for bytes_ in (b"", b"123456789", CHUNK):
        assert inflate.crc32(bytes_) == zlib.crc32(bytes_)
    array = np.arange(5, dtype=np.float32)
    assert inflate.crc32(array.view(np.uint8).data) == zlib.crc32(array)
