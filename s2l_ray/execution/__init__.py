"""How Ray runs a function: the lowest layer that imports Ray.

cluster       join a Ray cluster or start one on this machine, and see to it that it can do the work
warm_start    workers of a cluster of this machine's own, forked from a process that has loaded their libraries
warm_server   that process
warm_stub     what Ray starts instead of a worker: it asks that process for one
preflight     what every node must be able to do
capacity      whether the cluster has the capacity for workers, and waiting for it
ray_internals all that is used of Ray's private API
placement     where Ray runs what must not move
datasets      prepared examples as Ray Data
shards        a pass over the shards of a pool, resumed by shard
attempts      how often a unit of work has been begun
work_units    run units of work on a pool of actors through Ray Data
training_progress how far a training is, and the request to restart it with more workers
training      run one supervised fine-tuning with Ray Train
train_worker  what each worker of it does
process_group by which network interface they reach each other
"""
