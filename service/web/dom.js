// Builds elements. Text always goes in as text, never as markup, so a hostile file or node name stays a name.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element: h("p", {class: "hint", onclick: f}, "text", child, null). */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element, in the same way. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export const byId = (id) => document.getElementById(id);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Says something to screen readers without moving the focus. */
export function announce(text) {
  byId("announcer").textContent = text;
}

/** Shows a problem (RFC 9457: title, detail, request_id) where everybody notices it; null takes it away. */
export function showProblem(problem) {
  const box = byId("problem");
  const shown = JSON.stringify(problem);
  // The same problem met again must not take the focus again.
  if (box.dataset.shown === shown) return;
  box.dataset.shown = shown;
  box.classList.toggle("shown", problem !== null);
  box.replaceChildren(...(problem === null ? [] : problemParts(problem)));
  if (problem !== null) box.focus();
}

/** The problem that is shown, or null. */
export const shownProblem = () => JSON.parse(byId("problem").dataset.shown ?? "null");

/** The parts of a problem as elements: title, detail, what is wrong with each field, request id. */
export function problemParts(problem) {
  const errors = Array.isArray(problem.errors) ? problem.errors : [];
  return [
    h("strong", {}, problem.title ?? "Something went wrong"),
    problem.detail ? h("p", {}, problem.detail) : null,
    errors.length ? h("ul", {}, errors.map((error) => h("li", {}, errorLine(error)))) : null,
    h("p", { class: "small" }, [problem.type, problem.request_id].filter(Boolean).join(" · ")),
  ].filter(Boolean);
}

function errorLine(error) {
  if (typeof error === "string") return error;
  const place = error.field ?? error.pointer ?? (Array.isArray(error.loc) ? error.loc.join(".") : error.loc);
  return [place, error.detail ?? error.message ?? error.msg].filter(Boolean).join(": ");
}
