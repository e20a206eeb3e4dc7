// The form of a new job: files, targets, objective; uploads, then creates the job exactly once.

import { createJob, randomKey, request, upload } from "./api.js";
import { announce, byId, h, showProblem } from "./dom.js";
import { percent } from "./format.js";
import { inspectModel } from "./inspect.js";

const OBJECTIVES = ["max_accuracy_drop", "max_latency_ms", "speedup"];
const FIRST_TARGET = "host-cpu-onnxruntime";
let lastRequest = { body: null, key: null };

/** Fills the list of targets from the service's profiles. */
export async function loadTargets() {
  const { data } = await request("v1/profiles");
  const first = data.some((profile) => profile.id === FIRST_TARGET) ? FIRST_TARGET : data[0]?.id;
  const onHostFirst = [...data].sort((a, b) => Number(b.id === first) - Number(a.id === first));
  byId("targets").replaceChildren(...onHostFirst.map((profile) => targetChoice(profile, profile.id === first)));
}

/** Leaves the targets in view that contain every word, and those that are chosen. */
function filterTargets({ target: { value } }) {
  const words = value.toLowerCase().split(/[\s,]+/);
  for (const choice of byId("targets").children) {
    const text = choice.textContent.toLowerCase();
    choice.hidden = !choice.querySelector("input").checked && !words.every((word) => text.includes(word));
  }
}

/** Makes the form work. `onsubmitted` gets the new job. */
export function startForm(form, { guarded, onsubmitted }) {
  for (const zone of form.querySelectorAll("[data-drop]")) startDropZone(zone);
  for (const radio of form.querySelectorAll("[name=objective]")) radio.addEventListener("change", enableChosenObjective);
  byId("clear-dataset").addEventListener("click", () => {
    byId("dataset").value = "";
    byId("dataset").dispatchEvent(new Event("change"));
    byId("dataset").focus();
  });
  form.addEventListener("invalid", (event) => event.target.closest("details")?.setAttribute("open", ""), true);
  form.addEventListener("change", () => targetInputs().forEach((input) => input.setCustomValidity("")));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!requireTarget()) return;
    showProblem(null);
    setBusy(true);
    const look = event.submitter?.value === "look";
    const job = await guarded(look ? lookFirst : submit);
    setBusy(false);
    if (job !== null && !look) onsubmitted(job);
  });
  byId("target-filter").addEventListener("input", filterTargets);
  byId("target-filter").addEventListener("keydown", (event) => event.key === "Enter" && event.preventDefault());
  enableChosenObjective();
}

function targetChoice(profile, checked) {
  const id = `target-${profile.id}`;
  return h("div", { class: "target" },
    h("input", { type: "checkbox", name: "profile", value: profile.id, id, checked, "aria-describedby": `${id}-about` }),
    h("label", { for: id }, profile.name),
    h("p", { class: "hint", id: `${id}-about` },
      h("code", {}, profile.id), ` · ${profile.runtime} · ${profile.dtype} · channels in steps of ${profile.channel_grid} · ${profile.provenance} `,
      trustBadge(profile)));
}

/** How far the latency model can be trusted, in two or three words. */
function trustBadge(profile) {
  if (!profile.calibrated) return h("span", { class: "badge" }, "calibrated on first use");
  if (!profile.held_out_error) return h("span", { class: "badge warn" }, "not validated");
  return h("span", { class: "badge good" }, `held-out error ${percent(profile.held_out_error.mape)}`);
}

function startDropZone(zone) {
  const input = zone.querySelector("input");
  const text = zone.querySelector(".drop-text");
  const clear = zone.querySelector("button");
  const over = (event) => {
    event.preventDefault();
    zone.classList.toggle("over", event.type === "dragover");
  };
  zone.addEventListener("dragover", over);
  zone.addEventListener("dragleave", over);
  zone.addEventListener("drop", (event) => {
    over(event);
    if (event.dataTransfer.files.length === 0) return;
    const taken = new DataTransfer();
    for (const file of input.multiple ? event.dataTransfer.files : [event.dataTransfer.files[0]]) taken.items.add(file);
    input.files = taken.files;
    input.dispatchEvent(new Event("change"));
  });
  input.addEventListener("change", () => {
    const names = [...input.files].map((file) => file.name);
    text.textContent = names.length ? names.join(", ") : text.dataset.empty;
    zone.classList.toggle("filled", names.length > 0);
    if (clear) clear.hidden = names.length === 0;
    if (input.multiple) input.setCustomValidity(names.length && modelFiles().model === null ? "Choose one .onnx file with its data files, or one .zip." : "");
  });
}

function enableChosenObjective() {
  const chosen = document.querySelector("[name=objective]:checked").value;
  for (const name of OBJECTIVES) byId(name).disabled = name !== chosen;
}

const targetInputs = () => [...document.querySelectorAll("[name=profile]")];

function requireTarget() {
  const inputs = targetInputs();
  if (inputs.length === 0 || inputs.some((input) => input.checked)) return true;
  inputs[0].setCustomValidity("Choose at least one target.");
  inputs[0].reportValidity();
  return false;
}

/** The chosen files: the model, null where it cannot be told, and the data files beside it. */
function modelFiles() {
  const files = [...byId("model").files];
  const models = files.length === 1 ? files : files.filter((file) => file.name.toLowerCase().endsWith(".onnx"));
  const model = models.length === 1 ? models[0] : null;
  return { model, data: files.filter((file) => file !== model) };
}

/** Uploads the model and its data files; the members of a request that name them. */
async function sendModel() {
  const { model, data } = modelFiles();
  const { id } = await sendFile(model, "model");
  const modelData = {};
  for (const file of data) modelData[file.name] = (await sendFile(file, "model_data")).id;
  return { model: id, ...(data.length ? { model_data: modelData } : {}) };
}

async function submit() {
  const model = await sendModel();
  const dataset = byId("dataset").files.length ? await sendFile(byId("dataset").files[0], "dataset") : null;
  const body = jobBody(model, dataset?.id ?? null);
  const text = JSON.stringify(body);
  // The same request sent again, say after a lost answer, keeps its key and so makes no second job.
  if (lastRequest.body !== text) lastRequest = { body: text, key: randomKey() };
  const job = await createJob(body, lastRequest.key);
  lastRequest = { body: null, key: null };
  announce("The job is accepted.");
  return job;
}

async function lookFirst() {
  const sent = await sendModel();
  byId("upload-label").textContent = "Looking at the model";
  byId("upload-bar").removeAttribute("value");
  const { profiles, constraints, input_shapes } = jobBody(sent, null); // eslint-disable-line camelcase
  await inspectModel(byId("inspect-view"), { ...sent, name: modelFiles().model.name, profiles, constraints, input_shapes });
}

function sendFile(file, purpose) {
  byId("upload-label").textContent = `Uploading ${file.name}`;
  byId("upload-bar").value = 0;
  return upload(file, purpose, (share) => (byId("upload-bar").value = share));
}

function jobBody(model, dataset) {
  const chosen = document.querySelector("[name=objective]:checked").value;
  const value = Number(byId(chosen).value);
  const list = (id) => byId(id).value.split(",").map((part) => part.trim()).filter(Boolean);
  const exclude = list("exclude");
  const inputShapes = byId("input_shapes").value.split(/\s+/).filter(Boolean).map(namedShape);
  const number = (id) => Number(byId(id).value);
  return {
    ...model,
    ...(dataset ? { dataset } : {}),
    profiles: targetInputs().filter((input) => input.checked).map((input) => input.value),
    // People say "one point"; the interface says 0.01.
    objective: { [chosen]: chosen === "max_accuracy_drop" ? value / 100 : value },
    ...(exclude.length ? { constraints: { exclude } } : {}),
    ...(inputShapes.length ? { input_shapes: inputShapes } : {}),
    search: {
      points: number("points"),
      at_speedups: list("at_speedups").map(Number),
      seed: number("seed"),
      finetune_minutes: number("finetune_minutes"),
      deadline_minutes: number("deadline_minutes"),
    },
  };
}

/** "x:1,3,48,320" as the service takes it; names may have colons, sizes have none. */
function namedShape(text) {
  const colon = text.lastIndexOf(":");
  return { input: text.slice(0, Math.max(colon, 0)), shape: text.slice(colon + 1).split(",").map(Number) };
}

function setBusy(busy) {
  byId("submit").disabled = busy;
  byId("look").disabled = busy;
  byId("upload").hidden = !busy;
}
