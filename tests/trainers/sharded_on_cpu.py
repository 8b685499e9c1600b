"""A worker whose weights lie in shards on the CPU too: accelerate heeds FSDP's configuration on GPUs alone.

PyTorch shards on the CPU as well, so accelerate's state is told so. Notes beside the job what the weights then are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from accelerate import state
from accelerate.utils import DistributedType

from harness.trainers import trl_common, trl_worker
from harness.trainers.trl_processes import whole_model

_begin = state.AcceleratorState.__init__


def begin(self: Any, *arguments: Any, fsdp_plugin: Any = None, **options: Any) -> None:
    _begin(self, *arguments, fsdp_plugin=fsdp_plugin, **options)
    if fsdp_plugin is not None and self.distributed_type == DistributedType.MULTI_CPU:
        self.fsdp_plugin, self.distributed_type = fsdp_plugin, DistributedType.FSDP
        state.PartialState._shared_state["distributed_type"] = DistributedType.FSDP


def noted(trainer: Any, fresh: Any) -> Any:
    kind = type(next(trainer.model.parameters())).__name__
    (Path(sys.argv[1]).parents[1] / "weights_were").write_text(kind)
    return whole_model(trainer, fresh)


state.AcceleratorState.__init__ = begin
trl_common.whole_model = noted

if __name__ == "__main__":
    sys.exit(trl_worker.main())
