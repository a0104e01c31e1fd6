"""The step as Python calls it: pointers and sizes as whole numbers of 64 bits."""

from __future__ import annotations

from ssir.compilers.step.c import Step


def door(step: Step, name: str) -> str:
    """The function that is called from outside, behind those of the step."""
    groups = range(len(step.groups))
    inputs, outputs = range(len(step.inputs)), range(len(step.outputs))
    arguments = ["constants", "old", "new", "rooms", "position", *(f"in{k}" for k in inputs)]
    arguments += [f"out{k}" for k in outputs]
    numbers = [f"int64_t {word}{g}" for g in groups for word in ("used", "room")]
    shared, own = step.scratch
    given = [f"PTR({one.type}, in{k}_)" for k, one in enumerate(step.inputs)]
    given += [f"PTR(REAL, out{k}_)" for k in outputs]
    used, rooms = (", ".join(f"{word}{g}" for g in groups) or "0" for word in ("used", "room"))
    lines = [
        f"/* 0, or 1 if a token is not one of its table. scratch: ROWS * ({shared} + threads * ({own})) numbers. */",
        f"int64_t {name}({', '.join(f'int64_t {one}_' for one in arguments)}, int64_t scratch_{''.join(f', {one}' for one in numbers)}, int64_t B, int64_t threads) {{",
    ]
    if None in step.groups:
        lines.append(f"    const int64_t room = room{step.groups.index(None)};")
    lines += [
        f"    const int64_t used[] = {{{used}}}, rooms[] = {{{rooms}}};",
        "    step_t step = {B, PTR(const int64_t, position_), used, rooms, 0};",
        f"    int64_t arrived = 0, most = {step.team};",
        "    REAL *scratch = PTR(REAL, scratch_);",
        "#pragma omp parallel num_threads((int)most) if (most > 1)",
        "    {",
        "        member_t member = {THREAD, THREADS, 0, &arrived};",
        f"        {step.root}(&step, &member, PTR(const REAL *const, constants_), PTR(const REAL, old_), PTR(REAL, new_), PTR(REAL *const, rooms_), scratch, scratch + ROWS * ({shared} + member.rank * ({own})){''.join(f', {one}' for one in given)});",
        "    }",
        "    return step.fault;",
        "}",
    ]
    return "\n".join([*lines, ""])
