// The REST interface as functions; addresses are relative to the page, which a proxy may serve under a prefix. Every failure is a Problem with the fields of RFC 9457.

import { apiKey, authorization } from "./key.js";

const EVENT_TYPES = ["message", "status", "stage", "progress", "candidate", "warning"];
const POLL_MS = 2000;
const DOWNLOAD_MS = 60_000;
export const UNREACHABLE = "unreachable";
export const TERMINAL = new Set(["succeeded", "failed", "cancelled", "expired"]);

export class Problem extends Error {
  constructor(fields) {
    super(fields.detail ?? fields.title);
    this.fields = fields;
  }
}

/** JSON of an answer; raises Problem when it is not 2xx or the service cannot be reached. */
export async function request(path, options = {}) {
  const answer = await send(path, { ...options, headers: { Accept: "application/json", ...options.headers } });
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

/** Saves a file under its own name. For services with keys: a plain link cannot carry one. */
export async function download(path) {
  const answer = await send(path);
  const address = URL.createObjectURL(await answer.blob());
  const link = document.createElement("a");
  link.href = address;
  link.download = decodeURIComponent(path.split("/").at(-1));
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), DOWNLOAD_MS);
}

async function send(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { ...authorization(), ...options.headers } });
  } catch {
    throw unreachable();
  }
  if (!answer.ok) throw problemOf(await answer.text(), answer.status);
  return answer;
}

/** Uploads a file; `onprogress` gets the share sent, 0 to 1. XMLHttpRequest, because fetch cannot tell it. */
export function upload(file, purpose, onprogress) {
  const body = new FormData();
  body.append("purpose", purpose);
  body.append("file", file, file.name);
  return new Promise((resolve, reject) => {
    const call = new XMLHttpRequest();
    call.open("POST", "v1/files");
    const headers = { Accept: "application/json", ...authorization() };
    for (const [name, value] of Object.entries(headers)) call.setRequestHeader(name, value);
    call.upload.onprogress = (event) => event.lengthComputable && onprogress(event.loaded / event.total);
    call.onerror = () => reject(unreachable());
    call.onload = () => {
      if (call.status >= 200 && call.status < 300) resolve(JSON.parse(call.responseText));
      else reject(problemOf(call.responseText, call.status));
    };
    call.send(body);
  });
}

/** A job is created once for a key, however often the same request is sent. */
export function createJob(body, idempotencyKey) {
  const headers = { "Content-Type": "application/json", "Idempotency-Key": idempotencyKey };
  return request("v1/jobs", { method: "POST", headers, body: JSON.stringify(body) });
}

/** A random key. crypto.randomUUID is missing on plain-HTTP pages outside loopback; getRandomValues is not. */
export function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Calls `onevent` for each event of a job, in order and once: by server-sent events, by polling where they fail
 *  or a key is needed, which an EventSource cannot send. Returns a function that stops it. */
export function watchEvents(job, onevent) {
  let lastSeq = -1;
  let stopped = false;
  let timer = null;
  const deliver = (event) => {
    if (stopped || event.seq <= lastSeq) return;
    lastSeq = event.seq;
    onevent(event);
  };
  const poll = async () => {
    try {
      const page = await request(`${job.urls.events}?after=${Math.max(lastSeq, 0)}`);
      page.data.forEach(deliver);
    } catch {
      // The next round tries again; the job's own page shows a lasting failure.
    }
    if (!stopped) timer = setTimeout(poll, POLL_MS);
  };
  const source = "EventSource" in globalThis && !apiKey() ? new EventSource(job.urls.events) : null;
  if (source) {
    for (const type of EVENT_TYPES) source.addEventListener(type, (message) => deliver(JSON.parse(message.data)));
    source.onerror = () => {
      // While CONNECTING the browser tries again by itself, from the last id.
      if (source.readyState === EventSource.CLOSED && timer === null && !stopped) poll();
    };
  } else {
    poll();
  }
  return () => {
    stopped = true;
    clearTimeout(timer);
    source?.close();
  };
}

function unreachable() {
  return new Problem({ type: UNREACHABLE, title: "The service cannot be reached", detail: "Check that it is running, then try again." });
}

function problemOf(text, status) {
  try {
    return new Problem(JSON.parse(text));
  } catch {
    return new Problem({ title: `The service answered ${status}`, detail: text.slice(0, 200) });
  }
}
