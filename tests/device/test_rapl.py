"""Are the joules of a made-up processor those that its files add up to by hand?"""

from __future__ import annotations

import pytest

from vitbench.device.energy import NotAvailableError
from vitbench.device.rapl import RaplCounter

RANGE = 262_143_328_850
"""The `max_energy_range_uj` that many Intel processors have."""


@pytest.fixture
def powercap(tmp_path):
    """Writes the files of a domain: its folder's name, what the kernel calls it, its counter."""

    def write(folder: str, name: str, energy_uj: int, range_uj: int = RANGE) -> None:
        directory = tmp_path / folder
        directory.mkdir(exist_ok=True)
        for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", range_uj)):
            (directory / file).write_text(f"{value}\n")

    return write


def test_joules_of_two_packages_add_up(powercap, tmp_path):
    powercap("intel-rapl:0", "package-0", 1_000_000)
    powercap("intel-rapl:1", "package-1", 5_000_000)
    counter = RaplCounter(tmp_path)
    assert counter.joules() == 0
    powercap("intel-rapl:0", "package-0", 3_500_000)  # 2.5 J
    powercap("intel-rapl:1", "package-1", 5_250_000)  # 0.25 J
    assert counter.joules() == 2.75
    assert counter.joules() == 2.75


def test_parts_and_repetitions_of_a_package_count_once(powercap, tmp_path):
    domains = {
        "intel-rapl:0": "package-0",
        "intel-rapl:0:0": "core",
        "intel-rapl:0:1": "dram",
        "intel-rapl:1": "psys",
        "intel-rapl-mmio:0": "package-0",
    }
    for folder, name in domains.items():
        powercap(folder, name, 0)
    counter = RaplCounter(tmp_path)
    for folder, name in domains.items():
        powercap(folder, name, 7_000_000)
    assert counter.joules() == 7


def test_a_counter_that_starts_anew_goes_on_where_it_was(powercap, tmp_path):
    powercap("intel-rapl:0", "package-0", 900, range_uj=1000)
    counter = RaplCounter(tmp_path)
    used = []
    for reading in (990, 30, 20):  # 90, then 10 to the end and 30, then 970 and 20
        powercap("intel-rapl:0", "package-0", reading, range_uj=1000)
        used.append(counter.joules())
    assert used == pytest.approx([90e-6, 130e-6, 1120e-6])


def test_a_machine_without_the_files_says_so(tmp_path):
    with pytest.raises(NotAvailableError, match="no RAPL counter of a processor package"):
        RaplCounter(tmp_path / "powercap")


def test_what_root_alone_may_read_is_said_with_its_remedy(powercap, tmp_path, monkeypatch):
    powercap("intel-rapl:0", "package-0", 1)
    read = type(tmp_path).read_text

    def forbidden(path, *arguments, **named):  # a test may run as root, whom no permission stops
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *arguments, **named)

    monkeypatch.setattr(type(tmp_path), "read_text", forbidden)
    with pytest.raises(NotAvailableError, match=r"intel-rapl:0/energy_uj may be read by root alone: sudo chmod a\+r"):
        RaplCounter(tmp_path)


def test_a_counter_that_is_no_number_is_not_available(powercap, tmp_path):
    powercap("intel-rapl:0", "package-0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("")
    with pytest.raises(NotAvailableError, match="cannot be read"):
        RaplCounter(tmp_path)
