"""What others do to modules works on ours: adapters, quantisation, compilers, exporters, sharding over processes."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import ssir
from ssir.compilers.runtime.model import Model
from tests.compilers.runtime.habits import VOCAB, close, model, tokens

TEN = ["transformer", "gpt2", "lstm", "gru", "mamba", "hawk", "griffin", "rwkv4", "rwkv6", "hgrn2"]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_lora_trains_only_its_adapters_and_merges_back() -> None:
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    ours, x = model("mamba"), tokens()
    before = ours(x)[0].detach()
    weights = {key: p.detach().clone() for key, p in ours.named_parameters()}
    names = [path for path, one in ours.named_modules() if isinstance(one, nn.Linear)]
    adapted: Any = inject_adapter_in_model(LoraConfig(r=2, target_modules=names, init_lora_weights=True), ours)
    close(adapted(x)[0], before)
    trained = [p for p in adapted.parameters() if p.requires_grad]
    assert {key.rpartition(".lora_")[1] for key, p in adapted.named_parameters() if p.requires_grad} == {".lora_"}
    optimizer = torch.optim.Adam(trained, lr=0.05)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        y = adapted(x)[0]
        loss = nn.functional.cross_entropy(y[:, :-1].flatten(0, 1), x[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    for key, p in adapted.named_parameters():
        if ".lora_" not in key:
            assert torch.equal(p, weights[key.replace(".base_layer", "")]), key
    with torch.no_grad():
        y, state = adapted(x[:, :9])
        stepped, _ = adapted.step(x[:, 9], state)
        whole = adapted(x)[0]
        close(stepped, whole[:, 9])
        assert not torch.allclose(whole, before)
        layers = [one for one in adapted.modules() if isinstance(one, BaseTunerLayer)]
        for one in layers:
            one.merge()
        close(adapted(x)[0], whole, 1e-6)
        for one in layers:
            one.unmerge()
        close(adapted(x)[0], whole, 1e-6)


@pytest.mark.filterwarnings("ignore")
def test_projections_are_quantised_to_int8() -> None:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    ours: Model = ssir.compile(ssir.load("transformer", model=64, layers=2, vocab=VOCAB, kv=2, group=2, hidden=128))
    x = tokens(1, 30)
    with torch.no_grad():
        before = ours(x)[0]
        quantize_(ours, Int8WeightOnlyConfig())
        kinds = {type(one.weight).__name__ for one in ours.modules() if isinstance(one, nn.Linear)}
        assert kinds and "Parameter" not in kinds, "every projection is quantised"
        after, _ = ours(x)
        assert 0 < (after - before).abs().max() < 0.05 * before.abs().max()
        close(ours.step(x[:, 0])[0], ours(x[:, :1])[0][:, 0])


@pytest.mark.parametrize("name", TEN)
def test_exported_programs_take_any_length(name: str) -> None:
    ours = model(name).eval()
    time = torch.export.Dim("time", min=2, max=4096)
    program = torch.export.export(ours, (tokens(1, 40),), dynamic_shapes=({1: time},), strict=False).module()
    for length in (2, 33, 77):
        x = tokens(1, length)
        close(program(x)[0], ours(x)[0])


@pytest.mark.parametrize("name", ["transformer", "lstm", "griffin", "mamba", "mlstm"])
def test_compilers_see_whole_graphs(name: str) -> None:
    torch._dynamo.reset()
    ours, x = model(name), tokens()
    compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
    close(compiled(x)[0], ours(x)[0])
    compiled(x)[0].square().mean().backward()
    assert all(p.grad is not None for p in ours.parameters())
    step = torch.compile(ours.step, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        y, state = step(x[:, 0], ours.initial_state(2))
        y, state = step(x[:, 1], state)
    close(y, ours(x[:, :2])[0][:, 1])


@pytest.mark.parametrize("name", ["mamba", "lstm", "rwkv4"])
def test_gradients_have_gradients(name: str) -> None:
    ours, x = model(name, dtype=torch.float64), tokens(1, 20)
    y = ours(x)[0].square().mean()
    first = torch.autograd.grad(y, list(ours.parameters()), create_graph=True)
    sum(g.square().sum() for g in first).backward()  # type: ignore[union-attr]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in ours.parameters())


@pytest.mark.parametrize("name", ["mamba", "griffin", "lstm", "gated_delta_net"])
def test_a_backward_pass_inside_autocast_is_that_outside(name: str) -> None:
    ours, x = model(name), tokens()
    found = []
    for inside in (False, True):
        ours.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = ours(x)[0].float().square().mean()
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        found.append([p.grad.clone() for p in ours.parameters() if p.grad is not None])
    for outside, within in zip(*found, strict=True):
        assert (within - outside).abs().max() <= 0.05 * (1e-3 + outside.abs().max())


_SHARDED = """
    import os, sys, torch
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from torch.nn.parallel import DistributedDataParallel
    from tests.compilers.runtime.habits import model, tokens

    how, rank = sys.argv[1], int(os.environ["RANK"])
    dist.init_process_group("gloo", f"file://{sys.argv[2]}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    ours = model("griffin", dtype=torch.float64)
    losses = []
    if how == "ddp":
        module = DistributedDataParallel(ours)
    else:
        for layer in ours.get_submodule("x"):
            fully_shard(layer)
        module = fully_shard(ours)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    for step in range(4):
        x = tokens(4, 12, seed=step)
        mine = x[2 * rank : 2 * rank + 2]
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(mine)[0][:, :-1].flatten(0, 1), mine[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        whole = loss.detach().clone()
        dist.all_reduce(whole)
        losses.append(float(whole) / 2)
    if rank == 0:
        print(*losses)
    dist.barrier()
    dist.destroy_process_group()
"""


@pytest.mark.parametrize("how", ["ddp", "fsdp2"])
def test_two_processes_train_to_the_losses_of_one(how: str, tmp_path: Path) -> None:
    ours = model("griffin", dtype=torch.float64)
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.5)
    wanted = []
    for step in range(4):
        x = tokens(4, 12, seed=step)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(ours(x)[0][:, :-1].flatten(0, 1), x[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        wanted.append(float(loss.detach()))
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(_SHARDED))
    both = [
        subprocess.Popen(
            [sys.executable, str(script), how, str(tmp_path / "meet")],
            env={**os.environ, "PYTHONPATH": os.getcwd(), "RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    told = [one.communicate(timeout=300) for one in both]
    assert [one.returncode for one in both] == [0, 0], "\n".join(err[-1500:] for _, err in told)
    found = [float(word) for word in told[0][0].split()]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=1e-9, atol=1e-9)
