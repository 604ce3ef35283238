"""A data check: each kind of trouble is found by name, and a clean set passes."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from blemish.data.duplicates import SIDE, fingerprint, near_duplicates
from blemish.data.folder import Sample
from blemish.data.progress import Progress
from blemish.errors import DataError, SettingsError
from blemish.evaluation.data_check import look
from blemish.evaluation.data_check.content import Content
from blemish.evaluation.data_check.data_check import DataCheck, check_data, thumbnails, to_content, write_check
from blemish.evaluation.data_check.findings import CheckedImage, PhotoFacts, size_findings, still_findings
from blemish.training.settings import make_settings
from conftest import draw_discs, draw_part, write_parts
from reference.command import run
from reference.schema import misfits

SIZE = ["data.size_px=[64, 64]"]


def checked(root: Path, *assignments: str) -> DataCheck:
    return check_data(root, make_settings(assignments=[*SIZE, *assignments]))


def found(result: DataCheck, kind: str) -> dict[tuple[str, ...], str]:
    """What was said, by paths."""
    return {finding.paths: finding.severity for finding in result.findings if finding.kind == kind}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A flat folder of good parts."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for place in range(14):
        draw_part(rng)[0].save(folder / f"{place:03}.png")
    return folder


def test_a_clean_set_passes(shared_parts: Path) -> None:
    result = checked(shared_parts)
    assert result.findings == ()
    assert not result.must_look
    assert len(result.images) == 20
    assert len(result.oddness) == 16  # the good ones, to train and to test on


def test_frames_of_a_single_part_are_found(photos: Path) -> None:
    rng = np.random.default_rng(1)
    with Image.open(photos / "000.png") as image:
        part = np.asarray(image, float).repeat(4, axis=0).repeat(4, axis=1)
    for path in photos.iterdir():
        Image.fromarray(np.uint8(np.clip(part + rng.normal(0, 1.5, part.shape), 0, 255))).save(path)
    result = checked(photos)
    findings = [one.message for one in result.findings if one.kind == "near duplicate" and not one.paths]
    assert [text.partition(" do:")[0] for text in findings] == [
        "14 good images hardly differ but for noise, as frames of a single part"
    ]
    assert still_findings(result.images, {one.sample.name: "one" for one in result.images}) == []


def test_it_says_which_images_were_judged_for_what(shared_parts: Path, tmp_path: Path) -> None:
    settings = make_settings(assignments=SIZE)
    _, page = write_check(check_data(shared_parts, settings), settings, tmp_path / "out")
    text = " ".join(page.read_text().split())
    assert "<p>Nothing stands out.</p>" in text
    assert (
        "16 good images were compared with each other for defects, blur and light; 4 defective images were looked"
        in text
    )


def test_a_check_is_the_same_however_many_photos_are_looked_at_at_once(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "junk.png").write_bytes(b"junk")
    settings = make_settings(assignments=SIZE)
    contents = []
    for workers in (1, 3):
        monkeypatch.setattr(look, "MAX_WORKERS", workers)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        contents.append(to_content(check_data(photos, settings), settings))
    assert is_same(*contents)


def is_same(one: Any, other: Any) -> bool:
    """But for the last digits of numbers, which hang on where in memory they are computed."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == (pytest.approx(other, rel=1e-3) if isinstance(one, float) else other))


def test_progress_counts_photos_and_then_comparisons_and_an_interrupt_leaves_no_work_behind(photos: Path) -> None:
    told: list[Progress] = []
    check_data(photos, make_settings(assignments=SIZE), told.append)
    assert [(one.what, one.done, one.total) for one in told] == [
        *(("looking", done, 14) for done in range(1, 15)),
        *(("comparing", done, 10) for done in range(1, 11)),
    ]

    def stop(_progress: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_data(photos, make_settings(assignments=SIZE), stop)
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("look_")] == []


def test_a_defect_among_the_good_comes_out_on_top(photos: Path) -> None:
    rng = np.random.default_rng(5)
    draw_part(rng, defect=True)[0].save(photos / "sneaked_in.png")
    result = checked(photos)
    assert next(iter(result.oddness)) == "sneaked_in.png"
    assert found(result, "odd one") == {("sneaked_in.png",): "look"}


def test_unreadable_files_are_named(photos: Path) -> None:
    (photos / "junk.png").write_bytes(b"junk")
    (photos / "cut.png").write_bytes((photos / "000.png").read_bytes()[:3000])
    assert found(checked(photos), "unreadable") == {("junk.png",): "look", ("cut.png",): "look"}


def test_copies_are_named_by_where_they_lie(parts: Path) -> None:
    shutil.copy(parts / "train/good/000.png", parts / "train/good/copy.png")
    shutil.copy(parts / "train/good/001.png", parts / "test/good/leak.png")
    shutil.copy(parts / "test/bar/000.png", parts / "test/good/mixed_up.png")
    shutil.copy(parts / "test/good/000.png", parts / "test/good/again.png")
    messages = {finding.paths: finding for finding in checked(parts).findings if finding.kind == "duplicate"}
    assert "keep one" in messages["train/good/000.png", "train/good/copy.png"].message
    assert "in train and in test" in messages["train/good/001.png", "test/good/leak.png"].message
    assert "called good and others defective" in messages["test/bar/000.png", "test/good/mixed_up.png"].message
    assert messages["test/good/000.png", "test/good/again.png"].severity == "note"


def test_near_copies_are_found_and_do_not_judge_each_other(photos: Path) -> None:
    draw_part(np.random.default_rng(5), defect=True)[0].save(photos / "defect.png")
    with Image.open(photos / "defect.png") as defect:
        defect.point(lambda value: min(255, value + 3)).save(photos / "defect_again.png")
    result = checked(photos)
    assert found(result, "near duplicate") == {("defect.png", "defect_again.png"): "look"}
    assert set(list(result.oddness)[:2]) == {"defect.png", "defect_again.png"}


def test_a_copy_is_called_turned_though_the_texture_behind_it_lies_still(photos: Path) -> None:
    """As on a conveyor whose weave looks the same turned by 180 degrees."""
    rng = np.random.default_rng(2)
    weave = rng.normal(0, 12, (48, 64))
    weave += weave[::-1, ::-1]
    for path in sorted(photos.iterdir()):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L").resize((64, 48)), np.float64) + rng.normal(0, 12, (48, 64))
        Image.fromarray(np.uint8(np.clip(pixels + weave, 0, 255))).save(path)
    with Image.open(photos / "003.png") as image:
        image.transpose(Image.Transpose.ROTATE_180).save(photos / "copy.png")
    (finding,) = (one for one in checked(photos).findings if "copy.png" in one.paths and one.kind == "near duplicate")
    assert finding.paths == ("003.png", "copy.png")
    assert "turned by 180" in finding.message


@pytest.mark.slow
def test_smooth_round_parts_are_no_near_duplicates_of_each_other_but_their_copies_are(tmp_path: Path) -> None:
    discs = draw_discs(12)
    for place, disc in enumerate(discs):
        disc.save(tmp_path / f"{place:02}.png")
    prints = np.stack([fingerprint(np.asarray(disc, np.float32) / 255) for disc in discs])
    assert near_duplicates(prints)  # at 64 pixels some rims lie on each other
    assert found(checked(tmp_path), "near duplicate") == {}
    discs[3].transpose(Image.Transpose.ROTATE_90).save(tmp_path / "copy.jpg", quality=85)
    assert found(checked(tmp_path), "near duplicate") == {("03.png", "copy.jpg"): "look"}


def test_photos_of_one_group_may_be_alike_and_do_not_judge_each_other(photos: Path) -> None:
    for place in range(14):
        (photos / f"{place:03}.png").rename(photos / f"part{place}_a.png")
    for place, seed in enumerate((5, 6)):
        draw_part(np.random.default_rng(seed), defect=True)[0].save(photos / f"part99_{'ab'[place]}.png")
    shutil.copy(photos / "part3_a.png", photos / "part3_b.png")
    grouped = checked(photos, r"data.groups=part(\d+)_")
    assert found(grouped, "duplicate") == {("part3_a.png", "part3_b.png"): "note"}
    assert found(checked(photos), "duplicate") == {("part3_a.png", "part3_b.png"): "look"}
    assert set(list(grouped.oddness)[:2]) == {"part99_a.png", "part99_b.png"}


def test_blurred_and_badly_lit_photos_are_named(photos: Path) -> None:
    with Image.open(photos / "003.png") as photo:
        photo.filter(ImageFilter.GaussianBlur(2)).save(photos / "003.png")
    with Image.open(photos / "007.png") as photo:
        photo.point(lambda value: value // 2).save(photos / "007.png")
    result = checked(photos)
    assert ("003.png",) in found(result, "blur")
    assert ("007.png",) in found(result, "exposure")


def test_mixed_sizes_kinds_and_odd_files_are_named(photos: Path) -> None:
    rng = np.random.default_rng(9)
    draw_part(rng)[0].convert("L").save(photos / "grey.png")
    draw_part(rng, side=66)[0].save(photos / "larger.png")
    draw_part(rng)[0].resize((64, 48)).save(photos / "flat.png")
    draw_part(rng)[0].save(photos / "named.jpg", format="PNG")
    (photos / "movie.avi").write_bytes(b"")
    (photos / "readme.txt").write_text("hello")
    (photos / "gone.png").symlink_to(photos / "nowhere.png")
    (photos / "below").mkdir()
    (photos / "linked").symlink_to(photos / "below")
    draw_part(rng)[0].save(photos / "below/deep.png")
    result = check_data(photos, make_settings(assignments=["data.side_px=64"]))
    assert found(result, "channels") == {("grey.png",): "look"}
    assert found(result, "size") == {("flat.png",): "look", ("larger.png",): "note"}
    assert found(result, "odd file") == {
        ("below/deep.png",): "look",
        ("linked",): "look",
        ("movie.avi",): "note",
    }
    assert found(result, "unreadable") == {("gone.png",): "look"}
    assert found(result, "format") == {("named.jpg",): "note"}
    assert "flat.png" not in result.oddness  # training would refuse it


def test_types_without_images_are_told(parts: Path) -> None:
    (parts / "test/dent").mkdir()
    (parts / "ground_truth/cut").mkdir()
    shutil.copy(parts / "ground_truth/bar/000_mask.png", parts / "ground_truth/cut/000.png")
    said = [finding.message.partition(";")[0] for finding in checked(parts).findings if finding.kind == "odd file"]
    assert said == ["ground_truth/cut: 1 mask, of no test image", "test/dent: no images"]


def test_bad_masks_and_a_bad_layout_do_not_stop_the_check(parts: Path) -> None:
    Image.new("L", (64, 64)).save(parts / "ground_truth/bar/000_mask.png")
    assert found(checked(parts), "mask") == {("test/bar/000.png",): "look"}
    (parts / "ground_truth/bar/001_mask.png").unlink()
    result = checked(parts)
    assert found(result, "layout") == {(): "look"}
    assert len(result.images) == 12


def test_few_images_are_checked_but_not_compared(photos: Path) -> None:
    for place in range(9):
        (photos / f"{place:03}.png").unlink()
    result = checked(photos)
    assert result.oddness == {}
    assert found(result, "few") == {(): "note"}
    assert not result.must_look


@pytest.mark.slow
def test_what_lies_outside_the_region_is_not_strange(photos: Path) -> None:
    with Image.open(photos / "002.png") as photo:
        photo.paste((255, 255, 255), (0, 0, 12, 12))
        photo.save(photos / "002.png")
    assert next(iter(checked(photos).oddness)) == "002.png"
    inside = "data.roi=[[0.2, 0.2], [0.8, 0.2], [0.8, 0.8], [0.2, 0.8]]"
    assert ("002.png",) not in found(checked(photos, inside), "odd one")


@pytest.mark.slow
def test_tiles_are_looked_at_one_by_one(photos: Path) -> None:
    draw_part(np.random.default_rng(5), defect=True)[0].save(photos / "sneaked_in.png")
    result = checked(photos, "data.tile_px=[32, 48]", "data.tile_overlap_px=16")
    assert next(iter(result.oddness)) == "sneaked_in.png"
    assert result.maps.of("sneaked_in.png").shape == (64, 64)


def test_bad_input_is_refused(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        checked(tmp_path / "none")
    with pytest.raises(SettingsError, match="multiples of 16"):
        check_data(photos, make_settings(assignments=["data.size_px=[64, 72]"]))
    with pytest.raises(SettingsError, match=r"data\.roi: polygon 1 of 1 has no area"):
        checked(photos, "data.roi=[[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]]")
    for path in photos.iterdir():
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="none of its good images can be read"):
        checked(photos)


def test_the_page_and_the_json_say_the_same(photos: Path, tmp_path: Path) -> None:
    draw_part(np.random.default_rng(5), defect=True)[0].save(photos / "a & b.png")
    settings = make_settings(assignments=SIZE)
    result = check_data(photos, settings)
    results_path, report_path = write_check(result, settings, tmp_path / "out")
    content = json.loads(results_path.read_text())
    assert content == json.loads(json.dumps(to_content(result, settings)))
    assert misfits(content, Content) == []
    assert content["must_look"] is True
    assert content["to_look_at"] == {"odd one": 1}
    page = report_path.read_text()
    assert "Good images that look like a defect" in page
    assert "a &amp; b.png" in page
    assert page.count("data:image/jpeg") == 20  # the odd one and the nine strangest others, each with its heat
    assert page.count('<button class="enlarge"') == 20
    assert "://" not in page


@pytest.mark.slow
def test_every_picture_of_the_page_is_enlarged_by_a_click_and_by_a_key(chromium: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in range(9):
        draw_part(rng, side=800)[0].save(tmp_path / f"{place}.png")
    shutil.copy(tmp_path / "0.png", tmp_path / "copy.png")
    settings = make_settings(assignments=SIZE)
    _, report_path = write_check(check_data(tmp_path, settings), settings, tmp_path / "out")
    trouble: list[str] = []
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.on("pageerror", lambda error: trouble.append(str(error)))
    page.on("console", lambda said: trouble.append(said.text) if said.type == "error" else None)
    page.goto(report_path.as_uri())
    small, large = page.locator("main img"), page.locator("dialog#large img")
    assert small.count() == page.locator("main button.enlarge img").count() > 9
    kept = "all => all.every(one => one.getAttribute('width') == one.naturalWidth && one.getAttribute('height') > 0)"
    assert small.evaluate_all(kept)  # else the page moves when they are there
    for place, is_clicked in enumerate([True, False] * 2):
        picture = small.nth(place)
        before = picture.bounding_box()
        if is_clicked:
            picture.click()
        else:
            page.locator("main button.enlarge").nth(place).press("Enter")
        large.wait_for(state="visible")
        assert large.get_attribute("src") == picture.get_attribute("src")
        assert page.locator("dialog#large p").inner_text() == picture.get_attribute("alt")
        assert large.bounding_box()["height"] > 2 * before["height"]
        page.keyboard.press("Escape") if is_clicked else large.click()
        large.wait_for(state="hidden")
    assert trouble == []


@pytest.mark.slow
def test_the_command_ends_with_1_when_something_must_be_looked_at(photos: Path, tmp_path: Path) -> None:
    clean = run("data", "check", photos, "--set", SIZE[0])
    judged = "14 good images were compared with each other for defects, blur and light"
    assert (clean.exit_code, clean.stdout) == (0, f"nothing stands out\n{judged}\n")
    draw_part(np.random.default_rng(5), defect=True)[0].save(photos / "sneaked_in.png")
    dirty = run("data", "check", photos, "--set", SIZE[0], "-o", tmp_path / "out")
    assert dirty.exit_code == 1
    assert "LOOK  odd one  sneaked_in.png" in dirty.stdout
    assert (tmp_path / "out/check.html").is_file()
    as_json = run("data", "check", photos, "--set", SIZE[0], "--format", "json")
    assert json.loads(as_json.stdout)["findings"][0]["paths"] == ["sneaked_in.png"]
    wrong = run("data", "check", photos, "--set", "data.size=64")
    assert wrong.exit_code == 2
    assert "data.size: unknown setting" in wrong.stderr


def test_a_set_with_two_folders_reads_both(tmp_path: Path) -> None:
    root = write_parts(tmp_path / "parts", good=10, test=2)
    names = {row["path"].partition("/")[0] for row in to_content(checked(root), make_settings())["images"]}
    assert names == {"train", "test"}


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ([(8, 4)] * 2 + [(4, 8)] * 2, "as many"),
        ([(4, 8)] * 3 + [(8, 4)], "most"),
        ([(4, 8)] * 2 + [(8, 4), (8, 8)], "more"),
    ],
)
def test_as_many_of_another_size_are_not_most(sizes: list[tuple[int, int]], words: str) -> None:
    nothing = np.zeros((SIDE, SIDE), np.float32)
    images = [
        CheckedImage(Sample(Path(f"{place}.png"), f"{place}.png"), PhotoFacts(size, "grey", ()), "", nothing, None)
        for place, size in enumerate(sizes)
    ]
    first = size_findings(images)[0]
    assert f"8 x 4 px (height x width), {words} are 4 x 8:" in first.message  # of as many, the one that training takes


def test_near_duplicates_are_large_enough_to_tell_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for place in range(3):
        draw_part(rng)[0].resize((480, 480)).save(tmp_path / f"{place}.png")
    with Image.open(tmp_path / "0.png") as first:
        first.point(lambda value: min(255, value + 3)).save(tmp_path / "again.png")
        first.resize((400, 480)).save(tmp_path / "other_size.png")
    pictures = thumbnails(checked(tmp_path))
    assert pictures["0.png"].image.shape[:2] == pictures["again.png"].image.shape[:2] == (480, 480)
