"""How much energy has the processor used? Linux tells (RAPL, in the powercap files)."""

from __future__ import annotations

from pathlib import Path

from vitbench.device.energy import NotAvailableError

POWERCAP = Path("/sys/class/powercap")


class RaplCounter:
    """Joules of all processor packages together, since it was opened.

    Counted is each `intel-rapl:N` named `package-…` (AMD's too). Not counted are its parts `intel-rapl:N:M`, `psys`, of which
    it is a part, and `intel-rapl-mmio:N`, which is the same again. A counter wraps around at `max_energy_range_uj`, after
    minutes, and must be read before. See the kernel's Documentation/power/powercap/powercap.rst.
    """

    source = "RAPL, the processor's packages"

    def __init__(self, root: Path = POWERCAP) -> None:
        domains = [folder for folder in sorted(root.glob("intel-rapl:*")) if folder.name.count(":") == 1]
        try:
            packages = [folder for folder in domains if (folder / "name").read_text().startswith("package")]
            self._range = {folder: _microjoules(folder / "max_energy_range_uj") for folder in packages}
            self._last = {folder: _microjoules(folder / "energy_uj") for folder in packages}
        except PermissionError as error:
            raise NotAvailableError(f"{error.filename} may be read by root alone: sudo chmod a+r it") from error
        except (OSError, ValueError) as error:
            raise NotAvailableError(f"the RAPL counter cannot be read: {error}") from error
        if not packages:
            raise NotAvailableError(f"no RAPL counter of a processor package under {root}")
        self._used = 0

    def joules(self) -> float:
        """Raises OSError where a counter is gone."""
        for folder, before in self._last.items():
            now = self._last[folder] = _microjoules(folder / "energy_uj")
            self._used += now - before if now >= before else now - before + self._range[folder]
        return self._used / 1e6


def _microjoules(file: Path) -> int:
    return int(file.read_text())
