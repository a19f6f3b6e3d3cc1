// What both pages share: data that scripts hand over, charts in the page's colours, tables for those who cannot see them.
"use strict";

const Dashboard = (() => {
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const received = {};
  const waiting = {};
  const drawn = [];
  // Okabe-Ito, lighter on dark ground; yellow and black are left out.
  const palettes = {
    light: ["#0072B2", "#B86E00", "#007F5C", "#B0568B", "#2E8FC4", "#C24E00", "#6B7480"],
    dark: ["#6EBDF2", "#F2B94E", "#5FD3A8", "#E3A1C6", "#A8D8F5", "#FF9A66", "#B5BFCA"],
  };

  const colours = () => palettes[dark.matches ? "dark" : "light"];
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function give(name, value) {
    received[name] = value;
    (waiting[name] || []).forEach((tell) => tell(value));
    delete waiting[name];
  }

  // The data of a script file: a page on a disk may add scripts but not fetch.
  function load(file, name) {
    if (name in received) return Promise.resolve(received[name]);
    return new Promise((resolve, reject) => {
      (waiting[name] = waiting[name] || []).push(resolve);
      const script = document.createElement("script");
      script.src = `${document.body.dataset.data}/${file}`;
      script.onerror = () => reject(new Error(`${script.src} cannot be loaded`));
      document.head.append(script);
    });
  }

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function number(value, digits = 4) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return Number(value.toPrecision(digits > 3 && size >= 100 ? 3 : Math.min(digits, 3))).toLocaleString("en", { maximumFractionDigits: 4 });
  }

  function table(caption, heads, rows) {
    const head = element("tr", {}, ...heads.map((text, i) => element("th", { scope: "col", class: i ? "" : "head" }, text)));
    const body = rows.map(([first, ...cells]) =>
      element("tr", {}, element("th", { scope: "row" }, String(first)), ...cells.map((cell) => element("td", {}, cell instanceof Node ? cell : String(cell)))));
    return element("div", { class: "wide", tabindex: "0", role: "region", "aria-label": caption },
      element("table", {}, element("caption", { hidden: "" }, caption), element("thead", {}, head), element("tbody", {}, ...body)));
  }

  function layout(extra) {
    const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), linecolor: css("--line"), automargin: true };
    const made = {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", colorway: colours(), hovermode: "closest",
      font: { color: css("--ink"), family: getComputedStyle(document.body).fontFamily, size: 12.5 },
      margin: { l: 55, r: 15, t: 15, b: 45 }, legend: { orientation: "h", y: 1.02, yanchor: "bottom" },
      hoverlabel: { bgcolor: css("--paper"), bordercolor: css("--soft"), font: { color: css("--ink") } }, ...extra,
    };
    for (const name of Object.keys(made).filter((key) => /^[xy]axis/.test(key)).concat("xaxis", "yaxis")) made[name] = { ...axis, ...made[name] };
    return made;
  }

  // figure: () => {traces, layout, heads, rows}; called again when colours change. The table says what the chart shows.
  function chart(id, label, figure) {
    const place = document.getElementById(id);
    const draw = () => {
      const made = figure();
      place.setAttribute("role", "img");
      place.setAttribute("aria-label", label);
      Plotly.react(place, made.traces, layout(made.layout || {}), { responsive: true, displaylogo: false, displayModeBar: false });
      let more = place.nextElementSibling;
      if (!more || !more.classList.contains("numbers")) {
        more = element("details", { class: "numbers" }, element("summary", {}, "The numbers as a table"));
        place.after(more);
      }
      more.replaceChildren(more.firstChild, table(label, made.heads, made.rows));
    };
    const known = drawn.findIndex((one) => one.id === id);
    if (known >= 0) drawn.splice(known, 1);
    drawn.push({ id, draw });
    draw();
  }

  function options(select, names, chosen) {
    select.replaceChildren(...names.map((name) => element("option", name === chosen ? { selected: "" } : {}, name)));
  }

  dark.addEventListener("change", () => drawn.forEach((one) => one.draw()));

  return {
    overview: (data) => give("overview", data),
    index: (data) => give("index", data),
    advertisers: (number, data) => give(`advertisers-${number}`, data),
    load, element, number, table, chart, options, colours, css,
  };
})();
