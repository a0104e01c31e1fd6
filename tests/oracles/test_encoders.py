"""BERT, DistilBERT and ALBERT against transformers, with padding."""

import pytest
import torch
from torch import Tensor
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
)

from ssir.spec.load import load
from tests.oracles import compare

VOCAB, LENGTH, MODEL, HIDDEN, HEAD, LAYERS = 11, 12, 12, 10, 3, 3


def _affine(ours: str, theirs: str) -> dict[str, str | compare.Part]:
    return {f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in ("weight", "bias")}


def _many(pairs: dict[str, str]) -> dict[str, str | compare.Part]:
    return {key: value for ours, theirs in pairs.items() for key, value in _affine(ours, theirs).items()}


def sentences() -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, which sentence each belongs to, and where there is one: the second row is padded."""
    tokens = compare.tokens(VOCAB)
    segments = (torch.arange(9) > 4).long().expand(2, 9)
    keep = torch.ones(2, 9, dtype=torch.float64)
    keep[1, 6:] = 0
    return tokens, segments, keep


BERT = {
    "e.token.weight": "bert.embeddings.word_embeddings.weight",
    "e.place.weight": "bert.embeddings.position_embeddings.weight",
    "e.type.weight": "bert.embeddings.token_type_embeddings.weight",
    "logits.bias": "cls.predictions.bias",
    **_many(
        {
            "e.y": "bert.embeddings.LayerNorm",
            "restored.linear": "cls.predictions.transform.dense",
            "restored.layer_norm": "cls.predictions.transform.LayerNorm",
            "x.{}.mixed.mixer.q": "bert.encoder.layer.{}.attention.self.query",
            "x.{}.mixed.mixer.k": "bert.encoder.layer.{}.attention.self.key",
            "x.{}.mixed.mixer.v": "bert.encoder.layer.{}.attention.self.value",
            "x.{}.mixed.mixer.out": "bert.encoder.layer.{}.attention.output.dense",
            "x.{}.mixed.layer_norm": "bert.encoder.layer.{}.attention.output.LayerNorm",
            "x.{}.y.mlp.up": "bert.encoder.layer.{}.intermediate.dense",
            "x.{}.y.mlp.down": "bert.encoder.layer.{}.output.dense",
            "x.{}.y.layer_norm": "bert.encoder.layer.{}.output.LayerNorm",
        }
    ),
}


@pytest.mark.parametrize("via", compare.VIA)
def test_bert_agrees_with_transformers(via: str) -> None:
    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=MODEL,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEAD,
        intermediate_size=HIDDEN,
        max_position_embeddings=LENGTH,
        pad_token_id=None,
    )
    theirs = compare.built(lambda: BertForMaskedLM(config))
    spec = load("bert", vocab=VOCAB, length=LENGTH, model=MODEL, hidden=HIDDEN, head=HEAD, layers=LAYERS)

    def run(tokens: Tensor, segments: Tensor, keep: Tensor) -> Tensor:
        found: Tensor = theirs(tokens, token_type_ids=segments, attention_mask=keep.long()).logits
        return found

    weights, mapping = dict(theirs.named_parameters()), compare.per_layer(BERT, LAYERS)
    compare.same(compare.Model(spec, via), run, weights, mapping, *sentences())


DISTILBERT = {
    "token.weight": "distilbert.embeddings.word_embeddings.weight",
    "place.weight": "distilbert.embeddings.position_embeddings.weight",
    "logits.bias": "vocab_projector.bias",
    **_many(
        {
            "x.input": "distilbert.embeddings.LayerNorm",
            "restored.linear": "vocab_transform",
            "restored.layer_norm": "vocab_layer_norm",
            "x.{}.mixed.mixer.q": "distilbert.transformer.layer.{}.attention.q_lin",
            "x.{}.mixed.mixer.k": "distilbert.transformer.layer.{}.attention.k_lin",
            "x.{}.mixed.mixer.v": "distilbert.transformer.layer.{}.attention.v_lin",
            "x.{}.mixed.mixer.out": "distilbert.transformer.layer.{}.attention.out_lin",
            "x.{}.mixed.layer_norm": "distilbert.transformer.layer.{}.sa_layer_norm",
            "x.{}.y.mlp.up": "distilbert.transformer.layer.{}.ffn.lin1",
            "x.{}.y.mlp.down": "distilbert.transformer.layer.{}.ffn.lin2",
            "x.{}.y.layer_norm": "distilbert.transformer.layer.{}.output_layer_norm",
        }
    ),
}


@pytest.mark.parametrize("via", compare.VIA)
def test_distilbert_agrees_with_transformers(via: str) -> None:
    config = DistilBertConfig(
        vocab_size=VOCAB,
        dim=MODEL,
        n_layers=LAYERS,
        n_heads=HEAD,
        hidden_dim=HIDDEN,
        max_position_embeddings=LENGTH,
        pad_token_id=None,
    )
    theirs = compare.built(lambda: DistilBertForMaskedLM(config))
    spec = load("distilbert", vocab=VOCAB, length=LENGTH, model=MODEL, hidden=HIDDEN, head=HEAD, layers=LAYERS)
    tokens, _, keep = sentences()

    def run(tokens: Tensor, keep: Tensor) -> Tensor:
        found: Tensor = theirs(tokens, attention_mask=keep.long()).logits
        return found

    mapping = compare.per_layer(DISTILBERT, LAYERS)
    compare.same(compare.Model(spec, via), run, dict(theirs.named_parameters()), mapping, tokens, keep)


_LAYER = "albert.encoder.albert_layer_groups.0.albert_layers.0"
ALBERT = {
    "e.token.weight": "albert.embeddings.word_embeddings.weight",
    "e.place.weight": "albert.embeddings.position_embeddings.weight",
    "e.type.weight": "albert.embeddings.token_type_embeddings.weight",
    "logits.bias": "predictions.bias",
    **_many(
        {
            "e.y": "albert.embeddings.LayerNorm",
            "wide": "albert.encoder.embedding_hidden_mapping_in",
            "restored.linear": "predictions.dense",
            "restored.layer_norm": "predictions.LayerNorm",
            "x.0.mixed.mixer.q": f"{_LAYER}.attention.query",
            "x.0.mixed.mixer.k": f"{_LAYER}.attention.key",
            "x.0.mixed.mixer.v": f"{_LAYER}.attention.value",
            "x.0.mixed.mixer.out": f"{_LAYER}.attention.dense",
            "x.0.mixed.layer_norm": f"{_LAYER}.attention.LayerNorm",
            "x.0.y.mlp.up": f"{_LAYER}.ffn",
            "x.0.y.mlp.down": f"{_LAYER}.ffn_output",
            "x.0.y.layer_norm": f"{_LAYER}.full_layer_layer_norm",
        }
    ),
}


@pytest.mark.parametrize("via", compare.VIA)
def test_albert_agrees_with_transformers(via: str) -> None:
    config = AlbertConfig(
        vocab_size=VOCAB,
        embedding_size=5,
        hidden_size=MODEL,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEAD,
        intermediate_size=HIDDEN,
        max_position_embeddings=LENGTH,
        pad_token_id=None,
    )
    theirs = compare.built(lambda: AlbertForMaskedLM(config))
    spec = load("albert", vocab=VOCAB, length=LENGTH, narrow=5, model=MODEL, hidden=HIDDEN, head=HEAD, layers=LAYERS)

    def run(tokens: Tensor, segments: Tensor, keep: Tensor) -> Tensor:
        found: Tensor = theirs(tokens, token_type_ids=segments, attention_mask=keep.long()).logits
        return found

    mapping = compare.per_layer(ALBERT, LAYERS)
    compare.same(compare.Model(spec, via), run, dict(theirs.named_parameters()), mapping, *sentences())
