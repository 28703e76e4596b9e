"""What does NVIDIA's management library tell about a GPU: energy, clocks, power, temperature, processes?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vitbench.device.energy import NotAvailableError


class Nvml:
    """The GPU of a UUID (without `GPU-`), which torch tells.

    Not by its number: NVML counts all GPUs by their place on the bus, CUDA those in CUDA_VISIBLE_DEVICES, the fastest first.
    Raises NotAvailableError where the library, its driver or the GPU is missing.
    """

    source = "NVML's total energy counter, the whole GPU"

    def __init__(self, uuid: str) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise NotAvailableError("nvidia-ml-py is not installed: pip install vitbench[nvml]") from error
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except pynvml.NVMLError as error:
            raise NotAvailableError(f"NVML has no GPU-{uuid}: {error}") from error

    def joules(self) -> float:
        """Joules since the driver was loaded. Raises NotAvailableError for GPUs before Volta (2017), which do not tell."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError as error:
            raise NotAvailableError(f"NVML does not tell this GPU's energy: {error}") from error

    def state(self) -> dict[str, float | None]:
        """The state at this moment; None is what this GPU does not tell. Power is the driver's average over up to a second.

        `gpu_other_processes` is the number of computing processes less one, this one. Ids do not help: in a container, NVML
        tells those of the host.
        """
        nvml, handle = self._nvml, self._handle
        processes = self._ask(lambda: len({p.pid for p in nvml.nvmlDeviceGetComputeRunningProcesses(handle)}))
        power = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        limit = self._ask(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
        return {
            "gpu_sm_mhz": self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "gpu_memory_mhz": self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            "gpu_power_watts": None if power is None else power / 1e3,
            "gpu_power_limit_watts": None if limit is None else limit / 1e3,
            "gpu_celsius": self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            "gpu_other_processes": None if processes is None else max(0, processes - 1),
        }

    def _ask(self, question: Callable[[], float]) -> float | None:
        try:
            return question()
        except self._nvml.NVMLError:
            return None
