// The API key that a shared service asks for: kept for the session of this tab, sent in a header, never in an address.

import { byId } from "./dom.js";

const PLACE = "secateur-api-key";

export const apiKey = () => sessionStorage.getItem(PLACE);

/** The headers that tell the service who asks. */
export const authorization = () => (apiKey() ? { Authorization: `Bearer ${apiKey()}` } : {});

/** Makes the field work; `onchange` is called with each new key. */
export function startKeyField(onchange) {
  byId("key-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(PLACE, byId("api-key").value.trim());
    byId("api-key").value = "";
    byId("key-problem").textContent = "";
    show(false);
    onchange();
  });
  byId("forget-key").addEventListener("click", () => {
    sessionStorage.removeItem(PLACE);
    location.replace("./"); // whatever the key had shown goes with it
  });
  show(false);
}

/** Asks for a key; says why the one that was used is no good, if there was one. */
export function askForKey(problem) {
  const first = byId("key-form").hidden;
  if (apiKey()) byId("key-problem").textContent = problem.detail;
  sessionStorage.removeItem(PLACE);
  show(true);
  if (first) byId("api-key").focus();
}

function show(asking) {
  byId("key-form").hidden = !asking;
  byId("forget-key").hidden = asking || !apiKey();
}
