// One advertiser's page: search, history and forecasts, and what the model looks at.
"use strict";

(async () => {
  const { load, element, number, table, chart, options, colours } = Dashboard;
  const SHOWN = 30;
  const [MEAN, P10, , P90] = [0, 1, 2, 3];
  const index = await load("index.js", "index");
  const search = document.getElementById("search"), results = document.getElementById("results"), said = document.getElementById("said");
  const detail = document.getElementById("detail"), task = document.getElementById("task");
  const lower = index.ids.map((id) => id.toLowerCase());
  let current = null;

  function find() {
    const wanted = search.value.trim().toLowerCase();
    const first = [], others = [];
    for (let i = 0; i < lower.length; i++) {
      const at = wanted ? lower[i].indexOf(wanted) : 0;
      if (at === 0) first.push(i); else if (at > 0) others.push(i);
    }
    // The exact one first, then those that begin with it.
    first.sort((a, b) => lower[a].length - lower[b].length || a - b);
    const found = wanted ? [...first, ...others] : first;
    results.replaceChildren(...found.slice(0, SHOWN).map((i) =>
      element("li", {}, element("a", { href: `#${encodeURIComponent(index.ids[i])}` }, index.ids[i]))));
    const count = found.length.toLocaleString("en");
    said.textContent = found.length === 0 ? "No advertiser has this in its id." : `${count} advertiser${found.length === 1 ? "" : "s"}${found.length > SHOWN ? `, the first ${SHOWN} are shown` : ""}.`;
    return found;
  }

  async function open() {
    const id = decodeURIComponent(location.hash.slice(1));
    if (!id) { detail.hidden = true; return; }
    const position = index.ids.indexOf(id);
    if (position < 0) { detail.hidden = true; said.textContent = `There is no advertiser ${id} among those forecast as of ${index.as_of}.`; return; }
    const file = Math.floor(position / index.per_file);
    const shard = await load(`advertisers-${file}.js`, `advertisers-${file}`);
    current = { id, ...shard[id] };
    detail.hidden = false;
    document.getElementById("who").textContent = `Advertiser ${id}`;
    document.title = `Advertiser ${id}`;
    draw();
    document.getElementById("who").focus({ preventScroll: false });
    document.body.dataset.shown = id;
  }

  function draw() {
    const position = index.tasks.findIndex((one) => one.name === task.value), chosen = index.tasks[position];
    words(position, chosen);
    forecasts(position, chosen);
    attention();
    alike();
  }

  function change(before, after) {
    if (!before) return after >= 0.5 ? "after none last week" : "as last week: none";
    const relative = after / before - 1;
    const much = `${Math.abs(Math.round(100 * relative))} %`;
    return relative > 0.1 ? `up ${much} from` : relative < -0.1 ? `down ${much} from` : "about the same as";
  }

  function words(position, chosen) {
    const days = index.horizon === 1 ? "day" : `${index.horizon} days`;
    const amount = chosen.kind === "count" || chosen.kind === "spend";
    const lines = current.scenarios.map((scenario, row) => {
      const history = current.history[row][position], values = current.forecasts[row][position];
      const last = history[history.length - 1], mean = values[MEAN];
      const line = element("p", {}, element("b", {}, scenario), ": ");
      if (chosen.kind === "binary") line.append(`${Math.round(100 * mean)} % likely in the next ${days}.`);
      else if (!amount) line.append(`${number(mean)} ${chosen.unit} expected in the next ${days}, ${number(last)} last week.`);
      else {
        const weekly = (mean * 7) / index.horizon, words = change(last, weekly);
        line.append(`about ${number(mean)} ${chosen.unit} in the next ${days}, ${words}${words.endsWith("from") || words.endsWith("as") ? ` last week's ${number(last)}` : ""}.`);
      }
      if (values[P10] !== null) line.append(` In 8 of 10 such cases it is between ${number(values[P10])} and ${number(values[P90])}.`);
      if (!current.eligible[row]) line.append(" Hardly active here so far: a cautious guess from the other scenarios.");
      return line;
    });
    document.getElementById("words").replaceChildren(...lines);
  }

  function forecasts(position, chosen) {
    const weeks = current.history[0][position].length;
    const names = [...Array(weeks).keys()].map((i) => (i === weeks - 1 ? "last week" : `${weeks - i} weeks ago`)).concat(`next ${index.horizon} days`);
    chart("history", `${chosen.name} of advertiser ${current.id}: past weeks and forecast, by scenario`, () => ({
      traces: current.scenarios.flatMap((scenario, row) => {
        const history = current.history[row][position], values = current.forecasts[row][position], colour = colours()[row % colours().length];
        const forecast = { x: [names[weeks]], y: [values[MEAN]], name: scenario, legendgroup: scenario, showlegend: false, mode: "markers", marker: { color: colour, size: 12, symbol: "diamond" } };
        if (values[P10] !== null) forecast.error_y = { type: "data", symmetric: false, array: [values[P90] - values[MEAN]], arrayminus: [values[MEAN] - values[P10]], color: colour };
        return [
          { x: names.slice(0, weeks), y: history, name: scenario, legendgroup: scenario, mode: "lines+markers", line: { color: colour } },
          { x: [names[weeks - 1], names[weeks]], y: [history[weeks - 1], values[MEAN]], legendgroup: scenario, showlegend: false, mode: "lines", hoverinfo: "skip", line: { color: colour, dash: "dot", width: 1.4 } },
          forecast,
        ];
      }),
      layout: { height: 380, xaxis: { type: "category" }, yaxis: { title: { text: chosen.unit }, rangemode: "tozero" } },
      heads: ["scenario", ...names, "low (10 %)", "high (90 %)"],
      rows: current.scenarios.map((s, row) => [s, ...current.history[row][position].map((v) => number(v)), number(current.forecasts[row][position][MEAN]), number(current.forecasts[row][position][P10]), number(current.forecasts[row][position][P90])]),
    }));
    const interval = current.forecasts.some((row) => row[position][P10] !== null);
    document.getElementById("no-interval").hidden = interval;
    document.getElementById("interval").hidden = !interval;
  }

  const explained = (values) => values.length > 0 && values[0] !== null;

  function attention() {
    const known = current.attention[0].length > 0 && explained(current.attention[0][0]);
    document.getElementById("attention-section").hidden = !known;
    if (!known) return;
    const position = index.tasks.findIndex((one) => one.name === task.value);
    const views = current.attention[0][0].map((_, i) => `view ${i + 1}`);
    const share = (row) => current.attention[row][position];
    chart("attention", `How much each view counts for ${task.value}, by scenario`, () => ({
      traces: views.map((view, i) => ({ type: "bar", orientation: "h", name: view, y: current.scenarios, x: current.scenarios.map((_, row) => share(row)[i]), text: current.scenarios.map((_, row) => `${Math.round(100 * share(row)[i])} %`), textposition: "inside", insidetextanchor: "middle", marker: { color: colours()[i % colours().length] }, hovertemplate: `%{y}, ${view}: %{x:.0%}<extra></extra>` })),
      layout: { barmode: "stack", legend: { orientation: "h", y: 1.02, yanchor: "bottom", traceorder: "normal" }, height: 110 + 38 * current.scenarios.length, xaxis: { tickformat: ".0%", range: [0, 1] }, yaxis: { autorange: "reversed" } },
      heads: ["scenario", ...views], rows: current.scenarios.map((s, row) => [s, ...share(row).map((v) => `${Math.round(100 * v)} %`)]),
    }));
    const alike = current.scenarios.every((_, row) => share(row).every((v, i) => Math.abs(v - share(0)[i]) < 0.05));
    document.getElementById("attention-words").textContent = alike
      ? `For ${task.value} the model looks at this advertiser in the same way in every scenario.`
      : `For ${task.value} the model looks at this advertiser differently from scenario to scenario.`;
  }

  function alike() {
    const known = current.alike.length > 1 && explained(current.alike[0].filter((v, i) => i));
    document.getElementById("alike-section").hidden = !known;
    if (!known) return;
    const lines = current.scenarios.map((scenario, row) => {
      const others = current.scenarios.map((name, i) => [name, current.alike[row][i]]).filter(([name]) => name !== scenario).sort((a, b) => b[1] - a[1]);
      return [scenario, others[0][0], number(others[0][1]), others.slice(1).map(([name, value]) => `${name} ${number(value)}`).join(", ")];
    });
    document.getElementById("alike").replaceChildren(
      element("p", {}, ...lines.map(([scenario, nearest]) => [scenario, nearest]).flatMap(([s, n], i) => [i ? "; " : "", element("b", {}, s), " is most like ", element("b", {}, n)]), "."),
      table("Likeness of scenarios for this advertiser", ["scenario", "most like", "likeness", "then"], lines));
  }

  options(task, index.tasks.map((one) => one.name));
  task.onchange = () => current && draw();
  search.oninput = find;
  search.onkeydown = (event) => {
    if (event.key !== "Enter") return;
    const found = find();
    if (found.length) location.hash = `#${encodeURIComponent(index.ids[found[0]])}`;
  };
  window.addEventListener("hashchange", open);
  find();
  await open();
  document.body.dataset.ready = "yes";
})();
