"""What libvirt is asked for, where no libvirt of this machine can show it."""

import pytest

from holdfast.hypervisor.libvirt_move_calls import how_to_write
from holdfast.hypervisor.memory import SaveOptions
from holdfast.model.settings import SaveCompression


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        (SaveOptions(), {}),
        (SaveOptions(compression=SaveCompression.ZSTD), {"image_format": "zstd"}),
        (SaveOptions(channels=4), {"image_format": "sparse", "parallel.channels": 4}),
    ],
)
def test_a_save_is_packed_or_written_by_several_streams(options: SaveOptions, parameters: dict[str, object]) -> None:
    assert how_to_write(options) == parameters
