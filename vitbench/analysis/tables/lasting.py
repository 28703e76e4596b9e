"""What does a short ablation say of a longer one? A row for each arm; then how often they agree, in sentences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from vitbench.analysis.comparison.comparison import Comparison
from vitbench.analysis.comparison.lasting import PICTURE, TITLE, Lasting, LastingArm, titles_of
from vitbench.analysis.comparison.naming import data_words, study_words
from vitbench.analysis.comparison.together import Together
from vitbench.analysis.statistics.rank_order import RankOrder
from vitbench.analysis.tables.across import difference_and_verdict, raw_finding, together_text
from vitbench.analysis.writing.markup import escape_markdown
from vitbench.analysis.writing.table import Table, csv_text, markdown_head, markdown_list, markdown_rows
from vitbench.analysis.writing.words import listed, significant
from vitbench.studies.settings import value_text
from vitbench.text import agreeing, counted

RULES = (
    "Difference from the study's baseline in points, or in the unit beside it, with the interval that decided the verdict in "
    "that place. Long is what took more training FLOPs, of which the column has how many times those of the short one: 6 × "
    "MACs an image.",
    "Alike: the same verdict in both, be it better, worse or equivalent. Opposed: better in one and worse in the other. "
    "Differs: settled in both, but not the same. Open: not settled in one of them; how many seeds each has is said, the short "
    "one first.",
    "Study, baseline, metric, data set, environment and recipe are equal, but for what size, epochs and number of images "
    "bring. The same runs in two studies count once in the sentences, and so in one of the rows.",
    "Same sign: Clopper and Pearson's interval, as if arms were independent; a lucky baseline shifts all of its arms alike.",
    "Order: Kendall's τ, which no such shift changes among arms of one baseline. Its interval takes the arms as a sample of "
    "those that one could try, each with as many seeds as here: the spread over seeds lowers τ, and is not taken out. Of "
    "eight arms it holds the true τ in 94 % or more of simulated studies, whether most arms do something or nothing.",
)


def page(lastings: Sequence[Lasting]) -> dict[str, str]:
    """The content of the page's files by suffix; empty where no arm has a short and a long comparison."""
    if not lastings:
        return {}
    picture = f"![{escape_markdown(TITLE)} Drawn by vitbench plots](../plots/{PICTURE}.png)"
    lines = [*markdown_head(TITLE), *([picture, ""] if any(each.has_picture for each in lastings) else [])]
    for table, lasting in zip(tables(lastings), lastings, strict=True):
        lines += [f"## {escape_markdown(table.title)}", "", *markdown_rows(table)]
        lines += [*markdown_list(sentences(lasting)), *markdown_list(table.notes, heading="Notes:"), ""]
    lines += [line for rule in RULES for line in (escape_markdown(rule), "")]
    return {"md": "\n".join(lines), "csv": csv_text([_raw_row(each, arm) for each in lastings for arm in each.arms])}


def tables(lastings: Sequence[Lasting]) -> list[Table]:
    """`study | arm | short | long | × training FLOPs | together`, one for each two places."""
    titles = titles_of(lastings)
    return [
        Table(
            title=title,
            rows=[_row(arm) for arm in lasting.arms],
            texts=("study", "arm", "short", "long", "together"),
            conventions=RULES,
            notes=notes(lasting),
        )
        for title, lasting in zip(titles, lastings, strict=True)
    ]


def finding(lasting: Lasting) -> str:
    """One sentence for those who read no more."""
    counts, total, order = lasting.together, len(lasting.distinct_arms), lasting.order
    text = (
        f"On {data_words(lasting.short.dataset)}, a long ablation ({lasting.long.text}{_times(lasting)}) gives "
        f"{_number(counts[Together.ALIKE])} of {counted(total, 'arm')} the verdict of a short one "
        f"({lasting.short.text}) and {_number(counts[Together.OPPOSED])} the opposite one; {_not_compared(counts)}"
    )
    if order is None:
        return f"{text}."
    low, high = ((1 + bound) / 2 for bound in order.interval)
    return (
        f"{text}. Of two arms, the one ahead in the short ablation is ahead in the long one in {_percent(order.share)} of "
        f"pairs (95 % interval {_percent(low)} to {_percent(high)})."
    )


def sentences(lasting: Lasting) -> list[str]:
    """How many verdicts agree, how many signs, how many pairs stand in the same order."""
    counts, total, sign = lasting.together, len(lasting.distinct_arms), lasting.same_sign
    each = "; ".join(f"{together} for {_number(counts[together])}" for together in Together)
    lines = [f"Verdicts of {counted(total, 'arm')}: {each}."]
    if sign.total:
        low, high = map(_percent, sign.interval)
        same = f"The difference has the same sign in both for {sign.same} of {sign.total}"
        lines.append(f"{same} (95 % interval {low} to {high}).")
    if (order := lasting.order) is not None:
        lines.append(_order_text(order))
    return lines


def notes(lasting: Lasting) -> list[str]:
    """What each place is, and which arms it says nothing of."""
    lines = []
    for name, place, index in (("Short", lasting.short, 0), ("Long", lasting.long, 1)):
        by_text: dict[str, list[str]] = defaultdict(list)
        for pair in lasting.comparisons:
            by_text[_how(pair[index])].append(study_words(pair[index].study))
        for text, studies in by_text.items():
            whose = "" if len(by_text) == 1 else f" ({listed(studies)})"
            lines.append(f"{name}{whose}: {place.text}; {text}.")
    lines.append(f"Both on {lasting.environment}.")
    if lasting.saying_nothing:
        arms = (f"{arm} ({study_words(study)}) {verdict}" for (study, arm), verdict in lasting.saying_nothing.items())
        lines.append(f"Left out, as that says nothing of the arm: {listed(arms)}.")
    return lines


def _how(comparison: Comparison) -> str:
    """`standard budget; learning rates 0.002, 0.004, chosen on 2 seeds; 5 seeds; 3 arms tested together; …`."""
    design = comparison.design
    tried = sorted({setting[0] for arm in comparison.arms for setting in comparison.grid_settings(arm)})
    rates = listed(map(value_text, tried))
    on = "all seeds" if design.tuning_seeds is None else counted(design.tuning_seeds, "seed")
    seeds = f"seeds added at {listed(design.looks)}" if design.looks else counted(len(comparison.seeds), "seed")
    tuned = f"learning rates {rates}, chosen on {on}" if len(tried) > 1 else f"learning rate {rates}"
    also = f", and {listed(design.tuned)} with them" if design.tuned else ""
    tested = f"{counted(len(design.compared_arms), 'arm')} tested together"
    operators = comparison.environment.operators
    return f"{comparison.budget} budget; {tuned}{also}; {seeds}; {tested}; operators: {operators}"


def _row(arm: LastingArm) -> dict[str, str]:
    return {
        "study": study_words(arm.across.study),
        "arm": arm.across.arm,
        "short": difference_and_verdict(arm.short),
        "long": difference_and_verdict(arm.long),
        "× training FLOPs": significant(arm.times_the_flops),
        "together": together_text(arm.across),
    }


def _raw_row(lasting: Lasting, arm: LastingArm) -> dict[str, Any]:
    """An arm in both places, at full precision."""
    row: dict[str, Any] = {"study": arm.across.study, "arm": arm.across.arm, "dataset": lasting.short.dataset}
    for name, place, there in (("short", lasting.short, arm.short), ("long", lasting.long, arm.long)):
        row |= {
            f"{name}_comparison": arm.across.slugs[place],
            f"{name}_variant": place.variant,
            f"{name}_epochs": place.epochs,
            f"{name}_train_images": place.train_images or None,
            f"{name}_training_tflop": None if (flops := there.arm.training_flops) is None else flops / 1e12,
            **{f"{name}_{key}": value for key, value in raw_finding(there).items()},
        }
    return row | {"counted": arm in lasting.distinct_arms, "together": arm.together.value}


def _order_text(order: RankOrder) -> str:
    low, high = (f"{bound:+.2f}".replace("-", "−") for bound in order.interval)
    tau = f"{order.tau:+.2f}".replace("-", "−")
    if order.interval.low > 0:
        meaning = "more than chance"
    elif order.interval.high < 0:
        meaning = "the order is turned, and not by chance"
    else:
        meaning = "which so few arms cannot tell from chance"
    ties = order.num_pairs - order.same - order.opposite
    tied = f", with {counted(ties, 'tie')}" if ties else ""
    return (
        f"Of two arms, the one ahead in the short ablation is ahead in the long one in {order.same} of {order.num_pairs} pairs"
        f"{tied}: rank correlation {tau} [{low}, {high}], {meaning}."
    )


def _not_compared(counts: Counter[Together]) -> str:
    differs, is_open = counts[Together.DIFFERS], counts[Together.OPEN]
    return (
        f"{_number(differs)} {agreeing(differs, 'differs', 'differ')} otherwise, and {_number(is_open)} "
        f"{agreeing(is_open, 'is', 'are')} open in one of the two"
    )


def _times(lasting: Lasting) -> str:
    """`; 31.2 to 39.4 times the training FLOPs`."""
    if lasting.times_the_flops is None:
        return ""
    fewest, most = map(significant, lasting.times_the_flops)
    return f"; {fewest if fewest == most else f'{fewest} to {most}'} times the training FLOPs"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _number(count: int) -> str:
    return str(count or "none")
