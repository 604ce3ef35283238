"""Manifests of archives: written and read again, refused where they are wrong."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from blemish.errors import BlemishError, DataError, SettingsError
from blemish.fleet.archive import open_archive
from blemish.fleet.manifest import ManifestRow, find_images, read_manifest, write_manifest
from reference.command import run

pyarrow = pytest.importorskip("pyarrow", reason="pip install 'blemish[fleet]'")
pytest.importorskip("pyarrow.parquet")


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_manifest_reads_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    names = ("nut/=1+2.png", "nut/a,b.png", "nut/x/c.jpg", "bolt/ä.png")
    folder = folder_of(tmp_path / "images", *names, "__MACOSX/nut/a.png", "nut/@eaDir/a,b.png/THUMB.jpg")
    path = tmp_path / f"m.{suffix}"
    assert write_manifest(find_images(folder), path) == 4
    rows = list(read_manifest(path))
    assert rows == [
        ManifestRow(name, str(folder / name), name.partition("/")[0]) for name in (names[3], *sorted(names[:3]))
    ]
    assert write_manifest(find_images(folder / "nut", "nut"), path) == 3  # its own is replaced


def test_paths_have_no_dots_that_need_a_folder_which_another_machine_may_not_have(tmp_path: Path) -> None:
    folder_of(tmp_path, "images/nut/a.png", "here/b.png", "elsewhere/below/b.png")
    (row,) = find_images(tmp_path / "here/../images")
    assert row.path == str(tmp_path / "images/nut/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere/below")
    (row,) = find_images(tmp_path / "link/../below", "nut")  # as the system goes: from where the link leads
    assert row.path == str(tmp_path / "elsewhere/below/b.png")
    (row,) = find_images(tmp_path / "link", "nut")
    assert row.path == str(tmp_path / "link/b.png")


def test_a_uri_and_another_column_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("\ufeffproduct,day,path,id\r\nnut,1,s3://bucket/a.png,7\r\n\r\n", encoding="utf-8")
    assert list(read_manifest(path)) == [("7", "s3://bucket/a.png", "nut")]


def test_masks_are_no_images_of_a_product(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "nut/train/good/a.png", "nut/test/cut/b.png", "nut/ground_truth/cut/b.png")
    for rows in (find_images(folder), find_images(folder / "nut", "nut")):
        assert [Path(row.path).relative_to(folder).parts[1] for row in rows] == ["test", "train"]


BAD: dict[str, tuple[bytes, str]] = {
    "m.csv": (b"id,path\n1,a.png\n", "no column product"),
    "empty.csv": (b"", "no column id"),
    "short.csv": (b"id,path,product\n1,a.png\n", "line 2 has 2 cells"),
    "comma.csv": (b"id,path,product\n1,a, b.png,nut\n", "line 2: 4 cells, where the header has 3"),
    "hole.csv": (b"id,path,product\n1,a.png,nut\n2,,nut\n", "image 2 has no path"),
    "latin.csv": (b"id,path,product\n1,\xe4.png,nut\n", "not a CSV file in UTF-8"),
    "long.csv": (b"id,path,product\n1," + b"a" * 200_000 + b",nut\n", "not a CSV file"),
    "m.parquet": (b"PAR1 is no Parquet file", "not a Parquet file"),
    "m.txt": (b"id,path,product\n", "ends with .csv or .parquet"),
}


def test_what_a_spreadsheet_leaves_around_a_table_is_no_row(tmp_path: Path) -> None:
    for sign in (b",", b";"):
        table = b"\xef\xbb\xbfid, path,product,\r\n1,a.png,nut,\r\n,,,\r\n\r\n"
        (tmp_path / "m.csv").write_bytes(table.replace(b",", sign))
        assert [tuple(row) for row in read_manifest(tmp_path / "m.csv")] == [("1", "a.png", "nut")]


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_manifest_is_named_in_one_error(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BlemishError, match=message) as error:
        list(read_manifest(tmp_path / name))
    assert str(tmp_path / name) in str(error.value)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    for name in ("none.csv", "none.parquet"):
        with pytest.raises(DataError, match=name):
            list(read_manifest(tmp_path / name))


WRONG_FOLDERS: dict[str, Callable[[Path], Path]] = {
    "no such folder": lambda root: root / "none",
    "no images in it": lambda root: folder_of(root / "b", "nut/a.txt"),
    "in no sub-folder": lambda root: folder_of(root / "c", "nut/a.png", "beside.png"),
}


@pytest.mark.parametrize("message", WRONG_FOLDERS)
def test_a_folder_without_products_is_refused_and_nothing_is_written(tmp_path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write_manifest(find_images(WRONG_FOLDERS[message](tmp_path)), tmp_path / "m.parquet")
    printed = run("fleet", "manifest", WRONG_FOLDERS[message](tmp_path / "again"))
    assert (printed.exit_code, printed.stdout) == (2, "")  # a header alone would be a manifest
    assert not list(tmp_path.glob("*.parquet"))


def test_a_file_of_others_is_not_replaced(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "images", "nut/a.png")
    pyarrow.parquet.write_table(pyarrow.table({"id": ["mine"]}), tmp_path / "m.parquet")
    (tmp_path / "m.csv").write_text("name,price\n")
    for name in ("m.parquet", "m.csv"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(DataError, match="blemish did not write that"):
            write_manifest(find_images(folder), tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


def test_a_product_that_no_registry_can_have_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--product 'a/b': has '/' in its name"):
        list(find_images(folder_of(tmp_path, "a.png"), "a/b"))
    with pytest.raises(DataError, match=r"nut\.: a product's name, which is empty, or has a space or a dot at an end"):
        list(find_images(folder_of(tmp_path / "images", "nut./a.png")))


def test_train_and_test_are_no_products(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "train/good/1.png", "test/scratch/2.png", "ground_truth/scratch/2_mask.png")
    with pytest.raises(DataError, match="train or test images of one product"):
        list(find_images(folder))
    assert [row.product for row in find_images(folder / "test", "nut")] == ["nut"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_manifest_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.csv")
    with pytest.raises(DataError, match=r"m\.csv: cannot be read: a device or a pipe, not a file"):
        open_archive(tmp_path / "archive.sqlite", tmp_path / "m.csv", 256)
