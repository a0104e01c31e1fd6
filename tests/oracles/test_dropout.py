"""What is dropped while training, and where, against transformers: both sides are given the same masks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from ssir.spec.load import load
from tests.oracles import compare, test_encoders, test_t5, test_transformer

RATE = 0.1


class Training(compare.Model):
    """Our side while training, with the masks that theirs has drawn, in the order in which it has."""

    def __call__(self, *xs: Tensor, **_: Any) -> tuple[Tensor, Any]:
        self.module.train()
        named: dict[str, Tensor] = {}
        with torch.no_grad():
            self.module(*xs, masks=named)
        assert len(named) == len(self.drawn), "as many masks as theirs"
        own = zip(named.items(), self.drawn, strict=True)
        y, after = self.module(*xs, masks={name: _as(mask, like) for (name, like), mask in own})
        return y, after

    drawn: list[Tensor]


def _as(mask: Tensor, like: Tensor) -> Tensor:
    """A mask of theirs, [batch, time, width], or [batch, head, time, key] of weights, as one of ours is laid out."""
    for order in [(0, 2, 3, 1), (0, 2, 1, 3)] if mask.dim() == 4 else [(0, 1, 2)]:
        moved = mask.permute(order)
        if moved.shape == like.shape or moved[:, None].shape == like.shape:
            return moved.reshape(like.shape)
    raise AssertionError(f"{tuple(mask.shape)} is no {tuple(like.shape)}")


@contextmanager
def recorded(into: list[Tensor]) -> Iterator[None]:
    generator, before = torch.Generator().manual_seed(3), F.dropout

    def drop(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        assert training and p == RATE
        mask = torch.rand(x.shape, generator=generator) >= p
        into.append(mask)
        return x * mask / (1 - p)

    F.dropout = drop  # type: ignore[assignment]
    try:
        yield
    finally:
        F.dropout = before


def _same(ours: Training, theirs: nn.Module, run: Callable[..., Tensor], mapping: Any, *xs: Tensor) -> None:
    def watched(*xs: Tensor) -> Tensor:
        ours.drawn = []
        with recorded(ours.drawn):
            return run(*xs)

    theirs.train()
    compare.same(ours, watched, dict(theirs.named_parameters()), mapping, *xs)


def test_gpt2_trains_with_the_dropout_of_transformers() -> None:
    theirs = compare.built(
        lambda: GPT2LMHeadModel(GPT2Config(vocab_size=11, n_positions=9, n_embd=16, n_layer=2, n_head=4))
    )
    ours = Training(load("gpt2", vocab=11, length=9, model=16, layers=2, head=4), "compiled")
    mapping = compare.per_layer(test_transformer.GPT2, 2)
    _same(ours, theirs, lambda x: theirs(x).logits, mapping, compare.tokens(11))


def test_t5_trains_with_the_dropout_of_transformers() -> None:
    theirs = test_t5.built()
    ours = Training(load("t5", None, **test_t5.DIMS), "compiled")
    target, source = compare.tokens(11, time=7), compare.tokens(11, time=9, seed=1)

    def run(target: Tensor, source: Tensor) -> Tensor:
        return theirs(input_ids=source, decoder_input_ids=target).logits  # type: ignore[no-any-return]

    _same(ours, theirs, run, compare.per_layer(test_t5.T5, 2), target, source)


def test_bert_trains_with_the_dropout_of_transformers() -> None:
    e = test_encoders
    config = BertConfig(
        vocab_size=e.VOCAB,
        hidden_size=e.MODEL,
        num_hidden_layers=e.LAYERS,
        num_attention_heads=e.HEAD,
        intermediate_size=e.HIDDEN,
        max_position_embeddings=e.LENGTH,
        pad_token_id=None,
    )
    theirs = compare.built(lambda: BertForMaskedLM(config))
    dims = {"vocab": e.VOCAB, "length": e.LENGTH, "model": e.MODEL, "hidden": e.HIDDEN}
    ours = Training(load("bert", None, **dims, head=e.HEAD, layers=e.LAYERS), "compiled")

    def run(tokens: Tensor, segments: Tensor, keep: Tensor) -> Tensor:
        return theirs(tokens, token_type_ids=segments, attention_mask=keep.long()).logits  # type: ignore[no-any-return]

    _same(ours, theirs, run, compare.per_layer(e.BERT, e.LAYERS), *e.sentences())
