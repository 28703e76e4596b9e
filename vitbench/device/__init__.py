"""All that depends on the device: time, memory, energy, clocks, precision, compilation. One interface, CPU and CUDA."""

from vitbench.device.cpu import CpuDevice
from vitbench.device.cuda import CudaDevice
from vitbench.device.device import Device, DeviceState
from vitbench.device.opening import is_out_of_memory, open_device

__all__ = ["CpuDevice", "CudaDevice", "Device", "DeviceState", "is_out_of_memory", "open_device"]
