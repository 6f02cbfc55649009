"""The proxy of a recipe for rows: a published one where a GPU is and the hub answers, else one of our own making."""

from dataclasses import dataclass

from s2l_ray.modeling.memory import has_gpu
from s2l_ray.starter.look import Look
from s2l_ray.storage.hub import has_model

HUB_PROXY = "EleutherAI/pythia-70m-deduped"
"""The paper's proxy: 70 million parameters, pretrained."""
_HUB_SECONDS = 3.0
_LOOKED_AT = 2_000  # rows, for what only a chat template has a place for


@dataclass(frozen=True)
class Proxy:
    """A published proxy's name, "" for one of our own making, and why it is taken."""

    hub_name: str
    why: str

    @property
    def prompt_style(self) -> str:
        """Return how rows are written for it: the published one has no chat template."""
        return "alpaca" if self.hub_name else "chat"


def choose_proxy(look: Look) -> Proxy:
    """Return the proxy for rows. The hub is asked only where there is a GPU for a proxy of its size."""
    own = "a small model of our own making with a vocabulary learned from the rows"
    if not has_gpu():
        return Proxy("", f"{own}, for 2 cores, no download")
    if any(conversation.tools or any(turn.calls or turn.thinking for turn in conversation.turns)
           for _, conversation in look.conversations(_LOOKED_AT)):
        return Proxy("", f"{own}: its chat template has places for the rows' tools and thoughts")
    if not has_model(HUB_PROXY, _HUB_SECONDS):
        return Proxy("", f"{own}: the hub does not answer, or not with {HUB_PROXY}")
    return Proxy(HUB_PROXY, f"{HUB_PROXY} of the hub, as in the S2L paper: there is a GPU here")
