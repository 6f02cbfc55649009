"""From a recipe to its steps, and the steps run.

pipeline     the order of the stages, what of them is finished, and how the rest is run
feasibility  whether what a recipe asks for is possible
merge        a fine-tuned target's adapters and their base as one model
dry_run      what a run would do, where
"""
