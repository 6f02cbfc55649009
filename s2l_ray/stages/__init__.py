"""The stages: each a function that Ray runs, meeting the others only at the tables in the storage.

prepare       rows to tokenised examples in shards, and a quarantine
proxy         the proxy's training, with its trajectory points
trajectories  every example's loss at every point
probe         one further loss of every example, in another form or by another model
embed         a vector for every example
select        a selection, and the chosen rows as they came
finetune      the target on a selection
evaluate      held-out losses and answers
"""
