"""Public data sets by name: where they are, under which licence, and how they become folders in MVTec's layout."""

from typing import NamedTuple, final

from blemish.errors import SettingsError, nearest

NONCOMMERCIAL = "CC BY-NC-SA 4.0: not for commercial use"


@final
class DataSet(NamedTuple):
    """A public data set.

    `address` is empty where there is none that a program may ask; `how` then says where one asks. `sha256` is empty
    where nobody that we know of has published it. `layout` is a reader of `convert`; empty where the folders are read
    as they are.
    """

    title: str
    page: str
    licence: str
    address: str = ""
    sha256: str = ""
    layout: str = ""
    how: str = ""


# Addresses and SHA-256: those of anomalib (src/anomalib/data/datamodules/image in open-edge-platform/anomalib); for
# AD 2 and BTAD found with others too, who fetched them. KolektorSDD2's address is that of its page, its SHA-256 what
# several wrote down who fetched 853,126,555 bytes from there. MPDD's authors have it behind a login: the address is a
# mirror's, the SHA-256 what the mirror tells and others found of its 1,825,041,283 bytes.
CATALOGUE: dict[str, DataSet] = {
    "mvtec_ad": DataSet(
        "MVTec AD (Bergmann et al. 2019), 15 categories, 4.9 GB",
        "https://www.mvtec.com/company/research/datasets/mvtec-ad",
        NONCOMMERCIAL,
        "https://www.mydrive.ch/shares/38536/3830184030e49fe74747669442f0f282/download/"
        "420938113-1629952094/mvtec_anomaly_detection.tar.xz",
        "cf4313b13603bec67abb49ca959488f7eedce2a9f7795ec54446c649ac98cd3d",
    ),
    "mvtec_ad_2": DataSet(
        "MVTec AD 2 (Heckler-Kram et al. 2025), 8 categories, 32.7 GB",
        "https://www.mvtec.com/company/research/datasets/mvtec-ad-2",
        NONCOMMERCIAL,
        "https://www.mydrive.ch/shares/150997/701c90d3aea6588f404936e32a674602/download/"
        "466712769-1743429042/mvtec_ad_2.tar.gz",
        "c0ded99ef32bfc8e352d52beb44515e5b292b8598cb963aadfa91ca0763505e4",
    ),
    "mvtec_loco": DataSet(
        "MVTec LOCO AD (Bergmann et al. 2022), 5 categories, logical and structural defects, 5.8 GB",
        "https://www.mvtec.com/company/research/datasets/mvtec-loco",
        NONCOMMERCIAL,
        "https://www.mydrive.ch/shares/48237/1b9106ccdfbb09a0c414bd49fe44a14a/download/"
        "430647091-1646842701/mvtec_loco_anomaly_detection.tar.xz",
        "9e7c84dba550fd2e59d8e9e231c929c45ba737b6b6a6d3814100f54d63aae687",
    ),
    "visa": DataSet(
        "VisA (Zou et al. 2022), 12 objects, 1.9 GB",
        "https://github.com/amazon-science/spot-diff",
        "CC BY 4.0",
        "https://amazon-visual-anomaly.s3.us-west-2.amazonaws.com/VisA_20220922.tar",
        "2eb8690c803ab37de0324772964100169ec8ba1fa3f7e94291c9ca673f40f362",
        "visa",
    ),
    "btad": DataSet(
        "BTAD (Mishra et al. 2021), 3 products, 1.2 GB",
        "https://github.com/pankajmishra000/VT-ADL",
        "CC BY-SA 4.0",
        "https://avires.dimi.uniud.it/papers/btad/btad.zip",
        "461c9387e515bfed41ecaae07c50cf6b10def647b36c9e31d239ab2736b10d2a",
    ),
    "kolektorsdd2": DataSet(
        "KolektorSDD2 (Bozic et al. 2021), one surface, 0.9 GB",
        "https://www.vicos.si/resources/kolektorsdd2/",
        NONCOMMERCIAL,
        "https://data.vicos.si/datasets/KSDD/KolektorSDD2.zip",
        "edcdb486809b24f1d17b785e30c52fafc5999554dd5fe18ddf77b61ceb6f36a8",
        "ksdd2",
    ),
    "mpdd": DataSet(
        "MPDD (Jezek et al. 2021), 6 metal parts, 1.8 GB, from a mirror (its authors' folder asks for a login)",
        "https://github.com/stepanje/MPDD",
        NONCOMMERCIAL,
        "https://huggingface.co/datasets/meksamiao/mpdd/resolve/main/MPDD.zip",
        "69f8da73eea4a31451a50251e5c261e83e0c53f2d1a39a7d4dfc78b5c434ddd6",
    ),
    "real_iad": DataSet(
        "Real-IAD (Wang et al. 2024), 30 objects seen from 5 sides",
        "https://realiad4ad.github.io/Real-IAD/",
        NONCOMMERCIAL,
        layout="real_iad",
        how="ask for access on https://huggingface.co/datasets/REAL-IAD/Real-IAD; fetch an object and realiad_jsons, "
        "and pack both into one archive",
    ),
}


def look_up(name: str) -> DataSet:
    """The data set of a name.

    Raises:
        SettingsError: it is not known; the nearest name is given.
    """
    if name not in CATALOGUE:
        raise SettingsError(f"{name}: no data set of that name is known; {nearest(name, CATALOGUE)}")
    return CATALOGUE[name]
