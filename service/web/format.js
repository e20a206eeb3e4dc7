// Figures as people read them.

const MINUS = "\u2212";

/** 0.9215 -> "92.15 %" */
export const percent = (fraction) => `${(100 * fraction).toFixed(2)} %`;

/** -0.0042 -> "−0.42": percentage points with a sign. */
export function points(fraction) {
  const text = (100 * fraction).toFixed(2);
  if (Number(text) === 0) return "0.00";
  return text.startsWith("-") ? MINUS + text.slice(1) : `+${text}`;
}

/** The unit in which latencies like this one read best, and how many of it make a millisecond. */
export const latencyUnit = (ms) => (ms < 0.1 ? { unit: "\u00b5s", perMs: 1000 } : { unit: "ms", perMs: 1 });

/** One latency with its unit: 2.612 -> "2.61 ms", 0.0264 -> "26.4 µs". */
export function latency(ms) {
  const { unit, perMs } = latencyUnit(ms);
  return `${digits3(perMs * ms)} ${unit}`;
}

/** Three significant digits without an exponent: 12.345 -> "12.3", 1234.6 -> "1235". */
export function digits3(value) {
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 9));
}

/** 1.5 -> "1.50×" */
export const times = (ratio) => `${ratio.toFixed(2)}×`;

/** 41234567 -> "41.23 M" */
export function count(number) {
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (number >= size) return `${(number / size).toFixed(2)} ${unit}`;
  }
  return String(number);
}

/** 1090000 -> "1.09 MB" */
export const fileSize = (bytes) => (bytes >= 1000 ? `${count(bytes)}B` : `${bytes} B`);

/** A time of day today, a date and time otherwise. */
export function when(rfc3339) {
  const date = new Date(rfc3339);
  const today = date.toDateString() === new Date().toDateString();
  const clock = { hour: "2-digit", minute: "2-digit" };
  return date.toLocaleString(undefined, today ? clock : { dateStyle: "medium", timeStyle: "short" });
}

export const METRICS = { top1: "Top-1 accuracy", agreement: "Agreement with dense", r2: "R²" };
