// The page: wires the form, the list of jobs and the job in view. The job in view is named by the address (#job=ID),
// so that it survives a reload and can be bookmarked.

import { download, Problem, request, UNREACHABLE } from "./api.js";
import { byId, showProblem, shownProblem } from "./dom.js";
import { loadTargets, startForm } from "./form.js";
import { showJob } from "./job.js";
import { startList } from "./jobs.js";
import { apiKey, askForKey, startKeyField } from "./key.js";

const list = startList(byId("jobs"));

/** Runs a piece of work and shows its problem, if it has one; a service that answers again ends "cannot be reached". */
async function guarded(work) {
  try {
    const result = await work();
    if (shownProblem()?.type === UNREACHABLE) showProblem(null);
    return result;
  } catch (error) {
    if (error.fields?.status === 401) askForKey(error.fields);
    else showProblem(error instanceof Problem ? error.fields : { title: "The page has a fault", detail: String(error) });
    return null;
  }
}

function jobInAddress() {
  return new URLSearchParams(location.hash.slice(1)).get("job");
}

async function route({ focus = true } = {}) {
  const id = jobInAddress();
  list.mark(id);
  byId("job").hidden = id === null;
  byId("inspect").hidden = true;
  if (id === null) return;
  showProblem(null);
  const job = await guarded(() => request(`v1/jobs/${encodeURIComponent(id)}`));
  if (job === null) byId("job").hidden = true;
  else showJob(byId("job-view"), job, { focus, guarded, onchange: list.update });
}

startForm(byId("form"), {
  guarded,
  onsubmitted: (job) => {
    list.update(job);
    location.hash = `job=${job.id}`;
  },
});
addEventListener("hashchange", () => route());
byId("more-jobs").addEventListener("click", () => guarded(list.more));
byId("main").addEventListener("click", (event) => {
  const link = event.target.closest("a[download]");
  if (link === null || !apiKey()) return;
  event.preventDefault();
  guarded(() => download(link.pathname));
});

function start() {
  showProblem(null);
  guarded(loadTargets);
  return guarded(list.refresh).then(() => route({ focus: false }));
}

startKeyField(() => {
  byId("main").focus({ preventScroll: true });
  start();
});
start();
