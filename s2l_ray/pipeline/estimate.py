"""What a run will take, step by step: seconds, GPU-hours, money, memory; and what finished steps took."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from s2l_ray.pipeline.machine import Machine
from s2l_ray.progress.wording import clock
from s2l_ray.stages.planning import Step, module_of
from s2l_ray.stages.work import Sizes, Work


def work_of(step: Step, sizes: Sizes) -> Work:
    """Return what a step does, as its stage says."""
    says = getattr(module_of(step.stage), "work", None)
    found: Work = says(step, sizes) if says else Work(0)
    return found


def estimate(steps: Sequence[Step], sizes: Sizes, machine: Machine) -> dict[str, Any]:
    """Return each step's work, what it will take, and what it took where it is finished; then the whole."""
    resources = sizes.recipe.resources
    rows: list[dict[str, Any]] = []
    for step in steps:
        work = work_of(step, sizes)
        rate, num_workers = machine.rate(step, work, resources), machine.num_workers(step.workers, resources)
        seconds = rate.start_s + (work.operations or work.tokens) / (rate.per_worker * num_workers)
        on_gpus = resources.use_gpu and step.workers in ("scoring", "training")
        hours = seconds * num_workers / 3600 if on_gpus else 0.0
        rows.append({
            "label": step.label, "state": "finished" if step.artifact.is_finished else "left", "rows": work.rows,
            "tokens": round(work.tokens), "steps": work.steps, "operations": work.operations,
            "precision": work.precision if work.operations else None, "workers": num_workers,
            "gib_a_worker": round(work.bytes / 2**30, 2) if work.bytes else None, "seconds": round(seconds, 1),
            "gpu_hours": round(hours, 4),
            **({"money": round(hours * machine.price, 2)} if machine.price is not None else {}),
            "rate": "measured" if rate.is_measured else "assumed",
            "took_s": round(step.artifact.manifest()["wall_s"], 1) if step.artifact.is_finished else None,
        })
    left = [row for row in rows if row["state"] == "left"]
    sums = ("seconds", "gpu_hours", *(("money",) if machine.price is not None else ()))
    whole = {name: {key: round(sum(row[key] for row in of), 4) for key in sums} for name, of in
             (("left", left), ("all", rows))}
    took = [row for row in rows if row["took_s"] is not None]
    if took:
        whole["finished"] = {"seconds": round(sum(row["seconds"] for row in took), 1),
                             "took_s": round(sum(row["took_s"] for row in took), 1)}
    return {"run": sizes.recipe.name, "card": machine.card.name if machine.card else None, "price": machine.price,
            "steps": rows, **whole, "warnings": list(_too_large(rows, machine))}


def _too_large(rows: Sequence[Mapping[str, Any]], machine: Machine) -> Iterator[str]:
    """Say which steps do not fit, and what would."""
    for row in rows:
        together = 1 if machine.card else row["workers"]  # cores share their machine's memory
        held = (row["gib_a_worker"] or 0) * together
        if held > machine.memory_gib:
            part = "proxy" if row["label"].startswith("proxy") else "target"
            what = ("take a card with more, or a smaller model" if not row["steps"] else
                    f"set {part}.lora={{rank: 16}}, {part}.gradient_checkpointing=true, or target.zero_stage=3 with "
                    "more than one of resources.num_workers")
            yield (f"{row['label']}: about {held:,.0f} GiB {'a worker' if machine.card else 'in all'}, and "
                   f"{machine.card.name if machine.card else 'this machine'} has {machine.memory_gib:,.0f}: {what}")


def table_of(plan: Mapping[str, Any]) -> Table:
    """Return the estimate for people."""
    on = f"{plan['card']} cards" if plan["card"] else "CPUs like this machine's"
    table = Table(title=f"plan of {plan['run']} on {on}", title_justify="left")
    has_gpu, has_price = plan["card"] is not None, plan["price"] is not None
    headings = ["step", "rows", "tokens", "steps", "TFLOP", "GiB a worker", "workers", "time",
                *(["GPU-hours"] if has_gpu else []), *(["money"] if has_price else []), "rate", "took"]
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("step", "rate") else "right")
    for row in plan["steps"]:
        memory = "" if row["gib_a_worker"] is None else f"{row['gib_a_worker']:,.1f}"
        cells = [row["label"], f"{row['rows']:,}", f"{row['tokens']:,}" if row["tokens"] else "",
                 f"{row['steps']:,}" if row["steps"] else "",
                 f"{row['operations'] / 1e12:,.1f}" if row["operations"] else "", memory, str(row["workers"]),
                 clock(row["seconds"])]
        table.add_row(*cells, *([f"{row['gpu_hours']:,.2f}"] if has_gpu else []),
                      *([f"{row['money']:,.2f}"] if has_price else []), row["rate"],
                      "" if row["took_s"] is None else clock(row["took_s"]))
    for name in ("left", "all"):
        whole = plan[name]
        took = clock(plan["finished"]["took_s"]) if name == "all" and "finished" in plan else ""
        table.add_row(name, *[""] * 6, clock(whole["seconds"]), *([f"{whole['gpu_hours']:,.2f}"] if has_gpu else []),
                      *([f"{whole['money']:,.2f}"] if has_price else []), "", took)
    return table
