"""How Ray runs a function: the lowest layer that imports Ray.

cluster       join a Ray cluster or start one on this machine, and see to it that it can do the work
preflight     what every node must be able to do
room          is there room in the cluster, could there be, and what is waited for
placement     where Ray runs what must not move
datasets      prepared examples as Ray Data
shards        a pass over the shards of a pool, resumed by shard
attempts      how often a unit of work has been begun
work          run units of work on a pool of actors through Ray Data
training      run one supervised fine-tuning with Ray Train
train_worker  what each worker of it does
process_group by which network interface they reach each other
"""
