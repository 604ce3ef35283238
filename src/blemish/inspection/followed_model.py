"""The model of a watch: loaded again when its file changes, as `blemish certify` changes it."""

import hashlib
from collections.abc import Callable
from typing import final

from blemish.errors import BlemishError, DataError, plural
from blemish.inference.monitor_state import model_id
from blemish.inference.predictor import Predictor
from blemish.inspection.arrivals import Stamp
from blemish.inspection.moving import file_stamp


@final
class FollowedModel:
    """A predictor, and what loads it again; without that its file is not looked at."""

    def __init__(self, predictor: Predictor, load: Callable[[], Predictor] | None) -> None:
        self._source, self._load = predictor.source, load
        self._stamp: Stamp | None = None

    def other(self) -> Predictor | None:
        """What is in the model file now; None while that is the same.

        Raises:
            DataError: it cannot be used.
        """
        stamp = None if self._source is None or self._load is None else file_stamp(self._source.path)
        if self._source is None or self._load is None or stamp is None or stamp == self._stamp:
            return None
        try:
            is_same = hashlib.sha256(self._source.path.read_bytes()).hexdigest() == self._source.sha256
            found = None if is_same else self._load()
        except (BlemishError, OSError) as error:
            raise DataError(f"{error}; the model file has changed, and the previous model goes on deciding") from None
        if found is None:
            self._stamp = stamp
        return found

    def use(self, predictor: Predictor) -> None:
        """Look after the file of that one from now on."""
        self._source, self._stamp = predictor.source, None


def change_message(before: Predictor, after: Predictor) -> str:
    """What is said of a model file that has changed."""
    old, new = before.header.certificate, after.header.certificate
    what = "calibrated again" if model_id(before.header) == model_id(after.header) else "another model"
    return (
        f"the model file has changed ({what}): threshold {before.threshold:.6g} -> {after.threshold:.6g}, "
        f"false-alarm rate {old.alpha:g} -> {new.alpha:g}, from {old.n} -> {plural(new.n, 'good image')}"
    )
