// One front: the figure, the same figures as a table, and a file for each point.

import { frontChart } from "./chart.js";
import { h } from "./dom.js";
import { count, digits3, fileSize, latencyUnit, METRICS, percent, points, times } from "./format.js";

/** The front of one target; `artifacts` gives the download address of each point. */
export function frontSection(profile, front, artifacts) {
  const best = front.points.find((point) => point.id === front.best) ?? null;
  return h("section", { class: "front", "aria-label": `Front of ${profile}` },
    h("h3", {}, profile),
    h("p", {}, best ? bestSentence(best, front.best_is === "likeliest") : h("strong", {}, "No point is marked best: "), sentenceEnd(front.best_reason)),
    frontChart(profile, front),
    h("p", { class: "small" },
      `The same figures: the dense control, then ${front.points.length} points, fastest first. `,
      "Small print: the interval (95 % for accuracy), or the ratio to dense.", conditions(front.conditions)),
    table(profile, front, artifacts));
}

/** The reason with exactly one full stop, as it ends a sentence here. */
const sentenceEnd = (reason) => `${reason.replace(/[. ]+$/, "")}.`;

/** On what, with how many threads and at which batch the latencies hold. */
const conditions = (under) => (under
  ? ` ${under.threads} thread${under.threads === 1 ? "" : "s"}, batch ${under.batch}, ${under.runtime} on ${under.machine}, ${under.dates.join(", ")}.`
  : "");

function bestSentence(best, likeliest) {
  return [
    h("strong", {}, best.id), likeliest ? " is the likeliest, not surely best: " : " is best: ", h("strong", {}, times(best.speedup)), ` as fast as dense (${best.latency_ms.kind}), `,
    h("strong", {}, `${points(best.accuracy.delta)} points`), ` of ${METRICS[best.accuracy.metric] ?? best.accuracy.metric}; `,
  ];
}

function table(profile, front, artifacts) {
  const scale = latencyUnit(front.dense.latency_ms.value);
  const heads = ["Point", "Speed-up", "Accuracy", "Change, points", `Latency, ${scale.unit}`, `Predicted, ${scale.unit}`, "MACs", "Parameters", "File", "Memory"];
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Points of ${profile}` },
    h("table", { "aria-label": `Points of ${profile}` },
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, rows(front).map((point) => row(point, point.id === front.best, scale.perMs, artifacts, front)))));
}

/** Both controls, then the points; a second control that is on the front stands there. */
function rows({ dense, rewrites, points: front }) {
  return [dense, ...(rewrites && !front.some(({ id }) => id === rewrites.id) ? [rewrites] : []), ...front];
}

function row(point, best, perMs, artifacts, front) {
  const { accuracy, latency_ms: latency, predicted_latency_ms: predicted } = point;
  const time = (ms) => digits3(perMs * ms);
  const cell = (text, small) => h("td", {}, text, small ? h("small", {}, small) : null);
  return h("tr", { class: best ? "best" : null, "data-point": point.id },
    h("th", { scope: "row" }, point.id, best ? h("span", { class: "tag" }, " best") : null, download(point, artifacts, front)),
    cell(times(point.speedup) + spread(point), point.predicted_speedup ? `${times(point.predicted_speedup)} predicted` : null),
    cell(percent(accuracy.value), interval(100 * accuracy.low, 100 * accuracy.high, (value) => value.toFixed(2))),
    cell(points(accuracy.delta), interval(accuracy.delta_low, accuracy.delta_high, points) + keeps(accuracy)),
    cell(time(latency.value), `${latency.kind}, ${interval(latency.low, latency.high, time)}`),
    predicted ? cell(time(predicted.value), interval(predicted.low, predicted.high, time)) : cell("not stated"),
    cell(count(point.macs), times(point.theoretical_speedup)),
    cell(count(point.parameters)),
    cell(fileSize(point.bytes), times(point.compression_ratio)),
    cell(point.peak_memory_bytes ? fileSize(point.peak_memory_bytes) : "not stated"));
}

/** The interval of a speed-up, where the report has one; the control's is 1. */
const spread = ({ speedup_low: low, speedup_high: high }) => (high && low !== high ? ` (${low.toFixed(2)} to ${high.toFixed(2)})` : "");

/** How surely a point keeps the limit of accuracy that the request has, where it has one. */
const keeps = ({ keeps_limit: sure }) => (sure == null ? "" : `; ${Math.round(100 * sure)} % sure to keep the limit`);

const interval = (low, high, format) => `${format(low)} to ${format(high)}`;

function download(point, artifacts, front) {
  const link = (file, label, text) => h("a", { href: file.url, download: true, "aria-label": label }, text);
  const model = artifacts.find((artifact) => artifact.name === point.artifact);
  if (!model) return null;
  const data = artifacts.filter((artifact) => weightsOf(artifact.name, front) === point);
  return h("small", {}, link(model, `Download ${point.id} as ONNX`, "download"),
    data.flatMap((file) => [", ", link(file, `Download ${file.name.split("/").at(-1)}, weights of ${point.id}`, "weights")]));
}

/** The point whose weights a data file holds; the dense control keeps the names of the upload. */
function weightsOf(name, front) {
  const folder = front.dense.artifact.replace(/[^/]*$/, "");
  if (!name.startsWith(folder) || name.endsWith(".onnx")) return null;
  return rows(front).find((point) => name.startsWith(`${point.artifact}.`)) ?? front.dense;
}
