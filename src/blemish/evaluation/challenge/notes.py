"""What a challenge says beside its curves: of few photos or defects, false alarms, and where defects were put."""

from collections.abc import Collection

from blemish.errors import plural
from blemish.evaluation.challenge.content import Content
from blemish.stats.conformal import promised_percent

FEW_PHOTOS = 20
FEW_DEFECTS = 60
"""The handbook's least number of defects for a hit-or-miss curve."""


def write_notes(results: Content, photo_sizes_px: Collection[tuple[int, int]]) -> list[str]:
    """What must be said beside the curves, from all else that was found and the sizes of the photos."""
    notes = []
    flagged, photos, defects = len(results["suspicious"]), results["data"]["photos"], results["defects"]
    if results["more_than_promised"]:
        promised = promised_percent(results["max_false_alarm_rate"])
        notes.append(
            f"{flagged} of {plural(photos, 'photo')} given as good {'is' if flagged == 1 else 'are'} flagged without "
            f"any synthetic defect, where at most {promised} were promised; look at what "
            "is flagged: is all of it good, and like the photos of the calibration?"
        )
    before = sum(one["outcome"] == "alarmed_before" for one in defects)
    if before > 0.1 * len(defects):
        notes.append(f"{before} of {plural(len(defects), 'defect')} fell where the photo raises an alarm without them")
    if photos < FEW_PHOTOS:
        notes.append(
            f"only {plural(photos, 'photo')}: defects on the same photo share its luck, which the bounds do not know; "
            f"give {FEW_PHOTOS} or more"
        )
    empty = [f"{curve['defect_type']} {curve['contrast']:g}" for curve in results["curves"] if not curve["defects"]]
    if empty:
        notes.append(
            f"none could be put on these photos of: {', '.join(empty)}; they have no room for it, or cannot show so "
            "weak or so strong a change"
        )
    if results["settings"]["defects"] < FEW_DEFECTS:
        notes.append(
            f"{plural(results['settings']['defects'], 'defect')} a curve; MIL-HDBK-1823A asks for {FEW_DEFECTS} at the "
            "least"
        )
    if not results["has_roi"]:
        notes.append(_where(results))
    if len(set(photo_sizes_px)) > 1:
        notes.append("the photos differ in size; sizes are in each photo's own pixels")
    return notes


def _where(results: Content) -> str:
    """Where defects were put, where no region of interest says so."""
    on_part, photos = results["photos_with_part"], results["data"]["photos"]
    if on_part == photos:
        return "the model has no region of interest: defects were put on the part, which differs from a plain ground"
    found = f"in {photos - on_part} of {plural(photos, 'photo')} the part could not be told from its ground, so there"
    if results["settings"]["anywhere"]:
        found = "as asked,"
    return f"the model has no region of interest: {found} defects were put anywhere, beside the part too"
