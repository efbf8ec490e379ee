"use strict";
// Every text of the document reaches the page as a text node or an attribute's value, never as markup.
const doc = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const SVG = ["svg", "g", "path", "line", "circle", "rect", "text", "title", "polygon"];
const COLOURS = 8, PAGE = 50;
const state = { table: 0, split: "test", sort: null, taskSort: null, hidden: new Set(), picked: new Set(), lists: [], list: null, page: 0 };
let table;

function h(tag, attributes, ...children) {
  const node = SVG.includes(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  fill(node, ...children);
  return node;
}
const fill = (node, ...children) => node.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
const options = (select, names, chosen) => fill(select, names.map(([value, name]) => h("option", { value, selected: value === chosen }, name)));
const value = (cell) => (Array.isArray(cell) ? cell[0] : cell);
const signed = (shown) => (shown.startsWith("-") ? "\u2212" + shown.slice(1) : "+" + shown);
const FORMS = {
  utility: (x) => x.toFixed(3), difference: (x) => signed(x.toFixed(3)), percent: (x) => (100 * x).toFixed(1) + "%",
  points: (x) => signed((100 * x).toFixed(1)), usd: (x) => String(Number(x.toPrecision(4))), number: (x) => x.toFixed(2),
  p: (x) => (x < 0.001 ? "<.001" : x.toFixed(3)), count: (x) => String(Math.round(10 * x) / 10),
};
function written(column, cell) {
  if (cell === null || cell === undefined) return "";
  if (column.form === "range") return cell[1] === cell[2] ? String(cell[1]) : `${cell[1]}\u2013${cell[2]}`;
  if (typeof cell === "string") return cell;
  const form = FORMS[column.form] || String;
  return Array.isArray(cell) ? `${form(cell[0])} [${form(cell[1])}, ${form(cell[2])}]` : form(cell);
}
// Unknown cells come last, whichever way the others go.
function sorted(items, sort, at) {
  if (!sort) return items;
  return [...items].sort((one, two) => {
    const [a, b] = [at(one), at(two)];
    if (a === null || a === undefined || b === null || b === undefined) return (a === null || a === undefined) - (b === null || b === undefined);
    return (typeof a === "string" ? a.localeCompare(b) : a - b) * (sort.down ? -1 : 1);
  });
}
function header(key, name, name_of_sort, redraw, down, look) {
  const sort = state[name_of_sort], on = sort && sort.key === key;
  const next = () => { state[name_of_sort] = on && sort.down !== down ? null : { key, down: on ? !down : down }; redraw(); };
  const cell = h("th", { scope: "col", class: look, "aria-sort": on ? (sort.down ? "descending" : "ascending") : "none" }, h("button", { onclick: () => { next(); document.querySelector(`[data-key="${name_of_sort}${key}"] button`).focus(); } }, name));
  cell.dataset.key = name_of_sort + key;
  return cell;
}

// The routers
const visible = () => table.rows.filter((row) => !state.hidden.has(row.family) && row.label.toLowerCase().includes($("text").value.toLowerCase()));
function bar(column, index) {
  const cells = table.rows.filter((row) => !row.reference).map((row) => row.figures[state.split][index]).filter(Array.isArray);
  const low = Math.min(...cells.map((cell) => cell[1])), high = Math.max(...cells.map((cell) => cell[2]));
  const base = column.form === "utility" ? value((table.rows.find((row) => row.baseline) || table.rows[0]).figures[state.split][index]) : 0;
  const x = (v) => 2 + 92 * Math.min(1, Math.max(0, (v - low) / (high - low || 1)));
  return (cell) => h("svg", { class: "bar", width: 96, height: 12, "aria-hidden": "true" },
    h("line", { class: "zero", x1: x(base), x2: x(base), y1: 0, y2: 12 }),
    h("line", { class: "line", x1: x(cell[1]), x2: x(cell[2]), y1: 6, y2: 6 }),
    cell[0] > high ? h("path", { d: "M88 2L95 6L88 10Z", fill: "currentColor" }) : cell[0] < low ? h("path", { d: "M8 2L1 6L8 10Z", fill: "currentColor" }) : h("circle", { cx: x(cell[0]), cy: 6, r: 3, fill: "currentColor" }));
}
function drawRows() {
  const columns = table.columns.map((column, index) => ({ ...column, index })).filter((column) => !column.minor || $("minor").checked);
  for (const column of columns) column.bar = column.form !== "range" && table.rows.some((row) => Array.isArray(row.figures[state.split][column.index])) ? bar(column, column.index) : null;
  $("tied").hidden = !table.rows.some((row) => row.tied[state.split]);
  const { key } = state.sort || {};
  const rows = sorted(visible(), state.sort, (row) => (key === "label" ? row.label : key === "family" ? row.family : value(row.figures[state.split][key])));
  fill($("rows"), h("thead", {}, h("tr", {}, header("label", "router", "sort", drawRows, false), header("family", "family", "sort", drawRows, false, "text family"),
    columns.map((column) => header(column.index, column.label, "sort", drawRows, column.form !== "text" && column.form !== "p" && column.form !== "range" && column.form !== "usd", column.form === "text" ? "text" : null)))),
  h("tbody", {}, rows.map((row) => h("tr", { class: (row.reference ? "reference " : "") + (row.baseline ? "baseline " : "") + (row.tied[state.split] ? "tied" : "") },
    h("th", { scope: "row", title: row.label }, h("input", { type: "checkbox", "aria-label": `pick ${row.label}`, checked: state.picked.has(row), onchange: (event) => { state.picked[event.target.checked ? "add" : "delete"](row); drawPlot(); drawCurves(); } }), h("button", { onclick: () => openRow(row) }, row.label)),
    h("td", { class: "text family" }, row.family),
    columns.map((column) => { const cell = row.figures[state.split][column.index]; return h("td", { class: column.form === "text" ? "text" : null }, row.baseline && cell === null && column.form === "difference" ? "baseline" : written(column, cell), Array.isArray(cell) && column.bar ? column.bar(cell) : null); })))));
}
const list = (pairs) => h("dl", {}, pairs.map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
function open(name, ...body) { $("detail-name").textContent = name; fill($("detail-body"), ...body); $("detail").showModal(); $("detail").scrollTop = 0; }
function openRow(row) {
  const figures = table.splits.flatMap((split) => table.columns.map((column, index) => [table.splits.length > 1 ? `${split}: ${column.label}` : column.label, written(column, row.figures[split][index])])).filter(([, text]) => text);
  open(row.label, h("p", {}, row.family), row.command ? [h("h3", {}, "Command"), h("pre", {}, row.command)] : null, list(Object.entries(row.about)),
    Object.keys(row.settings).length ? [h("h3", {}, "Settings"), list(Object.entries(row.settings))] : null, h("h3", {}, "Figures"), list(figures),
    table.tasks.length ? [h("h3", {}, "Accuracy by task"), list(table.tasks.map((task, index) => [task, row.tasks[index] === null ? "" : FORMS.percent(row.tasks[index])]))] : null);
}

// Pictures
function ticks(low, high, most) {
  const raw = (high - low) / most || 1, size = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].find((each) => each * size >= raw) * size, found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) found.push(Number((at * step).toPrecision(6)));
  return found;
}
function chart(box, [x0, x1], [y0, y1], xName, yName, percent) {
  const width = Math.max(300, box.clientWidth), height = Math.min(440, Math.max(260, width * 0.5)), left = 46, bottom = 38, right = 14, top = 18;
  const x = (v) => left + ((width - left - right) * (v - x0)) / (x1 - x0 || 1), y = (v) => height - bottom - ((height - bottom - top) * (v - y0)) / (y1 - y0 || 1);
  const svg = h("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${yName} against ${xName}` },
    ticks(x0, x1, width / 90).map((at) => [h("line", { class: "axis", x1: x(at), x2: x(at), y1: top, y2: height - bottom }), h("text", { x: x(at), y: height - bottom + 15, "text-anchor": "middle" }, String(at))]),
    ticks(y0, y1, height / 55).map((at) => [h("line", { class: "axis", x1: left, x2: width - right, y1: y(at), y2: y(at) }), h("text", { x: left - 5, y: y(at) + 4, "text-anchor": "end" }, percent ? String(Number((100 * at).toPrecision(5))) : String(at))]),
    h("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, xName), h("text", { x: 2, y: 12 }, yName));
  fill(box, svg);
  return { svg, x, y, width, inside: ([a, b]) => a >= x0 && a <= x1 && b >= y0 && b <= y1 };
}
const path = (points, x, y) => points.map(([a, b], index) => `${index ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join("");
const span = (values) => { const low = Math.min(...values), high = Math.max(...values), room = (high - low || Math.abs(high) || 1) * 0.06; return [low - room, high + room]; };
function drawPlot() {
  const rows = visible().filter((row) => row.point[state.split]), routers = rows.filter((row) => !row.reference);
  $("cost").hidden = !table.rows.some((row) => Object.values(row.point).some(Boolean));
  if ($("cost").hidden) return;
  const points = (routers.length ? routers : rows).map((row) => row.point[state.split]);
  if (!points.length) { fill($("plot"), "No router that is shown has both."); fill($("beyond")); return; }
  const at = chart($("plot"), span(points.map((point) => point[0])), span(points.map((point) => point[1])), "cost, USD per 1,000 queries", "accuracy, %", true);
  const tell = (text) => () => { $("point").textContent = text; };
  const named = [], within = (each) => at.inside(each), swept = state.split === "test";
  if (swept && table.hull.length) at.svg.append(h("path", { class: "hull", d: path(table.hull.filter(within), at.x, at.y) }));
  if (swept) for (const [name, point] of Object.entries(table.arms).filter(([, each]) => within(each))) at.svg.append(h("circle", { class: "arm", cx: at.x(point[0]), cy: at.y(point[1]), r: 4, onmouseenter: tell(`arm ${name}: ${FORMS.percent(point[1])} at ${FORMS.usd(point[0])} USD`) }, h("title", {}, name)));
  for (const row of rows.filter((each) => within(each.point[state.split]))) {
    const colour = `c${doc.families.indexOf(row.family) % COLOURS}`, curve = swept && table.frontiers[table.rows.indexOf(row)], point = row.point[state.split];
    const picked = state.picked.has(row), text = `${row.label} (${row.family}): ${FORMS.percent(point[1])} at ${FORMS.usd(point[0])} USD`;
    if (curve) at.svg.append(h("path", { class: `line ${colour} ${picked ? "" : "faint"}`, d: path(curve.filter(within), at.x, at.y) }));
    // Else the same key would press the button that the dialog gives the focus to.
    const show = (event) => { if (event.type !== "keydown" || event.key === "Enter" || event.key === " ") { event.preventDefault(); openRow(row); } };
    at.svg.append(h("circle", { class: `dot ${colour} ${picked ? "picked" : ""}`, cx: at.x(point[0]), cy: at.y(point[1]), r: picked ? 6 : 5, tabindex: 0, role: "button", "aria-label": text, onmouseenter: tell(text), onfocus: tell(text), onclick: show, onkeydown: show }, h("title", {}, text)));
    if (picked || row.baseline) named.push([at.x(point[0]), at.y(point[1]), row.label.slice(0, 28)]);
  }
  const taken = rows.map((row) => row.point[state.split]).filter(within).map(([a, b]) => [at.x(a) - 5, at.y(b) + 5, 10]);
  for (const [x, y, name] of named) {
    const wide = 7 * name.length, tries = [[9, -7], [-9 - wide, -7], [9, 17], [-9 - wide, 17], [9, -23], [-9 - wide, -23], [9, 33], [-9 - wide, 33]];
    const free = ([dx, dy]) => x + dx > 0 && x + dx + wide < at.width && taken.every(([a, b, w]) => x + dx > a + w || x + dx + wide < a || Math.abs(y + dy - b) > 13);
    const [dx, dy] = tries.find(free) || tries[0];
    taken.push([x + dx, y + dy, wide]);
    at.svg.append(h("text", { class: "name", x: x + dx, y: y + dy }, name));
  }
  const beyond = rows.filter((row) => !within(row.point[state.split])).map((row) => `${row.label} (${FORMS.percent(row.point[state.split][1])} at ${FORMS.usd(row.point[state.split][0])} USD)`);
  fill($("beyond"), beyond.length ? `Beyond the axes: ${beyond.join(", ")}. ` : "", swept && Object.keys(table.arms).length ? "Rings are single arms, the dotted line is the best of them mixed, a curve is a router at every price of cost." : "");
}
function drawCurves() {
  const names = Object.keys(table.curves);
  $("training").hidden = !names.length;
  if (!names.length) return;
  const chosen = names.includes($("logged").value) ? $("logged").value : names[0], all = table.curves[chosen];
  const drawn = all.filter((each) => state.picked.has(table.rows[each.row]));
  if (!drawn.length) { fill($("curve")); fill($("curves-told"), `Pick routers in the table above; these keep a log: ${all.map((each) => table.rows[each.row].label).join(", ")}.`); return; }
  const at = chart($("curve"), [Math.min(...drawn.flatMap((each) => each.step)), Math.max(...drawn.flatMap((each) => each.step))], span(drawn.flatMap((each) => [...each.mean, ...(each.low || []), ...(each.high || [])])), "step", chosen, false);
  const zip = (each, key) => each.step.map((step, index) => [step, each[key][index]]);
  drawn.forEach((each, index) => {
    const look = `c${index % COLOURS}`, dash = `dash${Math.floor(index / COLOURS) % 3}`;
    if (each.low) at.svg.append(h("path", { class: `band ${look}`, d: path([...zip(each, "low"), ...zip(each, "high").reverse()], at.x, at.y) + "Z" }));
    at.svg.append(h("path", { class: `line ${look} ${dash}`, d: path(zip(each, "mean"), at.x, at.y) }, h("title", {}, table.rows[each.row].label)));
  });
  fill($("curves-told"), drawn.map((each, index) => h("span", { class: `swatch c${index % COLOURS}` }, h("span", {}, table.rows[each.row].label))), drawn.some((each) => each.low) ? "A line is the mean of the seeds, its band reaches from the lowest seed to the highest." : "One seed each.");
}

// Tasks and stability
function drawTasks() {
  $("per-task").hidden = !table.tasks.length;
  const { key } = state.taskSort || {}, best = table.tasks.map((_, index) => Math.max(...table.rows.filter((row) => !row.reference).map((row) => row.tasks[index] ?? -Infinity)));
  const rows = sorted(visible(), state.taskSort, (row) => (key === "label" ? row.label : row.tasks[key]));
  fill($("tasks"), h("thead", {}, h("tr", {}, header("label", "router", "taskSort", drawTasks, false), table.tasks.map((task, index) => header(index, task, "taskSort", drawTasks, true)))),
    h("tbody", {}, rows.map((row) => h("tr", { class: row.reference ? "reference" : null }, h("th", { scope: "row", title: row.label }, h("button", { onclick: () => openRow(row) }, row.label)),
      row.tasks.map((cell, index) => h("td", { class: !row.reference && cell !== null && cell === best[index] ? "best" : null }, cell === null ? "" : (100 * cell).toFixed(1)))))));
}
function drawStability() {
  $("stability").hidden = !table.stability.length;
  fill($("stable"), table.stability.map((report) => [table.stability.length > 1 ? h("h3", {}, report.title) : null,
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": report.title }, h("table", {}, h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "router"), report.columns.map((column) => h("th", { scope: "col" }, column.label)))),
      h("tbody", {}, report.rows.map((row) => h("tr", {}, h("th", { scope: "row", title: row.label }, row.label), report.columns.map((column, index) => h("td", {}, written(column, row.figures[index])))))))),
    h("ul", {}, report.notes.map((note) => h("li", {}, note)))]));
}

// Queries: each list is a file of its own, loaded when it is asked for. A file's one statement calls recalQueries.
function recalQueries(text) { state.list = JSON.parse(text); startList(); }
function drawLoad() {
  state.list = null; $("filters").hidden = true; $("list").parentNode.hidden = true; fill($("found")); fill($("pages")); fill($("list"));
  $("queries").hidden = !table.queries.length;
  fill($("load"), table.queries.map((each) => h("button", { onclick: () => document.head.append(h("script", { src: each.file, onerror: () => fill($("found"), `${each.file} is not beside this page.`) })) }, `Show the ${each.count.toLocaleString("en")} queries${table.queries.length > 1 ? ` of ${each.name}` : ""}`)));
}
function startList() {
  const found = state.list, routers = found.routers.map((name, index) => [String(index), name]);
  const picked = [...state.picked].map((row) => found.routers.indexOf(row.label)).filter((each) => each >= 0), [one, other] = [picked[0] ?? 0, picked[1] ?? Math.max(0, found.routers.indexOf(table.baseline))];
  options($("task"), [["", "all"], ...found.tasks.map((task, index) => [String(index), task])], "");
  options($("one"), routers, String(one)); options($("other"), routers, String(other));
  $("measure").textContent = found.measure; $("lost").hidden = !found.measure; $("filters").hidden = false; $("list").parentNode.hidden = false; state.page = 0;
  drawList();
}
const arms = (found, router, query) => [].concat(found.choice[router][query]);
const chosen = (found, router, query) => [...new Set(arms(found, router, query))].map((arm) => found.arms[arm] ?? "?").join(", ");
function drawList() {
  const found = state.list; if (!found) return;
  const one = Number($("one").value), other = Number($("other").value), least = $("least").value === "" ? null : Number($("least").value), words = $("words").value.toLowerCase();
  const same = (query) => String(arms(found, one, query)) === String(arms(found, other, query)) || (new Set([...arms(found, one, query), ...arms(found, other, query)]).size === 1);
  let kept = found.id.map((_, index) => index).filter((index) => ($("task").value === "" || found.task[index] === Number($("task").value)) && (!$("differ").checked || !same(index)) && (least === null || (found.lost[one][index] !== null && found.lost[one][index] >= least)) && (!words || found.id[index].toLowerCase().includes(words) || (found.prompt && found.prompt[index].toLowerCase().includes(words))));
  kept = sorted(kept, { down: true }, (index) => found.lost[one][index]);
  const last = Math.max(0, Math.ceil(kept.length / PAGE) - 1); state.page = Math.min(state.page, last);
  const sample = found.id.length < found.total ? ` (a sample of ${found.total.toLocaleString("en")})` : "";
  fill($("found"), `${kept.length.toLocaleString("en")} of ${found.id.length.toLocaleString("en")} queries${sample}${found.measure ? `, those of the most ${found.measure} of ${found.routers[one]} first: ${found.meaning}` : ""}. ${found.note || ""}`);
  fill($("list"), h("thead", {}, h("tr", {}, ["query", "task", found.prompt ? "prompt" : null, found.measure, found.routers[one], found.routers[other]].filter((name) => name !== null).map((name) => h("th", { scope: "col", class: name === found.measure ? null : "text" }, name)))),
    h("tbody", {}, kept.slice(state.page * PAGE, state.page * PAGE + PAGE).map((index) => h("tr", {}, h("th", { scope: "row", title: found.id[index] }, h("button", { onclick: () => openQuery(index) }, found.id[index] || "(no id)")), h("td", { class: "text" }, found.tasks[found.task[index]]),
      found.prompt ? h("td", { class: "prompt", dir: "auto" }, found.prompt[index].slice(0, 160)) : null, found.measure ? h("td", {}, found.lost[one][index] === null ? "" : found.lost[one][index].toFixed(3)) : null, [one, other].map((router) => h("td", { class: "text" }, chosen(found, router, index)))))));
  const turn = (by) => () => { state.page += by; drawList(); };
  fill($("pages"), last ? [h("button", { onclick: turn(-1), disabled: state.page === 0 }, "Before"), h("span", {}, `page ${state.page + 1} of ${last + 1}`), h("button", { onclick: turn(1), disabled: state.page === last }, "Next")] : []);
}
function openQuery(index) {
  const found = state.list, takers = found.arms.map(() => []);
  found.routers.forEach((name, router) => { const all = arms(found, router, index); for (const arm of new Set(all)) { const seeds = all.filter((each) => each === arm).length; if (takers[arm]) takers[arm].push(seeds < all.length ? `${name} (${seeds} of ${all.length} seeds)` : name); } });
  const taken = sorted(found.arms.map((_, arm) => arm), { down: true }, (arm) => takers[arm].length);
  const order = found.score ? sorted(taken, { down: true }, (arm) => found.score[index][arm]) : taken;
  const cells = (index_of_arm) => (found.score ? [found.score[index][index_of_arm], found.cost[index][index_of_arm]].map((each) => h("td", {}, each === null ? "" : String(each))) : []);
  open(found.id[index] || "(no id)", h("p", {}, `${found.tasks[found.task[index]]}, ${found.splits[found.split[index]]}`), found.prompt ? h("pre", { dir: "auto" }, found.prompt[index]) : h("p", {}, found.note || ""),
    h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["arm", ...(found.score ? ["score", "USD per 1,000"] : []), "chosen by"].map((name) => h("th", { scope: "col", class: name === "chosen by" ? "text" : null }, name)))),
      h("tbody", {}, order.map((arm) => h("tr", {}, h("th", { scope: "row" }, found.arms[arm]), cells(arm), h("td", { class: "prompt" }, takers[arm].join(", "))))))),
    found.lost.some((each) => each[index] !== null) ? [h("h3", {}, found.measure), list(found.routers.map((name, router) => [name, found.lost[router][index] === null ? "" : found.lost[router][index].toFixed(3)]))] : null);
}

// Start
function drawAll() { drawRows(); drawPlot(); drawCurves(); drawTasks(); }
function start() {
  table = doc.tables[state.table];
  Object.assign(state, { sort: null, taskSort: null });
  $("subject").textContent = table.title;
  document.title = `Leaderboard: ${table.title}`;
  const logged = Object.values(table.curves)[0] || [];
  const first = new Set([...logged.map((each) => table.rows[each.row]), ...table.rows.filter((row) => !row.reference)]);
  state.picked = new Set([...first].slice(0, 3));
  state.split = table.splits[0];
  options($("split"), table.splits.map((split) => [split, split]), state.split);
  options($("logged"), Object.keys(table.curves).map((name) => [name, name]), null);
  fill($("notes"), table.notes.map((note) => h("li", {}, note)));
  fill($("facts"), [...Object.entries(table.facts), ["written by", doc.command]].map(([name, text]) => [h("dt", {}, name), h("dd", {}, text)]));
  drawAll(); drawStability(); drawLoad();
  fill(document.querySelector("nav"), [...document.querySelectorAll("section")].filter((section) => !section.hidden).map((section) => h("a", { href: `#${section.id}` }, section.dataset.name)));
}
options($("table"), doc.tables.map((each, index) => [String(index), each.title]), "0");
$("choose").hidden = doc.tables.length < 2;
$("families").append(...doc.families.map((family, index) => h("label", { class: `swatch c${index % COLOURS}` }, h("input", { type: "checkbox", checked: true, value: family, onchange: (event) => { state.hidden[event.target.checked ? "delete" : "add"](family); drawAll(); } }), h("span", {}, family))));
$("table").onchange = () => { state.table = Number($("table").value); start(); };
$("split").onchange = () => { state.split = $("split").value; drawRows(); drawPlot(); };
$("text").oninput = drawAll; $("minor").onchange = drawRows; $("logged").onchange = drawCurves;
for (const id of ["task", "one", "other", "differ"]) $(id).onchange = () => { state.page = 0; drawList(); };
for (const id of ["least", "words"]) $(id).oninput = () => { state.page = 0; drawList(); };
window.addEventListener("resize", () => { drawPlot(); drawCurves(); });
start();
