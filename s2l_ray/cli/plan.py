"""`s2l plan`: what a run will take, before anything is spent."""

from typing import Annotated

import typer

from s2l_ray.cli.output import exit_codes, print_json, print_tables, quiet, stdout_kept_free
from s2l_ray.cli.work import Debug, Overrides, RecipeArgument, load
from s2l_ray.errors import InputError
from s2l_ray.progress.notes import note


def plan(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    card: Annotated[
        str | None, typer.Option(help="GPU to plan for, one for each worker: h100, a100-80, l4, rtx4090, ...")
    ] = None,
    price: Annotated[float | None, typer.Option(min=0, help="Of one GPU-hour, in your currency.")] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="Measure rates by a short run of the recipe here, some minutes at most.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Say what a run will take, step by step: tokens, operations, memory, time, GPU-hours, money; or what it took."""
    with exit_codes(debug):
        note(f"{recipe}: planning ...")
        from s2l_ray.pipeline.calibration import measure_rates  # heavy: torch and pyarrow, as the next
        from s2l_ray.pipeline.estimate import estimate, table_of
        from s2l_ray.pipeline.machine import machine_for
        from s2l_ray.pipeline.plan import plan_run
        from s2l_ray.pipeline.sizes import sizes_of
        from s2l_ray.starter.survey import measured_tokens

        quiet()
        if card is not None and probe:
            raise InputError(f"--probe measures the workers that a run here has, and --card {card} plans for others: "
                             "leave one of them out")
        planned = plan_run(load(recipe, [*(overrides or []), *(["resources.use_gpu=true"] if card else [])]))
        resources = planned.recipe.resources
        if price is not None and not resources.use_gpu:
            raise InputError(f"--price {price} is of a GPU-hour, and the recipe uses no GPU: name one with --card")
        machine = machine_for(resources, card, price)
        sizes, rates = sizes_of(planned, machine.auto, measured_tokens)
        if probe:
            with stdout_kept_free():
                rates |= measure_rates(planned.recipe, planned.steps, sizes, machine)
        found = estimate(planned.steps, sizes, machine.at(rates))
        print_tables([table_of(found)])
        for warning in found["warnings"]:
            note(f"does not fit. {warning}")
        if not probe and any(step["rate"] == "assumed" for step in found["steps"]):
            note("rates are assumed, and may be off by a factor of two or three: --probe measures them where it runs")
        if planned.recipe.evaluation.harness.tasks:
            note("not in the plan: the tasks of lm-evaluation-harness, whose rows it fetches itself")
        if found["card"] and price is None:
            note("--price N, of a GPU-hour, says what it costs")
        print_json(found)
