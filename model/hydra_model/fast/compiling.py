# SPDX-License-Identifier: Apache-2.0
"""``torch.compile`` as the fast path uses it."""

from __future__ import annotations

from typing import Any

import torch


def compiled(function: Any) -> Any:
    """Compile ``function`` whole, for each shape that it is called with by itself.

    One function meets about ten shapes (blocks, last block, pair, head; levels of a decoder),
    more than PyTorch compiles by default before it gives up.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 64)
    return torch.compile(function, dynamic=False, fullgraph=True)
