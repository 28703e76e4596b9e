"""What can be known of a study's arms before any is trained? Each is built on the data's shapes and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from vitbench.config import RunConfig
from vitbench.device import Device
from vitbench.execution import display
from vitbench.execution.initial_model import untrained_model
from vitbench.execution.request import Request
from vitbench.execution.run_data import RunData
from vitbench.inspection.check_arm import check_arm
from vitbench.inspection.check_bench import Bench
from vitbench.inspection.check_effects import Traces
from vitbench.inspection.checked_arm import CheckedArm
from vitbench.models import TimmModel, UserModel, ViT
from vitbench.studies.resolved_study import ResolvedStudy


@dataclass(frozen=True)
class CheckedStudy:
    """A study's arms on one data set."""

    resolved: ResolvedStudy
    dataset: str
    arms: list[CheckedArm]


def check_studies(
    request: Request,
    *,
    device: Device,
    seed: int = 0,
) -> Iterator[CheckedStudy]:
    """Study by study and set by set, as they are asked for.

    Raises ValueError for what is wrong with the request, before anything is checked.
    """
    resolved = request.resolved_studies()
    for study in resolved:
        for name in study.arms:
            for setting in study.grid.settings:
                study.config(name, setting, seed)  # refuses a setting without meaning
    for study, (_, data_name, info) in zip(resolved, request.asked, strict=True):
        with display.progress(study.study.name) as advance:
            checks = _Checks(request, study, data_name, device, advance)
            checked = [*checks.of(info.dataset, seed)]
        yield CheckedStudy(study, info.dataset, checked)


@dataclass(frozen=True)
class _Checks:
    request: Request
    resolved: ResolvedStudy
    data_name: str
    device: Device
    advance: Callable[[str, float, float], None]

    def of(self, dataset: str, seed: int) -> Iterator[CheckedArm]:
        resolved = self.resolved
        setting = resolved.grid.settings[len(resolved.grid.settings) // 2]
        configs = {name: resolved.config(name, setting, seed) for name in resolved.arms}
        bench = Bench(self.device, self._build, self._open_data)
        traces = Traces(bench, configs[resolved.baseline])
        baseline = self._baseline_model(configs[resolved.baseline], bench)
        for number, name in enumerate(resolved.arms):
            self.advance(f"checking {name}", number, len(resolved.arms))
            arm = CheckedArm(
                arm=name,
                dataset=dataset,
                changes=resolved.design.changes.get(name, {}),
                is_baseline=name == resolved.baseline,
            )
            check_arm(arm, configs[name], traces, bench, baseline)
            yield arm

    def _baseline_model(self, config: RunConfig, bench: Bench) -> nn.Module | None:
        """As it is built, where it can be built and run."""
        try:
            model = self._build(config, config.seed)
            with torch.no_grad():
                model.eval()(bench.evaluated(config))
        except Exception:  # told where the baseline itself is checked
            return None
        return model

    def _build(self, config: RunConfig, seed: int) -> ViT | TimmModel | UserModel:
        return self.device.place(untrained_model(config, seed))

    def _open_data(self, config: RunConfig) -> RunData:
        return RunData.open(config, self.data_name, self.request.data_root, self.device)
