/* SPDX-License-Identifier: Apache-2.0 */
/* Draws the story that stands beside it. Text from the tree goes into text nodes alone: none of it is ever markup. */
"use strict";
const story = JSON.parse(document.getElementById("story").textContent);

const number = (n) => n.toLocaleString("en-US");
const bytes = (n) => {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (n >= 1000 && at < units.length - 1) { n /= 1000; at += 1; }
  return `${at ? n.toFixed(1) : n} ${units[at]}`;
};
const clock = (text) => text.slice(0, 23).replace("T", " ") + " UTC";
const moment = (ns) => new Date(ns / 1e6).toISOString().slice(11, 23);

/** An element; children are elements or text. */
function make(name, attributes, ...children) {
  const space = ["svg", "g", "rect", "circle", "text", "line", "title", "path"].includes(name);
  const element = space ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined) element.setAttribute(key, value);
  }
  for (const child of children.flat(Infinity)) if (child !== null && child !== undefined) element.append(child);
  return element;
}
const tag = (text, kind) => make("span", { class: `tag ${kind || ""}` }, text);
const code = (text) => make("code", {}, text);
const plural = (n, one, many) => `${number(n)} ${n === 1 ? one : many || one + "s"}`;

function section(id, title, ...children) {
  document.getElementById("main").append(make("section", { "aria-labelledby": id }, make("h2", { id }, title), ...children));
  document.querySelector("nav ul").append(make("li", {}, make("a", { href: `#${id}` }, title)));
}

function heading() {
  const r = story.recording;
  const worst = story.incidents.map((i) => i.severity);
  const order = ["critical", "high", "medium", "low"];
  const top = order.find((s) => worst.includes(s));
  const said = story.incidents.length
    ? `${plural(story.incidents.length, "incident")}, the gravest ${top}`
    : "Nothing was found";
  const actions = Object.entries(story.sums.actions).map(([what, n]) => `${number(n)} ${what}`).join(", ");
  document.getElementById("top").append(
    make("h1", {}, `${said}: ${r.host}`),
    make("div", { class: "dim" }, `${clock(r.began)} to ${clock(r.ended)} · ${r.kernel}`),
    r.command ? make("div", { class: "line" }, "Watched: ", code(r.command.join(" "))) : make("div", { class: "line" }, "Watched: tree ", code(r.tree)),
    make("p", {}, summary(actions)),
    make("div", { class: "tiles" },
      tile(number(story.sums.processes), "processes"), tile(number(story.sums.flows), "flows"),
      tile(number(story.sums.events), "events recorded"),
      tile(number(Object.values(story.sums.alerts).reduce((a, b) => a + b, 0)), "alerts"),
      tile(story.coverage.remarks.length ? "see below" : "complete", "coverage")));
  document.querySelector("nav").append(make("ul"));
}
const tile = (value, what) => make("div", { class: "tile" }, make("b", {}, value), make("span", { class: "dim" }, what));

function summary(actions) {
  if (!story.incidents.length) {
    return story.coverage.remarks.length
      ? "No rule fired. What was not watched, or is not known, is listed under Coverage."
      : "No rule fired, and every event that the kernel saw was looked at.";
  }
  const mode = story.recording.mode === "enforce" ? "The watch was told to act" : "The watch was told to observe only";
  const lines = story.incidents.slice(0, 3).map((i) => i.line).join("; ");
  return `What happened: ${lines}. ${mode}${actions ? `: ${actions}` : ""}.`;
}

function incidents() {
  const cards = story.incidents.map((i) => make("article", { class: `card ${i.severity}`, id: `incident-${i.number}` },
    make("h3", {}, tag(i.severity, i.severity), `${i.number}. ${i.line}`),
    make("div", { class: "dim" }, `${clock(i.began)}${i.ended !== i.began ? ` to ${clock(i.ended)}` : ""} · ${plural(i.alerts, "alert")}`),
    make("div", { class: "line" }, i.attack.map((a) => tag(`${a.id}${a.name ? ` ${a.name}` : ""}`)), i.owasp.map((t) => tag(`OWASP ${t}`)), i.nist.map((t) => tag(`NIST ${t}`))),
    i.parts.map(part),
    i.parts_left_out ? make("p", { class: "dim" }, `${plural(i.parts_left_out, "alert")} more, of other things, are counted here and told in the recording.`) : null));
  section("incidents", "Incidents", cards.length ? cards : make("p", { class: "dim" }, "None."));
}

function part(p) {
  const done = Object.entries(p.actions).map(([what, n]) => `${what === "none" ? "only told" : what}${n > 1 ? ` ×${number(n)}` : ""}`).join(", ");
  return make("div", { class: "part" },
    make("div", {}, tag(p.severity, p.severity), make("span", { class: "what" }, p.title), p.count > 1 ? ` ×${number(p.count)}` : null, " ", make("span", { class: "dim" }, p.rule)),
    make("div", { class: "line" }, code(p.argv.length ? p.argv.join(" ") : p.exe || "an unknown process")),
    make("dl", {},
      row("when", clock(p.time)), row("process", `pid ${p.pid}, uid ${p.uid}, ${p.exe || "?"}`),
      p.span ? row("tool call", spanText(p.span)) : null,
      row("started by", p.ancestry.slice(1).map((a) => `${a.exe || "?"} (${a.pid})`).join(" ← ") || "nobody that was watched"),
      p.container ? row("container", p.container) : null,
      p.cwd ? row("in", p.cwd) : null,
      row("what was done", done), p.action_error ? row("failed", p.action_error) : null),
    make("details", {}, make("summary", {}, "evidence"), make("dl", {}, Object.entries(p.evidence).map(([k, v]) => row(k, typeof v === "string" ? v : JSON.stringify(v))))));
}
const row = (name, value) => [make("dt", {}, name), make("dd", {}, value)];
function spanText(span) {
  if (typeof span !== "object") return String(span);
  const words = [span.tool, span.step !== null && span.step !== undefined ? `step ${span.step}` : null, span.episode ? `episode ${span.episode}` : null];
  return words.filter(Boolean).join(", ") || JSON.stringify(span);
}

/* The timeline: lanes of bars, marks for alerts, shades for what was lost. Wheel, drag, buttons and keys move it. */
function timeline() {
  const t = story.timeline;
  const names = Object.keys(t.lanes);
  const size = t.lanes[names[0]].length;
  const whole = [0, size];
  let view = [...whole];
  const svg = make("svg", { viewBox: "0 0 1000 250", preserveAspectRatio: "none", role: "img", "aria-label": "Events over time" });
  const said = make("span", { class: "dim", "aria-live": "polite" });
  const box = make("div", { class: "chart", tabindex: "0", "aria-label": "Timeline: arrow keys move, plus and minus zoom, 0 shows all" }, svg);
  const at = (ns) => ((ns - t.began_ns) / t.step_ns - view[0]) / (view[1] - view[0]) * 1000;

  function draw() {
    svg.replaceChildren();
    const span = view[1] - view[0];
    for (const loss of t.losses) svg.append(make("rect", { class: "lost", x: at(loss.at) - 2, y: 0, width: 4, height: 225 }, make("title", {}, `${number(loss.records)} events lost`)));
    for (const gap of t.gaps) svg.append(make("rect", { class: "lost", x: at(gap.from), y: 0, width: Math.max(at(gap.to) - at(gap.from), 2), height: 225 }, make("title", {}, `${number(gap.records)} events not written`)));
    names.forEach((name, lane) => {
      const counts = t.lanes[name];
      const base = 48 + lane * 48;
      const columns = Math.min(Math.ceil(span), 500);
      const found = [];
      for (let c = 0; c < columns; c += 1) {
        const from = Math.floor(view[0] + c * span / columns);
        const to = Math.max(Math.floor(view[0] + (c + 1) * span / columns), from + 1);
        let sum = 0;
        for (let i = Math.max(from, 0); i < Math.min(to, size); i += 1) sum += counts[i];
        found.push(sum);
      }
      const most = Math.max(...found, 1);
      found.forEach((sum, c) => {
        if (!sum) return;
        const height = Math.max(Math.log1p(sum) / Math.log1p(most) * 38, 2);
        svg.append(make("rect", { class: "bar", x: c * 1000 / columns, y: base - height, width: Math.max(1000 / columns - 0.5, 0.8), height }, make("title", {}, `${name}: ${number(sum)}`)));
      });
      svg.append(make("line", { class: "axis", x1: 0, x2: 1000, y1: base, y2: base }));
    });
    for (const mark of t.marks) {
      const x = at(mark.at);
      if (x < -5 || x > 1005) continue;
      svg.append(make("path", { class: `mark ${mark.severity}`, d: `M${x} 204 l5 12 l-10 0 z` }, make("title", {}, `${mark.rule} (${mark.severity}), pid ${mark.pid}, ${moment(mark.at)}`)));
    }
    const from = t.began_ns + view[0] * t.step_ns;
    const to = t.began_ns + view[1] * t.step_ns;
    said.textContent = `${moment(from)} to ${moment(to)} UTC`;
  }
  function show(from, to) {
    const span = Math.min(Math.max(to - from, 8), size);
    from = Math.min(Math.max(from, 0), size - span);
    view = [from, from + span];
    draw();
  }
  const zoom = (factor, middle) => {
    const span = view[1] - view[0];
    const centre = view[0] + span * (middle === undefined ? 0.5 : middle);
    const next = span * factor;
    show(centre - next * (middle === undefined ? 0.5 : middle), centre + next * (1 - (middle === undefined ? 0.5 : middle)));
  };
  const move = (share) => { const d = (view[1] - view[0]) * share; show(view[0] + d, view[1] + d); };
  const keys = { ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1.7), 0: () => show(...whole) };
  box.addEventListener("keydown", (event) => { if (keys[event.key]) { keys[event.key](); event.preventDefault(); } });
  box.addEventListener("wheel", (event) => {
    const place = svg.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, (event.clientX - place.left) / place.width);
    event.preventDefault();
  }, { passive: false });
  let held = null;
  box.addEventListener("pointerdown", (event) => { held = event.clientX; box.setPointerCapture(event.pointerId); });
  box.addEventListener("pointermove", (event) => {
    if (held === null) return;
    move((held - event.clientX) / svg.getBoundingClientRect().width);
    held = event.clientX;
  });
  box.addEventListener("pointerup", () => { held = null; });
  const button = (label, name, action) => make("button", { type: "button", "aria-label": name, onclick: action }, label);
  const left = t.marks_left_out ? make("span", { class: "dim" }, `${number(t.marks_left_out)} more alerts have no mark`) : null;
  section("timeline", "Timeline",
    make("div", { class: "tools" }, button("−", "Zoom out", () => zoom(1.7)), button("+", "Zoom in", () => zoom(0.6)), button("all", "Show all", () => show(...whole)), said, left),
    box,
    make("p", { class: "dim" }, `Lanes, from above: ${names.join(", ")} (logarithmic); triangles are alerts${t.losses.length || t.gaps.length ? "; shaded: events were lost" : ""}.`));
  draw();
}

function processes() {
  const rows = story.processes.rows;
  const children = rows.map(() => []);
  const roots = [];
  rows.forEach((p, n) => (p.parent === null ? roots : children[p.parent]).push(n));
  const holds = rows.map((p) => p.rules.length > 0);
  for (let n = rows.length - 1; n >= 0; n -= 1) if (holds[n] && rows[n].parent !== null) holds[rows[n].parent] = true;

  function label(p) {
    const ended = p.ended_ns === null ? "still there at the end" : p.status & 127 ? `signal ${p.status & 127}` : `status ${(p.status >> 8) & 255}`;
    return [`${p.pid} `, code(p.command || p.exe || "?"), " ", p.rules.map((r) => tag(r, "high")), make("span", { class: "dim" }, ` ${moment(p.began_ns)}${p.before ? ", there before the watch" : ""}, ${ended}`)];
  }
  function item(n) {
    const p = rows[n];
    const others = Object.entries(p.others).map(([exe, count]) => `${number(count)} × ${exe || "?"}`);
    if (p.others_more) others.push(`${number(p.others_more)} more`);
    const rest = others.length ? make("li", { class: "dim" }, `and ${others.join(", ")}`) : null;
    const flagged = p.rules.length ? "flagged" : null;
    if (!children[n].length && !rest) return make("li", { class: flagged }, make("div", { class: "leaf" }, label(p)));
    const list = make("ul");
    const details = make("details", {}, make("summary", {}, label(p)), list);
    const fill = () => { if (!list.childNodes.length) list.append(...children[n].map(item), ...(rest ? [rest] : [])); };
    details.addEventListener("toggle", fill);
    if (holds[n] || rows.length <= 60) { details.setAttribute("open", ""); fill(); }
    return make("li", { class: flagged }, details);
  }
  const left = story.processes.left_out ? make("p", { class: "dim" }, `${plural(story.processes.left_out, "process", "processes")} more ${story.processes.left_out === 1 ? "is" : "are"} counted, not shown.`) : null;
  section("processes", "Processes", make("div", { class: "tree" }, make("ul", {}, roots.map(item))), left);
}

function flows() {
  const all = story.flows.rows;
  const columns = [["program", "exe"], ["", "direction"], ["other end", "remote"], ["port", "port", true], ["flows", "count", true], ["failed", "failed", true], ["sent", "sent", true], ["received", "received", true], ["first", "first_ns", true]];
  let key = "sent", down = true, wanted = "";
  const body = make("tbody");
  const said = make("span", { class: "dim", "aria-live": "polite" });
  function fill() {
    const found = all.filter((f) => !wanted || `${f.exe} ${f.name} ${f.remote} ${f.port}`.toLowerCase().includes(wanted));
    found.sort((a, b) => (a[key] < b[key] ? -1 : a[key] > b[key] ? 1 : 0) * (down ? -1 : 1));
    body.replaceChildren(...found.slice(0, 300).map((f) => make("tr", {},
      make("td", {}, code(f.exe || "?")), make("td", { class: "dim" }, f.direction),
      make("td", {}, f.name ? `${f.name} ` : null, make("span", { class: f.name ? "dim" : null }, f.remote)),
      make("td", { class: "number" }, `${f.port}/${f.transport}`), make("td", { class: "number" }, number(f.count)),
      make("td", { class: "number" }, f.failed ? number(f.failed) : ""), make("td", { class: "number" }, bytes(f.sent)),
      make("td", { class: "number" }, bytes(f.received)), make("td", { class: "number" }, moment(f.first_ns)))));
    said.textContent = `${number(Math.min(found.length, 300))} of ${number(all.length)} rows${story.flows.left_out ? `, ${number(story.flows.left_out)} flows left out` : ""}`;
  }
  const heads = columns.map(([name, field, right]) => make("th", { class: right ? "number" : null, scope: "col" },
    make("button", { type: "button", onclick: () => { down = key === field ? !down : true; key = field; fill(); } }, name || "way")));
  const search = make("input", { type: "search", placeholder: "program, name, address, port", "aria-label": "Filter flows", oninput: (e) => { wanted = e.target.value.toLowerCase(); fill(); } });
  if (!all.length) { section("flows", "Flows", make("p", { class: "dim" }, "None.")); return; }
  section("flows", "Flows", make("div", { class: "tools" }, search, said), make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, heads)), body)));
  fill();
}

function coverage() {
  const c = story.coverage;
  const shown = (n) => (n === null ? "?" : number(n));
  const rows = c.rows.map((r) => make("tr", {}, make("td", {}, r.kind), ...[r.seen, r.delivered, r.lost, r.recorded].map((n) => make("td", { class: "number" }, shown(n)))));
  const told = (from, to, n, what) => `between ${moment(from)} and ${moment(to)} UTC ${plural(n, "event was", "events were")} ${what}`;
  const losses = c.losses.slice(0, 50).map((l) => told(l.from_ns, l.at_ns, l.records, "lost"));
  losses.push(...c.gaps.slice(0, 50).map((g) => told(g.first_ns, g.last_ns, g.records, "not written")));
  section("coverage", "Coverage",
    make("p", {}, c.remarks.length ? tag("incomplete", "medium") : tag("complete", "good"),
      c.signed ? "signed: vigiles verify --sign-key tells whether it was changed" : "not signed"),
    c.remarks.length ? make("ul", {}, c.remarks.map((line) => make("li", {}, line))) : make("p", {}, "Every event that the kernel saw was delivered and recorded, every hook was there, and nothing ran before the watch."),
    losses.length ? make("ul", {}, losses.map((line) => make("li", {}, line))) : null,
    make("div", { class: "scroll" }, make("table", {}, make("thead", {}, make("tr", {}, ["event", "seen in the kernel", "delivered", "lost", "recorded"].map((h, n) => make("th", { class: n ? "number" : null, scope: "col" }, h)))), make("tbody", {}, rows))),
    make("p", { class: "dim" }, `GPU driver: ${c.gpu_driver || "none"}.`));
}

heading(); incidents(); timeline(); processes(); flows(); coverage();
document.body.append(make("footer", {}, `vigiles ${story.vigiles} from ${story.recording.files.join(", ")}, recorded by vigiles ${story.recording.recorded_by}`));
