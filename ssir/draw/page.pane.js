/* A place for the pictures of one spec. */
class Pane {
  constructor(spec) {
    this.spec = spec;
    this.crumbs = el("ol");
    this.up = el("button", { type: "button", "aria-label": "up", title: "up (Esc)", onclick: () => this.leave() }, "↑");
    const zoom = (label, words, act) => el("button", { type: "button", "aria-label": words, title: words, onclick: act }, label);
    this.canvas = el("div", { class: "canvas", tabindex: "0", role: "group", "aria-label": `picture of ${spec.name}` });
    this.root = el("section", { class: "pane", "aria-label": spec.name },
      el("div", { class: "bar" }, this.up, el("nav", { "aria-label": "levels" }, this.crumbs),
        zoom("−", "zoom out", () => this.zoomed(1.25)), zoom("+", "zoom in", () => this.zoomed(0.8)), zoom("fit", "whole picture", () => this.fitted())),
      this.canvas);
    this.listen();
  }

  /* What is seen. */

  show(key) {
    this.view = this.spec.byKey.get(key);
    this.canvas.replaceChildren(byId(`view-${this.spec.index}-${this.view.n}`).content.cloneNode(true));
    this.svg = this.canvas.querySelector("svg");
    this.entered = performance.now();
    this.hovered = this.picked = null;
    this.crumbs.replaceChildren(...this.spec.path(this.view).map((one, i, all) => el("li", {}, el("button", {
      type: "button", "aria-current": i === all.length - 1 ? "page" : null, onclick: () => { this.go(one.key); this.canvas.focus(); },
    }, i === 0 ? this.spec.name : one.title.split(" · ").pop()))));
    this.up.disabled = this.view.parent === null;
    if (this.svg) {
      const { x, y, width, height } = this.svg.viewBox.baseVal, least = this.canvas.clientWidth / LARGEST;
      this.home = width < least ? [x - (least - width) / 2, y, least, height] : [x, y, width, height];
      this.set(...this.home);
      this.svg.removeAttribute("width");
      this.svg.removeAttribute("height");
      this.svg.setAttribute("role", "group");
      for (const group of this.svg.querySelectorAll("[data-key]")) this.prepare(group);
    }
    this.pick(null);
  }

  prepare(group) {
    const shape = this.view.shapes[group.dataset.key];
    if (!shape) return;
    const words = [...group.querySelectorAll("text")].map(text => text.textContent.trim()).filter(Boolean).join(" ");
    group.setAttribute("tabindex", "0");
    group.setAttribute("role", "button");
    group.setAttribute("aria-label", shape.opens === null ? words : `${words}, can be unfolded`);
    group.classList.toggle("opens", shape.opens !== null);
    const size = group.getBBox(), halo = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ x: size.x - 3, y: size.y - 3, width: size.width + 6, height: size.height + 6, rx: 5, class: "halo" })) halo.setAttribute(key, value);
    group.append(halo);
    if (shape.opens === null) return;
    const mark = document.createElementNS("http://www.w3.org/2000/svg", "text");
    for (const [key, value] of Object.entries({ x: size.x + size.width - 8, y: size.y + 11, class: "unfolds", "aria-hidden": "true" })) mark.setAttribute(key, value);
    mark.textContent = "⊞";
    group.append(mark);
  }

  groups(key) { return this.svg ? [...this.svg.querySelectorAll("[data-key]")].filter(group => group.dataset.key === key) : []; }

  /* What the reader does. */

  go(key, picked = null) {
    this.show(key);
    if (linked()) for (const other of panes) if (other !== this) other.follow(this);
    this.pick(picked);
  }

  enter(key) {
    const shape = this.view.shapes[key];
    if (!shape?.opens) return false;
    this.go(shape.opens);
    this.tell(shape);
    this.canvas.focus({ preventScroll: true });
    return true;
  }

  leave() {
    if (this.view.parent === null) return;
    const from = this.view.key;
    this.go(this.view.parent);
    const back = Object.entries(this.view.shapes).find(([, shape]) => shape.opens === from);
    this.pick(back ? back[0] : null);
    if (back) this.groups(back[0])[0]?.focus({ preventScroll: true });
  }

  /* The same level as in another pane: of several pictures, the one in the same order, and of memories one of like structure. */
  follow(other) {
    if (this.view.level === other.view.level && other.view.level !== "state") return;
    const these = this.spec.views.filter(view => view.level === other.view.level);
    if (!these.length) return;
    const kind = pane => view => pane.spec.nodes[view.shapes.h?.node]?.state?.kind;
    const rank = other.spec.views.filter(view => view.level === other.view.level).findIndex(view => view.key === other.view.key);
    const remembers = these.filter(view => these.length > 1 && this.spec.views.some(one => one.parent === view.key && one.level === "state"));
    const like = other.view.level === "state" && these.find(view => kind(this)(view) === kind(other)(other.view));
    const level = remembers.length ? remembers : these;
    this.show((like || level[Math.min(rank, level.length - 1)]).key);
  }

  pick(key) {
    this.picked = key;
    for (const pane of panes) pane.svg?.querySelectorAll(".like, .picked").forEach(group => group.classList.remove("like", ...(pane === this ? ["picked"] : [])));
    for (const group of this.groups(key)) group.classList.add("picked");
    active = this;
    const shape = this.view.shapes[key] ?? null;
    this.tell(shape);
    const state = this.spec.state(shape);
    if (state !== null) for (const other of panes) if (other !== this) other.liken(this.spec.nodes[state].state.kind);
  }

  liken(kind) {
    for (const [key, shape] of Object.entries(this.view.shapes)) {
      if (key.startsWith("out ")) continue;
      const inside = shape.node !== null && this.spec.nodes[shape.node]?.state ? [shape.node] : shape.opens === null ? [] : shape.stands;
      if (inside.some(name => this.spec.nodes[name]?.state?.kind === kind)) for (const group of this.groups(key)) group.classList.add("like");
    }
  }

  hover(key) {
    if (this.hovered === key || !this.svg) return;
    this.hovered = key;
    this.svg.querySelectorAll(".operand, .user, .coming, .going").forEach(one => one.classList.remove("operand", "user", "coming", "going"));
    if (key === null) return;
    for (const edge of this.svg.querySelectorAll("[data-tail]")) {
      const { tail, head } = edge.dataset;
      if (head === key) { edge.classList.add("coming"); this.groups(tail).forEach(group => group.classList.add("operand")); }
      if (tail === key) { edge.classList.add("going"); this.groups(head).forEach(group => group.classList.add("user")); }
    }
  }

  jump(node) {
    const place = this.spec.shown.get(node);
    if (!place) return false;
    this.go(place.view, place.key);
    const [group] = this.groups(place.key);
    if (group) { this.centre(group); group.focus({ preventScroll: true }); }
    this.tell({ ...this.view.shapes[place.key], node });
    return true;
  }

  /* Moving and zooming: the view box moves, not the page, so that the picture stays sharp. */

  set(x, y, w, h) {
    if (!this.svg) return;
    Object.assign(this.svg.viewBox.baseVal, { x, y, width: w, height: h });
  }

  box() { const { x, y, width, height } = this.svg.viewBox.baseVal; return [x, y, width, height]; }

  /* In parts of the whole picture, so that pictures of different sizes move together. */
  moved() {
    if (!linked()) return;
    const [x, y, w, h] = this.box(), [hx, hy, hw, hh] = this.home;
    for (const other of panes) {
      if (other === this || !other.svg) continue;
      const [ox, oy, ow, oh] = other.home;
      other.set(ox + ow * (x - hx) / hw, oy + oh * (y - hy) / hh, ow * w / hw, oh * h / hh);
    }
  }

  zoomed(factor, about = null) {
    if (!this.svg) return;
    const [x, y, w, h] = this.box(), scale = w * factor / this.home[2];
    if (scale > 6 || scale < 0.01) return;
    const [ax, ay] = about ?? [x + w / 2, y + h / 2];
    this.set(ax - (ax - x) * factor, ay - (ay - y) * factor, w * factor, h * factor);
    this.moved();
  }

  shifted(dx, dy) {
    if (!this.svg) return;
    const [x, y, w, h] = this.box();
    this.set(x + dx * w, y + dy * h, w, h);
    this.moved();
  }

  fitted() { if (this.svg) { this.set(...this.home); this.moved(); } }

  centre(group) {
    const [, , w, h] = this.box(), size = group.getBBox(), matrix = this.svg.getScreenCTM().inverse().multiply(group.getScreenCTM());
    const middle = new DOMPoint(size.x + size.width / 2, size.y + size.height / 2).matrixTransform(matrix);
    if (w < this.home[2] * 0.99) this.set(middle.x - w / 2, middle.y - h / 2, w, h);
  }

  at(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    return [point.x, point.y];
  }

  listen() {
    let held = null, start = null, far = false;
    const keyOf = event => event.target.closest?.("[data-key]")?.dataset.key ?? null;
    this.canvas.addEventListener("wheel", event => {
      if (!this.svg) return;
      event.preventDefault();
      this.zoomed(Math.exp(event.deltaY * 0.0015), this.at(event));
    }, { passive: false });
    this.canvas.addEventListener("pointerdown", event => {
      if (!this.svg || event.button !== 0) return;
      active = this;
      held = this.at(event);
      start = [event.clientX, event.clientY];
      far = false;
    });
    this.canvas.addEventListener("pointermove", event => {
      if (!held) { this.hover(keyOf(event)); return; }
      if (Math.hypot(event.clientX - start[0], event.clientY - start[1]) > STILL && !far) {
        far = true;
        this.canvas.setPointerCapture(event.pointerId);
        this.canvas.classList.add("held");
      }
      if (!far) return;
      const [x, y] = this.at(event), [bx, by, w, h] = this.box();
      this.set(bx + held[0] - x, by + held[1] - y, w, h);
      this.moved();
    });
    const release = () => { held = null; this.canvas.classList.remove("held"); };
    this.canvas.addEventListener("pointerup", release);
    this.canvas.addEventListener("pointercancel", release);
    this.canvas.addEventListener("pointerleave", () => this.hover(null));
    this.canvas.addEventListener("click", event => {
      if (far || performance.now() - this.entered < PAUSE) return;
      const key = keyOf(event), shape = this.view.shapes[key];
      if (shape?.opens && shape.node === null) this.enter(key);
      else this.pick(key);
    });
    this.canvas.addEventListener("dblclick", event => {
      if (performance.now() - this.entered < PAUSE) return;
      this.enter(keyOf(event));
    });
    this.canvas.addEventListener("focusin", event => { active = this; this.hover(keyOf(event)); });
    this.canvas.addEventListener("keydown", event => this.key(event, keyOf(event)));
  }

  key(event, focused) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 0.08;
    const acts = {
      ArrowLeft: () => this.shifted(-step, 0), ArrowRight: () => this.shifted(step, 0),
      ArrowUp: () => this.shifted(0, -step), ArrowDown: () => this.shifted(0, step),
      "+": () => this.zoomed(0.8), "=": () => this.zoomed(0.8), "-": () => this.zoomed(1.25), "0": () => this.fitted(),
      Escape: () => this.leave(),
      Enter: () => { const key = focused ?? this.picked; if (!this.enter(key)) this.pick(key); },
      " ": () => this.pick(focused),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  }

  /* The facts of what was picked; of the whole spec where nothing is. */
  tell(shape) {
    const { spec } = this;
    const nodes = shape === null ? Object.keys(spec.nodes) : [...new Set([...shape.stands, ...(shape.node === null ? [] : [shape.node])])];
    const main = shape === null ? null : shape.node ?? null, node = main === null ? null : spec.nodes[main];
    const called = name => spec.short(name, this.view), linked = names => names.map(name => [name, called(name)]);
    const name = main !== null ? called(main) : shape?.opens ? spec.byKey.get(shape.opens).title : spec.title || spec.name;
    const parts = [el("h2", {}, name)];
    if (shape === null && spec.title) parts.push(el("p", {}, spec.name));
    if (shape?.opens && shape.opens !== this.view.key) parts.push(el("p", {}, el("button", { type: "button", onclick: () => { this.go(shape.opens); this.canvas.focus(); } }, "unfold")));
    const at = shape === null ? null : node ? node.at : spec.nodes[spec.given(nodes)]?.at;
    if (at) parts.push(...this.text(at));
    if (node) {
      const rows = [["operation", node.op], ["axes", node.type], ["depends on", node.dependence]];
      if (node.state) rows.push(...this.remembers(node.state));
      parts.push(el("h3", {}, node.state ? "memory" : "value"), this.table(rows));
    }
    parts.push(el("h3", {}, shape === null ? "the whole model" : "share of the whole"), this.costs(shape === null ? null : nodes));
    if (node?.state) {
      const roles = Object.entries(node.state.roles).filter(([role]) => role !== "logA");
      parts.push(el("h3", {}, "coefficients"), this.links("operands", roles.map(([role, of]) => [of, `${role === "x" ? "input" : role}: ${called(of)}`])));
    }
    const inside = new Set(nodes), reach = side => [...new Set(nodes.flatMap(one => spec.nodes[one]?.[side] ?? []))].filter(one => !inside.has(one));
    const from = node ? node.operands : reach("operands"), to = node ? node.users : reach("users");
    if (shape !== null && from.length && !node?.state) parts.push(el("h3", {}, "made of"), this.links("operands", linked(from)));
    if (shape !== null && to.length) parts.push(el("h3", {}, "what depends on it"), this.links("users", linked(to)));
    if (node?.state) parts.push(...this.alike(node.state.kind));
    byId("facts").replaceChildren(...parts);
    byId("facts").scrollTop = 0;
    const line = byId("facts").querySelector(".at");
    if (line) line.parentElement.scrollTop = line.offsetTop - line.parentElement.clientHeight / 2;
  }

  remembers(state) {
    const depends = Object.entries(state.depends).map(([role, on]) => `${role}: ${on}`).join(", ");
    return [["structure of A", state.structure], ["coefficients", depends], ["remembers", state.size],
      ["form", `${state.form}: ${state.why}`]];
  }

  table(rows) {
    return el("table", {}, ...rows.map(([key, value]) => el("tr", {}, el("th", { scope: "row" }, key), el("td", {}, value))));
  }

  costs(nodes) {
    const { spec } = this;
    const rows = [["parameters", "parameters"], ["FLOPs a token", "flops"], ["bytes of state", "bytes"], ["bytes a token", "growth"]]
      .filter(([, what]) => what !== "growth" || spec.total.growth).map(([words, what]) => {
      const total = spec.total[what], own = nodes === null ? total : spec.sum(nodes, what), share = total ? own / total : 0;
      const bar = el("span", {});
      bar.style.width = `${100 * Math.min(share, 1)}%`;
      const said = nodes === null ? [] : [el("td", { class: "number" }, el("span", { class: "bartrack", "aria-hidden": "true" }, bar), el("span", { class: "share" }, percent(share)))];
      return el("tr", {}, el("th", { scope: "row" }, words), el("td", { class: "number" }, number(own)), ...said);
    });
    return el("table", {}, ...rows);
  }

  links(kind, nodes) {
    return el("div", { class: `links ${kind}` }, ...nodes.map(([node, words]) => el("button", {
      type: "button", title: node, disabled: !this.spec.shown.has(node), onclick: () => this.jump(node),
    }, words)));
  }

  alike(kind) {
    const found = panes.filter(pane => pane !== this).flatMap(pane => Object.entries(pane.spec.nodes)
      .filter(([, one]) => one.state?.kind === kind)
      .map(([name]) => el("button", { type: "button", title: name, onclick: () => pane.jump(name) }, `${pane.spec.name}: ${pane.spec.nodes[name].name}`)));
    return found.length ? [el("h3", {}, "of like structure"), el("div", { class: "links" }, ...found)] : [];
  }

  text([source, line, column, end]) {
    const { name, text } = this.spec.sources[source];
    const lines = text.replace(/\r\n?/g, "\n").replace(/\n$/, "").split("\n").map((said, i) => {
      if (i !== line - 1) return el("div", {}, said || " ");
      return el("div", { class: "at" }, said.slice(0, column - 1), el("mark", {}, said.slice(column - 1, end - 1)), said.slice(end - 1));
    });
    return [el("h3", {}, `${name}:${line}`), el("div", { class: "text", tabindex: "0", role: "region", "aria-label": `text of ${name}` }, ...lines)];
  }
}
