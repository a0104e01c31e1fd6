"""From structure to algorithm: which form a memory gets, and that every form that fits it agrees with its meaning."""

from dataclasses import dataclass

import pytest
import torch

import ssir
from ssir import passes
from ssir.compilers.plan import plan
from ssir.errors import UsageError
from ssir.ir import Dependence
from ssir.spec.load import Spec

from ..small import component

DIMS = "{n: 3, m: 4, head: 2, group: 3, key: 4, value: 5, tap: 3, long: 20, slot: unbounded, half: 2}"


def spec(graph: str, inputs: str = "{x: [n]}", output: str = "y") -> Spec:
    return component(graph, inputs, DIMS, output)


@dataclass(frozen=True)
class Case:
    name: str
    form: str
    graph: str
    inputs: str = "{x: [n]}"


GATE = "sigmoid(linear(x, {}))"
CASES = (
    Case(
        "a short filter",
        "filter",
        "y: {state: [tap, n], A: shift(tap), input: x, C: 'param([tap, n], init=normal(1))'}",
    ),
    Case(
        "a filter that leaves the newest out",
        "filter",
        "y: {state: [tap, n], A: shift(tap), input: x, C: 'param([tap], init=normal(1))', read: before}",
    ),
    Case(
        "a long filter with feed-through",
        "filter",
        "y: {state: [long, n], A: shift(long), input: x, C: 'param([long, n], init=normal(1))', D: 2}",
    ),
    Case(
        "taps that depend on the input",
        "register",
        "y: {state: [tap, n], A: shift(tap), input: x, C: 'linear(x, [tap, n])'}",
    ),
    Case("a window read by a maximum", "register", "y: max(window(x, tap) * linear(x, tap), over=tap)"),
    Case(
        "a short register averaged, without the newest",
        "register",
        "w: {state: [tap, n], A: shift(tap), input: x, read: before}\ny: mean(w, over=tap) + dot(softmax(w, over=tap), w, over=tap)",
    ),
    Case(
        "a long register averaged, without the newest",
        "register",
        "w: {state: [long, n], A: shift(long), input: x, read: before}\ny: mean(w, over=long) + dot(softmax(w, over=long), w, over=long)",
    ),
    Case(
        "a register that begins full",
        "register",
        "y: {state: [tap, n], A: shift(tap), input: x, C: 'linear(x, tap)', initial: 'param([tap, n], init=normal(1))'}",
    ),
    Case("a delay", "delay", "y: delay(x)"),
    Case("a delay that begins somewhere", "delay", "y: x * delay(x, initial=param([n], init=normal(1)))"),
    Case("an integrator", "scan", "y: {state: [n], input: x}"),
    Case(
        "a constant diagonal",
        "scan",
        "y: {state: [n], A: 'sigmoid(param([n], init=normal(1)))', input: x, initial: 'param([n], init=normal(1))'}",
    ),
    Case(
        "a gated diagonal",
        "scan",
        f"y: {{state: [n], A: '{GATE.format('n')}', B: '{GATE.format('n')}', input: x, D: 3}}",
    ),
    Case(
        "a gated diagonal read before",
        "scan",
        f"y: {{state: [n], A: '{GATE.format('n')}', input: x, C: '{GATE.format('n')}', read: before}}",
    ),
    Case("a scalar gate", "scan", "y: {state: [n], A: 'sigmoid(sum(x, over=n))', input: x}"),
    Case(
        "a complex diagonal",
        "scan",
        "z: {state: [n, m], A: 'polar(0.9, param([n, m], init=uniform(0, 3)))', input: x, C: 'complex(param([m], init=normal(1)), param([n, m], init=normal(1)))'}\ny: real(z)",
    ),
    Case("a running maximum", "scan", "y: {state: [n], A: '-softplus(linear(x, n))', input: x, algebra: max_plus}"),
    Case(
        "a running maximum with a readout",
        "scan",
        "y: {state: [n, m], A: -0.1, B: 'linear(x, m)', input: x, C: 'linear(x, m)', D: 0, algebra: max_plus}",
    ),
    Case(
        "a selective scan",
        "selective scan",
        "dt: softplus(linear(x, n))\ny: {state: [n, m], A: 'exp(dt * -exp(param([n, m], init=normal(1))))', B: 'dt * linear(x, m)', input: x, C: 'linear(x, m)', D: 'param([n], init=ones)'}",
    ),
    Case(
        "a selective scan of heads with readouts of their own",
        "selective scan",
        "dt: softplus(linear(x, [n, head]))\ny: {state: [n, m, head], A: 'exp(dt * -exp(param([n, head, m], init=normal(1))))', B: 'dt * linear(x, [head, m])', input: 'linear(x, [n, head])', C: 'linear(x, [head, m])', D: 'param([n, head], init=ones)'}",
    ),
    Case(
        "a selective scan read before",
        "selective scan",
        "dt: softplus(linear(x, n))\ny: {state: [m, n], A: 'exp(-dt * softplus(param([m], init=normal(1))))', B: 'linear(x, m)', input: x, C: 'linear(x, m)', read: before}",
    ),
    Case(
        "a matrix memory",
        "chunked, decay by key",
        "y: {state: [head, key, value], A: 'sigmoid(linear(x, [head, key]))', B: 'linear(x, [head, key])', input: 'linear(x, [head, value])', C: 'linear(x, [head, key])'}",
    ),
    Case(
        "a matrix memory read before",
        "chunked, decay by key",
        "y: {state: [value, key], A: 'sigmoid(linear(x, key))', B: 'linear(x, key)', input: 'linear(x, value)', C: 'linear(x, key)', read: before}",
    ),
    Case(
        "a constant decay by key",
        "chunked, decay by key",
        "y: {state: [head, key, value], A: 'sigmoid(param([head, key], init=normal(1)))', B: 'linear(x, [head, key])', input: 'linear(x, [head, value])', C: 'linear(x, key)'}",
    ),
    Case(
        "one decay per head",
        "chunked, scalar decay",
        "y: {state: [head, key, value], A: 'sigmoid(linear(x, head))', B: 'linear(x, key)', input: 'linear(x, [head, value])', C: 'linear(x, key)'}",
    ),
    Case(
        "linear attention",
        "chunked, scalar decay",
        "y: {state: [head, key, value], B: 'linear(x, [head, key])', input: 'linear(x, [head, value])', C: 'linear(x, [head, key])'}",
    ),
    Case(
        "attention",
        "attention",
        "y: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(dot(linear(x, [head, group, key]), window(linear(x, [head, key]), slot), over=key) * key ** -0.5, over=slot)'}",
    ),
    Case(
        "attention over a window, one head",
        "attention",
        "y: {state: [long, value], A: shift(long), input: 'linear(x, value)', C: 'softmax(dot(window(linear(x, key), long), linear(x, key), over=key), over=long)'}",
    ),
    Case(
        "attention with capped scores",
        "register",
        "y: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(5 * tanh(dot(linear(x, [head, key]), window(linear(x, [head, key]), slot), over=key) / 5), over=slot)'}",
    ),
    Case(
        "attention by sigmoid, with a bias by distance",
        "register",
        "y: {state: [long, head, value], A: shift(long), input: 'linear(x, [head, value])', C: 'sigmoid(dot(linear(x, [head, key]), window(linear(x, [head, key]), long), over=key) - 0.1 * arange(long) + param([head, long], init=normal(1)))'}",
    ),
    Case(
        "the delta rule",
        "chunked, diagonal plus rank one",
        "k: l2_norm(linear(x, key), over=key)\nbeta: sigmoid(sum(x, over=n))\ny: {state: [head, key, value], A: '1 - outer(beta * k, k, over=key)', B: beta * k, input: 'linear(x, [head, value])', C: 'linear(x, [head, key])'}",
    ),
    Case(
        "a delta rule that forgets by head, read before",
        "chunked, diagonal plus rank one",
        "k: l2_norm(linear(x, key), over=key)\ny: {state: [head, key, value], A: 'sigmoid(linear(x, head)) * (1 - outer(sigmoid(linear(x, head)) * k, k, over=key))', B: k, input: 'linear(x, [head, value])', C: 'linear(x, [head, key])', read: before}",
    ),
    Case(
        "a decay by key less a product of others",
        "chunked, diagonal plus rank one",
        "k: l2_norm(linear(x, [head, key]), over=key)\ny: {state: [head, value, key], A: 'exp(-softplus(linear(x, [head, key]))) - outer(k, k * sigmoid(linear(x, [head, key])), over=key)', B: 'linear(x, [head, key])', input: 'linear(x, [head, value])', C: 'linear(x, [head, key])', D: 2}",
    ),
    Case(
        "a constant decay plus rank one by the input, of a vector",
        "chunked, diagonal plus rank one",
        "y: {state: [key], A: '0.9 * (1 - outer(param([key], init=normal(0.5)), 0.3 * tanh(linear(x, key)), over=key)) * exp(-square(param([key], init=normal(1))))', B: 'linear(x, key)', input: 'sum(x, over=n)', C: 'linear(x, key)'}",
    ),
    Case(
        "a delta rule whose decay may be negative",
        "compiled loop",
        "k: l2_norm(linear(x, key), over=key)\ny: {state: [key, value], A: '(1 - outer(k, k, over=key)) * tanh(linear(x, key))', B: k, input: 'linear(x, value)', C: 'linear(x, key)'}",
    ),
    Case(
        "a delta rule that forgets by key",
        "chunked, diagonal plus rank one",
        "k: l2_norm(linear(x, key), over=key)\ny: {state: [key, value], A: '(1 - outer(sigmoid(sum(x, over=n)) * k, k, over=key)) * sigmoid(linear(x, key))', B: k, input: 'linear(x, value)', C: 'linear(x, key)'}",
    ),
    Case(
        "a rotation by the input",
        "scan of pairs",
        "y: {state: [key], A: '0.9 * rotate(linear(x, half), over=key)', input: 'linear(x, key)'}",
    ),
    Case(
        "a matrix",
        "scan by powers",
        "y: {state: [n], A: 'dense(0.3 * param([n, n_], init=normal(1)), over=n)', input: x}",
    ),
    Case(
        "a matrix that moves with the input",
        "compiled loop",
        "y: {state: [n], A: 'dense(0.3 * tanh(linear(x, [n, n_])), over=n)', input: x}",
    ),
    Case(
        "a matrix and a rotation, which begin somewhere",
        "scan by powers",
        "y: {state: [m, key], A: 'dense(0.3 * param([m, m_], init=normal(1)), over=m) * rotate(param([m, half], init=normal(1)), over=key)', B: 'linear(x, m)', input: 'linear(x, key)', initial: 'param([m, key], init=normal(1))', read: before}",
    ),
    Case(
        "rotations by the input and by a constant, damped for each value",
        "scan of pairs",
        "y: {state: [key, value], A: '-rotate(linear(x, [half, value]), over=key) * sigmoid(linear(x, value)) * rotate(param([half], init=normal(1)), over=key)', B: 'linear(x, key)', input: 'linear(x, value)', C: 'linear(x, key)', initial: 'param([key], init=normal(1))', read: before}",
    ),
    Case(
        "a rotation by the input whose pairs are not damped alike",
        "compiled loop",
        "y: {state: [key], A: 'rotate(linear(x, half), over=key) * sigmoid(linear(x, key))', input: 'linear(x, key)'}",
    ),
    Case(
        "a matrix memory that turns by its position",
        "chunked, turned keys",
        "y: {state: [head, key, value], A: 'rotate(expand(0.1 * position, half), over=key) * sigmoid(linear(x, head))', B: 'linear(x, key)', input: 'linear(x, [head, value])', C: 'linear(x, key)', D: 2}",
    ),
    Case(
        "a matrix memory that turns by the input, read before",
        "chunked, turned keys",
        "y: {state: [value, n, key], A: 'rotate(3 * linear(x, [n, half]), over=key)', B: 'linear(x, [n, key])', input: 'linear(x, [n, value])', C: 'linear(x, [n, key])', read: before}",
    ),
    Case(
        "a rotating vector",
        "scan by powers",
        "y: {state: [key], A: '0.9 * rotate(param([half], init=normal(1)), over=key)', input: 'linear(x, key)'}",
    ),
    Case(
        "a complex vector",
        "scan by powers",
        "z: {state: [m], A: 'polar(0.9, param([m], init=uniform(0, 3)))', B: 'complex(param([m, n], init=normal(1)), param([m, n], init=normal(1)))', input: x, C: 'complex(param([n, m], init=normal(1)), 1)', D: 'param([n], init=normal(1))'}\ny: real(z)",
    ),
    Case(
        "a constant diagonal over an expanded state",
        "chunked convolution",
        "y: {state: [n, m], A: 'exp(-exp(param([n, m], init=normal(1))))', B: 'param([m], init=normal(1))', input: x, C: 'param([n, m], init=normal(1))', D: 'param([n], init=ones)'}",
    ),
    Case(
        "a matrix over an expanded state, read before",
        "chunked convolution",
        "y: {state: [m, n], A: 'dense(0.3 * param([m, m_], init=normal(1)), over=m)', B: 'param([m], init=normal(1))', input: x, C: 'param([n, m], init=normal(1))', read: before, initial: 'param([n, m], init=normal(1))'}",
    ),
    Case(
        "a diagonal plus rank one, a matrix for each channel",
        "chunked convolution",
        "y: {state: [n, m], A: 'sigmoid(param([m], init=normal(1))) - 0.3 * outer(param([n, m], init=normal(1)), param([m], init=normal(1)), over=m)', input: x, C: 'param([m], init=normal(1))'}",
    ),
    Case(
        "two reflections a step",
        "chunked, diagonal plus rank one",
        "k: l2_norm(linear(x, [head, key]), over=key)\nj: l2_norm(linear(x, [head, key]), over=key)\nw: sigmoid(linear(x, head))\ny: {state: [head, key, value], A: '(1 - outer(2 * w * k, k, over=key)) * (1 - outer(j, j, over=key))', B: k, input: 'linear(x, [head, value])', C: 'linear(x, [head, key])'}",
    ),
    Case(
        "three reflections a step, damped and read before",
        "chunked, diagonal plus rank one",
        "k: l2_norm(linear(x, [head, key]), over=key)\nj: l2_norm(linear(x, [head, key]), over=key)\nw: sigmoid(linear(x, head))\ny: {state: [head, key, value], A: '(1 - outer(w * k, k, over=key)) * w * (1 - outer(j, j, over=key)) * 0.9 * (1 + outer(0.5 * k, j, over=key))', B: k, input: 'linear(x, [head, value])', C: 'linear(x, [head, key])', read: before}",
    ),
    Case(
        "two reflections a step with a constant decay",
        "chunked, diagonal plus rank one",
        "k: l2_norm(linear(x, [head, key]), over=key)\nj: l2_norm(linear(x, [head, key]), over=key)\ny: {state: [head, key, value], A: '0.95 * (1 - outer(k, k, over=key)) * (1 - outer(j, j, over=key))', B: k, input: 'linear(x, [head, value])', C: 'linear(x, [head, key])'}",
    ),
    Case(
        "several inputs and outputs",
        "chunked convolution",
        "y: {state: [m], A: 'sigmoid(param([m], init=normal(1)))', B: 'param([m, n], init=normal(1))', input: x, C: 'param([m, value], init=normal(1))'}",
    ),
    Case(
        "a complex diagonal of which the real part is read",
        "chunked convolution",
        "z: {state: [n, m], A: 'polar(sigmoid(param([n, m], init=normal(1))), param([n, m], init=uniform(0, 3)))', B: 2, input: x, C: 'complex(param([n, m], init=normal(1)), param([n, m], init=normal(1)))', D: 2}\ny: 2 * real(z)",
    ),
    Case(
        "a rotation that is read",
        "chunked convolution",
        "y: {state: [n, key], A: '0.9 * rotate(param([half], init=normal(1)), over=key)', input: x, C: 'param([key], init=normal(1))'}",
    ),
    Case(
        "scores of two dots",
        "attention",
        "k: linear(x, [head, key])\nr: linear(x, m)\nq: linear(x, [head, group, key])\np: linear(x, [head, group, m])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax((dot(q, window(k, slot), over=key) - 0.5 * dot(p, window(r, slot), over=m)) * key ** -0.5, over=slot)'}",
    ),
    Case(
        "scores of two dots, the keys of one apart by what the other's are not",
        "register",
        "k: linear(x, [head, key])\nr: linear(x, [group, m])\nq: linear(x, [head, group, key])\np: linear(x, [head, group, m])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(dot(q, window(k, slot), over=key) + dot(p, window(r, slot), over=m), over=slot)'}",
    ),
    Case(
        "a selective scan over complex numbers",
        "selective scan",
        "dt: softplus(sum(x, over=n) + param([n], init=normal(1)))\nz: {state: [n, m], A: 'exp(dt * complex(-exp(param([n, m], init=normal(1))), param([n, m], init=normal(1))))', B: 'dt * linear(x, m)', input: x, C: 'complex(linear(x, m), linear(x, m))'}\ny: real(z) + imag(z)",
    ),
    Case(
        "constant complex gates that the input reads",
        "selective scan",
        "z: {state: [n, m], A: 'polar(sigmoid(param([n, m], init=normal(1))), param([n, m], init=normal(1)))', B: 'linear(x, m)', input: x, C: 'linear(x, m)', initial: 0.3}\ny: real(z) * imag(z)",
    ),
    Case(
        "a complex cell",
        "compiled loop",
        "z: {state: [n], A: 'polar(sigmoid(linear(h, n)), x)', input: 'complex(x, tanh(linear(h, n)))', initial: 0.3}\nh: delay(y)\ny: real(z) + tanh(imag(z))",
    ),
    Case(
        "a decay by head and group",
        "chunked, scalar decay",
        "y: {state: [head, group, key, value], A: 'sigmoid(linear(x, [head, group]))', B: 'linear(x, [head, group, key])', input: 'linear(x, [head, group, value])', C: 'linear(x, [head, group, key])'}",
    ),
    Case(
        "scores with a bias for each key",
        "attention",
        "k: linear(x, [head, key])\nw: linear(x, head)\nb: sum(x, over=n)\nq: linear(x, [head, key])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(window(b, slot) + dot(q, window(k, slot), over=key) / 2 - 2 * window(w, slot), over=slot)'}",
    ),
    Case(
        "scores with a slope by head",
        "attention",
        "q: linear(x, [head, key])\nk: linear(x, [head, key])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(dot(q, window(k, slot), over=key) * key ** -0.5 - 2 ** (-arange(head) - 1) * arange(slot), over=slot)'}",
    ),
    Case(
        "scores with a learned slope by head and group",
        "attention",
        "q: linear(x, [head, group, key])\nk: linear(x, [head, key])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax((dot(q, window(k, slot), over=key) - exp(param([head, group], init=normal(1))) * arange(slot)) / 2, over=slot)'}",
    ),
    Case(
        "scores with a bias by the logarithm of the distance, the same for all heads",
        "attention",
        "q: linear(x, [head, key])\nk: linear(x, [head, key])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(dot(q, window(k, slot), over=key) + softplus(param([], init=normal(1))) * log(1 + arange(slot)), over=slot)'}",
    ),
    Case(
        "scores with a bias from a table of distances",
        "attention",
        "q: linear(x, [head, key])\nk: linear(x, [head, key])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(dot(q, window(k, slot), over=key) - select(param([m, head], init=normal(1)), m, minimum(arange(slot), m - 1)), over=slot)'}",
    ),
    Case(
        "scores with an embedded bias by buckets of distances",
        "attention",
        "q: linear(x, [head, key])\nk: linear(x, [head, key])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(dot(q, window(k, slot), over=key) + embed(round(minimum(sqrt(arange(slot)), m - 1)), m, head, init=normal(1)), over=slot)'}",
    ),
    Case(
        "scores of every second step within a distance",
        "attention",
        "q: linear(x, [head, key])\nk: linear(x, [head, key])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(where(arange(slot) < 9 * (1 + arange(head)), 2 * (where(arange(slot) % 2 > 0, -inf, dot(q, window(k, slot), over=key) + param([head], init=normal(1)))), -inf), over=slot)'}",
    ),
    Case(
        "scores over a window with a bias for each distance",
        "attention",
        "q: linear(x, [head, group, key])\nk: linear(x, [head, key])\ny: {state: [long, head, value], A: shift(long), input: 'linear(x, [head, value])', C: 'softmax(dot(q, window(k, long), over=key) + param([head, long], init=normal(1)), over=long)'}",
    ),
    Case(
        "scores over a short window with a bias for each distance",
        "attention",
        "q: linear(x, [head, key])\nk: linear(x, [head, key])\ny: {state: [tap, head, value], A: shift(tap), input: 'linear(x, [head, value])', C: 'softmax(dot(q, window(k, tap), over=key) + param([tap, head], init=normal(1)) * arange(tap), over=tap)'}",
    ),
    Case(
        "scores of a temperature by head, with a bias that all entries share",
        "attention",
        "q: linear(x, [head, key])\nk: linear(x, [head, key])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(sigmoid(param([head], init=normal(1))) * dot(q, window(k, slot), over=key) + param([head], init=normal(1)), over=slot)'}",
    ),
    Case(
        "scores of a temperature by step, of two parts and a slope",
        "attention",
        "q: linear(x, [head, group, key])\nk: linear(x, [head, key])\nb: linear(x, head)\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax((dot(q, window(k, slot), over=key) + window(b, slot)) * sigmoid(linear(x, head)) - 0.1 * arange(slot), over=slot)'}",
    ),
    Case(
        "a window of scores of two dots",
        "attention",
        "k: linear(x, key)\nr: linear(x, m)\nq: linear(x, key)\np: linear(x, m)\ny: {state: [long, value], A: shift(long), input: 'linear(x, value)', C: 'softmax(-dot(q, window(k, long), over=key) + dot(p, window(r, long), over=m), over=long)'}",
    ),
    Case(
        "scores with a slope by step",
        "register",
        "q: linear(x, [head, key])\nk: linear(x, [head, key])\ny: {state: [slot, head, value], A: shift(slot), input: 'linear(x, [head, value])', C: 'softmax(dot(q, window(k, slot), over=key) - sigmoid(linear(x, head)) * arange(slot), over=slot)'}",
    ),
    Case("a classic recurrent network", "compiled loop", "y: tanh(linear(x, n) + linear(delay(y), n, bias=true))"),
    Case(
        "a gated memory",
        "compiled loop",
        "h: delay(y)\nc: {state: [n], A: 'sigmoid(linear(h, n) + linear(x, n, bias=true))', B: 'tanh(linear(x, n) + linear(h, n, bias=true))', input: 'sigmoid(linear(x, n) + linear(h, n))'}\ny: tanh(c) * sigmoid(linear(x, n) + x + linear(h, n))",
    ),
    Case(
        "a gated memory of which more is read",
        "compiled loop",
        "h: delay(o)\nc: {state: [n], A: 'sigmoid(linear(x, n) + linear(h, n))', B: 'sigmoid(linear(x, n) + linear(h, n))', input: 'tanh(linear(x, n) + linear(h, n))'}\no: sigmoid(linear(x, n) + linear(h, n)) * tanh(c)\ny: o + c * h",
    ),
    Case(
        "a gated average",
        "compiled loop",
        "h: delay(y)\nr: sigmoid(linear(x, n) + linear(h, n))\nz: sigmoid(linear(x, n, bias=true) + linear(h, n))\ny: {state: [n], A: z, B: 1 - z, input: 'tanh(linear(x, n) + linear(h, n, bias=true) * r)'}",
    ),
    Case(
        "a cell with peepholes",
        "compiled loop",
        "h: delay(y)\nc: {state: [n], A: 'sigmoid(linear(x, n) + linear(h, n) + 0.1 * delay(c))', B: 'sigmoid(linear(x, n) + linear(h, n))', input: 'tanh(linear(x, n) + linear(h, n))'}\ny: tanh(c) * sigmoid(linear(x, n) + linear(h, n))",
    ),
    Case(
        "attention over what it wrote itself",
        "loop",
        "q: linear(x, n)\nseen: window(delay(y), tap)\ny: tanh(q + sum(seen * softmax(dot(q, seen, over=n), over=tap), over=tap))",
    ),
    Case("sample and hold", "scan", "y: hold(x, every=4)"),
    Case("running sums, means and maxima", "scan", "y: cumsum(x) * sigmoid(cummean(x)) + cummax(x)"),
)


def test_a_complex_readout_is_whole_where_it_is_an_output_too() -> None:
    case = next(case for case in CASES if case.name == "a complex diagonal of which the real part is read")
    report = ssir.verify(spec(case.graph, output="{part: y, all: z}"), steps=(1, 40))
    assert report.ok, [row for row in report.worst() if not row.ok]
    assert case.form in {row.form for row in report.rows}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_form_that_fits_agrees_with_the_meaning(case: Case) -> None:
    report = ssir.verify(spec(case.graph, case.inputs), steps=(1, 70))
    assert report.ok, [row for row in report.worst() if not row.ok]
    fitting = {row.form for row in report.rows}
    assert any(case.form in form.split(", ") or case.form == form or case.form in form for form in fitting), fitting


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.form in ("loop", "delay", "filter", "compiled loop")],
    ids=lambda case: case.name,
)
def test_the_plan_takes_the_form_that_is_right_at_any_size(case: Case) -> None:
    entries = plan(passes.run(spec(case.graph, case.inputs).graph)).entries
    assert case.form in {entry.match.form.name for entry in entries}


BIG = "{n: 512, head: 4, key: 64, value: 64, m: 16, slot: unbounded}"


@pytest.mark.parametrize(
    ("name", "form"),
    [
        (c.name, c.form)
        for c in CASES
        if c.form.startswith(("selective", "chunked", "attention")) and c.name != "several inputs and outputs"
    ],
)
def test_at_real_sizes_the_plan_takes_the_form_that_never_writes_the_states_out(name: str, form: str) -> None:
    case = next(case for case in CASES if case.name == name)
    one = spec(case.graph, case.inputs)
    wide = Spec(
        one.module, one.component, {"n": 512, "m": 16, "head": 4, "key": 64, "value": 64, "long": 256, "half": 32}
    )
    found = {entry.match.form.name for entry in plan(passes.run(wide.graph)).entries}
    assert form in found or (form == "chunked convolution" and "selective scan" in found)


def test_nothing_constant_is_left_to_a_loop() -> None:
    for case in CASES:
        for entry in plan(passes.run(spec(case.graph, case.inputs).graph)).entries:
            constant = entry.facts.cycle is None and entry.facts.dependence["A"] is Dependence.CONSTANT
            assert not (constant and entry.match.form.name == "loop"), case.name


def test_the_plan_says_why_there_is_no_parallel_form() -> None:
    case = next(case for case in CASES if case.name == "a classic recurrent network")
    (entry,) = plan(passes.run(spec(case.graph).graph)).entries
    assert "no parallel form: its input depends on the state" in entry.match.why


def test_a_form_can_be_forced_and_one_that_does_not_fit_is_refused() -> None:
    one = passes.run(spec(CASES[8].graph).graph)
    assert plan(one, forced={"y": "loop"}).entries[0].match.form.name == "loop"
    with pytest.raises(UsageError, match="does not compute"):
        plan(one, forced={"y": "filter"})
    with pytest.raises(UsageError, match="the nearest is `scan`"):
        plan(one, forced={"y": "scann"})


@pytest.mark.parametrize(
    "graph",
    [
        "y: x * sigmoid(1)",
        "y: x * where(2 > layer, 2, layer)",
        "y: x + real(complex(layer, 1))",
        "y: param([n], init=normal(1))",
        "y: position + 0 * x",
        "y: real(polar(x, 2 * x))",
        "y: imag(polar(linear(x, n), 2)) + real(polar(1, linear(x, n)))",
        "y: x * real(dot(complex(linear(x, m), 1), param([m, n], init=normal(1)), over=m))",
        "y: x * maximum(1, 2) ** 0.5",
    ],
)
def test_numbers_and_constants_may_stand_anywhere(graph: str) -> None:
    report = ssir.verify(spec(graph), steps=(1, 4))
    assert report.ok, [row for row in report.worst() if not row.ok]


def test_a_growing_memory_read_where_the_state_feeds_back_is_refused_with_a_way_out() -> None:
    graph = (
        "c: delay(y)\ny: tanh(x + dot(softmax(dot(c, window(x, slot), over=n), over=slot), window(c, slot), over=slot))"
    )
    with pytest.raises(ssir.SSIRError, match="give `slot` a size"):
        ssir.compile(spec(graph))
    bounded = graph.replace("slot", "long")
    assert ssir.verify(spec(bounded), steps=(1, 30)).ok


@pytest.mark.parametrize(
    "y",
    [
        "sum(window(x, far) * param([far, n], init=normal(1)), over=far)",
        "sum(softmax(window(x, far) + param([far, n], init=normal(1)), over=far) * window(x, far), over=far)",
        "sum(softmax(window(x, far) + param([n, far], init=normal(1)), over=far) * window(x, far), over=far)",
    ],
)
def test_constants_over_a_long_register_lie_beside_its_entries(y: str) -> None:
    one = spec(f"y: {y}")
    model = ssir.compile(
        ssir.loads(one.module.document.source.text.replace("n: 3", "n: 3, far: 40")), dtype=torch.float64
    )
    x = torch.randn(2, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, _ = ssir.reference(model, x)
        torch.testing.assert_close(model(x)[0], wanted, rtol=1e-10, atol=1e-10)
        first, state = model(x[:, :45])
        torch.testing.assert_close(first, wanted[:, :45], rtol=1e-10, atol=1e-10)
        for t in range(45, 50):
            y_t, state = model.step(x[:, t], state)
            torch.testing.assert_close(y_t, wanted[:, t], rtol=1e-10, atol=1e-10)


def test_a_form_that_is_asked_for_comes_before_others_that_would_take_what_it_computes() -> None:
    read = "{{state: [slot, key], A: shift(slot), input: {}, C: 'softmax(dot(k, w, over=key), over=slot)'}}"
    lines = f"k: linear(x, key)\nw: window(k, slot)\na: {read.format('k')}\nb: {read.format('2 * a')}\ny: linear(b, n)"
    graph = passes.run(spec(lines).graph)
    for name in ("a", "b"):
        forms = {entry.path: entry.match.form.name for entry in plan(graph, forced={name: "attention"}).entries}
        assert forms[name] == forms["w"] == "attention"
        assert forms["a" if name == "b" else "b"] == "register"
    with pytest.raises(UsageError, match="the form `attention` of `b` computes `w` too, which another form does"):
        plan(graph, forced={"a": "attention", "b": "attention"})


@pytest.mark.parametrize("queries", [1, 8, 32, 64])
def test_a_register_that_many_queries_read_costs_what_they_read(queries: int) -> None:
    """Counted once, 32 queries on one key were a dense register, several times slower than the attention beside it."""
    made = component(
        """
        q: linear(u, [query, key])
        k: linear(u, key)
        read:
          state: [slot, value]
          A: shift(slot)
          input: linear(u, value)
          C: softmax(dot(q, window(k, slot), over=key) * key ** -0.5, over=slot)
        y: linear(read, model)
        """.replace("\n        ", "\n"),
        "{u: [model]}",
        f"{{model: 64, query: {queries}, key: 64, value: 64, slot: unbounded}}",
    )
    entries = {entry.path: entry.match.form.name for entry in plan(passes.run(made.graph)).entries}
    assert entries["read"] == "attention"
