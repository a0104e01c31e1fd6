const panes = [];
let active = null;
const linked = () => panes.length > 1 && byId("link").getAttribute("aria-pressed") === "true";

/* Search: nodes by name, operation or axis; those that begin with the words first. */

let found = [], chosen = 0;

function search(words) {
  const wanted = words.trim().toLowerCase();
  found = [];
  if (wanted) {
    for (const pane of panes) {
      for (const [name, node] of Object.entries(pane.spec.nodes)) {
        if (!pane.spec.shown.has(name)) continue;
        const own = node.name.toLowerCase(), op = node.op.toLowerCase();
        const leaf = own.slice(Math.max(own.lastIndexOf("."), own.lastIndexOf("/")) + 1);
        const place = leaf === wanted ? 0 : leaf.startsWith(wanted) ? 1 : op === wanted ? 2 : node.axes.some(axis => axis.toLowerCase() === wanted) ? 3
          : own.includes(wanted) || op.includes(wanted) ? 4 : -1;
        if (place >= 0) found.push({ pane, name, node, place: place + (node.op === "state" ? 0 : 0.5) });
      }
    }
    found.sort((a, b) => a.place - b.place);
    found = found.slice(0, 60);
  }
  chosen = 0;
  list(Boolean(wanted));
}

function list(open) {
  const box = byId("found");
  box.replaceChildren(...found.map((one, i) => el("li", {
    role: "option", id: `found-${i}`, "aria-selected": String(i === chosen), onpointerdown: event => { event.preventDefault(); take(i); },
  }, one.node.name, el("small", {}, `${panes.length > 1 ? `${one.pane.spec.name} · ` : ""}${one.node.op} [${one.node.axes.join("×")}]`))));
  if (open && !found.length) box.replaceChildren(el("li", { role: "option", "aria-selected": "false" }, "nothing is called so"));
  box.hidden = !open;
  byId("query").setAttribute("aria-expanded", String(open));
  byId("query").setAttribute("aria-activedescendant", open && found.length ? `found-${chosen}` : "");
  box.children[chosen]?.scrollIntoView({ block: "nearest" });
}

function take(i) {
  const one = found[i];
  list(false);
  if (one) one.pane.jump(one.name);
}

byId("query").addEventListener("input", event => search(event.target.value));
byId("query").addEventListener("focus", event => { if (event.target.value) search(event.target.value); });
byId("query").addEventListener("blur", () => list(false));
byId("query").addEventListener("keydown", event => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && found.length) { chosen = (chosen + step + found.length) % found.length; list(true); }
  else if (event.key === "Enter") take(chosen);
  else if (event.key === "Escape") { list(false); active.canvas.focus(); }
  else return;
  event.preventDefault();
});

byId("help").addEventListener("click", () => {
  const open = byId("keys").hidden;
  byId("keys").hidden = !open;
  byId("help").setAttribute("aria-expanded", String(open));
});
byId("link").addEventListener("click", () => byId("link").setAttribute("aria-pressed", String(!linked())));
byId("turn").addEventListener("click", () => {
  const beside = byId("panes").classList.toggle("beside");
  byId("turn").setAttribute("aria-pressed", String(beside));
});
document.addEventListener("keydown", event => {
  if (event.target === byId("query") || event.defaultPrevented) return;
  if (event.key === "/") { event.preventDefault(); byId("query").focus(); byId("query").select(); return; }
  if (event.key === "Escape" && !byId("keys").hidden) { byId("help").click(); return; }
  if (event.target.closest("button, .text") && event.key !== "Escape") return;
  active.key(event, null);
});

for (const [i, record] of DATA.entries()) panes.push(new Pane(new Spec(record, i)));
byId("panes").append(...panes.map(pane => pane.root));
byId("link").hidden = byId("turn").hidden = panes.length < 2;
for (const pane of [...panes].reverse()) pane.show(pane.spec.start);
