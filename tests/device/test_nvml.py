"""Is what NVML says of a GPU taken from the right GPU, in the right units, and is silence said?"""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from vitbench.device.energy import NotAvailableError
from vitbench.device.nvml import Nvml

BUS_ORDER = ("1111", "2222")


class NVMLError(Exception):
    pass


class MadeUpNvml(SimpleNamespace):
    """Two GPUs in the order of the bus; `silent` names the questions that are not supported."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __init__(self, silent: tuple[str, ...] = ()) -> None:
        super().__init__(silent=silent, pids=[11, 12, 13], energy=5_000_000)

    def __getattribute__(self, name):
        if name in object.__getattribute__(self, "silent") if name != "silent" and name.startswith("nvml") else False:
            return self.refuse
        return object.__getattribute__(self, name)

    def refuse(self, *_):
        raise NVMLError("Not Supported")

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid.removeprefix("GPU-") not in BUS_ORDER or not uuid.startswith("GPU-"):
            raise NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self.energy if handle == "GPU-2222" else 1

    def nvmlDeviceGetClockInfo(self, handle, kind):
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[kind]

    def nvmlDeviceGetPowerUsage(self, handle):
        return 68_250

    def nvmlDeviceGetEnforcedPowerLimit(self, handle):
        return 700_000

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 35

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [SimpleNamespace(pid=pid) for pid in self.pids]


@pytest.fixture
def install(monkeypatch):
    def put(*silent: str) -> MadeUpNvml:
        module = MadeUpNvml(silent)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        return module

    return put


def test_energy_is_that_of_the_gpu_with_the_uuid_in_joules(install):
    module = install()
    gpu = Nvml("2222")
    assert gpu.joules() == 5000
    module.energy += 1500
    assert gpu.joules() == 5001.5


def test_the_state_is_in_the_units_of_its_names_and_counts_others_beside_this_process(install):
    module = install()
    assert Nvml("2222").state() == {
        "gpu_sm_mhz": 1980,
        "gpu_memory_mhz": 2619,
        "gpu_power_watts": 68.25,
        "gpu_power_limit_watts": 700,
        "gpu_celsius": 35,
        "gpu_other_processes": 2,
    }
    for pids, others in (([], 0), ([11], 0), ([11, 11, 12], 1)):
        module.pids = pids
        assert Nvml("2222").state()["gpu_other_processes"] == others


def test_what_a_gpu_does_not_tell_is_none_and_the_rest_is_told(install):
    install("nvmlDeviceGetPowerUsage", "nvmlDeviceGetComputeRunningProcesses")
    state = Nvml("1111").state()
    assert state["gpu_power_watts"] is None and state["gpu_other_processes"] is None
    assert state["gpu_power_limit_watts"] == 700 and state["gpu_celsius"] == 35


def test_a_gpu_that_keeps_no_count_of_energy_says_so(install):
    install("nvmlDeviceGetTotalEnergyConsumption")
    with pytest.raises(NotAvailableError, match="does not tell this GPU's energy: Not Supported"):
        Nvml("1111").joules()


def test_a_gpu_that_nvml_does_not_have_is_not_available(install):
    install()
    with pytest.raises(NotAvailableError, match="NVML has no GPU-3333: Not Found"):
        Nvml("3333")


def test_a_driver_that_is_not_there_is_not_available(install):
    install("nvmlInit")
    with pytest.raises(NotAvailableError, match="Not Supported"):
        Nvml("1111")


def test_without_the_library_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(NotAvailableError, match=r"pip install vitbench\[nvml\]"):
        Nvml("1111")


def test_the_real_library_has_every_name_that_is_asked_for():
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    for name in (name for name in vars(MadeUpNvml) if name.lower().startswith("nvml")):
        assert hasattr(pynvml, name)
