"""Plans: both kinds of file say the same, and every fault is named with its row before anything is trained."""

from pathlib import Path

import pytest

from blemish.errors import DataError, SettingsError
from blemish.fleet.plan import read_plan


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("nuts", "bolts"):
        (tmp_path / name).mkdir()
    return tmp_path


def written(root: Path, text: str, name: str = "plan.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root / name


def test_both_kinds_of_file_say_the_same(root: Path) -> None:
    csv = written(
        root, 'product,folder,detector,train.epochs,data.size_px\nnut,nuts,seed,3,"[64, 64]"\nbolt,bolts,padim,,\n\n'
    )
    toml = written(
        root,
        """
        [settings]
        detector = "padim"
        [[products]]
        product = "nut"
        folder = "nuts"
        detector = "seed"
        train.epochs = 3
        data.size_px = [64, 64]
        [[products]]
        product = "bolt"
        folder = "bolts"
        """,
        "plan.toml",
    )
    rows = read_plan(csv)
    assert rows == read_plan(toml)
    assert [(row.product, row.folder) for row in rows] == [("nut", root / "nuts"), ("bolt", root / "bolts")]
    assert rows[0].settings.train.epochs == 3
    assert rows[0].settings.data.size_px == (64, 64)
    assert rows[1].settings.detector == "padim"


def test_folders_are_relative_to_the_plan(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    (row,) = read_plan(Path(root.name) / written(root, "product,folder\nnut,nuts\n").name)
    assert row.folder == root / "nuts"
    (root / "plans").mkdir()
    plan = root / "plans" / "plan.csv"
    plan.write_text("product;folder\nnut;../nuts\n")  # as spreadsheets write it in many countries
    assert read_plan(plan)[0].folder == root / "nuts"  # also where another machine has no plans


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the column 'product' is not among none"),
        ("product,folder\n", "no products"),
        ("produkt,folder\nnut,nuts\n", "the column 'product' is not among produkt, folder; did you mean 'produkt'"),
        ("product,folder,folder\nnut,nuts,nuts\n", "the column 'folder' is twice"),
        ("product,folder,seed,Seed\nnut,nuts,1,2\n", "the column 'Seed' is there twice"),
        ("product,folder\nnut,nuts\nNut,bolts\n", "product 'Nut' is there twice"),
        ("product,folder\nnut,nuts\nbolt,gone\n", r"row 3 \(bolt\): no such folder: .*gone"),
        ("product,folder\nnut,\n", r"row 2 \(nut\): no such folder: the cell is empty"),
        ("product,folder\na/b,nuts\n", r"row 2 \(a/b\): product 'a/b' has '/' in its name"),
        ("product,folder\nnut,nuts,1\n", "row 2: 3 cells, where the header has 2"),
        ('product,folder\n"nut,nuts\n', "not CSV"),
    ],
)
def test_a_plan_at_fault_is_refused(text: str, said: str, root: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_plan(written(root, text))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("train.epoch", "3", r"row 2 \(nut\): train.epoch: unknown setting; did you mean 'train.epochs'"),
        ("train.epochs", "many", r"row 2 \(nut\): train.epochs: should be a whole number; found 'many'"),
        ("detector", "padimm", r"row 2 \(nut\): .*padimm.*did you mean 'padim'"),
    ],
)
def test_a_setting_at_fault_is_named_with_its_row(column: str, value: str, said: str, root: Path) -> None:
    with pytest.raises(SettingsError, match=said):
        read_plan(written(root, f"product,folder,{column}\nnut,nuts,{value}\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "not TOML"),
        ("[[product]]\nproduct = 'nut'", "product: unknown; a plan has"),
        ("products = 3", "a plan has"),
        ("[[products]]\nproduct = 3\nfolder = 'nuts'", "product and folder are text"),
        ("[[products]]\nproduct = 'nut'", r"product 1 \(nut\): no such folder"),
    ],
)
def test_toml_at_fault_is_refused(text: str, said: str, root: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_plan(written(root, text, "plan.toml"))
