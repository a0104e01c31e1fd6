"""What functions of torch, jax, einops and the like are called here: told where a name is not known."""

from __future__ import annotations

_FILTER = "sum(window(x, tap) * param([tap, n]), over=tap)"
_NAMED = "axes are known by name, not by place, so there is nothing to move: leave it out"
_BROADCAST = "values meet by the names of their axes, so none has to be put in: leave it out"
_MASK = "a window sees only the past, so there is nothing to hide; else hide a score"
_WIDTH = "the caller says how wide numbers are: ssir.compile(spec, dtype=...)"
_MEMORY = "what goes from step to step is a state, {state: [n], A: a, B: b, input: x}"

_MEANT: dict[str, tuple[str, str]] = {
    "conv1d causal_conv1d depthwise_conv1d conv": (
        "a filter is a window that is summed over; mixed, linear(window(x, tap), m); each channel by itself",
        _FILTER,
    ),
    "linear_layer dense_layer fc proj addmm": ("a learned map is", "linear(x, m)"),
    "embedding nn_embedding lookup": ("a learned table is", "embed(t, vocab, n)"),
    "one_hot": ("compare with the indices of an axis", "where(arange(n) == t, 1, 0)"),
    "bmm mm mv einsum tensordot inner vdot contract matvec": (
        "a product summed over named axes is",
        "dot(x, y, over=n)",
    ),
    "outer_product ger kron": ("axes that only one of two values has stand side by side", "x * z"),
    "cumprod": ("a running product of what is positive is", "exp(cumsum(log(x)))"),
    "cumulative_sum running_sum prefix_sum accumulate": ("a running sum is", "cumsum(x)"),
    "cumulative_mean running_mean moving_average": ("a running mean is", "cummean(x)"),
    "cumulative_max running_max": ("a running maximum is", "cummax(x)"),
    "scan associative_scan fori_loop while_loop rnn ema recurrence": (_MEMORY, ""),
    "flip fliplr reversed": (
        "the steps in the opposite order are",
        "reverse(x)",
    ),
    "masked_fill masked_select triu tril causal_mask": (_MASK, "where(x < 0, -inf, x)"),
    "cond ifelse select_where": ("choose with", "where(x < 0, y, x)"),
    "view reshape unflatten rearrange": ("an axis is parted by", "split(x, [two, rest], axis=n)"),
    "flatten ravel": ("axes are joined by", "merge(x * z, [n, m], both)"),
    "permute transpose swapaxes movedim moveaxis t": (_NAMED, ""),
    "unsqueeze squeeze expand_dims broadcast": (_BROADCAST, ""),
    "repeat tile repeat_interleave broadcast_to expand_as": ("copies along a further axis are", "expand(x, [m])"),
    "cat concatenate hstack append": ("values are laid end to end by", "concat([x, y], twice)"),
    "stack vstack": ("values are laid side by side by", "pack([x, y], two)"),
    "chunk narrow getitem index_select unbind": ("a part of an axis is", "slice(x, n, stop=2, out=two)"),
    "gather take take_along_dim index": ("one entry of an axis is", "select(x, n, 0)"),
    "swish": ("the same is", "silu(x)"),
    "leaky_relu prelu": ("write", "maximum(x, 0.01 * x)"),
    "relu6 hardtanh clip clamp_min clamp_max": ("bounds are", "clamp(x, low=-1, high=1)"),
    "mish": ("write", "x * tanh(softplus(x))"),
    "glu swiglu geglu": ("write", "silu(linear(x, m)) * linear(x, m)"),
    "log_softmax": ("write", "log(softmax(x, over=n))"),
    "logsumexp": ("write", "max(x, over=n) + log(sum(exp(x - max(x, over=n)), over=n))"),
    "norm normalize vector_norm": (
        "to the length 1 it is brought by l2_norm; the length is",
        "sqrt(sum(square(x), over=n))",
    ),
    "var variance": ("write", "mean(square(x - mean(x, over=n)), over=n)"),
    "std": ("write", "sqrt(mean(square(x - mean(x, over=n)), over=n))"),
    "batch_norm batchnorm1d instance_norm": (
        "a step knows no other sequence; its own entries are brought to one size by",
        "layer_norm(x, over=n)",
    ),
    "scaled_dot_product_attention attention multihead_attention sdpa flash_attention": (
        "attention is written out, and the plan finds it",
        "dot(softmax(dot(x, window(y, slot), over=n) * n ** -0.5, over=slot), window(y, slot), over=slot)",
    ),
    "parameter weight variable": ("a learned value is", "param([n])"),
    "register_buffer constant": ("a fixed one that checkpoints carry is", "buffer([n])"),
    "zeros zeros_like full new_zeros empty": ("a number over axes is", "expand(0, [n])"),
    "ones ones_like": ("a number over axes is", "expand(1, [n])"),
    "roll lag previous prev last": ("the value of the step before is", "delay(x)"),
    "pad": ("before the first step a memory is 0, or its `initial`, so nothing is put before it", ""),
    "pow power": ("write", "x ** 2"),
    "sqr": ("write", "square(x)"),
    "atan": ("write", "arctan(x)"),
    "argmax topk": ("1 at the largest entries and 0 at the others is", "top(x, 1, over=n)"),
    "detach": ("a value without its gradient is", "stop_gradient(x)"),
    "float half bfloat16 to astype cast double": (_WIDTH, ""),
}
_HELP = {
    name.replace("_", ""): f"{words}: {expression}" if expression else words
    for names, (words, expression) in _MEANT.items()
    for name in names.split()
}
EXPRESSIONS = tuple(expression for _, expression in _MEANT.values() if expression)
"""All that is recommended; x and y are over n, z over m, t is a token."""


def meant(name: str) -> str | None:
    """What to write for a function that other libraries have."""
    return _HELP.get(name.casefold().replace("_", ""))
