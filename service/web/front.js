// One front: the figure, the same figures as a table, and a file for each point.

import { frontChart } from "./chart.js";
import { h } from "./dom.js";
import { count, fileSize, METRICS, milliseconds, percent, points, times } from "./format.js";

/** The front of one target; `artifacts` gives the download address of each point. */
export function frontSection(profile, front, artifacts) {
  const best = front.points.find((point) => point.id === front.best) ?? null;
  return h("section", { class: "front", "aria-label": `Front of ${profile}` },
    h("h3", {}, profile),
    h("p", {}, best ? bestSentence(best) : h("strong", {}, "No point is marked best. "), ` ${front.best_reason}`),
    frontChart(profile, front),
    table(profile, front, artifacts));
}

function bestSentence(best) {
  return [
    "Best is ", h("strong", {}, best.id), ": ", h("strong", {}, times(best.speedup)), ` as fast as dense (${best.latency_ms.kind}), `,
    h("strong", {}, `${points(best.accuracy.delta)} points`), ` of ${METRICS[best.accuracy.metric] ?? best.accuracy.metric}.`,
  ];
}

function table(profile, front, artifacts) {
  const heads = ["Point", "Accuracy", "Change, points", "Latency, ms", "Predicted, ms", "Speed-up", "MACs", "Parameters", "File", "Download"];
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Points of ${profile}` },
    h("table", {},
      h("caption", {}, `The dense control and ${front.points.length} points, fastest first. Small print: 95 % interval of accuracy, interval of latency, ratio to dense.`),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
      h("tbody", {}, [front.dense, ...front.points].map((point) => row(point, point.id === front.best, artifacts)))));
}

function row(point, best, artifacts) {
  const { accuracy, latency_ms: latency, predicted_latency_ms: predicted } = point;
  const cell = (text, small) => h("td", {}, text, small ? h("small", {}, small) : null);
  return h("tr", { class: best ? "best" : null, "data-point": point.id },
    h("th", { scope: "row" }, point.id, best ? h("small", { class: "tag" }, "best") : null),
    cell(percent(accuracy.value), `${(100 * accuracy.low).toFixed(2)} to ${(100 * accuracy.high).toFixed(2)}`),
    cell(points(accuracy.delta), `${points(accuracy.delta_low)} to ${points(accuracy.delta_high)}`),
    cell(milliseconds(latency.value), `${latency.kind}, ${milliseconds(latency.low)} to ${milliseconds(latency.high)}`),
    cell(predicted ? milliseconds(predicted.value) : "", predicted ? `${milliseconds(predicted.low)} to ${milliseconds(predicted.high)}` : null),
    cell(times(point.speedup), point.predicted_speedup ? `${times(point.predicted_speedup)} predicted` : null),
    cell(count(point.macs), times(point.theoretical_speedup)),
    cell(count(point.parameters)),
    cell(fileSize(point.bytes), times(point.compression_ratio)),
    h("td", {}, download(point, artifacts)));
}

function download(point, artifacts) {
  const file = artifacts.find((artifact) => artifact.name === point.artifact);
  if (!file) return "";
  return h("a", { href: file.url, download: true, "aria-label": `Download ${point.id} as ONNX` }, ".onnx");
}
