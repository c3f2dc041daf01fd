// Charts as SVG elements in the page's colours: lines over epochs, columns over time, and a confusion matrix.

import { h } from "./dom.js";
import { count, hueClass } from "./format.js";
import { svg } from "./icons.js";

const WIDTH = 400; // units of the drawing
const HEIGHT = 190;
const LEFT = 46;
const TOP = 10;
const BOTTOM = 26;
const NAME_WIDTH = 58; // of a period
const LINE_HUES = ["hue-17", "hue-3"]; // of training and validation

const y = (share) => HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);

function gridLine(share, name, width) {
  return [svg("line", { x1: LEFT, x2: width, y1: y(share), y2: y(share), class: "chart-grid" }), text(name, { x: LEFT - 6, y: y(share) + 4, "text-anchor": "end" })];
}

function text(content, attributes) {
  const element = svg("text", attributes);
  element.textContent = content;
  return element;
}

function legend(names, hues) {
  return h("ul", { class: "legend" }, names.map((name, i) => h("li", { class: hues[i] }, h("span", { class: "dot" }), name)));
}

// Lines over epochs: `lines` are { name: values }; `top` is the upper end of the axis, else the largest value.
export function lineChart(name, lines, top = null) {
  const entries = Object.entries(lines).filter(([, values]) => values?.length);
  const epochs = Math.max(0, ...entries.map(([, values]) => values.length));
  if (!epochs) return null;
  const highest = top ?? (Math.max(...entries.flatMap(([, values]) => values)) || 1);
  const step = (WIDTH - LEFT - 10) / Math.max(1, epochs - 1);
  const curves = entries.map(([, values], hue) => {
    const points = values.map((value, i) => `${(LEFT + i * step).toFixed(1)},${y(Math.min(1, value / highest)).toFixed(1)}`);
    return svg("g", { class: LINE_HUES[hue % LINE_HUES.length] }, svg("polyline", { points: points.join(" "), class: "chart-line" }),
      ...(values.length === 1 ? [svg("circle", { cx: LEFT, cy: points[0].split(",")[1], r: 4, class: "chart-fill" })] : []));
  });
  return h("figure", { class: "chart" }, h("figcaption", {}, name),
    svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": name }, ...[0, 0.5, 1].flatMap((share) => gridLine(share, (highest * share).toFixed(2), WIDTH)),
      text("epoch 1", { x: LEFT, y: HEIGHT - 8 }), ...(epochs > 1 ? [text(`epoch ${epochs}`, { x: WIDTH - 10, y: HEIGHT - 8, "text-anchor": "end" })] : []), ...curves),
    legend(entries.map(([line, values]) => `${line}: ${values.at(-1).toFixed(3)}`), LINE_HUES));
}

// Loss and accuracy of a training, each for the training and the validation examples.
export function trainingCharts(history = {}) {
  return ["loss", "accuracy"].map((metric) => lineChart(metric[0].toUpperCase() + metric.slice(1),
    { training: history[metric] ?? [], validation: history[`val_${metric}`] ?? [] }, metric === "accuracy" ? 1 : null)).filter(Boolean);
}

// The upper end of an axis: an even number of few digits, so that its middle is a whole number.
function evenTop(highest) {
  const unit = 10 ** Math.max(0, Math.floor(Math.log10(highest)) - 1);
  return 2 * unit * Math.ceil(highest / (2 * unit));
}

// Stacked columns: `series` are { label, counts }, with a count for each of `periods`.
export function columnChart(name, periods, series) {
  const width = Math.max(300, Math.min(720, document.documentElement.clientWidth - 32)); // its text is as large as other text
  const totals = periods.map((_, i) => series.reduce((sum, { counts }) => sum + counts[i], 0));
  const highest = Math.max(0, ...totals);
  if (!highest) return null;
  const largest = evenTop(highest);
  const step = (width - LEFT) / periods.length;
  const thick = Math.min(60, step * 0.8);
  const columns = periods.flatMap((period, i) => {
    let below = 0;
    return series.map(({ label, counts }) => {
      if (!counts[i]) return null;
      const bottom = y(below / largest);
      below += counts[i];
      const title = svg("title");
      title.textContent = `${period}: ${label} ${count(counts[i])}`;
      return svg("rect", { x: LEFT + i * step + (step - thick) / 2, y: y(below / largest), width: thick, height: bottom - y(below / largest), class: `chart-fill ${hueClass(label)}` }, title);
    }).filter(Boolean);
  });
  const every = Math.ceil((periods.length * NAME_WIDTH) / (width - LEFT));
  const names = periods.map((period, i) => (i % every ? null : text(period, { x: Math.min(LEFT + i * step + 2, width - NAME_WIDTH), y: HEIGHT - 8 }))).filter(Boolean);
  return h("figure", { class: "chart is-wide" }, h("figcaption", {}, name),
    svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": name }, ...[0, 0.5, 1].flatMap((share) => gridLine(share, count(largest * share), width)), ...columns, ...names),
    legend(series.map(({ label }) => label), series.map(({ label }) => hueClass(label))));
}

// A row for each true label, a column for each that the model said; the darker, the larger the share of the row.
export function confusionMatrix(labels, matrix) {
  const rows = matrix.map((row, i) => {
    const total = row.reduce((sum, number) => sum + number, 0) || 1;
    return h("tr", {}, h("th", { scope: "row" }, labels[i]), row.map((number, j) =>
      h("td", { style: { "--share": `${Math.round((100 * number) / total)}%` }, title: `${labels[i]}, the model said ${labels[j]}: ${number}` }, number ? String(number) : "")));
  });
  return h("div", { class: "scroll-x", tabindex: "0", role: "region", "aria-label": "Confusion matrix" },
    h("table", { class: "confusion" }, h("caption", {}, "Rows: what it was. Columns: what the model said."),
      h("tbody", {}, h("tr", {}, h("td"), labels.map((label) => h("th", { scope: "col" }, label))), rows)));
}
