"""Checks of selectors, metrics and row shapes of your own: what ours promise, yours must. Plain assertions; no pytest.

    from s2l_ray.testing import check_selector

    def test_it_keeps_every_promise():
        check_selector(ShortResponse())

`SELECTOR_PROMISES`, `METRIC_PROMISES` and `SHAPE_PROMISES` are the same checks one by one, to be parametrised over.
"""

from s2l_ray.metrics.promises import PROMISES as METRIC_PROMISES
from s2l_ray.metrics.promises import check_metric
from s2l_ray.rows.promises import PROMISES as SHAPE_PROMISES
from s2l_ray.rows.promises import check_shape
from s2l_ray.selectors.promises import PROMISES as SELECTOR_PROMISES
from s2l_ray.selectors.promises import check_selector

__all__ = ["METRIC_PROMISES", "SELECTOR_PROMISES", "SHAPE_PROMISES", "check_metric", "check_selector", "check_shape"]
