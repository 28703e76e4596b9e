"""Is a part of a profile kept whole, found again, and measured anew only where it must be?"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from vitbench.profiling.profile_store import Part, find_part, list_profiles, profile_directory, read_parts, write_part

ENVIRONMENT = {"device": "cpu: Example", "machine": "0123abcd", "torch": "2.14.1", "threads": 2, "os": "Linux 6"}
PART = Part(
    name="throughput/S-16-224px-batch16-infer",
    request={"variant": "S/16"},
    environment=ENVIRONMENT,
    seconds=5.0,
    started="2026-11-22T10:00:00.000+00:00",
    finished="2026-11-22T10:01:00.000+00:00",
    facts={"rows": [{"samples": [0.1, 0.2]}]},
)


def test_the_folder_is_named_after_the_device():
    assert profile_directory("r", "cuda: NVIDIA H100 80GB HBM3").as_posix() == "r/profiles/cuda-nvidia-h100-80gb-hbm3"
    assert profile_directory("r", "cpu: AMD EPYC 9B45").as_posix() == "r/profiles/cpu-amd-epyc-9b45"


def test_what_is_written_is_what_is_read(tmp_path):
    folder = profile_directory(tmp_path, "cpu: Example")
    path = write_part(folder, PART)
    write_part(folder, replace(PART, name="ceilings"))
    assert path == folder / "throughput" / "S-16-224px-batch16-infer.json"
    assert json.loads(path.read_text())["schema"] == 1
    assert find_part(folder, PART.name) == PART and find_part(folder, "flops/B-16-224px") is None
    assert {part.kind for part in read_parts(folder)} == {"ceilings", "throughput"}
    assert list_profiles(tmp_path) == [folder]


def test_writing_again_leaves_one_file_and_no_half_of_another(tmp_path):
    for seconds in (1.0, 2.0):
        write_part(tmp_path, replace(PART, seconds=seconds))
    assert [path.name for path in (tmp_path / "throughput").iterdir()] == ["S-16-224px-batch16-infer.json"]
    assert find_part(tmp_path, PART.name).seconds == 2.0


@pytest.mark.parametrize(
    ("part", "asked", "settled"),
    [
        (PART, {}, True),
        (PART, {"seconds": 2.0}, True),
        (PART, {"seconds": 6.0}, False),
        (PART, {"request": {"variant": "B/16"}}, False),
        (PART, {"environment": {**ENVIRONMENT, "os": "Linux 7"}}, True),
        *((PART, {"environment": {**ENVIRONMENT, fact: "another"}}, False) for fact in ("torch", "threads", "machine")),
        (replace(PART, reason="ValueError: no"), {}, False),
    ],
)
def test_a_part_settles_what_was_asked_alike_on_the_same_machine_for_no_longer(part, asked, settled):
    given = {"request": PART.request, "environment": ENVIRONMENT, "seconds": 5.0}
    assert part.settles(**{**given, **asked}) is settled


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "name": "ceilings"}'])
def test_a_file_that_is_no_part_is_named(tmp_path, text):
    (tmp_path / "ceilings.json").write_text(text)
    with pytest.raises(ValueError, match=r"ceilings\.json' is not a part of a profile .* remove it"):
        read_parts(tmp_path)


def test_a_part_of_another_schema_is_refused(tmp_path):
    path = write_part(tmp_path, PART)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    with pytest.raises(ValueError, match="has schema 2, not 1"):
        read_parts(tmp_path)
