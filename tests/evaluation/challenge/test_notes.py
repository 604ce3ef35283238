"""What a challenge says beside its curves."""

import re
from typing import Any

from blemish.evaluation.challenge.notes import write_notes


def test_of_one_photo_and_one_defect_nothing_is_said_in_the_plural() -> None:
    found: Any = {
        "suspicious": [{"path": "a.png"}],
        "data": {"photos": 1},
        "defects": [{"outcome": "alarmed_before"}],
        "more_than_promised": True,
        "max_false_alarm_rate": 0.05,
        "curves": [],
        "settings": {"defects": 1, "anywhere": False},
        "has_roi": False,
        "photos_with_part": 0,
    }
    notes = write_notes(found, [(8, 8)])
    assert len(notes) == 5
    assert [note for note in notes if re.search(r"\b1 \w+s\b(?<!is)", note)] == []
    assert notes[0].startswith("1 of 1 photo given as good is flagged")
