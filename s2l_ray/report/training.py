"""Training curves: the loss of each step of every arm's target, and of the proxy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from s2l_ray.report.figures import Figure, Section, Table, colour, counted, number, percent, plot_text, style
from s2l_ray.report.study import Study
from s2l_ray.storage.files import Storage
from s2l_ray.tables.training_curve import CURVE_FILE

_MOST_MARKS = 100
"""Of one line: of a longer training, each is a mean over steps."""
_NOT_RECORDED = "not recorded"


@dataclass(frozen=True)
class _Curve:
    """One training; arrays of S steps, NaN where something is not known of a step."""

    label: str
    seed: str
    order: int
    """Of its colour: seeds of one configuration share it."""
    loss_S: np.ndarray
    rate_S: np.ndarray
    norm_S: np.ndarray

    @property
    def name(self) -> str:
        """Return what it is called beside others."""
        return f"{self.label}, seed {self.seed}" if self.seed != "-" else self.label


def training_section(study: Study) -> Section:
    """Return the curves of targets and proxies with what they came to, or a sentence where none is there."""
    targets, without = _targets(study)
    proxies, none_of_proxy = _proxies(study)
    sentences, figures = [], []
    if targets:
        sentences.append(_steps(targets))
        figures.append(_figure("training", "Loss of the target by step, for each arm", targets))
    if proxies:
        figures.append(_figure("training-proxy", "Loss of the proxy by step", proxies))
    absent = [*without, *none_of_proxy]
    if absent:
        sentences.append(f"Losses of steps are {_NOT_RECORDED} of {counted(len(absent), 'training')} by an older "
                         f"program: {', '.join(absent[:6])}{' and others' if len(absent) > 6 else ''}.")
    if not (targets or proxies or absent):
        sentences.append("No training curves: no training is finished.")
    return Section(tuple(sentences), tuple(figures))


def _targets(study: Study) -> tuple[list[_Curve], list[str]]:
    found, without = [], []
    for order, point in enumerate(study.points):
        for arm in point.arms:
            manifest = study.manifest_of(arm, "finetune")
            if manifest is None:
                continue
            share = study.share(arm)
            label = point.label if share is None else f"{point.label} at {percent(share)}"
            curve = _read(arm.storage, "finetune", manifest, label, str(arm.seed), order)
            if curve is None:
                without.append(f"{label}, seed {arm.seed}")
            else:
                found.append(curve)
    return found, without


def _proxies(study: Study) -> tuple[list[_Curve], list[str]]:
    found: dict[str, _Curve] = {}
    without: dict[str, str] = {}
    for record in study.records:
        for step in record.steps:
            manifest = study.manifest(record.storage, step["stage"], step["fingerprint"])
            if step["stage"] != "proxy" or manifest is None or step["fingerprint"] in found:
                continue
            curve = _read(record.storage, "proxy", manifest, step["label"], "-", len(found))
            if curve is None:
                without[step["fingerprint"]] = step["label"]
            else:
                found[step["fingerprint"]] = curve
    return list(found.values()), list(without.values())


def _read(
    storage: Storage, stage: str, manifest: Mapping[str, Any], label: str, seed: str, order: int
) -> _Curve | None:
    """Return a training's curve; None where an older program made it."""
    path = f"{stage}/{manifest['fingerprint']}/{CURVE_FILE}"
    if not storage.exists(path):
        return None
    table = storage.read_table(path)
    loss_S, rate_S, norm_S = (table[name].to_numpy().astype(float) for name in ("loss", "learning_rate", "grad_norm"))
    return _Curve(label, seed, order, loss_S, rate_S, norm_S)


def _steps(curves: Sequence[_Curve]) -> str:
    """Say whether the arms were trained for equally many steps."""
    counts = sorted({len(curve.loss_S) for curve in curves})
    if len(curves) == 1:
        return f"One target was trained, for {counted(counts[0], 'step')}."
    if len(counts) == 1:
        return f"All {len(curves)} targets were trained for equally many steps: {counts[0]:,}."
    return (f"The {len(curves)} targets were trained for different numbers of steps, {counts[0]:,} to {counts[-1]:,}: "
            "lines that end later have seen more examples.")


def _figure(name: str, title: str, curves: Sequence[_Curve]) -> Figure:
    longest = max(_width(curve) for curve in curves)
    smoothing = (f"Steps are many: each mark is the mean of up to {longest} of them." if longest > 1 else
                 "Each step has its mark.")
    ends = "; ".join(f"{curve.name}: {number(_mean(curve.loss_S[:_tail(curve)]))} to "
                     f"{number(_mean(curve.loss_S[-_tail(curve):]))}" for curve in curves[:12])
    rows = " Arms have different rows, so a lower line is no better arm." if len(curves) > 1 else ""
    description = (f"Mean loss over a step's supervised tokens, in nats, of the rows that the model is trained on."
                   f"{rows} {smoothing} First to last tenth: {ends}.")
    layout = {"xaxis": {"title": {"text": "optimizer step"}, "rangemode": "tozero"},
              "yaxis": {"title": {"text": "loss (nats per token)"}}}
    return Figure(name, title, description, [_trace(curve, curves) for curve in curves], layout, (_table(curves),))


def _trace(curve: _Curve, curves: Sequence[_Curve]) -> dict[str, Any]:
    width = _width(curve)
    starts = range(0, len(curve.loss_S), width)
    means = [_mean(curve.loss_S[start:start + width]) for start in starts]
    first = next(other for other in curves if other.order == curve.order)
    return {
        "type": "scatter", "mode": "lines" if len(means) > 1 else "markers", "name": plot_text(curve.label),
        "legendgroup": plot_text(curve.label), "showlegend": first is curve,
        "x": [start + (min(width, len(curve.loss_S) - start) + 1) / 2 for start in starts],
        "y": [None if np.isnan(mean) else round(mean, 5) for mean in means],
        "hovertemplate": f"{plot_text(curve.name)}: %{{y:.3f}} at step %{{x:,.0f}}<extra></extra>",
        **style(curve.order), "line": {**style(curve.order)["line"], "color": colour(curve.order), "width": 1.5},
    }


def _table(curves: Sequence[_Curve]) -> Table:
    rows = []
    for curve in curves:
        tail, norms_S = _tail(curve), curve.norm_S[np.isfinite(curve.norm_S)]
        rates_S = curve.rate_S[np.isfinite(curve.rate_S)]
        rows.append((
            curve.label, curve.seed, f"{len(curve.loss_S):,}", number(_mean(curve.loss_S[:tail])),
            number(_mean(curve.loss_S[-tail:])), f"{rates_S.max():.2g}" if len(rates_S) else _NOT_RECORDED,
            f"{np.median(norms_S):.3g}" if len(norms_S) else _NOT_RECORDED,
            f"{norms_S.max():.3g}" if len(norms_S) else _NOT_RECORDED))
    return Table("What the trainings came to", (
        "training", "seed", "steps", "loss of the first tenth", "loss of the last tenth", "peak learning rate",
        "median gradient norm", "largest gradient norm"), tuple(rows))


def _width(curve: _Curve) -> int:
    """Return how many steps a mark stands for."""
    return -(-len(curve.loss_S) // _MOST_MARKS)


def _tail(curve: _Curve) -> int:
    """Return a tenth of the steps."""
    return max(1, len(curve.loss_S) // 10)


def _mean(values_S: np.ndarray) -> float:
    """Return the mean of those that are finite; NaN where none is."""
    known_S = values_S[np.isfinite(values_S)]
    return float(known_S.mean()) if len(known_S) else float("nan")
