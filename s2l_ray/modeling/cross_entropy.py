"""Cross-entropy over a large vocabulary without all of its logits: a running log-sum-exp over tiles."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from transformers import PreTrainedModel  # heavy: most commands start without a model

# Logits of one tile. On CPUs they stay in the cache of a core, so the passes over them cost next to nothing beside the
# product: one thread of an EPYC with 50,304 tokens passes 5,300 positions a second in bf16, the product alone 5,500,
# and eager cross-entropy over whole rows 3,000. On GPUs a tile fills the device.
_TILE = {"cpu": (512, 1024), "cuda": (4096, 16384)}


@dataclass(frozen=True)
class Head:
    """A language-model head, (V, D) and perhaps a bias (V,), in the precision of its products."""

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None

    @classmethod
    def of(cls, layer: torch.nn.Module, dtype: torch.dtype) -> "Head":
        """Return a plain projection's head in another precision.

        In bf16 what all tokens have in common is taken from the weights first. It changes no probability, but logits
        far from zero would lose to rounding what tells the tokens apart.
        """
        own = {name: parameter.detach() for name, parameter in layer.named_parameters()}
        weight, bias = own["weight"], own.get("bias")
        if dtype == torch.float32:
            return cls(weight, bias)
        centred = (weight - weight.mean(dim=0)).to(dtype)
        return cls(centred, None if bias is None else bias - bias.mean())

    def token_losses(self, hidden_TD: torch.Tensor, targets_T: torch.Tensor) -> torch.Tensor:
        """Return -log softmax(hidden W^T + b)[target] of each position, float32 of shape (T,).

        Logits exist tile by tile: products in the head's precision, everything after them in fp32.
        """
        num_rows, num_columns = _TILE[hidden_TD.device.type]
        hidden_TD = hidden_TD.to(self.weight_VD.dtype)
        blocks = zip(hidden_TD.split(num_rows), targets_T.split(num_rows), strict=True)
        return torch.cat([self._log_sum_exp(h, num_columns) - self._target_logits(h, t) for h, t in blocks])

    def _target_logits(self, hidden_TD: torch.Tensor, targets_T: torch.Tensor) -> torch.Tensor:
        logits_T = (hidden_TD.float() * self.weight_VD[targets_T].float()).sum(dim=1)
        return logits_T if self.bias_V is None else logits_T + self.bias_V[targets_T]

    def _log_sum_exp(
        self, hidden_TD: torch.Tensor, num_columns: int, kept: list[torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Return log sum exp of each position's logits, (T,); the tiles of logits go into `kept` if given."""
        largest_T = torch.full((len(hidden_TD),), -torch.inf, device=hidden_TD.device)
        sums_T = torch.zeros_like(largest_T)
        for start in range(0, len(self.weight_VD), num_columns):
            tile = slice(start, start + num_columns)
            product = functional.linear(hidden_TD, self.weight_VD[tile])
            if kept is not None:
                kept.append(product)
            logits = self._logits(product, tile)
            before_T, largest_T = largest_T, torch.maximum(largest_T, logits.amax(dim=1))
            sums_T *= torch.exp(before_T - largest_T)
            sums_T += logits.sub_(largest_T[:, None]).exp_().sum(dim=1)
        return largest_T + sums_T.log()

    def _logits(self, product: torch.Tensor, tile: slice) -> torch.Tensor:
        """Return a tile's logits in fp32, in memory of their own."""
        logits = product.to(torch.float32, copy=True)
        return logits if self.bias_V is None else logits.add_(self.bias_V[tile])


_ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 0.03}
"""How far two ways to the same hidden state may be apart, of its largest value: attention sums in another order."""


@torch.no_grad()
def has_plain_head(model: "PreTrainedModel", input_ids_BT: torch.Tensor, attention_mask_BT: torch.Tensor) -> bool:
    """Tell whether the model's logits are its head's output on the last hidden state, whatever lies right of a token.

    Some models scale or cap their logits afterwards, or the state before, and some look at padding. Found out by a look
    at what one pass hands on: where nothing is done to it, it is the same to the last bit, in any precision.
    """
    head, body = model.get_output_embeddings(), model.base_model
    if head is None or body is model:
        return False
    seen: dict[str, torch.Tensor] = {}
    hooks = [body.register_forward_hook(lambda _, given, made: seen.update(hidden=made[0])),
             head.register_forward_hook(lambda _, given, made: seen.update(taken=given[0], made=made))]
    try:
        logits = model(input_ids=input_ids_BT, attention_mask=attention_mask_BT).logits
    finally:
        for hook in hooks:
            hook.remove()
    if not torch.equal(seen["hidden"], seen["taken"]) or not torch.equal(seen["made"].to(logits.dtype), logits):
        return False
    is_real, unmasked = attention_mask_BT.bool(), body(input_ids=input_ids_BT, use_cache=False).last_hidden_state
    bound = _ROUNDING.get(unmasked.dtype, 0.0) * max(1.0, float(seen["hidden"].abs().max()))
    return torch.allclose(unmasked[is_real], seen["hidden"][is_real], rtol=0, atol=bound)


class SummedCrossEntropy(torch.autograd.Function):
    """The sum of -log softmax(hidden W^T + b)[target] over positions, whose gradients are made on the way forward.

    A plain head writes logits of shape (T, V) and their gradients, in fp32, and reads both again; here those of a block
    of positions live as long as its products, in the products' precision. As in Liger Kernel (arXiv 2410.10989): since
    the loss is one number, its gradients only have to be scaled by what comes from above.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, hidden_TD: torch.Tensor, weight_VD: torch.Tensor, bias_V: torch.Tensor | None,
        targets_T: torch.Tensor, dtype: torch.dtype,
    ) -> torch.Tensor:
        """Return the sum, float32; products are in `dtype`, everything else in fp32."""
        num_rows, num_columns = _TILE[hidden_TD.device.type]
        wanted = ctx.needs_input_grad
        grads_TD = torch.zeros_like(hidden_TD, dtype=torch.float32) if wanted[0] else None
        grads_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if wanted[1] else None
        grads_V = torch.zeros_like(bias_V, dtype=torch.float32) if bias_V is not None and wanted[2] else None
        head = Head(weight_VD.to(dtype), bias_V)
        total = torch.zeros((), device=hidden_TD.device)
        for start in range(0, len(hidden_TD), num_rows):
            rows = slice(start, start + num_rows)
            hidden, targets, products = hidden_TD[rows].to(dtype), targets_T[rows], []  # type: ignore[var-annotated]
            logs = head._log_sum_exp(hidden, num_columns, products)
            total += (logs - head._target_logits(hidden, targets)).sum()
            for number in range(len(products) if any(wanted[:3]) else 0):
                tile = slice(number * num_columns, (number + 1) * num_columns)
                slopes = _slopes(head._logits(products[number], tile), tile, logs, targets)
                low = slopes.to(dtype)
                if grads_TD is not None:
                    grads_TD[rows] += low @ head.weight_VD[tile]
                if grads_VD is not None:
                    grads_VD[tile] += low.T @ hidden
                if grads_V is not None:
                    grads_V[tile] += slopes.sum(dim=0)
        ctx.save_for_backward(grads_TD, grads_VD, grads_V)
        ctx.dtypes = (hidden_TD.dtype, weight_VD.dtype, None if bias_V is None else bias_V.dtype)
        return total

    @staticmethod
    def backward(ctx: Any, above: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        """Return the gradients of hidden, weight and bias."""
        scaled = (
            None if grads is None else (grads * above).to(dtype)
            for grads, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return (*scaled, None, None)


def _slopes(logits_TV: torch.Tensor, tile: slice, logs_T: torch.Tensor, targets_T: torch.Tensor) -> torch.Tensor:
    """Return the loss's slopes by a tile's logits, in their place: their probabilities, less 1 at the targets."""
    slopes = logits_TV.sub_(logs_T[:, None]).exp_()
    places_T = targets_T - tile.start
    is_here_T = (places_T >= 0) & (places_T < slopes.shape[1])
    # Each row takes something off, 0 where its target is in another tile: to pick rows, a GPU would be waited for.
    return slopes.scatter_add_(1, places_T.clamp(0, slopes.shape[1] - 1)[:, None], -is_here_T[:, None].to(slopes.dtype))
