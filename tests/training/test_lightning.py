"""Lightning's Trainer, in two processes: the callback enters the monitor, and leaves it with the merged history."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import spatialprobe as sp

SCRIPT = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch
import lightning.pytorch as pl
from torch import nn
import spatialprobe as sp

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1))
    def training_step(self, batch, index):
        return self.net(batch[0]).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def train(watched):
    pl.seed_everything(0, verbose=False)
    model = Net()
    data = torch.utils.data.TensorDataset(torch.rand(16, 1, 6, 6))
    monitor = sp.Monitor(model.net, [sp.Moments], every=2)
    trainer = pl.Trainer(
        accelerator="cpu", strategy="ddp", devices=2, max_epochs=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[monitor.lightning()] if watched else [],
    )
    trainer.fit(model, torch.utils.data.DataLoader(data, batch_size=4))
    return model, monitor, trainer

model, monitor, trainer = train(True)
bare, _, _ = train(False)
same = all(torch.equal(a, b) for a, b in zip(model.parameters(), bare.parameters()))
history = monitor.history
found = {"same": same, "steps": history.steps, "count": [row.result.count[0].item() for row in history]}
if trainer.global_rank == 0:
    open(sys.argv[1], "w").write(json.dumps(found))
"""


@pytest.mark.skipif(find_spec("lightning") is None, reason="Lightning is not installed")
def test_a_trainer_in_two_processes(tmp_path):
    """Weights are those of a training without the callback; each step holds the values of both processes."""
    script, found = tmp_path / "train.py", tmp_path / "found.json"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    ran = subprocess.run(
        [*command, str(script), str(found)], capture_output=True, text=True, timeout=240, env=environment, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(found.read_text()) == {"same": True, "steps": [0, 2], "count": [2 * 4 * 16] * 2}


def test_the_callback_follows_the_trainer(monkeypatch):
    """With stand-ins for Lightning: entered at the start, left at the end, or with the exception that ends it."""
    package = type(sys)("lightning.pytorch")
    package.Callback = type("Callback", (), {})
    monkeypatch.setitem(sys.modules, "lightning", type(sys)("lightning"))
    monkeypatch.setitem(sys.modules, "lightning.pytorch", package)
    trainer = type("Trainer", (), {"world_size": 1})()
    model = nn.Sequential(nn.Conv2d(1, 2, 3))
    monitor = sp.Monitor(model, [sp.Moments])
    callback = monitor.lightning()
    callback.on_train_start(trainer, None)
    model(torch.rand(1, 1, 4, 4))
    callback.on_train_end(trainer, None)
    assert monitor.history.steps == (0,)
    callback.on_train_start(trainer, None)
    callback.on_exception(trainer, None, ValueError())
    callback.on_train_end(trainer, None)
    assert not model._forward_hooks
    callback.on_train_start(trainer, None)
    with pytest.raises(sp.LayerNotRunError):
        callback.on_train_end(trainer, None)


def test_without_lightning_it_says_what_to_install(monkeypatch):
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"monitor.lightning\(\) needs Lightning: pip install lightning"):
        sp.Monitor(nn.Conv2d(1, 1, 1), [sp.Moments]).lightning()
