// What the report does in a browser: unpack plotly, draw the charts in the page's theme, sort tables, print light.
"use strict";

const darkQuery = window.matchMedia("(prefers-color-scheme: dark)");
const plotConfig = {
  displaylogo: false,
  responsive: true,
  modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // nothing that talks to a server
};
let drawn = false;

function isDark() {
  const theme = document.documentElement.dataset.theme;
  return theme ? theme === "dark" : darkQuery.matches;
}

function themed(layout, dark) {
  const text = dark ? "#d6dbe3" : "#1f2733", grid = dark ? "#333c4a" : "#e5e7eb", back = dark ? "#1a212c" : "#ffffff";
  const axis = {gridcolor: grid, linecolor: grid, tickcolor: grid};
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: {family: "system-ui, sans-serif", size: 13, color: text},
    hoverlabel: {bgcolor: back, bordercolor: grid, font: {color: text}, align: "left"},
    modebar: {bgcolor: "rgba(0,0,0,0)", color: dark ? "#7d8998" : "#9aa4b0", activecolor: text},
    xaxis: {...layout.xaxis, ...axis},
    yaxis: {...layout.yaxis, ...axis},
  };
}

function draw(dark = isDark(), size = {}) {
  if (typeof Plotly === "undefined") return;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  for (const [name, figure] of Object.entries(figures)) {
    const place = document.getElementById("chart-" + name);
    if (!drawn) place.replaceChildren();
    for (const trace of figure.data) {
      if (trace.marker) trace.marker.line.color = dark ? "#1a212c" : "#ffffff";
      // The colours are chosen for white paper; on a dark page some must be lighter.
      if (dark && trace.marker && trace.name.startsWith("dense")) trace.marker.color = "#c3cad5";
      if (dark && trace.marker && trace.name.startsWith("other")) trace.marker.color = "#4f6b80";
      if (dark && /front/.test(trace.name)) (trace.marker || trace.line).color = "#4da6dd";
    }
    for (const note of dark ? figure.layout.annotations : []) note.font.color = "#e58ab0";
    for (const line of dark ? figure.layout.shapes : []) line.line.color = "#e58ab0";
    Plotly.react(place, figure.data, {...themed(figure.layout, dark), ...size}, plotConfig);
  }
  drawn = true;
}

async function unpackPlotly() {
  if (typeof DecompressionStream === "undefined") return; // the still pictures remain
  const packed = atob(document.getElementById("plotly-gz").textContent.trim());
  const bytes = Uint8Array.from(packed, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  draw();
}

function sortTable(header) {
  const table = header.closest("table"), body = table.tBodies[0];
  const column = [...header.parentNode.children].indexOf(header);
  const descending = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  const rows = [...body.rows].sort((a, b) => {
    const left = value(a), right = value(b);
    if (left === "" || right === "") return (left === "") - (right === ""); // unknown last, either way
    const numeric = Number(left) - Number(right);
    const order = Number.isNaN(numeric) ? left.localeCompare(right) : numeric;
    return descending ? -order : order;
  });
  body.append(...rows);
}

for (const header of document.querySelectorAll("table.sortable th")) {
  header.tabIndex = 0;
  header.addEventListener("click", () => sortTable(header));
  header.addEventListener("keydown", (event) => { if (event.key === "Enter") sortTable(header); });
}
document.getElementById("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  draw();
});
darkQuery.addEventListener("change", () => draw());
let closed = [];
window.addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  for (const details of closed) details.open = true;
  draw(false, {width: 660, height: 350}); // two fit on a sheet
});
window.addEventListener("afterprint", () => {
  for (const details of closed) details.open = false;
  draw();
});
unpackPlotly();
