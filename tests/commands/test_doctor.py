"""Does `vitbench doctor` tell what is there, and only that?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from vitbench.commands import doctor
from vitbench.kernels import attention_choice

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"


def test_doctor_tells_device_precision_and_compiler(vitbench, tmp_path):
    said = vitbench("doctor", "--data-root", tmp_path, "--json")
    facts = json.loads(said.out)
    assert facts["torch"] == torch.__version__
    assert facts["device"].startswith("cuda: " if torch.cuda.is_available() else "cpu: ")
    assert facts["bf16_over_fp32"] > 0
    assert facts["auto_precision"] in ("fp32", "bf16")
    assert facts["datasets"] == []


@pytest.mark.skipif(not (REAL_DATA / "FashionMNIST").is_dir(), reason="Fashion-MNIST is not on this machine")
def test_doctor_finds_the_data_sets_under_a_root(vitbench):
    facts = json.loads(vitbench("doctor", "--data-root", REAL_DATA, "--json").out)
    assert facts["datasets"] == ["torch/fashion_mnist"]


def test_doctor_speaks_to_people_too(vitbench):
    said = vitbench("doctor")
    assert said.status == 0
    assert "precision" in said.out and "digits" in said.out
    assert (
        torch.cuda.is_available() or "attention   by a rule on CPU; on CUDA the fastest kernel is measured" in said.out
    )


class MadeUpGpu:
    name = "cuda: made up"
    torch_device = torch.device("cuda", 0)


def test_the_doctor_of_a_gpu_shows_the_attention_kernels_that_were_measured(monkeypatch, tmp_path):
    monkeypatch.setenv("VITBENCH_CACHE", str(tmp_path))
    kernels = attention_choice.MeasuredKernels({"fused": 2.0, "cudnn": 1.0}, {"math": "RuntimeError: not here"})
    monkeypatch.setattr(attention_choice, "measure_kernels", lambda *_: kernels)
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92000)
    told = doctor._attention(MadeUpGpu(), "bf16")
    assert len(told) == 3
    shape = "bf16, 128 images, 12 heads of 64, 197 tokens, forward and backward"
    assert f"cudnn for {shape}; times over the fastest: cudnn 1, fused 2" in told.values()
    monkeypatch.setenv("VITBENCH_ATTENTION", "math")
    assert doctor._attention(MadeUpGpu(), "bf16") == {"forced": "math, forced by VITBENCH_ATTENTION"}


def test_doctor_tells_whose_operators_are_chosen_at_which_width(vitbench):
    facts = json.loads(vitbench("doctor", "--json").out)
    if facts["kernels"] != "native":
        assert facts["kernel_choices"] == {}
        return
    assert facts["kernel_choices"]["64"] == {"operators": "native", "why": "VITBENCH_KERNELS=native"}
    assert "width 64: native (VITBENCH_KERNELS=native)" in vitbench("doctor").out
