"""Matrix products by oneDNN are the products that they were."""

import torch
import torch.nn.functional as F
from torch import nn

from planning.products import LinearByOneDNN, fast_products


@torch.no_grad()
def test_layers_and_functions_give_what_they_gave():
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4, bias=False)), torch.randn(50, 20)
    wide = torch.randn(50, 60)
    weight = torch.randn(7, 20)
    before = net(x), F.linear(wide[:, 10:30], weight[:, :20]), F.linear(x[:0], weight), F.linear(x[0], weight), F.linear(x.view(5, 10, 20), weight), F.linear(x.double(), weight.double())
    with LinearByOneDNN() as mode:
        for _ in range(2):
            after = net(x), F.linear(wide[:, 10:30], weight[:, :20]), F.linear(x[:0], weight), F.linear(x[0], weight), F.linear(x.view(5, 10, 20), weight), F.linear(x.double(), weight.double())
            for a, b in zip(before, after, strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
        assert len(mode.weights) == 2  # the layers'; what was cut for one call is not kept


@torch.no_grad()
def test_mixed_precision_is_left_alone():
    net, x = nn.Linear(20, 30), torch.randn(50, 20)
    with torch.autocast("cpu", torch.bfloat16):
        before = net(x)
        with fast_products(x.device):
            after = net(x)
    assert before.dtype == after.dtype == torch.bfloat16 and torch.equal(before, after)
