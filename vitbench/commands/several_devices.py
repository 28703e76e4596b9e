"""How is it said that a run is to have several devices?"""

from __future__ import annotations

from typing import Annotated

from typer import Option

MOST_DEVICES = 256

DevicesPerRun = Annotated[
    int,
    Option(
        min=1, max=MOST_DEVICES, help="Devices that compute each run together: GPUs, or processes with --device cpu."
    ),
]
