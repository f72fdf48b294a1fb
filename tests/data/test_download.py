"""Downloads against a local server: resume, several sources, refusal of wrong files, checksums, no network."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from aspc_fast.data import download, load, transfer
from aspc_fast.errors import UserError
from aspc_fast.suite import BY_ID

pytest.importorskip("requests")
ID = "hopper-medium-v2"


class Server:
    """Serves ``files``; cuts the first answers short by ``cuts`` bytes left; notes the requests."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.ranges: list[str | None] = []
        self.resumable = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                body = outer.files.get(self.path)
                outer.ranges.append(self.headers.get("Range"))
                if body is None:
                    return self.send_error(404)
                tag = f'"{hash(body)}"'
                start = 0
                if outer.resumable and self.headers.get("Range") and self.headers.get("If-Range") == tag:
                    start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(body) - start))
                self.send_header("ETag", tag)
                self.end_headers()
                end = outer.cuts.pop(0) if outer.cuts else len(body)
                self.wfile.write(body[start:end])
                return None

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.httpd.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.httpd.server_port}"


def dataset(rows: int = 60, obs_dim: int = 11) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(rows)
    return {
        "observations": rng.normal(size=(rows, obs_dim)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 3)).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.arange(rows) % 20 == 19,
        "timeouts": np.zeros(rows, bool),
    }


def hdf5_bytes(path: Path, **shape: int) -> bytes:
    with h5py.File(path, "w") as file:
        for name, array in dataset(**shape).items():
            file.create_dataset(name, data=array)
    return path.read_bytes()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    serving = Server()
    row = replace(BY_ID[ID], transitions=60)
    monkeypatch.setitem(BY_ID, ID, row)
    monkeypatch.setattr(download, "sources", lambda row: [f"{serving.url}/first", f"{serving.url}/second"])
    monkeypatch.setattr(transfer, "BLOCK", 250)  # what a broken connection may lose
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    serving.files["/first"] = hdf5_bytes(tmp_path / "source.hdf5")
    yield serving
    serving.httpd.shutdown()
    serving.httpd.server_close()


def get(folder: Path) -> Path:
    return download.get(ID, data_dir=folder, progress=False)


def test_get_places_the_file_and_its_checksum(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    path = get(folder)
    assert path.read_bytes() == server.files["/first"]
    assert sorted(item.name for item in folder.iterdir()) == ["checksums.json", f"{ID}.hdf5"]
    entry = json.loads((folder / "checksums.json").read_text())[path.name]
    assert entry["sha256"] == download.sha256(path) and entry["origin"].endswith("/first")
    data = load.load(ID, data_dir=folder)
    assert len(data) == 59 and data.dataset_id == ID and data.env == "Hopper-v4"
    assert get(folder) == path and len(server.ranges) == 1


def test_a_cut_download_is_resumed(server: Server, tmp_path: Path) -> None:
    server.cuts, server.files["/second"] = [1000], server.files["/first"][:500]
    whole = server.files["/first"]
    with pytest.raises(UserError, match=r"/first \(the connection broke; what has arrived is kept\) and .*/second"):
        get(tmp_path / "data")
    assert get(tmp_path / "data").read_bytes() == whole
    assert sorted(item.name for item in (tmp_path / "data").iterdir()) == ["checksums.json", f"{ID}.hdf5"]
    assert server.ranges == [None, None, "bytes=1000-"]


@pytest.mark.parametrize("change", ["no ranges", "new version"])
def test_a_resume_never_glues_two_versions(server: Server, tmp_path: Path, change: str) -> None:
    server.cuts, server.resumable = [1000], change != "no ranges"
    with pytest.raises(UserError):
        get(tmp_path / "data")
    if change == "new version":
        server.files["/first"] = hdf5_bytes(tmp_path / "newer.hdf5", rows=60)[:-8] + bytes(8)
    assert get(tmp_path / "data").read_bytes() == server.files["/first"]


def test_the_second_source_serves_when_the_first_does_not(server: Server, tmp_path: Path) -> None:
    server.files["/second"] = server.files.pop("/first")
    get(tmp_path / "data")
    entry = json.loads((tmp_path / "data" / "checksums.json").read_text())[f"{ID}.hdf5"]
    assert entry["origin"].endswith("/second")


@pytest.mark.parametrize("kind", ["text", "fewer rows", "other task"])
def test_a_wrong_file_is_not_put_in_place(server: Server, tmp_path: Path, kind: str) -> None:
    shape = {"fewer rows": {"rows": 50}, "other task": {"obs_dim": 17}}.get(kind, {})
    told = {"text": r"not the dataset: .*is not an HDF5 file \(18 bytes\)"}.get(kind, "not the dataset: .* has shape")
    body = b"<html>moved</html>" if kind == "text" else hdf5_bytes(tmp_path / "wrong.hdf5", **shape)
    server.files["/first"] = server.files["/second"] = body
    with pytest.raises(UserError, match=told):
        get(tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_file_changed_later_is_noticed(server: Server, tmp_path: Path) -> None:
    path = get(tmp_path / "data")
    path.write_bytes(hdf5_bytes(tmp_path / "other.hdf5", rows=61))
    for attempt in (lambda: get(tmp_path / "data"), lambda: load.load(ID, data_dir=tmp_path / "data")):
        with pytest.raises(UserError, match="sha256"):
            attempt()


def test_a_file_put_by_hand_under_d4rls_name_is_taken(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "hopper_medium-v2.hdf5"
    path.write_bytes(server.files["/first"])
    assert load.load(ID, data_dir=tmp_path).dataset_id == ID
    assert get(tmp_path) == path and download.recorded(path) == download.sha256(path)
    assert server.ranges == []


def test_without_network_the_sentence_says_what_failed_and_what_to_do(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "sources", lambda row: ["http://127.0.0.1:9/a.hdf5", "http://127.0.0.1:9/b.hdf5"])
    with pytest.raises(UserError) as caught:
        get(tmp_path / "data")
    text = str(caught.value)
    assert "\n" not in text and "http://127.0.0.1:9/a.hdf5 (cannot be reached)" in text
    assert str(tmp_path / "data" / f"{ID}.hdf5") in text and "hopper_medium-v2.hdf5" in text
    assert list((tmp_path / "data").iterdir()) == []


def test_a_folder_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        get(tmp_path / "file")


def test_a_full_disk_ends_the_suite_at_once(
    server: Server, three: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(url: str, *_: object) -> None:
        server.ranges.append(url)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "fetch", full)
    with pytest.raises(UserError, match=f"{three[0]}.hdf5: cannot be written: No space left on device"):
        download.get_all([BY_ID[name] for name in three], data_dir=tmp_path, progress=False)
    assert len(server.ranges) == 1


def test_damaged_checksums_are_reported(server: Server, tmp_path: Path) -> None:
    get(tmp_path)
    (tmp_path / "checksums.json").write_text("{")
    with pytest.raises(UserError, match=r"checksums\.json"):
        load.load(ID, data_dir=tmp_path)


def test_unknown_ids() -> None:
    with pytest.raises(UserError, match="nearest: hopper-medium-v2"):
        download.get("hoper-medium-v2")


def test_data_folder_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ASPC_FAST_DATA", str(tmp_path / "here"))
    assert load.default_data_dir() == tmp_path / "here"
    monkeypatch.delenv("ASPC_FAST_DATA")
    assert load.default_data_dir() == Path.home() / ".cache" / "aspc_fast" / "datasets"


@pytest.fixture
def three(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A suite of three datasets on the server."""
    rows = [replace(BY_ID[ID], id=f"hopper-part{i}-v2", transitions=60 + i) for i in range(3)]
    for i, row in enumerate(rows):
        monkeypatch.setitem(BY_ID, row.id, row)
        server.files[f"/{row.id}"] = hdf5_bytes(tmp_path / f"{i}.hdf5", rows=60 + i)
    monkeypatch.setattr(download, "sources", lambda row: [f"{server.url}/{row.id}"])
    monkeypatch.setattr("aspc_fast.cli.data.SUITE", tuple(rows))
    return [row.id for row in rows]


def test_a_suite_goes_on_where_it_was_and_names_what_is_missing(
    server: Server, three: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from aspc_fast.cli.data import get as command

    folder = tmp_path / "all"
    gone = server.files.pop(f"/{three[1]}")
    server.cuts = [10**9, 5000]
    with pytest.raises(UserError, match=f"1 of 3 datasets are here; not {three[1]}, {three[2]}: the same command"):
        command(suite="d4rl39", data_dir=folder)
    said = capsys.readouterr().out
    assert "404" in said and "the connection broke" in said
    server.files[f"/{three[1]}"] = gone
    asked = len(server.ranges)
    command(suite="d4rl39", data_dir=folder)
    assert "all 3 datasets are here" in capsys.readouterr().out
    # the first was here, the second comes whole, the third from where it broke off
    assert server.ranges[asked:] == [None, "bytes=5000-"]
    assert sorted(path.stem for path in folder.glob("*.hdf5")) == three
    for name in three:
        assert (folder / f"{name}.hdf5").read_bytes() == server.files[f"/{name}"]
    command(suite="d4rl39", data_dir=folder)
    assert len(server.ranges) == asked + 2


@pytest.mark.parametrize("words", [{}, {"dataset_id": ID, "suite": "d4rl39"}])
def test_get_needs_one_thing(words: dict[str, Any]) -> None:
    from aspc_fast.cli.data import get as command

    with pytest.raises(UserError, match="--suite d4rl39"):
        command(**words)


def test_one_line_tells_how_far_the_suite_has_come(
    server: Server, three: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    real = transfer.Line.begin

    def begin(self: transfer.Line, name: str, have: int = 0, total: int | None = None) -> None:
        shown.append(self.prefix + name)
        real(self, name, have, total)

    monkeypatch.setattr(transfer.Line, "begin", begin)
    download.get_all([BY_ID[name] for name in three], data_dir=tmp_path / "all", progress=False)
    assert [line.split("  ")[0] for line in shown] == [f"{i} of 3" for i in (1, 1, 2, 2, 3, 3)]
