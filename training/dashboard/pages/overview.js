// The overview page's charts.
"use strict";

(async () => {
  const { load, element, number, table, chart, options, colours, css } = Dashboard;
  const data = await load("overview.js", "overview");
  const show = (id) => { document.getElementById(id).hidden = false; };
  const metrics = { NMAE: "nmae", SMAPE: "smape", bias: "bias" };

  if (data.errors.length) {
    show("errors");
    const scenarios = [...new Set(data.errors.map((line) => line.scenario))];
    const tasks = [...new Set(data.errors.map((line) => line.task))];
    const [metric, task] = ["metric", "task"].map((name) => document.getElementById(`errors-${name}`));
    options(metric, Object.keys(metrics), "NMAE");
    options(task, tasks, "overall");
    const draw = () => chart("errors-chart", `${metric.value} over time, ${task.value}, by scenario`, () => {
      const name = metrics[metric.value];
      const lines = data.errors.filter((line) => line.task === task.value && line[name] !== undefined && line[name] !== null);
      const days = [...new Set(lines.map((line) => line.day))].sort();
      const of = (scenario, key) => days.map((day) => (lines.find((l) => l.day === day && l.scenario === scenario) || {})[key] ?? null);
      const traces = [];
      scenarios.filter((s) => lines.some((l) => l.scenario === s)).forEach((scenario, i) => {
        const colour = colours()[i % colours().length], wide = scenario === "overall" ? 3.5 : 2;
        traces.push({ x: days, y: of(scenario, name), name: scenario, legendgroup: scenario, mode: "lines+markers", line: { color: colour, width: wide }, marker: { size: 7 } });
        if (name !== "bias") traces.push({ x: days, y: of(scenario, `naive_${name}`), name: `${scenario}, best naive`, legendgroup: scenario, showlegend: false, mode: "lines", line: { color: colour, width: 1.3, dash: "dot" } });
      });
      return {
        traces,
        layout: { xaxis: { type: "category", title: { text: "as-of day" } }, yaxis: { title: { text: metric.value }, rangemode: name === "bias" ? "normal" : "tozero", tickformat: name === "bias" ? "+.0%" : "" } },
        heads: ["as-of day", "scenario", "model", "best naive"],
        rows: lines.map((l) => [l.day, l.scenario, number(l[name]), number(l[`naive_${name}`])]),
      };
    });
    metric.onchange = task.onchange = draw;
    draw();
  }

  if (data.worse) {
    show("worse");
    const { scenarios, tasks } = data.worse;
    for (const name of ["nmae", "smape"]) {
      const cell = (scenario, task) => data.worse[name][`${scenario}|${task}`] ?? null;
      chart(`worse-${name}`, `${name.toUpperCase()} of the model over the best naive forecast's`, () => ({
        traces: [{
          type: "heatmap", x: tasks, y: scenarios, z: scenarios.map((s) => tasks.map((t) => cell(s, t))), zmin: 0.5, zmid: 1, zmax: 1.5, xgap: 2, ygap: 2, showscale: false,
          colorscale: [[0, "#0072B2"], [0.5, css("--paper")], [1, "#D55E00"]], text: scenarios.map((s) => tasks.map((t) => number(cell(s, t)))), texttemplate: "%{text}", hovertemplate: "%{y}, %{x}: %{z:.2f}<extra></extra>",
        }],
        layout: { xaxis: { showgrid: false }, yaxis: { showgrid: false, autorange: "reversed" }, margin: { l: 90, r: 10, t: 10, b: 40 } },
        heads: ["scenario", ...tasks], rows: scenarios.map((s) => [s, ...tasks.map((t) => number(cell(s, t)))]),
      }));
    }
    const bad = Object.entries(data.worse.nmae).filter(([, ratio]) => ratio > 1).sort((a, b) => b[1] - a[1]);
    const total = Object.keys(data.worse.nmae).length;
    document.getElementById("worse-verdict").textContent = bad.length
      ? `As of ${data.worse.day} the model is worse than the best naive forecast in ${bad.length} of ${total} cells by NMAE; the furthest: ` +
        bad.slice(0, 3).map(([key, ratio]) => `${key.replace("|", ", ")} (${ratio.toFixed(2)} times its error)`).join("; ") + "."
      : `As of ${data.worse.day} the model is at least as good as the best naive forecast in all ${total} cells by NMAE.`;
  }

  if (data.reliability && Object.keys(data.reliability.points).length) {
    show("calibration");
    const { points, quantiles } = data.reliability;
    const tasks = Object.keys(points);
    chart("reliability-chart", "Mean forecast against what came, by task", () => {
      const all = tasks.flatMap((t) => points[t].flat()).filter((v) => v > 0);
      const ends = [Math.min(...all), Math.max(...all)];
      return {
        traces: [{ x: ends, y: ends, mode: "lines", line: { color: css("--soft"), dash: "dash", width: 1.2 }, name: "exactly right", hoverinfo: "skip" },
          ...tasks.map((t, i) => ({ x: points[t].map((p) => p[0]), y: points[t].map((p) => p[1]), name: t, mode: "lines+markers", line: { color: colours()[i % colours().length] } }))],
        layout: { xaxis: { type: "log", title: { text: "mean forecast" } }, yaxis: { type: "log", title: { text: "mean of what came" } } },
        heads: ["task", "forecast", "what came"], rows: tasks.flatMap((t) => points[t].map(([f, l]) => [t, number(f), number(l)])),
      };
    });
    const known = Object.keys(quantiles);
    document.getElementById("quantiles").hidden = !known.length;
    if (known.length) {
      const level = (name) => Number(name.slice(1)) / 100;
      chart("quantiles-chart", "Share of labels below each forecast quantile, by task", () => ({
        traces: [{ x: [0, 1], y: [0, 1], mode: "lines", line: { color: css("--soft"), dash: "dash", width: 1.2 }, name: "calibrated", hoverinfo: "skip" },
          ...known.map((t, i) => ({ x: Object.keys(quantiles[t]).map(level), y: Object.values(quantiles[t]), name: t, mode: "lines+markers", line: { color: colours()[i % colours().length] } }))],
        layout: { xaxis: { title: { text: "quantile" }, tickformat: ".0%" }, yaxis: { title: { text: "labels below it" }, tickformat: ".0%" } },
        heads: ["task", "quantile", "labels below it"], rows: known.flatMap((t) => Object.entries(quantiles[t]).map(([q, share]) => [t, q, number(share)])),
      }));
    }
  }

  if (data.drift) {
    show("drift");
    const { features, bounds, over_time: nights } = data.drift;
    const worst = [...features].reverse();
    const shade = (psi) => (psi > bounds[1] ? colours()[5] : psi > bounds[0] ? colours()[1] : colours()[0]);
    chart("drift-chart", `Drift of features from training, ${data.drift.day}`, () => ({
      traces: [{ type: "bar", orientation: "h", y: worst.map((f) => f[0]), x: worst.map((f) => f[1]), marker: { color: worst.map((f) => shade(f[1])) }, hovertemplate: "%{y}: %{x:.3f}<extra></extra>" }],
      layout: { height: 60 + 21 * features.length, xaxis: { title: { text: "PSI" } }, shapes: bounds.map((b) => ({ type: "line", x0: b, x1: b, yref: "paper", y0: 0, y1: 1, line: { color: css("--soft"), dash: "dot", width: 1 } })) },
      heads: ["feature", "PSI"], rows: features.map(([name, psi]) => [name, number(psi)]),
    }));
    chart("drift-time", "Largest PSI of any feature, by night", () => ({
      traces: [{ x: nights.map((n) => n.day), y: nights.map((n) => n.largest), mode: "lines+markers", text: nights.map((n) => `${n.beyond} features beyond ${bounds[1]}`) }],
      layout: { xaxis: { type: "category" }, yaxis: { title: { text: "largest PSI" }, rangemode: "tozero" } },
      heads: ["night", "largest PSI", `features beyond ${bounds[1]}`], rows: nights.map((n) => [n.day, number(n.largest), n.beyond]),
    }));
  }

  if (data.inputs) {
    show("inputs");
    const { tables, volume, activity, dropped } = data.inputs;
    const scenarios = [...new Set(volume.map((v) => v.scenario))], days = [...new Set(volume.map((v) => v.day))];
    const rows = Object.entries(tables).map(([name, day]) => [name, day ?? "not filed by day"]);
    document.getElementById("inputs-tables").replaceChildren(table("Newest day of each raw table", ["raw table", "newest day"], rows));
    const let_go = Object.entries(dropped).filter(([, count]) => count);
    document.getElementById("inputs-dropped").textContent = let_go.length ? `Bad rows let go: ${let_go.map(([k, v]) => `${number(v)} ${k}`).join(", ")}.` : "No bad rows were let go.";
    const of = (scenario, day) => (volume.find((v) => v.scenario === scenario && v.day === day) || {}).rows ?? null;
    chart("inputs-chart", "Rows by night and scenario", () => ({
      traces: scenarios.map((s, i) => ({ x: days, y: days.map((d) => of(s, d)), name: s, mode: "lines+markers", line: { color: colours()[i % colours().length] } })),
      layout: { xaxis: { type: "category" }, yaxis: { title: { text: "rows" }, rangemode: "tozero" } },
      heads: ["night", ...scenarios], rows: days.map((d) => [d, ...scenarios.map((s) => number(of(s, d)))]),
    }));
    const tasks = [...new Set(Object.values(activity).flatMap((a) => Object.keys(a)))];
    document.getElementById("inputs-activity").replaceChildren(
      table("Newest week against the weeks before", ["scenario", ...tasks], Object.entries(activity).map(([s, a]) => [s, ...tasks.map((t) => (a[t] === null || a[t] === undefined ? "–" : `${Math.round(100 * a[t])} %`))])));
  }

  if (data.training) {
    show("training");
    const { epochs, parameters, version } = data.training;
    document.getElementById("training-about").textContent = `Model ${version}, ${number(parameters)} parameters, ${epochs.length} epochs.`;
    [["training-loss", "Training", 2], ["validation-loss", "Validation", 3]].forEach(([id, label, column], i) => chart(id, `${label} loss by epoch`, () => ({
      traces: [{ x: epochs.map((e) => e[0]), y: epochs.map((e) => e[column]), mode: "lines+markers", line: { color: colours()[i] } }],
      layout: { xaxis: { title: { text: "epoch" }, dtick: 1 }, yaxis: { title: { text: `${label.toLowerCase()} loss` } } },
      heads: ["epoch", "step", "loss"], rows: epochs.map((e) => [e[0], e[1], number(e[column])]),
    })));
    if (data.evaluation.length) {
      document.getElementById("training-table").replaceChildren(element("h3", {}, "On the test period"), table("Errors on the test period",
        ["forecast", "kind", "NMAE", "SMAPE"], data.evaluation.map((r) => [r.model, r.forecast, number(r.nmae), number(r.smape)])));
    }
  }
  document.body.dataset.ready = "yes";
})();
