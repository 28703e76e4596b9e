"""What do the numbers of a comparison share, and how are they to be read? The lines above and below its table."""

from __future__ import annotations

from vitbench.analysis.comparison.assessment import Assessment
from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.differing import not_shared
from vitbench.analysis.tables.reading import reading
from vitbench.analysis.tables.robustness import robustness_reading
from vitbench.analysis.tables.secondary import about_secondary
from vitbench.analysis.writing.words import listed, seeds_text
from vitbench.config import Config
from vitbench.records.metrics import METRICS
from vitbench.studies.settings import value_text

MATCHED = {
    "flops": "Training FLOPs are equal, not epochs: each arm trains until it has spent the FLOPs of {baseline}, counted as "
    "6 × MACs an image.",
    "time": "Training time is equal, not epochs: each arm trains for as long as {baseline} does, by images/s measured before "
    "on the same device, arms in turn or under the same load.",
}
"""What is equal for all arms in place of epochs, and how it was counted."""


def facts(comparison: Comparison) -> dict[str, str]:
    """What the numbers of a comparison share, as label and text."""
    environment = comparison.environment
    machine = [
        environment.device,
        f"machine {environment.machine}",
        comparison.precision_text,
        comparison.compiled_text,
        f"torch {environment.torch}",
        f"{listed(comparison.environment_values('threads'))} threads",
    ]
    named = {
        "Question": comparison.design.question,
        "Source": comparison.design.source,
        "Data": _data_text(comparison),
        "Variant": comparison.variant,
        "Budget": f"{comparison.budget}, {comparison.epochs_text}",
        "Recipe": _recipe_text(comparison),
        "Changed by arms": _changed_text(comparison),
        "Judged by": _judged_by(comparison),
        "Seeds": listed(comparison.seeds),
        "Environment": listed(machine),
        "Harness version": str(comparison.harness_version),
    }
    return {label: text for label, text in named.items() if text}


def _judged_by(comparison: Comparison) -> str:
    """`loss (nats), less is better; declared before the runs`; empty for top-1, where that was declared."""
    metric = comparison.metric
    is_late = comparison.metric_is_declared and comparison.earlier_metrics
    if metric.is_top1 and comparison.metric_is_declared and not is_late:
        return ""
    direction = "more" if metric.larger_is_better else "less"
    declared = METRICS[comparison.design.metric].words
    when = "after some of the runs" if is_late else "before the runs"
    by_whom = f"declared {when}" if comparison.metric_is_declared else f"not declared: the study declared {declared}"
    return f"{metric.heading}, {direction} is better; {by_whom}"


def judged_by_sentence(comparison: Comparison) -> list[str]:
    """For a page that has no facts above its table; nothing for top-1, where that was declared."""
    text = _judged_by(comparison)
    return [f"Judged by {text}."] if text else []


def _metric_text(comparison: Comparison) -> str:
    """`Top-1 is test accuracy`: what the column of means has."""
    metric = comparison.metric
    if metric.is_top1:
        return "Top-1 is test accuracy"
    return f"{metric.words[0].upper()}{metric.words[1:]} is that of the test images"


def conventions(assessment: Assessment) -> list[str]:
    """How to read the numbers."""
    comparison = assessment.comparison
    sentences = [
        f"{_metric_text(comparison)} after the final epoch: mean ± standard deviation over n seeds, "
        f"{_choice_text(comparison)}."
    ]
    if comparison.baseline is not None:
        sentences.append(
            f"Differences are from {comparison.reference_text}, paired by seed, with the interval that decides the verdict."
        )
        if comparison.tells_changes:
            sentences.append("Equal seeds see the same images in the same order, but where a note says otherwise.")
        sentences += _scales(comparison)
        if comparison.design.images_differ:
            sentences.append(
                "Training steps are equal, not epochs: an arm with fewer images sees each of them more often. The test "
                "images are the same."
            )
        if comparison.design.has_starts:
            sentences.append(
                "Some arms start from another arm's trained weights, of the same seed and setting, head included; 0 epochs: "
                "those weights as they are. Training (TFLOP) includes the training of those weights; epochs and images/s do "
                "not."
            )
        if comparison.design.match != "epochs":
            sentences.append(MATCHED[comparison.design.match].format(baseline=comparison.baseline.label))
    sentences += [*reading(assessment), *about_secondary(comparison), *robustness_reading(assessment)]
    memory = (
        "Peak memory is the most bytes of tensors alive at once in one training step"
        if comparison.environment.device.startswith("cpu")
        else "Peak memory is the peak of the CUDA allocator"
    )
    sentences += [
        "1 MAC = 2 FLOPs; MACs are per image, forward; softmax and norms are not counted.",
        f"{memory}, the largest over the runs behind top-1; images per second are medians over the same runs.",
    ]
    return sentences


def _scales(comparison: Comparison) -> list[str]:
    """What learning rates mean where arms have multiples of the grid's."""
    noun, scales = comparison.design.short_noun, comparison.design.learning_rate_scales
    labels = [f"{arm.label} (× {value_text(scales[arm.name])})" for arm in comparison.arms if arm.name in scales]
    if not labels:
        return []
    return [
        f"Learning rates of {listed(labels)} are those of the grid times that factor: as many trials for every arm. At the "
        f"baseline's {noun}: at the same step of the grid."
    ]


def _choice_text(comparison: Comparison) -> str:
    """At which setting an arm's number is, and whether that was a choice."""
    fixed = [arm for arm in comparison.arms if arm.is_fixed]
    noun = comparison.design.noun
    if len(fixed) == len(comparison.arms):
        settings = {setting: arm.text(setting) for arm in fixed for setting in arm.grid}
        if len(settings) > 1:
            return f"at one fixed {noun} per arm, not the same for all, without tuning"
        return f"at one fixed {noun}, {listed(settings.values())}, for every arm, without tuning"
    chosen = f"at the {noun} with the best mean validation accuracy of that arm"
    if fixed:
        chosen += f"; that of {listed(arm.label for arm in fixed)} was fixed, without tuning"
    value, tuning_seeds = comparison.design.short_noun, comparison.design.tuning_seeds
    seeds = "the seeds" if tuning_seeds is None else f"those of {seeds_text(range(tuning_seeds))}"
    held_out = "" if tuning_seeds is None else "; the other seeds are held out"
    return f"{chosen}. {value.capitalize()}s are compared on {seeds} at which every {value} has a result{held_out}"


def _data_text(comparison: Comparison) -> str:
    data = comparison.data
    sizes = [
        "all training images" if data.train_images is None else f"{data.train_images:,} training images",
        f"{data.validation_fraction:.3g} of train held out for validation",
    ]
    if comparison.num_test_images:
        sizes.append(f"{comparison.num_test_images:,} test images")
    kinds = {(arm.model.in_channels, arm.model.num_classes) for arm in comparison.arms}
    if len(kinds) == 1:
        ((channels, classes),) = kinds
        images = sorted({arm.model.image_hw for arm in comparison.arms})
        pixels = " to ".join(f"{height} × {width}" for height, width in dict.fromkeys((images[0], images[-1])))
        sizes.append(f"{pixels} × {channels} pixels, {classes} classes")
    has_more = {*_unusual(data)} & not_shared(comparison).keys()
    augmentation = listed(_augmentation(comparison)) or ("none that all arms share" if has_more else "none")
    return f"{data.dataset}: {'; '.join(sizes)}; augmentation: {augmentation}"


def _recipe_text(comparison: Comparison) -> str:
    """`muon, batches of 128, weight decay 0.05, …`: the training that all arms share but for epochs and what was tuned."""
    train = comparison.train
    parts = {
        "optimizer": train.optimizer,
        "betas": "" if train.betas is None else "β {:g} and {:g}".format(*train.betas),
        "momentum": "" if train.momentum is None else f"momentum {train.momentum:g}",
        "eps": "" if train.eps is None else f"ε {value_text(train.eps)}",
        "batch_size": f"batches of {train.batch_size}",
        "weight_decay": f"weight decay {train.weight_decay:g}",
        "schedule": f"{train.schedule} schedule",
        "min_learning_rate": f"down to {value_text(train.min_learning_rate)}" if train.min_learning_rate else "",
        "warmup_fraction": f"{100 * train.warmup_fraction:g} % warm-up",
        "clip_norm": "" if train.clip_norm is None else f"gradients clipped at {train.clip_norm:g}",
        "loss": "" if train.loss == "cross_entropy" else train.loss.replace("_", " "),
        "label_smoothing": f"label smoothing {train.label_smoothing:g}" if train.label_smoothing else "",
        "ema_decay": "" if train.ema_decay is None else f"weights averaged (decay {train.ema_decay:g})",
        "trainable": "" if train.trainable == "all" else f"{train.trainable} and head trained alone",
        "layer_decay": "" if train.layer_decay is None else f"layer decay {train.layer_decay:g}",
    }
    return listed(_shared(comparison, train, parts))


def _shared(comparison: Comparison, config: Config, parts: dict[str, str]) -> list[str]:
    """What all arms share of a part of the configuration; `parts` says it in words, the other fields by their names."""
    tuned, not_shared_by_all = comparison.design.tuned, not_shared(comparison)
    others = {name: f"{name} {value_text(getattr(config, name))}" for name in _unusual(config) if name not in parts}
    words = {name: f"{name.replace('_', ' ')} as tuned" if name in tuned else text for name, text in parts.items()}
    return [text for name, text in (words | others).items() if text and name not in not_shared_by_all]


def _unusual(config: Config) -> list[str]:
    """Fields whose value is not their default and stands nowhere else."""
    elsewhere = ("epochs", "learning_rate", "precision", "compile", "dataset", "train_images", "validation_fraction")
    fields = type(config).model_fields
    return [name for name in fields if name not in elsewhere and getattr(config, name) != fields[name].default]


def _changed_text(comparison: Comparison) -> str:
    """`label_smoothing (else 0.1), optimizer`: fields of recipe and data that some arms change, and what the others have."""
    parts = (name if value is None else f"{name} (else {value})" for name, value in not_shared(comparison).items())
    return listed(parts)


def _augmentation(comparison: Comparison) -> list[str]:
    data = comparison.data
    padding = comparison.crop_paddings
    share = f" to {padding[-1]}, the same share of images of every size" if len(padding) > 1 else ""
    parts = {
        "crop_padding": f"crop padding {padding[0]}{share}" if any(padding) else "",
        "flip": "flip" if data.flip else "",
        "mixup": f"mixup {data.mixup:g}" if data.mixup else "",
        "cutmix": f"cutmix {data.cutmix:g}" if data.cutmix else "",
    }
    return _shared(comparison, data, parts)
