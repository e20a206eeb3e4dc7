// A dry run: what can be pruned, what cannot and why, and how fast each target could get. No job, no search.

import { request } from "./api.js";
import { h } from "./dom.js";
import { count, latency, times } from "./format.js";

/** Asks for the dry run of an uploaded model and shows it in `element`. */
export async function inspectModel(element, { name, ...asked }) {
  const body = JSON.stringify(asked);
  const found = await request("v1/inspect", { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const title = h("h2", { id: "inspect-title", tabindex: "-1" }, `A first look at ${name}`);
  element.replaceChildren(title,
    h("p", { class: "small" }, `${count(found.macs)} MACs · ${count(found.parameters)} parameters · prunable groups: ${found.groups.length} · frozen nodes: ${found.frozen.length}`),
    found.warnings?.length ? h("div", { class: "note" }, h("strong", {}, "Warnings"), list(found.warnings)) : "",
    ...Object.entries(found.profiles).map(([profile, target]) => targetView(profile, target)),
    folded("Prunable groups", found.groups.map((group) => `${group.id}: ${group.units} of kind ${group.kind}, ${count(group.removable_parameters)} parameters, ${group.nodes.join(", ")}`)),
    folded("Run by ONNX Runtime as they are, and why", (found.nodes?.carried ?? []).map((node) => `${node.node} (${node.operator}): ${node.reason}`)),
    folded("Frozen, and why", found.frozen.map((node) => `${node.node}: ${node.reason}`)));
  element.parentElement.hidden = false;
  title.focus();
}

function targetView(profile, { latency_ms: now, reachable_ms: reachable, notes }) {
  return h("section", { class: "front", "aria-label": profile },
    h("h3", {}, profile),
    h("p", {}, "Now ", h("strong", {}, latency(now.value)), ` (${now.kind}, ${latency(now.low)} to ${latency(now.high)}). `,
      "Within reach: ", h("strong", {}, latency(reachable.min)), `, at most ${times(now.value / reachable.min)} as fast.`),
    notes.length ? h("div", { class: "hint" }, list(notes)) : "");
}

const list = (lines) => h("ul", {}, lines.map((line) => h("li", {}, line)));

const folded = (title, lines) => (lines.length ? h("details", { class: "more" }, h("summary", {}, title), h("div", { class: "hint" }, list(lines))) : "");
