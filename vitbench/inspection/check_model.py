"""Is an arm's model sound? The same twice, for each image by itself, in training as in evaluation but for what is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vitbench.config import RunConfig, ViTConfig
from vitbench.inspection.check_bench import Bench, differ, shuffled
from vitbench.inspection.check_masks import drops
from vitbench.inspection.checked_arm import CheckedArm, SharedStart, named
from vitbench.models import UserModel
from vitbench.models.parts import parts_of, role_of
from vitbench.training.loop import seed_dropout

TORCH = "torch's generator"


def check_build(arm: CheckedArm, config: RunConfig, bench: Bench) -> nn.Module | None:
    """The model, built twice: it must start the same, and leave all generators alone. None where it cannot be built."""
    model: nn.Module | None = None
    with arm.guarded("build"):
        before = _generators()
        model = bench.model(config)
        if moved := [name for name in _moved(before) if name != TORCH]:
            arm.error("generators", f"building the model draws from {' and '.join(moved)}; draw with torch's functions")
        again = bench.model(config)
        state, other = model.state_dict(), again.state_dict()
        if odd := [name for name in state if not _equal(state[name], other.get(name))]:
            arm.error(
                "determinism",
                f"two builds from one seed differ in {named(odd)}; draw with torch's, numpy's or Python's own generator",
            )
    return model


def shared_start(model: nn.Module, baseline: nn.Module) -> SharedStart:
    """How the parameters of two models, as they are built, stand beside each other."""
    here, there = dict(model.named_parameters()), dict(baseline.named_parameters())
    equal = tuple(name for name, p in here.items() if _equal(p, there.get(name)))
    return SharedStart(
        equal=equal,
        other_values=tuple(name for name in here if name in there and name not in equal),
        only_here=tuple(name for name in here if name not in there),
        only_in_baseline=tuple(name for name in there if name not in here),
    )


def check_forward(arm: CheckedArm, config: RunConfig, bench: Bench) -> bool:
    """Whether logits come out in evaluation, equal twice, without drawing anything: what else is checked stands on that.

    Two evaluations cannot be compared where logits are not finite: `check_finite` tells that.
    """
    told = len(arm.errors)
    with arm.guarded("forward"):
        model, images = bench.model(config).eval(), bench.evaluated(config)
        before = _generators()
        logits = _logits(model, images)
        if moved := _moved(before):
            arm.error("generators", f"evaluation draws from {' and '.join(moved)}; draw in training alone")
        _check_logits(arm, config, logits, len(images))
        if logits.isfinite().all():
            arm.deterministic = torch.equal(logits, _logits(model, images))
        if arm.deterministic is False and images.device.type == "cpu" and not moved:
            arm.error(
                "determinism",
                "two evaluations of the same images differ; leave randomness to training (self.training), and keep no state",
            )
    return len(arm.errors) == told


def _check_logits(arm: CheckedArm, config: RunConfig, logits: Tensor, images: int) -> None:
    expected = (images, config.model.num_classes)
    if logits.shape != expected:
        arm.error("forward", f"logits are {list(logits.shape)}, expected {list(expected)} (images, classes)")


def check_batch_sizes(arm: CheckedArm, config: RunConfig, bench: Bench) -> bool:
    """Whether logits come out for images of any number. Those of an image must be the same alone, in pairs, in a ragged last
    batch and in a whole one; where they are not finite, they are not compared.
    """
    raised = True
    with arm.guarded("batch size"):
        model, images, tolerance = bench.exact(config, bench.evaluated(config), moved=True)
        whole = _logits(model, images)
        for size in dict.fromkeys(size for size in (1, 2, 3, len(images) - 1) if 0 < size < len(images)):
            try:
                logits = _logits(model, images[-size:])
            except Exception as error:
                text = " ".join(str(error).split())[:300]
                arm.error("batch size", f"works with {len(images)} images, and not with {size}: {text}")
                return False
            if whole.isfinite().all() and differ(logits, whole[-size:], tolerance):
                arm.error(
                    "batch size",
                    f"in evaluation, an image's logits depend on the other images of its batch ({size} or {len(images)} of "
                    "them); compute over each image by itself",
                )
                break
        raised = False
    return not raised


def check_training_mode(arm: CheckedArm, config: RunConfig, bench: Bench) -> None:
    """How training computes otherwise than evaluation: by dropout, drop path and BatchNorm alone."""
    with arm.guarded("training mode"):
        images = bench.batches(config, 1)[0][0]
        model = bench.model(config, moved=True)
        names = {module: name for name, module in model.named_modules()}
        noise = [m for m in names if drops(m)]
        norms = [m for m in names if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        arm.batch_norms = tuple(names[m] for m in norms)
        arm.training_differs_by = tuple(names[m] for m in (*noise, *norms))
        _check_draws(arm, model.train(), images)
        evaluated = _logits(model.eval(), images)  # after BatchNorm's statistics have moved
        model.train()
        for module in (*noise, *norms):
            module.training = False
        quiet = _seeded_logits(model, images, 0)
        if not torch.equal(quiet, _seeded_logits(model, images, 1)):
            arm.training_differs_by += ("draws of a user's part",) if parts_of(model) else ("draws of its own",)
            return
        if differ(quiet, evaluated, 1e-5):
            arm.warn(
                "training mode",
                f"training computes otherwise than evaluation, and not by dropout, drop path or BatchNorm{_by_whom(model)}; "
                "is it meant so?",
            )
        if differ(_seeded_logits(model, images[:2], 0), quiet[:2], 1e-4):
            arm.warn(
                "batch size", "in training, an image's logits depend on the other images of its batch; is it meant so?"
            )


def _check_draws(arm: CheckedArm, model: nn.Module, images: Tensor) -> None:
    """In training, draws are torch's, which is seeded in each step."""
    before = _generators()
    first = _seeded_logits(model, images, 0)
    if moved := [name for name in _moved(before) if name != TORCH]:
        arm.error(
            "generators", f"training draws from {' and '.join(moved)}, which no step seeds; draw with torch's functions"
        )
        return
    if images.device.type == "cpu" and not torch.equal(first, _seeded_logits(model, images, 0)):
        arm.error(
            "determinism",
            "two training passes with equal seeds differ; draw with torch's functions alone, and keep no state",
        )
    after = torch.get_rng_state()
    _seeded_logits(model, images, 1)
    if torch.equal(after, torch.get_rng_state()):
        arm.error(
            "generators",
            "training seeds torch's generator itself, so that every step draws alike; leave out manual_seed",
        )


def _seeded_logits(model: nn.Module, images: Tensor, seed: int) -> Tensor:
    seed_dropout(seed, images.device)
    return _logits(model, images)


def _by_whom(model: nn.Module) -> str:
    names = [f"{type(part).__name__} ({name})" for name, part in parts_of(model).items()]
    return f": look at {named(names)}" if names else ""


def check_input_is_read(arm: CheckedArm, config: RunConfig, bench: Bench) -> None:
    """Logits depend on the images, and what each user's part gives on what it is given."""
    with arm.guarded("input"):
        model, images = bench.model(config, moved=True).eval(), bench.evaluated(config)
        if not differ(_logits(model, images), _logits(model, images.flip(0).flip(-1) * 0.5), 1e-6):
            arm.error("input", "logits do not depend on the images; is some part leaving its input out?")
        seen: dict[str, tuple[nn.Module, tuple[Any, ...]]] = {}
        parts = {} if isinstance(model, UserModel) else parts_of(model)
        handles = [part.register_forward_pre_hook(_noter(seen, name)) for name, part in parts.items()]
        _logits(model, images[:4])
        for handle in handles:
            handle.remove()
        told: set[str] = set()
        for name, (part, inputs) in seen.items():
            x = inputs[0]
            with torch.no_grad():
                same = torch.equal(part(*inputs), part(x + torch.randn_like(x), *inputs[1:]))
            what = f"{role_of(part)} {type(part).__name__}"
            if same and what not in told:
                told.add(what)
                arm.error("input", f"{what} ({name}) ignores its input: it gives the same whatever it is given")


def _noter(seen: dict[str, tuple[nn.Module, tuple[Any, ...]]], name: str) -> Callable[[nn.Module, Any], None]:
    def note(module: nn.Module, inputs: Any) -> None:
        seen[name] = module, inputs

    return note


def check_position(arm: CheckedArm, config: RunConfig, bench: Bench) -> None:
    """Whether logits change where the patches of an image change places, at weights with nothing special to them."""
    with arm.guarded("position"):
        images = bench.evaluated(config)[:8]
        model, exact, tolerance = bench.exact(config, images, moved=True)
        arm.position_matters = differ(_logits(model, exact), _logits(model, shuffled(exact, config)), tolerance * 100)
        name = getattr(config.model, "position", "none")
        if isinstance(config.model, ViTConfig) and "position" in config.model.user_parts:
            if not arm.position_matters:
                arm.error("position", f"position {name} does not matter: patches in another order give the same logits")
            elif _is_none(config, config.model, bench):
                arm.error("position", f"position {name} does nothing: logits are those of position none")


def _is_none(config: RunConfig, model: ViTConfig, bench: Bench) -> bool:
    images = bench.evaluated(config)[:8]
    without = config.replace(model=model.replace(position="none"))
    logits = [_logits(bench.model(c, moved=True).eval(), images) for c in (config, without)]
    return torch.equal(*logits)


def check_state(arm: CheckedArm, config: RunConfig, bench: Bench) -> None:
    """A state_dict holds all that a model has learned: another one that loads it gives equal logits."""
    with arm.guarded("checkpoint"):
        images = bench.evaluated(config)[:8]
        model = bench.model(config, moved=True)
        with torch.no_grad():
            model.train()(images)  # what running statistics there are have moved
        another: nn.Module = bench.build(config.replace(seed=config.seed + 1), config.seed + 1)
        another.load_state_dict(model.state_dict())
        if not torch.equal(_logits(model.eval(), images), _logits(another.eval(), images)):
            arm.error(
                "checkpoint",
                "a model that loads the weights of another gives other logits: something is kept outside of parameters and "
                "buffers; make it a buffer, or a function of the configuration",
            )


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(images)
    return logits


def _generators() -> dict[str, Any]:
    numpy: Any = np.random.get_state()
    return {
        TORCH: torch.get_rng_state().tolist(),
        "numpy's generator": [numpy[1].tolist(), *numpy[2:]],
        "Python's generator": random.getstate(),
    }


def _moved(before: dict[str, Any]) -> list[str]:
    """Names of the generators whose state is another."""
    return [name for name, state in _generators().items() if state != before[name]]


def _equal(a: Tensor, b: Tensor | None) -> bool:
    return b is not None and a.shape == b.shape and torch.equal(a, b)
