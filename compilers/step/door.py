"""The functions of a step as Python calls them: pointers and sizes as whole numbers of 64 bits."""

from __future__ import annotations

from ssir.compilers.step.c import Root, Step


def doors(step: Step, name: str) -> str:
    """The functions that are called from outside, behind those of the step: NAME, and NAME_whole where whole sequences decide something."""
    groups = range(len(step.groups))
    counted = [f"{word}{g}" for g in groups for word in ("used", "room")]
    used, rooms = (", ".join(f"{word}{g}" for g in groups) or "0" for word in ("used", "room"))
    growing = f"room{step.groups.index(None)}" if None in step.groups else "0"
    found = []
    if step.whole is not None:
        setup = "    step_t step = {B, NULL, NULL, NULL, length, 0};"
        arguments = ["constants", "wholes"]
        call = "PTR(const REAL *const, constants_), NULL, NULL, NULL, PTR(REAL *const, wholes_)"
        found += _door(f"{name}_whole", step.whole, arguments, [], [setup], call)
    setups = [
        f"    const int64_t used[] = {{{used}}}, rooms[] = {{{rooms}}}, room = {growing};",
        "    step_t step = {B, PTR(const int64_t, position_), used, rooms, length, 0};",
        "    (void)room;",
    ]
    arguments = ["constants", "old", "new", "rooms", "wholes", "position"]
    call = "PTR(const REAL *const, constants_), PTR(const REAL, old_), PTR(REAL, new_), PTR(REAL *const, rooms_), PTR(REAL *const, wholes_)"
    found += _door(name, step.step, arguments, counted, setups, call)
    return "\n".join([*found, ""])


def _door(name: str, root: Root, given: list[str], counted: list[str], setups: list[str], call: str) -> list[str]:
    inputs, outputs = range(len(root.inputs)), range(len(root.outputs))
    pointers = [*given, *(f"in{k}" for k in inputs), *(f"out{k}" for k in outputs), "scratch"]
    arguments = [
        *(f"int64_t {one}_" for one in pointers),
        *(f"int64_t {one}" for one in (*counted, "length", "B", "threads")),
    ]
    values = [f"PTR({one.type}, in{k}_)" for k, one in enumerate(root.inputs)]
    values += [f"PTR(REAL, out{k}_)" for k in outputs]
    shared, own = root.scratch
    return [
        f"/* 0, or 1 if a token is not one of its table. scratch: ROWS * ({shared} + threads * ({own})) numbers. */",
        f"int64_t {name}({', '.join(arguments)}) {{",
        *setups,
        f"    int64_t arrived = 0, most = {root.team};",
        "    REAL *scratch = PTR(REAL, scratch_);",
        "#pragma omp parallel num_threads((int)most) if (most > 1)",
        "    {",
        "        member_t member = {THREAD, THREADS, 0, &arrived};",
        f"        {root.name}(&step, &member, {call}, scratch, scratch + ROWS * ({shared} + member.rank * ({own})){''.join(f', {one}' for one in values)});",
        "    }",
        "    return step.fault;",
        "}",
    ]
