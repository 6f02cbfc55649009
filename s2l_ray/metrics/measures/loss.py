"""The held-out loss."""

from s2l_ray.metrics.metric import Metric


class Loss(Metric):
    """Mean over examples of their mean negative log-likelihood per supervised token, in nats."""

    name = "loss"
    needs = "losses"
    better = "lower"


METRIC = Loss()
