"""Section: arms of a sweep against controls, as `report.comparison` found them."""

from __future__ import annotations

from collections.abc import Sequence

from sumcirc.reporting.arms import BUDGET
from sumcirc.reporting.comparison import Comparison
from sumcirc.reporting.page.charts import COLOURS, error_bars, figure, line, log_axis
from sumcirc.reporting.page.text import isolated, plain
from sumcirc.reporting.page.view import Block, Chart, Gap, Items, Page, Table, Variant, Words
from sumcirc.reporting.runs import MEASURES
from sumcirc.reporting.tables import remarks, tables
from sumcirc.reporting.writing import METHOD
from sumcirc.statistics import Estimate

DASHES = ("solid", "dash", "dot")
INTRO = (
    "An arm is what runs share except the seed. Intervals are over seeds and documents; a number in"
    " brackets leads to a remark below the tables."
)


def add(page: Page, comparison: Comparison | None) -> None:
    """Tables, charts and findings in words."""
    if comparison is None:
        return
    blocks: list[Block] = []
    found = tables(comparison)
    blocks += [Table(found[0]), _arms(comparison)]
    sizes = [result.arm.trainable_parameters for result in comparison.arms]
    if max(sizes) > (1 + BUDGET) * min(sizes):
        blocks.append(_parameters(comparison))
    blocks += [Table(table) for table in found[1:]]
    for against in comparison.options.against:
        if comparison.of(against, comparison.options.metric):
            blocks.append(_differences(comparison, against))
    blocks += _losses(comparison)
    for title, lines in (("Not on a par", remarks(comparison)), ("To note", comparison.notes)):
        if lines:
            blocks.append(Items(title, lines))
    blocks.append(Words(METHOD.replace("\n", " ")))
    page.add("bakeoff", "Comparison of arms", INTRO, [Variant("", blocks)])
    for item in comparison.left_out:
        page.gaps.append(Gap(f"{item.path.name} is not compared: {item.reason}"))


def _ends(estimates: Sequence[Estimate]) -> list[list[float]]:
    return [[100 * getattr(one, name) for one in estimates] for name in ("mean", "low", "high")]


def _arms(comparison: Comparison) -> Chart:
    import plotly.graph_objects as go

    metric = comparison.options.metric
    found = comparison.arms[::-1]  # plotly begins at the bottom
    ends = _ends([result.scores[metric] for result in found])
    trace = go.Scatter(
        x=ends[0],
        y=[isolated(result.arm.label) for result in found],
        error_x=error_bars(*ends),
        mode="markers",
        marker={"size": 10, "color": COLOURS[0]},
        hovertemplate="%{y}: %{x:.1f}<extra></extra>",
    )
    drawn = figure(
        [trace],
        xaxis={"title": {"text": f"{MEASURES[metric]} x 100"}},
        yaxis={"type": "category"},
        height=max(30 * len(found) + 110, 220),
    )
    sizes = [result.arm.trainable_parameters for result in found]
    return Chart(
        f"{MEASURES[metric]} of every arm",
        "A point is an arm, its bar the interval over seeds and documents."
        f" Trainable parameters: {_range(sizes)}.",
        f"{len(found)} arms from the highest to the lowest; the table above has the values.",
        drawn,
    )


def _range(sizes: Sequence[float]) -> str:
    low, high = min(sizes), max(sizes)
    return f"{low:,.0f}" if low == high else f"{low:,.0f} to {high:,.0f}"


def _parameters(comparison: Comparison) -> Chart:
    import plotly.graph_objects as go

    metric = MEASURES[comparison.options.metric]
    traces = []
    for i, result in enumerate(comparison.arms):
        ends = _ends([result.scores[comparison.options.metric]])
        label = isolated(result.arm.label)
        traces.append(
            go.Scatter(
                x=[result.arm.trainable_parameters],
                y=ends[0],
                error_y=error_bars(*ends),
                name=label,
                mode="markers",
                marker={
                    "size": 11,
                    "color": COLOURS[i % len(COLOURS)],
                    "symbol": "circle-open" if result.remarks else "circle",
                },
                hovertemplate=f"{label}<br>%{{x:,.0f}} parameters: %{{y:.1f}}<extra></extra>",
            )
        )
    drawn = figure(
        traces,
        xaxis=log_axis("trainable parameters", (size for trace in traces for size in trace.x)),
        yaxis={"title": {"text": f"{metric} x 100"}},
        showlegend=len(traces) <= 12,
    )
    best = comparison.arms[0].arm.label
    return Chart(
        f"Trainable parameters against {metric}",
        "A point is an arm, its bar the interval over seeds and documents. Higher at equal width is"
        " better. Open circles: a remark says why the arm is not on a par with the others.",
        f"{len(traces)} arms by trainable parameters and {metric}; the highest is {best}.",
        drawn,
    )


def _differences(comparison: Comparison, against: str) -> Chart:
    import plotly.graph_objects as go

    metric = comparison.options.metric
    order = [result.arm.label for result in comparison.arms][::-1]
    found = sorted(comparison.of(against, metric), key=lambda one: order.index(one.arm.label))
    ends = _ends([one.estimate for one in found])
    trace = go.Scatter(
        x=ends[0],
        y=[isolated(one.arm.label) for one in found],
        error_x=error_bars(*ends),
        mode="markers",
        marker={
            "size": 10,
            "color": COLOURS[0],
            "symbol": ["circle" if one.shown(comparison.alpha) else "circle-open" for one in found],
        },
        text=[plain(one.verdict(comparison.alpha)) for one in found],
        hovertemplate="%{y}: %{x:+.1f}<br>%{text}<extra></extra>",
    )
    drawn = figure(
        [trace],
        xaxis={"title": {"text": "arm minus control, x 100"}, "zeroline": True},
        yaxis={"type": "category"},
        height=max(34 * len(found) + 110, 220),
    )
    return Chart(
        f"{MEASURES[metric]}: differences to {against}",
        "Right of 0 the arm scored higher on the same documents. Filled points differ after Holm's"
        " correction; of open ones no difference was shown, which does not say that there is none.",
        f"Differences of {len(found)} arms to {against}, with intervals; the table above has them.",
        drawn,
    )


def _losses(comparison: Comparison) -> list[Block]:
    traces = []
    for i, result in enumerate(comparison.arms):
        label = isolated(result.arm.label)
        for j, run in enumerate(run for run in result.arm.runs if run.losses):
            traces.append(
                line(
                    [step for step, _ in run.losses],
                    [loss for _, loss in run.losses],
                    label,
                    legendgroup=label,
                    showlegend=j == 0,
                    line={
                        "color": COLOURS[i % len(COLOURS)],
                        "width": 1.5,
                        # colours begin again after the sixth arm
                        "dash": DASHES[i // len(COLOURS) % len(DASHES)],
                    },
                    marker={"size": 4},
                    hovertemplate=f"{label}, step %{{x}}: %{{y:.3f}}<extra></extra>",
                )
            )
    if not traces:
        return []
    drawn = figure(
        traces,
        xaxis={"title": {"text": "optimizer step"}},
        yaxis={"title": {"text": "validation loss (nats per summary token)"}},
        showlegend=len(comparison.arms) <= 12,
    )
    return [
        Chart(
            "Validation loss of every run",
            "A line is a run, a colour an arm; lower is better. Point at a line for its arm.",
            f"Validation loss over steps of {len(traces)} runs.",
            drawn,
        )
    ]
