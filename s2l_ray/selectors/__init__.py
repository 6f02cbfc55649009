"""Selectors: tables in, selection out. One small file each; no torch, no Ray.

s2l                         even sampling over clusters of loss trajectories
learning_percentage         what was learned least in the first epoch, in every embedding cluster
learning_percentage_approx  the same from one epoch alone
high_loss                   the highest loss under the finished proxy
low_loss                    the lowest
least_confidence            the lowest mean token probability
middle_perplexity           the middle of the perplexity ranking
high_learnability           the largest loss decrease
confidence_curriculum       evenly over all losses, the lowest first
iterative                   a classifier of hard examples, trained in rounds (IterSelectTune with losses)
ifd                         what the instruction helps least with, short of misleading (Superfiltering)
key_part_gain               what depends most on the instruction's key parts (KPIG)
ask_llm                     what a judge model says yes to
ltd                         core sets of the embedding clusters that hold the task
density                     fewer from crowded regions of embedding space
k_center                    none of the pool far from a chosen example
facility_location           the examples most similar to all the rest
external                    the highest of scores from elsewhere
random                      uniform sampling, the control every method is judged against
stratified_random           the same with every source in its share of the pool
length_matched_random       the same with every decile of lengths in its share
full                        the whole pool

per.py runs any of them inside each source.

To add one, write a file with a class like theirs and name it in SELECTORS.
"""

import difflib

from s2l_ray.errors import InputError
from s2l_ray.selectors.ask_llm import AskLLM
from s2l_ray.selectors.density import Density
from s2l_ray.selectors.external import External
from s2l_ray.selectors.facility_location import FacilityLocation
from s2l_ray.selectors.full import Full
from s2l_ray.selectors.ifd import IFD
from s2l_ray.selectors.iterative import Iterative
from s2l_ray.selectors.k_center import KCenter
from s2l_ray.selectors.key_part_gain import KeyPartGain
from s2l_ray.selectors.learning_percentage import LearningPercentage, LearningPercentageApprox
from s2l_ray.selectors.length_matched_random import LengthMatchedRandom
from s2l_ray.selectors.loss_based import (
    ConfidenceCurriculum,
    HighLearnability,
    HighLoss,
    LeastConfidence,
    LowLoss,
    MiddlePerplexity,
)
from s2l_ray.selectors.ltd import LTD
from s2l_ray.selectors.pool import Selector
from s2l_ray.selectors.random import Random
from s2l_ray.selectors.s2l import S2L
from s2l_ray.selectors.stratified_random import StratifiedRandom

_ALL: tuple[Selector, ...] = (
    S2L(),
    LearningPercentage(),
    LearningPercentageApprox(),
    HighLoss(),
    LowLoss(),
    LeastConfidence(),
    MiddlePerplexity(),
    HighLearnability(),
    ConfidenceCurriculum(),
    Iterative(),
    IFD(),
    KeyPartGain(),
    AskLLM(),
    LTD(),
    Density(),
    KCenter(),
    FacilityLocation(),
    External(),
    Random(),
    StratifiedRandom(),
    LengthMatchedRandom(),
    Full(),
)
SELECTORS: dict[str, Selector] = {selector.name: selector for selector in _ALL}


def find_selector(name: str) -> Selector:
    """Return the selector of this name; InputError with the nearest name where there is none."""
    if name in SELECTORS:
        return SELECTORS[name]
    near = difflib.get_close_matches(name, list(SELECTORS), n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise InputError(f"selection.selector={name!r} is unknown; {hint}known: {', '.join(SELECTORS)}")
