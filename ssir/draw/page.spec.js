"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const byId = id => document.getElementById(id);
const STILL = 5;        // pixels that a pointer may move in a click
const LARGEST = 1.8;    // pixels that a point of a picture has on the screen at first
const PAUSE = 400;      // milliseconds after unfolding in which a second click is part of the first

/* An element with properties and children; text is always text. */
function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const number = value => value >= 1e15 ? value.toExponential(2) : Math.round(value).toLocaleString("en").replaceAll(",", "\u202f");
const percent = share => share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`;

/* One spec: its views, and where each node is shown in most detail. */
class Spec {
  constructor(record, index) {
    Object.assign(this, record);
    this.index = index;
    this.byKey = new Map(this.views.map((view, n) => [view.key, { ...view, n }]));
    this.shown = new Map();
    const rank = { model: 0, block: 1, mixer: 2, state: -1 };
    for (const view of this.byKey.values()) {
      for (const [key, shape] of Object.entries(view.shapes)) {
        const inside = new Set(shape.node === null ? shape.stands : [...shape.stands, shape.node]);
        for (const node of inside) {
          const detail = 100 * rank[view.level] + 50 * (shape.node === node) - (shape.opens !== null && shape.node === null ? 30 : 0) - Math.min(inside.size, 20);
          if (!this.shown.has(node) || this.shown.get(node).detail < detail) this.shown.set(node, { view: view.key, key, detail });
        }
      }
    }
  }

  path(view) {
    const way = [];
    for (let at = view; at !== undefined; at = this.byKey.get(at.parent)) way.unshift(at);
    return way;
  }

  /* What a node is called in a view: its path from there on. */
  short(node, view) {
    const { name } = this.nodes[node], inside = view.key.split("#")[0].split("/").pop();
    return inside && name.startsWith(`${inside}.`) ? name.slice(inside.length + 1) : name;
  }

  /* Where a component is written: at what it gives. */
  given(nodes) {
    const inside = new Set(nodes), all = nodes.filter(name => this.nodes[name]?.at);
    return all.find(name => this.nodes[name].op === "stack") ?? all.find(name => this.nodes[name].users.some(user => !inside.has(user))) ?? all[0];
  }

  sum(nodes, what) { return nodes.reduce((total, name) => total + (this.nodes[name]?.[what] ?? 0), 0); }

  state(shape) {
    if (!shape) return null;
    if (shape.node !== null && this.nodes[shape.node]?.state) return shape.node;
    return null;
  }
}
