"""Where and how the work of a stage is done: on this machine alone, or on Ray, which no lower layer imports.

session       which of the two it is
training      run one supervised fine-tuning
train_worker  what each worker of it does
work_units    run units of work, each retried alone
attempts      a unit done once, and what is said of those that fail
shards        a pass over the shards of a pool, resumed by shard
precision     what `auto` means where the work is done
bundles       what workers take of a node
node          what a node must have
inputs        what of this machine the work reads
interfaces    which network interface gloo uses
local/        this machine alone

warm_launch   start a process that has loaded what workers need, and forks them
warm_server   that process
warm_stub     what Ray starts instead of a worker: it asks that process for one
warm_start    have Ray start it

cluster       join a Ray cluster or start one on this machine, and see to it that it can do the work
preflight     whether every node can
capacity      whether the cluster has the capacity for workers, and waiting for it
placement     where Ray runs what must not move
ray_internals all that is used of Ray's private API
datasets      prepared examples as Ray Data
ray_units     units of work on Ray Data
ray_attempts  how often a unit has been begun
metrics       counters for Prometheus
ray_training  a fine-tuning with Ray Train
ray_host      what a worker of it has around it
training_progress  how far it is, and the request to restart it with more workers
process_group by which network interface its workers reach each other
"""
