"""Which trained model does an arm's name stand for: that of which of its runs, of those whose weights are kept?"""

from __future__ import annotations

from pathlib import Path

from vitbench import user_code
from vitbench.execution.reuse import has_weights
from vitbench.records import Faults, Outcome, Record, RecordStore
from vitbench.studies import load_study
from vitbench.studies.library import is_study_file
from vitbench.studies.target import ArmName, arm_name
from vitbench.text import counted, did_you_mean, say


def kept_run(text: str, results: Path) -> str:
    """The run_id of an arm's run that is best on validation, of those whose weights are kept; any other name as it is.

    The user's code of a study file is known to this process afterwards. Raises ValueError where no weights are kept.
    """
    name = None if text.endswith((".npz", ".safetensors")) else arm_name(text)
    if name is None:
        return text
    if is_study_file(name.study) and not Path(name.study).is_file():
        raise _without_file(name, results)
    study = load_study(name.study)
    records = [r for r in RecordStore(results, Faults()).read(study.name) if r.outcome is Outcome.COMPLETED]
    of_arm = [record for record in records if record.arm == name.arm]
    if not of_arm:
        arms = dict.fromkeys(record.arm for record in records)
        there = (
            f"there are {', '.join(map(repr, arms))}" if arms else f"run it: vitbench run {name.study} --keep-weights"
        )
        raise ValueError(
            f"arm {name.arm!r} of {name.study} has no completed run in {results}; {did_you_mean(name.arm, arms, there)}"
        )
    kept = [record for record in of_arm if has_weights(results, record)]
    if not kept:
        raise ValueError(
            f"arm {name.arm!r} of {name.study} has no run in {results} whose weights are kept; vitbench run {name.study} "
            "--keep-weights keeps those of new runs, give another --results"
        )
    loaded = [record for record in kept if all(map(user_code.is_loaded, record.config.user_code))]
    if not loaded:
        other = ", ".join(n for n in kept[-1].config.user_code if not user_code.is_loaded(n))
        raise ValueError(
            f"arm {name.arm!r} of {name.study} was trained with {other}, which is not what the file has now; bring the old "
            f"code back (it is kept in {results / 'sources'}), or run the study again"
        )
    best = max(loaded, key=_validation)
    if len(loaded) > 1:
        say(
            f"{text}: run {best.run_id} (seed {best.seed}, learning rate {best.learning_rate:g}), the best on validation of "
            f"{counted(len(loaded), 'run')} with weights"
        )
    return best.run_id


def _without_file(name: ArmName, results: Path) -> ValueError:
    """The refusal of an arm whose study file is not there, with the runs that records have of a study of that name."""
    records = RecordStore(results, Faults()).read(Path(name.study).stem)
    kept = [r for r in records if r.outcome is Outcome.COMPLETED and r.arm == name.arm and has_weights(results, r)]
    run_id = max(kept, key=_validation).run_id if kept else "RUN_ID"
    code = ", and --study FILE.py where the model is of your code" if not kept or kept[0].config.user_code else ""
    return ValueError(f"study file {name.study!r} does not exist; give its path, or the run itself: {run_id}{code}")


def _validation(record: Record) -> float:
    return record.metrics.get("val_top1", 0.0)
