"""The shape of a spec file. What the strings in it mean is the business of ssir.spec.expr and ssir.spec.elaborate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Names = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\s*,\s*[A-Za-z_][A-Za-z0-9_]*)*$")]
Expression = str | int | float | bool
Axes = list[Name] | Name
REST = "..."
"""Among the axes of an input: and whatever others it is given."""
NameOrRest = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$|^\.\.\.$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Discretize(Strict):
    """Reads A and B as continuous-time, and samples them with step ``dt``."""

    method: Name = Field(
        description="zoh (zero-order hold), bilinear (Tustin), euler (forward), or a component {A, B, dt} -> {A, B}"
    )
    dt: Expression = Field(description="the step, over any axes of the state")


class State(Strict):
    """A state-space system: h[t] = A h[t-1] + B x[t], y[t] = C h[t] + D x[t]."""

    state: Axes = Field(description="the axes of h")
    A: Expression | None = Field(None, description="the transition operator (default 1: a perfect integrator)")
    B: Expression | None = Field(None, description="how the input enters (default 1)")
    input: Expression | None = Field(None, description="x (default 1: B alone drives the state)")
    C: Expression | None = Field(None, description="the readout (default: h itself)")
    D: Expression | None = Field(None, description="the feed-through, times x (default 0)")
    read: Literal["after", "before"] = Field("after", description="whether y reads h[t] or h[t-1]")
    initial: Expression | None = Field(None, description="h[-1] (default 0)")
    dtype: Literal["float32", "data"] | None = Field(
        None, description="how h is kept from call to call: in float32 at least, or as the data of the model"
    )
    algebra: Literal["plus_times", "max_plus"] = "plus_times"
    discretize: Discretize | None = None


class Stack(Strict):
    """A pattern of components applied in turn, each with states of its own, and with parameters of its own unless they share them."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    stack: list[str] = Field(min_length=1, description="components, cycled; dims by keyword: attention(window=64)")
    times: Expression = Field(1, description="the number of layers")
    input: Expression = Field(description="the value that runs through the stack")
    with_: dict[Name, Expression] = Field({}, alias="with", description="inputs that every layer is given")
    carry: dict[Name, Expression] = Field(
        {}, description="inputs that a layer's output of that name replaces for the next"
    )
    share: bool = Field(False, description="whether layers of one kind have the same parameters")


class Tokens(Strict):
    """Tokens along axes."""

    token: list[NameOrRest] | Name = Field(description="the axes that they lie along")


class Component(Strict):
    input: dict[Name, list[NameOrRest] | Name | Tokens] = Field(
        description="inputs by name: a list of axes, `token`, or {token: axes}; `...` among the axes stands for any "
        "further ones; with an unbounded axis, a whole sequence"
    )
    graph: dict[Names, Expression | State | Stack]
    output: Name | list[Name] | dict[Name, Name] = Field(description="a node, several, or labels for nodes")

    def axes(self, name: str) -> list[str]:
        """The axes that an input is declared with."""
        declared = self.input[name]
        axes = declared.token if isinstance(declared, Tokens) else [] if declared == "token" else declared
        return [axes] if isinstance(axes, str) else axes

    def is_token(self, name: str) -> bool:
        """Whether an input is made of tokens."""
        return self.input[name] == "token" or isinstance(self.input[name], Tokens)


class File(Strict):
    """A spec: one architecture."""

    ssir: Literal[1] = Field(description="the version of the format")
    name: Name
    title: str | None = None
    paper: str | None = None
    idea: str | None = Field(None, description="what this architecture adds, in a line")
    tags: list[str] = []
    glossary: dict[str, str] = Field({}, description="the paper's symbols and what they are called here")
    dims: dict[Name, int | str] = Field({}, description="named sizes, or arithmetic over earlier ones")
    constants: dict[Name, float | int | str] = Field({}, description="named real numbers")
    sizes: dict[str, dict[Name, int | float | str]] = Field({}, description="named sets of dims")
    imports: dict[Name, str] = Field({}, description="components of other specs: NAME.component")
    components: dict[Name, Component] = Field(min_length=1)
    main: Name
