// Accuracy against latency as SVG, drawn at the width it has on the screen, so that text keeps its size on a phone.
// Every point can be reached by Tab and says its figures; the table beside the chart has the same figures.

import { h, s } from "./dom.js";
import { latency as latencyText, latencyUnit, METRICS, percent, points, times } from "./format.js";

const MARGIN = { top: 16, right: 20, bottom: 46, left: 56 };
const PIXELS_PER_TICK = { x: 70, y: 44 };

/** A figure that redraws itself when its width changes. */
export function frontChart(profile, front) {
  const tip = h("div", { class: "tip", hidden: true, "aria-hidden": "true" });
  const figure = h("figure", { class: "chart" });
  let drawnWidth = 0;
  new ResizeObserver(() => {
    const width = Math.floor(figure.clientWidth);
    if (width === drawnWidth || width < 100) return;
    drawnWidth = width;
    const focused = figure.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    figure.replaceChildren(draw(profile, front, width, tip), tip, legend(front));
    if (focused) figure.querySelector(`[data-id="${CSS.escape(focused)}"]`)?.focus();
  }).observe(figure);
  return figure;
}

function draw(profile, front, width, tip) {
  const height = Math.round(Math.min(380, Math.max(250, width * 0.56)));
  const all = [front.dense, ...front.points];
  const { unit, perMs } = latencyUnit(front.dense.latency_ms.value);
  const x = axis(all.flatMap(({ latency_ms: l }) => [l.low, l.high, l.value].map((ms) => perMs * ms)), MARGIN.left, width - MARGIN.right, PIXELS_PER_TICK.x);
  const y = axis(all.flatMap(({ accuracy: a }) => [100 * a.low, 100 * a.high, 100 * a.value]), height - MARGIN.bottom, MARGIN.top, PIXELS_PER_TICK.y);
  const metric = METRICS[front.dense.accuracy.metric] ?? front.dense.accuracy.metric;
  const path = front.points.map((p) => `${x.at(perMs * p.latency_ms.value)},${y.at(100 * p.accuracy.value)}`).join(" ");
  return s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": `Accuracy against latency on ${profile}` },
    gridlines(x, y, width, height),
    s("text", { class: "axis-title", x: width - MARGIN.right, y: height - 8, "text-anchor": "end" }, `Latency, ${unit} (${front.dense.latency_ms.kind})`),
    s("text", { class: "axis-title", x: 0, y: 0, "text-anchor": "end", transform: `translate(14 ${MARGIN.top}) rotate(-90)` }, `${metric}, %`),
    s("polyline", { class: "line", points: path }),
    all.map((point, index) => mark(point, index === 0 ? "dense" : point.id === front.best ? "best" : "plain", (ms) => x.at(perMs * ms), y.at, width, tip)));
}

/** A linear scale over the values with a little air, and round ticks. */
function axis(values, from, to, pixelsPerTick) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const air = 0.06 * (high - low || Math.abs(high) || 1);
  const [first, last] = [low - air, high + air];
  const step = roundStep((last - first) / Math.max(2, Math.abs(to - from) / pixelsPerTick));
  const ticks = [];
  for (let n = Math.ceil(first / step); n * step <= last; n += 1) ticks.push(n * step);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return { ticks, label: (value) => value.toFixed(decimals), at: (value) => from + ((value - first) / (last - first)) * (to - from) };
}

/** The next of 1, 2, 5 times a power of ten. */
function roundStep(raw) {
  const power = 10 ** Math.floor(Math.log10(raw));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
}

function gridlines(x, y, width, height) {
  const [bottom, right] = [height - MARGIN.bottom, width - MARGIN.right];
  return s("g", { class: "axes", "aria-hidden": "true" },
    x.ticks.map((value) => [
      s("line", { x1: x.at(value), x2: x.at(value), y1: MARGIN.top, y2: bottom }),
      s("text", { x: x.at(value), y: bottom + 18, "text-anchor": "middle" }, x.label(value)),
    ]),
    y.ticks.map((value) => [
      s("line", { x1: MARGIN.left, x2: right, y1: y.at(value), y2: y.at(value) }),
      s("text", { x: MARGIN.left - 8, y: y.at(value) + 4, "text-anchor": "end" }, y.label(value)),
    ]));
}

function mark(point, kind, xOf, yOf, width, tip) {
  const { accuracy, latency_ms: latency } = point;
  const [cx, cy] = [xOf(latency.value), yOf(100 * accuracy.value)];
  const show = () => showTip(tip, point, kind, cx, cy, width);
  const hide = () => (tip.hidden = true);
  return s("g", {
    class: `mark ${kind}`, tabindex: "0", role: "img", "data-id": point.id, "aria-label": sentence(point, kind),
    onmouseenter: show, onmouseleave: hide, onfocus: show, onblur: hide,
    onkeydown: (event) => event.key === "Escape" && hide(),
  },
    s("path", { class: "whisker", d: `M${xOf(latency.low)} ${cy}H${xOf(latency.high)}M${cx} ${yOf(100 * accuracy.low)}V${yOf(100 * accuracy.high)}` }),
    s("circle", { class: "ring", cx, cy, r: 13 }),
    kind === "dense" ? s("path", { class: "dot", d: `M${cx} ${cy - 7}l7 7-7 7-7-7z` }) : s("circle", { class: "dot", cx, cy, r: kind === "best" ? 7.5 : 5 }));
}

const facts = ({ accuracy, latency_ms: latency, speedup }) => [
  `${percent(accuracy.value)} (${points(accuracy.delta)} points)`,
  `${latencyText(latency.value)}, ${latency.kind}`,
  `${times(speedup)} as fast as dense`,
];

const title = (point, kind) => (kind === "plain" ? point.id : kind === "dense" ? "dense, the control" : `${point.id}, best`);

const sentence = (point, kind) => `${title(point, kind)}: ${facts(point).join("; ")}`;

function showTip(tip, point, kind, cx, cy, width) {
  tip.replaceChildren(h("strong", {}, title(point, kind)), ...facts(point).map((fact) => h("span", {}, fact)));
  tip.hidden = false;
  const left = Math.min(Math.max(cx - tip.offsetWidth / 2, 0), width - tip.offsetWidth);
  const above = cy - tip.offsetHeight - 18;
  tip.style.left = `${left}px`;
  tip.style.top = `${above >= 0 ? above : cy + 18}px`;
}

function legend(front) {
  const entry = (kind, text) => h("span", { class: `key ${kind}` }, text);
  return h("figcaption", {},
    entry("dense", "dense, the control"), entry("plain", "pruned"),
    front.best === null ? null : entry("best", "best"), h("span", {}, "lines: intervals"));
}
