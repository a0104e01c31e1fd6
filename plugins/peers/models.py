"""The peers, with the dims at which they and our specs are of one size. Packages are imported when a peer is built."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from ssir.bench import Side

Dims = Mapping[str, Any]
KEY = 64  # the width of a head


@dataclass(frozen=True)
class Peer:
    """``sizes``: the dims of the spec beside the width; ``make``: the peer at the dims of the spec, for a mode."""

    title: str
    sizes: Callable[[int], Mapping[str, float]]
    make: Callable[[Dims, str], Side]
    packages: Sequence[str] = ()
    bound: str = ""

    def dims(self, model: int) -> Mapping[str, float]:
        return self.sizes(model)

    def build(self, dims: Dims, mode: str) -> Side:
        return self.make(dims, mode)


class Recurrent:
    """Embedding, the layers of torch, head. oneDNN's path is the faster one over a sequence, the other one in a step."""

    def __init__(self, cell: str, dims: Dims) -> None:
        from torch import nn

        model = int(dims["model"])
        self.embedding = nn.Embedding(int(dims["vocab"]), model)
        self.layers: Any = getattr(nn, cell)(model, model, int(dims["layers"]), batch_first=True)
        self.head = nn.Linear(model, int(dims["vocab"]))
        self.module = nn.ModuleList([self.embedding, self.layers, self.head])

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.head(self.layers(self.embedding(tokens))[0])
        return y

    def prompt(self, tokens: Tensor) -> Any:
        return self.layers(self.embedding(tokens))[1]

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        from torch.backends import mkldnn

        (before,) = mkldnn.set_flags(_enabled=False)[:1]
        try:
            y, state = self.layers(self.embedding(tokens[:, None]), state)
            return self.head(y)[:, -1], state
        finally:
            mkldnn.set_flags(_enabled=before)


class Transformers:
    """A causal language model of transformers. ``cache``: what it calls what it remembers."""

    def __init__(self, kind: str, config: Mapping[str, Any], cache: str) -> None:
        library = importlib.import_module("transformers")
        family = kind.removesuffix("ForCausalLM").removesuffix("LMHeadModel")
        self.module: Any = getattr(library, kind)(getattr(library, f"{family}Config")(**config)).eval()
        self.cache = cache

    def forward(self, tokens: Tensor) -> Tensor:
        y: Tensor = self.module(tokens, use_cache=False).logits
        return y

    def prompt(self, tokens: Tensor) -> Any:
        return getattr(self.module(tokens, use_cache=True), self.cache)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        found = self.module(tokens[:, None], use_cache=True, **{self.cache: state})
        return found.logits[:, -1], getattr(found, self.cache)


class Gemma(Transformers):
    """RecurrentGemma, whose recurrent layers keep their memory themselves and are told the position."""

    def prompt(self, tokens: Tensor) -> Any:
        from transformers import DynamicCache

        inner = self.module.model
        inner._setup_cache(self.module.config, tokens.shape[0], tokens.device, self.module.dtype)
        attends = "sliding_attention" in self.module.config.layer_types
        memory = DynamicCache(config=self.module.config) if attends else DynamicCache()
        self.module(tokens, use_cache=True, past_key_values=memory)
        return memory, tokens.shape[1]

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        memory, position = state
        place = tokens.new_full((tokens.shape[0], 1), position)
        found = self.module(tokens[:, None], use_cache=True, position_ids=place, past_key_values=memory)
        return found.logits[:, -1], (memory, position + 1)


def _heads(model: int) -> int:
    return max(model // KEY, 1)


def _hidden(model: int) -> int:
    return 16 * ceil(model / 6)


def _whole(dims: Dims, **names: str) -> dict[str, int]:
    """Arguments for a config, each from a dim of the spec."""
    return {argument: int(dims[name]) for argument, name in names.items()}


def _llama(dims: Dims, mode: str) -> Side:
    config = _whole(
        dims,
        vocab_size="vocab",
        hidden_size="model",
        intermediate_size="hidden",
        num_hidden_layers="layers",
        num_key_value_heads="kv",
    )
    return Transformers(
        "LlamaForCausalLM", {**config, "num_attention_heads": int(dims["kv"] * dims["group"])}, "past_key_values"
    )


def _gpt2(dims: Dims, mode: str) -> Side:
    config = _whole(
        dims,
        vocab_size="vocab",
        n_positions="length",
        n_embd="model",
        n_layer="layers",
        n_head="head",
        n_inner="hidden",
    )
    return Transformers("GPT2LMHeadModel", {**config, "bos_token_id": None, "eos_token_id": None}, "past_key_values")


def _mamba(dims: Dims, mode: str) -> Side:
    importlib.import_module("mambapy")  # transformers would silently take a loop, 80 times slower to train
    config = _whole(
        dims,
        vocab_size="vocab",
        hidden_size="model",
        num_hidden_layers="layers",
        state_size="state",
        time_step_rank="rank",
        conv_kernel="tap",
    )
    return Transformers("MambaForCausalLM", {**config, "use_mambapy": mode == "forward+backward"}, "cache_params")


def _rwkv4(dims: Dims, mode: str) -> Side:
    config = _whole(
        dims, vocab_size="vocab", hidden_size="model", num_hidden_layers="layers", intermediate_size="hidden"
    )
    return Transformers("RwkvForCausalLM", {**config, "rescale_every": 0}, "state")


def _gemma(*pattern: str) -> Callable[[Dims, str], Side]:
    def make(dims: Dims, mode: str) -> Side:
        config = _whole(
            dims, vocab_size="vocab", hidden_size="model", num_hidden_layers="layers", num_attention_heads="head"
        )
        config |= {"intermediate_size": 2 * int(dims["hidden"]), "num_key_value_heads": 1}  # the gate counts too
        return Gemma("RecurrentGemmaForCausalLM", {**config, "block_types": pattern}, "past_key_values")

    return make


def _recurrent(cell: str) -> Peer:
    bound = (
        "with one sequence every step reads every recurrent weight, and both sides read them from the cache at its speed; with eight,"
        " products are most of it on both sides, inside the loop at four fifths of the rate at which the machine multiplies"
    )
    return Peer(f"torch {cell}", lambda model: {}, lambda dims, mode: Recurrent(cell, dims), bound=bound)


def _plain(model: int) -> Mapping[str, float]:
    return {}


def _head(model: int) -> Mapping[str, float]:
    return {"head": _heads(model)}


def _kv(model: int) -> Mapping[str, float]:
    return {"kv": _heads(model), "group": 1, "hidden": _hidden(model)}


_LIBRARY = ("transformers",)
_ATTENTION = (
    "over a long sequence both sides spend most of their time in the same fused attention of torch (three quarters of the peer's"
    " time at 8192 steps, d = 256)"
)

PEERS = {
    "gpt2": Peer("transformers GPT2", _head, _gpt2, _LIBRARY, _ATTENTION),
    "griffin": Peer("transformers RecurrentGemma", _head, _gemma("recurrent", "recurrent", "attention"), _LIBRARY),
    "gru": _recurrent("GRU"),
    "hawk": Peer("transformers RecurrentGemma, recurrent only", _head, _gemma("recurrent"), _LIBRARY),
    "lstm": _recurrent("LSTM"),
    "mamba": Peer("transformers Mamba", _plain, _mamba, ("transformers", "mambapy")),
    "rwkv4": Peer("transformers Rwkv", _plain, _rwkv4, _LIBRARY),
    "transformer": Peer("transformers Llama", _kv, _llama, _LIBRARY, _ATTENTION),
}
