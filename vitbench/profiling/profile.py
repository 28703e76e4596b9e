"""How is a profile measured part by part, so that it can be interrupted and go on?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from vitbench.device import Device
from vitbench.machine import utc_now
from vitbench.profiling.profile_parts import PlannedPart
from vitbench.profiling.profile_store import Part, find_part, profile_directory, write_part
from vitbench.records.environment import describe_environment
from vitbench.text import error_with_type


def measure_parts(
    parts: Sequence[PlannedPart],
    *,
    device: Device,
    results: Path,
    seconds: float,
    fresh: bool,
    say: Callable[[str], None],
) -> int:
    """Measures each part that its file does not settle (all of them where `fresh`), and writes it; a line to `say` for each.

    Returns how much could not be run. Raises ValueError where a file cannot be read or written.
    """
    directory, num_failed = profile_directory(results, device.name), 0
    described = describe_environment(device.name, precision="", threads=torch.get_num_threads())
    # Without what may differ between the rows of a part.
    of_rows = {"precision", "compiled", "compile_note", "workers", "micro_batch", "earlier_parts"}
    of_rows_and_data = of_rows | {"data_sha256", "largest_class"}
    environment = described.model_dump(exclude=of_rows_and_data)
    for number, planned in enumerate(parts, start=1):
        place = f"[{number}/{len(parts)}] {planned.name}"
        before = find_part(directory, planned.name)
        if not fresh and before and before.settles(request=planned.request, environment=environment, seconds=seconds):
            num_failed += before.missing
            again = f", {before.missing} could not be run; --fresh tries again" if before.missing else ""
            say(f"{place}: measured {before.started[:10]}{again}")
            continue
        torch._dynamo.reset()  # programs of earlier parts would be looked through at every call
        started = utc_now()
        facts: dict[str, Any] = {}
        reason = ""
        try:
            facts, missing = planned.measure()
        except Exception as error:  # a part's failure is what its file says, and the others' go on
            missing, reason = 1, error_with_type(error)
        part = Part(planned.name, planned.request, environment, seconds, started, utc_now(), facts, missing, reason)
        write_part(directory, part)
        num_failed += part.missing
        say(f"{place}: {part.reason or (f'{part.missing} could not be run' if part.missing else 'done')}")
    return num_failed
