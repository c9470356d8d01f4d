"""Matrix products by oneDNN are the products that they were."""

import torch
import torch.nn.functional as F
from torch import nn

from planning.products import LinearByOneDNN, faster


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


def test_only_where_it_is_for():
    net, cpu = nn.Linear(20, 30), torch.device("cpu")
    with torch.no_grad():
        x = torch.randn(50, 20)
        torch.testing.assert_close(faster(net, cpu)(x), net(x))
        assert faster(net, torch.device("meta")) is net
        with torch.autocast("cpu", torch.bfloat16):
            assert faster(net, cpu) is net
    assert faster(net, cpu) is net, "gradients"
