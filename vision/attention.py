"""Attention over the cells of a grid in row-major order: each cell to those before it, and to every cell of the context (PixelSNAIL, Chen et al. 2018; the block is
Vaswani et al.'s decoder layer, normalised before instead of after).

Convolutions tell a cell what is near; attention, what is where in the picture so far: an object that was drawn already, or left its place.

Shape suffixes in comments: n samples or batch, t cells, w width of the layers before, d of this stream, a heads, e = d / a, b = n * a.
"""

from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn


def attend(q: Float[Tensor, "b s e"], k: Float[Tensor, "b t e"], v: Float[Tensor, "b t e"], hidden: Tensor | None = None) -> Float[Tensor, "b s e"]:
    """softmax(q k' / sqrt(e)) v; `hidden` (s, t) is added first, -inf where s must not see t. As two products of matrices, because torch's own attention is six
    times as slow backwards on a CPU at these sizes; in the dtype of q, as large arrays cost more to convert than to reckon with."""
    score = torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(1, 2))  # of three dimensions: with four, views are copied
    with torch.autocast(q.device.type, enabled=False):  # which would make it float32, and back
        share = (score if hidden is None else score + hidden.to(score.dtype)).softmax(-1)
    return torch.bmm(share, v)


class Seen(NamedTuple):
    """What a `Block` remembers while cells are sampled: keys and values of cells so far, and of the contexts, (b, t, e) each; of these there may be fewer."""

    key: Tensor
    value: Tensor
    context_key: Tensor
    context_value: Tensor


class Block(nn.Module):
    """Attention to cells so far, then to the context, then a network for each cell; each adds to what it reads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.own, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ask, self.context, self.out_of_context = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        for last in (self.out, self.out_of_context, cast(nn.Linear, self.network[2])):  # begins as the identity
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def split(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "b t e"]:
        """Heads apart."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2).flatten(0, 1)

    def join(self, x: Float[Tensor, "b t e"]) -> Float[Tensor, "n t d"]:
        """Heads beside each other."""
        return x.unflatten(0, (-1, self.heads)).transpose(1, 2).flatten(2)

    def remember(self, context: Float[Tensor, "c t d"], cells: int, each: int = 1) -> Seen:
        """An empty memory for so many cells, of as many samples `each` of the contexts."""
        k, v = (self.split(part) for part in self.context(context).chunk(2, -1))
        empty = k.new_zeros(each * k.shape[0], cells, k.shape[2])
        return Seen(empty, empty.clone(), k, v)

    def forward(self, x: Float[Tensor, "n t d"], context: Float[Tensor, "n t d"], hidden: Float[Tensor, "t t"]) -> Float[Tensor, "n t d"]:
        """All cells at once."""
        q, k, v = (self.split(part) for part in self.own(self.norms[0](x)).chunk(3, -1))
        seen = self.remember(context, 0)
        return self._rest(x, self.join(attend(q, k, v, hidden)), seen)

    def cell(self, x: Float[Tensor, "n 1 d"], i: int, seen: Seen) -> Float[Tensor, "n 1 d"]:
        """Cell i alone, after the cells before it; `seen` then knows it too."""
        q, k, v = (self.split(part) for part in self.own(self.norms[0](x)).chunk(3, -1))
        seen.key[:, i : i + 1], seen.value[:, i : i + 1] = k, v
        return self._rest(x, self.join(attend(q, seen.key[:, : i + 1], seen.value[:, : i + 1])), seen)

    def _rest(self, x: Float[Tensor, "n s d"], found: Float[Tensor, "n s d"], seen: Seen) -> Float[Tensor, "n s d"]:
        """What comes after the attention to cells so far, which found so much. Samples of one context ask it together."""
        x = x + self.out(found)
        contexts = len(seen.context_key) // self.heads
        q = self.split(self.ask(self.norms[1](x)).view(contexts, -1, x.shape[2]))
        x = x + self.out_of_context(self.join(attend(q, seen.context_key, seen.context_value)).view_as(x))
        return x + self.network(self.norms[2](x))


class CellAttention(nn.Module):
    """What attention adds to the features (n, t, w) of cells, from the codes before each, and the context's own features (n, t, w).

    Args: width: w; blocks: how many; cells: t; heads: of each, a divisor of 2 w, which is the stream's width.
    """

    def __init__(self, width: int, blocks: int, cells: int, heads: int = 4) -> None:
        super().__init__()
        d = 2 * width
        self.features, self.before, self.context, self.leave = nn.Linear(width, d), nn.Linear(width, d), nn.Linear(width, d), nn.Linear(d, width)
        self.begin, self.place = nn.Parameter(torch.zeros(d)), nn.Parameter(0.1 * torch.randn(cells, d))
        self.blocks = nn.ModuleList(Block(d, heads) for _ in range(blocks))
        self.norm, self.context_norm = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, features: Float[Tensor, "n t w"], codes: Float[Tensor, "n t w"], context: Float[Tensor, "n t w"]) -> Float[Tensor, "n t w"]:
        """All cells at once; `codes` are their embedded codes, of which a cell reads those before its own."""
        before = torch.cat([self.begin.to(features.dtype).expand(len(codes), 1, -1), self.before(codes[:, :-1]).to(features.dtype)], 1)
        x, seen = self.features(features) + before + self.place, self.contexts(context)
        hidden = x.new_full((x.shape[1], x.shape[1]), -torch.inf).triu(1)  # no buffer: one that is not stored is not there in a model that was loaded
        for block in self.blocks:
            x = block(x, seen, hidden)
        return features + self.leave(self.norm(x))  # type: ignore[no-any-return]

    def contexts(self, context: Float[Tensor, "n t w"]) -> Float[Tensor, "n t d"]:
        """What blocks attend to in the context."""
        return self.context_norm(self.context(context) + self.place)  # type: ignore[no-any-return]

    def remember(self, context: Float[Tensor, "c t w"], each: int = 1) -> list[Seen]:
        """The memory of every block before the first cell is sampled, of as many samples `each` of the contexts, one context's beside each other."""
        seen = self.contexts(context)
        return [cast(Block, block).remember(seen, len(self.place), each) for block in self.blocks]

    def cell(self, features: Float[Tensor, "n w"], i: int, code: Float[Tensor, "n w"] | None, memory: list[Seen]) -> Float[Tensor, "n w"]:
        """Cell i alone, from the embedded code of the cell before it (None: it is the first)."""
        before = self.begin.expand(len(features), -1) if code is None else self.before(code)
        x = (self.features(features) + before + self.place[i])[:, None]
        for block, seen in zip(self.blocks, memory, strict=True):
            x = cast(Block, block).cell(x, i, seen)
        return features + self.leave(self.norm(x[:, 0]))  # type: ignore[no-any-return]
