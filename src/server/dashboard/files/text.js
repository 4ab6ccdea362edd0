// Formatting values for display: untrusted text, money and times.

// Characters that are invisible or change the direction of text: control, format, line and paragraph separators, lone surrogates, what
// Unicode lets a font leave out, and the Braille blank. Variation selector 16 only selects the coloured form of a symbol.
const HIDDEN = /(?!\ufe0f)[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}\u2800]/gu;

const codePointOf = (character) => "U+" + character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");

// Splits a text into visible parts and escapes for invisible characters.
export function splitHidden(text) {
  const parts = [];
  let from = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > from) parts.push({ text: text.slice(from, match.index) });
    parts.push({ escape: codePointOf(match[0]) });
    from = match.index + match[0].length;
  }
  if (from < text.length) parts.push({ text: text.slice(from) });
  return parts;
}

// The same as one string, for titles and labels.
export const visible = (text) => splitHidden(String(text)).map((part) => part.text ?? `<${part.escape}>`).join("");

const decimals = new Map();

function decimalsOf(currency) {
  if (!decimals.has(currency)) {
    const { maximumFractionDigits } = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions();
    decimals.set(currency, maximumFractionDigits);
  }
  return decimals.get(currency);
}

// Formats a decimal with grouping and all decimals of its currency. It is never converted into a binary floating-point number.
export function money(amount, currency) {
  const [, sign, whole, fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(String(amount)) ?? [];
  if (whole === undefined) return `${amount} ${currency}`;
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const padded = fraction.padEnd(decimalsOf(currency), "0");
  return `${sign}${grouped}${padded && "."}${padded} ${currency}`;
}

export const count = (number) => Number(number).toLocaleString("en");

const UNITS = [["second", 60], ["minute", 60], ["hour", 24], ["day", 7]];
const relativeFormat = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "long" });
const localDate = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const fullDate = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

// "3 minutes ago"; the local date and time after a week.
export function relativeTime(iso, now = Date.now()) {
  let elapsed = (Date.parse(iso) - now) / 1000;
  if (Math.abs(elapsed) < 5) return "just now";
  for (const [unit, size] of UNITS) {
    if (Math.abs(elapsed) < size) return relativeFormat.format(Math.trunc(elapsed), unit);
    elapsed /= size;
  }
  return localDate.format(new Date(iso));
}

// The exact time: in the local time zone, and as the service sent it.
export const exactTime = (iso) => `${fullDate.format(new Date(iso))} (${iso})`;

export function duration(seconds) {
  if (seconds === undefined || Number.isNaN(seconds)) return "–";
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 1) return `${(seconds * 1000).toPrecision(2)} ms`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

// The fields that all events have.
const COMMON = ["type", "eventId", "orderId", "revision", "cursor", "customerId", "requestId", "actor", "onBehalfOf", "traceparent"];
export const timeOf = (event) => event.createdAt || event.paidAt || event.shippedAt || event.deliveredAt || event.cancelledAt;
export const detailsOf = (event) =>
  Object.entries(event).filter(([name]) => !COMMON.includes(name) && !name.endsWith("At"));

// "paymentMethod" as "Payment method".
export const label = (name) => {
  const words = name.replace(/([A-Z])/g, (letter) => " " + letter.toLowerCase());
  return words[0].toUpperCase() + words.slice(1);
};
