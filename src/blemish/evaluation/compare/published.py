"""Figures that others have published, each with its source: to stand beside our own, never to be mixed with them."""

from dataclasses import dataclass
from typing import final

PAPER = "Fadaeinejad, Anomaly Detection in Images using Deep Encoder-Decoder Models"
MVTEC_AD = "Bergmann et al. 2019, MVTec AD"
DATASET = "hazelnut"
"""The data set of MVTec AD that all figures here are for."""


@final
@dataclass(frozen=True)
class PixelRow:
    """A row of the paper's Table 3, as printed."""

    recall: float
    precision: float
    f1: float

    @property
    def agrees(self) -> bool:
        """Whether the printed F1 is the one of its recall and precision, within the rounding of two digits."""
        return abs(self.f1 - 2 * self.recall * self.precision / (self.recall + self.precision)) < 0.02


@final
@dataclass(frozen=True)
class ImageRow:
    """Shares of the good images accepted and of the defective images found."""

    ok_rate: float
    defect_rate: float


@final
@dataclass(frozen=True)
class Ranking:
    """Areas under curves, as shares; None where nothing was published."""

    pixel_auroc: float
    aupro: float | None
    image_auroc: float | None
    source: str


PAPER_TABLE_3 = {
    ("paper", "print"): PixelRow(0.22, 0.82, 0.35),
    ("paper", "crack"): PixelRow(0.26, 0.57, 0.36),
    ("paper", "cut"): PixelRow(0.69, 0.80, 0.57),
    ("paper", "hole"): PixelRow(0.55, 0.61, 0.75),
    ("ae_ssim", ""): PixelRow(0.08, 1.00, 0.15),
    ("ae_l2", ""): PixelRow(0.84, 0.93, 0.88),
    ("anogan", ""): PixelRow(0.16, 0.83, 0.27),
    ("feature_dictionary", ""): PixelRow(0.07, 0.90, 0.13),
}
"""The paper's Table 3, by detector and defect type; "" is all types together."""

MVTEC_AD_RATES = {
    "ae_ssim": ImageRow(ok_rate=1.00, defect_rate=0.08),
    "ae_l2": ImageRow(ok_rate=0.93, defect_rate=0.84),
    "anogan": ImageRow(ok_rate=0.83, defect_rate=0.16),
    "feature_dictionary": ImageRow(ok_rate=0.90, defect_rate=0.07),
}
"""Ratios of correctly classified defect-free and anomalous images."""

RANKINGS = {
    "ae_l2": Ranking(0.95, None, None, MVTEC_AD),
    "ae_ssim": Ranking(0.97, None, None, MVTEC_AD),
    "anogan": Ranking(0.87, None, None, MVTEC_AD),
    "padim": Ranking(0.985, 0.953, 0.964, "PaDiM with a wide ResNet-50"),
    "patchcore": Ranking(0.987, 0.958, 1.0, "PatchCore with a wide ResNet-50"),
}

CAVEATS = (
    f"All published figures are for {DATASET} of MVTec AD, trained on its 391 good images and tested on its 70 "
    "defective ones. They are comparable with ours only where the images are the same.",
    "The rows that the paper's Table 3 has for AE(SSIM), AE(L2), AnoGAN and the CNN feature dictionary are, as "
    "far as we can tell, no pixel figures at all: they are the ratios of correctly classified good and defective "
    "images of the MVTec AD paper, read as precision and recall of pixels. They stand in both columns here, as "
    "printed and as what they seem to be; 'AE(L2) 0.88' is not a pixel F1.",
    "Two cells of its own F1 column are swapped: recall 0.69 and precision 0.80 (cut) give 0.74, recall 0.55 and "
    "precision 0.61 (hole) give 0.58; the table prints 0.57 for cut and 0.75 for hole.",
    "Its thresholds, 0.2 and for holes 0.25, were chosen looking at the test images. Ours is the calibrated one, from "
    "good images alone; what was chosen with hindsight is called oracle.",
    "Its thresholds have a meaning only on the map of its Algorithm 1, the largest difference of colours on a scale "
    "from 0 to 1; on other maps (structural similarity, distances of features) 0.2 is just a number, and is left out.",
    "It does not say whether its rows pool the pixels of a type or average over images; ours pool the pixels of the "
    "type's own images, as it has no good test images. The row 'all images' counts the good ones, too.",
)
"""What must be known to read the published figures beside ours."""
