// One job in view: stages, progress, events, cancel, and its fronts when it has them.

import { Problem, request, TERMINAL, watchEvents } from "./api.js";
import { announce, h, problemParts } from "./dom.js";
import { latency, percent, when } from "./format.js";
import { frontSection } from "./front.js";
import { jobName, pill } from "./jobs.js";

const STAGES = ["import", "calibrate", "sensitivity", "search", "recover", "export", "evaluate"];
const WITH_FRONT = new Set(["succeeded", "cancelled"]);
const DOWNLOADS = { "best.onnx": "Download best.onnx", "best.onnx.data": "and its weights", "report.html": "Report, HTML", "report.json": "Report, JSON" };
const MAX_LINES = 200;
const REFRESH_MS = 5000;
let leave = () => {};

/** Shows a job and follows it until it ends or another one is shown. */
export function showJob(element, job, { focus, guarded, onchange }) {
  leave();
  const view = drawFrame(element, job);
  let stopped = false;
  let stale = false;
  let pending = null;
  leave = () => {
    stopped = true;
    stopEvents();
    clearInterval(timer);
  };
  const readOnce = async () => {
    const fresh = await guarded(() => request(job.urls.self));
    if (fresh === null || stopped) return;
    onchange(fresh);
    drawJob(view, fresh, { guarded, refresh });
    if (!TERMINAL.has(fresh.status)) return;
    clearInterval(timer);
    // Drawn once: events that come late must not redraw a figure under somebody's finger.
    if (!WITH_FRONT.has(fresh.status) || view.drawn) return;
    view.drawn = true;
    await guarded(() => drawFronts(view, fresh));
  };
  const readWhileStale = async () => {
    while (stale && !stopped) {
      stale = false;
      await readOnce();
    }
    pending = null;
  };
  // One reading at a time; what happens during a reading makes another one follow.
  const refresh = () => {
    stale = true;
    pending ??= readWhileStale();
    return pending;
  };
  // The row of the job is the truth; events say when to read it again, the timer covers what they miss.
  const timer = setInterval(refresh, REFRESH_MS);
  const stopEvents = watchEvents(job, (event) => {
    drawEvent(view, event);
    if (event.type === "status" && TERMINAL.has(event.status)) stopEvents();
    if (event.type !== "progress" && event.type !== "candidate") refresh();
  });
  drawJob(view, job, { guarded, refresh });
  if (TERMINAL.has(job.status)) refresh();
  if (focus) view.title.focus();
}

function drawFrame(element, job) {
  const view = {
    title: h("h2", { id: "job-title", tabindex: "-1" }, jobName(job)),
    facts: h("p", { class: "small" }),
    pill: h("span", {}),
    cancel: h("span", { class: "cancel" }),
    stages: h("ol", { class: "stages", "aria-label": "Stages" }, STAGES.map((stage) => h("li", { "data-stage": stage }, stage))),
    bar: h("progress", { max: "1", id: "job-bar" }),
    barText: h("label", { for: "job-bar", class: "small" }),
    notes: h("div", {}),
    fronts: h("div", {}),
    lines: h("ol", { class: "log", tabindex: "0", "aria-label": "Events" }),
    status: null,
    drawn: false,
  };
  view.underWay = h("div", { class: "under-way" }, view.stages, view.barText, view.bar);
  const log = h("details", { class: "more" }, h("summary", {}, "Events"), view.lines);
  const head = h("div", { class: "job-head" }, view.title, view.pill, view.cancel);
  element.replaceChildren(head, view.facts, view.underWay, view.notes, view.fronts, log);
  return view;
}

function drawJob(view, job, { guarded, refresh }) {
  const ended = TERMINAL.has(job.status);
  if (view.status !== null && view.status !== job.status) announce(`Job ${job.status}.`);
  if (view.status !== job.status) {
    view.pill.replaceChildren(pill(job.status));
    drawCancel(view, job, ended, () => cancelButton(view, job, guarded, refresh));
    document.title = `${job.status}: ${jobName(job)} - Secateur`;
  }
  view.status = job.status;
  view.facts.textContent = factLine(job);
  view.underWay.hidden = ended;
  if (!ended) drawProgress(view, job);
  view.notes.replaceChildren(
    ...(job.error ? [h("div", { class: "problem shown" }, problemParts(job.error))] : []),
    ...(job.warnings?.length ? [warningNote(job.warnings)] : []),
  );
}

const warningNote = (warnings) =>
  h("div", { class: "note" }, h("strong", {}, "Warnings"), h("ul", {}, warnings.map((warning) => h("li", {}, warning))));

function factLine(job) {
  const ended = job.finished_at ? `ended ${when(job.finished_at)}` : null;
  const attempt = job.attempt > 1 ? `attempt ${job.attempt}` : null;
  const data = job.dataset?.name ? `with ${job.dataset.name}` : null;
  return [job.id, data, `created ${when(job.created_at)}`, ended, attempt].filter(Boolean).join(" · ");
}

/** One button as long as the job may be cancelled: a new one at every change of status would take the focus from under the keys. */
function drawCancel(view, job, ended, make) {
  if (ended) view.cancel.replaceChildren();
  else if (view.cancel.firstElementChild === null) view.cancel.replaceChildren(make());
  const button = view.cancel.firstElementChild;
  if (button === null || job.status !== "cancelling") return;
  button.textContent = "Cancelling";
  button.disabled = true;
}

function cancelButton(view, job, guarded, refresh) {
  const button = h("button", { type: "button", class: "quiet" }, "Cancel job");
  button.addEventListener("click", async () => {
    button.disabled = true;
    await guarded(() => request(job.urls.cancel, { method: "POST" }));
    await refresh();
    // A refused cancel leaves the state as it was: let people try again.
    if (view.status === "cancelling" || TERMINAL.has(view.status)) view.title.focus();
    else button.disabled = false;
  });
  return button;
}

function drawProgress(view, { stage, progress, status, queue_position: position }) {
  const reached = STAGES.indexOf(stage);
  for (const [index, item] of [...view.stages.children].entries()) {
    item.classList.toggle("done", index < reached);
    if (index === reached) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
  if (progress && typeof progress.fraction === "number") view.bar.value = progress.fraction;
  else view.bar.removeAttribute("value");
  view.barText.textContent = progressText(status, progress, position);
}

function progressText(status, progress, position) {
  if (status === "queued") return typeof position === "number" ? `Queued, ${position} before it` : "Queued";
  if (!progress || typeof progress.fraction !== "number") return `${status[0].toUpperCase()}${status.slice(1)}`;
  const steps = progress.total ? ` · ${progress.done} of ${progress.total} ${progress.unit ?? ""}` : "";
  return `${Math.round(100 * progress.fraction)} %${steps}`;
}

function drawEvent(view, event) {
  if (event.type === "progress") {
    if (view.underWay.hidden) return;
    drawProgress(view, { stage: event.stage, progress: event, status: "running" });
    return;
  }
  if (event.type === "stage") announce(`Stage: ${event.stage}.`);
  view.lines.append(h("li", {}, h("time", { datetime: event.at }, new Date(event.at).toLocaleTimeString()), ` ${eventText(event)}`));
  if (view.lines.children.length > MAX_LINES) view.lines.firstChild.remove();
}

function eventText(event) {
  switch (event.type) {
    case "status": return `status: ${event.status}`;
    case "stage": return `stage: ${event.stage}`;
    case "warning": return `warning: ${event.message}`;
    case "candidate": return `candidate for ${event.profile}: ${latency(event.predicted_latency_ms)} predicted, ${percent(event.quality)}`;
    default: return event.type;
  }
}

async function drawFronts(view, job) {
  const fronts = await optional(job.urls.front);
  const artifacts = (await optional(job.urls.artifacts))?.data ?? [];
  const each = Object.keys(fronts ?? {}).map((profile) => [`best-${profile}.onnx`, `Best for ${profile}`]);
  const labels = { ...DOWNLOADS, ...Object.fromEntries(each) };
  const files = Object.keys(labels).map((name) => artifacts.find((artifact) => artifact.name === name)).filter(Boolean);
  view.fronts.replaceChildren(
    ...(files.length ? [h("p", { class: "downloads" }, files.map((file) => downloadButton(file, labels[file.name])))] : []),
    ...Object.entries(fronts ?? {}).map(([profile, front]) => frontSection(profile, front, artifacts)),
  );
}

function downloadButton(file, label) {
  const look = file.name === "best.onnx" ? "button primary" : "button";
  return h("a", { class: look, href: file.url, download: true }, label);
}

/** A job cancelled early has no front: that is an answer here, not a problem. */
async function optional(url) {
  try {
    return await request(url);
  } catch (error) {
    if (error instanceof Problem && [404, 409].includes(error.fields.status)) return null;
    throw error;
  }
}
