// The words of the page, in the language of the browser.

import { remembered } from "./memory.js";

/** The languages that there are texts in, by their own names. */
export const LANGUAGES = { en: "English", ja: "日本語", zh: "中文" };
let words = {};
let english = {};

export let language = "en";

/** Load the texts; called once, before anything is shown. */
export async function loadTexts() {
  const asked = new URLSearchParams(location.search).get("lang");
  const wished = [asked, remembered("language"), ...navigator.languages].filter(Boolean).map((each) => each.slice(0, 2).toLowerCase());
  language = wished.find((each) => each in LANGUAGES) || "en";
  const load = async (name) => (await fetch(new URL(`../texts/${name}.json`, import.meta.url))).json();
  [english, words] = await Promise.all([load("en"), language === "en" ? {} : load(language)]);
  document.documentElement.lang = language;
}

/** A text by its name, such as "browse.title"; {name} in it becomes the value given. */
export function t(name, values = {}) {
  const [part, key] = name.split(".");
  const text = words[part]?.[key] ?? english[part]?.[key] ?? name;
  return text.replace(/\{(\w+)\}/g, (whole, each) => (each in values ? format(values[each]) : whole));
}

/** One of two texts, by a count: "core.pictures_one" or "core.pictures_other". */
export function tn(name, count, values = {}) {
  const form = new Intl.PluralRules(language).select(count) === "one" ? "one" : "other";
  return t(`${name}_${form}`, { count, ...values });
}

function format(value) {
  return typeof value === "number" ? number(value) : String(value);
}

/** A number as people of this language write it. */
export function number(value, digits = 0) {
  return new Intl.NumberFormat(language, { maximumFractionDigits: digits }).format(value);
}

/** A number of bytes. */
export function bytes(value) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const step = value > 0 ? Math.min(Math.floor(Math.log10(value) / 3), units.length - 1) : 0;
  const options = { style: "unit", unit: units[step], unitDisplay: "short", maximumFractionDigits: step ? 1 : 0 };
  return new Intl.NumberFormat(language, options).format(value / 1000 ** step);
}

/** An ISO 8601 time; without an offset it is the clock on the wall. */
export function time(text, withClock = true) {
  if (!text) return "";
  const zoned = /(Z|[+-]\d\d:\d\d)$/.test(text);
  const options = { dateStyle: "medium", ...(withClock ? { timeStyle: "short" } : {}), ...(zoned ? {} : { timeZone: "UTC" }) };
  return new Intl.DateTimeFormat(language, options).format(new Date(zoned ? text : `${text}Z`));
}

/** The name of a country by its two letters. */
export function country(code) {
  try {
    return new Intl.DisplayNames(language, { type: "region" }).of(code);
  } catch {
    return code;
  }
}
