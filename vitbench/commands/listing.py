"""`vitbench list`: what there is to name in other commands."""

from __future__ import annotations

import json
from typing import Any

from vitbench.commands.arguments import AsJson


def list_(as_json: AsJson = False) -> None:
    """Variants, studies, data sets, budgets, recipes."""
    from vitbench.costs import count
    from vitbench.data import BUILT_IN
    from vitbench.studies import BUDGETS, STUDIES, load_study
    from vitbench.studies.recipes import RECIPES
    from vitbench.variants import variant, variant_names

    variants: list[dict[str, Any]] = []
    for name in variant_names():
        config = variant(name)
        counts = count(config)
        variants.append(
            {"name": name, "image_size": list(config.image_hw), "params": counts.params, "macs": counts.macs}
        )
    studies = [{"name": name, "question": (s := load_study(name)).question, "source": s.source} for name in STUDIES]
    datasets = [{"name": name, "summary": summary} for name, summary in BUILT_IN.items()]
    budgets = [
        {"name": b.name, "summary": b.summary, "seeds": b.seeds, "seeds_of_built_in_data": b.seeds_on("digits")}
        for b in BUDGETS.values()
    ]
    recipes = [
        {"name": r.name, "summary": r.summary, "source": r.source, "not_here": r.not_here} for r in RECIPES.values()
    ]
    if as_json:
        listed = {
            "variants": variants,
            "studies": studies,
            "datasets": datasets,
            "budgets": budgets,
            "recipes": recipes,
        }
        print(json.dumps(listed))
        return
    print("Studies")
    for study in studies:
        print(f"  {study['name']:<16} {study['question']}\n  {'':<16} {study['source']}")
    print("\nData sets (or your own: a folder, FILE.npz, FILE.py[:NAME]; other names are timm's, with --data-root)")
    for data in datasets:
        print(f"  {data['name']:<18} {data['summary']}")
    print("\nBudgets")
    for budget in budgets:
        print(f"  {budget['name']:<12} {budget['summary']}")
    print("\nRecipes (--recipe of run, plan and train)")
    for recipe in recipes:
        print(
            f"  {recipe['name']:<12} {recipe['summary']}\n  {'':<12} {recipe['source']}; not here: {recipe['not_here']}"
        )
    print("\nVariants (any size/patch; parameters and GMACs at 1,000 classes; 1 MAC = 2 FLOPs)")
    for row in variants:
        size = "×".join(map(str, row["image_size"]))
        print(f"  {row['name']:<12} {size:>8} px {row['params'] / 1e6:>9.2f} M {row['macs'] / 1e9:>9.3f} GMACs")
