// Lists as files, for spreadsheets and programs.

import { h } from "./dom.js";

/** CSV (RFC 4180) of rows; lists become lines of one cell. No cell begins as a formula of a spreadsheet does. */
export function toCsv(head, rows) {
  return [head, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

function cell(value) {
  if (typeof value === "number") return String(value);
  let text = Array.isArray(value) ? value.join("\n") : String(value ?? "");
  if (/^[\s]*[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return `"${text.replaceAll('"', '""')}"`;
}

/** Hand a text to the browser as a file. */
export function saveText(name, text, type) {
  saveBlob(name, new Blob([text], { type: `${type};charset=utf-8` }));
}

/** Hand bytes to the browser as a file. */
export function saveBlob(name, blob) {
  const address = URL.createObjectURL(blob);
  const link = h("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
