"""Damage that HDF5 and zip read without complaint: lost chunks, wrong strides, skipped filters, lost names, bombs."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from aspc_fast.data.load import load
from aspc_fast.errors import UserError
from aspc_fast.tools.trace import read_trace

ROWS = 64


def fields() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "observations": rng.normal(size=(ROWS, 5)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32),
        "rewards": rng.normal(size=ROWS).astype(np.float32),
        "terminals": np.arange(ROWS) % 10 == 9,
        "timeouts": np.arange(ROWS) % 10 == 5,
    }


def hdf5(path: Path, change: Callable[[h5py.File], object] = lambda file: None, **options: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in fields().items():
            chunks = {"chunks": (16, *array.shape[1:])} if options else {}
            file.create_dataset(name, data=array, **chunks, **options)
        change(file)
    return path


def complaint(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text and len(text) < 500
    return text


def put(name: str, **options: object) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **options)

    return change


def test_chunks_that_were_never_written_are_not_zeros(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        put("rewards", shape=(ROWS,), dtype="f4", chunks=(16,))(file)
        file["rewards"][:20] = 1.0

    assert "2 of 4 chunks" in complaint(hdf5(tmp_path / "x.hdf5", change))


def test_arrays_that_were_never_written_are_refused_but_for_unset_flags(tmp_path: Path) -> None:
    change = put("rewards", shape=(ROWS,), dtype="f4")
    assert "nothing of it is stored" in complaint(hdf5(tmp_path / "x.hdf5", change))
    unset = put("timeouts", shape=(ROWS,), dtype=bool)
    assert load(hdf5(tmp_path / "y.hdf5", unset)).timeout_count == 0


def test_a_damaged_shape_is_not_read_at_the_wrong_stride(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "x.hdf5")
    raw = bytearray(path.read_bytes())
    width = raw.find(np.array([ROWS, 5], "<u8").tobytes())  # the dataspace of observations
    assert width > 0
    raw[width + 8] = 4
    path.write_bytes(raw)
    assert "1280 bytes are stored" in complaint(path)


def test_a_chunk_whose_filter_mask_is_damaged_is_not_read_as_it_lies(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        put("rewards", shape=(ROWS,), dtype="f4", chunks=(ROWS,), compression="gzip")(file)
        file["rewards"].id.write_direct_chunk((0,), zlib.compress(bytes(4 * ROWS)), filter_mask=1)

    assert "chunk at (0,) is damaged" in complaint(hdf5(tmp_path / "x.hdf5", change))


@pytest.mark.parametrize(
    "filters", [{"compression": "gzip", "shuffle": True}, {"compression": "lzf", "fletcher32": True}]
)
def test_compressed_files_are_read_as_before(tmp_path: Path, filters: dict) -> None:
    plain, packed = load(hdf5(tmp_path / "x.hdf5")), load(hdf5(tmp_path / "y.hdf5", **filters))
    assert plain.fingerprint == packed.fingerprint


@pytest.mark.parametrize("suffix", [".hdf5", ".npz"])
@pytest.mark.parametrize("name", ["terminals", "timeouts"])
def test_a_flag_is_one_bit_however_many_the_file_holds(tmp_path: Path, suffix: str, name: str) -> None:
    data = fields()
    data[name] = np.full(ROWS, 55, np.uint8).view(bool)
    path = tmp_path / f"x{suffix}"
    if suffix == ".npz":
        np.savez(path, **data)
    else:
        hdf5(path, lambda file: file[name].write_direct(data[name]))
    assert f"{name} is the byte 55 in row 0" in complaint(path)


@pytest.mark.parametrize("suffix", [".hdf5", ".npz"])
def test_a_misspelt_optional_array_is_not_left_out_in_silence(tmp_path: Path, suffix: str) -> None:
    data = fields()
    data["timeoutz"] = data.pop("timeouts")
    path = tmp_path / f"x{suffix}"
    if suffix == ".npz":
        np.savez(path, **data)
    else:
        hdf5(path, lambda file: file.move("timeouts", "timeoutz"))
    assert "'timeoutz' is unknown, 'timeouts' is missing" in complaint(path)


def test_a_float_of_an_odd_format_is_refused(tmp_path: Path) -> None:
    odd = h5py.h5t.IEEE_F32LE.copy()
    odd.set_ebias(100)  # one flipped byte of the number format: every value would be 2 ** 27 times another

    def change(file: h5py.File) -> None:
        del file["rewards"]
        space = h5py.h5s.create_simple((ROWS,))
        made = h5py.h5d.create(file.id, b"rewards", odd, space)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(ROWS, np.float32))

    assert "rewards has a" in complaint(hdf5(tmp_path / "x.hdf5", change))


def test_hdf5_bombs_are_refused_unread(tmp_path: Path) -> None:
    # 32 GiB of observations from 33 MB, within what deflate could do and within the memory of a large machine
    def everything(file: h5py.File) -> None:
        for name, array in fields().items():
            shape = (2**24, 500) if array.ndim == 2 else (2**24,)
            del file[name]
            made = file.create_dataset(name, shape, "f4", chunks=(2**20, *shape[1:]), compression="gzip")
            for start in range(0, 2**24, 2**20):
                made.id.write_direct_chunk((start, *[0] * (len(shape) - 1)), bytes(2**21 if array.ndim == 2 else 2**13))

    assert "GiB" in complaint(hdf5(tmp_path / "x.hdf5", everything))
    # a small array in a chunk of 2 GiB, which the library would unpack whole
    wide = put("observations", shape=(ROWS, 5), maxshape=(None, 5), chunks=(2**27, 5), dtype="f4", compression="gzip")

    def chunk(file: h5py.File) -> None:
        wide(file)
        file["observations"].id.write_direct_chunk((0, 0), bytes(3_000_000))

    assert "chunks of 2684354560 bytes" in complaint(hdf5(tmp_path / "y.hdf5", chunk))


def zeros_npy(rows: int, width: int) -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (rows, width) if width else (rows,)}
    )
    return header.getvalue()


def npz_bomb(path: Path, shapes: dict[str, tuple[int, int]]) -> Path:
    block = bytes(2**20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (rows, width) in shapes.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                entry.write(zeros_npy(rows, width))
                left = 4 * rows * max(width, 1)
                while left:
                    left -= entry.write(block[: min(left, len(block))])
    return path


def test_npz_bombs_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aspc_fast.data.checks.FREE_FILE_BYTES", 2**24)  # a bomb a test can afford to build
    rows = 2**19
    shapes = {"observations": (rows, 24), "actions": (rows, 2), "rewards": (rows, 0), "terminals": (rows, 0)}
    assert "not unpacked" in complaint(npz_bomb(tmp_path / "x.npz", shapes))
    with pytest.raises(UserError, match="not unpacked"):
        read_trace(npz_bomb(tmp_path / "t.npz", {"meta_json": (rows, 0), "batch/state": (rows, 24)}))


def test_a_trace_that_claims_more_than_it_holds_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta_json.npy", zeros_npy(2**40, 0))
    with pytest.raises(UserError, match=r"declares the shape \(1099511627776,\)"):
        read_trace(path)
