"""The recipe: one tree of settings that says everything about a run, checked before anything starts.

settings   the base of every section; what of it decides an artifact's content
recipe     the tree
selection  how many examples, by which method
training   models and their training
sweep      what a sweep tries
loading    from a YAML file and key.path=value overrides to a checked recipe
"""
