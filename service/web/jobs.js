// The list of jobs, newest first.

import { request } from "./api.js";
import { byId, h } from "./dom.js";
import { when } from "./format.js";

/** What a person calls the job: the name of the model file where there is one, else the id. */
export const jobName = (job) => job.model.name ?? job.id;

/** A word in a coloured pill; the word, not the colour, says it. */
export const pill = (status) => h("span", { class: `pill ${status}` }, status);

/** Fills `element` with jobs; returns what can be done with the list. */
export function startList(element) {
  const jobs = new Map();
  let cursor = null;
  let marked = null;

  const draw = () => {
    const newestFirst = [...jobs.values()].sort((a, b) => b.created_at.localeCompare(a.created_at));
    const focused = document.activeElement?.closest?.("#jobs a")?.hash;
    element.replaceChildren(...newestFirst.map((job) => item(job, job.id === marked)));
    if (focused) element.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    byId("no-jobs").hidden = jobs.size > 0;
    byId("more-jobs").hidden = cursor === null;
  };
  const load = async (query) => {
    const page = await request(`v1/jobs?limit=20${query}`);
    for (const job of page.data) jobs.set(job.id, job);
    cursor = page.has_more ? page.next_cursor : null;
    draw();
  };

  return {
    refresh: () => load(""),
    more: () => load(`&cursor=${encodeURIComponent(cursor)}`),
    update: (job) => {
      jobs.set(job.id, job);
      draw();
    },
    mark: (id) => {
      marked = id;
      draw();
    },
  };
}

function item(job, current) {
  return h("li", {},
    h("a", { href: `#job=${job.id}`, "aria-current": current ? "true" : null },
      h("span", { class: "job-name" }, jobName(job)),
      pill(job.status),
      h("span", { class: "small" }, `${when(job.created_at)} · ${job.profiles.join(", ")}`)));
}
