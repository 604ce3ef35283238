"""Images that `blemish fleet inspect` looks at again: above a batch's threshold, or not fetched before; without Ray."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from blemish.errors import DataError
from blemish.fleet import judge, work
from blemish.fleet.inspect import Request, inspect_archive
from blemish.fleet.judge import Job, Judge
from blemish.fleet.manifest import find_images, write_manifest
from blemish.fleet.pieces import Piece
from blemish.fleet.stream import LostWorkError, Pool
from blemish.inference.predictor import Predictor
from conftest import draw_part

pyarrow = pytest.importorskip("pyarrow", reason="pip install 'blemish[fleet]'")
RATE = 0.7


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Work is done here, without Ray; the ids of the images that were judged, as they come."""
    ids: list[str] = []

    def judge_here(archive: Any, pieces: Sequence[Piece], job: Job, _pool: Pool) -> Iterator[Any]:
        judge_all = Judge(job)
        for piece in pieces:
            rows = piece.read(archive)
            ids.extend(row["id"] for row in rows)
            yield judge_all(pyarrow.Table.from_pylist(rows))

    monkeypatch.setattr("blemish.fleet.work.judged", judge_here)
    monkeypatch.setattr("blemish.fleet.inspect.connected", lambda *_args: nullcontext())
    monkeypatch.setattr("blemish.fleet.inspect.make_pool", lambda *_args: Pool(1))
    return ids


@pytest.fixture
def request_of(tmp_path: Path, onnx_file: Path) -> Request:
    """Two products with four images each, of which two are noise, and a file that is no image."""
    rng, images = np.random.default_rng(3), tmp_path / "images"
    for product in ("bolt", "nut"):
        (tmp_path / "registry" / product).mkdir(parents=True)
        (images / product).mkdir(parents=True)
        shutil.copy(onnx_file, tmp_path / "registry" / product / "model.onnx")
        for place in range(4):
            noise = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
            (noise if place > 1 else draw_part(rng)[0]).save(images / product / f"{place}.png")
    (images / "nut" / "text.png").write_text("no image")
    write_manifest(find_images(images), tmp_path / "m.parquet")
    return Request(tmp_path / "m.parquet", tmp_path / "registry", tmp_path / "out", shard_rows=3)


def rows_of(request: Request) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in pyarrow.parquet.read_table(request.out / "results.parquet").to_pylist()}


@pytest.mark.slow
def test_regions_and_masks_of_a_batch_are_those_at_its_threshold(
    request_of: Request, judged: list[str], onnx_file: Path
) -> None:
    request = replace(request_of, max_false_discovery_rate=RATE, masks=True)
    summary = inspect_archive(request)
    rows = rows_of(request)
    flagged = {name: row for name, row in rows.items() if row["verdict"] == "anomalous"}
    assert 0 < len(flagged) < len(rows) - 1
    assert len(judged) == len(rows) + len(flagged)  # each once, and what is above the threshold once more
    assert summary.judged == len(rows)
    masks = {path.stem: path for path in (request.out / "masks").rglob("*.png")}
    assert masks.keys() == {row["image_sha256"] for row in flagged.values()}
    predictor = Predictor.load(onnx_file)
    for row in flagged.values():
        threshold = summary.thresholds[row["product"]]
        wanted = predictor.with_threshold(threshold).predict(row["path"])
        assert (row["threshold"], row["region_count"]) == (threshold, len(wanted.regions))
        areas = [region["area_px"] for region in json.loads(row["regions"])]  # of the largest
        assert areas == [region.area_px for region in wanted.regions[: len(areas)]]
        assert (np.asarray(Image.open(masks[row["image_sha256"]])) == wanted.defect_mask).all()
    good = [row for row in rows.values() if row["verdict"] == "good"]
    assert {(row["region_count"], row["regions"]) for row in good} == {(0, "[]")}
    assert rows["nut/text.png"]["regions"] is None

    judged.clear()
    inspect_archive(request)
    assert rows_of(request) == rows
    inspect_archive(replace(request, masks=False))  # regions alone are another second look
    assert rows_of(request) == rows
    assert sorted(judged) == sorted(flagged)


def test_an_image_that_ends_its_worker_each_time_keeps_no_other_shard_from_being_judged(
    request_of: Request, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    judge_here = work.judged

    def judge_until_it_comes(archive: Any, pieces: Sequence[Piece], job: Job, pool: Pool) -> Iterator[Any]:
        for piece in pieces:
            if any(row["id"] == "bolt/1.png" for row in piece.read(archive)):
                raise LostWorkError("the actor died")
            yield from judge_here(archive, [piece], job, pool)

    monkeypatch.setattr(work, "judged", judge_until_it_comes)
    with pytest.raises(DataError, match=r"3 times in a row workers were lost .* last at shard 0 \(bolt\)"):
        inspect_archive(request_of)
    assert len(judged) == len(set(judged)) == 9 - 3
    monkeypatch.setattr(work, "judged", judge_here)
    assert inspect_archive(request_of).judged == 3


def test_results_with_masks_serve_where_none_are_asked_for(request_of: Request, judged: list[str]) -> None:
    inspect_archive(replace(request_of, masks=True))
    wanted = rows_of(request_of)
    judged.clear()
    inspect_archive(request_of)
    assert not judged
    assert rows_of(request_of) == wanted
    summary = inspect_archive(replace(request_of, masks=True, max_false_discovery_rate=RATE))
    assert (summary.judged, summary.forgotten) == (0, 0)
    assert len(judged) == summary.total("anomalous")


def test_an_image_that_changed_between_two_looks_has_no_regions(
    request_of: Request, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = judge.fetch, dict[str, int]()

    def fetch(location: str) -> bytes:
        seen[location] = seen.get(location, 0) + 1
        if seen[location] == 2:
            raise DataError(f"{location}: no such file")
        return real(location)

    monkeypatch.setattr(judge, "fetch", fetch)
    inspect_archive(replace(request_of, max_false_discovery_rate=RATE))
    flagged = [row for row in rows_of(request_of).values() if row["verdict"] == "anomalous"]
    assert flagged
    for row in flagged:
        assert row["regions"] is None
        assert "no regions, as looked at again:" in row["message"]
        assert "no such file" in row["message"]


def unreachable(monkeypatch: pytest.MonkeyPatch, *names: str) -> Callable[[], None]:
    """These images cannot be fetched, until what is returned is called."""
    real, down = judge.fetch, set(names)

    def fetch(location: str) -> bytes:
        if Path(location).name in down:
            raise DataError(f"{location}: cannot be fetched (Timeout), tried 3 times")
        return real(location)

    monkeypatch.setattr(judge, "fetch", fetch)
    return down.clear


@pytest.mark.slow
def test_what_was_not_fetched_alone_is_tried_again_by_the_same_command(
    request_of: Request, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect_archive(request_of)
    wanted, names = rows_of(request_of), ["bolt/1.png", "nut/1.png"]
    shutil.rmtree(request_of.out)
    repair = unreachable(monkeypatch, "1.png")
    assert inspect_archive(request_of).total("not fetched") == 2
    assert {name for name, row in rows_of(request_of).items() if "tried 3 times" in row["message"]} == set(names)
    judged.clear()
    assert inspect_archive(request_of).total("not fetched") == 2  # still away
    assert sorted(judged) == names
    repair()
    judged.clear()
    assert inspect_archive(request_of).judged == 2
    assert sorted(judged) == names
    found = rows_of(request_of)
    assert {name: row | {"latency_ms": None} for name, row in found.items()} == {
        name: row | {"latency_ms": None} for name, row in wanted.items()
    }
    judged.clear()
    assert inspect_archive(request_of).judged == 0
    assert not judged
    assert not list(request_of.out.glob("shards/*-again.parquet"))


def test_a_shard_is_not_there_twice_after_a_run_that_ended_while_it_was_replaced(
    request_of: Request, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable(monkeypatch, "1.png")()
    inspect_archive(request_of)
    (plain, *_) = sorted(request_of.out.glob("shards/*.parquet"))
    twin = plain.with_name(f"{plain.stem}-again.parquet")
    shutil.copy(plain, twin)
    judged.clear()
    inspect_archive(request_of)
    assert not judged
    assert not twin.exists()
