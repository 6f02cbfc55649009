"use strict";
// Everything from the data goes into the page as textContent: never as markup.
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const figures = read("data-figures");
  const { fractions, clusters } = read("data-clusters");
  const rows = read("data-rows");
  const byId = (id) => document.getElementById(id);
  const narrow = window.matchMedia("(max-width: 40rem)");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const PAGE_ROWS = 20;

  function element(tag, className, text, children = []) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    made.append(...children);
    return made;
  }

  // --- plots -------------------------------------------------------------------------------------

  const property = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // A token such as "@2/0.5" stands for the palette's colour 2 at half opacity, in the scheme of the moment.
  function colour(token) {
    const [number, opacity] = token.slice(1).split("/");
    const hex = property(`--c${number}`);
    const [red, green, blue] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${red}, ${green}, ${blue}, ${opacity})`;
  }

  function painted(value, key) {
    if (Array.isArray(value)) return value.map((item) => painted(item, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, painted(inner, name)]));
    }
    const isColour = (key === "color" || key === "fillcolor") && typeof value === "string" && value.startsWith("@");
    return isColour ? colour(value) : value;
  }

  function axis(own, size) {
    return {
      automargin: true, gridcolor: property("--line"), linecolor: property("--line"), zeroline: false,
      tickfont: { size }, ...own, title: { standoff: 10, font: { size: size + 1 }, ...(own || {}).title },
    };
  }

  function layoutOf(layout) {
    const size = narrow.matches ? 12 : 13;
    const axes = Object.fromEntries(Object.entries({ xaxis: {}, yaxis: {}, ...layout })
      .filter(([name]) => /^[xy]axis/.test(name)).map(([name, own]) => [name, axis(own, size)]));
    return {
      ...painted(layout), ...axes, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", autosize: true,
      font: { family: property("font-family") || "system-ui, sans-serif", size, color: property("--ink") },
      margin: { l: 8, r: 8, t: 8, b: 8 }, hovermode: "closest", dragmode: narrow.matches ? false : "zoom",
      hoverlabel: { bgcolor: property("--panel"), bordercolor: property("--line"), font: { color: property("--ink") } },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size } },
    };
  }

  function draw(name) {
    const place = byId(`plot-${name}`);
    const more = name === "trajectories" ? spotlight() : [];
    Plotly.react(place, painted([...figures[name].data, ...more]), layoutOf(figures[name].layout),
      { responsive: true, displayModeBar: false, displaylogo: false });
  }

  const drawAll = () => Object.keys(figures).forEach(draw);

  // --- clusters ----------------------------------------------------------------------------------

  const picked = () => clusters[Number(byId("cluster").value)];
  const share = (part) => `${(100 * part).toFixed(1)} %`;

  function spotlight() {
    const one = picked();
    const traces = [];
    if (one.low) {
      traces.push({
        type: "scatter", mode: "lines", x: [...fractions, ...[...fractions].reverse()],
        y: [...one.high, ...[...one.low].reverse()], fill: "toself", fillcolor: "@0/0.22", line: { width: 0 },
        name: "10th to 90th percentile", hoverinfo: "skip",
      });
    }
    if (one.mean) {
      traces.push({
        type: "scatter", mode: "lines+markers", x: fractions, y: one.mean, name: `cluster ${one.cluster}: mean`,
        line: { color: "@0/1", width: 3 }, marker: { color: "@0/1", size: 8 }, hovertemplate: "%{y:.3f} nats<extra></extra>",
      });
    }
    return traces;
  }

  function memberCard(card) {
    const facts = [card.source, `${card.tokens.toLocaleString("en")} tokens`];
    if (card.distance !== null) facts.push(`distance ${card.distance}`);
    if (card.losses) facts.push(`loss ${card.losses[0]} to ${card.losses[1]}`);
    const status = card.chosen ? "chosen" : "rejected";
    return element("li", "card", undefined, [
      element("h4", "", undefined, [`${card.kind} member `, element("span", `badge ${status}`, status)]),
      element("p", "facts", `${card.id} · ${facts.join(" · ")}`), ...texts(card),
    ]);
  }

  function texts(row) {
    return [["text", row.prompt], ["text response", row.response]].filter(([, text]) => text).map(([name, text]) => {
      const made = element("p", name, text);
      made.dir = "auto";
      return made;
    });
  }

  function showCluster() {
    const one = picked();
    byId("cluster-title").textContent = `Cluster ${one.cluster}${one.source ? ` of ${one.source}` : ""}`;
    const losses = one.mean ? ` Its mean loss goes from ${one.mean[0]} to ${one.mean[one.mean.length - 1]} nats.` : "";
    byId("cluster-text").textContent =
      `${one.size.toLocaleString("en")} rows in the pool, ${one.chosen.toLocaleString("en")} selected.${losses}`;
    const sources = one.sources.map(([name, pool, chosen]) =>
      element("li", "", `${name}: ${share(pool)} of its pool rows, ${share(chosen)} of its selected ones`));
    byId("cluster-sources").replaceChildren(element("ul", "sources", undefined, sources));
    byId("cluster-cards").replaceChildren(...one.cards.map(memberCard));
    if (figures.trajectories) draw("trajectories");
  }

  // --- rows --------------------------------------------------------------------------------------

  let found = rows;
  let first = 0;

  function rowCard(row) {
    const status = row.chosen ? "chosen" : "rejected";
    const facts = [row.source, `${row.tokens.toLocaleString("en")} tokens`];
    if (row.mean !== null) facts.push(`mean loss ${row.mean}`, `last loss ${row.last}`);
    return element("li", "card", undefined, [
      element("h4", "", undefined, [`${row.id} `, element("span", `badge ${status}`, status)]),
      element("p", "", row.why), element("p", "facts", facts.join(" · ")), ...texts(row),
    ]);
  }

  function search() {
    const query = byId("query").value.trim().toLowerCase();
    const [status, source] = [byId("status").value, byId("source").value];
    found = rows.filter((row) => (!status || row.chosen === (status === "chosen"))
      && (!source || row.source === source)
      && (!query || [row.id, row.source, row.why, row.prompt, row.response].join("\n").toLowerCase().includes(query)));
    first = 0;
    showRows();
  }

  function showRows() {
    const shown = found.slice(first, first + PAGE_ROWS);
    byId("count").textContent = found.length
      ? `Rows ${first + 1} to ${first + shown.length} of ${found.length.toLocaleString("en")} found`
      : "No row found";
    byId("rows").start = first + 1;
    byId("rows").replaceChildren(...shown.map(rowCard));
    byId("previous").disabled = first === 0;
    byId("next").disabled = first + PAGE_ROWS >= found.length;
  }

  function turn(by) {
    first += by * PAGE_ROWS;
    showRows();
    byId("count").scrollIntoView({ block: "start" });
  }

  function setUpRows() {
    [...new Set(rows.map((row) => row.source))].sort().forEach((name) => {
      const option = element("option", "", name);
      option.value = name;
      byId("source").append(option);
    });
    byId("search").addEventListener("submit", (event) => event.preventDefault());
    byId("query").addEventListener("input", search);
    byId("status").addEventListener("change", search);
    byId("source").addEventListener("change", search);
    byId("previous").addEventListener("click", () => turn(-1));
    byId("next").addEventListener("click", () => turn(1));
    search();
  }

  drawAll();
  if (clusters.length) {
    byId("cluster").addEventListener("change", showCluster);
    showCluster();
  }
  if (rows.length) setUpRows();
  for (const query of [dark, narrow]) query.addEventListener("change", drawAll);
})();
