// Texts and numbers in the page's language.

const lang = document.documentElement.lang;
const texts = JSON.parse(document.getElementById("texts").textContent);
const plural = new Intl.PluralRules(lang);
const compact = new Intl.NumberFormat(lang, { notation: "compact" });
const whole = new Intl.NumberFormat(lang);

export const find = (selector, within = document) => within.querySelector(selector);
export const short = (number) => compact.format(number);
export const full = (number) => whole.format(number);
export const day = (time) => new Date(time).toLocaleDateString(lang, { dateStyle: "medium" });

// With its {names} filled in; of a number `n`, in its plural form.
export function text(key, values = {}) {
  const found = texts[values.n === undefined ? key : `${key}.${plural.select(values.n)}`] ?? texts[key] ?? key;
  return found.replace(/{(\w+)}/g, (_, name) => (typeof values[name] === "number" ? short(values[name]) : values[name]));
}

export function why(error) {
  return texts[`code.${error.code}`] ?? texts[`status.${error.status}`] ?? (error.message || text("failed"));
}

export function clock(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, i) => (i ? String(part).padStart(2, "0") : part)).join(":");
}

export const copy = (id) => find(`#${id}`).content.firstElementChild.cloneNode(true);
