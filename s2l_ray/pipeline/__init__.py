"""From a recipe to its steps, and the steps run.

pipeline     the order of the stages, what of them is finished, and how the rest is run
feasibility  whether what a recipe asks for is possible
dry_run      what a run would do, where
"""
