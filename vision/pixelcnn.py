"""Gated PixelCNN over a grid of codes, conditioned on the latent of the scene's first image.

van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders" (eq. 2-4, fig. 2); sizes and the
conditioning as in VAL (seed 003): 15 layers, width 144, the first a 7x7 mask A without residual, the rest 3x3 mask B.

Some things go beyond VAL, so that the prior holds in scenes it has never seen (`context_blocks`): the condition is a map, as in
section 2.3 (eq. 5), made by a ConvNet from a context that lies on the same grid; and codes are known by their vectors instead
of their numbers, so that what is learned of one holds for those near it. A third is attention (`attention`, vision/attention.py).

A masked convolution is written as a smaller convolution over the part the mask keeps. In row-major order, with k the
kernel and r = k // 2, a layer's vertical stack sees rows above (mask A: r rows; mask B: the row above and its own, whose
features themselves know only rows above), its horizontal stack the cells to the left (mask A: r; mask B: one and itself).

Sampling keeps every layer's features: each row's vertical stack is computed once, each cell's horizontal stack once.
A grid then costs about as much as one pass over it, where the plain way (`sample_codes_slow`) makes g * g passes.

Shape suffixes in comments: n samples or batch, g side of the grid, w width, k kernel, r = k // 2, q = 2 * w.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from vision.attention import CellAttention
from vision.code_context import ContextMap, VectorHead


@dataclass(frozen=True)
class PixelCNNConfig:
    """Settings of a `PixelCNN`; the defaults are the paper's, for a 12x12 grid of 512 codes and a 720-d context."""

    layers: int = 15
    width: int = 144
    head: int = 512
    """Hidden units of the 1x1 head."""
    codes: int = 512
    grid: int = 12
    context_dim: int = 720
    """Length of the flat latent it is conditioned on."""
    conditional: bool = True
    """False: whatever the context, it counts as zeros; the prior of pictures that belong to no trajectory."""
    kernel: int = 7
    """Side of the first layer's mask A (odd, at least 3); the other layers' is 3."""
    context_blocks: int = 0
    """0: the context is a vector, which gives each layer one bias for all cells (VAL). Above: it is the code vectors of a grid,
    "(c h w)"; a ConvNet of this many residual blocks gives each cell its own bias, and codes are embedded and predicted by
    their vectors, see `set_codebook`."""
    attention: int = 0
    """Blocks of attention after the layers (needs `context_blocks`): each cell attends to all before it and to the whole context, in 4 heads of `width` / 2."""
    copy: bool = False
    """With `context_blocks`: the code that the context has at a cell gets a learned number more, see `VectorHead`."""
    context_scale: float = 1.0
    """The context is multiplied by this, so that it has about unit spread: code vectors are small numbers, and small numbers
    are learned from slowly."""
    learning_rate: float = 3e-4
    decay: bool = False
    """Let the learning rate fall to zero along half a cosine."""
    temperature: float = 1.0
    """What an `AffordancePrior` divides the logits by: below 1 it keeps to what is probable."""

    def __post_init__(self) -> None:
        if self.kernel < 3 or self.kernel % 2 == 0:
            raise ValueError(f"PixelCNNConfig: kernel={self.kernel} must be odd and at least 3")
        if min(self.layers, self.width, self.head, self.grid, self.context_dim, 1 + self.context_blocks) < 1 or not 2 <= self.codes <= 32768:
            raise ValueError("PixelCNNConfig: every size must be at least 1, context_blocks 0, and codes in 2..32768")
        if self.temperature <= 0:
            raise ValueError(f"PixelCNNConfig: temperature={self.temperature} must be above 0")
        if (self.attention or self.copy) and not self.context_blocks:
            raise ValueError(f"PixelCNNConfig: attention={self.attention} and copy={self.copy} need context_blocks, which make the context a map")
        if self.attention < 0 or (self.attention and self.width % 2):
            raise ValueError(f"PixelCNNConfig: attention={self.attention} must be at least 0, and width={self.width} even for it")
        if self.context_blocks and self.context_dim % self.grid**2:
            raise ValueError(
                f"PixelCNNConfig: context_blocks needs a context on the {self.grid}x{self.grid} grid, not {self.context_dim} numbers"
            )


def gate(x: Float[Tensor, "*b q"]) -> Float[Tensor, "*b w"]:
    """tanh of the first half times sigmoid of the second (eq. 2), along the last axis."""
    a, b = x.chunk(2, -1)
    return torch.tanh(a) * torch.sigmoid(b)


def gate_(x: Float[Tensor, "*b q"], out: Float[Tensor, "*b w"] | None = None) -> Float[Tensor, "*b w"]:
    """`gate` for sampling: overwrites x, and writes into `out` where given."""
    a, b = x.chunk(2, -1)
    return torch.mul(a.tanh_(), b.sigmoid_(), out=out)


def draw(logits: Float[Tensor, "n k"], uniforms: Float[Tensor, "n"], temperature: float = 1.0) -> Int[Tensor, "n"]:
    """Inverse-CDF sampling: the first code whose cumulative probability exceeds the uniform in [0, 1)."""
    cumulative = torch.softmax(logits.double() / temperature, -1).cumsum(-1)
    index = torch.searchsorted(cumulative, (uniforms.double() * cumulative[:, -1])[:, None], right=True)
    return index.squeeze(1).clamp_max(logits.shape[1] - 1)


class Matrices(NamedTuple):
    """A `GatedLayer`'s weights for sampling, those of the convolutions one for each cell that the stack sees."""

    vertical: tuple[Float[Tensor, "w q"], ...]
    """Of the cells above, row-major."""
    horizontal: tuple[Float[Tensor, "w q"], ...]
    cross: Float[Tensor, "q q"]
    out: Float[Tensor, "w w"]


class GatedLayer(nn.Module):
    """One layer of the two stacks. Feature maps lie channels last, (n, g, g, w), so a cell is a row of a matrix."""

    def __init__(self, width: int, kernel: int, first: bool) -> None:
        super().__init__()
        r, q = kernel // 2, 2 * width
        self.first = first
        self.rows, self.columns = (r, r) if first else (r + 1, r + 1)  # rows above (and own), cells left (and own)
        self.margin = r
        self.vertical = nn.Conv2d(width, q, (self.rows, kernel))
        self.horizontal = nn.Conv2d(width, q, (1, self.columns))
        self.cross = nn.Linear(q, q)
        self.out = nn.Linear(width, width)

    def forward(
        self, v: Float[Tensor, "n g g w"], h: Float[Tensor, "n g g w"], b: Float[Tensor, "n g g q"]
    ) -> tuple[Float[Tensor, "n g g w"], Float[Tensor, "n g g w"]]:
        """Whole grids at once: the vertical and the horizontal stack's next features, given each cell's bias."""
        g = v.shape[1]
        # r rows (cells) of padding before; mask A also drops the last output, which would include the own row (cell).
        up = F.conv2d(
            F.pad(v.permute(0, 3, 1, 2), (self.margin, self.margin, self.margin, 0)),
            self.vertical.weight,
            self.vertical.bias,
        ).permute(0, 2, 3, 1)[:, :g]
        left = F.conv2d(
            F.pad(h.permute(0, 3, 1, 2), (self.margin, 0, 0, 0)), self.horizontal.weight, self.horizontal.bias
        ).permute(0, 2, 3, 1)[:, :, :g]
        out = self.out(gate(left + self.cross(up) + b))
        return gate(up + b), out if self.first else h + out

    # -- sampling: cells come before samples, so that neighbouring cells of a row are one matrix without a copy ---------

    def matrices(self) -> Matrices:
        """The weights as matrices to multiply with from the right."""
        return Matrices(
            tuple(m.contiguous() for m in self.vertical.weight.permute(2, 3, 1, 0).flatten(0, 1)),
            tuple(m.contiguous() for m in self.horizontal.weight[:, :, 0].permute(2, 1, 0)),
            self.cross.weight.T.contiguous(),
            self.out.weight.T.contiguous(),
        )

    def up_row(self, above: Float[Tensor, "rows padded n w"], m: Matrices) -> Float[Tensor, "g n q"]:
        """The vertical convolution of one row, from the rows it sees (padded by r at both sides)."""
        g, n, w = above.shape[1] - 2 * self.margin, above.shape[2], above.shape[3]
        up = cast(Tensor, self.vertical.bias).repeat(g * n, 1)
        seen = itertools.product(range(self.rows), range(2 * self.margin + 1))
        for (row, shift), matrix in zip(seen, m.vertical, strict=True):
            up.addmm_(above[row, shift : shift + g].view(g * n, w), matrix)
        return up.view(g, n, -1)

    def across(self, up: Float[Tensor, "g n q"], b: Float[Tensor, "g n q"], m: Matrices) -> Float[Tensor, "g n q"]:
        """All that is added to the horizontal convolution of one row before its gate."""
        add = b + (self.cross.bias + cast(Tensor, self.horizontal.bias))
        add.view(-1, add.shape[2]).addmm_(up.view(-1, up.shape[2]), m.cross)
        return add

    def cell_(
        self, cells: Sequence[Float[Tensor, "n w"]], add: Float[Tensor, "n q"], m: Matrices, out: Float[Tensor, "n w"]
    ) -> None:
        """The horizontal stack at one cell, written into `out`, from the cells it sees and what `across` gave it, which is
        overwritten."""
        for cell, matrix in zip(cells, m.horizontal, strict=True):
            add.addmm_(cell, matrix)
        if self.first:
            out.copy_(self.out.bias)
        else:
            torch.add(cells[-1], self.out.bias, out=out)
        out.addmm_(gate_(add), m.out)


class PixelCNN(nn.Module):
    """p(codes | context) = prod_i p(code_i | codes before i in row-major order, context)."""

    vectors: Tensor
    attention: CellAttention | None

    def __init__(self, config: PixelCNNConfig) -> None:
        super().__init__()
        self.config = c = config
        biases = c.layers * 2 * c.width  # of every layer, in one
        self.embedding = nn.Embedding(c.codes, c.width)
        self.layers = nn.ModuleList(GatedLayer(c.width, c.kernel if i == 0 else 3, i == 0) for i in range(c.layers))
        self.conditions: nn.Module
        self.head: nn.Module
        if c.context_blocks:
            channels = c.context_dim // c.grid**2
            self.register_buffer("vectors", torch.zeros(c.codes, channels))
            nn.init.normal_(self.embedding.weight, std=0.1)  # a code's own part begins small beside what its vector says
            self.embed_vector = nn.Sequential(nn.Linear(channels, c.width), nn.ReLU(), nn.Linear(c.width, c.width))
            self.conditions = ContextMap(channels, c.width, c.context_blocks, c.grid, biases + c.width)
            self.head = VectorHead(c.width, c.head, c.codes, channels, c.copy)
            self.attention = CellAttention(c.width, c.attention, c.grid**2) if c.attention else None
        else:
            self.conditions = nn.Linear(c.context_dim, biases)
            self.head = nn.Sequential(nn.Linear(c.width, c.head), nn.ReLU(), nn.Linear(c.head, c.codes))
            self.attention = None

    def set_codebook(self, codebook: Float[Tensor, "k c"]) -> None:
        """Say which vectors the codes stand for, once, before training; needed with `context_blocks`, else of no effect."""
        if self.config.context_blocks:
            self.vectors.copy_(codebook.detach() * self.config.context_scale)

    def logits(self, codes: Int[Tensor, "n g g"], context: Float[Tensor, "n z"]) -> Float[Tensor, "n g g k"]:
        """Unnormalised log-probabilities of every cell's code given the cells before it."""
        biases, skip = self._condition(context)
        embedded = F.embedding(codes.long(), self._table())
        h = self._stacks(embedded, biases) + skip
        if self.attention is not None:
            h = self.attention(h.flatten(1, 2), embedded.flatten(1, 2), skip.flatten(1, 2)).view_as(h)
        cells = self._cells(context)
        return self._head(h, cells, self._nearest(cells), self._keys())

    def _table(self) -> Float[Tensor, "k w"]:
        """The embedding of every code."""
        table = self.embedding.weight
        return table + self.embed_vector(self.vectors) if self.config.context_blocks else table

    def _condition(self, context: Float[Tensor, "n z"]) -> tuple[tuple[Tensor, ...], Float[Tensor, "n g g w"]]:
        """Each layer's bias (n, g, g, q), and what is added to the features that the head reads."""
        c = self.config
        if c.context_blocks:
            grids = self._cells(context).permute(0, 3, 1, 2)
            *biases, skip = self.conditions(grids).split([2 * c.width] * c.layers + [c.width], -1)
            return tuple(biases), skip
        flat = self.conditions(self._heard(context))[:, None, None].expand(-1, c.grid, c.grid, -1)
        return flat.chunk(c.layers, -1), flat.new_zeros(len(context), c.grid, c.grid, c.width)

    def _heard(self, context: Float[Tensor, "n z"]) -> Float[Tensor, "n z"]:
        """The context as the networks get it."""
        return context * self.config.context_scale if self.config.conditional else torch.zeros_like(context)

    def _cells(self, context: Float[Tensor, "n z"]) -> Float[Tensor, "n g g c"]:
        """The context's vector at every cell; of length 0 when it does not lie on the grid."""
        g = self.config.grid
        if not self.config.context_blocks:
            return context.new_zeros(len(context), g, g, 0)
        return self._heard(context).view(len(context), -1, g, g).permute(0, 2, 3, 1)

    @torch.no_grad()
    def _nearest(self, cells: Float[Tensor, "n g g c"]) -> Int[Tensor, "n g g"]:
        """The code whose vector lies nearest to the context's at every cell; zeros where nobody asks (`copy`)."""
        if not self.config.copy:
            return torch.zeros(cells.shape[:3], dtype=torch.int64, device=cells.device)
        with torch.autocast(cells.device.type, enabled=False):  # in bfloat16 two codes can lie equally far
            e = self.vectors
            return (e.square().sum(1) - 2 * cells.to(e.dtype) @ e.T).argmin(-1)

    def _keys(self) -> Tensor | None:
        """What `_head` needs of the codes, the same for every cell."""
        return cast(VectorHead, self.head).keys(self.vectors) if self.config.context_blocks else None

    def _head(self, h: Float[Tensor, "*b w"], x: Float[Tensor, "*b c"], here: Int[Tensor, "*b"], keys: Tensor | None) -> Float[Tensor, "*b k"]:
        """Logits from the last features, the context's vector and code at the same cell and `_keys`."""
        return self.head(h) if keys is None else self.head(h, x, here, self.vectors, keys)  # type: ignore[no-any-return]

    def _stacks(self, x: Float[Tensor, "n g g w"], biases: tuple[Tensor, ...]) -> Float[Tensor, "n g g w"]:
        """The last horizontal features of embedded codes."""
        v = h = x
        for layer, bias in zip(self.layers, biases, strict=True):
            v, h = layer(v, h, bias)
        return h

    def log_prob(self, codes: Int[Tensor, "n g g"], context: Float[Tensor, "n z"]) -> Float[Tensor, "n"]:
        """Log-probability of each grid of codes, in nats."""
        log_p = torch.log_softmax(self.logits(codes, context).float(), -1)
        return log_p.gather(-1, codes.long()[..., None]).sum((1, 2, 3))

    def loss(
        self, codes: Int[Tensor, "n g g"], context: Float[Tensor, "n z"]
    ) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """Cross entropy in nats per cell, averaged over cells and batch. Metrics: loss, accuracy (share of cells whose
        most probable code is the right one)."""
        logits = self.logits(codes, context).float()
        target = codes.long()
        loss = F.cross_entropy(logits.flatten(0, 2), target.flatten())
        accuracy = (logits.detach().argmax(-1) == target).float().mean()
        return loss, {"loss": loss.detach(), "accuracy": accuracy}

    # -- sampling --------------------------------------------------------------------------------------------------

    def _uniforms(self, context: Tensor, uniforms: Tensor | None, generator: Generator | None, each: int = 1) -> Tensor:
        """The given uniforms, checked, or fresh ones (each * n, g * g) from the generator."""
        shape = (each * len(context), self.config.grid**2)
        if uniforms is None:
            return torch.rand(shape, generator=generator, device=context.device)
        if tuple(uniforms.shape) != shape:
            raise ValueError(f"PixelCNN: uniforms must have shape {shape}, got {tuple(uniforms.shape)}")
        return uniforms

    @torch.no_grad()
    def sample_codes_slow(
        self,
        context: Float[Tensor, "n z"],
        uniforms: Float[Tensor, "n cells"] | None = None,
        *,
        generator: Generator | None = None,
        temperature: float = 1.0,
    ) -> Int[Tensor, "n g g"]:
        """Sampling as the definition says: one full pass for every cell. The reference for `sample_codes`."""
        u, g = self._uniforms(context, uniforms, generator), self.config.grid
        codes = torch.zeros(len(context), g, g, dtype=torch.int64, device=context.device)
        for cell in range(g * g):
            logits = self.logits(codes, context)[:, cell // g, cell % g]
            codes[:, cell // g, cell % g] = draw(logits, u[:, cell], temperature)
        return codes

    @torch.no_grad()
    def sample_codes(
        self,
        context: Float[Tensor, "c z"],
        uniforms: Float[Tensor, "n cells"] | None = None,
        *,
        each: int = 1,
        generator: Generator | None = None,
        temperature: float = 1.0,
    ) -> Int[Tensor, "n g g"]:
        """`each` grids of codes for every context, n = each * c in the contexts' order, by cached work: the same codes as `sample_codes_slow` from contexts so
        repeated and the same uniforms in [0, 1) (one per cell, row-major; drawn from `generator` when not given).

        `temperature` divides the logits: 1 samples the model, lower values favour probable grids.
        """
        u = self._uniforms(context, uniforms, generator, each)
        g, w, n = self.config.grid, self.config.width, len(u)
        layers, table, keys = cast(list[GatedLayer], list(self.layers)), self._table(), self._keys()
        margins, matrices = [layer.margin for layer in layers], [layer.matrices() for layer in layers]
        conditions, skip = self._condition(context)
        memory = self.attention.remember(skip.flatten(1, 2), each) if self.attention is not None else []
        seen = self._cells(context)
        skip, seen, here = (x.repeat_interleave(each, 0) for x in (skip, seen, self._nearest(seen)))
        biases = [bias.permute(1, 2, 0, 3) for bias in conditions]  # (g, g, c, q)
        if self.config.context_blocks:  # else they are the same for all cells
            biases = [bias.contiguous() for bias in biases]
        biases = [bias.repeat_interleave(each, 2) for bias in biases] if each > 1 else biases
        before: Tensor | None = None  # the embedded code of the cell before
        codes = torch.zeros(n, g, g, dtype=torch.int64, device=context.device)
        # What each layer's stacks read, with its padding of r: `above` for the vertical one (all rows, both sides), `left`
        # for the horizontal one (the current row, from the left), with the last layer's features at the end, which have
        # none. The first layer reads the embedded codes in both.
        above = [table.new_zeros(g + r, g + 2 * r, n, w) for r in margins]
        left = [table.new_zeros(g + r, n, w).unbind() for r in (*margins, 0)]
        for y in range(g):
            adds: list[tuple[Tensor, ...]] = []  # g of (n, q): what each horizontal stack gets from above and the condition
            for i, (layer, m) in enumerate(zip(layers, matrices, strict=True)):
                up = layer.up_row(above[i][y : y + layer.rows], m)
                adds.append(layer.across(up, biases[i][y], m).unbind())
                if i + 1 < len(layers):
                    r = margins[i + 1]
                    gate_(up.add_(biases[i][y]), above[i + 1][y + r, r : r + g])
            for x in range(g):
                for i, (layer, m) in enumerate(zip(layers, matrices, strict=True)):
                    into = x + (margins[i + 1] if i + 1 < len(layers) else 0)
                    layer.cell_(left[i][x : x + layer.columns], adds[i][x], m, left[i + 1][into])
                features = left[-1][x] + skip[:, y, x]
                if self.attention is not None:
                    features = self.attention.cell(features, y * g + x, before, memory)
                logits = self._head(features, seen[:, y, x], here[:, y, x], keys)
                codes[:, y, x] = draw(logits, u[:, y * g + x], temperature)
                before, r = table[codes[:, y, x]], margins[0]
                left[0][x + r].copy_(before)
                above[0][y + r, x + r] = before
        return codes
