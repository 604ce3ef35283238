"""What the driver must know of the models before images are judged; no network is opened for that."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, final

from blemish.data.files import absolute_path
from blemish.errors import DataError, join_names
from blemish.fleet.registry import Registry
from blemish.inference.artifact import ArtifactHeader, parse_artifact
from blemish.inference.monitor_state import WithdrawalCheck, default_state_path, withdrawn_message
from blemish.inference.onnx_file import check_seal, read_metadata
from blemish.inference.runtime import is_onnx
from blemish.inference.trust import Trust, read_model_file


@final
class FleetModel(NamedTuple):
    """The model that judges a product: the same file on every machine, told by its SHA-256."""

    path: Path
    sha256: str
    header: ArtifactHeader


def read_models(registry: Registry, products: Iterable[str]) -> dict[str, FleetModel]:
    """The model of each product.

    Raises:
        DataError: products without a model, which are named.
        ArtifactError: a model file is damaged, or not the one that the registry names.
    """
    found, missing, why = {}, [], ""
    for product in products:
        try:
            model = registry.model(product)
        except DataError as error:
            missing.append(product)
            why = why or str(error)
            continue
        path = absolute_path(model.path)
        found[product] = FleetModel(path, model.sha256, _header(path, model.sha256))
    if missing:
        raise DataError(
            why if len(missing) == 1 else f"no model for {len(missing)} products ({join_names(missing)}): {why}"
        )
    return found


def withdrawn(models: Mapping[str, FleetModel]) -> dict[str, str]:
    """Why a watch has withdrawn the certificate of a model, by product; of those alone where one has."""
    alarms = {
        product: WithdrawalCheck(model.header, default_state_path(model.path)).alarm()
        for product, model in models.items()
    }
    return {product: withdrawn_message(alarm) for product, alarm in alarms.items() if alarm is not None}


def _header(path: Path, sha256: str) -> ArtifactHeader:
    content = read_model_file(path, Trust(sha256))
    if not is_onnx(path):
        return parse_artifact(content, path)[0]
    check_seal(content, path)
    return read_metadata(content, path)[0].model
